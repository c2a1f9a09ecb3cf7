"""The volume network: what must always hold of its input, and that self-supervision helps where few volumes are labelled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from salus.encode.encoder import Prepared, encode, stack
from salus.encode.volume import SLABS, VolumeEncoder, prepare_volume
from salus.record.patient import Code, Content, Item, Source, Volume

AXIAL = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 3.0, -50], [0, 0, 0, 1]])


def noise(depth: int, seed: int = 0, unit: str = "1") -> Volume:
    values = np.random.default_rng(seed).normal(size=(1, depth, 12, 10)).astype(np.float32)
    return Volume(values, unit, AXIAL)


def slabs_of(volume: Volume) -> tuple[np.ndarray, tuple[str, ...]]:
    made = prepare_volume(volume)
    assert made is not None
    return made[0], tuple(slab.words.partition(", slices")[0] + slab.words.partition("mm")[0].split(",")[-1] for slab in made[1])


def padded(volume: Volume, before: tuple[int, int, int], after: tuple[int, int, int]) -> Volume:
    """Return the volume with unknown slices, rows and columns round it, at the same place in the patient."""
    widths = [(0, 0), *zip(before, after, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] -= volume.affine[:3, :3] @ np.array(before[::-1])
    return Volume(np.pad(volume.voxels, widths, constant_values=np.nan), volume.unit, affine, volume.window)


AMOUNT = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))


@hypothesis_settings(max_examples=25)
@given(AMOUNT, AMOUNT, st.integers(1, 40))
def test_padding_changes_nothing(before: tuple[int, int, int], after: tuple[int, int, int], depth: int) -> None:
    plain, places = prepare_volume(noise(depth)) or (np.zeros(0), ())
    found, moved = prepare_volume(padded(noise(depth), before, after)) or (np.zeros(0), ())
    np.testing.assert_array_equal(found, plain)
    assert [one.first - before[0] for one in moved] == [one.first for one in places]
    np.testing.assert_allclose([one.from_mm for one in moved], [one.from_mm for one in places], atol=1e-9)


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (0, 1, 2)])
def test_the_order_of_storage_changes_nothing(flips: tuple[int, ...]) -> None:
    """Slices, rows or columns stored the other way round, with the affine that says so, are the same volume."""
    volume = noise(20)
    affine = volume.affine.copy()
    for axis in flips:
        column = 2 - axis
        affine[:3, 3] += affine[:3, column] * (volume.voxels.shape[axis + 1] - 1)
        affine[:3, column] *= -1
    other = Volume(np.ascontiguousarray(np.flip(volume.voxels, [axis + 1 for axis in flips])), volume.unit, affine)
    first, second = slabs_of(volume), slabs_of(other)
    np.testing.assert_allclose(second[0], first[0], atol=1e-6)
    assert second[1] == first[1]


@pytest.mark.parametrize("depth", [1, 5, 16, 17, 100])
def test_every_slice_is_in_one_slab_and_its_place_is_right(depth: int) -> None:
    made = prepare_volume(noise(depth))
    assert made is not None
    slabs, places = made
    assert len(places) == min(SLABS, depth) and np.isfinite(slabs).any(axis=(1, 2)).sum() == len(places)
    assert [number for place in places for number in range(place.first, place.last + 1)] == list(range(depth))
    for place in places:  # slice k lies at -50 + 3 k mm towards the head, 1.5 mm to either side
        assert (place.cut, place.from_mm, place.to_mm) == ("axial", -50 + 3 * place.first - 1.5, -50 + 3 * place.last + 1.5)


def test_a_missing_slice_is_left_out_of_its_slab_and_a_missing_slab_is_masked() -> None:
    values = np.tile(np.linspace(0, 1, 10, dtype=np.float32), (1, 32, 12, 1))
    whole, holed = Volume(values.copy(), "1", AXIAL), Volume(values.copy(), "1", AXIAL)
    holed.voxels[0, [4, 10, 11]] = np.nan
    slabs = prepare_volume(holed)
    expected = prepare_volume(whole)
    assert slabs is not None and expected is not None
    np.testing.assert_allclose(slabs[0][2], expected[0][2], atol=1e-6)
    assert np.isnan(slabs[0][5]).all()
    encoder = VolumeEncoder(width=16, channels=(8, 8, 16)).eval()
    arrays = {"slabs": torch.from_numpy(slabs[0])[None], "count": torch.tensor([len(slabs[1])])}
    tokens, mask = encoder(arrays)
    assert mask[0].tolist() == [number != 5 for number in range(16)] and bool((tokens[0, 5] == 0).all())


def test_window_of_ct_is_fixed_and_recorded() -> None:
    ct = prepare_volume(Volume(noise(3).voxels * 50, "[hnsf'U]", AXIAL))
    assert ct is not None and ct[1][0].window == (-1000.0, 1000.0) and ct[1][0].words.endswith("window -1000 to 1000")


def test_volume_without_contrast_gives_nothing() -> None:
    assert prepare_volume(Volume(np.full((1, 3, 4, 4), np.nan, np.float32), "1", AXIAL)) is None
    assert prepare_volume(Volume(np.ones((1, 3, 4, 4), np.float32), "1", AXIAL)) is None


def item_of(volume: Volume, name: str = "a") -> Item:
    return Item(name, "volume", Code("", "MR", ""), Source("a.nii", "00"), content=Content("volume", lambda: volume))


def test_each_token_names_its_item_and_slices() -> None:
    encoder = VolumeEncoder(width=16, channels=(8, 8, 16))
    prepared = encoder.prepare([item_of(noise(5))], {"a": 7.0})
    assert prepared is not None and prepared.item_ids == (("a",),) * 5 + ((),) * 11
    assert prepared.places[0].startswith("axial, slices 1 to 1, -51.5 to -48.5 mm towards H, window ") and prepared.places[5] == ""
    assert prepared.time_s[:5].tolist() == [7.0] * 5 and np.isnan(prepared.time_s[5:]).all()


def test_a_volume_does_not_depend_on_its_batch() -> None:
    encoder = VolumeEncoder(width=16, channels=(8, 8, 16)).eval()
    prepared = [one for depth in (3, 20) if (one := encoder.prepare([item_of(noise(depth, depth))], {})) is not None]
    with torch.no_grad():
        together = encode(encoder, prepared).values
        alone = torch.cat([encode(encoder, [one]).values for one in prepared])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def phantom(rng: np.random.Generator, kind: int) -> Volume:
    """Return a ball (0) or a rod along the slices (1), anywhere, of any size and brightness, in noise."""
    middle = np.array([8, 12, 12]) + rng.uniform(-2, 2, 3)
    depth, rows, columns = np.indices((16, 24, 24)) - middle[:, None, None, None]
    radius = rng.uniform(4, 6)
    inside = rows**2 + columns**2 + (depth**2 if kind == 0 else 0) < radius**2
    values = inside * rng.uniform(0.6, 1.4) + rng.normal(0, 0.35, inside.shape)
    return Volume(values[None].astype(np.float32), "1", AXIAL)


@pytest.mark.slow
def test_self_supervision_helps_where_few_volumes_are_labelled() -> None:
    """Nearest class mean from 4 labelled volumes of each kind, over many draws: features after the pretext stage beat random ones."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    kinds = rng.integers(0, 2, 64)
    encoder = VolumeEncoder(width=32, channels=(8, 8, 16))
    prepared: list[Prepared] = []
    for kind in kinds:
        one = encoder.prepare([item_of(phantom(rng, int(kind)))], {})
        assert one is not None
        prepared.append(one)
    arrays = stack(prepared)
    before = probe(encoder, arrays, kinds)
    pretext: nn.Module = encoder.build_pretext()
    optimiser = torch.optim.AdamW([*encoder.parameters(), *pretext.parameters()], lr=2e-3)
    for _ in range(16):
        chosen = torch.randperm(len(kinds))[:16]
        loss = pretext(encoder, {name: values[chosen] for name, values in arrays.items()})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = probe(encoder, arrays, kinds)
    assert after.mean() > before.mean()
    assert np.percentile(after - before, 2.5) > 0, (before.mean(), after.mean())


def probe(encoder: VolumeEncoder, arrays: dict[str, torch.Tensor], kinds: np.ndarray) -> np.ndarray:
    """Return the accuracy of 20 bootstraps of means over 20 draws of labelled volumes."""
    with torch.no_grad():
        tokens, mask = encoder(arrays)
        weight = mask.to(tokens.dtype)[..., None]
        features = ((tokens * weight).sum(1) / weight.sum(1)).numpy()
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    rng, found = np.random.default_rng(1), []
    for _ in range(40):
        labelled = np.concatenate([rng.choice(np.flatnonzero(kinds == kind), 4, replace=False) for kind in (0, 1)])
        means = np.array([features[labelled[kinds[labelled] == kind]].mean(0) for kind in (0, 1)])
        rest = np.setdiff1d(np.arange(len(kinds)), labelled)
        guessed = np.linalg.norm(features[rest, None] - means[None], axis=-1).argmin(1)
        found.append(float((guessed == kinds[rest]).mean()))
    draws = rng.integers(0, len(found), (200, len(found)))
    return np.array(found)[draws].mean(1)
