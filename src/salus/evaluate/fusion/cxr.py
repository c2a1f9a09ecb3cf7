"""COVID-19 or another finding on a chest X-ray: the image, the note without the words of its label, age and sex.

Benchmark only: most images are under licences that forbid weights that ship. The note loses what names the diagnosis (`leakage`); a reader
of words alone still tells the label from what is left, so a figure with notes is an upper bound (`scripts/measure_leakage.py`).

A decision, not a finding: view, offset, date, place and licence are left out because whoever gathered the images chose them. Age and sex
are kept without a flag of what is missing, though a mask or a 0 still shows it, and that there is a note is shown too. Images may carry
their source as well (device, cropping); that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import salus
from salus.cohorts.split_file import read_rows, read_split
from salus.encode import image, sentence, text
from salus.evaluate import alignment_tasks, alignment_texts
from salus.evaluate.alignment_tasks import Frozen
from salus.evaluate.fusion import leakage
from salus.evaluate.fusion.leakage import without_label
from salus.evaluate.fusion_tasks import FusionTask, Progress, one_token
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import load_model
from salus.task import Split

FOLDER = "cxr_covid_chestxray"
COLUMNS = ("patient_group", "sex", "age", "finding", "image", "clinical_notes")
OPTIONS = ("another finding", "COVID-19")
ASKED = "Does this patient have COVID-19 or another finding?"
"""For every patient the same."""
SENTENCES = 8
"""Tokens of a note: its first sentences."""
BASE = Path(salus.__file__).parent / "models" / "base"
SEX = {"F": -1.0, "M": 1.0}


def who(row: Mapping[str, str]) -> tuple[float, float]:
    """Return age (60 years is 0, 20 years are 1) and sex (-1 female, 1 male); NaN where it is not told.

    Example:
        >>> who({"age": "70", "sex": "F"}), who({"age": "", "sex": "M"})
        ((0.5, -1.0), (nan, 1.0))
    """
    return (float(row["age"]) - 60) / 20 if row["age"] else float("nan"), SEX.get(row["sex"], float("nan"))


def first_tokens(tokens: Tokens, count: int) -> Tokens:
    """Return as many tokens of each patient: the first, padded with ones that do not count."""
    spare = max(0, count - tokens.mask.shape[1])
    values = np.pad(tokens.values[:, :count], ((0, 0), (0, spare), (0, 0)))
    mask = np.pad(tokens.mask[:, :count], ((0, 0), (0, spare)))
    return Tokens(values, mask, np.full(mask.shape, np.nan, np.float32))


def read(data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return of each image 16 cells of the frozen picture networks, up to 8 sentences of its note, and who the patient is."""
    return read_with(Frozen(partial(load_model, BASE)), data, splits, progress)


def read_with(frozen: Frozen, data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the same by given networks."""
    folder = data / FOLDER
    groups = read_split(folder / "split.csv", "patient_group")
    rows = read_rows(folder / "metadata.csv", COLUMNS)
    made: dict[Split, TokenSets] = {}
    for split in splits:
        own = [row for row in rows if groups.get(row["patient_group"]) == split]
        notes = [without_label(alignment_texts.cleaned_note(row["clinical_notes"])) for row in own]
        cells = frozen.pictures([folder / row["image"] for row in own], partial(progress, f"cxr-covid: {split}"))["cells"]
        sets = {
            "image": cells,
            "note": first_tokens(frozen.texts([text.sentences(note) for note in notes]), SENTENCES),
            "demographics": one_token(np.array([who(row) for row in own], np.float32)),
        }
        answers = np.array([int("COVID-19" in row["finding"]) for row in own], np.int64)
        made[split] = TokenSets(sets, answers, tuple(row["patient_group"] for row in own), (ASKED,) * len(own))
    return made


TASK = FusionTask(
    "cxr-covid",
    "COVID-19 or another finding on a chest X-ray (benchmark only)",
    ("image", "note", "demographics"),
    OPTIONS,
    (FOLDER,),
    read,
    (
        *(Path(str(one.__file__)) for one in (leakage, alignment_tasks, alignment_texts, image, sentence, text)),
        Path(__file__),
        BASE / "model.safetensors",
    ),
    folds=5,
)
