"""Places in the patient: from a voxel or pixel to millimetres and back, and where else the same point is shown.

Takes items with a `Plane`, and loaded volumes; gives millimetres in LPS, as DICOM counts. Two pictures show one place only when they name
the same frame of reference. Leaves out registration: a patient who moved between two pictures is not followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus.record.patient import Item, Plane, Volume

Point = tuple[float, float, float]
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between LPS and RAS+, either way."""


@dataclass(frozen=True)
class Shown:
    """Where one picture shows a point."""

    item_id: str
    row: float
    """From 0 at the centre of the first row."""
    column: float
    distance_mm: float
    """From the plane, along its normal (its slice's half thickness or less)."""


def voxel_to_patient(volume: Volume, voxel: Point) -> Point:
    """Return where a voxel lies, millimetres in LPS.

    Args:
        volume: gives the affine.
        voxel: slice, row, column; counted from 0 at voxel centres, fractions allowed.

    Example:
        >>> volume = Volume(np.zeros((1, 3, 4, 5), np.float32), "1", np.diag([-1.0, -2.0, 3.0, 1.0]))
        >>> voxel_to_patient(volume, (2, 1, 4))
        (4.0, 2.0, 6.0)
    """
    depth, row, column = voxel
    return _point(TO_LPS @ volume.affine @ np.array([column, row, depth, 1.0]))


def patient_to_voxel(volume: Volume, place_mm: Point) -> Point | None:
    """Return slice, row and column of the voxel at a place in LPS; None outside the volume (more than half a voxel beyond its centres).

    Example:
        >>> volume = Volume(np.zeros((1, 3, 4, 5), np.float32), "1", np.diag([-1.0, -2.0, 3.0, 1.0]))
        >>> patient_to_voxel(volume, (4.0, 2.0, 6.0)), patient_to_voxel(volume, (4.0, 2.0, 8.0))
        ((2.0, 1.0, 4.0), None)
    """
    column, row, depth = _point(np.linalg.inv(TO_LPS @ volume.affine) @ np.array([*place_mm, 1.0]))
    found = (depth, row, column)
    inside = all(-0.5 - 1e-9 <= one <= size - 0.5 + 1e-9 for one, size in zip(found, volume.voxels.shape[1:], strict=True))
    return found if inside else None


def on_plane(plane: Plane, place_mm: Point) -> tuple[float, float, float]:
    """Return row and column of the point of a plane that is nearest to a place, and the signed distance along the normal in millimetres.

    Example:
        >>> plane = Plane("1.2", (10.0, 20.0, 30.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 2.0), (4, 4))
        >>> on_plane(plane, (12.0, 21.0, 33.0))
        (2.0, 1.0, 3.0)
    """
    away = np.array(place_mm) - np.array(plane.position_mm)
    down, across = plane.spacing_mm
    return float(away @ plane.column_axis) / down, float(away @ plane.row_axis) / across, float(away @ plane.normal)


def shown_by(items: Sequence[Item], frame_of_reference_uid: str, place_mm: Point) -> tuple[Shown, ...]:
    """Return the single pictures that show a place, nearest first.

    A picture shows it when its frame of reference is the same, the place lies within its borders, and not farther from its plane than half
    its thickness (half a millimetre where none is stated). Volumes are asked by `patient_to_voxel` when they are loaded.

    Args:
        items: of one patient.
        frame_of_reference_uid: that the place refers to; empty: nothing is known to share it.
        place_mm: LPS.
    """
    found = []
    for item in items:
        plane = item.plane
        if plane is None or item.content is None or item.content.kind != "image":
            continue
        if not frame_of_reference_uid or plane.frame_of_reference_uid != frame_of_reference_uid:
            continue
        row, column, distance = on_plane(plane, place_mm)
        is_inside = -0.5 <= row <= plane.shape[0] - 0.5 and -0.5 <= column <= plane.shape[1] - 0.5
        if is_inside and abs(distance) <= (plane.thickness_mm or 1.0) / 2:
            found.append(Shown(item.id, row, column, abs(distance)))
    return tuple(sorted(found, key=lambda one: (one.distance_mm, one.item_id)))


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = (float(value) for value in values[:3])
    return (x, y, z)
