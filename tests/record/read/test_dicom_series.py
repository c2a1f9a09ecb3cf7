"""Volumes from DICOM slices: by place, with what is missing or repeated named. dcm2niix is the independent witness of real geometry."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from tests.record.read.made_dicom import made

from salus.record.patient import Instant, Item, ReadReport, Volume
from salus.record.read.folder import read_path
from salus.record.volume import cuts

AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
STEP_MM = 2.5


def stack(folder: Path, places: Sequence[float], *, name: str = "s", slant_mm: float = 0.0, **elements: object) -> None:
    """Write one 3 × 4 slice a place; each pixel holds the slice's number."""
    folder.mkdir(exist_ok=True)
    for number, place in enumerate(places):
        pixels = np.full((3, 4), number, np.int16)
        own = {
            "SeriesInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2", "ImageOrientationPatient": AXIAL, "PixelSpacing": [0.5, 0.75],
            "ImagePositionPatient": [10.0, 20.0 + slant_mm * number, place], "RescaleSlope": 1, "RescaleIntercept": 0,
            "AcquisitionDateTime": f"202603041000{number:02d}+0000",
        }  # fmt: skip
        made(folder, pixels, name=f"{name}{number}.dcm", **(own | elements))


def volumes(report: ReadReport) -> list[Item]:
    (record,) = report.patients
    return [item for item in record.items if item.modality == "volume"]


def loaded(item: Item) -> Volume:
    assert item.content is not None
    content = item.content.load()
    assert isinstance(content, Volume)
    return content


def test_slices_are_ordered_by_place_and_not_by_name(tmp_path: Path) -> None:
    places = [STEP_MM * number for number in (3, 0, 4, 1, 2)]
    stack(tmp_path / "in", places)
    (item,) = volumes(read_path(tmp_path / "in"))
    volume = loaded(item)
    assert volume.voxels.shape == (1, 5, 3, 4) and volume.voxels[0, :, 0, 0].tolist() == [1, 3, 4, 0, 2]
    np.testing.assert_allclose(volume.affine, [[-0.75, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, STEP_MM, 0], [0, 0, 0, 1]], atol=1e-9)
    assert item.content is not None and item.content.summary == "5 × 3 × 4 voxels, 2.5 × 0.5 × 0.75 mm, axial, CT volume"
    assert len(item.parts) == 5 and item.observed_at == Instant(datetime(2026, 3, 4, 10, 0, 4, tzinfo=UTC))


def test_names_and_order_of_files_change_nothing(tmp_path: Path) -> None:
    places = [STEP_MM * number for number in range(6)]
    stack(tmp_path / "in", places)
    first = volumes(read_path(tmp_path / "in"))
    names = [f"{number}.dcm" for number in range(6)]
    random.Random(0).shuffle(names)
    (tmp_path / "out").mkdir()
    for path, name in zip(sorted((tmp_path / "in").iterdir()), names, strict=True):
        shutil.copyfile(path, tmp_path / "out" / name)
    second = volumes(read_path(tmp_path / "out"))
    assert [one.id for one in first] == [one.id for one in second]
    np.testing.assert_array_equal(loaded(first[0]).voxels, loaded(second[0]).voxels)


def test_a_missing_slice_is_named_and_not_zero(tmp_path: Path) -> None:
    stack(tmp_path / "in", [0.0, STEP_MM, 3 * STEP_MM, 4 * STEP_MM])
    (item,) = volumes(read_path(tmp_path / "in"))
    assert "1 of 5 slices missing (number 3 from the first): their voxels are missing, not zero" in item.remarks
    assert np.isnan(loaded(item).voxels[0]).all(axis=(1, 2)).tolist() == [False, False, True, False, False]


def test_a_second_slice_of_one_place_is_left_out_and_named(tmp_path: Path) -> None:
    stack(tmp_path / "in", [0.0, STEP_MM, 2 * STEP_MM, 3 * STEP_MM, STEP_MM])
    report = read_path(tmp_path / "in")
    (item,) = volumes(report)
    assert loaded(item).voxels.shape[1] == 4 and "1 second slices of one place left out" in item.remarks
    assert [Path(one.path).name in ("s1.dcm", "s4.dcm") for one in report.skipped] == [True]
    assert report.skipped[0].reason.startswith("a second slice at the place of another one")


