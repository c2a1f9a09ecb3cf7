"""Steps of normalising: their words are the remarks, and undoing gives back what the file holds (pydicom's stored pixels)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from salus.encode.input_key import input_key
from salus.record.normalise import normalise
from salus.record.normalised import undo_pixels, undo_value, words
from salus.record.patient import Code, Image, Item, Normalisation, ReferenceRange, Source
from salus.record.read.dicom import READER
from salus.record.read.reader import ReadOptions

GLUCOSE = Code("http://loinc.org", "2339-0", "glucose")
TEMPERATURE = Code("http://loinc.org", "8310-5", "temperature")


def measured(code: Code, value: float, unit: str) -> Item:
    return Item("1", "vitals_labs", code, Source("a", ""), value=value, unit=unit, reference_range=ReferenceRange(value - 1, None, "lab"))


@given(st.floats(1.0, 30.0), st.sampled_from([(GLUCOSE, "mmol/L"), (TEMPERATURE, "[degF]")]))
def test_undoing_gives_back_number_unit_and_range(value: float, what: tuple[Code, str]) -> None:
    before = measured(what[0], value + (80 if what[1] == "[degF]" else 0), what[1])
    (after,) = normalise([before])
    assert len(after.normalised) == 1 and after.unit != before.unit
    assert words(after.normalised[0]) in after.remarks
    back = undo_value(after)
    assert (back.value, back.unit, back.normalised) == (before.value, before.unit, ())
    assert back.reference_range is not None and before.reference_range is not None
    assert math.isclose(back.reference_range.low or 0, before.reference_range.low or 0, rel_tol=1e-6, abs_tol=1e-6)


def test_a_value_in_its_own_unit_has_no_step() -> None:
    (after,) = normalise([measured(GLUCOSE, 99.0, "mg/dL")])
    assert after.normalised == () and undo_value(after) is after


def picture(path: Path) -> tuple[Item, Image]:
    (item,) = [one for one in READER.read(path, ReadOptions()).found[0].items if one.content]
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Image)
    return item, loaded


def test_the_stored_pixels_of_a_ct_come_back() -> None:
    path = Path(str(get_testdata_file("CT_small.dcm")))
    item, image = picture(path)
    assert item.normalised == (Normalisation("rescale", (("slope", 1.0), ("intercept", -1024.0))),)
    assert np.array_equal(undo_pixels(image.pixels, item.normalised), pydicom.dcmread(path).pixel_array)


def test_the_stored_pixels_of_a_mirrored_picture_come_back(tmp_path: Path) -> None:
    source = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    source.PhotometricInterpretation = "MONOCHROME1"
    source.save_as(tmp_path / "mirrored.dcm")
    item, image = picture(tmp_path / "mirrored.dcm")
    assert [one.step for one in item.normalised][-1] == "mirror" and words(item.normalised[-1]) in item.remarks
    assert np.array_equal(undo_pixels(image.pixels, item.normalised), source.pixel_array)


@pytest.mark.parametrize("change", ["unit", "settings", "time", "step", "modality"])
def test_whatever_changes_the_input_changes_its_key(change: str) -> None:
    first, second = normalise([measured(GLUCOSE, 5.5, "mmol/L")])[0], measured(TEMPERATURE, 37.0, "Cel")
    same = input_key("vitals_labs", {"imputation": "none"}, [first, second], {"1": 0.0})
    assert same == input_key("vitals_labs", {"imputation": "none"}, [second, first], {"1": 0.0})
    other = {
        "unit": ("vitals_labs", {"imputation": "none"}, [undo_value(first), second], {"1": 0.0}),
        "settings": ("vitals_labs", {"imputation": "train_median"}, [first, second], {"1": 0.0}),
        "time": ("vitals_labs", {"imputation": "none"}, [first, second], {"1": 60.0}),
        "step": ("vitals_labs", {"imputation": "none"}, [Item(**{**vars(first), "normalised": ()}), second], {"1": 0.0}),
        "modality": ("ehr", {"imputation": "none"}, [first, second], {"1": 0.0}),
    }[change]
    assert input_key(*other) != same
