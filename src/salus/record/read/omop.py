"""Reader of OMOP CDM v5.4: one table of a folder of CSV or Parquet files, with the vocabulary beside it where there is one.

Takes a table; gives items by `person_id`. A code is that of its concept where `concept` names it, else the concept's number with the
source's own word. Units are UCUM's or the value is skipped with the reason. Of the birth date only the year is kept. Locations,
providers and costs are left out.

Source: OMOP CDM v5.4, https://ohdsi.github.io/CommonDataModel/cdm54.html; concept ids by Athena.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.patient import Code, Instant, Item, ReferenceRange, Skipped, Source, item_id
from salus.record.read.fhir_documents import parts_of, remarks_of
from salus.record.read.fhir_fields import LOINC, SNOMED
from salus.record.read.fhir_observation import Draft
from salus.record.read.fhir_texts import texts
from salus.record.read.omop_tables import TABLES, VOCABULARY, Table, concepts_of, is_table, read_rows, table_name, vocabulary_beside, whole
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.timeline import BIRTH_DATE, parse_instant
from salus.record.variables import key_of
from salus.units import check

ROWS_LIMIT = 2_000_000
"""Most rows of one table that are held in memory; a larger one is split by person first."""
SEX = {8507: "male", 8532: "female", 8521: "other", 8551: "unknown"}
VISITS = {9201: "inpatient", 9202: "outpatient", 9203: "emergency", 262: "inpatient", 32037: "intensive care", 581476: "home"}
_COMPARATORS = {4171756: "<", 4171754: "<=", 4172704: ">", 4171755: ">="}
_CONCEPTS = ("unit_concept_id", "value_as_concept_id", "route_concept_id")
_LOOKED_UP = {name: (table.concept, *_CONCEPTS) for name, table in TABLES.items()}
_KEYS = {
    "condition": "fhir:Condition", "medication": "fhir:MedicationStatement", "procedure": "fhir:Procedure", "encounter": "fhir:Encounter",
}  # fmt: skip


@dataclass
class _Reading:
    """One table while it is read."""

    path: Path
    sha256: str
    name: str
    options: ReadOptions
    concepts: Mapping[int, tuple[Code, str]]
    refused: Counter[str] = field(default_factory=Counter)
    stays: dict[str, list[datetime]] = field(default_factory=dict)


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the items of every person in one table; a vocabulary table gives nothing of its own.

    Raises:
        FormatError: the file is empty, or not CSV or Parquet.
        InputError: it cannot be opened, or holds more than `ROWS_LIMIT` rows.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    refuse_empty(path)
    name = table_name(path)
    if name in VOCABULARY:
        return FileRead(skipped=(Skipped(str(path), "vocabulary of an OMOP database, not evidence"),))
    if name not in TABLES:
        raise FormatError(f"Cannot read OMOP '{path.name}': it is not a table that is read. Known: {', '.join(sorted(TABLES))}.")
    vocabulary = vocabulary_beside(path)
    wanted: set[int] = set()
    for number, row in enumerate(read_rows(path)):
        if number >= ROWS_LIMIT:
            raise InputError(f"Cannot read OMOP '{path.name}': it holds more than {ROWS_LIMIT} rows. Split it by person.")
        wanted.update(each for column in _LOOKED_UP[name] if (each := whole(row.get(column))))
    reading = _Reading(path, file_sha256(path), name, options, concepts_of(vocabulary, wanted))
    found: dict[str, list[Item]] = {}
    for subject, item in _items(reading):
        found.setdefault(subject, []).append(item)
    stays = {subject: starts[0] for subject, starts in reading.stays.items() if len(starts) == 1}
    parts = (Found(subject, tuple(items), {"admission": stays[subject]} if subject in stays else {}) for subject, items in found.items())
    skipped = tuple(Skipped(str(path), f"{count} × {reason}") for reason, count in reading.refused.items())
    return FileRead(tuple(parts), skipped, (vocabulary,) if vocabulary else ())


def _items(reading: _Reading) -> Iterator[tuple[str, Item]]:
    """Yield person and item of each readable row; note the others."""
    for number, row in enumerate(read_rows(reading.path), start=1):
        subject = row.get("person_id")
        if subject is None:
            reading.refused["row without a person"] += 1
            continue
        try:
            drafts = _drafts(row, reading)
        except InputError as error:
            reading.refused[str(error)] += 1
            continue
        for draft in drafts:
            locator = f"row {number}{draft.within}"
            source = Source(str(reading.path), reading.sha256, locator)
            yield str(subject), Item(
                id=item_id(reading.sha256, locator),
                modality=modality_of(*draft.keys),
                code=draft.code,
                source=source,
                observed_at=draft.observed_at,
                ended_at=draft.ended_at,
                value=draft.value,
                unit=draft.unit,
                content=draft.content,
                status=draft.status,
                category=draft.category,
                reference_range=draft.reference_range,
                remarks=draft.remarks,
            )
            if draft.value == "inpatient" and isinstance(draft.observed_at, Instant) and draft.observed_at.precision == "second":
                reading.stays.setdefault(str(subject), []).append(draft.observed_at.at)


def _drafts(row: Mapping[str, Any], reading: _Reading) -> list[Draft]:
    if reading.name == "person":
        return _person(row)
    table = TABLES[reading.name]
    start = _time(row, table.start)
    if reading.name == "death":
        return [Draft(Code(SNOMED, "419099009", "dead"), ("snomed:419099009", "fhir:Patient"), "observation", observed_at=start)]
    code = _code(row, table, reading)
    draft = Draft(
        code,
        (key_of(code), _KEYS.get(table.category, "fhir:Observation"), f"category:{table.category}"),
        table.category,
        observed_at=start,
        ended_at=_time(row, table.end) if table.end else None,
    )
    if reading.name == "note":
        words = str(row.get("note_text") or "")
        frame = replace(draft, code=Code(LOINC, "34109-9", "note"), keys=("media:text/plain", "category:note"))
        return texts(frame, parts_of(words), remarks_of(words))
    if reading.name == "visit_occurrence":
        kind = VISITS.get(whole(row.get(table.concept)) or 0)
        return [replace(draft, value=kind, status="finished" if draft.ended_at else None)]
    if reading.name in ("measurement", "observation"):
        return [_valued(row, draft, reading)]
    return [draft]


def _person(row: Mapping[str, Any]) -> list[Draft]:
    keys = ("fhir:Patient", "category:demographic")
    drafts = []
    sex = SEX.get(whole(row.get("gender_concept_id")) or 0)
    if sex:
        drafts.append(Draft(Code(LOINC, "76689-9", "sex"), keys, "demographic", " gender", value=sex))
    year = whole(row.get("year_of_birth"))
    if year is not None:
        if not 1800 <= year <= 2200:
            raise FormatError("person whose year of birth is not one of a calendar")
        at = Instant(datetime(year, 1, 1, tzinfo=UTC), "year", zone_is_stated=False)
        code = Code(LOINC, BIRTH_DATE, "birth date")
        drafts.append(Draft(code, keys, "demographic", " birth", observed_at=at, remarks=("only the year is kept",)))
    return drafts


def _code(row: Mapping[str, Any], table: Table, reading: _Reading) -> Code:
    number, written = whole(row.get(table.concept)), row.get(table.source_value)
    if number and number in reading.concepts:
        return reading.concepts[number][0]
    if number:
        return Code("omop", str(number), str(written or f"concept {number}"))
    if written is None:
        raise FormatError("row with neither a concept nor a source value")
    return Code("", str(written).lower(), str(written))


def _time(row: Mapping[str, Any], name: str) -> Instant | None:
    """Return a moment by `…_datetime`, else the day by `…_date`.

    Raises:
        FormatError: it is not a time.
    """
    for column in (f"{name}_datetime", f"{name}_date"):
        cell = row.get(column)
        if cell is None:
            continue
        if isinstance(cell, datetime):
            return Instant(cell if cell.tzinfo else cell.replace(tzinfo=UTC), "second", zone_is_stated=cell.tzinfo is not None)
        if isinstance(cell, date):
            return Instant(datetime(cell.year, cell.month, cell.day, tzinfo=UTC), "day", zone_is_stated=False)
        try:
            return parse_instant(str(cell))
        except FormatError as error:
            raise FormatError(f"row whose time is {error}") from None
    return None


def _valued(row: Mapping[str, Any], draft: Draft, reading: _Reading) -> Draft:
    number = _number(row.get("value_as_number"))
    if number is None:
        coded = whole(row.get("value_as_concept_id"))
        known = reading.concepts.get(coded or 0)
        words = known[0].display if known else row.get("value_as_string") or row.get("value_source_value")
        return replace(draft, value=None if words is None else str(words))
    unit, remarks = _unit(row, reading)
    sign = _COMPARATORS.get(whole(row.get("operator_concept_id")) or 0)
    if sign:
        return replace(draft, value=f"{sign} {number:.12g}", unit=unit, remarks=("the value is a limit, not a measurement",))
    low, high = _number(row.get("range_low")), _number(row.get("range_high"))
    limits = ReferenceRange(low, high, "the record") if low is not None or high is not None else None
    return replace(draft, value=number, unit=unit, reference_range=limits, remarks=remarks)


def _number(cell: object) -> float | None:
    if cell is None:
        return None
    try:
        value = float(str(cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError("row whose number is none")
    return value


def _unit(row: Mapping[str, Any], reading: _Reading) -> tuple[str | None, tuple[str, ...]]:
    """Return the unit: its concept's UCUM code, else the source's own word when it is UCUM or the manifest declares it.

    Raises:
        UnitError: the word is not UCUM's, and nothing is declared for it.
    """
    known = reading.concepts.get(whole(row.get("unit_concept_id")) or 0)
    if known is not None and known[1] == "UCUM":
        return check(known[0].code), ()
    written = row.get("unit_source_value")
    if written is None:
        return None, ("the record states no unit",)
    return reading.options.units.get(str(written)) or check(str(written)), ()


READER = Reader(name="omop", title="OMOP CDM table", recognises=is_table, read=read, priority=40)
