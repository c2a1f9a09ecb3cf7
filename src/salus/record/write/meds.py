"""Writer of MEDS datasets: patients' records as data shards, codes with their words, splits, and the dataset's description.

Takes records in any clock; gives a folder that MEDS's own schema classes accept. What MEDS has no column for (unit, category, status,
precision, zone, end, the anchor of a relative time) stands in extra columns, which `salus.record.read.meds` reads back. Pictures and
signals are left out.

Source: MEDS 0.4, `meds/schema.py`. A subject's rows are together, in one shard, by time, those without a time first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from salus import __version__
from salus.errors import ConfigError, InputError, MissingExtra
from salus.record.patient import Instant, Item, ObservedTime, PatientRecord
from salus.record.read.meds import ANCHOR_EPOCH, OPTIONAL, OWN, REQUIRED, SPLITS
from salus.record.read.meds_codes import BIRTH, meds_code

SHARD_ROWS = 500_000
"""A shard is closed after the subject with which it reaches this."""


@dataclass
class Written:
    """What was written, and what could not be."""

    subjects: int = 0
    events: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason → items."""
    relative: Counter[str] = field(default_factory=Counter)
    """Anchor → items whose time has no calendar."""


def subject_number(subject_id: str) -> int:
    """Return MEDS's whole number for a patient's key: the number itself, else 63 bits of the key's SHA-256.

    Example:
        >>> subject_number("132539"), subject_number("a") == subject_number("a"), subject_number("007") == 7
        (132539, True, False)
    """
    if re.fullmatch(r"0|[1-9]\d{0,17}", subject_id, re.ASCII):
        return int(subject_id)
    return int.from_bytes(hashlib.sha256(subject_id.encode()).digest()[:8], "big") >> 1


def write_meds(
    records: Iterable[PatientRecord],
    folder: Path,
    *,
    name: str,
    splits: Mapping[str, str] | None = None,
    with_text: bool = False,
    shard_rows: int = SHARD_ROWS,
) -> Written:
    """Write records as a MEDS dataset, one patient in memory at a time.

    Args:
        records: patients, each once.
        folder: new or empty.
        name: of the dataset.
        splits: `train`, `val` or `test` by patient's key; written in MEDS's words.
        with_text: whether the words of notes and reports are written too; they may name the patient.
        shard_rows: rows after which a new file begins.

    Raises:
        ConfigError: the folder is not empty.
        InputError: two patients come to one number.
        MissingExtra: meds and pyarrow are not installed.
    """
    if importlib.util.find_spec("meds") is None or importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("write MEDS", "events")
    import pyarrow
    import pyarrow.parquet
    from meds import schema

    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"Cannot write MEDS to '{folder}': it is not empty. Name a new folder.")
    for part in ("data", "metadata"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    done = Written()
    numbers: dict[int, str] = {}
    codes: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    shard = 0

    def close() -> None:
        nonlocal shard, rows
        table = pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow))
        pyarrow.parquet.write_table(schema.DataSchema.align(table), folder / "data" / f"{shard}.parquet")
        shard, rows = shard + 1, []

    for record in records:
        number = subject_number(record.subject_id)
        if numbers.setdefault(number, record.subject_id) != record.subject_id:
            raise InputError("Cannot write MEDS: two patients' keys come to one number. Rename one of them.")
        mine = [row for item in record.items for row in _rows(item, record, number, with_text, done)]
        mine.sort(key=lambda row: (row["time"] is not None, row["time"] or ANCHOR_EPOCH.replace(tzinfo=None)))
        codes.update({row["code"]: row["display"] for row in mine})
        rows += mine
        done.subjects, done.events = done.subjects + 1, done.events + len(mine)
        if len(rows) >= shard_rows:
            close()
    if rows or shard == 0:
        close()
    described = [{"code": code, "description": words, "parent_codes": None} for code, words in sorted(codes.items())]
    table = pyarrow.Table.from_pylist(described, schema=schema.CodeMetadataSchema.schema())
    pyarrow.parquet.write_table(schema.CodeMetadataSchema.align(table), folder / "metadata" / "codes.parquet")
    if splits:
        words = {ours: theirs for theirs, ours in SPLITS.items()}
        listed = [{"subject_id": subject_number(key), "split": words.get(split, split)} for key, split in sorted(splits.items())]
        table = pyarrow.Table.from_pylist(listed, schema=schema.SubjectSplitSchema.schema())
        pyarrow.parquet.write_table(schema.SubjectSplitSchema.align(table), folder / "metadata" / "subject_splits.parquet")
    _write_description(folder, name)
    return done


