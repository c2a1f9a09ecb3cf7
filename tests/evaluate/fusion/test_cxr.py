"""The chest X-ray task of the fusion comparison: no label in a text, shapes that join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salus.evaluate.alignment_tasks import Frozen
from salus.evaluate.fusion.cxr import ASKED, SENTENCES, first_tokens, read_with
from salus.evaluate.fusion.leakage import PATTERNS
from salus.evaluate.fusion_tasks import fusion_task
from salus.fuse.token_sets import Tokens


class Seen(Frozen):
    """Stands for the frozen networks and keeps what they were shown."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.shown: list[str] = []

    def texts(self, texts):  # type: ignore[no-untyped-def]
        """Return the length of each sentence."""
        self.shown += [one for each in texts for one in each]
        longest = max(map(len, texts))
        values, mask = np.zeros((len(texts), longest, 1), np.float32), np.zeros((len(texts), longest), bool)
        for row, each in enumerate(texts):
            values[row, : len(each), 0], mask[row, : len(each)] = [len(one) for one in each], True
        return Tokens(values, mask, np.full(mask.shape, np.nan, np.float32))

    def pictures(self, paths, _progress):  # type: ignore[no-untyped-def]
        """Return one number for each picture."""
        values = np.ones((len(paths), 1, 1), np.float32)
        return {"cells": Tokens(values, np.ones((len(paths), 1), bool), np.full((len(paths), 1), np.nan, np.float32))}


def test_rows_of_a_split_come_with_a_clean_note(tmp_path: Path) -> None:
    folder = tmp_path / "cxr_covid_chestxray"
    folder.mkdir()
    (folder / "split.csv").write_text("patient_group,split\na,train\nb,train\nc,test\n")
    (folder / "metadata.csv").write_text(
        "patient_group,sex,age,finding,image,clinical_notes\n"
        'a,F,80,"COVID-19, ARDS",1.jpg,COVID-19 positive. Basal opacity.\nb,,,Legionella,2.jpg,\nc,M,50,COVID-19,3.jpg,Secret.\n'
    )
    frozen = Seen()
    (sets,) = read_with(frozen, tmp_path, ("train",), lambda _words, _share: None).values()
    assert frozen.shown == ["Basal opacity."] and sets.answers.tolist() == [1, 0] and sets.groups == ("a", "b")
    assert sets.modalities["demographics"].values[0].tolist() == [[1.0, -1.0]]
    assert sets.modalities["demographics"].mask.tolist() == [[True], [False]]
    assert sets.modalities["note"].mask.sum(1).tolist() == [1, 0] and sets.widths["note"] == (1, SENTENCES)
    assert tuple(sets.modalities) == fusion_task("cxr-covid").modalities
    assert sets.asked == (ASKED, ASKED)


def test_tokens_are_cut_and_padded() -> None:
    tokens = Tokens(np.ones((1, 3, 2), np.float32), np.ones((1, 3), bool), np.zeros((1, 3), np.float32))
    assert first_tokens(tokens, 2).mask.tolist() == [[True, True]]
    assert first_tokens(tokens, 4).mask.tolist() == [[True, True, True, False]]


@pytest.mark.data
def test_no_note_of_train_and_val_names_its_label(salus_data: Path) -> None:
    frozen = Seen()
    made = read_with(frozen, salus_data, ("train", "val"), lambda _words, _share: None)
    assert sum(map(len, made.values())) == 272 and frozen.shown
    assert not [text for text in frozen.shown if any(one.found.search(text) for one in PATTERNS)]
