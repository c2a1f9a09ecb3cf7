"""COVID-19 or another finding on a chest X-ray (covid-chestxray-dataset, rows whose licence may ship).

Takes the cohort folder; gives one question per image whose own licence is CC0, CC BY or Apache (not BY-SA, not NC), the same
rows in every split. Notes are not given: they hold the words of the diagnosis. So may the file's name, which only stands in
an item's source and must not be shown to a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_rows, read_split
from salus.cohorts.subgroup import subgroup
from salus.errors import InputError
from salus.record.read.image import READER
from salus.record.read.reader import ReadOptions
from salus.task import Example, Split, Task

FOLDER = "cxr_covid_chestxray"
QUESTION = "Does this chest X-ray show COVID-19 pneumonia?"
OPTIONS = ("yes", "no")
SEX = {"F": "female", "M": "male"}
MAY_SHIP = re.compile(r"(CC0|CC BY|Apache)([ -]\d+\.\d+)?", re.IGNORECASE)
"""Whole licence text of an image that may shape shipped weights; `CC BY-SA` and `CC BY-NC` do not match as a whole."""
COLUMNS = ("patient_id", "patient_group", "sex", "age", "finding", "license", "image")


def may_ship(licence: str) -> bool:
    """Return whether an image under this licence may shape weights that ship.

    Example:
        >>> [may_ship(text) for text in ("CC BY 4.0", "CC BY", "CC BY-SA", "CC BY-NC-SA 4.0", "")]
        [True, True, False, False, False]
    """
    return MAY_SHIP.fullmatch(licence.strip()) is not None


def _example(folder: Path, row: Mapping[str, str]) -> Example:
    path = folder / row["image"]
    if not path.is_file():
        raise InputError(f"Cannot read the cohort {folder}: an image of metadata.csv is not there. Restore the original files.")
    return Example(
        id=f"cxr-finding/{Path(row['image']).stem}",
        subject_id=row["patient_group"],
        record=partial(read_one_file, READER, path, subject_id=row["patient_group"], options=ReadOptions(modality="radiograph")),
        question=QUESTION,
        options=OPTIONS,
        answer="yes" if "COVID-19" in row["finding"] else "no",
        subgroup=subgroup(SEX.get(row["sex"]), float(row["age"]) if row["age"] else None),
    )


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per image of a split, in the order of `metadata.csv`.

    Args:
        data: folder that holds `cxr_covid_chestxray/`.
        split: `train`, `val` or `test`; by `patient_group`, which joins two ids of one patient.

    Raises:
        InputError: a table or an image is missing.
    """
    folder = data / FOLDER
    splits = read_split(folder / "split.csv", "patient_group")
    rows = read_rows(folder / "metadata.csv", COLUMNS)
    return tuple(_example(folder, row) for row in rows if splits.get(row["patient_group"]) == split and may_ship(row["license"]))


TASK = Task(
    name="cxr-finding",
    title="COVID-19 or another finding on a chest X-ray",
    modalities=("radiograph",),
    metric="auroc",
    read=read,
    folders=(FOLDER,),
    licence="CC BY 3.0 and 4.0, per image",
    may_shape_shipped_weights=True,
    positive="yes",
    pass_above=0.70,
)
