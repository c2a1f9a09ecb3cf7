"""Whole slides: an overview, where tissue lies, and tiles of it.

Takes a `Slide`; gives pictures and places. Reads by region, so that memory does not grow with the slide. Knows no file format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import median_filter

from salus.errors import FormatError
from salus.record.patient import Image, Slide

OVERVIEW = 1024
"""Longer side of the overview in which tissue is found, pixels."""
MOST_OVERVIEW_PIXELS = 1 << 26
"""Pixels of the coarsest level that are read for an overview."""
STRIP_ROWS = 512
LEAST_SATURATION = 0.05
"""Below this saturation a pixel is glass, whatever Otsu's threshold: on an empty slide it would split noise. Set for this program."""
MEDIAN = 5
"""Side of the median filter over the saturation, pixels of the overview."""


@dataclass(frozen=True)
class Tile:
    """One square of a slide."""

    level: int
    row: int
    """Of the upper left corner, in pixels of the level."""
    column: int
    side: int
    tissue: float
    """Share of its area that is tissue, 0 to 1."""


def overview(slide: Slide, most: int = OVERVIEW) -> Image:
    """Return the whole slide, at most `most` pixels along its longer side, (H, W, 3) from 0 to 255.

    Raises:
        FormatError: the slide has no level small enough to be read whole.
    """
    rows, columns = slide.levels[0]
    factor = min(1.0, most / max(rows, columns))
    wanted = (max(1, round(rows * factor)), max(1, round(columns * factor)))
    level = max(number for number, size in enumerate(slide.levels) if number == 0 or size[0] >= wanted[0])
    if slide.levels[level][0] * slide.levels[level][1] > MOST_OVERVIEW_PIXELS:
        raise FormatError(
            f"Cannot show the slide: its smallest usable level has {' × '.join(map(str, slide.levels[level]))} pixels. "
            "Store it with further levels."
        )
    pixels = _shrunk(slide, level, wanted)
    spacing = None
    if slide.spacing_mm is not None:
        spacing = (slide.spacing_mm[0] * rows / wanted[0], slide.spacing_mm[1] * columns / wanted[1])
    return Image(pixels.astype(np.float32), "1", spacing)


def _shrunk(slide: Slide, level: int, wanted: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a level at the wanted size, read in strips."""
    rows, columns = slide.levels[level]
    if (rows, columns) == wanted:
        return slide.region(level, 0, 0, wanted)
    strips = max(1, -(-rows // STRIP_ROWS))
    edges = np.linspace(0, wanted[0], strips + 1).round().astype(int)
    made = []
    for top, bottom in pairwise(edges.tolist()):
        if bottom == top:
            continue
        first, last = int(top * rows / wanted[0]), max(int(bottom * rows / wanted[0]), int(top * rows / wanted[0]) + 1)
        strip = Picture.fromarray(slide.region(level, first, 0, (last - first, columns)))
        made.append(np.asarray(strip.resize((wanted[1], bottom - top), Picture.Resampling.BOX), dtype=np.uint8))
    return np.concatenate(made)


def otsu(values: NDArray[np.floating]) -> float:
    """Return the threshold that parts values from 0 to 1 into two classes with the least variance within them.

    Source: Otsu 1979, IEEE Transactions on Systems, Man, and Cybernetics 9(1), 62-66; 256 bins.

    Example:
        >>> 0.1 < otsu(np.array([0.05] * 50 + [0.1] * 50 + [0.8] * 30)) < 0.8
        True
    """
    counts, edges = np.histogram(values, bins=256, range=(0.0, 1.0))
    middles = (edges[:-1] + edges[1:]) / 2
    weight = counts.cumsum().astype(np.float64)
    sums = (counts * middles).cumsum()
    other = weight[-1] - weight
    with np.errstate(divide="ignore", invalid="ignore"):
        between = weight * other * (sums / weight - (sums[-1] - sums) / other) ** 2
    between = np.nan_to_num(between)
    best = np.flatnonzero(between == between.max())
    return float(edges[1:][best].mean())


def tissue_of(picture: Image) -> NDArray[np.bool_]:
    """Return where tissue lies in an overview: saturation above Otsu's threshold, after a median filter.

    Stained tissue is coloured, glass is white or grey. Black marks and shadows have little saturation and count as glass; coloured
    pen counts as tissue.

    Args:
        picture: (H, W, 3) from 0 to 255.

    Returns:
        (H, W) bool.

    Source: Lu et al. 2021 (CLAM), Nature Biomedical Engineering 5, 555-570, Methods: saturation, median blur, threshold.
    """
    pixels = picture.pixels
    high, low = pixels.max(axis=-1), pixels.min(axis=-1)
    saturation = median_filter((high - low) / np.maximum(high, 1.0), size=MEDIAN)
    return np.asarray(saturation > max(otsu(saturation), LEAST_SATURATION))


def tiles(slide: Slide, *, side: int, level: int = 0, least_tissue: float = 0.5) -> Iterator[Tile]:
    """Yield the squares of a grid without overlap that hold tissue, row by row; squares at the edge that are not whole are left out.

    Args:
        slide: its overview decides where tissue lies.
        side: of a square, pixels of the level.
        level: 0 is the finest.
        least_tissue: share of tissue from which on a square is given.

    Raises:
        IndexError: the slide has no such level.
        FormatError: the slide has no level small enough to be read whole.
    """
    rows, columns = slide.levels[level]
    mask = tissue_of(overview(slide))
    summed = np.pad(mask.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for row in range(0, rows - side + 1, side):
        for column in range(0, columns - side + 1, side):
            down = _within(row, side, mask.shape[0] / rows, most=mask.shape[0])
            across = _within(column, side, mask.shape[1] / columns, most=mask.shape[1])
            inside = summed[down[1], across[1]] - summed[down[0], across[1]] - summed[down[1], across[0]] + summed[down[0], across[0]]
            share = float(inside / ((down[1] - down[0]) * (across[1] - across[0])))
            if share >= least_tissue:
                yield Tile(level, row, column, side, share)


def _within(start: int, side: int, factor: float, *, most: int) -> tuple[int, int]:
    first = min(int(start * factor), most - 1)
    return first, max(first + 1, min(most, round((start + side) * factor)))
