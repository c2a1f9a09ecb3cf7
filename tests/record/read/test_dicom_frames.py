"""Multi-frame volumes: each voxel holds the place that the test gave it; nibabel's reader of enhanced DICOM is the witness of geometry."""

from __future__ import annotations

import random
from pathlib import Path

import nibabel.nicom.dicomwrappers
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, NuclearMedicineImageStorage
from tests.record.read.made_dicom import made

from salus.record.patient import Item, Volume
from salus.record.read.dicom import READER
from salus.record.read.folder import read_path
from salus.record.read.reader import ReadOptions

TURN = np.array([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0]])
STEP_MM = 2.5


def of(**elements: object) -> Dataset:
    data = Dataset()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def enhanced(folder: Path, order: list[tuple[int, int]], *, slant_mm: float = 0.0, echoes: bool = False, **elements: object) -> Path:
    """Write an enhanced MR object whose frames are (time, slice) in this order; stored values are 100 × time + slice."""
    pixels = np.array([np.full((3, 4), 100 * time + place, np.uint16) for time, place in order])
    frames = []
    for time, place in order:
        position = np.array([10.0, 20.0 + slant_mm * place, 30.0 + STEP_MM * place])
        told = of(StackID="1", InStackPositionNumber=place + 1, DimensionIndexValues=[1, place + 1, time + 1])
        frame = of(
            FrameContentSequence=[told],
            PlanePositionSequence=[of(ImagePositionPatient=[float(one) for one in position])],
            PixelValueTransformationSequence=[of(RescaleSlope=2.0, RescaleIntercept=1.0, RescaleType="US")],
        )
        if echoes:
            frame.MREchoSequence = [of(EffectiveEchoTime=10.0 + 5 * time)]
        else:
            told.TemporalPositionIndex = time + 1
            frame.TemporalPositionSequence = [of(TemporalPositionTimeOffset=1.5 * time)]
        frames.append(frame)
    shared = of(
        PlaneOrientationSequence=[of(ImageOrientationPatient=[float(one) for one in TURN.ravel()])],
        PixelMeasuresSequence=[of(PixelSpacing=[0.5, 0.75], SliceThickness=2.0)],
    )
    keywords = ("StackID", "InStackPositionNumber", "TemporalPositionIndex")
    tags = [pydicom.datadict.tag_for_keyword(keyword) for keyword in keywords]
    index = [of(DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111) for tag in tags]
    own: dict[str, object] = {
        "sop_class": EnhancedMRImageStorage, "Modality": "MR", "NumberOfFrames": len(order), "SeriesInstanceUID": "1.2.3",
        "FrameOfReferenceUID": "1.2", "PerFrameFunctionalGroupsSequence": frames, "SharedFunctionalGroupsSequence": [shared],
        "DimensionIndexSequence": index, "Rows": 3, "Columns": 4,
    }  # fmt: skip
    return made(folder, pixels, **(own | elements))


def items_of(path: Path) -> list[Item]:
    return [item for item in READER.read(path, ReadOptions()).found[0].items if item.content is not None]


def loaded(item: Item) -> Volume:
    assert item.content is not None
    volume = item.content.load()
    assert isinstance(volume, Volume)
    return volume


def test_frames_are_ordered_by_place_and_time_and_not_by_number(tmp_path: Path) -> None:
    order = [(time, place) for time in range(2) for place in range(5)]
    random.Random(0).shuffle(order)
    path = enhanced(tmp_path, order)
    (item,) = items_of(path)
    volume = loaded(item)
    assert volume.voxels[:, :, 0, 0].tolist() == [[1 + 2 * (100 * time + place) for place in range(5)] for time in range(2)]
    assert volume.time_step_s == 1.5 and item.modality == "volume" and item.plane is not None
    assert item.content is not None
    assert item.content.summary == "5 × 3 × 4 voxels, 2.5 × 0.5 × 0.75 mm, axial, MR volume, 2 points in time"
    assert "5 slices ordered by place, not by frame number" in item.remarks and "slices 2 mm thick, 2.5 mm apart" in item.remarks
    in_order = enhanced(tmp_path, [(0, place) for place in range(5)], name="in_order.dcm")
    witness = nibabel.nicom.dicomwrappers.wrapper_from_file(in_order)  # right for frames in order and one time only
    values = witness.get_data()  # by row, column and slice, which it counts from the head down
    ras = np.diag([-1, -1, 1, 1]) @ witness.affine
    for at in np.ndindex(values.shape):
        column, row, place = (np.linalg.inv(volume.affine) @ ras @ (*at, 1))[:3].round(9)
        assert volume.voxels[0, int(place), int(row), int(column)] == values[at]


