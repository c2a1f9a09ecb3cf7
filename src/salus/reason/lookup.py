"""Facts about one series, looked up by code: latest, earliest, highest, lowest, change, trend, count, measured, out of range.

Takes a `Series`; gives `Fact` objects whose sentences are uniform by kind, with the items that they rest on. Pure functions; no
language model. Lists of medicines and the like, and facts about the person, are in `salus.reason.lists`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from statistics import median

import numpy as np

from salus.reason.facts import Direction, Fact, FactKind, Quantity
from salus.reason.series import Point, Series, at, brief, printed_number, with_unit
from salus.record.patient import Offset, ReferenceRange

LEAST_FOR_TREND = 3
LEAST_TAU = 0.3
"""Kendall's tau from which a series is called rising or falling."""


def latest(series: Series) -> Fact | None:
    """Return the latest value; of several at that moment, the one that the record gives last. None: no value has a time."""
    points = series.timed or (series.points if len(series.points) == 1 else ())
    return _single("latest", series, (points[-1],)) if points else None


def earliest(series: Series) -> Fact | None:
    """Return the first value; of several at that moment, the one that the record gives first. None: no value has a time."""
    points = series.timed or (series.points if len(series.points) == 1 else ())
    return _single("earliest", series, (points[0],)) if points else None


def highest(series: Series) -> Fact | None:
    """Return the highest value, citing every item that has it. None: the series is of words."""
    return _extreme("highest", series) if series.is_numeric else None


def lowest(series: Series) -> Fact | None:
    """Return the lowest value, citing every item that has it. None: the series is of words."""
    return _extreme("lowest", series) if series.is_numeric else None


def change(series: Series) -> Fact | None:
    """Return the change from the first to the last value, as the difference of the printed numbers.

    It is called a rise or fall when it is at least the variable's `least_change`, and not zero. None: fewer than two values
    have a time.
    """
    points = series.timed
    if len(points) < 2 or not series.is_numeric:
        return None
    first, last = points[0], points[-1]
    difference = Decimal(last.printed) - Decimal(first.printed)
    direction = _direction(series, float(difference))
    amount = format(abs(difference), "f")
    amount = amount.rstrip("0").rstrip(".") if "." in amount else amount
    by = with_unit(amount, series.unit)
    start, end = _span(first, last)
    values = with_unit(first.printed, series.unit), with_unit(last.printed, series.unit)
    if direction == "unchanged":
        short = f"about the same, from {values[0]} to {values[1]}"
        verb = "stayed about the same"
    else:
        short = verb = f"{direction} by {by}"
    return Fact(
        kind="change",
        subject=series.subject,
        series=series.key,
        text=f"{_capital(series.subject)} {verb}, from {values[0]} {start} to {values[1]} {end}{_beyond(series, last)}.",
        short=short,
        item_ids=_ids((first, last)),
        quantities=(
            _quantity(series, first.printed),
            _quantity(series, last.printed),
            *((_quantity(series, amount),) if direction != "unchanged" else ()),
        ),
        times=(brief(first.item.observed_at), brief(last.item.observed_at)),
        direction=direction,
        salience=abs(float(difference)) / series.variable.spread if series.variable else 0.0,
        source=_range_source(series, last),
    )


