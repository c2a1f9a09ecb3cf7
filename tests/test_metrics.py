"""Metrics against scikit-learn, or by hand where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from salus.metrics import (
    accuracy,
    auroc,
    bootstrap,
    calibration_error,
    fit_logistic,
    fit_temperature,
    ideal_calibration_error,
    paired,
    reliability,
    risk_coverage,
    roc_curve,
)

SAMPLES = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=4, max_size=60)


def made_up(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth, a good score and a worse one."""
    source = np.random.default_rng(seed)
    truth = (source.random(n) < 0.3).astype(float)
    return truth, truth + source.normal(0, 1, n), truth + source.normal(0, 3, n)


@settings(max_examples=60, deadline=None)
@given(SAMPLES)
def test_auroc_is_scikit_learns_also_with_ties(rows: list[tuple[bool, int]]) -> None:
    truth, score = np.array([float(one) for one, _ in rows]), np.array([float(two) for _, two in rows])
    if len(set(truth)) < 2:
        assert np.isnan(auroc(truth, score))
    else:
        assert auroc(truth, score) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(SAMPLES)
def test_roc_points_are_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    truth, score = np.array([float(one) for one, _ in rows]), np.array([float(two) for _, two in rows])
    if len(set(truth)) == 2:
        false, true, _ = sklearn_roc_curve(truth, score, drop_intermediate=False)
        assert np.allclose(roc_curve(truth, score), np.column_stack([false, true]))


def test_accuracy() -> None:
    assert accuracy(np.array([1.0, 0, 1]), np.array([1.0, 1, 1])) == pytest.approx(2 / 3)
    assert np.isnan(accuracy(np.array([]), np.array([])))


def test_calibration_error_by_hand() -> None:
    """Two bins of two: (0.15 predicted, 0.5 seen) and (0.75, 1.0): mean of 0.35 and 0.25."""
    truth, probability = np.array([0.0, 1, 1, 1]), np.array([0.1, 0.2, 0.7, 0.8])
    assert calibration_error(truth, probability, bins=2) == pytest.approx(0.30)
    assert reliability(truth, probability, bins=2) == [
        {"mean_predicted": pytest.approx(0.15), "observed": 0.5, "n": 2}, {"mean_predicted": pytest.approx(0.75), "observed": 1.0, "n": 2},
    ]  # fmt: skip


def test_what_perfect_calibration_shows_shrinks_with_n() -> None:
    source = np.random.default_rng(0)
    few, many = (ideal_calibration_error(source.random(n), draws=50) for n in (100, 5000))
    assert 0.01 < many.value < few.value < 0.2
    assert few.low < few.value < few.high and few.n == 100


def test_the_interval_of_a_calibration_error_holds_its_value_and_mostly_the_truth() -> None:
    """Probabilities of 0.5 where the rate is 0.3: an error of 0.2. Plain percentiles lie too high, for resamples add their own noise."""
    held = 0
    for seed in range(20):
        source = np.random.default_rng(seed)
        truth = (source.random(300) < 0.3).astype(float)
        probability, groups = 0.5 + 1e-3 * source.random(300), [str(row) for row in range(300)]
        found = bootstrap(calibration_error, truth, probability, groups, is_biased=True)
        assert 0 <= found.low <= found.value <= found.high
        held += found.low <= 0.2 <= found.high
    assert held >= 15
    exact = (np.random.default_rng(1).random(300) < 0.02).astype(float)
    plain, moved = (bootstrap(calibration_error, exact, np.full(300, 0.02), groups, is_biased=one) for one in (False, True))
    assert plain.low > moved.low and moved.low <= moved.value <= moved.high


def test_the_interval_covers_and_narrows() -> None:
    """Reference width: Hanley and McNeil 1982, equation 1, for 300 patients with 30 % positives."""
    truth, score, _ = made_up(300)
    found = bootstrap(auroc, truth, score, [str(row) for row in range(300)])
    area, positives = found.value, truth.sum()
    negatives = 300 - positives
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)) / (positives * negatives))
    assert found.low < found.value < found.high and found.n == 300
    assert (found.high - found.low) == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_patients_are_resampled_whole() -> None:
    """Each patient's ten equal rows are one observation: the interval is as wide as with one row each."""
    truth, score, _ = made_up(60)
    once = bootstrap(auroc, truth, score, [str(row) for row in range(60)])
    ten = bootstrap(auroc, truth.repeat(10), score.repeat(10), [str(row) for row in range(60) for _ in range(10)])
    assert ten.value == pytest.approx(once.value) and ten.n == 600
    assert ten.high - ten.low == pytest.approx(once.high - once.low, rel=0.15)


def test_paired_difference_has_its_sign_and_is_tighter_than_two_intervals() -> None:
    truth, good, worse = made_up(400)
    groups = [str(row) for row in range(400)]
    found = paired(auroc, truth, good, worse, groups)
    assert found.value == pytest.approx(roc_auc_score(truth, good) - roc_auc_score(truth, worse)) and found.low > 0
    turned = paired(auroc, truth, worse, good, groups)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
    same = paired(auroc, truth, good, good, groups)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_nothing_to_measure_is_nan_not_a_crash() -> None:
    nothing = np.array([])
    found = bootstrap(accuracy, nothing, nothing, [])
    assert np.isnan([found.value, found.low, found.high]).all() and found.n == 0
    assert np.isnan(paired(auroc, np.ones(3), np.ones(3), np.ones(3), ["a", "b", "c"]).low)


def test_risk_and_coverage_by_hand() -> None:
    """Most confident first: right, wrong, right, right: errors 0, 1/2, 1/3, 1/4 of those answered."""
    curve = risk_coverage(np.array([1.0, 1, 0, 1]), np.array([0.9, 0.3, 0.8, 0.5]))
    assert curve == [[0.25, 0.0], [0.5, 0.5], [0.75, pytest.approx(1 / 3)], [1.0, 0.25]]


@pytest.mark.parametrize("columns", [1, 2])
def test_logistic_fit_is_scikit_learns(columns: int) -> None:
    truth, good, worse = made_up(500)
    features = np.column_stack([good, worse])[:, :columns]
    theirs = LogisticRegression(C=1e8, tol=1e-10, max_iter=2000).fit(features, truth)
    ours = fit_logistic(features, truth, ridge=0.0)
    assert ours == pytest.approx([*theirs.intercept_, *theirs.coef_[0]], abs=2e-3)


def test_logistic_fit_of_separable_data_stays_finite() -> None:
    weights = fit_logistic(np.array([[-1.0], [-2.0], [1.0], [2.0]]), np.array([0.0, 0, 1, 1]))
    assert np.isfinite(weights).all() and weights[1] > 1
    assert np.isfinite(fit_logistic(np.array([[-1.0], [1.0]]), np.ones(2))).all()


def test_temperature_and_biases_are_found_again() -> None:
    source = np.random.default_rng(0)
    logprobs = source.normal(size=(20_000, 3))
    wanted = np.exp(2.0 * logprobs + np.array([0.0, 1.0, -0.5]))
    answers = (source.random((len(wanted), 1)) > np.cumsum(wanted / wanted.sum(1, keepdims=True), 1)).sum(1)
    slope, biases = fit_temperature(logprobs, answers, ridge=0.0)
    assert slope == pytest.approx(2.0, abs=0.1) and biases == pytest.approx([0.0, 1.0, -0.5], abs=0.1)
