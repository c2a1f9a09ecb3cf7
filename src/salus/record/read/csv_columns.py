"""What the header of a CSV time series says: which column is the time, the patient, a value with its unit.

Takes the header row and what the user declares; gives a `Layout`, and the columns that cannot be read with the reason. Reads no
values. `salus.record.read.csv` documents the convention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from salus.errors import FormatError, UnitError
from salus.record.patient import Instant, Precision
from salus.record.read.reader import ReadOptions
from salus.units import check, convert

RELATIVE_TIMES = {
    "time_s": "s", "time_sec": "s", "seconds": "s", "time_seconds": "s", "time_ms": "ms", "milliseconds": "ms", "time_min": "min",
    "minutes": "min", "time_minutes": "min", "time_h": "h", "hours": "h", "time_hours": "h", "time_d": "d", "days": "d",
}  # fmt: skip
"""Columns of times since the anchor, and their unit."""
CALENDAR_TIMES = frozenset({"timestamp", "datetime", "date", "date_time", "charttime", "observed_at"})
PATIENTS = frozenset({"patient", "subject_id", "patient_id", "subject"})
LONG_NAMES = frozenset({"code", "variable", "parameter"})
CLOCK = re.compile(r"(\d{1,4}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?")


@dataclass(frozen=True)
class Column:
    """A column of values, or one variable of the long form."""

    index: int
    name: str
    unit: str | None


@dataclass(frozen=True)
class Layout:
    """What each column holds."""

    path_name: str
    time: Column | None
    """Its unit is a unit of time for offsets, None for calendar times or `hh:mm`."""
    is_calendar: bool
    patient: int | None
    columns: tuple[Column, ...]
    variable: int | None = None
    """Long form only: the columns that name the variable, its value and its unit."""
    value: int | None = None
    unit: int | None = None
    refused: tuple[str, ...] = ()
    """Columns that are not read, and why."""


def slug(name: str) -> str:
    """Return a column's name as claim keys spell it.

    Example:
        >>> slug(" Heart Rate "), slug("SpO2"), slug("P50 (ear)")
        ('heart_rate', 'spo2', 'p50_ear')
    """
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def split_header(cell: str) -> tuple[str, str | None]:
    """Return a header cell's name, and the unit in brackets at its end.

    Example:
        >>> split_header("bp [mm[Hg]]"), split_header("glucose (mg/dL)"), split_header("spo2")
        (('bp', 'mm[Hg]'), ('glucose', 'mg/dL'), ('spo2', None))
    """
    for pattern in (r"(.+?)\s*\[(.+)\]", r"(.+?)\s*\((.+)\)"):
        if match := re.fullmatch(pattern, cell.strip()):
            return match[1], match[2].strip()
    return cell.strip(), None


def declared(units: Mapping[str, str], name: str) -> str | None:
    """Return the unit that the user declares for a column, by its name as written or as claim keys spell it."""
    return units.get(name) or units.get(slug(name))


def layout_of(header: list[str], options: ReadOptions, file: str) -> Layout:
    """Return what each column holds.

    Raises:
        FormatError: the first row holds no names, or two columns have one name.
    """
    cells = [split_header(cell) for cell in header]
    if not any(re.search(r"[^\W\d]", re.sub(r"(?i)nan|[\d.]e[+-]?\d", "", name)) for name, _ in cells):
        raise FormatError(
            f"Cannot read '{file}' as a CSV time series: line 1 holds no column names. Add a header such as 'time_h,heart_rate [/min]'."
        )
    keys = [slug(name) for name, _ in cells]
    layout = Layout(file, None, False, None, ())
    columns: list[Column] = []
    refused: list[str] = []
    for index, ((name, unit), key) in enumerate(zip(cells, keys, strict=True)):
        if name in options.documentation_columns or key in options.documentation_columns:
            refused.append(f"column {name!r} is declared label, split or documentation: not evidence")
        elif layout.time is None and (key == "time" or key in RELATIVE_TIMES or key in CALENDAR_TIMES):
            unit = unit or declared(options.units, name) or RELATIVE_TIMES.get(key)
            layout = replace(layout, time=Column(index, name, unit), is_calendar=key in CALENDAR_TIMES)
        elif layout.patient is None and key in PATIENTS:
            layout = replace(layout, patient=index)
        elif name:
            columns.append(Column(index, name, unit or declared(options.units, name)))
    if long := _long(columns):
        return replace(layout, variable=long[0], value=long[1], unit=long[2], refused=tuple(refused))
    return _checked(replace(layout, columns=tuple(columns)), refused)


def _long(columns: list[Column]) -> tuple[int, int, int | None] | None:
    """Return the indices of variable, value and unit when the table has one value a row."""
    by_key = {slug(column.name): column.index for column in columns}
    variable = next((by_key[key] for key in by_key if key in LONG_NAMES), None)
    return None if variable is None or "value" not in by_key else (variable, by_key["value"], by_key.get("unit"))


def _checked(layout: Layout, refused: list[str]) -> Layout:
    """Return the layout without the columns that repeat a name or whose unit is not UCUM, each with its reason."""
    kept: dict[str, Column] = {}
    for column in layout.columns:
        if slug(column.name) in kept:
            refused.append(f"column {column.name!r} repeats the name of another column: rename one")
            continue
        try:
            if column.unit is not None:
                check(column.unit, where=f"column {column.name!r} in '{layout.path_name}'")
            kept[slug(column.name)] = column
        except UnitError as error:
            refused.append(str(error))
    return replace(layout, columns=tuple(kept.values()), refused=tuple(refused))


def seconds_per(unit: str, *, file: str) -> float:
    """Return the length of a unit of time in seconds.

    Raises:
        UnitError: the unit is not one of time.
    """
    try:
        return convert(1.0, unit, "s")
    except UnitError as error:
        raise UnitError(f"Cannot read '{file}': its time column is in {unit!r}, not a UCUM unit of time. Use s, min, h or d.") from error


def calendar_time(text: str) -> Instant | None:
    """Return an ISO 8601 time with the precision it states, or None; a time without zone is taken as UTC and says so.

    Example:
        >>> calendar_time("2026-03").precision, calendar_time("2026-03-01T10:30+01:00").zone_is_stated
        ('month', True)
    """
    if match := re.fullmatch(r"(\d{4})(?:-(0[1-9]|1[0-2]))?", text):
        year = max(int(match[1]), 1)
        return Instant(datetime(year, int(match[2] or 1), 1, tzinfo=UTC), "month" if match[2] else "year", False)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    digits = re.split(r"[T ]", text, maxsplit=1)
    colons = 0 if len(digits) == 1 else re.split(r"[+Z]|-", digits[1])[0].count(":")
    precision: Precision = "day" if len(digits) == 1 else "second" if colons == 2 else "minute"
    return Instant(at if at.tzinfo else at.replace(tzinfo=UTC), precision, at.tzinfo is not None)
