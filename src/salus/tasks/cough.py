"""COVID-19 from an induced cough (153 recordings of covid19-cough/dataset, CC0).

Takes the cohort folder; gives one question per recording. Labels are PCR results or the word of the caller, and follow the recording
channel: the source is a subgroup and a confounder, never evidence. No speaker ids are published, so the recording is the unit of split and
bootstrap. Nothing is ever interpreted because of this task.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_split
from salus.errors import InputError
from salus.record.read.reader import ReadOptions
from salus.record.read.sound import READER
from salus.task import Example, Split, Task

FOLDER = "cough_covid19"
QUESTION = "Was this cough recorded from a person with COVID-19?"
OPTIONS = ("no", "yes")


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per recording of a split, in the order of `split.csv`.

    Args:
        data: folder that holds `cough_covid19/`.
        split: `train`, `val` or `test`; by recording, stratified by source and label.

    Raises:
        InputError: a table or a recording is missing, or a row has no label.
    """
    folder = data / FOLDER
    rows = _rows(folder)
    examples = []
    for name, own in read_split(folder / "split.csv", "filename").items():
        if own != split:
            continue
        row, path = rows.get(name, {}), folder / "raw" / name
        if not isinstance(row.get("covid19"), bool) or not isinstance(row.get("source"), str) or not path.is_file():
            raise InputError(
                f"Cannot read the cohort {folder}: a recording of split.csv has no label, source or file. Restore the original files."
            )
        options = ReadOptions(modality="cough")
        examples.append(
            Example(
                id=f"cough/{name}",
                subject_id=name,
                record=partial(read_one_file, READER, path, subject_id=name, options=options),
                question=QUESTION,
                options=OPTIONS,
                answer=OPTIONS[bool(row["covid19"])],
                subgroup={"source": str(row["source"])},
            )
        )
    return tuple(examples)


def _rows(folder: Path) -> dict[str, dict[str, object]]:
    """Return the rows of `metadata.json` by file name."""
    try:
        rows = json.loads((folder / "metadata.json").read_text("utf-8"))
        return {row["filename"]: row for row in rows}
    except FileNotFoundError:
        raise InputError(
            f"Cannot read the cohort: {folder / 'metadata.json'} is not there. Set SALUS_DATA to the folder that holds {FOLDER!r}."
        ) from None
    except (UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"Cannot read the cohort {folder}: metadata.json is damaged ({type(error).__name__}). Restore it.") from None


TASK = Task(
    name="cough",
    title="COVID-19 from a cough (sanity check only)",
    modalities=("cough",),
    metric="auroc",
    read=read,
    folders=(FOLDER,),
    licence="CC0-1.0",
    may_shape_shipped_weights=True,
    positive="yes",
    pass_above=None,  # labels follow the recording channel: no figure here may make a model speak of coughs
    site="source",
)
