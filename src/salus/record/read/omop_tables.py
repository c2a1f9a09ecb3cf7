"""Tables of the OMOP common data model: which column holds what, rows of CSV and Parquet, and the concepts that codes stand for.

Takes a table's file; gives rows as texts and numbers under lower-case names, and concepts by id from the vocabulary beside it. Streams: a
table or a vocabulary larger than memory costs time only.

Source: OMOP CDM v5.4, https://ohdsi.github.io/CommonDataModel/cdm54.html.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salus.errors import FormatError, InputError
from salus.record.patient import Code
from salus.record.read.parquet import MAGIC, columns_of, names_in_footer, rows_of

ENDINGS = (".csv", ".tsv", ".parquet")
FIELD_LIMIT = 1 << 24
"""Longest cell of a table; a note may be long."""


@dataclass(frozen=True)
class Table:
    """Which columns of one table say what, when."""

    concept: str
    source_value: str
    start: str
    """Beginning of the names of two columns: `…_datetime` and `…_date`."""
    category: str
    end: str = ""


TABLES = {
    "condition_occurrence": Table("condition_concept_id", "condition_source_value", "condition_start", "condition", "condition_end"),
    "drug_exposure": Table("drug_concept_id", "drug_source_value", "drug_exposure_start", "medication", "drug_exposure_end"),
    "procedure_occurrence": Table("procedure_concept_id", "procedure_source_value", "procedure", "procedure", "procedure_end"),
    "measurement": Table("measurement_concept_id", "measurement_source_value", "measurement", "observation"),
    "observation": Table("observation_concept_id", "observation_source_value", "observation", "observation"),
    "device_exposure": Table("device_concept_id", "device_source_value", "device_exposure_start", "observation", "device_exposure_end"),
    "visit_occurrence": Table("visit_concept_id", "visit_source_value", "visit_start", "encounter", "visit_end"),
    "note": Table("note_class_concept_id", "note_title", "note", "note"),
    "person": Table("gender_concept_id", "gender_source_value", "birth", "demographic"),
    "death": Table("cause_concept_id", "cause_source_value", "death", "observation"),
}
"""Tables that are read."""
VOCABULARY = frozenset({
    "concept", "concept_ancestor", "concept_class", "concept_relationship", "concept_synonym", "domain", "drug_strength", "relationship",
    "vocabulary",
})  # fmt: skip
SYSTEMS = {
    "LOINC": "http://loinc.org", "SNOMED": "http://snomed.info/sct", "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "CVX": "http://hl7.org/fhir/sid/cvx", "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm", "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "UCUM": "http://unitsofmeasure.org",
}  # fmt: skip


def table_name(path: Path) -> str:
    """Return the table that a file's name says: `measurement` of `MEASUREMENT.csv`."""
    return path.stem.lower() if path.suffix.lower() in ENDINGS else ""


def is_table(path: Path, head: bytes) -> bool:
    """Return whether a file is named and built as a table of the model: by the columns that only it has."""
    name = table_name(path)
    if name not in TABLES and name not in VOCABULARY:
        return False
    columns = names_in_footer(path) if head.startswith(MAGIC) else head.split(b"\n", 1)[0]
    wanted: tuple[str, ...] = ("person_id",) if name in TABLES else ("concept_id",) if name == "concept" else (name,)
    if name in TABLES and name != "death":
        wanted = (*wanted, TABLES[name].concept)
    return all(each.encode() in columns.lower() for each in wanted)


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield a table's rows under lower-case names, empty cells as None.

    Raises:
        FormatError: it is not UTF-8, has no header, or a cell is over the limit.
        InputError: it cannot be opened.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    if path.suffix.lower() == ".parquet":
        names = columns_of(path)
        for row in rows_of(path, names):
            yield {name.lower(): None if value == "" else value for name, value in row.items()}
        return
    try:
        csv.field_size_limit(FIELD_LIMIT)
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline(1 << 16)
            delimiter = "\t" if header.count("\t") > header.count(",") else ","
            names = tuple(name.strip().strip('"').lower() for name in header.split(delimiter))
            # Athena's vocabularies are tab-separated and unquoted
            is_plain = delimiter == "\t"
            cells_of = (
                csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE) if is_plain else csv.reader(stream, delimiter=",")
            )
            for cells in cells_of:
                yield {name: cell.strip() or None for name, cell in zip(names, cells, strict=False)}
    except UnicodeDecodeError as error:
        raise FormatError(f"Cannot read OMOP '{path.name}': it is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except csv.Error as error:
        raise FormatError(f"Cannot read OMOP '{path.name}': it is not CSV ({str(error).split('(')[0].strip()}). Export it again.") from None
    except OSError as error:
        raise InputError(f"Cannot read OMOP '{path.name}': {error.strerror}. Check that it may be read.") from error


def vocabulary_beside(path: Path) -> Path | None:
    """Return the concept table in the folder of a table, or None."""
    return next((each for each in sorted(path.parent.iterdir()) if table_name(each) == "concept"), None)


def concepts_of(vocabulary: Path | None, wanted: Collection[int]) -> dict[int, tuple[Code, str]]:
    """Return code and vocabulary of each wanted concept, in one pass over the concept table; empty without one."""
    found: dict[int, tuple[Code, str]] = {}
    if vocabulary is None or not wanted:
        return found
    for row in read_rows(vocabulary):
        number = whole(row.get("concept_id"))
        if number in wanted and number is not None and row.get("concept_code"):
            name = str(row.get("vocabulary_id") or "")
            own = str(row["concept_code"])
            found[number] = (Code(SYSTEMS.get(name, name), own, str(row.get("concept_name") or own)), name)
    return found


def whole(cell: object) -> int | None:
    """Return a whole number from a cell; None when it holds none."""
    try:
        return None if cell is None else int(str(cell).removesuffix(".0"))
    except ValueError:
        return None
