"""Fusing: missing is told by its own marker, never by zeros, and what is learned is reached by the gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.encode.encoder import Encoded
from salus.errors import ConfigError
from salus.fuse.concat import TIME_FREQUENCIES, ConcatConfig, ConcatFuser, time_features
from salus.fuse.fuser import Present, item_ids

RMS = 0.2


def fuser(**settings: float) -> ConcatFuser:
    torch.manual_seed(0)
    return ConcatFuser(ConcatConfig({"ecg": (8, 3), "notes": (4, 2)}, 16, hidden=8, token_rms=RMS, **settings))  # type: ignore[arg-type]


def present(rows: list[int], tokens: int, width: int, *, seed: int = 0, zeros: bool = False) -> Present:
    source = torch.Generator().manual_seed(seed)
    values = torch.zeros(len(rows), tokens, width) if zeros else torch.randn(len(rows), tokens, width, generator=source)
    time_s = torch.arange(tokens).float().expand(len(rows), -1) * 3600
    return Present(torch.tensor(rows), Encoded(values, torch.ones(len(rows), tokens, dtype=torch.bool), time_s))


def test_shapes_names_and_places() -> None:
    fused = fuser().eval()({"ecg": present([0, 2], 3, 8), "notes": present([1], 2, 4)}, 3)
    assert fused.tokens.shape == (3, 7, 16) and fused.mask.shape == (3, 7)
    assert fused.modality == ("ecg",) * 4 + ("notes",) * 3 and fused.position == (-1, 0, 1, 2, -1, 0, 1)
    assert fused.mask.tolist() == [[True] * 4 + [True, False, False], [True] + [False] * 3 + [True] * 3, [True] * 4 + [True, False, False]]
    assert item_ids(fused, 1, {"notes": (("a",), ("b",))}) == ((), (), ("a",), ("b",))


def test_every_kept_token_has_the_size_of_the_language_models_own() -> None:
    fused = fuser().eval()({"ecg": present([0], 3, 8)}, 2)
    rms = fused.tokens[fused.mask].pow(2).mean(-1).sqrt()
    assert torch.allclose(rms, torch.full_like(rms, RMS), atol=1e-3)


def test_missing_is_neither_present_nor_zeros() -> None:
    network = fuser().eval()
    missing = network({}, 1)
    zeros = network({"ecg": present([0], 3, 8, zeros=True)}, 1)
    assert missing.mask.sum() == 2 and zeros.mask.sum() == 5
    assert not torch.allclose(missing.tokens[0, 0], zeros.tokens[0, 0])
    assert missing.tokens[0, 0].abs().sum() > 0
    assert torch.allclose(missing.tokens[0, 4], zeros.tokens[0, 4]), "the other modality is missing in both"
    assert not torch.allclose(missing.tokens[0, 0], missing.tokens[0, 4]), "each modality has its own marker"


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(ConfigError) as found:
        fuser()({"mri": present([0], 3, 8)}, 1)
    assert str(found.value) == "Cannot fuse modality 'mri': this model was built for ecg, notes."


def test_the_gradient_reaches_projector_markers_and_encoder() -> None:
    network = fuser(modality_dropout=0.0)
    one = present([0], 3, 8)
    one.encoded.values.requires_grad_(True)
    fused = network({"ecg": one}, 2)
    (fused.tokens[fused.mask] * torch.randn(int(fused.mask.sum()), 16)).sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None and parameter.grad.abs().sum() > 0}
    wanted = {name for name, _ in network.named_parameters() if "notes" not in name} | {"missing.notes"}
    assert reached == wanted
    assert one.encoded.values.grad is not None and one.encoded.values.grad.abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
def test_a_patient_does_not_depend_on_the_others(rows: list[int], seed: int) -> None:
    network = fuser().eval()
    many = present(rows, 3, 8, seed=seed)
    together = network({"ecg": many}, 6)
    for place, row in enumerate(rows):
        encoded = Encoded(many.encoded.values[[place]], many.encoded.mask[[place]], many.encoded.time_s[[place]])
        alone = network({"ecg": Present(torch.tensor([0]), encoded)}, 1)
        assert torch.allclose(alone.tokens[0], together.tokens[row], atol=1e-6)
        assert torch.equal(alone.mask[0], together.mask[row])


def test_modality_dropout_tells_the_modality_as_missing() -> None:
    network = fuser(modality_dropout=1.0, dropout=0.0).train()
    assert torch.equal(network({"ecg": present([0, 1], 3, 8)}, 2).tokens, network({}, 2).tokens)
    assert not network({"ecg": present([0, 1], 3, 8)}, 2).mask[:, 1:4].any()


def test_time_features_by_hand() -> None:
    """Sine and cosine of 2 pi t / period, periods 1, 4, 16 ... hours; one hour is a whole turn of the first, a quarter of the second."""
    features = time_features(torch.tensor([3600.0, float("nan")]))
    assert features.shape == (2, 2 * TIME_FREQUENCIES + 1)
    expected = [math.sin(2 * math.pi / 4**k) for k in range(8)] + [math.cos(2 * math.pi / 4**k) for k in range(8)] + [0.0]
    assert features[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert features[1].tolist() == [0.0] * (2 * TIME_FREQUENCIES) + [1.0]


def test_what_is_own_to_a_modality_touches_no_other() -> None:
    network = fuser().eval()
    both = {"ecg": present([0], 3, 8), "notes": present([0], 2, 4)}
    before, absent = network(both, 1).tokens[0], network({}, 1).tokens
    with torch.no_grad():
        for parameter in network.own_parameters("ecg"):
            parameter.add_(torch.randn_like(parameter))
    after = network(both, 1).tokens[0]
    assert not torch.isclose(before[:4], after[:4]).all(-1).any() and torch.equal(before[4:], after[4:])
    assert torch.equal(network({}, 1).tokens, absent), "absence is told as before"


def test_absence_of_a_modality_that_joined_later_gives_no_token() -> None:
    network = fuser(untold=("notes",)).eval()  # type: ignore[arg-type]
    fused = network({"ecg": present([0, 1], 3, 8), "notes": present([1], 2, 4)}, 2)
    assert fused.mask.tolist() == [[True] * 4 + [False] * 3, [True] * 7]
    told = fuser().eval()({"ecg": present([0, 1], 3, 8), "notes": present([1], 2, 4)}, 2)
    assert torch.equal(fused.tokens[1], told.tokens[1]), "where it is present nothing differs"
