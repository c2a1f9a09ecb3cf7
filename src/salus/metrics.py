"""Metrics with intervals. Needs numpy and scipy only; used by training (gates on `val`) and evaluation.

Intervals are 95 % percentile bootstraps by patient; comparisons are paired differences over the same resamples. Calibration error uses 15
equal-mass bins, with resamples corrected for their bias, beside the value that a perfectly calibrated model of the same n would show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]
RESAMPLES = 2000
BINS = 15


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval and n."""

    value: float
    low: float
    high: float
    n: int


def auroc(truth: Floats, score: Floats) -> float:
    """Return the area under the ROC curve, ties counted half; NaN when only one class is there.

    Args:
        truth: (n,) 0 or 1.
        score: (n,) higher for 1.

    Source: Hanley and McNeil 1982, the Mann-Whitney form.

    Example:
        >>> auroc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    positives, negatives = score[truth == 1], np.sort(score[truth != 1])
    if not len(positives) or not len(negatives) or np.isnan(score).any():
        return float("nan")
    below = np.searchsorted(negatives, positives, "left").sum() + np.searchsorted(negatives, positives, "right").sum()
    return float(below / (2 * len(positives) * len(negatives)))


def accuracy(truth: Floats, score: Floats) -> float:
    """Return the share of equal entries (`score` holds the predicted class, or 1 for right with `truth` all 1)."""
    return float((truth == score).mean()) if len(truth) else float("nan")


def bootstrap(
    metric: Metric, truth: Floats, score: Floats, groups: Sequence[str], *, is_biased: bool = False, seed: int = 0
) -> Interval:
    """Return a metric with its 95 % interval, resampling patients.

    Args:
        metric: of the truth and the scores.
        truth: (n,) 1 where right.
        score: (n,) or (n, k).
        groups: whose each row is.
        is_biased: resamples show more of the metric than the patients do, as they do of a calibration error, which counts noise as
            error: the resamples are moved so that their mean is the value (Efron and Tibshirani 1993, section 10.2), and end at 0.
        seed: of the resamples.

    Example:
        >>> truth = np.array([0.0, 1.0] * 50)
        >>> found = bootstrap(auroc, truth, truth, [str(row) for row in range(100)])
        >>> found.value, found.low, found.n
        (1.0, 1.0, 100)
    """
    draws = [metric(truth[rows], score[rows]) for rows in _resamples(groups, seed)]
    value = metric(truth, score)
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(draws).any() else (float("nan"), float("nan"))
    if is_biased and draws:
        low, high = np.maximum(0.0, np.array([low, high]) - (np.nanmean(draws) - value))
    return Interval(value, float(low), float(high), len(truth))


def paired(metric: Metric, truth: Floats, first: Floats, second: Floats, groups: Sequence[str], *, seed: int = 0) -> Interval:
    """Return metric(first) − metric(second) with its 95 % interval, both on the same resamples."""
    draws = [metric(truth[rows], first[rows]) - metric(truth[rows], second[rows]) for rows in _resamples(groups, seed)]
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(draws).any() else (float("nan"), float("nan"))
    return Interval(metric(truth, first) - metric(truth, second), float(low), float(high), len(truth))


def _resamples(groups: Sequence[str], seed: int) -> list[NDArray[np.int64]]:
    if not groups:
        return []
    source = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    rows = [np.array(one) for one in members.values()]
    if all(len(one) == 1 for one in rows):
        flat = np.concatenate(rows)
        return [flat[source.integers(0, len(flat), len(flat))] for _ in range(RESAMPLES)]
    return [np.concatenate([rows[place] for place in source.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]


def calibration_error(truth: Floats, probability: Floats, *, bins: int = BINS) -> float:
    """Return the expected calibration error over equal-mass bins.

    Source: Naeini et al. 2015, equation 3, with equal-mass bins.

    Example:
        >>> calibration_error(np.array([0.0, 1.0]), np.array([0.0, 1.0]), bins=2)
        0.0
    """
    count = min(bins, len(truth))
    sizes = len(truth) // count + (np.arange(count) < len(truth) % count)
    gaps = np.add.reduceat((truth - probability)[np.argsort(probability, kind="stable")], sizes.cumsum() - sizes)
    return float(np.abs(gaps).sum() / len(truth))


def ideal_calibration_error(probability: Floats, *, seed: int = 0, draws: int = 200) -> Interval:
    """Return the calibration error of outcomes drawn from the probabilities themselves: what perfect calibration shows at this n.

    The value is the mean of the draws, the interval holds 95 % of them.
    """
    source = np.random.default_rng(seed)
    found = [calibration_error((source.random(len(probability)) < probability).astype(float), probability) for _ in range(draws)]
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(float(np.mean(found)), float(low), float(high), len(probability))


def reliability(truth: Floats, probability: Floats, *, bins: int = BINS) -> list[dict[str, float]]:
    """Return mean prediction, observed share and n for each equal-mass bin."""
    parts = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(truth)))
    return [
        {"mean_predicted": float(probability[part].mean()), "observed": float(truth[part].mean()), "n": len(part)}
        for part in parts
        if len(part)
    ]


def roc_curve(truth: Floats, score: Floats) -> list[list[float]]:
    """Return [false positive rate, true positive rate] points, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits, misses = np.cumsum(truth[order])[ends], np.cumsum(1 - truth[order])[ends]
    return [
        [0.0, 0.0],
        *([float(f), float(t)] for f, t in zip(misses / max(misses[-1], 1), hits / max(hits[-1], 1), strict=True)),
    ]


