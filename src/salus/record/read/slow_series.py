"""Series of a sensor that reads every few minutes, such as a glucose monitor: from rows of a table to a waveform on the sensor's grid.

Takes times and values; gives an item with missing readings as NaN. Interpolates nothing: a reading moves to the nearest step.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import numpy as np
from numpy.typing import NDArray

from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Instant, Item, ObservedTime, Offset, Signal, Source, item_id
from salus.record.read.channels import claim_keys, kind_of

SLOW_KINDS = frozenset({"glucose"})
MOST_STEPS = 2_000_000
"""About twenty years at five minutes: times further apart are an error of the clock, and stay single values."""
LEAST_READINGS = 12


def is_slow(name: str) -> bool:
    """Return whether a column holds the readings of a sensor that is one series.

    Example:
        >>> is_slow("cgm"), is_slow("glucose"), is_slow("hr")
        (True, False, False)
    """
    return kind_of(name) in SLOW_KINDS


def on_grid(seconds: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float32], float, int] | None:
    """Return values on an even grid from the first time, its step in seconds, and how many readings fell on a taken step.

    The step is the median distance of neighbours, to the second. None when there are too few, or they lie too far apart.

    Example:
        >>> on_grid(np.array([0.0, 301.0, 599.0, 1500.0] + [1800.0 + 300 * n for n in range(9)]), np.arange(13.0))[0][:6].tolist()
        [0.0, 1.0, 2.0, nan, nan, 3.0]
    """
    order = np.argsort(seconds, kind="stable")
    seconds, values = seconds[order], values[order]
    steps = np.diff(seconds)
    if len(values) < LEAST_READINGS or not (steps > 0).any():
        return None
    step_s = max(1.0, float(np.round(np.median(steps[steps > 0]))))
    places = np.round((seconds - seconds[0]) / step_s).astype(np.int64)
    if places[-1] >= MOST_STEPS:
        return None
    grid = np.full(int(places[-1]) + 1, np.nan, dtype=np.float32)
    grid[places] = values
    return grid, step_s, len(places) - len(np.unique(places))


def slow_item(file: tuple[str, str], name: str, unit: str, *, times: Sequence[ObservedTime], values: NDArray[np.float64]) -> Item | None:
    """Return the readings of one column as one waveform, or None when they do not make one.

    Args:
        file: path and SHA-256.
        name: the column's.
        unit: UCUM.
        times: of the same clock, any order.
        values: as many numbers.
    """
    first = times[0]
    if isinstance(first, Instant):
        start = min(time.at for time in times if isinstance(time, Instant))
        seconds = np.array([(time.at - start).total_seconds() for time in times if isinstance(time, Instant)])
        begins: ObservedTime = Instant(start, first.precision, first.zone_is_stated)
    else:
        offsets = np.array([time.seconds for time in times if isinstance(time, Offset)])
        seconds, begins = offsets - offsets.min(), Offset(float(offsets.min()), first.anchor, first.precision)
    found = on_grid(seconds, values) if len(seconds) == len(values) else None
    if found is None:
        return None
    grid, step_s, doubled = found
    length_s = len(grid) * step_s
    missing = int(np.isnan(grid).sum())
    remarks = [f"readings moved to the nearest step of {step_s:g} s"]
    remarks += [f"{missing} of {len(grid)} readings are missing"] if missing else []
    remarks += [f"{doubled} readings share a step with a later one, which is kept"] if doubled else []
    ends: ObservedTime = (
        Instant(begins.at + timedelta(seconds=length_s), begins.precision, begins.zone_is_stated)
        if isinstance(begins, Instant)
        else Offset(begins.seconds + length_s, begins.anchor, begins.precision)
    )
    summary = f"1 channel ({name}), every {step_s:g} s, {_words(length_s)}"
    locator = f"series of column {name!r}"
    return Item(
        id=item_id(file[1], locator),
        modality=modality_of(*claim_keys(name)),
        code=Code("column", name.lower(), f"waveform {name}"),
        source=Source(*file, locator),
        observed_at=begins,
        ended_at=ends,
        category="waveform",
        content=Content("signal", partial(_signal, grid, name, unit, 1 / step_s), summary),
        remarks=tuple(remarks),
    )


def _signal(grid: NDArray[np.float32], name: str, unit: str, rate_hz: float) -> Signal:
    return Signal(grid[None], (name,), (unit,), rate_hz)


def _words(seconds: float) -> str:
    return f"{seconds / 86400:.3g} days" if seconds >= 2 * 86400 else f"{seconds / 3600:.3g} h"
