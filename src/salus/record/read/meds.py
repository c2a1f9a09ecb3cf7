"""Reader of MEDS datasets: data shards in Parquet with the codes' descriptions and the splits beside them.

Takes one shard, as the folder walk does, or a whole dataset as a stream of patients with bounded memory; gives items. Extra columns that
Salus writes (`salus.record.write.meds`) bring back units, categories and clocks. A time without a zone is taken as UTC, marked as assumed.

Source: MEDS 0.4 (https://github.com/Medical-Event-Data-Standard/meds), `meds/schema.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from salus.errors import FormatError, InputError, UnitError
from salus.record.claims import modality_of
from salus.record.patient import Code, Instant, Item, ObservedTime, Offset, PatientRecord, Precision, Skipped, Source, item_id
from salus.record.read.fhir_documents import text_content
from salus.record.read.meds_codes import BIRTH, DEATH, category_of, code_of, meds_code, unit_in
from salus.record.read.parquet import MAGIC, columns_of, names_in_footer, rows_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.variables import key_of
from salus.units import check

REQUIRED = ("subject_id", "time", "code")
OPTIONAL = ("numeric_value", "text_value")
OWN = ("value_double", "unit", "category", "status", "display", "system", "time_precision", "time_zone_min", "time_anchor", "end_time")
"""Columns that Salus adds when it writes: all optional when read."""
ANCHOR_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Where a clock without a calendar begins in a file: MEDS has no relative time. Such rows carry `time_anchor`."""
ROWS_LIMIT = 2_000_000
"""Most rows of one shard that the folder walk holds in memory; `subjects` has no limit."""
SPLITS = {"train": "train", "tuning": "val", "held_out": "test"}
"""MEDS's words for splits, and ours."""
_SPLIT_FILE = ("metadata", "subject_splits.parquet")
_CODE_FILE = ("metadata", "codes.parquet")
_DESCRIPTION_FILE = ("metadata", "dataset.json")
_PRECISIONS = frozenset(get_args(Precision))
_CODES_LIMIT = 5_000_000


@dataclass
class _Shard:
    """One data file while it is read."""

    path: Path
    sha256: str
    descriptions: Mapping[str, str]
    options: ReadOptions
    refused: dict[str, int] = field(default_factory=dict)
    codes: dict[str, tuple[Code, str]] = field(default_factory=dict)


def recognises(path: Path, head: bytes) -> bool:
    """Return whether a Parquet file has MEDS's required columns, or is metadata of a dataset."""
    if not head.startswith(MAGIC):
        return False
    footer = names_in_footer(path)
    if all(name.encode() in footer for name in REQUIRED):
        return True
    return path.parent.name == "metadata" and (b"subject_id" in footer or b"description" in footer)


