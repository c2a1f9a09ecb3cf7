"""Answers to record questions by a second, independent rule: plain loops over the items.

Takes a record; gives, per question family, the exact short answer and the items that contain it. It imports nothing of
`salus.reason`, since that is what the answers test; it shares only how a number, a unit and a time are printed.
Gives no answer where the record leaves one open: two values of one series at the moment asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from statistics import median

from salus.errors import Bug
from salus.record.patient import Code, Instant, Item, Offset, PatientRecord
from salus.record.timeline import format_time
from salus.record.variables import Variable, series_key, variable_of
from salus.units import words


@dataclass(frozen=True)
class Known:
    """A known answer."""

    answer: str
    item_ids: tuple[str, ...]
    """The items that contain the answer."""


@dataclass(frozen=True)
class Series:
    """The plausible numbers of one variable, oldest first."""

    key: str
    variable: Variable | None
    items: tuple[Item, ...]
    """Items with a number, a time and a plausible value; times may repeat."""
    values: tuple[float, ...]
    """Their numbers, as printed."""
    moments: tuple[float, ...]
    """Their times as numbers."""


def _moment(item: Item) -> float:
    """Return an item's time as a number that orders times of one kind (all records here have one clock)."""
    time = item.observed_at
    if time is None:
        raise Bug("An item without a time is in a series.")
    return time.seconds if isinstance(time, Offset) else time.at.timestamp()


def _is_plausible(item: Item, variable: Variable | None) -> bool:
    value = item.number
    if value is None or variable is None:
        return value is not None
    low, high = variable.accepted or (-math.inf, math.inf)
    return item.unit == variable.unit and low <= value <= high


def series_of(record: PatientRecord) -> tuple[Series, ...]:
    """Return the measured series of a record, by key; without those that mix words, units or unknown times with numbers."""
    by_code: dict[Code, list[Item]] = {}
    for item in record.items:
        if item.category == "observation" and item.value is not None:
            by_code.setdefault(item.code, []).append(item)
    groups: dict[str, list[Item]] = {}
    for items in by_code.values():
        groups.setdefault(series_key(items[0]), []).extend(items)
    found = []
    for key in sorted(groups):
        variable = variable_of(groups[key][0].code)
        kept = [item for item in groups[key] if _is_plausible(item, variable)]
        is_uniform = len({item.unit for item in kept}) == 1 and all(item.number is not None for item in groups[key])
        if is_uniform and all(item.observed_at is not None for item in kept):
            kept.sort(key=_moment)
            values = tuple(float(_printed(item.number)) for item in kept if item.number is not None)
            found.append(Series(key, variable, tuple(kept), values, tuple(_moment(item) for item in kept)))
    return tuple(found)


def _printed(value: float) -> str:
    """Return a number as its source writes it; six significant digits where it has more than eight."""
    exact = Decimal(repr(value))
    if len(exact.normalize().as_tuple().digits) > 8:
        exact = Decimal(f"{value:.6g}")
    text = f"{exact:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _with_unit(text: str, item: Item) -> str:
    return f"{text} {words(item.unit or '1')}".strip()


def _when(item: Item) -> str:
    """Return the time of an item with its preposition; an offset leaves out `after admission`."""
    time = item.observed_at
    if time is None:
        raise Bug("An item without a time is in a series.")
    text = format_time(time)
    if isinstance(time, Offset):
        return text if text.startswith("at ") else f"at {text.removesuffix(f' after {time.anchor}')}"
    preposition = {"day": "on", "month": "in", "year": "in"}.get(time.precision, "at")
    return f"{preposition} {text}"


def _shown(series: Series, positions: Sequence[int]) -> Known:
    """Return value and time at the first of the positions, resting on all of them (they have one value)."""
    first = series.items[positions[0]]
    return Known(
        f"{_with_unit(_printed(series.values[positions[0]]), first)} {_when(first)}",
        tuple(series.items[position].id for position in positions),
    )


def _is_open(series: Series, position: int) -> bool:
    """Return whether the first (0) or last (-1) moment has several values."""
    moment = series.moments[position]
    return len({value for value, at in zip(series.values, series.moments, strict=True) if at == moment}) > 1


def latest(series: Series) -> Known | None:
    """Return the last value with its time."""
    return None if _is_open(series, -1) else _shown(series, [-1])


def earliest(series: Series) -> Known | None:
    """Return the first value with its time."""
    return None if _is_open(series, 0) else _shown(series, [0])


def highest(series: Series) -> Known | None:
    """Return the highest value with the time at which it was first reached; it rests on all items that have it."""
    top = max(series.values)
    return _shown(series, [position for position, value in enumerate(series.values) if value == top])


def lowest(series: Series) -> Known | None:
    """Return the lowest value with the time at which it was first reached; it rests on all items that have it."""
    bottom = min(series.values)
    return _shown(series, [position for position, value in enumerate(series.values) if value == bottom])


def change(series: Series) -> Known | None:
    """Return by how much the last value differs from the first; less than the variable's `least_change` is about the same."""
    if len(series.items) < 2 or _is_open(series, 0) or _is_open(series, -1):
        return None
    first, last = series.items[0], series.items[-1]
    start, end = _printed(series.values[0]), _printed(series.values[-1])
    difference = Decimal(end) - Decimal(start)
    size = f"{abs(difference):f}"
    size = size.rstrip("0").rstrip(".") if "." in size else size
    if _sign(series, float(difference)) == 0:
        answer = f"about the same, from {_with_unit(start, first)} to {_with_unit(end, last)}"
    else:
        answer = f"{'rose' if difference > 0 else 'fell'} by {_with_unit(size, last)}"
    return Known(answer, (first.id, last.id))


