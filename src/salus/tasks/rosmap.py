"""Alzheimer's disease or normal control from three omics of one person (ROSMAP, 351 people, MOGONET's preprocessing).

Takes the cohort folder; gives one question per person with mRNA, DNA methylation and miRNA. The source's terms are unclear, so it is
a benchmark only: it never lets a modality be interpreted, and never shapes weights that ship.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.cohorts.split_file import read_rows
from salus.errors import InputError
from salus.record.patient import Code, Content, Item, PatientRecord, Profile, Source, item_id
from salus.record.profiles import kind_of
from salus.task import Example, Split, Task

FOLDER = "multiomics_rosmap"
OMICS = {"1": ("gene_expression", "ensembl"), "2": ("dna_methylation", "illumina-methylation"), "3": ("mirna_expression", "mirbase")}
"""Number of the file → modality and naming system of its features."""
QUESTION = "Does this person have Alzheimer's disease, or is it a normal control?"
OPTIONS = ("control", "Alzheimer's disease")


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per person of a split, in the order of `split.csv`.

    Args:
        data: folder that holds `multiomics_rosmap/`.
        split: `train`, `val` or `test` (the official one).

    Raises:
        InputError: a table is missing, or the tables disagree.
    """
    folder = data / FOLDER
    tables = {(number, part): _table(folder / f"{number}_{part}.csv") for number in OMICS for part in ("tr", "te")}
    labels = {part: _table(folder / f"labels_{part}.csv")[0][:, 0] for part in ("tr", "te")}
    names = {number: _names(folder / f"{number}_featname.csv") for number in OMICS}
    for (number, part), (values, _) in tables.items():
        if values.shape != (len(labels[part]), len(names[number])):
            raise InputError(f"Cannot read the cohort {folder}: {number}_{part}.csv does not fit its labels or names. Restore the files.")
    examples = []
    for row in read_rows(folder / "split.csv", ("patient_id", "split")):
        if row["split"] != split:
            continue
        part, place = row["patient_id"][:2], int(row["patient_id"][2:])
        items = tuple(
            _item(folder / f"{number}_{part}.csv", tables[number, part][1], place, (number, names[number], tables[number, part][0][place]))
            for number in OMICS
        )
        examples.append(
            Example(
                id=f"rosmap/{row['patient_id']}",
                subject_id=row["patient_id"],
                record=partial(PatientRecord, row["patient_id"], items),
                question=QUESTION,
                options=OPTIONS,
                answer=OPTIONS[int(labels[part][place])],
            )
        )
    return tuple(examples)


def _item(path: Path, sha256: str, place: int, omic: tuple[str, tuple[str, ...], NDArray[np.float32]]) -> Item:
    number, names, values = omic
    modality, system = OMICS[number]
    locator = f"row {place + 1}"
    content = Content("profile", partial(Profile, names, values, system, "1"), f"{len(names)} features ({system})")
    code = Code("media", "text/csv", f"{kind_of(system)} profile")
    source = Source(str(path), sha256, locator)
    return Item(item_id(sha256, locator), modality, code, source, content=content, category="profile")


def _table(path: Path) -> tuple[NDArray[np.float32], str]:
    """Return the numbers of a table without header, and the hash of its bytes."""
    try:
        content = path.read_bytes()
        rows = [[float(cell) for cell in row] for row in csv.reader(content.decode("ascii").splitlines()) if row]
        return np.array(rows, np.float32), hashlib.sha256(content).hexdigest()
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the cohort table {path}: {type(error).__name__}. Restore the original files.") from error


def _names(path: Path) -> tuple[str, ...]:
    try:
        found: Sequence[str] = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"Cannot read the cohort table {path}: {error.strerror}. Restore the original files.") from error
    return tuple(found)


TASK = Task(
    name="rosmap",
    title="Alzheimer's disease from three omics",
    modalities=tuple(modality for modality, _ in OMICS.values()),
    metric="auroc",
    read=read,
    folders=(FOLDER,),
    licence="unclear (AMP-AD Knowledge Portal)",
    may_shape_shipped_weights=False,
    positive=OPTIONS[1],
)
