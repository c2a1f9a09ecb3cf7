"""Normal or abnormal heart sound (PhysioNet/CinC Challenge 2016, 310 recordings).

Takes the cohort folder; gives one question per recording. Subject ids are not published, so the recording is the unit of split
and bootstrap. The subset letter (collection site and device) is a confounder: it is a subgroup, never evidence.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_rows, read_split
from salus.errors import InputError
from salus.record.read.reader import ReadOptions
from salus.record.read.sound import READER
from salus.task import Example, Split, Task

FOLDER = "heart_sounds_cinc2016"
QUESTION = "Is this heart sound normal or abnormal?"
OPTIONS = ("normal", "abnormal")


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per recording of a split, in the order of `labels.csv`.

    Args:
        data: folder that holds `heart_sounds_cinc2016/`.
        split: `train`, `val` or `test`; by recording, stratified by label within subset.

    Raises:
        InputError: a table or a recording is missing, or a label is not as published.
    """
    folder = data / FOLDER
    splits = read_split(folder / "split.csv", "recording_id")
    examples = []
    for row in read_rows(folder / "labels.csv", ("recording_id", "file", "subset", "label")):
        if splits.get(row["recording_id"]) != split:
            continue
        path = folder / row["file"]
        if row["label"] not in OPTIONS or not path.is_file():
            raise InputError(
                f"Cannot read the cohort {folder}: a row of labels.csv has no known label or no file. Restore the original files."
            )
        examples.append(
            Example(
                id=f"heart-sound/{row['recording_id']}",
                subject_id=row["recording_id"],
                record=partial(
                    read_one_file, READER, path, subject_id=row["recording_id"], options=ReadOptions(modality="heart_sound")
                ),
                question=QUESTION,
                options=OPTIONS,
                answer=row["label"],
                subgroup={"subset": row["subset"]},
            )
        )
    return tuple(examples)


TASK = Task(
    name="heart-sound",
    title="Normal or abnormal heart sound",
    modalities=("heart_sound",),
    metric="auroc",
    read=read,
    folders=(FOLDER,),
    licence="ODC-By 1.0",
    may_shape_shipped_weights=True,
    positive="abnormal",
    pass_above=0.70,
    rivals=("random_forest", "extra_trees"),
    site="subset",
)
