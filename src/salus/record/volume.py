"""Volumes in the patient: the letters of body directions, and the three cuts through a point.

Takes a loaded `Volume`; gives pictures in the radiological convention. Knows no file format.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from salus.record.patient import Image, Volume

UPRIGHT = "HFAPLR"
"""Body directions from the one that is drawn upright first: head to foot, then front to back, then left to right."""
TOWARDS = "FPL"
"""Directions in which rows run down, and columns to the right, in the radiological convention."""


def axis_letter(axis: NDArray[np.float64]) -> str:
    """Return the body direction that a vector in LPS points to most: L, R, P, A, H (head) or F (foot).

    Example:
        >>> axis_letter(np.array([1.0, 0.0, 0.0])), axis_letter(np.array([0.0, 0.1, -0.9]))
        ('L', 'F')
    """
    largest = int(np.argmax(np.abs(axis)))
    return ("LPH" if axis[largest] >= 0 else "RAF")[largest]


def cuts(volume: Volume, place: tuple[int, int, int] | None = None, *, time: int = 0) -> tuple[Image, Image, Image]:
    r"""Return three pictures through one voxel: across the slices, across the rows and across the columns of the volume.

    Each is turned so that head (or front) is up and the patient's left on the right, as radiologists look at it.

    Args:
        volume: voxels (T, D, H, W).
        place: slice, row and column of the voxel; None: the middle.
        time: which of the T volumes.

    Raises:
        IndexError: the voxel lies outside the volume.

    Example:
        >>> head_first = Volume(np.zeros((1, 3, 4, 5), np.float32), "1", np.diag([-1.0, -2.0, 3.0, 1.0]))
        >>> [(cut.pixels.shape, cut.spacing_mm, cut.orientation) for cut in cuts(head_first)]
        [((4, 5), (2.0, 1.0), 'L\\P'), ((3, 5), (3.0, 1.0), 'L\\F'), ((3, 4), (3.0, 2.0), 'P\\F')]
    """
    voxels = volume.voxels[time]
    at = place if place is not None else tuple(size // 2 for size in voxels.shape)
    across_slices = _upright(volume, voxels[at[0]], rows=1, columns=0)
    return across_slices, _upright(volume, voxels[:, at[1]], rows=2, columns=0), _upright(volume, voxels[:, :, at[2]], rows=2, columns=1)


def _upright(volume: Volume, pixels: NDArray[np.float32], *, rows: int, columns: int) -> Image:
    """Return a cut turned upright; `rows` and `columns` are the columns of the affine along which its rows and columns count."""
    to_lps = np.array([-1.0, -1.0, 1.0])
    down, across = volume.affine[:3, rows] * to_lps, volume.affine[:3, columns] * to_lps
    if UPRIGHT.index(axis_letter(across)) // 2 < UPRIGHT.index(axis_letter(down)) // 2:
        pixels, down, across = pixels.T, across, down
    if axis_letter(down) not in TOWARDS:
        pixels, down = pixels[::-1], -down
    if axis_letter(across) not in TOWARDS:
        pixels, across = pixels[:, ::-1], -across
    spacing = (float(np.linalg.norm(down)), float(np.linalg.norm(across)))
    return Image(pixels, volume.unit, spacing, f"{axis_letter(across)}\\{axis_letter(down)}", volume.window)
