"""ECG5000: the numbers are those of the file, and every beat is one question."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from salus import registry
from salus.errors import InputError
from salus.record.patient import Signal
from salus.tasks.ecg_beat import OPTIONS, TASK


def made(folder: Path, classes: list[int]) -> Path:
    (folder / "ecg5000").mkdir()
    rows = [" ".join([f"{each:.4e}" for each in (one, *np.linspace(-1, 1, 140) * one)]) for one in classes]
    (folder / "ecg5000" / "ECG5000_TRAIN.txt").write_text("\n".join(rows) + "\n")
    lines = [f"{row},{'train' if row else 'test'},{one}" for row, one in enumerate(classes)]
    (folder / "ecg5000" / "split.csv").write_text("\n".join(["row,split,stratum", *lines]) + "\n")
    return folder


def test_a_beat_is_its_row(tmp_path: Path) -> None:
    data = made(tmp_path, [2, 1, 5])
    (one,) = TASK.read(data, "test")
    assert (one.id, one.answer, one.options) == ("ecg-beat/0", OPTIONS[1], OPTIONS)
    (item,) = one.record().items
    assert item.modality == "ecg" and item.content is not None
    signal = item.content.load()
    assert isinstance(signal, Signal) and signal.leads == ("beat",) and signal.samples.shape == (1, 140)
    assert signal.samples[0, [0, -1]].tolist() == [-2.0, 2.0]
    assert [each.answer for each in TASK.read(data, "train")] == [OPTIONS[0], OPTIONS[4]]


def test_a_label_that_disagrees_is_refused(tmp_path: Path) -> None:
    data = made(tmp_path, [2, 1])
    path = data / "ecg5000" / "split.csv"
    path.write_text(path.read_text().replace("0,test,2", "0,test,3"))
    with pytest.raises(InputError, match=r"row 0 does not agree with split\.csv"):
        TASK.read(data, "test")


def test_it_never_opens_a_gate() -> None:
    assert registry.load("salus.tasks", "ecg-beat") is TASK
    assert TASK.pass_above is None and not TASK.may_shape_shipped_weights


@pytest.mark.data
def test_the_published_beats(salus_data: Path) -> None:
    found = {split: TASK.read(salus_data, split) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert {split: len(made) for split, made in found.items()} == {"train": 348, "val": 76, "test": 76}
    answers = Counter(one.answer for made in found.values() for one in made)
    assert [answers[option] for option in OPTIONS] == [292, 177, 10, 19, 2]
