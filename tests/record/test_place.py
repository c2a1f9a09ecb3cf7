"""Places: round trips, and a point that three series of one phantom must agree on."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.record.read.made_dicom import made

from salus.record.patient import Item, Plane, Volume
from salus.record.place import on_plane, patient_to_voxel, shown_by, voxel_to_patient
from salus.record.read.folder import read_path

LENGTH = st.floats(-200, 200)
SPACING = st.floats(0.2, 5)


def turned(angle: float, tilt: float) -> np.ndarray:
    one = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return one @ np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])


@given(st.floats(-3, 3), st.floats(-3, 3), st.tuples(SPACING, SPACING, SPACING), st.tuples(LENGTH, LENGTH, LENGTH))
def test_voxel_and_millimetres_round_trip(angle: float, tilt: float, spacing: tuple[float, ...], origin: tuple[float, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned(angle, tilt) * spacing, origin
    volume = Volume(np.zeros((1, 5, 6, 7), np.float32), "1", affine)
    place = voxel_to_patient(volume, (1.0, 2.5, 3.0))
    np.testing.assert_allclose(np.array(place) * [-1, -1, 1], nibabel.affines.apply_affine(affine, [3.0, 2.5, 1.0]), atol=1e-9)
    found = patient_to_voxel(volume, place)
    assert found is not None
    np.testing.assert_allclose(found, (1.0, 2.5, 3.0), atol=1e-6)
    assert patient_to_voxel(volume, voxel_to_patient(volume, (5.0, 0.0, 0.0))) is None


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-9, 20), st.floats(-9, 20), st.floats(-30, 30))
def test_pixel_and_millimetres_round_trip(angle: float, tilt: float, row: float, column: float, off: float) -> None:
    axes = turned(angle, tilt)
    across, down = (tuple(float(one) for one in axes[:, number]) for number in (0, 1))
    plane = Plane("1", (5.0, -7.0, 9.0), across, down, (0.5, 2.0), (10, 10))
    place = np.array(plane.to_patient(row, column)) + off * np.array(plane.normal)
    np.testing.assert_allclose(on_plane(plane, tuple(place)), (row, column, off), atol=1e-6)


def test_another_series_shows_the_same_point(tmp_path: Path) -> None:
    """A bright point at (12, 23, 34) mm in LPS: in an axial stack of 5 slices and in one coronal and one sagittal picture."""
    point, pixels = (12.0, 23.0, 34.0), np.zeros((20, 20), np.int16)
    shared = {"FrameOfReferenceUID": "1.9", "PixelSpacing": [2.0, 2.0], "SliceThickness": 2.0}
    for number in range(5):
        slice_ = pixels.copy()
        if number == 2:
            slice_[10, 6] = 100
        made(tmp_path, slice_, name=f"a{number}.dcm", SeriesInstanceUID="1.1", ImageOrientationPatient=[1.0, 0, 0, 0, 1.0, 0],
             ImagePositionPatient=[0.0, 3.0, 30.0 + 2 * number], RescaleSlope=1, RescaleIntercept=0, **shared)  # fmt: skip
    made(tmp_path, pixels, name="c.dcm", SeriesInstanceUID="1.2", ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1.0],
         ImagePositionPatient=[0.0, 23.5, 60.0], **shared)  # fmt: skip
    made(tmp_path, pixels, name="s.dcm", SeriesInstanceUID="1.3", ImageOrientationPatient=[0, 1.0, 0, 0, 0, -1.0],
         ImagePositionPatient=[30.0, 0.0, 60.0], **shared)  # fmt: skip
    made(tmp_path, pixels, name="other.dcm", SeriesInstanceUID="1.4", ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1.0],
         ImagePositionPatient=[0.0, 23.0, 60.0], **(shared | {"FrameOfReferenceUID": "1.8"}))  # fmt: skip
    items = read_path(tmp_path).patients[0].items
    (stack,) = [item for item in items if item.modality == "volume"]
    volume = loaded(stack)
    bright = np.argwhere(volume.voxels[0] == 100)[0]
    np.testing.assert_allclose(voxel_to_patient(volume, tuple(float(one) for one in bright)), point)
    assert stack.plane is not None
    (shown,) = shown_by(items, stack.plane.frame_of_reference_uid, point)
    (coronal,) = [item for item in items if item.id == shown.item_id]
    assert coronal.source.path.endswith("c.dcm") and (shown.row, shown.column, shown.distance_mm) == (13.0, 6.0, 0.5)
    assert shown_by(items, "", point) == ()


def loaded(item: Item) -> Volume:
    assert item.content is not None
    volume = item.content.load()
    assert isinstance(volume, Volume)
    return volume