def test_a_missing_frame_is_named_and_not_zero(tmp_path: Path) -> None:
    (item,) = items_of(enhanced(tmp_path, [(0, place) for place in (0, 1, 3, 4)]))
    assert any(remark.startswith("1 of 5 slices missing (number 3 from the first)") for remark in item.remarks)
    assert np.isnan(loaded(item).voxels[0]).all(axis=(1, 2)).tolist() == [False, False, True, False, False]


def test_echoes_are_volumes_of_their_own(tmp_path: Path) -> None:
    first, second = items_of(enhanced(tmp_path, [(time, place) for place in range(4) for time in range(2)], echoes=True))
    assert loaded(first).voxels[0, :, 0, 0].tolist() == [1, 3, 5, 7]
    assert loaded(second).voxels[0, :, 0, 0].tolist() == [201, 203, 205, 207]


def test_shifted_frames_stay_one_picture_with_the_reason(tmp_path: Path) -> None:
    (item,) = items_of(enhanced(tmp_path, [(0, place) for place in range(4)], slant_mm=1.0))
    assert item.content is not None and item.content.kind == "image"
    assert any(remark.startswith("its frames are not joined to a volume: the gantry was tilted") for remark in item.remarks)


def test_three_multi_frame_volumes_of_one_series_are_not_joined_again(tmp_path: Path) -> None:
    for number in range(3):
        enhanced(tmp_path, [(0, place) for place in range(3 + number)], name=f"{number}.dcm")
    assert [item.modality for item in read_path(tmp_path).patients[0].items] == ["volume"] * 3


def test_reconstructed_nuclear_medicine_is_a_volume(tmp_path: Path) -> None:
    pixels = np.array([np.full((3, 4), place, np.uint16) for place in range(5)])
    detector = of(ImagePositionPatient=[0.0, 0.0, 100.0], ImageOrientationPatient=[1.0, 0, 0, 0, 1.0, 0])
    path = made(
        tmp_path, pixels, sop_class=NuclearMedicineImageStorage, Modality="NM", ImageType=["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"],
        NumberOfFrames=5, SeriesInstanceUID="1.2.3", DetectorInformationSequence=[detector], SpacingBetweenSlices=-4.0,
        PixelSpacing=[4.0, 4.0], Rows=3, Columns=4,
    )  # fmt: skip
    (item,) = items_of(path)
    volume = loaded(item)
    assert volume.voxels[0, :, 0, 0].tolist() == [4, 3, 2, 1, 0]  # from the foot up: the first frame is the highest
    np.testing.assert_allclose(volume.affine[:3, 3], [0, 0, 84.0], atol=1e-9)


@pytest.mark.data
def test_real_dose_grid_is_a_volume(salus_data: Path) -> None:
    """Voxels are those of pydicom's own decoder times the dose scaling; three transfer syntaxes of one grid agree."""
    volumes = [loaded(items_of(salus_data / "dicom_samples" / f"{name}.dcm")[0]) for name in ("rtdose", "rtdose_expb", "rtdose_rle")]
    data = pydicom.dcmread(salus_data / "dicom_samples" / "rtdose.dcm")
    expected = (data.pixel_array * float(data.DoseGridScaling)).astype(np.float32)
    for volume in volumes:
        assert volume.unit == "1" and volume.voxels.shape == (1, 15, 10, 10)  # DoseUnits is RELATIVE
        np.testing.assert_array_equal(volume.voxels[0], expected)
        np.testing.assert_allclose(np.diag(volume.affine), [-10, -10, 5, 1])
        np.testing.assert_allclose(volume.affine[:3, 3], [-189.43125, -199.43125, -761.87])
