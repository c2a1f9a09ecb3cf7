"""In-hospital death from the first 48 hours of an intensive-care stay (PhysioNet/CinC Challenge 2012, set A).

Takes the cohort folder; gives one question per stay. The record is the whole 48-hour file, and nothing of `Outcomes-a.txt`:
SAPS-I, SOFA, length of stay and survival are outcomes or scores, never evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_rows, read_split
from salus.cohorts.subgroup import subgroup
from salus.errors import InputError
from salus.record.read.icu2012 import READER
from salus.task import Example, Split, Task

FOLDER = "icu_physionet2012"
QUESTION = "Will this patient die in hospital?"
OPTIONS = ("yes", "no")
LABEL = {"1": "yes", "0": "no"}
SEX = {"0": "female", "1": "male"}
DESCRIPTOR_LINES = 8
"""The five descriptors and the record's number stand in the first lines, at 00:00."""


def _descriptors(path: Path) -> dict[str, str]:
    """Return the descriptors of a stay, by the challenge's names, from the head of its file."""
    with path.open(encoding="utf-8") as handle:
        rows = [line.strip().split(",") for line, _ in zip(handle, range(DESCRIPTOR_LINES), strict=False)]
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "00:00"}


def stay_subgroup(path: Path) -> dict[str, str]:
    """Return sex and age band of a stay, where its file states them (-1 means unknown)."""
    stated = _descriptors(path)
    age = float(stated.get("Age", "-1"))
    return subgroup(SEX.get(stated.get("Gender", "-1")), age if age >= 0 else None)


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per stay of a split, in the order of `split.csv`.

    Args:
        data: folder that holds `icu_physionet2012/`.
        split: `train`, `val` or `test`; by patient, stratified by death.

    Raises:
        InputError: a table or a stay's file is missing or not as published.
    """
    folder = data / FOLDER
    died = {
        row["RecordID"]: row["In-hospital_death"]
        for row in read_rows(folder / "Outcomes-a.txt", ("RecordID", "In-hospital_death"))
    }
    examples = []
    for record_id, part in read_split(folder / "split.csv", "RecordID").items():
        if part != split:
            continue
        path = folder / "set-a" / f"{record_id}.txt"
        if died.get(record_id) not in LABEL or not path.is_file():
            raise InputError(
                f"Cannot read the cohort {folder}: a stay of split.csv has no label or no file. Restore the original files."
            )
        examples.append(
            Example(
                id=f"icu-death/{record_id}",
                subject_id=record_id,
                record=partial(read_one_file, READER, path, subject_id=record_id),
                question=QUESTION,
                options=OPTIONS,
                answer=LABEL[died[record_id]],
                subgroup=stay_subgroup(path),
            )
        )
    return tuple(examples)


def saps(data: Path, examples: Sequence[Example]) -> tuple[float, ...]:
    """Return SAPS-I of each stay, as published with the outcomes; NaN where it is not stated."""
    rows = read_rows(data / FOLDER / "Outcomes-a.txt", ("RecordID", "SAPS-I"))
    stated = {row["RecordID"]: float(row["SAPS-I"]) for row in rows}
    return tuple(math.nan if stated[example.subject_id] < 0 else stated[example.subject_id] for example in examples)


TASK = Task(
    name="icu-death",
    title="In-hospital death from the first 48 hours in intensive care",
    modalities=("vitals_labs",),
    metric="auroc",
    read=read,
    folders=(FOLDER,),
    licence="ODC-By 1.0",
    may_shape_shipped_weights=True,
    positive="yes",
    pass_above=0.75,
    rivals=("gradient_boosting", "logistic_regression"),
    severity=("SAPS-I", saps),
)
