"""Reader of CSV time series whose columns state their units.

Convention. One header row; separator `,`, `;` or tab; UTF-8. A time column: `time_s`, `time_min`, `minutes`, `time_h`,
`time_d` (since the anchor), `timestamp` (ISO 8601), or `time` (`hh:mm[:ss]` since the anchor, ISO 8601, `time [h]`). Optionally
a patient column (`patient`, `subject_id`, `patient_id`). Wide form: each other column `name [unit]` or `name (unit)` in UCUM.
Long form: `variable` (or `code`), `value`, `unit`. Units may be declared in a manifest instead. Empty cells and NaN are missing
values: no item. More than 200 rows at a constant step under 2 s are a waveform. A table without times needs a patient column.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from math import isfinite
from pathlib import Path
from typing import IO

import numpy as np

from salus.errors import FormatError, InputError, UnitError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.normalised import lead_unit
from salus.record.patient import Code, Content, Instant, Item, ObservedTime, Offset, Signal, Skipped, Source, item_id
from salus.record.read.channels import claim_keys, distinct, signal_remarks
from salus.record.read.csv_columns import CLOCK, Column, Layout, calendar_time, declared, layout_of, seconds_per, slug
from salus.record.read.leads import in_millivolts, lead_name
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.slow_series import is_slow, slow_item
from salus.record.read.source import file_sha256, refuse_empty
from salus.units import check

MOST_VALUES = 2_000_000
"""More values than this are refused before the rest of the file is read, so that memory stays bounded (about 1 GiB of items)."""
MOST_LINE = 1 << 20
MOST_NAMED_ROWS = 20
MOST_NAMED_COLUMNS = 10
SIGNAL_STEP_S = 2.0
SIGNAL_ROWS = 200
NO_VALUE = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "."})
LOINC = re.compile(r"(?:loinc:)?(\d{1,7}-\d)", re.IGNORECASE)


@dataclass
class _Rows:
    """The rows of one patient: times, line numbers, and one array per column (NaN = no value)."""

    times: list[float | Instant | None] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    values: dict[int, array[float]] = field(default_factory=dict)
    long: list[tuple[int, float | Instant | None, str, float, str]] = field(default_factory=list)
    """Long form: line, time, variable, value, unit."""


@dataclass
class _Table:
    """What has been read so far, bounded by `MOST_VALUES`."""

    layout: Layout
    rows: dict[str | None, _Rows] = field(default_factory=dict)
    bad_rows: list[str] = field(default_factory=list)
    texts: dict[str, list[int]] = field(default_factory=dict)
    """Lines where a cell is not a number, by column."""
    counts: dict[str, int] = field(default_factory=dict)
    """Numbers by column."""
    total: int = 0

    def count(self, name: str) -> None:
        """Count one value, and refuse when there are too many."""
        self.counts[name] = self.counts.get(name, 0) + 1
        self.total += 1
        if self.total > MOST_VALUES:
            raise InputError(
                f"Cannot read '{self.layout.path_name}': it holds more than {MOST_VALUES:,} values. "
                "Split it by patient or by day, or convert waveforms to WFDB."
            )


def _lines(stream: IO[str], file: str) -> Iterator[str]:
    """Yield lines, refusing one that is too long to be a row."""
    while line := stream.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise FormatError(f"Cannot read '{file}' as CSV: a line is longer than {MOST_LINE:,} characters. Check that it is a table.")
        yield line


def _separator(header: str) -> str:
    return max((",", ";", "\t"), key=header.count)


def recognises(path: Path, head: bytes) -> bool:
    """Return whether a text is a table: by its name, or by a header with a time column and a unit or value column."""
    if b"\0" in head or not head.strip():
        return False
    first = next(iter(head.decode("utf-8-sig", errors="ignore").splitlines()), "")
    if path.suffix.lower() in {".csv", ".tsv"}:
        return True
    try:
        layout = layout_of(first.split(_separator(first)), ReadOptions(), path.name)
    except FormatError:
        return False
    return layout.time is not None and (layout.value is not None or any(column.unit for column in layout.columns))


def _number(text: str) -> float | None:
    """Return a finite number, NaN for a missing value, None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return float("nan") if text.strip().lower() in NO_VALUE else None
    return value if isfinite(value) or value != value else None


