"""Summary statistics of irregular measurements: one row per variable, NaN where nothing is known.

Takes times and values by variable; gives (V, F) statistics and a coarse grid. Nothing is filled in. Holds no network and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import Bug

FloatArray = NDArray[np.floating[Any]]

STATISTICS = (
    "first", "last", "min", "max", "mean", "median", "std", "change", "slope_per_h", "log_count",
    "first_time_h", "last_time_h", "mean_first_half", "mean_last_half", "mean_last_quarter", "mean_last_eighth",
)  # fmt: skip


def summarise(times_h: Sequence[FloatArray], values: Sequence[FloatArray], *, window_h: float = 48.0) -> NDArray[np.float32]:
    """Return the summary statistics of each variable over a window.

    A constant such as age is a variable with one value at hour 0. Std, change and slope need two measurements, the mean of a part of
    the window needs one inside it; what does not exist is NaN. Measurements outside the window are ignored.

    Args:
        times_h: V arrays of hours since the window's start, each in ascending order.
        values: V arrays of the same lengths, each in its variable's own unit.
        window_h: hours from the window's start to the prediction time.

    Returns:
        (V, F) float32 in the order of `STATISTICS`.

    Example:
        >>> row = summarise([np.array([0.0, 47.0])], [np.array([80.0, 90.0])])[0]
        >>> float(row[STATISTICS.index("change")]), float(row[STATISTICS.index("mean_last_eighth")])
        (10.0, 90.0)
        >>> bool(np.isnan(summarise([np.array([])], [np.array([])])).all())
        True
    """
    return np.stack([_row(t, x, window_h) for t, x in zip(times_h, values, strict=True)]).astype(np.float32)


def _row(times_h: FloatArray, values: FloatArray, window_h: float) -> NDArray[np.float64]:
    if len(times_h) != len(values):
        raise Bug(f"Cannot summarise: {len(times_h)} times but {len(values)} values of one variable.")
    t, x = np.asarray(times_h, np.float64), np.asarray(values, np.float64)
    inside = (t >= 0) & (t <= window_h) & np.isfinite(x)
    t, x = t[inside], x[inside]
    if not len(x):
        return np.full(len(STATISTICS), np.nan)
    is_repeated = len(x) > 1
    centred = t - t.mean()
    spread = float(centred @ centred)
    parts = [_mean(x[t < window_h / 2])] + [_mean(x[t >= window_h * (1 - share)]) for share in (0.5, 0.25, 0.125)]
    return np.array([
        x[0], x[-1], x.min(), x.max(), x.mean(), np.median(x),
        x.std() if is_repeated else np.nan,
        x[-1] - x[0] if is_repeated else np.nan,
        centred @ x / spread if spread > 0 else np.nan,
        np.log1p(len(x)), t[0], t[-1], *parts,
    ])  # fmt: skip


def _mean(x: NDArray[np.float64]) -> float:
    return float(x.mean()) if len(x) else float("nan")


def gridded(times_h: Sequence[FloatArray], values: Sequence[FloatArray], *, window_h: float, steps: int) -> NDArray[np.float32]:
    """Return (steps, V) means of each variable over equal parts of the window, NaN where nothing was measured.

    Example:
        >>> gridded([np.array([0.0, 1.0, 47.0])], [np.array([80.0, 90.0, 100.0])], window_h=48.0, steps=24)[[0, 23], 0].tolist()
        [85.0, 100.0]
    """
    out = np.full((steps, len(values)), np.nan, dtype=np.float32)
    for column, (t, x) in enumerate(zip(times_h, values, strict=True)):
        inside = (t >= 0) & (t <= window_h) & np.isfinite(x)
        place = np.minimum((t[inside] / window_h * steps).astype(int), steps - 1)
        count = np.bincount(place, minlength=steps)
        total = np.bincount(place, weights=x[inside], minlength=steps)
        seen = count > 0
        out[seen, column] = total[seen] / count[seen]
    return out
