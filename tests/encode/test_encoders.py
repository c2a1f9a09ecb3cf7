"""Contract of every registered encoder: its own example goes through, missing is not zero, NaN goes nowhere, training reaches it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from salus import registry
from salus.encode.audio import SoundEncoder
from salus.encode.encoder import Encoder, Prepared, encode, stack
from salus.encode.image import ImageEncoder, augment
from salus.encode.signal import SignalEncoder
from salus.encode.summary import STATISTICS
from salus.encode.text import BagEncoder
from salus.encode.variables import QuantileNormaliser, VariableEncoder

NAMES = [name for name in registry.names("salus.modalities") if registry.load("salus.modalities", name).build_encoder is not None]
VARIABLES = {"variables": ["heart_rate", "creatinine", "potassium"], "width": 16, "members": 2, "grid_members": 1, "steps": 4}


def built(name: str) -> tuple[Any, Prepared]:
    """Return an encoder (small where its settings allow) and its own example, prepared."""
    torch.manual_seed(0)
    modality = registry.load("salus.modalities", name)
    settings = {**modality.encoder_defaults, **(VARIABLES if name == "vitals_labs" else {})}
    encoder: Any = modality.build_encoder(settings).eval()
    items = modality.example()
    prepared = encoder.prepare(items, {item.id: 3600.0 * place for place, item in enumerate(items)})
    assert prepared is not None
    if hasattr(encoder, "fit"):
        encoder.fit({key: np.stack([value, value]) for key, value in prepared.arrays.items()})
    return encoder, prepared


def all_missing(prepared: Prepared) -> Prepared:
    """Return the same input with everything missing: NaN, or -1 for hashed words."""
    arrays = {key: np.full_like(value, np.nan if value.dtype.kind == "f" else -1) for key, value in prepared.arrays.items()}
    return Prepared(arrays, prepared.item_ids, prepared.time_s)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_goes_through(name: str) -> None:
    encoder, prepared = built(name)
    assert isinstance(encoder, Encoder)
    assert len(prepared.item_ids) == encoder.tokens == len(prepared.time_s)
    encoded = encode(encoder, [prepared, prepared, prepared])
    assert encoded.values.shape == (3, encoder.tokens, encoder.width)
    assert encoded.mask.shape == encoded.time_s.shape == (3, encoder.tokens) and encoded.mask.dtype == torch.bool
    assert [bool(ids) for ids in prepared.item_ids] == encoded.mask[0].tolist(), "a token carries evidence exactly when it has items"
    known = {item.id for item in registry.load("salus.modalities", name).example()}
    assert {item_id for ids in prepared.item_ids for item_id in ids} <= known


@pytest.mark.parametrize("name", NAMES)
def test_nan_goes_nowhere(name: str) -> None:
    encoder, prepared = built(name)
    missing = all_missing(prepared)
    encoded = encode(encoder, [prepared, missing])
    assert torch.isfinite(encoded.values).all() and not encoded.mask[1].any()
    encoder.train()
    assert torch.isfinite(encode(encoder, [prepared, missing]).values).all()


@pytest.mark.parametrize("name", NAMES)
def test_missing_is_not_zero(name: str) -> None:
    encoder, prepared = built(name)
    zeros = Prepared({key: np.zeros_like(value) for key, value in prepared.arrays.items()}, prepared.item_ids, prepared.time_s)
    encoded = encode(encoder, [all_missing(prepared), zeros])
    assert not torch.allclose(encoded.values[0], encoded.values[1], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_patient_does_not_depend_on_the_batch(name: str) -> None:
    encoder, prepared = built(name)
    missing = all_missing(prepared)
    together, alone = encode(encoder, [missing, prepared, missing]), encode(encoder, [prepared])
    assert torch.allclose(together.values[1], alone.values[0], atol=1e-5) and torch.equal(together.mask[1], alone.mask[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_items_changes_nothing(name: str) -> None:
    encoder, prepared = built(name)
    items = registry.load("salus.modalities", name).example()
    seconds = {item.id: 3600.0 * place for place, item in enumerate(items)}
    turned = encoder.prepare(items[::-1], seconds)
    assert turned.item_ids == prepared.item_ids
    assert all(np.array_equal(turned.arrays[key], value, equal_nan=value.dtype.kind == "f") for key, value in prepared.arrays.items())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_use_is_none(name: str) -> None:
    encoder, _ = built(name)
    assert encoder.prepare((), {}) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_self_supervised_loss_is_finite_and_reaches_the_encoder(name: str) -> None:
    encoder, prepared = built(name)
    torch.manual_seed(0)
    pretext = encoder.build_pretext()
    encoder.train()
    losses = torch.stack([pretext(encoder, stack([prepared] * 4)) for _ in range(4)])
    assert torch.isfinite(losses).all() and losses.sum() > 0
    losses.sum().backward()
    grads = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    assert grads and all(torch.isfinite(grad).all() for grad in grads) and sum(float(grad.abs().sum()) for grad in grads) > 0


def test_sound_views_are_only_for_training() -> None:
    encoder, prepared = built("heart_sound")
    assert isinstance(encoder, SoundEncoder) and prepared.arrays["table"].shape == (1, 34, 48)
    encoder.train()
    items = registry.load("salus.modalities", "heart_sound").example()
    first, second = (encoder.prepare(items, {}) for _ in range(2))
    assert first is not None and second is not None and first.arrays["table"].shape == (1 + encoder.crops, 34, 48)
    assert np.array_equal(first.arrays["table"], second.arrays["table"], equal_nan=True), "crops are drawn by the item's id"
    assert np.isnan(first.time_s).all()
    batch, target = encoder.augment({"table": torch.from_numpy(np.stack([first.arrays["table"]] * 3))}, torch.eye(2)[[0, 1, 0]])
    assert batch["table"].shape == (3, 1, 34, 48) and torch.allclose(target.sum(1), torch.ones(3))


def test_sound_normalisation_by_hand() -> None:
    encoder = SoundEncoder(members=1, hidden=4, width=4)
    table = np.full((2, 3, 34, 48), np.nan, np.float32)
    table[:, 0, 0, 0], table[:, 1, 0, 0] = (1.0, 3.0), 99.0
    encoder.fit({"table": table})
    assert (float(encoder.mean[0, 0]), float(encoder.spread[0, 0])) == pytest.approx((2.0, 1.0001))
    assert (float(encoder.mean[0, 1]), float(encoder.spread[0, 1])) == (0.0, 1.0)


def test_quantiles_become_normal_scores() -> None:
    """Reference: the standard normal, whose quantiles are its own scores."""
    source = np.random.default_rng(0)
    values = np.exp(source.normal(size=(20_000, 1))).astype(np.float32)
    normaliser = QuantileNormaliser(1)
    normaliser.fit(values)
    wanted = torch.tensor([[-1.5], [0.0], [1.0], [float("nan")]])
    found = normaliser(wanted.exp())
    assert found[:3].flatten().tolist() == pytest.approx([-1.5, 0.0, 1.0], abs=0.05) and found[3].isnan()


def test_a_variable_of_two_values_stays_in_the_middle_of_its_ties() -> None:
    normaliser = QuantileNormaliser(1)
    normaliser.fit(np.array([[0.0], [1.0]] * 50, np.float32))
    low, high = normaliser(torch.tensor([[0.0], [1.0]])).flatten().tolist()
    assert low == pytest.approx(-high, abs=0.05) and -1 < low < -0.4


def test_variables_read_the_window_before_the_end() -> None:
    """Hours 50 and 98 of a record that ends at 98, window 48 h: the first value is at hour 50, one second before the window is not read."""
    from tests.tiny_model import SERIES, item

    from salus.record.patient import Code

    encoder = VariableEncoder(variables=["heart_rate"], width=16, members=1, window_h=48.0, steps=4)
    display, unit, *_ = SERIES["HR"]
    hours = [(49.99, 60.0), (50.0, 70.0), (98.0, 90.0)]
    items = [
        item("w", str(place), "vitals_labs", Code("physionet2012", "HR", display), hour, value=value, unit=unit)
        for place, (hour, value) in enumerate(hours)
    ]
    prepared = encoder.prepare(items, {one.id: hour * 3600 for one, (hour, _) in zip(items, hours, strict=True)})
    assert prepared is not None
    row = dict(zip(STATISTICS, prepared.arrays["features"][0].tolist(), strict=True))
    assert (row["first"], row["last"], row["first_time_h"], row["change"]) == pytest.approx((70.0, 90.0, 0.0, 20.0))
    assert prepared.arrays["grid"][:, 0].tolist() == pytest.approx([70.0, np.nan, np.nan, 90.0], nan_ok=True)
    assert prepared.time_s.tolist() == [98 * 3600.0]
    assert set(prepared.item_ids[0]) == {one.id for one in items[1:]}, "a value outside the window is no evidence"


def test_image_augmentation_never_mirrors_and_keeps_what_is_unknown() -> None:
    torch.manual_seed(0)
    picture = torch.full((16, 1, 128, 128), -1.0)
    picture[..., :64] = 1.0  # bright on the left
    picture[..., :10, :] = torch.nan
    views = augment(picture)
    left, right = views[..., 20:50].nanmean((1, 2, 3)), views[..., 78:108].nanmean((1, 2, 3))
    assert (left > right).all() and views.isnan().any()


def test_image_cells_beside_the_picture_are_masked() -> None:
    encoder = ImageEncoder(width=16, channels=(8, 8, 8, 8)).eval()
    picture = torch.full((1, 1, 128, 128), torch.nan)
    picture[..., 32:96] = torch.rand(128, 64)
    _, mask = encoder({"picture": picture})
    assert mask[0].reshape(4, 4).tolist() == [[False, True, True, False]] * 4


def test_signal_tokens_are_seconds() -> None:
    encoder = SignalEncoder(width=16, seconds=4, rate_hz=100, leads=("II",)).eval()
    samples = torch.randn(1, 1, 400)
    samples[..., 200:300] = torch.nan
    values, mask = encoder({"samples": samples})
    assert values.shape == (1, 4, 16) and mask.tolist() == [[True, True, False, True]]


def test_words_beyond_the_last_change_nothing() -> None:
    torch.manual_seed(0)
    network = BagEncoder(width=16, buckets=32).eval()
    grams = torch.randint(0, 32, (1, 3, 5))
    padded = torch.cat([torch.cat([grams, torch.full((1, 3, 4), -1)], 2), torch.full((1, 2, 9), -1)], 1)
    days = torch.tensor([[0.5, 3.0, float("nan")]])
    values, _ = network(grams, days)
    more, mask = network(padded, torch.cat([days, torch.full((1, 2), torch.nan)], 1))
    assert torch.allclose(values, more[:, :3], atol=1e-5) and mask.tolist() == [[True, True, True, False, False]]
