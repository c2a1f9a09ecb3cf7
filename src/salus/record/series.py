"""Series of values on a record's clock: half-open windows, the last value at a time, a common grid.

Takes items and `salus.record.timeline.clock`; gives items and plain numbers. Nothing is filled in: an empty step is NaN with count 0,
and a value is carried forward only where `as_of` is asked, no further than its `within_s`. Leaves out cutting (`timeline.cut`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from salus.errors import ConfigError
from salus.record.normalise import is_usable
from salus.record.patient import Item, PatientRecord
from salus.record.timeline import clock
from salus.record.variables import series_key

Aggregate = Literal["mean", "last", "min", "max"]
FloatArray = NDArray[np.float64]
MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Series:
    """Usable numbers of one variable, in time order; of two at one time, in the order of their ids."""

    key: str
    """As `salus.record.variables.series_key`."""
    times_s: FloatArray
    """(n,) seconds on the record's clock."""
    values: FloatArray
    """(n,) in the variable's unit."""
    item_ids: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A series on equal steps."""

    times_s: FloatArray
    """(S,) start of each step; a step holds its start and not its end."""
    values: FloatArray
    """(S,) aggregate of the step, NaN where nothing was measured."""
    counts: NDArray[np.int64]
    """(S,) measurements in the step."""


def series_of(record: PatientRecord, *, key: str | None = None) -> dict[str, Series]:
    """Return the series of usable, timed numbers by key; who the patient is (demographic items) is none.

    Args:
        record: already cut at the prediction time.
        key: only this one; None: all.
    """
    seconds = clock(record)
    rows: dict[str, list[tuple[float, str, float]]] = {}
    for item in record.items:
        value, at = item.number, seconds.get(item.id)
        if value is None or at is None or item.category == "demographic" or not is_usable(item):
            continue
        own = series_key(item)
        if key is None or own == key:
            rows.setdefault(own, []).append((at, item.id, value))
    return {name: _series(name, sorted(points)) for name, points in sorted(rows.items())}


def _series(key: str, points: Sequence[tuple[float, str, float]]) -> Series:
    times, ids, values = zip(*points, strict=True)
    return Series(key, np.array(times, np.float64), np.array(values, np.float64), tuple(ids))


def window(items: Iterable[Item], seconds: Mapping[str, float], start_s: float, end_s: float) -> tuple[Item, ...]:
    """Return the items in [start, end) in time order: windows side by side hold each item once.

    Args:
        items: any order.
        seconds: item id → seconds, from `salus.record.timeline.clock`; an item that is not there is in no window.
        start_s: first moment that counts.
        end_s: first moment that no longer counts.

    Raises:
        ConfigError: the end is before the start.

    Example:
        >>> from salus.record.patient import Code, Source
        >>> items = [Item(name, "vitals_labs", Code("", "", ""), Source("", "")) for name in "abc"]
        >>> [item.id for item in window(items, {"a": 0.0, "b": 3600.0}, 0, 3600)]
        ['a']
    """
    if not start_s <= end_s:
        raise ConfigError(f"Cannot take the window from {start_s:g} s to {end_s:g} s: it ends before it starts. Swap them.")
    inside = [item for item in items if start_s <= seconds.get(item.id, float("nan")) < end_s]
    return tuple(sorted(inside, key=lambda item: (seconds[item.id], item.id)))


def as_of(items: Iterable[Item], seconds: Mapping[str, float], at_s: float, *, within_s: float) -> Item | None:
    """Return the last item at or before a time that is at most `within_s` old, or None: the one way to carry a value forward.

    Args:
        items: of one variable, any order.
        seconds: item id → seconds, from `salus.record.timeline.clock`.
        at_s: the time that is asked about.
        within_s: age beyond which a value says nothing; `math.inf`: no limit.

    Example:
        >>> from salus.record.patient import Code, Source
        >>> items = [Item(name, "vitals_labs", Code("", "", ""), Source("", "")) for name in "ab"]
        >>> as_of(items, {"a": 0.0, "b": 3600.0}, 5000, within_s=1500).id, as_of(items, {"a": 0.0, "b": 3600.0}, 5000, within_s=600)
        ('b', None)
    """
    past = [item for item in items if at_s - within_s <= seconds.get(item.id, float("nan")) <= at_s]
    return max(past, key=lambda item: (seconds[item.id], item.id), default=None)


def as_of_join(left_s: FloatArray, right: Series, *, within_s: float) -> NDArray[np.int64]:
    """Return for each time the place of the last value of a series at or before it, at most `within_s` old; -1 where there is none.

    Args:
        left_s: (n,) seconds, any order.
        right: the series that is joined.
        within_s: as of `as_of`.

    Returns:
        (n,) places in `right`.

    Example:
        >>> lactate = Series("lactate", np.array([0.0, 3600.0]), np.array([2.0, 4.0]), ("a", "b"))
        >>> as_of_join(np.array([-1.0, 10.0, 3600.0, 9000.0]), lactate, within_s=3600).tolist()
        [-1, 0, 1, -1]
    """
    place = np.searchsorted(right.times_s, left_s, side="right").astype(np.int64) - 1
    if not len(right.times_s):
        return place
    age = left_s - right.times_s[np.maximum(place, 0)]
    return np.where((place >= 0) & (age <= within_s), place, -1)


_AGGREGATES: Mapping[Aggregate, Callable[[FloatArray], Any]] = {
    "mean": np.mean, "last": lambda values: values[-1], "min": np.min, "max": np.max
}  # fmt: skip


def resample(series: Series, *, start_s: float, end_s: float, step_s: float, aggregate: Aggregate = "mean") -> Grid:
    """Return a series on equal steps from start to end; what lies outside is left out, an empty step stays empty.

    Args:
        series: one variable.
        start_s: start of the first step.
        end_s: the first moment that no longer counts (the prediction time); the last step may be cut short by it.
        step_s: length of a step, above 0.
        aggregate: of the values in one step.

    Raises:
        ConfigError: the step is not positive, the end is before the start, or the grid would have more than `MOST_STEPS` steps.

    Example:
        >>> pulse = Series("heart_rate", np.array([0.0, 50.0, 130.0]), np.array([80.0, 90.0, 70.0]), ("a", "b", "c"))
        >>> grid = resample(pulse, start_s=0, end_s=180, step_s=60)
        >>> grid.values.tolist(), grid.counts.tolist()
        ([85.0, nan, 70.0], [2, 0, 1])
    """
    if not (step_s > 0 and start_s <= end_s) or (end_s - start_s) / step_s > MOST_STEPS:
        raise ConfigError(
            f"Cannot resample from {start_s:g} s to {end_s:g} s in steps of {step_s:g} s: the step must be above 0, the end after the "
            f"start, and the steps at most {MOST_STEPS}. Choose a longer step."
        )
    steps = int(np.ceil((end_s - start_s) / step_s))
    starts: FloatArray = start_s + step_s * np.arange(steps, dtype=np.float64)
    inside = (series.times_s >= start_s) & (series.times_s < end_s)
    times, values = series.times_s[inside], series.values[inside]
    place = np.searchsorted(starts, times, side="right") - 1
    counts = np.bincount(place, minlength=steps).astype(np.int64)
    ends = np.cumsum(counts)
    out = np.full(steps, np.nan)
    for step in np.flatnonzero(counts):
        out[step] = _AGGREGATES[aggregate](values[ends[step] - counts[step] : ends[step]])
    return Grid(starts, out, counts)