def _schema(pyarrow: Any) -> Any:
    kinds = {
        "subject_id": pyarrow.int64(), "time": pyarrow.timestamp("us"), "code": pyarrow.string(), "numeric_value": pyarrow.float32(),
        "text_value": pyarrow.large_string(), "value_double": pyarrow.float64(), "time_zone_min": pyarrow.int16(),
        "end_time": pyarrow.timestamp("us"),
    }  # fmt: skip
    return pyarrow.schema([(column, kinds.get(column, pyarrow.string())) for column in (*REQUIRED, *OPTIONAL, *OWN)])


def _write_description(folder: Path, name: str) -> None:
    from meds import schema

    metadata = {
        "dataset_name": name,
        "etl_name": "salus",
        "etl_version": __version__,
        "meds_version": version("meds"),
        "created_at": datetime.now(UTC).replace(tzinfo=None, microsecond=0).isoformat(),
        "code_modifier_columns": ["unit"],
    }
    schema.DatasetMetadataSchema.validate(metadata)
    (folder / "metadata" / "dataset.json").write_text(json.dumps(metadata, indent=1), "utf-8")


def _rows(item: Item, record: PatientRecord, number: int, with_text: bool, done: Written) -> list[dict[str, Any]]:
    """Return the row of an item; none for one whose content MEDS cannot hold."""
    words = item.value if isinstance(item.value, str) else None
    if item.content is not None and item.content.kind != "text":
        done.left_out[f"{item.content.kind}: MEDS holds no such content"] += 1
        return []
    if item.content is not None:
        if not with_text:
            done.left_out["text: left out unless asked for"] += 1
            return []
        loaded = item.content.load()
        words = loaded if isinstance(loaded, str) else words
    at, anchor = _placed(item.observed_at, record, done)
    end, end_anchor = _placed(item.ended_at, record, Written())
    code = meds_code(item.code)
    zone = item.observed_at.at.utcoffset() if isinstance(item.observed_at, Instant) and item.observed_at.zone_is_stated else None
    return [
        {
            "subject_id": number,
            "time": at,
            "code": code,
            "numeric_value": item.number,
            "text_value": words,
            "value_double": item.number,
            "unit": item.unit,
            "category": "demographic" if code == BIRTH else item.category,
            "status": item.status,
            "display": item.code.display,
            "system": item.code.system,
            "time_precision": item.observed_at.precision if item.observed_at else None,
            "time_zone_min": None if zone is None else round(zone / timedelta(minutes=1)),
            "time_anchor": anchor,
            "end_time": end if end_anchor == anchor else None,
        }
    ]


def _placed(time: ObservedTime | None, record: PatientRecord, done: Written) -> tuple[datetime | None, str | None]:
    """Return a time as MEDS writes it, in UTC without a zone, and the anchor when only a clock of its own is known."""
    if time is None:
        return None, None
    if isinstance(time, Instant):
        return time.at.astimezone(UTC).replace(tzinfo=None), None
    start = record.anchors.get(time.anchor)
    if start is None:
        done.relative[time.anchor] += 1
    try:
        at = (start or ANCHOR_EPOCH).astimezone(UTC).replace(tzinfo=None) + timedelta(seconds=time.seconds)
    except (OverflowError, ValueError):
        return None, None
    return at, time.anchor if start is None else None


