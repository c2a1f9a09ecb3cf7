"""Matrices of molecules: expression, methylation, miRNA, proteomics, metabolomics; patients in rows, or in columns.

Takes CSV or TSV whose header row, or first column, holds identifiers of one naming system (`salus.record.profiles`); gives one item
for each patient. Other columns or rows are named by number as not read. The format states no scale: the manifest may (`units`).
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Item, Profile, Skipped, Source, item_id
from salus.record.profiles import is_of, kind_of, system_of
from salus.record.read.csv_columns import CALENDAR_TIMES, PATIENTS, RELATIVE_TIMES, slug
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.units import check

MOST_VALUES = 20_000_000
MOST_LINE = 1 << 23
SAMPLES = PATIENTS | {"sample", "sample_id", "id"}
NO_VALUE = frozenset({"", "na", "nan", "n/a", "null", "none", "-", "."})
ANY_UNIT = "*"
"""Key of `units` in a manifest that gives the unit of all values."""


@dataclass(frozen=True)
class _Matrix:
    """Numbers of a whole file."""

    system: str
    features: tuple[str, ...]
    subjects: tuple[str | None, ...]
    values: NDArray[np.float32]
    """(P, F), NaN where missing."""
    texts: int
    """Cells that are neither a number nor a mark of a missing one."""
    other: int
    """Columns or rows that are of no feature."""
    patients_in: str
    """`row` or `column`."""


def recognises(_path: Path, head: bytes) -> bool:
    r"""Return whether the header row, or the first column, is of identifiers.

    A header that is cut off by the look at the first bytes is judged without its last cell.

    Example:
        >>> names = ",".join(f"cg{place:08}" for place in range(12))
        >>> recognises(Path("m.csv"), f"sample,{names}\na,1\n".encode()), recognises(Path("m.csv"), b"time_s,HR [/min]\n0,80\n")
        (True, False)
    """
    if b"\0" in head:
        return False
    lines = head.decode("utf-8-sig", errors="ignore").splitlines()
    if not lines:
        return False
    separator = _separator(lines[0])
    cells = _cells(lines[0] if len(lines) > 1 else lines[0].rpartition(separator)[0], separator)
    if any(slug(cell) in RELATIVE_TIMES or slug(cell) in CALENDAR_TIMES for cell in cells):
        return False
    first_column = [_cells(line, separator)[0] for line in lines[1:-1] if line]
    return system_of(_without_sample(cells)) is not None or system_of(first_column) is not None


def read_matrix(path: Path, options: ReadOptions) -> FileRead:
    """Return one item for each patient of a matrix.

    Raises:
        FormatError: the file is empty, not UTF-8 or no such matrix; an identifier or a patient comes twice; several patients without names.
        InputError: it cannot be opened, or holds more than 20 million values.
        UnitError: the declared unit is not UCUM.
    """
    refuse_empty(path)
    matrix = _collect(path)
    unit = check(options.units.get(ANY_UNIT, "1"), where=f"units[{ANY_UNIT!r}] of '{path.name}' in the manifest")
    sha256 = file_sha256(path)
    kind = kind_of(matrix.system)
    modality = options.modality or modality_of(f"profile:{matrix.system}")
    remarks = [f"{kind} by its identifiers ({matrix.system})"]
    remarks += [] if ANY_UNIT in options.units else ["the scale of the values is not stated"]
    remarks += [f"{matrix.texts} cells of the file are no numbers: taken as missing"] if matrix.texts else []
    found = []
    for place, subject in enumerate(matrix.subjects):
        values = matrix.values[place]
        profile = Profile(matrix.features, values, matrix.system, unit)
        locator = f"{matrix.patients_in} {place + 2}"
        measured = int(np.isfinite(values).sum())
        summary = f"{len(values)} features ({matrix.system}), {measured} measured"
        item = Item(
            id=item_id(sha256, locator),
            modality=modality,
            code=Code("media", "text/csv", f"{kind} profile"),
            source=Source(str(path), sha256, locator),
            category="profile",
            content=Content("profile", partial(_given, profile), summary),
            remarks=tuple(remarks),
        )
        found.append(Found(subject, (item,)))
    other = "columns" if matrix.patients_in == "row" else "rows"
    reason = f"{matrix.other} {other} whose name is no identifier of {matrix.system}: not read as evidence"
    return FileRead(found=tuple(found), skipped=(Skipped(str(path), reason),) if matrix.other else ())


def _given(profile: Profile) -> Profile:
    return profile


def _separator(header: str) -> str:
    return max((",", ";", "\t"), key=header.count)


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [""])] or [""]


def _without_sample(cells: Sequence[str]) -> list[str]:
    return [cell for cell in cells if cell and slug(cell) not in SAMPLES]


def _lines(stream: IO[str], file: str) -> Iterator[str]:
    while line := stream.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise FormatError(f"Cannot read '{file}' as a matrix: a line is longer than {MOST_LINE:,} characters. Put patients in columns.")
        yield line


def _collect(path: Path) -> _Matrix:
    """Return the numbers of a file, whichever way it lies."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = next(_lines(stream, path.name), "")
            separator = _separator(first)
            header = _cells(first, separator)
            rows = csv.reader(_lines(stream, path.name), delimiter=separator)
            system = system_of(_without_sample(header))
            matrix = _by_rows(path.name, header, rows, system) if system else _by_columns(path.name, header, rows)
    except UnicodeDecodeError as error:
        raise FormatError(f"Cannot read '{path.name}' as a matrix: it is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except csv.Error as error:
        raise FormatError(f"Cannot read '{path.name}' as a matrix: {error}. Check quotes and separators.") from error
    except OSError as error:
        raise InputError(f"Cannot read '{path.name}': {error.strerror}. Check that the file may be read.") from error
    for what, names in (("identifier", matrix.features), ("patient", matrix.subjects)):
        if len(set(names)) < len(names):
            raise FormatError(f"Cannot read '{path.name}' as a matrix: one {what} comes twice. Join or remove the second one.")
    return matrix


def _by_rows(file: str, header: Sequence[str], rows: Iterator[list[str]], system: str) -> _Matrix:
    """Return a matrix whose header row names the features."""
    places = [place for place, name in enumerate(header) if is_of(name, system)]
    named = next((place for place, name in enumerate(header) if slug(name) in SAMPLES or (place == 0 and not name)), None)
    subjects: list[str | None] = []
    values, texts = array("f"), 0
    for row in rows:
        if not any(row):
            continue
        subjects.append((row[named].strip() or None) if named is not None and named < len(row) else None)
        texts += _take(values, [row[place] if place < len(row) else "" for place in places], file)
    other = len(header) - len(places) - (named is not None)
    return _made(file, system, ([header[place] for place in places], subjects), values, (texts, other, "row"))


def _by_columns(file: str, header: Sequence[str], rows: Iterator[list[str]]) -> _Matrix:
    """Return a matrix whose first column names the features."""
    kept = [row for row in _bounded(rows, file) if any(row)]
    system = system_of([row[0].strip() for row in kept])
    if system is None:
        raise FormatError(
            f"Cannot read '{file}' as a matrix: neither its header row nor its first column holds identifiers of one naming system. "
            "Use Ensembl, HGNC, miRBase, Illumina, UniProt, HMDB, KEGG or ChEBI identifiers."
        )
    features, values, texts = [], array("f"), 0
    for row in kept:
        if is_of(row[0].strip(), system):
            features.append(row[0].strip())
            texts += _take(values, [row[place] if place < len(row) else "" for place in range(1, len(header))], file)
    across = np.frombuffer(values, np.float32).reshape(len(features), len(header) - 1) if len(header) > 1 else np.empty((0, 0))
    flat = array("f", np.ascontiguousarray(across.T).ravel().tolist())
    return _made(file, system, (features, [name or None for name in header[1:]]), flat, (texts, len(kept) - len(features), "column"))


def _bounded(rows: Iterator[list[str]], file: str) -> Iterator[list[str]]:
    total = 0
    for row in rows:
        total += len(row)
        if total > MOST_VALUES:
            raise _too_many(file)
        yield row


def _too_many(file: str) -> InputError:
    return InputError(f"Cannot read '{file}': it holds more than {MOST_VALUES:,} values. Split it by patients.")


def _take(values: array[float], cells: Sequence[str], file: str) -> int:
    """Append a row of cells, NaN for what is no number; return how many are text."""
    if len(values) + len(cells) > MOST_VALUES:
        raise _too_many(file)
    texts = 0
    for cell in cells:
        try:
            value = float(cell)
        except ValueError:
            value = nan
            texts += cell.strip().lower() not in NO_VALUE
        values.append(value if isfinite(value) and abs(value) < np.finfo(np.float32).max else nan)
    return texts


def _made(
    file: str, system: str, names: tuple[list[str], list[str | None]], values: array[float], rest: tuple[int, int, str]
) -> _Matrix:
    features, subjects = names
    if not subjects or not features:
        raise FormatError(f"Cannot read '{file}' as a matrix: it holds no patient. Export it again.")
    if len(subjects) > 1 and None in subjects:
        raise FormatError(
            f"Cannot read '{file}' as a matrix: it holds {len(subjects)} patients and does not name each. Add a column 'subject_id'."
        )
    table = np.frombuffer(values, np.float32).reshape(len(subjects), len(features))
    return _Matrix(system, tuple(features), tuple(subjects), table, *rest)


READER = Reader(name="matrix", title="matrix of molecules", recognises=recognises, read=read_matrix, priority=55)
