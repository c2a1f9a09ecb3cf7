"""Chest X-rays: only rows that may ship, split by patient group, no diagnosis among the items' words."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.cohorts.split_file import read_rows
from salus.errors import InputError
from salus.task import SPLITS
from salus.tasks.cxr_finding import COLUMNS, TASK, may_ship


@pytest.mark.parametrize("licence", ["CC0", "CC0 1.0", "CC BY", "CC BY 3.0", "CC BY 4.0", "Apache 2.0", " cc by 4.0 "])
def test_licences_that_may_ship(licence: str) -> None:
    assert may_ship(licence)


@pytest.mark.parametrize(
    "licence", ["", "CC BY-SA", "CC BY-SA 4.0", "CC BY-NC-SA", "CC BY-NC-SA 4.0", "CC BY-ND", "listed as authorized for everyone"]
)
def test_licences_that_may_not(licence: str) -> None:
    assert not may_ship(licence)


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "cxr_covid_chestxray"
    folder.mkdir()
    (folder / "split.csv").write_text("patient_group,split\np,val\n")
    (folder / "metadata.csv").write_text(",".join(COLUMNS) + "\np,p,M,54.0,COVID-19,CC BY,images/a.jpg\n")
    with pytest.raises(InputError) as error:
        TASK.read(tmp_path, "val")
    assert str(error.value) == (
        f"Cannot read the cohort {folder}: an image of metadata.csv is not there. Restore the original files."
    )


@pytest.mark.data
def test_rows_and_splits(salus_data: Path) -> None:
    # Counted in metadata.csv: 92 CC BY 3.0, 6 CC BY 4.0, 2 CC BY.
    examples = {split: TASK.read(salus_data, split) for split in SPLITS}
    assert sum(len(own) for own in examples.values()) == 100
    groups = [{example.subject_id for example in own} for own in examples.values()]
    assert sum(len(group) for group in groups) == len(set.union(*groups))
    assert all(example.answer in example.options for own in examples.values() for example in own)
    rows = {Path(row["image"]).stem: row for row in read_rows(salus_data / TASK.folders[0] / "metadata.csv", COLUMNS)}
    assert {rows[example.id.split("/")[1]]["license"] for own in examples.values() for example in own} == {
        "CC BY",
        "CC BY 3.0",
        "CC BY 4.0",
    }


@pytest.mark.data
def test_neither_notes_nor_diagnosis_are_among_the_items(salus_data: Path) -> None:
    for example in TASK.read(salus_data, "train")[::12]:
        (item,) = example.record().items
        assert item.modality == "radiograph"
        words = f"{item.code} {item.value} {item.status} {item.remarks} {item.content and item.content.summary}".lower()
        assert not any(word in words for word in ("covid", "pneumon", "finding"))