@pytest.mark.parametrize(
    ("places", "elements", "why"),
    [
        ([0.0, 2.5, 5.0, 7.5], {"slant_mm": 1.0}, "the gantry was tilted by 21.8 degrees"),
        ([0.0, 2.5, 4.0, 9.0], {}, "their steps are uneven (1.5 to 5 mm)"),
        ([0.0, 2.5, 5.0, 0.0, 2.5, 5.0], {}, "3 of 6 lie at the place of another one"),
        ([0.0, 1.0, 2.0, 30.0], {}, "27 of 31 slices would be missing"),
    ],
)
def test_what_is_no_regular_stack_stays_single_slices(tmp_path: Path, places: list[float], elements: dict[str, float], why: str) -> None:
    stack(tmp_path / "in", places, **elements)
    report = read_path(tmp_path / "in")
    assert volumes(report) == [] and report.skipped == ()
    slices = [item for item in report.patients[0].items if item.category == "image"]
    assert len(slices) == len(places)
    assert all(any(why in remark for remark in one.remarks) for one in slices)


def test_a_scout_in_its_series_is_a_mixed_series(tmp_path: Path) -> None:
    stack(tmp_path / "in", [0.0, 2.5, 5.0])
    stack(tmp_path / "in", [0.0], name="scout", ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 0.0, -1.0])
    report = read_path(tmp_path / "in")
    assert volumes(report) == []
    assert any("2 directions (a mixed series)" in remark for item in report.patients[0].items for remark in item.remarks)


def test_two_echoes_are_two_volumes(tmp_path: Path) -> None:
    for echo in (1, 2):
        stack(tmp_path / "in", [0.0, 2.5, 5.0], name=f"e{echo}-", EchoNumbers=echo, Modality="MR")
    assert [item.code.display for item in volumes(read_path(tmp_path / "in"))] == ["MR volume", "MR volume"]


def test_two_slices_are_no_volume(tmp_path: Path) -> None:
    stack(tmp_path / "in", [0.0, 2.5])
    assert volumes(read_path(tmp_path / "in")) == []


def test_a_finding_has_a_place_in_the_patient(tmp_path: Path) -> None:
    """The same voxel by the plane of its slice (LPS) and by the affine of the volume (RAS)."""
    stack(tmp_path / "in", [0.0, 2.5, 5.0], ImageOrientationPatient=[0.0, 1.0, 0.0, 0.0, 0.0, -1.0])
    slices = [item for item in read_path(tmp_path / "in" / "s1.dcm").patients[0].items if item.plane is not None]
    assert slices[0].plane is not None and slices[0].plane.to_patient(row=2, column=3) == (10.0, 22.25, 1.5)


def test_cuts_stand_upright() -> None:
    voxels = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    volume = Volume(voxels, "1", np.eye(4))  # columns run to the right, rows to the front, slices to the head
    axial, coronal, sagittal = cuts(volume, (1, 0, 0))
    assert [cut.orientation for cut in (axial, coronal, sagittal)] == ["L\\P", "L\\F", "P\\F"]
    np.testing.assert_array_equal(axial.pixels, volume.voxels[0, 1, ::-1, ::-1])
    np.testing.assert_array_equal(coronal.pixels, volume.voxels[0, ::-1, 0, ::-1])


def test_a_real_series_lies_where_dcm2niix_puts_it(salus_data: Path, tmp_path: Path) -> None:
    folder = salus_data / "dicom_t1_series" / "dicoms"
    program = Path(sys.executable).with_name("dcm2niix")
    subprocess.run([program, "-z", "n", "-f", "out", "-o", tmp_path, folder], check=True, capture_output=True)
    theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / "out.nii"))
    (item,) = volumes(read_path(folder))
    volume = loaded(item)
    ours = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.transpose(volume.voxels[0], (2, 1, 0)), volume.affine))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())


def test_a_real_series_with_shuffled_names_a_gap_and_a_copy(salus_data: Path, tmp_path: Path) -> None:
    paths = sorted((salus_data / "dicom_t1_series" / "dicoms").rglob("*.dcm"))
    whole = volumes(read_path(paths[0].parent))[0]
    names = [f"{number}.dcm" for number in range(len(paths))]
    random.Random(1).shuffle(names)
    left_out, copied = paths[11], paths[30]
    for path, name in zip(paths, names, strict=True):
        if path != left_out:
            shutil.copyfile(path, tmp_path / name)
    again = pydicom.dcmread(copied)
    again.SOPInstanceUID += ".1"
    again.save_as(tmp_path / "again.dcm")
    report = read_path(tmp_path)
    (item,) = volumes(report)
    assert len(report.skipped) == 1 and "a duplicate" in report.skipped[0].reason
    gap = np.isnan(loaded(item).voxels[0]).all(axis=(1, 2))
    assert gap.sum() == 1
    assert f"1 of 39 slices missing (number {int(gap.argmax()) + 1} from the first): their voxels are missing, not zero" in item.remarks
    np.testing.assert_array_equal(loaded(item).voxels[0, ~gap], loaded(whole).voxels[0, ~gap])
