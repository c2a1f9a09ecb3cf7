"""Blood smears: counts are those of the cohort's own documentation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from salus.errors import InputError
from salus.record.patient import Image
from salus.task import SPLITS
from salus.tasks.bccd_count import counts_of, read


def test_what_is_no_annotation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation><object>")
    with pytest.raises(InputError, match="ParseError"):
        counts_of(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<annotation><object><name>WBC</name></object><object><name>WBC</name></object></annotation>")
    assert counts_of(tmp_path / "b.xml") == {"WBC": 2}


@pytest.mark.data
def test_all_364_images_are_read_and_the_boxes_are_as_documented(salus_data: Path) -> None:
    """SOURCE.md: RBC 4,155, WBC 372, platelets 361; train 205, val 87, test 72."""
    total: Counter[str] = Counter()
    for path in sorted((salus_data / "blood_cells_bccd" / "Annotations").glob("*.xml")):
        total.update(counts_of(path))
    assert total == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    sizes = {}
    for split in SPLITS:
        examples = read(salus_data, split)
        sizes[split] = len(examples) // 2
        for example in examples[::2]:
            (item,) = example.record().items
            assert item.modality == "microscopy" and item.content is not None and item.content.summary == "480 × 640, colour"
    assert sizes == {"train": 205, "val": 87, "test": 72}


@pytest.mark.data
def test_pixels_of_a_smear_are_decoded(salus_data: Path) -> None:
    for example in read(salus_data, "val")[:6:2]:
        content = example.record().items[0].content
        assert content is not None
        image = content.load()
        assert isinstance(image, Image) and image.pixels.shape == (480, 640, 3)
