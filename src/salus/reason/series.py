"""Series of a record: the usable values of one variable, in order of time.

Takes a `PatientRecord`; gives `Series` by key. Items that describe the person (age, sex, unit of care) are no series, and
values that normalisation marked as implausible are left out. Words for numbers and times stand here, so that every fact prints
them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from salus.record.normalise import is_usable
from salus.record.patient import Instant, Item, ObservedTime, Offset, PatientRecord
from salus.record.timeline import clock, format_time
from salus.record.variables import Variable, key_of, variable_of
from salus.units import number, words

DESCRIPTORS = frozenset(("icu2012:age", "icu2012:gender", "icu2012:icutype", "loinc:30525-0", "loinc:21112-8", "column:age"))
"""Keys of items that describe the person or the stay; facts about them are demographic."""
MOST_DIGITS = 8
"""A number with more significant digits than this is noise of a conversion or simulation, and is printed with six."""


@dataclass(frozen=True)
class Point:
    """One value of a series."""

    item: Item
    seconds: float | None
    """On the record's clock; None when the source states no time."""
    printed: str
    """Number (or words) without unit, as the source gives it."""

    @property
    def value(self) -> float:
        """The number as printed; NaN for words."""
        return float(self.printed) if self.item.number is not None else float("nan")


@dataclass(frozen=True)
class Series:
    """All usable values of one variable in one unit."""

    key: str
    subject: str
    """Words: `creatinine`."""
    unit: str
    """UCUM; `1` for none."""
    points: tuple[Point, ...]
    """By time, as the record orders them within one moment; points without a time come first."""
    variable: Variable | None
    is_numeric: bool

    @property
    def timed(self) -> tuple[Point, ...]:
        """The points that have a time."""
        return tuple(point for point in self.points if point.seconds is not None)


def printed_number(value: float) -> str:
    """Return a number as its source gives it, without the noise of binary arithmetic.

    Example:
        >>> printed_number(1.1), printed_number(80.0), printed_number(1234567.0), printed_number(167.89421148380202)
        ('1.1', '80', '1234567', '167.894')
    """
    if value.is_integer():
        return str(int(value))
    exact = Decimal(repr(value))
    return format(exact, "f") if len(exact.as_tuple().digits) <= MOST_DIGITS else number(value)


def with_unit(printed: str, unit: str) -> str:
    """Return a printed number with its unit in words.

    Example:
        >>> with_unit("120", "mm[Hg]"), with_unit("7.4", "[pH]"), with_unit("0.5", "1")
        ('120 mmHg', '7.4', '0.5')
    """
    return f"{printed} {words(unit)}".rstrip()


def at(time: ObservedTime | None) -> str:
    """Return a time with its preposition.

    Example:
        >>> at(Offset(145_800, "admission")), at(Offset(0, "admission")), at(None)
        ('at 40 h 30 min after admission', 'at admission', 'at an unknown time')
    """
    if time is None:
        return "at an unknown time"
    text = format_time(time)
    if text.startswith("at "):
        return text
    if isinstance(time, Instant) and time.precision in ("year", "month", "day"):
        return f"{'on' if time.precision == 'day' else 'in'} {text}"
    return f"at {text}"


def brief(time: ObservedTime | None) -> str:
    """Return a time without its preposition, and without `after admission` (for short answers and the first of two times).

    Example:
        >>> brief(Offset(145_800, "admission")), brief(Offset(0, "admission"))
        ('40 h 30 min', 'admission')
    """
    text = at(time).split(" ", 1)[1]
    if isinstance(time, Offset):
        return text.removesuffix(f" after {time.anchor}")
    return text


def series_of(record: PatientRecord) -> dict[str, Series]:
    """Return the series of a record by key, sorted by key.

    Values of one code in several units that nothing converted form one series each, with the unit in the key.
    """
    seconds = clock(record)
    groups: dict[tuple[str, str, bool], list[Point]] = {}
    found: dict[str, Variable | None] = {}
    for item in record.items:
        if item.value is None or item.category != "observation" or not is_usable(item):
            continue
        key = key_of(item.code)
        if key in DESCRIPTORS:
            continue
        variable = found[key] if key in found else found.setdefault(key, variable_of(item.code))
        printed = printed_number(item.value) if isinstance(item.value, float) else str(item.value)
        point = Point(item, seconds.get(item.id), printed)
        name = variable.name if variable else key
        groups.setdefault((name, item.unit or "1", item.number is not None), []).append(point)
    return _named(groups)


def _named(groups: Mapping[tuple[str, str, bool], list[Point]]) -> dict[str, Series]:
    kinds: dict[str, int] = {}
    for name, _, _ in groups:
        kinds[name] = kinds.get(name, 0) + 1
    series: dict[str, Series] = {}
    for name, unit, is_numeric in sorted(groups):
        points = groups[name, unit, is_numeric]
        variable = variable_of(points[0].item.code)
        key = name if kinds[name] == 1 else f"{name} [{unit if is_numeric else 'words'}]"
        series[key] = Series(
            key=key,
            subject=variable.display if variable else points[0].item.code.display,
            unit=unit,
            points=tuple(sorted(points, key=lambda point: float("-inf") if point.seconds is None else point.seconds)),
            variable=variable,
            is_numeric=is_numeric,
        )
    return series
