"""SUV: expected factors are worked out by hand from the definition, not by the program's formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage
from tests.record.read.made_dicom import made

from salus.errors import FormatError
from salus.record.patient import Image, Item, Volume
from salus.record.read.dicom import READER
from salus.record.read.folder import read_path
from salus.record.read.reader import ReadOptions

HALF_LIFE_S = 6586.2  # fluorine-18


def pet(folder: Path, *, name: str = "a.dcm", isotope: dict[str, object] | None = None, **elements: object) -> Path:
    """Write a PET slice of 80 kg and 400 MBq, injected one half life before the scan; each pixel is 1,000 Bq/mL × its number."""
    tracer = Dataset()
    stated: dict[str, object] = {
        "RadionuclideTotalDose": 400e6, "RadionuclideHalfLife": HALF_LIFE_S, "RadiopharmaceuticalStartDateTime": "20260304081014+0000",
    } | (isotope or {})  # fmt: skip
    for keyword, value in stated.items():
        if value is not None:
            setattr(tracer, keyword, value)
    own: dict[str, object] = {
        "sop_class": PositronEmissionTomographyImageStorage, "Modality": "PT", "Units": "BQML", "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START", "PatientWeight": 80, "SeriesDate": "20260304", "SeriesTime": "100000.2", "AcquisitionDate": "20260304",
        "AcquisitionTime": "100500", "TimezoneOffsetFromUTC": "+0000", "RadiopharmaceuticalInformationSequence": [tracer],
        "RescaleSlope": 1000, "RescaleIntercept": 0, "SeriesInstanceUID": "1.2.3", "ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0],
        "ImagePositionPatient": [0.0, 0, 0], "PixelSpacing": [4.0, 4.0],
    }  # fmt: skip
    return made(folder, np.arange(6, dtype=np.uint16).reshape(2, 3), name=name, **(own | elements))


def read(path: Path) -> tuple[Item, Image]:
    item = READER.read(path, ReadOptions()).found[0].items[0]
    assert item.content is not None
    image = item.content.load()
    assert isinstance(image, Image)
    return item, image


def test_one_half_life_halves_the_activity(tmp_path: Path) -> None:
    """10:00:00 less 08:10:14 is 6,586 s, one half life: 200 MBq are left in 80,000 g, 2,500 Bq in a gram, so 1,000 Bq/mL is 0.4 g/mL."""
    item, image = read(pet(tmp_path))
    assert image.unit == "g/mL"
    np.testing.assert_allclose(image.pixels.ravel(), 0.4 * np.arange(6), rtol=1e-4)
    assert item.content is not None and item.content.summary == "2 × 3, PET slice, g/mL"
    assert any(remark.startswith("SUV by body weight, computed from the activity") for remark in item.remarks)


def test_activity_as_at_injection_has_not_decayed(tmp_path: Path) -> None:
    """400 MBq in 80,000 g are 5,000 Bq in a gram: 1,000 Bq/mL is 0.2 g/mL."""
    np.testing.assert_allclose(read(pet(tmp_path, DecayCorrection="ADMIN"))[1].pixels.ravel(), 0.2 * np.arange(6), rtol=1e-6)


def test_a_time_without_date_may_lie_before_midnight(tmp_path: Path) -> None:
    tracer = {"RadiopharmaceuticalStartDateTime": None, "RadiopharmaceuticalStartTime": "231014"}
    path = pet(tmp_path, isotope=tracer, SeriesTime="010000", AcquisitionTime="010500")
    np.testing.assert_allclose(read(path)[1].pixels.ravel(), 0.4 * np.arange(6), rtol=1e-4)


def test_stored_suv_is_taken(tmp_path: Path) -> None:
    item, image = read(pet(tmp_path, Units="GML", RescaleSlope=0.5))
    assert image.unit == "g/mL" and image.pixels.ravel().tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert "SUV by body weight, as stored" in item.remarks
    assert read(pet(tmp_path, Units="GML", SUVType="LBM"))[1].unit == "1"


@pytest.mark.parametrize(
    ("elements", "isotope", "unit", "why"),
    [
        ({"PatientWeight": None}, {}, "Bq/mL", "the patient's weight is not stated"),
        ({}, {"RadionuclideTotalDose": None}, "Bq/mL", "the injected activity is not stated"),
        ({}, {"RadionuclideHalfLife": 0}, "Bq/mL", "the half life is not stated"),
        ({"CorrectedImage": ["DECY"]}, {}, "Bq/mL", "not corrected for attenuation and decay"),
        ({"DecayCorrection": "NONE"}, {}, "Bq/mL", "decay is corrected to NONE, not to the start of the scan or the injection"),
        ({"SeriesTime": "110000"}, {}, "Bq/mL", "the series is dated after its acquisition"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20260304120000+0000"}, "Bq/mL", "the injection is dated after the scan"),
        ({}, {"RadiopharmaceuticalStartDateTime": None}, "Bq/mL", "the time of injection is not stated"),
        ({"RadiopharmaceuticalInformationSequence": []}, {}, "Bq/mL", "the header names no tracer"),
        ({"Units": "CNTS"}, {}, "1", "values are in CNTS, not in Bq/mL"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_guessed(
    tmp_path: Path, elements: dict[str, object], isotope: dict[str, object], unit: str, why: str
) -> None:
    item, image = read(pet(tmp_path, isotope=isotope, **elements))
    assert image.unit == unit and image.pixels.max() == 5000
    assert any(remark.startswith(f"no SUV: {why}") for remark in item.remarks)


def test_a_series_is_one_volume_in_suv(tmp_path: Path) -> None:
    for place in range(4):
        pet(tmp_path, name=f"{place}.dcm", ImagePositionPatient=[0.0, 0, 3.0 * place], RescaleSlope=1000 * (place + 1))
    (item,) = [item for item in read_path(tmp_path).patients[0].items if item.content is not None]
    assert item.content is not None
    volume = item.content.load()
    assert isinstance(volume, Volume) and volume.unit == "g/mL"
    np.testing.assert_allclose(volume.voxels[0, :, 1, 2], [2.0, 4.0, 6.0, 8.0], rtol=1e-4)


def test_slices_with_and_without_suv_are_no_volume(tmp_path: Path) -> None:
    for place in range(4):
        pet(tmp_path, name=f"{place}.dcm", ImagePositionPatient=[0.0, 0, 3.0 * place], PatientWeight=80 if place else None)
    (item,) = [item for item in read_path(tmp_path).patients[0].items if item.content is not None]
    assert item.content is not None
    with pytest.raises(FormatError, match="the headers of some allow SUV and those of others do not"):
        item.content.load()