def _sign(series: Series, difference: float) -> int:
    least = series.variable.least_change if series.variable else 0.0
    if difference == 0 or abs(difference) + 1e-9 < least:
        return 0
    return 1 if difference > 0 else -1


def _tau_b(times: Sequence[float], values: Sequence[float]) -> float:
    """Return Kendall's tau-b as (P - Q) / sqrt((n0 - n1)(n0 - n2)). Source: Kendall, Biometrika 1945, 33:239."""
    n = len(values)
    balance = 0
    for later in range(n):
        for earlier in range(later):
            balance += _compare(times[later], times[earlier]) * _compare(values[later], values[earlier])
    pairs = n * (n - 1) // 2
    free = [pairs - sum(m * (m - 1) // 2 for m in Counter(numbers).values()) for numbers in (times, values)]
    return balance / math.sqrt(free[0] * free[1]) if free[0] and free[1] else 0.0


def _compare(left: float, right: float) -> int:
    return (left > right) - (left < right)


def trend(series: Series) -> Known | None:
    """Return `rising`, `falling`, `steady` or `fluctuating`, by the rule that `salus.reason.lookup.trend` states.

    Three values at least. Rising: tau-b of value with time is 0.3 or more, and the median of the last third (n // 3 values) is
    above that of the first by the variable's `least_change` or more. Falling: the mirror image. Else steady when highest minus
    lowest is at most half the variable's `spread` (a tenth of the absolute median without one), else fluctuating.
    """
    values = series.values
    if len(values) < 3:
        return None
    third = len(values) // 3
    sign = _sign(series, median(values[len(values) - third :]) - median(values[:third]))
    tau = _tau_b(series.moments, values)
    width = series.variable.spread / 2 if series.variable else abs(median(values)) / 10
    if sign * tau >= 0.3:
        answer = "rising" if sign > 0 else "falling"
    else:
        answer = "steady" if max(values) - min(values) <= width else "fluctuating"
    return Known(answer, tuple(item.id for item in series.items))


def count(series: Series) -> Known | None:
    """Return how many plausible values there are."""
    return Known(str(len(series.items)), tuple(item.id for item in series.items))


def out_of_range(series: Series) -> Known | None:
    """Return `high`, `low` or `in range` for the last value, by the range the record states, else the variable's."""
    if _is_open(series, -1):
        return None
    last, value = series.items[-1], series.values[-1]
    limits = last.reference_range or (series.variable.reference if series.variable else None)
    if limits is None or (limits.low is None and limits.high is None):
        return None
    if limits.high is not None and value > limits.high:
        return Known("high", (last.id,))
    is_low = limits.low is not None and value < limits.low
    return Known("low" if is_low else "in range", (last.id,))


BY_SERIES: Mapping[str, Callable[[Series], Known | None]] = {
    "latest": latest,
    "earliest": earliest,
    "highest": highest,
    "lowest": lowest,
    "change": change,
    "trend": trend,
    "count": count,
    "out_of_range": out_of_range,
    "when_highest": highest,
    "when_latest": latest,
}
"""Families asked about one series; a question about a time is answered with the value and its time."""


IS_ACTIVE = frozenset(("active", "in-progress", "recurrence", "relapse"))
LISTS = {"active_medicines": "medication", "active_conditions": "condition", "allergies": "allergy"}
"""Families that ask for a list → category of its items."""
BIRTH = "21112-8"
AGE = "30525-0"
SEX = "76689-9"


def active_names(record: PatientRecord, category: str) -> Known | None:
    """Return the names that are active, each once, latest first, joined by `; `.

    None: a status is not known, or the record holds no history at all (no condition), so that nobody would ask.

    Active: the status says so, and no end is known. Of one name, the latest item decides its place; items of one moment stand in
    the record's order.
    """
    items = [item for item in record.items if item.category == category]
    is_open = any(item.status is None or item.observed_at is None for item in items)
    if is_open or not any(item.category == "condition" for item in record.items):
        return None
    active = [item for item in items if item.status in IS_ACTIVE and item.ended_at is None]
    names: dict[str, str] = {}
    for item in sorted(active, key=_moment, reverse=True):
        names.setdefault(item.code.display.lower(), item.code.display)
    return Known("; ".join(names.values()) or "none recorded", tuple(item.id for item in active))


def age(record: PatientRecord) -> Known | None:
    """Return the age as stated, or `about` the years from the birth year to the latest time in the record."""
    for item in record.items:
        if item.code.code == AGE and item.number is not None:
            return Known(f"{_printed(item.number)} years", (item.id,))
    births = [item for item in record.items if item.code.code == BIRTH and isinstance(item.observed_at, Instant)]
    times = [
        item.observed_at.at for item in record.items if item.category != "demographic" and isinstance(item.observed_at, Instant)
    ]
    if (
        len(births) != 1
        or not times
        or not isinstance(births[0].observed_at, Instant)
        or births[0].observed_at.precision != "year"
    ):
        return None
    return Known(f"about {max(times).year - births[0].observed_at.at.year} years", (births[0].id,))


def sex(record: PatientRecord) -> Known | None:
    """Return the sex in the record's word."""
    stated = [item for item in record.items if item.code.code == SEX and isinstance(item.value, str)]
    return Known(str(stated[0].value), (stated[0].id,)) if len(stated) == 1 else None


WHOLE: Mapping[str, Callable[[PatientRecord], Known | None]] = {
    **{family: partial(active_names, category=category) for family, category in LISTS.items()},
    "age": age,
    "sex": sex,
}
"""Families asked about the whole record."""


def measured(series: Series | None) -> Known | None:
    """Return yes for a series of the record, and no for a variable of which the record holds nothing."""
    return Known("no", ()) if series is None else Known("yes", tuple(item.id for item in series.items))
