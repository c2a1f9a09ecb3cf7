"""The lung ultrasound task of the fusion comparison: clips in their place, nothing after the label, missing stays missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salus.errors import InputError
from salus.evaluate.alignment_tasks import Frozen
from salus.evaluate.fusion.lung_ultrasound import ASKED, LABS, MOST_CLIPS, TASK, clip_tokens, frames_of, read_with
from salus.fuse.token_sets import Tokens
from salus.record.patient import Clip
from salus.record.read import video

AFTER = ("PCR_CT", "clin_diagn#COVID19_pneumonia", "outcome_status_d7", "test_meth_covid#PCR_normal", "severity")


class Grey(Frozen):
    """Stands for the frozen networks: a picture is two cells, its mean grey and one more."""

    def __init__(self) -> None:
        """Take no model: none is asked."""

    def pictures(self, paths: Sequence[Path], progress: Callable[[float], None]) -> dict[str, Tokens]:
        """Return two numbers for each picture."""
        progress(1.0)
        means = np.array([np.asarray(Image.open(path)).mean() for path in paths], np.float32)
        values = np.stack([means, means + 1], 1)[..., None]
        return {"cells": Tokens(values, np.ones(values.shape[:2], bool), np.full(values.shape[:2], np.nan, np.float32))}


def _clip(count: int, *, missing: Sequence[int] = ()) -> Clip:
    frames = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    return Clip(frames, np.arange(count) / 25, np.array([place not in missing for place in range(count)]))


def _folder(root: Path) -> Path:
    folder = root / "lus_video_covid_blues"
    (folder / "lus_videos").mkdir(parents=True)
    (folder / "split.csv").write_text("patient_id,split,stratum\n1,train,0\n2,train,1\n3,test,1\n")
    names = ["patient_id", "cov_test", *LABS, "patient_symp#Fever", "patient_symp#Coughing", *AFTER]
    rows = [["1", "0", *["7"] * len(LABS), "1", "-99", *["99"] * 5], ["2", "1", *["", "-99"] * 6, "0", "1", *["99"] * 5]]
    lines = [names, *rows, ["3", "secret", *[""] * (len(names) - 2)]]
    (folder / "clinical_variables.csv").write_text("\n".join(",".join(line) for line in lines) + "\n")
    for name in ("1_L1", "1_R1", "2_L1", "3_L1"):
        (folder / "lus_videos" / f"patient_{name}.mp4").touch()
    return folder


def test_three_frames_are_evenly_spaced_among_those_present() -> None:
    assert [int(frame[0, 0]) for frame in frames_of(_clip(12))] == [2, 6, 10]
    assert [int(frame[0, 0]) for frame in frames_of(_clip(12, missing=(2, 6)))] == [1, 7, 10]
    assert [int(frame[0, 0]) for frame in frames_of(_clip(1))] == [0, 0, 0]


def test_a_clip_is_the_mean_of_its_cells_that_count() -> None:
    cells = Tokens(np.arange(12, dtype=np.float32).reshape(6, 2, 1), np.ones((6, 2), bool), np.zeros((6, 2), np.float32))
    cells.mask[3:, 1] = False
    made = clip_tokens(cells, [1, 1], 2)
    assert made.mask.tolist() == [[False] * MOST_CLIPS, [True, True, False, False]]
    assert made.values[1, :, 0].tolist() == [2.5, 8.0, 0.0, 0.0]


def test_patients_of_a_split_come_with_what_was_known_before_the_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(tmp_path)
    monkeypatch.setattr(video, "load_video", lambda path: _clip(12 if "patient_1_L1" in path.name else 6))
    sets = read_with(Grey(), tmp_path, ("train",), lambda _words, _share: None)["train"]
    assert tuple(sets.modalities) == TASK.modalities and sets.answers.tolist() == [0, 1]
    assert sets.groups == ("1", "2") and sets.asked == (ASKED, ASKED)
    clips = sets.modalities["clips"]
    assert clips.mask.sum(1).tolist() == [2, 1] and clips.values[0, :2, 0].tolist() == [6.5, 3.5]
    assert sets.modalities["labs"].values[:, 0].tolist() == [[7.0] * len(LABS), [0.0] * len(LABS)]
    assert sets.modalities["labs"].mask.tolist() == [[True], [False]]
    assert sets.modalities["symptoms"].values[:, 0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert not any((one.values == 99).any() or (one.values == -99).any() for one in sets.modalities.values())


def test_refusals(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    with pytest.raises(InputError, match="Ask for train and val"):
        read_with(Grey(), tmp_path, ("train", "test"), lambda _words, _share: None)
    for step in range(MOST_CLIPS):
        (folder / "lus_videos" / f"patient_1_X{step}.mp4").touch()
    with pytest.raises(InputError, match="6 clips, more than 4"):
        read_with(Grey(), tmp_path, ("train",), lambda _words, _share: None)


@pytest.mark.data
def test_twenty_patients_have_their_clips_and_blood_tests(salus_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "load_video", lambda _path: _clip(3))
    made = read_with(Grey(), salus_data, ("train", "val"), lambda _words, _share: None)
    assert {split: len(one) for split, one in made.items()} == {"train": 16, "val": 4}
    whole = made["train"].joined(made["val"])
    assert whole.modalities["clips"].mask.any(1).all() and len(set(whole.groups)) == 20
    assert whole.widths["labs"] == (len(LABS), 1) and whole.widths["symptoms"] == (23, 1)
    assert not any((one.values == -99).any() for one in whole.modalities.values())