def risk_coverage(is_right: Floats, confidence: Floats) -> list[list[float]]:
    """Return [coverage, error rate among the answered] when the least confident are withheld first."""
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(1 - is_right[order])
    kept = np.arange(1, len(order) + 1)
    places = np.unique(np.linspace(0, len(order) - 1, min(60, len(order))).astype(int))
    return [[float(kept[place] / len(order)), float(wrong[place] / kept[place])] for place in places]


def platt_targets(truth: Floats) -> Floats:
    """Return the targets with which a calibration never says 0 or 1, however few errors there were.

    Args:
        truth: (n,) 0 or 1.

    Source: Platt 1999, section 2.2: (n₊ + 1) / (n₊ + 2) for the positives and 1 / (n₋ + 2) for the others.

    Example:
        >>> platt_targets(np.array([1.0, 1.0, 0.0])).round(3).tolist()
        [0.75, 0.75, 0.333]
    """
    positives = float(truth.sum())
    return np.where(truth > 0, (positives + 1.0) / (positives + 2.0), 1.0 / (len(truth) - positives + 2.0))


def fit_logistic(features: Floats, truth: Floats, *, ridge: float = 1e-3) -> Floats:
    """Return the weights of a logistic model, intercept first.

    Args:
        features: (n, k).
        truth: (n,) 0 or 1, or targets between them.
        ridge: small penalty on the weights, so that separable data stay finite.

    Source: Platt 1999 for k = 1.
    """
    design = np.column_stack([np.ones(len(features)), features])

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = design @ weights
        penalty = ridge * (weights[1:] ** 2).sum()
        gradient = design.T @ (expit(z) - truth) / len(truth) + 2 * ridge * np.append(0.0, weights[1:])
        return float(np.logaddexp(0, z).mean() - (truth * z).mean() + penalty), gradient

    start = np.zeros(design.shape[1])
    start[0] = logit(np.clip(truth.mean(), 1e-3, 1 - 1e-3))
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def fit_temperature(logprobs: Floats, answers: NDArray[np.int64], *, ridge: float = 1e-3) -> tuple[float, Floats]:
    """Return the slope and the (k,) biases that make softmax(slope · logprobs + biases) likeliest; the first bias is 0.

    Args:
        logprobs: (n, k) of k options.
        answers: (n,) index of the right one.
        ridge: small penalty, so that separable data stay finite.

    Source: bias-corrected temperature scaling, Alexandari, Kundaje and Shrikumar 2020, arXiv 1901.06852.
    """

    def loss(weights: Floats) -> float:
        scores = weights[0] * logprobs + np.append(0.0, weights[1:])
        chosen = scores[np.arange(len(answers)), answers]
        return float((logsumexp(scores, axis=1) - chosen).mean() + ridge * (weights**2).sum())

    found = minimize(loss, np.append(1.0, np.zeros(logprobs.shape[1] - 1)), method="L-BFGS-B").x
    return float(found[0]), np.append(0.0, found[1:])
