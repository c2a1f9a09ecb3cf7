"""In-hospital death: the cohort as published, and no outcome among the items."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from salus.errors import InputError
from salus.task import SPLITS
from salus.tasks.icu_death import TASK, stay_subgroup

STAY = "Time,Parameter,Value\n00:00,RecordID,7\n00:00,Age,71\n00:00,Gender,0\n00:00,Height,-1\n00:07,HR,80\n"


def _cohort(data: Path, *, label: str = "1") -> Path:
    folder = data / "icu_physionet2012"
    (folder / "set-a").mkdir(parents=True)
    (folder / "split.csv").write_text("RecordID,split\n7,test\n8,train\n")
    (folder / "Outcomes-a.txt").write_text(
        f"RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n7,17,11,5,3,{label}\n8,1,1,5,-1,0\n"
    )
    (folder / "set-a" / "7.txt").write_text(STAY)
    return folder


def test_one_question_per_stay(tmp_path: Path) -> None:
    _cohort(tmp_path)
    (example,) = TASK.read(tmp_path, "test")
    assert (example.id, example.subject_id, example.question, example.options, example.answer) == (
        "icu-death/7", "7", "Will this patient die in hospital?", ("yes", "no"), "yes",
    )  # fmt: skip
    assert example.subgroup == {"sex": "female", "age_band": "65-79"}
    record = example.record()
    assert [(item.code.code, item.value) for item in record.items if item.category == "observation"] == [("HR", 80.0)]


def test_unknown_sex_and_age_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "8.txt"
    path.write_text(STAY.replace("Gender,0", "Gender,-1").replace("Age,71", "Age,-1"))
    assert stay_subgroup(path) == {}


@pytest.mark.parametrize("what", ["file", "label"])
def test_a_missing_file_or_label_is_an_error_without_the_patients_number(tmp_path: Path, what: str) -> None:
    folder = _cohort(tmp_path, label="" if what == "label" else "1")
    if what == "file":
        (folder / "set-a" / "7.txt").unlink()
    with pytest.raises(InputError) as error:
        TASK.read(tmp_path, "test")
    assert str(error.value) == (
        f"Cannot read the cohort {folder}: a stay of split.csv has no label or no file. Restore the original files."
    )


@pytest.mark.data
def test_the_published_numbers(salus_data: Path) -> None:
    # SOURCE.md of the cohort: 2,799 train, 600 val, 601 test; 554 deaths.
    examples = {split: TASK.read(salus_data, split) for split in SPLITS}
    assert {split: len(own) for split, own in examples.items()} == {"train": 2799, "val": 600, "test": 601}
    assert Counter(example.answer for own in examples.values() for example in own)["yes"] == 554
    assert len({example.subject_id for own in examples.values() for example in own}) == 4000


@pytest.mark.data
def test_no_outcome_is_among_the_items(salus_data: Path) -> None:
    for example in TASK.read(salus_data, "test")[::150]:
        codes = {item.code.code for item in example.record().items}
        assert not codes & {"SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death", "RecordID"}
        assert not any(
            word in repr([item.code for item in example.record().items]).lower() for word in ("saps", "sofa", "death", "surviv")
        )
