"""The losses against independent formulas; masks, order, hard negatives, several positives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from salus.fuse.align.losses import LossName, PairLoss, Pairs, clip_loss, hard_weights, paired, sigmoid_loss

SIZES = st.integers(2, 9)
SEEDS = st.integers(0, 2**20)
KINDS: tuple[LossName, ...] = ("clip", "siglip")


def cosines(count: int, seed: int) -> Tensor:
    """Return (B, B) cosines of random unit vectors, double."""
    source = torch.Generator().manual_seed(seed)
    first, second = (functional.normalize(torch.randn(count, 5, generator=source, dtype=torch.float64), dim=-1) for _ in range(2))
    return first @ second.T


def some_pairs(count: int, seed: int) -> Pairs:
    """Return pairs with several positives and some that are ignored."""
    source = np.random.default_rng(seed)
    positive = np.maximum(np.eye(count), (source.random((count, count)) < 0.2) * source.random((count, count)))
    ignored = (source.random((count, count)) < 0.2) & (positive == 0)
    return Pairs(torch.from_numpy(positive), torch.from_numpy(ignored))


def loss_of(kind: LossName, scores: Tensor, pairs: Pairs, hardness: float = 0.0) -> Tensor:
    """Return a loss at scale 7 and bias -2."""
    scale, bias = torch.tensor(7.0), torch.tensor(-2.0)
    if kind == "clip":
        return clip_loss(scores, scale, pairs, hardness=hardness)
    return sigmoid_loss(scores, scale, bias, pairs, hardness=hardness)


@given(count=SIZES, seed=SEEDS)
def test_clip_with_one_positive_is_cross_entropy_both_ways(count: int, seed: int) -> None:
    scores, target = cosines(count, seed), torch.arange(count)
    expected = (functional.cross_entropy(7 * scores, target) + functional.cross_entropy(7 * scores.T, target)) / 2
    assert loss_of("clip", scores, paired(count)) == pytest.approx(float(expected), rel=1e-9)


@given(count=SIZES, seed=SEEDS)
def test_siglip_is_algorithm_1_of_its_paper(count: int, seed: int) -> None:
    scores = cosines(count, seed)
    labels = 2 * np.eye(count) - 1
    logits = 7 * scores.numpy() - 2
    expected = -np.sum(np.log(1 / (1 + np.exp(-labels * logits)))) / count
    assert loss_of("siglip", scores, paired(count)) == pytest.approx(expected, rel=1e-9)


@given(count=SIZES, seed=SEEDS)
def test_clip_with_several_positives_is_the_sum_that_is_written_out(count: int, seed: int) -> None:
    scores, pairs = cosines(count, seed), some_pairs(count, seed)
    table, positive, ignored = 7 * scores.numpy(), pairs.positive.numpy(), pairs.ignored.numpy()
    ways = []
    for logits, weight, out in ((table, positive, ignored), (table.T, positive.T, ignored.T)):
        rows = []
        for row in range(count):
            total = np.log(sum(np.exp(logits[row, col]) for col in range(count) if not out[row, col]))
            parts = [weight[row, col] * (total - logits[row, col]) for col in range(count) if weight[row, col] > 0]
            rows.append(sum(parts) / weight[row].sum())
        ways.append(np.mean(rows))
    assert float(loss_of("clip", scores, pairs)) == pytest.approx(float(np.mean(ways)), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@given(count=SIZES, seed=SEEDS)
def test_the_order_of_patients_changes_nothing(kind: LossName, count: int, seed: int) -> None:
    scores, pairs = cosines(count, seed), some_pairs(count, seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    moved = Pairs(pairs.positive[order][:, order], pairs.ignored[order][:, order])
    for hardness in (0.0, 2.0):
        before, after = loss_of(kind, scores, pairs, hardness), loss_of(kind, scores[order][:, order], moved, hardness)
        assert float(before) == pytest.approx(float(after), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@given(count=SIZES, seed=SEEDS)
def test_swapping_the_modalities_changes_nothing(kind: LossName, count: int, seed: int) -> None:
    scores, pairs = cosines(count, seed), some_pairs(count, seed)
    turned = Pairs(pairs.positive.T, pairs.ignored.T)
    assert float(loss_of(kind, scores, pairs, 2.0)) == pytest.approx(float(loss_of(kind, scores.T, turned, 2.0)), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hardness", [0.0, 3.0])
@given(count=st.integers(3, 9), seed=SEEDS)
def test_an_ignored_pair_has_no_part_in_the_loss(kind: LossName, hardness: float, count: int, seed: int) -> None:
    pairs = some_pairs(count, seed)
    pairs.ignored[0, 1] = True
    pairs.positive[0, 1] = 0.0
    scores = cosines(count, seed).requires_grad_()
    value = loss_of(kind, scores, pairs, hardness)
    value.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert (scores.grad[pairs.ignored] == 0).all()
    other = scores.detach().clone()
    other[pairs.ignored] = 0.99
    assert float(loss_of(kind, other, pairs, hardness)) == pytest.approx(float(value.detach()), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_a_positive_gives_a_finite_loss(kind: LossName) -> None:
    nothing = Pairs(torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.bool))
    assert torch.isfinite(loss_of(kind, cosines(3, 0).float(), nothing))


@given(count=st.integers(3, 9), seed=SEEDS, hardness=st.floats(0.1, 8))
def test_hard_weights_average_1_and_grow_with_likeness(count: int, seed: int, hardness: float) -> None:
    scores, is_negative = cosines(count, seed), ~torch.eye(count, dtype=torch.bool)
    weights = hard_weights(scores, is_negative, hardness)
    raw = np.exp(hardness * scores.numpy())
    for row in range(count):
        others = [col for col in range(count) if col != row]
        expected = raw[row, others] / raw[row, others].mean()  # Robinson et al., section 4
        assert weights[row, others].numpy() == pytest.approx(expected, rel=1e-9)
    assert (weights.diagonal() == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@given(likeness=st.floats(0.1, 0.95), hardness=st.floats(0.5, 8))
def test_hard_negatives_pull_more_at_the_one_that_looks_like_a_positive(kind: LossName, likeness: float, hardness: float) -> None:
    scores, shares = torch.eye(6, dtype=torch.float64), []
    scores[0, 1] = likeness
    for weight in (0.0, hardness):
        leaf = scores.clone().requires_grad_()
        loss_of(kind, leaf, paired(6), weight).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        push = leaf.grad.clone().fill_diagonal_(0)
        shares.append(float(push[0, 1] / push[0].sum()))
    assert shares[1] > shares[0]


@pytest.mark.parametrize("kind", KINDS)
def test_temperature_is_learned_and_bias_by_siglip_alone(kind: LossName) -> None:
    loss = PairLoss(kind)
    vectors = functional.normalize(torch.randn(5, 4), dim=-1)
    loss(vectors, vectors.roll(1, 0), paired(5)).backward()
    assert loss.log_scale.grad is not None and loss.log_scale.grad != 0
    assert (loss.bias.grad is not None) == (kind == "siglip")
    assert float(loss.scale.detach()) == pytest.approx(1 / (0.07 if kind == "clip" else 0.1))
