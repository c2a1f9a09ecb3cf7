"""Partial least squares of each modality: as scikit-learn has it, out of fold for its slope, and the sum over who is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from salus.fuse.fit import Budget, fit_members
from salus.fuse.linear_reading import COMPONENTS, FOLDS, LinearReading, fit_reading, folds, regressed
from salus.fuse.token_sets import Tokens, TokenSets
from salus.metrics import auroc


def made(n: int = 120, *, features: int = 40, seed: int = 0, options: int = 2) -> TokenSets:
    """Return patients whose answer depends weakly on many numbers of `a`, and on some of `b`, of which each has one to three tokens."""
    source = np.random.default_rng(seed)
    one, two = source.normal(size=(n, 1, features)).astype(np.float32), source.normal(size=(n, 3, 6)).astype(np.float32)
    mask = np.arange(3) < source.integers(1, 4, size=n)[:, None]
    said = one[:, 0, : features // 2].mean(1) * 4 + (two * mask[..., None]).sum(1)[:, 0] / mask.sum(1)
    answers = np.digitize(said, np.quantile(said, np.linspace(0, 1, options + 1)[1:-1]))
    empty = np.full((n, 1), np.nan, np.float32)
    sets = {"a": Tokens(one, np.ones((n, 1), bool), empty), "b": Tokens(two * mask[..., None], mask, empty.repeat(3, 1))}
    return TokenSets(sets, answers.astype(np.int64), tuple(f"p{row}" for row in range(n)))


def logits(reading: LinearReading, sets: TokenSets) -> np.ndarray:
    """Return (n, O)."""
    return reading.logits(sets.batch(np.arange(len(sets))), len(sets)).numpy()


def test_it_regresses_as_scikit_learn_does() -> None:
    cross_decomposition = pytest.importorskip("sklearn.cross_decomposition")
    source = np.random.default_rng(0)
    values, wanted = source.normal(size=(50, 80)), source.normal(size=50)
    values, wanted = values - values.mean(0), wanted - wanted.mean()
    theirs = [cross_decomposition.PLSRegression(count, scale=False).fit(values, wanted).coef_.ravel() for count in COMPONENTS]
    assert np.allclose(regressed(values, wanted), np.mean(theirs, 0), atol=1e-8)


def test_with_fewer_components_than_wanted_it_is_least_squares() -> None:
    source = np.random.default_rng(0)
    values, wanted = source.normal(size=(50, 2)), source.normal(size=50)
    assert np.allclose(regressed(values, wanted), np.linalg.lstsq(values, wanted, rcond=None)[0])
    assert np.array_equal(regressed(np.zeros((9, 3)), np.ones(9)), np.zeros(3)), "nothing to read"


@pytest.mark.parametrize("options", [2, 3])
def test_it_tells_patients_it_has_not_seen_and_is_not_too_sure(options: int) -> None:
    fitted, scored = made(options=options), made(400, seed=1, options=options)
    said = softmax(logits(fit_reading(fitted, options), scored), 1)
    for option in (0, options - 1):  # what lies in the middle is no matter of a line
        assert auroc((scored.answers == option).astype(float), said[:, option]) > 0.65
    sure = -np.log(said[np.arange(len(scored)), scored.answers]).mean()
    assert sure < np.log(options) - 0.05, "better than shares: the slope was fitted out of fold"


def test_missing_modalities_are_left_out_of_the_sum() -> None:
    sets = made()
    reading = fit_reading(sets, 2)
    both, one, other = (logits(reading, shown) for shown in (sets, sets.without(["b"]), sets.without(["a"])))
    neither = logits(reading, sets.without(["a", "b"]))
    assert np.allclose(both + neither, one + other, atol=1e-5) and np.allclose(neither, reading.bias.numpy())
    assert np.allclose(logits(reading, sets.take(np.array([7, 3]))), both[[7, 3]], atol=1e-5), "a patient is as alone"
    assert logits(fit_reading(sets.without(["b"]), 2), sets).shape == (120, 2), "a modality that nobody had says nothing"


def test_it_aims_at_what_is_wanted() -> None:
    sets = made()
    turned = replace(sets, wanted=np.eye(2, dtype=np.float32)[1 - sets.answers])
    assert auroc(sets.answers.astype(float), logits(fit_reading(turned, 2), sets)[:, 1]) < 0.2


def test_folds_keep_groups_together_and_answers_in_their_share() -> None:
    sets = made()
    sets = replace(sets, groups=tuple(f"p{row // 2 * 2 + int(answer)}" for row, answer in enumerate(sets.answers)))
    place = folds(sets)
    assert all(len({place[row] for row in range(120) if sets.groups[row] == group}) == 1 for group in sets.groups)
    assert set(place.tolist()) == set(range(FOLDS))
    shares = [sets.answers[place == fold].mean() for fold in range(FOLDS)]
    assert max(shares) - min(shares) < 0.2


def test_members_and_the_reading_answer_as_one() -> None:
    fitted, scored = made(), made(60, seed=1)
    settings = {"strategy": "late", "hidden": 8}
    budget = Budget(epochs=2, members=2, held_out=0.0)
    plain, joined = (fit_members(fitted, settings, replace(budget, linear_share=share), options=2, seed=0) for share in (0.0, 0.25))
    assert plain.reading is None and joined.reading is not None
    assert joined.parameters == plain.parameters + joined.reading.parameters == plain.parameters + (40 + 6) * 2 + 3
    read = softmax(logits(joined.reading, scored), 1)
    expected = plain.probabilities(scored) ** 0.75 * read**0.25
    assert np.allclose(joined.probabilities(scored), expected / expected.sum(1, keepdims=True), atol=1e-5)
    wholly = fit_members(fitted, settings, replace(budget, linear_share=1.0), options=2, seed=0)
    assert np.allclose(wholly.probabilities(scored), read, atol=1e-5)
    assert torch.equal(wholly.reading.weights["a"], joined.reading.weights["a"]) if wholly.reading else False, "deterministic"
