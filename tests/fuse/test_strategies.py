"""What holds for every strategy: masks, order, missing modalities, gradients, weights; and a model takes no other strategy's tensors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_model import tiny_model
from torch import Tensor

from salus import registry
from salus.encode.encoder import Encoded
from salus.errors import ConfigError, ModelError
from salus.fuse.build import build_fuser
from salus.fuse.fuser import Fused, Present, Strategy
from salus.fuse.tensor import LowRankProduct, OuterProduct
from salus.model import build_backbone, load_model, save_model

STRATEGIES = registry.names("salus.fusers")
MODALITIES = {"ecg": (8, 3), "labs": (5, 2), "notes": (4, 2)}
WIDTH = 12
B = 4


def fuser(name: str, **given_: Any) -> Any:
    torch.manual_seed(0)
    return build_fuser({"strategy": name, "hidden": 8, **given_}, MODALITIES, WIDTH)


def batch(seed: int = 0, *, size: int = B) -> dict[str, Present]:
    """Return three modalities of patients who all have them, with a masked token each here and there."""
    source = torch.Generator().manual_seed(seed)
    made = {}
    for name, (width, tokens) in MODALITIES.items():
        mask = torch.rand(size, tokens, generator=source) > 0.3
        mask[:, 0] = True
        values = torch.randn(size, tokens, width, generator=source)
        made[name] = Present(torch.arange(size), Encoded(values, mask, torch.rand(size, tokens, generator=source) * 1e5))
    return made


def only(present: Present, rows: list[int], places: list[int] | None = None) -> Present:
    """Return some patients of a modality, as the patients `places` of a batch."""
    encoded = present.encoded
    picked = Encoded(encoded.values[rows], encoded.mask[rows], encoded.time_s[rows])
    return Present(torch.tensor(rows if places is None else places), picked)


def close(one: Fused, other: Fused, rows: list[int] | None = None) -> bool:
    """Return whether everything but the values of dropped tokens agrees, for some rows of the first."""
    pick = list(range(one.tokens.shape[0])) if rows is None else rows
    kept = other.mask[..., None]
    pairs = [(one.tokens[pick] * kept, other.tokens * kept), (one.pooled[pick], other.pooled), (one.weights[pick], other.weights)]
    return torch.equal(one.mask[pick], other.mask) and all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


@pytest.mark.parametrize("name", STRATEGIES)
def test_shapes_and_names(name: str) -> None:
    network = fuser(name).eval()
    fused = network(batch(), B)
    length = len(fused.modality)
    assert fused.tokens.shape == (B, length, WIDTH) and fused.mask.shape == (B, length) and len(fused.position) == length
    assert fused.pooled.shape == (B, network.pooled_width) and fused.weights.shape == (B, 3) and fused.parts.shape[:2] == (B, 3)
    assert set(fused.modality) - {""} == set(MODALITIES) and network.build_head(4)(fused).shape == (B, 4)
    assert registry.load("salus.fusers", name).name == name
    rms = fused.tokens[fused.mask].pow(2).mean(-1).sqrt()
    assert torch.allclose(rms, torch.full_like(rms, 0.1), atol=2e-3), "the size of the language model's own embeddings"


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(-50, 50))
def test_what_is_masked_changes_nothing(name: str, seed: int, scale: float) -> None:
    network, made = fuser(name).eval(), batch(seed)
    changed = {}
    for key, one in made.items():
        values = torch.where(one.encoded.mask[..., None], one.encoded.values, torch.tensor(scale))
        changed[key] = replace(one, encoded=replace(one.encoded, values=values))
    with torch.no_grad():
        assert close(network(made, B), network(changed, B))


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(B)))
def test_the_order_of_patients_and_of_modalities_changes_nothing(name: str, seed: int, order: list[int]) -> None:
    network, made = fuser(name).eval(), batch(seed)
    turned = {key: only(one, order, list(range(B))) for key, one in reversed(made.items())}
    shuffled = {key: only(one, order) for key, one in made.items()}
    with torch.no_grad():
        assert close(network(made, B), network(turned, B), order)
        assert close(network(made, B), network(shuffled, B)), "rows say whose each line is"


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), here=st.lists(st.sets(st.sampled_from(sorted(MODALITIES))), min_size=B, max_size=B))
def test_a_patient_in_a_mixed_batch_is_as_alone(name: str, seed: int, here: list[set[str]]) -> None:
    network, made = fuser(name).eval(), batch(seed)
    mixed = {key: only(one, rows) for key, one in made.items() if (rows := [row for row in range(B) if key in here[row]])}
    with torch.no_grad():
        fused = network(mixed, B)
        for row in range(B):
            alone = network({key: only(one, [row], [0]) for key, one in made.items() if key in here[row]}, 1)
            assert close(fused, alone, [row])
    named = list(MODALITIES)
    assert torch.equal(fused.weights > 0, torch.tensor([[key in here[row] for key in named] for row in range(B)]))
    assert torch.allclose(fused.weights.sum(1), torch.tensor([float(bool(each)) for each in here]), atol=1e-5)
    assert all(torch.isfinite(each).all() for each in (fused.tokens, fused.pooled, fused.parts, network.build_head(2)(fused).detach()))


@pytest.mark.parametrize("name", STRATEGIES)
def test_all_tokens_masked_is_a_missing_modality(name: str) -> None:
    network, made = fuser(name).eval(), batch()
    blank = replace(made["labs"], encoded=replace(made["labs"].encoded, mask=torch.zeros_like(made["labs"].encoded.mask)))
    with torch.no_grad():
        masked, gone = network({**made, "labs": blank}, B), network({key: one for key, one in made.items() if key != "labs"}, B)
    assert torch.allclose(masked.pooled, gone.pooled, atol=1e-5) and torch.equal(masked.weights, gone.weights)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_gradient_reaches_every_modality_and_every_weight(name: str) -> None:
    every = {"chosen": 4} if name == "experts" else {}  # an expert that nobody is sent to learns nothing
    network, made = fuser(name, modality_dropout=0.0, **every).train(), batch()
    values: dict[str, Tensor] = {key: one.encoded.values.requires_grad_(True) for key, one in made.items()}
    head = network.build_head(3)
    target = torch.tensor([0, 1, 2, 0])
    for given_ in (made, {"labs": made["labs"]}, {key: one for key, one in made.items() if key != "labs"}, {}):  # absence has weights too
        fused = network(given_, B)
        extra = 0.0 if fused.loss is None else fused.loss
        noise = torch.randn(fused.tokens.shape, generator=torch.Generator().manual_seed(1))
        loss = torch.nn.functional.cross_entropy(head(fused), target) + extra + (fused.tokens * fused.mask[..., None] * noise).sum()
        loss.backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in values.values())
    trained = [(key, weight) for key, weight in [*network.named_parameters(), *head.named_parameters()] if weight.requires_grad]
    assert [key for key, weight in trained if weight.grad is None or not weight.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), here=st.lists(st.sets(st.sampled_from(sorted(MODALITIES))), min_size=2, max_size=2))
def test_gradients_are_those_of_finite_differences(name: str, seed: int, here: list[set[str]]) -> None:
    """Patients who lack some modalities, or all, beside others; in double, along a random direction of every value at once."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found, expected = slopes_of(name, seed, here)
    finally:
        torch.set_default_dtype(usual)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def slopes_of(name: str, seed: int, here: list[set[str]]) -> tuple[float, float]:
    """Return the slope of a loss on all that a fuser gives, by its gradient and by finite differences; the batch is in double."""
    network, made = fuser(name).eval(), batch(seed, size=2)
    head = network.build_head(2)
    rows = {key: [row for row in range(2) if key in here[row]] for key in made}
    source = torch.Generator().manual_seed(seed)
    starts = {key: made[key].encoded.values[rows[key]] for key in made if rows[key]}
    ways = {key: torch.randn(one.shape, generator=source) for key, one in starts.items()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        given_ = {}
        for key, one in values.items():
            picked = only(made[key], rows[key])
            given_[key] = replace(picked, encoded=replace(picked.encoded, values=one))
        fused: Fused = network(given_, 2)
        said: Tensor = head(fused)
        return (fused.tokens * fused.mask[..., None]).sin().sum() + fused.pooled.sin().sum() + said.sin().sum()

    leaves = {key: one.clone().requires_grad_(True) for key, one in starts.items()}
    if leaves:
        loss(leaves).backward()  # type: ignore[no-untyped-call]
    found = sum(float((one.grad * ways[key]).sum()) for key, one in leaves.items() if one.grad is not None)
    step = 1e-6
    ends = [float(loss({key: starts[key] + sign * step * ways[key] for key in starts}).detach()) for sign in (1, -1)]
    return found, (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_unknown_modality_or_setting_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Cannot fuse modality 'mri': this model was built for ecg, labs, notes"):
        fuser(name)({"mri": batch()["ecg"]}, B)
    with pytest.raises(ConfigError, match=r"unknown key 'hiden'. Did you mean 'hidden'"):
        fuser(name, hiden=3)
    with pytest.raises(ConfigError, match=r"Cannot load 'sum' from salus.fusers"):
        fuser("sum")


@pytest.mark.parametrize("name", STRATEGIES)
def test_modality_dropout_takes_modalities_away_in_training_alone(name: str) -> None:
    network = fuser(name, modality_dropout=0.5)
    torch.manual_seed(1)
    there = torch.stack([network.train()(batch(), B).weights > 0 for _ in range(50)])
    assert 0.4 < there.float().mean() < 0.6
    assert (network.eval()(batch(), B).weights > 0).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_modality_alone_is_fused_too(name: str) -> None:
    network = build_fuser({"strategy": name, "hidden": 8}, {"ecg": MODALITIES["ecg"]}, WIDTH).eval()  # type: ignore[attr-defined]
    fused = network({"ecg": batch()["ecg"]}, B)
    assert torch.allclose(fused.weights, torch.ones(B, 1)) and torch.isfinite(fused.pooled).all()


def test_tensors_of_another_strategy_are_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    import json

    model = tiny_model(tiny_backbone)
    save_model(model, tmp_path / "m", replace(model.config, backbone_identity=build_backbone(str(tiny_backbone)).identity), "# card\n")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    for name in STRATEGIES:
        changed = {**config, "fuser": {**config["fuser"], "strategy": name}}
        (tmp_path / "m" / "config.json").write_text(json.dumps(changed))
        if name == "concat":
            load_model(tmp_path / "m")
            continue
        with pytest.raises(ModelError, match=r"tensor .* (is missing|is not part of this model|has another shape)"):
            load_model(tmp_path / "m")


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_takes_the_tensors_of_any_other(name: str) -> None:
    """Names and shapes tell every pair apart, whatever `config.json` says; strict loading then refuses."""
    own = fuser(name)
    for other in STRATEGIES:
        if other != name:
            with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict"):
                own.load_state_dict(fuser(other).state_dict())


def test_the_low_rank_product_is_the_full_product_of_its_factors() -> None:
    """Equation 5 of arXiv 1806.00064, summed by hand: the weight of the outer product is the sum over r of the factors' outer products."""
    torch.manual_seed(0)
    low, full = LowRankProduct(3, 4, 5, rank=2), OuterProduct(3, 4, 5)
    vectors = [torch.randn(6, 4) for _ in range(3)]
    weight = torch.zeros(5, 5, 5, 5)
    for rank in range(2):
        rows = []
        for at, factor in enumerate(low.factors):
            own = factor.weight.view(2, 5, 4)[rank]
            rows.append(torch.cat([own, low.biases[at, rank][:, None]], 1))
        weight += torch.einsum("o,oa,ob,oc->oabc", low.mix[rank], *rows)
    with torch.no_grad():
        full.linear.weight.copy_(weight.reshape(5, -1))
        full.linear.bias.zero_()
        got, _ = low(vectors, torch.ones(6, 3, dtype=torch.bool))
        assert torch.allclose(full(vectors), got, atol=1e-5)
    with pytest.raises(ConfigError, match="Use 'tensor'"):
        OuterProduct(8, 64, 8)


def test_a_strategy_that_mixes_modalities_cannot_be_trained_in_part() -> None:
    for name in STRATEGIES:
        if name != "concat":
            with pytest.raises(ConfigError, match=r"this strategy mixes modalities. Use strategy 'concat'"):
                fuser(name).own_parameters("ecg")


def test_every_strategy_says_equation_shapes_cost_and_paper() -> None:
    import sys

    for name in STRATEGIES:
        strategy: Strategy = registry.load("salus.fusers", name)
        text = sys.modules[strategy.build.__module__].__doc__ or ""
        assert all(f"{word}:" in text for word in ("Shapes", "Cost", "Weights", "Source")) and strategy.title, name
        assert re.search(r"`[^`]*(=|<-|\[)[^`]*`", text), "an equation"
