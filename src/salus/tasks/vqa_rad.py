"""Questions about radiology images (VQA-RAD), split by image.

Takes the cohort folder; gives closed questions with options (family `closed`) and open ones (family `open`, compared by
`salus.cohorts.free_answer.normalised`). The files do not say what an image is, so the organ decides: CHEST is a radiograph, HEAD
and ABD are CT or MR slices. That is an approximation; the questions that state the modality (86 of 314 images) never
contradict it, and their answers are not used, as they are themselves test answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from salus.cohorts.free_answer import normalised
from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_split
from salus.errors import InputError
from salus.record.read.image import READER
from salus.record.read.reader import ReadOptions
from salus.task import Example, Split, Task

FOLDER = "vqa_rad"
FILE = "VQA_RAD_Dataset_Public.json"
YES_NO = ("yes", "no")
MODALITY = {"CHEST": "radiograph", "HEAD": "ct_mr_slice", "ABD": "ct_mr_slice"}
CHOICE = re.compile(r"([\w-]+)\s+or\s+(?:(?:a|an|the)\s+)?([\w-]+)", re.IGNORECASE)


def options_of(question: str, answer: str) -> tuple[str, ...]:
    """Return the options of a closed question, or none when the question does not declare the answer.

    The options of an alternative question are the words next to `or`; the answer must be, or begin with, one of them.

    Example:
        >>> options_of("Is the mass cystic?", "No")
        ('yes', 'no')
        >>> options_of("Is this a cystic or solid mass?", "Cystic")
        ('cystic', 'solid')
        >>> options_of("Is the lung hyperinflated on one or both sides?", "diffusely")
        ()
    """
    wanted = normalised(answer)
    if wanted in YES_NO:
        return YES_NO
    choices = CHOICE.findall(question.lower())
    if len(choices) != 1:
        return ()
    return choices[0] if any(wanted == option or wanted.startswith(f"{option} ") for option in choices[0]) else ()


def _example(folder: Path, row: Mapping[str, Any]) -> Example:
    question, answer = str(row["question"]).strip(), str(row["answer"]).strip()
    is_closed = str(row["answer_type"]).strip() == "CLOSED"
    options = options_of(question, answer) if is_closed else ()
    right = normalised(answer)
    path = folder / "images" / row["image_name"]
    if row["image_organ"] not in MODALITY or not path.is_file():
        raise InputError(
            f"Cannot read the cohort {folder}: a question of {FILE} has no known organ or no image. Restore the original files."
        )
    return Example(
        id=f"vqa-rad/{row['qid']}",
        subject_id=Path(row["image_name"]).stem,
        record=partial(
            read_one_file,
            READER,
            path,
            subject_id=Path(row["image_name"]).stem,
            options=ReadOptions(modality=MODALITY[row["image_organ"]]),
        ),
        question=question,
        options=options,
        answer=next((option for option in options if right == option or right.startswith(f"{option} ")), right),
        family="closed" if options else "open",
        subgroup={"organ": row["image_organ"].lower()},
    )


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return the questions about the images of a split, in the order of the published file.

    Args:
        data: folder that holds `vqa_rad/`.
        split: `train`, `val` or `test`; by image, as both published splits share images.

    Raises:
        InputError: a file is missing or not as published.
    """
    folder = data / FOLDER
    splits = read_split(folder / "split.csv", "image_name")
    path = folder / FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"Cannot read the cohort: {path} is missing or not JSON. Restore the original file.") from None
    return tuple(_example(folder, row) for row in rows if splits.get(row["image_name"]) == split)


TASK = Task(
    name="vqa-rad",
    title="Questions about radiology images",
    modalities=("radiograph", "ct_mr_slice"),
    metric="exact_match",
    read=read,
    folders=(FOLDER,),
    licence="CC0 1.0",
    may_shape_shipped_weights=True,
)
