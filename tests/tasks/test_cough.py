"""The cough task: counts from the cohort's own description; neither label nor source among the items; never a reason to interpret."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from salus.errors import InputError
from salus.task import SPLITS
from salus.tasks.cough import TASK


def test_nothing_is_interpreted_because_of_it() -> None:
    assert TASK.pass_above is None and TASK.site == "source" and not TASK.rivals


def test_a_missing_recording_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "cough_covid19"
    folder.mkdir()
    (folder / "split.csv").write_text("filename,split\na.mp3,val\n")
    with pytest.raises(InputError, match=r"metadata.json is not there. Set SALUS_DATA"):
        TASK.read(tmp_path, "val")
    (folder / "metadata.json").write_text(json.dumps([{"filename": "a.mp3", "covid19": True, "source": "telegram"}]))
    with pytest.raises(InputError, match=r"a recording of split.csv has no label, source or file"):
        TASK.read(tmp_path, "val")
    (folder / "metadata.json").write_text("[{")
    with pytest.raises(InputError, match=r"metadata.json is damaged"):
        TASK.read(tmp_path, "val")


@pytest.mark.data
def test_the_published_numbers(salus_data: Path) -> None:
    # SOURCE.md of the cohort: 153 files; call-center 50 negative and 50 positive, telegram 34 and 19.
    everything = [example for split in SPLITS for example in TASK.read(salus_data, split)]
    assert len(everything) == 153 == len({example.subject_id for example in everything})
    assert Counter((example.subgroup["source"], example.answer) for example in everything) == {
        ("call-center", "no"): 50, ("call-center", "yes"): 50, ("telegram", "no"): 34, ("telegram", "yes"): 19,
    }  # fmt: skip


@pytest.mark.data
def test_the_record_is_one_sound_without_its_label(salus_data: Path) -> None:
    for example in TASK.read(salus_data, "val")[::8]:
        (item,) = example.record().items
        assert (item.modality, item.category) == ("cough", "sound")
        said = f"{item.code.display} {item.value} {item.remarks} {item.content and item.content.summary}".lower()
        assert "covid" not in said and "telegram" not in said and "call-center" not in said
