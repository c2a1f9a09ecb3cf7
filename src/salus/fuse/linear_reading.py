"""A linear reading of each modality alone, fitted in closed form: what few patients with many features support, beside networks.

`logits = a · Σ_m (x_m − c_m) B_m + b` over the modalities that are there: x_m (F) is the mean token, B_m (F, O) the regression of the
options on it by partial least squares, averaged over 3, 4 and 5 components; a and b are fitted on readings out of fold. Modalities are
summed, not regressed together, so any subset is read without another fit. Cost: linear in patients, features and modalities; for
hundreds, tens of milliseconds. Source: Wold et al. 2001 (Chemometrics and Intelligent Laboratory Systems 58(2), section 3); Kittler et
al. 1998 (IEEE TPAMI 20(3)) for the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salus.fuse.calibration import calibrated
from salus.fuse.fuser import Present
from salus.fuse.token_sets import TokenSets

COMPONENTS = (3, 4, 5)
"""Numbers of components whose regressions are averaged: no single number has to be chosen by few patients."""
FOLDS = 5
LEAST = 1e-9
"""Covariance with what is wanted, a patient, below which there is no further component."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearReading:
    """What was fitted; see the module's text."""

    centres: Mapping[str, Tensor]
    """Modality → (F,)."""
    weights: Mapping[str, Tensor]
    """Modality → (F, O)."""
    slope: Tensor
    """()."""
    bias: Tensor
    """(O,) logits of a patient without any modality."""

    @property
    def parameters(self) -> int:
        """Numbers that were learned."""
        return sum(one.numel() for one in self.weights.values()) + 1 + self.bias.numel()

    def logits(self, present: Mapping[str, Present], batch_size: int) -> Tensor:
        """Return (B, O)."""
        total = self.bias.expand(batch_size, -1)
        for name, one in present.items():
            counts = one.encoded.mask[..., None]
            mean = (one.encoded.values * counts).sum(1) / counts.sum(1).clamp_min(1)
            total = total.index_add(0, one.rows, self.slope * ((mean - self.centres[name]) @ self.weights[name]))
        return total


def fit_reading(sets: TokenSets, options: int) -> LinearReading:
    """Return a linear reading of each modality, fitted.

    Args:
        sets: standardised; aims at `wanted` where they say it, else at the answers.
        options: of the question.
    """
    wanted = np.eye(options)[sets.answers] if sets.wanted is None else sets.wanted.astype(np.float64)
    raw = np.zeros((len(sets), options))
    fold = folds(sets)
    for left in range(FOLDS):
        if (fold == left).any() and (fold != left).any():
            centres, weights = _fitted(sets.take(np.flatnonzero(fold != left)), wanted[fold != left])
            raw[fold == left] = _read(sets.take(np.flatnonzero(fold == left)), centres, weights)
    slope, bias = calibrated(torch.from_numpy(raw).float(), torch.from_numpy(wanted).float())
    centres, weights = _fitted(sets, wanted)
    return LinearReading(_tensors(centres), _tensors(weights), slope, bias)


def folds(sets: TokenSets) -> NDArray[np.int64]:
    """Return (n,) the fold of each patient, each answer in its share; patients of one group stay together."""
    answers = dict(zip(sets.groups, sets.answers.tolist(), strict=True))
    names = sorted(answers)
    mixed = [names[at] for at in np.random.default_rng(0).permutation(len(names))]
    place = {name: rank % FOLDS for rank, name in enumerate(sorted(mixed, key=lambda name: answers[name]))}
    return np.array([place[group] for group in sets.groups], np.int64)


def regressed(values: Floats, wanted: Floats) -> Floats:
    """Return (F,) the regression of centred `wanted` (n,) on centred `values` (n, F), averaged over `COMPONENTS`.

    Where the values have fewer components than that, the last one stands for the rest.
    """
    left = values.copy()
    found, weights, loadings, shares = [np.zeros(values.shape[1])], list[Floats](), list[Floats](), list[float]()
    for _ in range(max(COMPONENTS)):
        weight = left.T @ wanted
        size = float(np.linalg.norm(weight))
        if size <= LEAST * len(wanted):
            break
        score = left @ (weight / size)
        length = float(score @ score)
        weights.append(weight / size)
        loadings.append(left.T @ score / length)
        shares.append(float(wanted @ score) / length)
        left -= np.outer(score, loadings[-1])
        across = np.stack(loadings) @ np.stack(weights, 1)
        found.append(np.stack(weights, 1) @ np.linalg.solve(across, np.array(shares)))
    mean: Floats = np.mean([found[min(count, len(found) - 1)] for count in COMPONENTS], axis=0)
    return mean


def _fitted(sets: TokenSets, wanted: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    centres, weights = {}, {}
    for name, (values, there) in _means(sets).items():
        centre = values[there].mean(0) if there.any() else np.zeros(values.shape[1])
        aim = wanted[there] - wanted[there].mean(0) if there.any() else wanted[there]
        centres[name] = centre
        weights[name] = np.stack([regressed(values[there] - centre, column) for column in aim.T], 1)
    return centres, weights


def _read(sets: TokenSets, centres: Mapping[str, Floats], weights: Mapping[str, Floats]) -> Floats:
    parts = [((values - centres[name]) @ weights[name]) * there[:, None] for name, (values, there) in _means(sets).items()]
    whole: Floats = np.sum(parts, axis=0)
    return whole


def _means(sets: TokenSets) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
    """Return of each modality the mean token (n, F) and who has any (n,)."""
    made: dict[str, tuple[Floats, NDArray[np.bool_]]] = {}
    for name, one in sets.modalities.items():
        counts = one.mask[..., None]
        mean = (one.values * counts).sum(1).astype(np.float64) / np.maximum(counts.sum(1), 1)
        made[name] = (mean, np.asarray(one.mask.any(1), np.bool_))
    return made


def _tensors(arrays: Mapping[str, Floats]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(one).float() for name, one in arrays.items()}
