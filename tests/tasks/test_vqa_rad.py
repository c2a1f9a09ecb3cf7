"""VQA-RAD: options of closed questions, split by image, modality by organ."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from salus.cohorts.free_answer import normalised
from salus.errors import InputError
from salus.task import SPLITS
from salus.tasks.vqa_rad import TASK, options_of


@pytest.mark.parametrize(
    ("question", "answer", "options"),
    [
        ("Is there a fracture?", "Yes", ("yes", "no")),
        ("Is this a CT or an MRI?", "MRI", ("ct", "mri")),
        ("Is the lesion on the left or right side of the brain?", "Left side", ("left", "right")),
        ("Was this image taken with or without contrast?", "With contrast", ("with", "without")),
        ("Is this a T1 weighted, T2 weighted, or FLAIR image?", "FLAIR", ()),
        ("Was oral or IV contrast used?", "Both", ()),
        ("Is this an infectious process?", "Maybe", ()),
    ],
)
def test_options_are_what_the_question_declares(question: str, answer: str, options: tuple[str, ...]) -> None:
    assert options_of(question, answer) == options


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "vqa_rad"
    folder.mkdir()
    (folder / "split.csv").write_text("image_name,split\na.jpg,val\n")
    (folder / "VQA_RAD_Dataset_Public.json").write_text(
        '[{"qid": 1, "image_name": "a.jpg", "image_organ": "HEAD", "question": "?", "answer": "x", "answer_type": "OPEN"}]'
    )
    with pytest.raises(InputError) as error:
        TASK.read(tmp_path, "val")
    assert str(error.value) == (
        f"Cannot read the cohort {folder}: a question of VQA_RAD_Dataset_Public.json has no known organ or no image. "
        "Restore the original files."
    )


@pytest.mark.data
def test_the_published_numbers(salus_data: Path) -> None:
    # SOURCE.md of the cohort: 2,248 questions on 314 images, split 220 / 47 / 47 by image.
    examples = {split: TASK.read(salus_data, split) for split in SPLITS}
    images = {split: {example.subject_id for example in own} for split, own in examples.items()}
    assert {split: len(own) for split, own in images.items()} == {"train": 220, "val": 47, "test": 47}
    assert len(set.union(*images.values())) == 314
    everything = [example for own in examples.values() for example in own]
    assert len(everything) == len({example.id for example in everything}) == 2248
    closed = [example for example in everything if example.family == "closed"]
    assert all(example.answer in example.options for example in closed)
    assert Counter(example.options == ("yes", "no") for example in closed)[True] >= 606 + 587
    assert all(example.answer == normalised(example.answer) != "" for example in everything)


@pytest.mark.data
def test_the_record_is_one_image_of_the_organs_modality(salus_data: Path) -> None:
    for example in TASK.read(salus_data, "test")[::60]:
        (item,) = example.record().items
        assert item.modality == ("radiograph" if example.subgroup["organ"] == "chest" else "ct_mr_slice")
        assert item.category == "image"
