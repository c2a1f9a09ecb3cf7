"""Yes or no about a radiology picture: what frozen picture networks see of it, and the question.

The answer rests on both together: a question alone tells how often such questions are answered with yes, a picture alone next to nothing.
One picture has several questions, so pictures are the unit of folds and intervals.

The picture networks learned without answers, from pictures of `train` alone (`recipes/base.yaml`: `records_from`), so folds are fair.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus import registry
from salus.encode import image, sentence
from salus.evaluate import alignment_tasks
from salus.evaluate.alignment_tasks import Frozen
from salus.evaluate.fusion_tasks import FusionTask, Progress, answers_of, groups_and_words
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import load_model
from salus.task import Split

FOLDER = "vqa_rad"
OPTIONS = ("no", "yes")
BASE = Path(str(files("salus") / "models" / "base"))
"""The model whose picture networks see the pictures."""


def read(data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the closed questions of each split that are answered with yes or no."""
    return read_by(Frozen(lambda: load_model(BASE)), data, splits, progress)


def read_by(frozen: Frozen, data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the questions as some frozen networks see them: 16 cells of each picture, one token of each question.

    Args:
        frozen: the networks.
        data: folder that holds `vqa_rad/`.
        splits: by picture.
        progress: is told how far the pictures are.
    """
    task = registry.load("salus.tasks", "vqa-rad")
    paths = {path.stem: path for path in sorted((data / FOLDER / "images").iterdir())}
    made: dict[Split, TokenSets] = {}
    for split in splits:
        examples = [one for one in task.read(data, split) if set(one.options) == set(OPTIONS)]
        names = sorted({one.subject_id for one in examples})
        seen = frozen.pictures([paths[name] for name in names], partial(progress, f"vqa-rad: {split}"))["cells"]
        place = {name: at for at, name in enumerate(names)}
        pictures = _taken(seen, np.array([place[one.subject_id] for one in examples], np.int64))
        questions = frozen.texts([[one.question] for one in examples])
        made[split] = TokenSets({"image": pictures, "question": questions}, answers_of(examples, OPTIONS), *groups_and_words(examples))
    return made


def _taken(tokens: Tokens, rows: NDArray[np.int64]) -> Tokens:
    return Tokens(tokens.values[rows], tokens.mask[rows], tokens.time_s[rows])


TASK = FusionTask(
    "vqa-rad",
    "Yes or no about a radiology picture",
    ("image", "question"),
    OPTIONS,
    (FOLDER,),
    read,
    (*(Path(str(one)) for one in (__file__, alignment_tasks.__file__, image.__file__, sentence.__file__)), BASE / "model.safetensors"),
    folds=5,
)
