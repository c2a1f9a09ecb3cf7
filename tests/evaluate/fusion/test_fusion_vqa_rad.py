"""Yes or no about a picture: closed questions alone, the picture's own tokens beside each of its questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from salus import registry
from salus.evaluate.alignment_tasks import Frozen
from salus.evaluate.fusion.vqa_rad import OPTIONS, TASK, read_by
from salus.fuse.token_sets import Tokens


def _tokens(values: Sequence[float]) -> Tokens:
    made = np.array(values, np.float32).reshape(-1, 1, 1)
    return Tokens(made, np.ones(made.shape[:2], bool), np.full(made.shape[:2], np.nan, np.float32))


class Named(Frozen):
    """Stands for the frozen networks: a picture is the length of its file, a question the length of its words."""

    def __init__(self) -> None:
        """Take no model: none is asked."""

    def texts(self, texts: Sequence[Sequence[str]]) -> Tokens:
        """Return one number for each question."""
        return _tokens([float(len(one[0])) for one in texts])

    def pictures(self, paths: Sequence[Path], progress: Callable[[float], None]) -> dict[str, Tokens]:
        """Return one number for each picture."""
        progress(1.0)
        return {"cells": _tokens([float(path.stat().st_size) for path in paths])}


@pytest.mark.data
def test_each_question_has_its_own_picture_and_answer(salus_data: Path) -> None:
    made = read_by(Named(), salus_data, ("val",), lambda _words, _share: None)["val"]
    examples = [one for one in registry.load("salus.tasks", "vqa-rad").read(salus_data, "val") if set(one.options) == set(OPTIONS)]
    assert len(made) == len(examples) == 184 and TASK.folds == 5 and tuple(made.modalities) == TASK.modalities
    for row, one in enumerate(examples):
        (path,) = (salus_data / "vqa_rad" / "images").glob(f"{one.subject_id}.*")
        assert made.groups[row] == one.subject_id and made.asked[row] == one.question
        assert OPTIONS[made.answers[row]] == one.answer
        assert made.modalities["image"].values[row, 0, 0] == path.stat().st_size
        assert made.modalities["question"].values[row, 0, 0] == len(one.question)
    assert len(set(made.groups)) == 44 < len(made)
