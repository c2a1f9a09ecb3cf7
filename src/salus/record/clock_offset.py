"""How far the clocks of two devices differ, estimated from one quantity that both measured. Proposes; corrects nothing.

Takes two series of one variable; gives an offset with its interval. A correction is made only when somebody declares it
(`clock_offsets` of the cohort manifest). Shapes: n points, K shifts, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus.errors import InputError
from salus.record.series import FloatArray, Series

LEAST_OVERLAP = 10
"""Points of the second series that must fall inside the first, at every offset that is searched."""
RESAMPLES = 200
BLOCKS = 12
"""Blocks of neighbouring points that the bootstrap draws: neighbours are not independent."""
MOST_POINTS = 2000
"""A longer second series is thinned evenly to this."""
CELLS = 1 << 20
"""Shift-point pairs held in memory at once."""


@dataclass(frozen=True)
class OffsetProposal:
    """By how much the second device's clock should be moved to agree with the first."""

    seconds: float
    low_s: float
    high_s: float
    """95 % interval, block bootstrap of the second series."""
    correlation: float
    """Pearson, at the best offset."""
    n: int
    """Points compared at the best offset."""

def propose_offset(first: Series, second: Series, *, most_s: float = 3600.0, step_s: float = 1.0, seed: int = 0) -> OffsetProposal:
    """Return the shift of the second series at which it agrees best with the first, by correlation with the first interpolated.

    Args:
        first: of the device whose clock is trusted.
        second: of the other device, the same variable.
        most_s: largest shift searched, both ways.
        step_s: resolution of the search.
        seed: of the bootstrap.

    Raises:
        InputError: too few points overlap, or one of the series does not vary: no offset can be told.

    Source: cross-correlation of irregular series by interpolation, Rehfeld et al., Nonlin Processes Geophys 2011;18:389-404,
    section 2.1; moving blocks, Künsch, Ann Stat 1989;17:1217-1241.

    Example:
        >>> t = np.arange(0, 3600, 20.0)
        >>> wave = lambda t: 80 + 10 * np.sin(t / 300) + 5 * np.sin(t / 70)
        >>> monitor = Series("heart_rate", t, wave(t), ("",) * len(t))
        >>> pump = Series("heart_rate", t - 37, wave(t), ("",) * len(t))  # its clock is 37 s slow
        >>> found = propose_offset(monitor, pump, most_s=120)
        >>> found.seconds, found.low_s <= 37 <= found.high_s
        (37.0, True)
    """
    if len(first.times_s) < LEAST_OVERLAP or len(second.times_s) < LEAST_OVERLAP:
        raise InputError(
            f"Cannot estimate a clock offset of {first.key!r}: {len(first.times_s)} and {len(second.times_s)} points, at least "
            f"{LEAST_OVERLAP} of each are needed. Measure longer, or declare the offset."
        )
    steps = int(most_s // step_s)
    shifts: FloatArray = np.arange(-steps, steps + 1, dtype=np.float64) * step_s
    thin = np.linspace(0, len(second.times_s) - 1, min(len(second.times_s), MOST_POINTS)).astype(int)
    times, values = second.times_s[thin], second.values[thin]
    every = _correlations(first, times, values, shifts, _weights(len(times), np.random.default_rng(seed)))  # (K, 1 + R)
    scores = every[:, 0]
    if not np.isfinite(scores).any():
        raise InputError(
            f"Cannot estimate a clock offset of {first.key!r}: within {most_s:g} s fewer than {LEAST_OVERLAP} points overlap, or they "
            "do not vary. Measure longer, or declare the offset."
        )
    best = int(np.nanargmax(scores))
    drawn = shifts[np.nanargmax(every[:, np.isfinite(every).any(0)], axis=0)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    seconds = float(shifts[best])
    compared = int(_inside(first, times + seconds).sum())
    return OffsetProposal(seconds, min(float(low), seconds), max(float(high), seconds), float(scores[best]), compared)


def _weights(points: int, rng: np.random.Generator) -> FloatArray:
    """Return (n, 1 + R) how often each point counts: once, then in each draw of moving blocks."""
    length = -(-points // BLOCKS)
    weights = np.ones((points, 1 + RESAMPLES))
    for draw in range(1, 1 + RESAMPLES):
        starts = rng.integers(0, points - length + 1, size=BLOCKS)
        rows = (starts[:, None] + np.arange(length)).ravel()
        weights[:, draw] = np.bincount(rows, minlength=points)
    return weights


def _inside(first: Series, times_s: FloatArray) -> NDArray[np.bool_]:
    return (times_s >= first.times_s[0]) & (times_s <= first.times_s[-1])  # type: ignore[no-any-return]


def _correlations(first: Series, times_s: FloatArray, values: FloatArray, shifts: FloatArray, weights: FloatArray) -> FloatArray:
    """Return (K, 1 + R) weighted Pearson correlations at each shift, NaN where too few points overlap or nothing varies."""
    centred, trusted = values - values.mean(), first.values - first.values.mean()
    rows = max(1, CELLS // len(times_s))
    out = []
    for start in range(0, len(shifts), rows):
        moved = times_s[None] + shifts[start : start + rows, None]  # (k, n)
        inside = _inside(first, moved)
        a = np.where(inside, np.interp(moved, first.times_s, trusted), 0.0)
        b = np.where(inside, centred[None], 0.0)
        count = inside @ weights
        safe = np.maximum(count, 1)
        within_a = np.maximum((a * a) @ weights - (a @ weights) ** 2 / safe, 0)
        within_b = np.maximum((b * b) @ weights - (b @ weights) ** 2 / safe, 0)
        scale = np.sqrt(within_a * within_b)
        usable = (count >= LEAST_OVERLAP) & (scale > 1e-9 * len(times_s))
        shared = (a * b) @ weights - (a @ weights) * (b @ weights) / safe
        out.append(np.where(usable, shared / np.where(usable, scale, 1.0), np.nan))
    return np.concatenate(out)