def dataset_of(path: Path) -> Path:
    """Return the dataset's folder of a data or metadata file: the one that holds `data`; the file's own folder when there is none."""
    return next((above.parent for above in path.parents if above.name in ("data", "metadata")), path.parent)


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the items of every subject in one shard; metadata gives nothing of its own.

    Raises:
        FormatError: the file is empty, not Parquet, damaged, or lacks a required column.
        InputError: it cannot be opened, or holds more than `ROWS_LIMIT` rows.
        MissingExtra: pyarrow is not installed.
    """
    refuse_empty(path)
    columns = columns_of(path)
    if not set(REQUIRED) <= set(columns):
        if path.parent.name == "metadata":
            return FileRead(skipped=(Skipped(str(path), "metadata of a MEDS dataset, not evidence"),))
        raise FormatError(f"Cannot read MEDS '{path.name}': it lacks one of the columns {', '.join(REQUIRED)}. Write it again.")
    dataset = dataset_of(path)
    shard = _Shard(path, file_sha256(path), read_descriptions(dataset), options)
    found: dict[str, list[Item]] = {}
    for number, (subject, item) in enumerate(_items(shard, columns)):
        if number >= ROWS_LIMIT:
            raise InputError(
                f"Cannot read MEDS '{path.name}': it holds more than {ROWS_LIMIT} events. Split it into smaller shards, or stream it."
            )
        found.setdefault(subject, []).append(item)
    return FileRead(
        tuple(Found(subject, tuple(items)) for subject, items in found.items()),
        tuple(Skipped(str(path), f"{count} × {reason}") for reason, count in shard.refused.items()),
        tuple(dataset.joinpath(*parts) for parts in (_CODE_FILE, _SPLIT_FILE, _DESCRIPTION_FILE) if dataset.joinpath(*parts).is_file()),
    )


def subjects(dataset: Path) -> Iterator[PatientRecord]:
    """Yield the patients of a dataset, one at a time: MEDS keeps a subject's rows together in one shard.

    Only one subject's items are in memory. Values are as the rows state them, not yet brought to their variables' units.

    Raises:
        FormatError: a shard is damaged, or a subject's rows are not together.
        InputError: there is no shard.
        MissingExtra: pyarrow is not installed.
    """
    shards = sorted((dataset / "data").rglob("*.parquet"))
    if not shards:
        raise InputError(f"Cannot read MEDS '{dataset.name}': there is no Parquet file under 'data'. Give the dataset's folder.")
    descriptions = read_descriptions(dataset)
    seen: set[int] = set()
    for path in shards:
        shard = _Shard(path, file_sha256(path), descriptions, ReadOptions())
        current: str | None = None
        items: list[Item] = []
        for subject, item in _items(shard, columns_of(path)):
            if subject != current:
                if current is not None:
                    yield PatientRecord(current, tuple(items))
                if int(subject) in seen:
                    raise FormatError(f"Cannot read MEDS '{path.name}': a subject's rows are not together. Sort the shard by subject.")
                seen.add(int(subject))
                current, items = subject, []
            items.append(item)
        if current is not None:
            yield PatientRecord(current, tuple(items))


def read_splits(dataset: Path) -> dict[str, str]:
    """Return the split of each subject: `tuning` is called `val` here, and `held_out` `test`; empty when the dataset states none.

    Raises:
        FormatError: the file is damaged, or a subject is in two splits.
    """
    path = dataset.joinpath(*_SPLIT_FILE)
    splits: dict[str, str] = {}
    if not path.is_file():
        return splits
    for row in rows_of(path, ("subject_id", "split")):
        subject, split = str(row["subject_id"]), str(row["split"])
        if splits.setdefault(subject, SPLITS.get(split, split)) != SPLITS.get(split, split):
            raise FormatError(f"Cannot read MEDS '{path.name}': a subject is in two splits. Keep each in one.")
    return splits


def read_descriptions(dataset: Path) -> dict[str, str]:
    """Return the words for each code, where `metadata/codes.parquet` gives them."""
    path = dataset.joinpath(*_CODE_FILE)
    if not path.is_file():
        return {}
    names = set(columns_of(path))
    if not {"code", "description"} <= names:
        return {}
    descriptions = {}
    for number, row in enumerate(rows_of(path, ("code", "description"))):
        if number >= _CODES_LIMIT:
            raise FormatError(f"Cannot read MEDS '{path.name}': more than {_CODES_LIMIT} codes. Keep those that the data use.")
        if row["code"] and row["description"]:
            descriptions[str(row["code"])] = str(row["description"])
    return descriptions


def _items(shard: _Shard, columns: tuple[str, ...]) -> Iterator[tuple[str, Item]]:
    """Yield subject and item of each readable row, in the order of the file; note the others."""
    if not set(REQUIRED) <= set(columns):
        raise FormatError(f"Cannot read MEDS '{shard.path.name}': it lacks one of the columns {', '.join(REQUIRED)}. Write it again.")
    wanted = [name for name in (*REQUIRED, *OPTIONAL, *OWN) if name in columns]
    source_path = str(shard.path)
    for number, row in enumerate(rows_of(shard.path, wanted)):
        if row["subject_id"] is None or not isinstance(row["code"], str) or not row["code"]:
            shard.refused["row without a subject or a code"] = shard.refused.get("row without a subject or a code", 0) + 1
            continue
        try:
            item = _item(row, shard, Source(source_path, shard.sha256, f"row {number}"))
        except InputError as error:
            shard.refused[str(error)] = shard.refused.get(str(error), 0) + 1
            continue
        yield str(row["subject_id"]), item


def _item(row: Mapping[str, Any], shard: _Shard, source: Source) -> Item:
    written = row["code"]
    if written not in shard.codes:
        shard.codes[written] = (code_of(written, shard.descriptions.get(written)), category_of(written))
    code, category = shard.codes[written]
    if isinstance(row.get("system"), str) and isinstance(row.get("display"), str):
        own = code.code if written in (BIRTH, DEATH) else written.removeprefix(meds_code(Code(row["system"], "", "")))
        code = Code(row["system"], own, row["display"])
    category = row["category"] if isinstance(row.get("category"), str) else category
    observed_at = time_of(row)
    remarks: tuple[str, ...] = ()
    if written == BIRTH and isinstance(observed_at, Instant):
        category = "demographic"
        observed_at = Instant(datetime(observed_at.at.year, 1, 1, tzinfo=UTC), "year", zone_is_stated=False)
        remarks = ("only the year is kept",)
    value, unit, more = _value(row, shard.options)
    content = text_content(value) if category == "note" and isinstance(value, str) else None
    keys = (key_of(code), f"meds:{written}", f"category:{category}")
    return Item(
        id=item_id(source.sha256, source.locator),
        modality=modality_of(*keys, "fhir:Observation"),
        code=code,
        source=source,
        observed_at=observed_at,
        ended_at=_end_of(row),
        value=None if content else value,
        unit=unit,
        content=content,
        status=row.get("status"),
        category=category,
        remarks=remarks + more,
    )


def _value(row: Mapping[str, Any], options: ReadOptions) -> tuple[float | str | None, str | None, tuple[str, ...]]:
    """Return value and unit; a float32 is read as the shortest decimal that it stands for."""
    double, single, words = row.get("value_double"), row.get("numeric_value"), row.get("text_value")
    unit = row["unit"] if isinstance(row.get("unit"), str) else None
    if double is None and single is None:
        return words, unit, ()
    value = float(double) if double is not None else shortest(float(cast(float, single)))
    if not math.isfinite(value):
        raise FormatError("row whose number is not finite")
    more = ("its words beside the number are left out",) if words else ()
    if unit is None:
        unit = options.units.get(row["code"])
    if unit is None and "unit" not in row and (stated := unit_in(row["code"])):
        try:
            unit = check(stated)
        except UnitError:
            more = (*more, "what its code ends in is no UCUM unit")
    if unit is None and "unit" not in row:
        more = (*more, "the record states no unit")
    return value, unit, more


def shortest(single: float) -> float:
    """Return the decimal of fewest digits that a float32 stands for.

    Example:
        >>> shortest(1.3600000143051147)
        1.36
    """
    return float(str(np.float32(single)))


def time_of(row: Mapping[str, Any]) -> ObservedTime | None:
    """Return the time of a row: of the calendar, or relative to the anchor that a row of Salus names."""
    return _time(row.get("time"), row)


def _end_of(row: Mapping[str, Any]) -> ObservedTime | None:
    return _time(row.get("end_time"), row)


def _time(at: datetime | None, row: Mapping[str, Any]) -> ObservedTime | None:
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise FormatError("row whose time is not a timestamp")
    precision = row.get("time_precision")
    known = cast(Precision, precision if precision in _PRECISIONS else "second")
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    anchor, zone = row.get("time_anchor"), row.get("time_zone_min")
    if anchor:
        return Offset((at - ANCHOR_EPOCH).total_seconds(), anchor, known)
    if zone is None:
        return Instant(at, known, zone_is_stated=False)
    if abs(zone) >= 24 * 60:
        raise FormatError("row whose zone is a day or more from UTC")
    return Instant(at.astimezone(timezone(timedelta(minutes=zone))), known)


READER = Reader(name="meds", title="MEDS dataset", recognises=recognises, read=read, priority=20)