class _Clock:
    """Reads the time column's cells."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        unit = layout.time.unit if layout.time else None
        self.scale = seconds_per(unit, file=layout.path_name) if unit and not layout.is_calendar else None

    def read(self, text: str) -> float | Instant | None:
        """Return seconds since the anchor, or a calendar time; None when the cell is neither.

        Raises:
            FormatError: numbers stand in a time column without unit.
        """
        text = text.strip()
        if self.scale is not None:
            value = _number(text)
            return None if value is None or value != value else value * self.scale
        if self.layout.is_calendar:
            return calendar_time(text)
        if match := CLOCK.fullmatch(text):
            return int(match[1]) * 3600.0 + int(match[2]) * 60.0 + float(match[3] or 0)
        value = _number(text)
        if value is not None and value == value:
            name = self.layout.time.name if self.layout.time else ""
            raise FormatError(
                f"Cannot read '{self.layout.path_name}': column {name!r} holds numbers without a unit. Name it time_s, time_min or time_h."
            )
        return calendar_time(text)


def _take_row(table: _Table, clock: _Clock, line: int, row: list[str], options: ReadOptions) -> None:
    """Take in one row of cells."""
    layout = table.layout
    time: float | Instant | None = None
    if layout.time is not None:
        time = clock.read(row[layout.time.index]) if layout.time.index < len(row) else None
        if time is None:
            table.bad_rows.append(f"line {line}: the time cannot be read")
            return
    subject = (row[layout.patient].strip() or None) if layout.patient is not None and layout.patient < len(row) else None
    rows = table.rows.setdefault(subject, _Rows())
    if layout.variable is not None and layout.value is not None:
        _take_long(table, rows, (line, time), row, options)
        return
    rows.times.append(time)
    rows.lines.append(line)
    for column in layout.columns:
        text = row[column.index] if column.index < len(row) else ""
        value = _number(text)
        if value is None:
            table.texts.setdefault(column.name, []).append(line)
            value = float("nan")
        elif value in options.missing:
            value = float("nan")
        elif value == value:
            table.count(column.name)
        rows.values.setdefault(column.index, array("d")).append(value)


def _take_long(table: _Table, rows: _Rows, at: tuple[int, float | Instant | None], row: list[str], options: ReadOptions) -> None:
    layout, (line, time) = table.layout, at
    if layout.variable is None or layout.value is None or max(layout.variable, layout.value) >= len(row):
        table.bad_rows.append(f"line {line}: fewer fields than the header")
        return
    name, text = row[layout.variable].strip(), row[layout.value]
    if slug(name) in options.documentation_columns or name in options.documentation_columns or not name:
        return
    value = _number(text)
    if value is None:
        table.texts.setdefault(name, []).append(line)
    elif value == value and value not in options.missing:
        unit = row[layout.unit].strip() if layout.unit is not None and layout.unit < len(row) else ""
        rows.long.append((line, time, name, value, unit or declared(options.units, name) or ""))
        table.count(name)


def _collect(path: Path, options: ReadOptions) -> _Table:
    """Return the table's numbers, by patient.

    Raises:
        FormatError: not UTF-8, not a table, or without header, time and patient.
        InputError: too many values.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = next(_lines(stream, path.name), "")
            separator = _separator(first)
            layout = layout_of(next(csv.reader([first], delimiter=separator), []), options, path.name)
            if layout.time is None and layout.patient is None:
                raise FormatError(
                    f"Cannot read '{path.name}' as a CSV time series: it has no time column. Name one time_s, time_h or "
                    "timestamp, or declare in a manifest that this table is not evidence."
                )
            table, clock = _Table(layout), _Clock(layout)
            reader = csv.reader(_lines(stream, path.name), delimiter=separator)
            for row in reader:
                if any(row):
                    _take_row(table, clock, reader.line_num + 1, row, options)
            return table
    except UnicodeDecodeError as error:
        raise FormatError(f"Cannot read '{path.name}' as CSV: it is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except csv.Error as error:
        raise FormatError(f"Cannot read '{path.name}' as CSV: {error}. Check quotes and separators.") from error
    except OSError as error:
        raise InputError(f"Cannot read '{path.name}': {error.strerror}. Check that the file may be read.") from error


def _observed(time: float | Instant | None, options: ReadOptions) -> ObservedTime | None:
    return Offset(time, options.anchor, "second") if isinstance(time, float) else time


def _code(name: str) -> Code:
    loinc = LOINC.fullmatch(name)
    return Code("http://loinc.org", loinc[1], name) if loinc else Code("column", slug(name), name)


def _modality(name: str, options: ReadOptions, *more: str) -> str:
    code = _code(name)
    key = f"loinc:{code.code}" if code.system != "column" else f"column:{code.code}"
    claimed = modality_of(*more, key)
    return options.modality or claimed if claimed == UNCLAIMED else claimed


def _step_s(times: list[float | Instant | None]) -> float | None:
    """Return the constant step of a waveform's times in seconds, or None when the times are not a waveform's."""
    if len(times) <= SIGNAL_ROWS or times[0] is None:
        return None
    first = times[0]
    if isinstance(first, Instant):
        seconds = np.array([(t.at - first.at).total_seconds() for t in times if isinstance(t, Instant)])
    else:
        seconds = np.array([t for t in times if isinstance(t, float)])
    if len(seconds) != len(times):
        return None
    step = float(seconds[-1] - seconds[0]) / (len(seconds) - 1)
    drift = np.abs(seconds - seconds[0] - step * np.arange(len(seconds))).max()
    return step if 0 < step < SIGNAL_STEP_S and drift <= 0.1 * step else None


def _signal_items(file: tuple[str, str], rows: _Rows, columns: list[Column], step_s: float, options: ReadOptions) -> list[Item]:
    """Return one waveform for each modality among the columns."""
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(_modality(column.name, options, *claim_keys(column.name)), []).append(column)
    items = []
    rate, first = 1.0 / step_s, rows.times[0]
    seconds = len(rows.times) * step_s
    for modality, group in groups.items():
        leads = distinct([lead_name(column.name) for column in group], file=Path(file[0]).name)
        samples = np.stack([np.asarray(rows.values[column.index], dtype=np.float32) for column in group])
        own_units = tuple(column.unit or "1" for column in group)
        samples, group_units = in_millivolts(samples, own_units)
        locator = f"line {rows.lines[0]} to {rows.lines[-1]}, columns {', '.join(column.name for column in group)}"
        signal = Signal(samples, leads, group_units, rate)
        end = Instant(first.at + timedelta(seconds=seconds)) if isinstance(first, Instant) else _observed((first or 0.0) + seconds, options)
        plural = "s" if len(group) > 1 else ""
        items.append(
            Item(
                id=item_id(file[1], locator),
                modality=modality,
                code=Code("column", "-".join(slug(lead) for lead in leads), f"waveform {', '.join(leads)}"),
                source=Source(*file, locator),
                observed_at=_observed(first, options),
                ended_at=end,
                content=Content(
                    "signal",
                    partial(_given, signal),
                    f"{len(group)} channel{plural} ({', '.join(leads)}), {rate:g} Hz, {seconds:g} s",
                ),
                category="waveform",
                remarks=signal_remarks(signal),
                normalised=lead_unit(leads, own_units, group_units),
            )
        )
    return items


def _given(signal: Signal) -> Signal:
    return signal


def _wide_items(file: tuple[str, str], rows: _Rows, columns: list[Column], options: ReadOptions) -> list[Item]:
    """Return one item for each value, or one waveform when the rows are at a waveform's rate or come from a slow sensor."""
    step_s = _step_s(rows.times)
    if step_s is not None and columns:
        return _signal_items(file, rows, columns, step_s, options)
    items: list[Item] = []
    slow = [column for column in columns if is_slow(column.name)]
    for column in tuple(slow):
        readings = zip(rows.times, rows.values[column.index], strict=True)
        cells = [(_observed(time, options), value) for time, value in readings if value == value]
        series = _slow_item(file, column.name, column.unit or "1", cells)
        if series is None:
            slow.remove(column)
            continue
        items.append(series)
    codes = [(column, _code(column.name), _modality(column.name, options)) for column in columns if column not in slow]
    for position, (line, time) in enumerate(zip(rows.lines, rows.times, strict=True)):
        observed = _observed(time, options)
        for column, code, modality in codes:
            value = rows.values[column.index][position]
            if value == value:
                locator = f"line {line}, column {column.name!r}"
                items.append(
                    Item(
                        item_id(file[1], locator),
                        modality,
                        code,
                        Source(*file, locator),
                        observed_at=observed,
                        value=value,
                        unit=column.unit,
                    )
                )
    return items


def _long_items(file: tuple[str, str], rows: _Rows, refused: dict[tuple[str, str], str], options: ReadOptions) -> list[Item]:
    items: list[Item] = []
    known: dict[str, tuple[Code, str]] = {}
    slow: dict[tuple[str, str], list[tuple[ObservedTime | None, float]]] = {}
    for _, time, name, value, unit in rows.long:
        if is_slow(name) and (name, unit) not in refused:
            slow.setdefault((name, unit), []).append((_observed(time, options), value))
    series = {key: item for key, cells in slow.items() if (item := _slow_item(file, *key, cells)) is not None}
    items += series.values()
    for line, time, name, value, unit in rows.long:
        if (name, unit) in refused or (name, unit) in series:
            continue
        code, modality = known.setdefault(name, (_code(name), _modality(name, options)))
        locator = f"line {line}"
        items.append(
            Item(
                item_id(file[1], locator),
                modality,
                code,
                Source(*file, locator),
                observed_at=_observed(time, options),
                value=value,
                unit=unit,
            )
        )
    return items


def _slow_item(file: tuple[str, str], name: str, unit: str, cells: list[tuple[ObservedTime | None, float]]) -> Item | None:
    times = [time for time, _ in cells if time is not None]
    if not times or len(times) < len(cells):
        return None
    return slow_item(file, name, unit, times=times, values=np.array([value for _, value in cells]))


def _refused_units(table: _Table) -> dict[tuple[str, str], str]:
    """Return the variables of the long form whose unit is missing or not UCUM, with the reason."""
    refused: dict[tuple[str, str], str] = {}
    for name, unit in sorted({(name, unit) for rows in table.rows.values() for _, _, name, _, unit in rows.long}):
        try:
            if unit:
                check(unit, where=f"variable {name!r} in '{table.layout.path_name}'")
            else:
                refused[name, unit] = f"variable {name!r} has numbers without a unit: add a unit column, or declare units.{slug(name)}"
        except UnitError as error:
            refused[name, unit] = str(error)
    return refused


def _named(columns: list[str]) -> str:
    shown = ", ".join(repr(name) for name in columns[:MOST_NAMED_COLUMNS])
    more = f" and {len(columns) - MOST_NAMED_COLUMNS} more" if len(columns) > MOST_NAMED_COLUMNS else ""
    return f"column{'s' if len(columns) > 1 else ''} {shown}{more}"


def _reasons(table: _Table) -> list[str]:
    """Return what of the table is not read, and why."""
    reasons = list(table.layout.refused)
    unitless = [column.name for column in table.layout.columns if column.unit is None and table.counts.get(column.name)]
    if unitless:
        example = unitless[0]
        reasons.append(
            f"numbers without a unit in {_named(unitless)}: name it '{example} [unit]' in UCUM, or declare units.{slug(example)}"
        )
    texts = [name for name in table.texts if not table.counts.get(name)]
    if texts:
        reasons.append(f"text, not read, in {_named(texts)}")
    for name in sorted(set(table.texts) - set(texts) - set(unitless)):
        lines = table.texts[name]
        reasons.append(f"column {name!r}: {len(lines)} cells are not numbers (first on line {lines[0]})")
    reasons += [f"row not read: {bad}" for bad in table.bad_rows[:MOST_NAMED_ROWS]]
    if len(table.bad_rows) > MOST_NAMED_ROWS:
        reasons.append(f"rows not read: {len(table.bad_rows) - MOST_NAMED_ROWS} more bad rows")
    return reasons


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the values of a table by patient, or its waveforms.

    Raises:
        FormatError: the file is empty, not UTF-8, not a table, or has neither a time nor a patient column.
        UnitError: the time column is in something other than a unit of time.
        InputError: it cannot be opened, or holds more than `MOST_VALUES` values.
    """
    refuse_empty(path)
    table = _collect(path, options)
    file = (str(path), file_sha256(path))
    columns = [column for column in table.layout.columns if column.unit is not None and table.counts.get(column.name)]
    refused = _refused_units(table)
    found = []
    for subject, rows in table.rows.items():
        items = _long_items(file, rows, refused, options) if rows.long else _wide_items(file, rows, columns, options)
        if items:
            found.append(Found(subject, tuple(items)))
    reasons = [*_reasons(table), *refused.values()]
    if not found and not reasons:
        reasons.append("a table without a single value")
    return FileRead(found=tuple(found), skipped=tuple(Skipped(str(path), reason) for reason in reasons))


READER = Reader("csv", "CSV time series", recognises, read, priority=60)