def trend(series: Series) -> Fact | None:
    """Return whether the values were rising, falling, steady or fluctuating; all of them are cited.

    Rule, over the values that have a time, at least three: `rising` when Kendall's tau-b of value with time is at least 0.3 and
    the median of the last third exceeds that of the first third by at least `least_change` (and more than nothing); `falling`
    when
    both hold downwards; else `steady` when highest minus lowest is at most half the variable's `spread` (a tenth of the absolute
    median where no spread is known); else `fluctuating`. A third has n // 3 values, at least one. None: fewer than three values.

    Source: Kendall, Biometrika 1938, 30:81 (tau); 1945, 33:239 (ties).
    """
    points = series.timed
    if len(points) < LEAST_FOR_TREND or not series.is_numeric:
        return None
    values = [point.value for point in points]
    third = max(1, len(values) // 3)
    shift = median(values[-third:]) - median(values[:third])
    tau = kendall_tau([point.seconds or 0.0 for point in points], values)
    direction = _direction(series, shift)
    band = series.variable.spread / 2 if series.variable else abs(median(values)) / 10
    if direction == "rose" and tau >= LEAST_TAU:
        word = "rising"
    elif direction == "fell" and tau <= -LEAST_TAU:
        word = "falling"
    else:
        word = "steady" if max(values) - min(values) <= band else "fluctuating"
    start, end = brief(points[0].item.observed_at), at(points[-1].item.observed_at).split(" ", 1)[1]
    return Fact(
        kind="trend",
        subject=series.subject,
        series=series.key,
        text=f"Trend of {series.subject}: {word}, over {len(points)} values from {start} to {end}.",
        short=word,
        item_ids=_ids(points),
        quantities=(Quantity(str(len(points)), len(points), "1"),),
        times=(brief(points[0].item.observed_at), brief(points[-1].item.observed_at)),
        direction={"rising": "rose", "falling": "fell"}.get(word, "unchanged"),  # type: ignore[arg-type]
    )


def kendall_tau(times: Sequence[float], values: Sequence[float]) -> float:
    """Return Kendall's tau-b; 0 where all times or all values are equal.

    Example:
        >>> kendall_tau([0, 1, 2, 3], [1, 2, 3, 4]), kendall_tau([0, 1, 2], [5, 5, 5])
        (1.0, 0.0)
    """
    by_time, by_value = (np.sign(np.subtract.outer(x, x)) for x in (np.asarray(times), np.asarray(values)))  # (n, n)
    pairs = np.count_nonzero(by_time) * np.count_nonzero(by_value)
    return float((by_time * by_value).sum() / pairs**0.5) if pairs else 0.0


def count(series: Series) -> Fact:
    """Return how many usable values there are."""
    n = len(series.points)
    return Fact(
        kind="count",
        subject=series.subject,
        series=series.key,
        text=f"Number of {series.subject} values: {n}.",
        short=str(n),
        item_ids=_ids(series.points),
        quantities=(Quantity(str(n), n, "1"),),
    )


def measured(series: Series) -> Fact:
    """Return that there is a value, with the latest one's time."""
    last = series.points[-1]
    n = len(series.points)
    return Fact(
        kind="measured",
        subject=series.subject,
        series=series.key,
        text=f"Yes, {series.subject} was measured {n} times, last {at(last.item.observed_at)}."
        if n > 1
        else f"Yes, {series.subject} was measured {at(last.item.observed_at)}.",
        short="yes",
        item_ids=_ids(series.points),
        quantities=(Quantity(str(n), n, "1"),) if n > 1 else (),
        times=(brief(last.item.observed_at),),
    )


def not_recorded(subject: str, key: str, *, is_yes_no: bool = False) -> Fact:
    """Return that the record holds no usable value of a variable.

    Example:
        >>> not_recorded("lactate", "lactate").text
        'No lactate is recorded.'
    """
    return Fact("not_recorded", subject, key, f"No {subject} is recorded.", "no" if is_yes_no else "not recorded", ())


def out_of_range(series: Series) -> Fact | None:
    """Return whether the latest value lies in its reference range, and how many values do not; `source` names the range's source.

    Each value is compared with the range that its own item states, else with the variable's. None: no range is known for the
    latest.
    """
    last = series.points[-1]
    if not series.is_numeric or (limits := range_of(series, last)) is None:
        return None
    compared = [(point, side) for point in series.points if (side := side_of(series, point)) is not None]
    outside = [point for point, side in compared if side != "within"]
    side = side_of(series, last)
    span = _range_words(limits, series.unit)
    tally = f" {len(outside)} of {len(compared)} values were outside." if len(compared) > 1 else ""
    return Fact(
        kind="out_of_range",
        subject=series.subject,
        series=series.key,
        text=f"Latest {series.subject}, {with_unit(last.printed, series.unit)} {at(last.item.observed_at)}, "
        f"is {side} the reference range {span}.{tally}",
        short="in range" if side == "within" else "high" if side == "above" else "low",
        item_ids=_ids([point for point, _ in compared]),
        quantities=(
            _quantity(series, last.printed),
            *(_quantity(series, printed_number(limit)) for limit in (limits.low, limits.high) if limit is not None),
            *((Quantity(str(len(outside)), len(outside), "1"), Quantity(str(len(compared)), len(compared), "1")) if tally else ()),
        ),
        times=(brief(last.item.observed_at),),
        salience=distance_outside(series, last),
        source=limits.source,
    )


def facts_of(series: Series) -> tuple[Fact, ...]:
    """Return every fact about a series, in the order in which a general question wants them."""
    made = (
        latest(series), change(series), trend(series), out_of_range(series), highest(series), lowest(series), earliest(series),
        count(series), measured(series),
    )  # fmt: skip
    return tuple(fact for fact in made if fact is not None)


def range_of(series: Series, point: Point) -> ReferenceRange | None:
    """Return the range of a value: its own item's, else the variable's where the unit is the variable's."""
    if point.item.reference_range is not None:
        return point.item.reference_range
    return series.variable.reference if series.variable and series.variable.unit == series.unit else None


def side_of(series: Series, point: Point) -> str | None:
    """Return `above`, `below` or `within`; None when no range is known. The limits themselves are within."""
    limits = range_of(series, point)
    if limits is None or (limits.low is None and limits.high is None):
        return None
    if limits.high is not None and point.value > limits.high:
        return "above"
    return "below" if limits.low is not None and point.value < limits.low else "within"


def distance_outside(series: Series, point: Point) -> float:
    """Return how far a value lies outside its range, in widths of the range; 0 inside.

    The width of a range with one limit is the absolute value of that limit (1 if that is 0).
    """
    limits = range_of(series, point)
    if limits is None:
        return 0.0
    low, high = limits.low, limits.high
    width = high - low if low is not None and high is not None else abs(high if high is not None else low or 0.0)
    beyond = max(point.value - high if high is not None else 0.0, low - point.value if low is not None else 0.0, 0.0)
    return beyond / (width or 1.0)


def _single(kind: FactKind, series: Series, points: Sequence[Point]) -> Fact:
    """Return a fact of one value, at the time of the first of its points."""
    point, n = points[0], len(points)
    value, time = with_unit(point.printed, series.unit if series.is_numeric else "1"), at(point.item.observed_at)
    ties = f", and {n - 1} {'times' if n > 2 else 'time'} more" if n > 1 else ""
    is_timed = point.item.observed_at is not None
    return Fact(
        kind=kind,
        subject=series.subject,
        series=series.key,
        text=f"{_capital(kind)} {series.subject}: {value} {time}{ties}{_beyond(series, point)}.",
        short=f"{value} {_short_at(point)}" if is_timed else value,
        item_ids=_ids(points),
        quantities=(
            *((_quantity(series, point.printed),) if series.is_numeric else ()),
            *((Quantity(str(n - 1), n - 1, "1"),) if n > 1 else ()),
        ),
        times=(brief(point.item.observed_at),) if is_timed else (),
        names=() if series.is_numeric else (point.printed,),
        source=_range_source(series, point),
    )


def _extreme(kind: FactKind, series: Series) -> Fact:
    value = (max if kind == "highest" else min)(point.value for point in series.points)
    return _single(kind, series, [point for point in series.points if point.value == value])


def _direction(series: Series, difference: float) -> Direction:
    least = series.variable.least_change if series.variable else 0.0
    if difference == 0 or abs(difference) < least - 1e-9:
        return "unchanged"
    return "rose" if difference > 0 else "fell"


def _span(first: Point, last: Point) -> tuple[str, str]:
    """Return both times with prepositions; `after admission` is said once."""
    start, end = first.item.observed_at, last.item.observed_at
    if isinstance(start, Offset) and isinstance(end, Offset) and start.anchor == end.anchor and 0 < start.seconds <= end.seconds:
        return f"at {brief(start)}", at(end)
    return at(start), at(end)


def _short_at(point: Point) -> str:
    time = point.item.observed_at
    return f"at {brief(time)}" if isinstance(time, Offset) else at(time)


def _beyond(series: Series, point: Point) -> str:
    side = side_of(series, point) if series.is_numeric else None
    return f" ({side} the reference range)" if side in ("above", "below") else ""


def _range_source(series: Series, point: Point) -> str | None:
    limits = range_of(series, point) if _beyond(series, point) else None
    return limits.source if limits else None


def _range_words(limits: ReferenceRange, unit: str) -> str:
    low, high = (None if limit is None else printed_number(limit) for limit in (limits.low, limits.high))
    if low is not None and high is not None:
        return with_unit(f"{low}–{high}", unit)
    return with_unit(f"up to {high}" if high is not None else f"from {low}", unit)


def _quantity(series: Series, printed: str) -> Quantity:
    return Quantity(printed, float(printed), series.unit)


def _ids(points: Sequence[Point]) -> tuple[str, ...]:
    return tuple(point.item.id for point in points)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
