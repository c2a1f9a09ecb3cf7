"""Whole slide of stained tissue, seen through a scanner's microscope.

Claims pyramidal TIFF and DICOM whole-slide files. Measures size and the share of tissue by rule; it names no tissue and no finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Slide, Source, item_id
from salus.record.slide import overview, tissue_of


def measure(item: Item) -> Sequence[Measurement]:
    """Return height, width and number of levels, and share and area of tissue in the overview; reads the overview only."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Slide):
        return ()
    rows, columns = loaded.levels[0]
    share = float(tissue_of(overview(loaded)).mean())
    rule = "saturation above Otsu's threshold in the overview, after a median filter (Otsu 1979; Lu et al. 2021)"
    found = [
        Measurement("height of the slide", float(rows), "1", "pixels of the finest level"),
        Measurement("width of the slide", float(columns), "1", "pixels of the finest level"),
        Measurement("share of tissue", 100.0 * share, "%", rule),
    ]
    if loaded.spacing_mm is not None:
        area = share * rows * loaded.spacing_mm[0] * columns * loaded.spacing_mm[1]
        found.append(Measurement("area of tissue", area, "mm2", f"share of tissue times the area of the slide; {rule}"))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic slide: a pink square on glass, a quarter of the area.

    Example:
        >>> [round(found.value) for found in measure(example()[0]) if found.name == "share of tissue"]
        [25]
    """
    source = Source("example-slide", "b5" * 32)
    content = Content("slide", _square, "512 × 512, 2 levels, 2 µm a pixel, whole slide")
    code = Code("media", "image/whole-slide", "whole slide")
    return (Item(item_id(source.sha256, ""), "pathology_slide", code, source, content=content, category="image"),)


def _square() -> Slide:
    finest = np.full((512, 512, 3), 240, np.uint8)
    finest[128:384, 128:384] = (200, 120, 180)
    return Slide(((512, 512), (256, 256)), partial(_region, (finest, finest[::2, ::2])), (0.002, 0.002), 10.0)


def _region(levels: Sequence[NDArray[np.uint8]], level: int, row: int, column: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = np.full((*size, 3), 255, np.uint8)
    inside = levels[level][row : row + size[0], column : column + size[1]]
    pixels[: inside.shape[0], : inside.shape[1]] = inside
    return pixels


MODALITY = Modality(
    name="pathology_slide",
    title="whole slide (pathology)",
    claims=("media:image/whole-slide", "dicom:sm", "modality:pathology_slide"),
    example=example,
    measure=measure,
)
