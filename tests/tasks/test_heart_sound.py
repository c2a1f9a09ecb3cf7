"""Heart sounds: the cohort as published; neither label nor subset among the items."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from salus.errors import InputError
from salus.task import SPLITS
from salus.tasks.heart_sound import TASK


def test_a_missing_recording_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "heart_sounds_cinc2016"
    folder.mkdir()
    (folder / "split.csv").write_text("recording_id,split\na1,val\n")
    (folder / "labels.csv").write_text("recording_id,file,subset,label\na1,wav/a1.wav,a,normal\n")
    with pytest.raises(InputError) as error:
        TASK.read(tmp_path, "val")
    assert str(error.value) == (
        f"Cannot read the cohort {folder}: a row of labels.csv has no known label or no file. Restore the original files."
    )


@pytest.mark.data
def test_the_published_numbers(salus_data: Path) -> None:
    # SOURCE.md of the cohort: 216 / 47 / 47; 135 normal, 175 abnormal; six subsets.
    examples = {split: TASK.read(salus_data, split) for split in SPLITS}
    assert {split: len(own) for split, own in examples.items()} == {"train": 216, "val": 47, "test": 47}
    everything = [example for own in examples.values() for example in own]
    assert Counter(example.answer for example in everything) == {"normal": 135, "abnormal": 175}
    assert {example.subgroup["subset"] for example in everything} == set("abcdef")
    assert len({example.subject_id for example in everything}) == 310


@pytest.mark.data
def test_the_record_is_one_sound_without_its_label(salus_data: Path) -> None:
    for example in TASK.read(salus_data, "test")[::15]:
        (item,) = example.record().items
        assert (item.modality, item.category) == ("heart_sound", "sound")
        assert "normal" not in f"{item.code.display} {item.value} {item.remarks} {item.content and item.content.summary}"
