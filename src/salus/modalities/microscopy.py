"""Microscopy of cells: blood smears and other pictures of a field of view.

Claims DICOM GM images and pictures that a manifest declares. Measures quality, and counts what is stained purple by a stated rule; it names
no kind of cell and no finding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.encode.picture import quality
from salus.encode.stained import stained_regions
from salus.record.patient import Code, Content, Image, Item, Source, item_id


def measure(item: Item) -> Sequence[Measurement]:
    """Return quality, and in colour the number and share of purple regions; loads the pixels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Image):
        return ()
    found = list(quality(loaded))
    if loaded.pixels.ndim == 3 and found:
        areas = stained_regions(loaded.pixels)
        rule = "connected regions of at least 1 % of the picture where blue exceeds green clearly (see salus.encode.stained)"
        found.append(Measurement("number of purple regions", float(len(areas)), "1", rule))
        found.append(Measurement("share of purple regions", 100.0 * float(areas.sum()) / (loaded.pixels.size / 3), "%", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic smear: one purple disc among pink ones.

    Example:
        >>> [found.value for found in measure(example()[0]) if found.name == "number of purple regions"]
        [1.0]
    """
    source = Source("example-smear", "a1" * 32)
    content = Content("image", _smear, "96 × 128, colour")
    code = Code("media", "image/jpeg", "image")
    return (Item(item_id(source.sha256, ""), "microscopy", code, source, content=content, category="image"),)


def _smear() -> Image:
    rows, columns = np.indices((96, 128))
    pixels = np.full((96, 128, 3), (225.0, 220.0, 230.0), np.float32)
    for row, column in ((20, 20), (70, 30), (75, 100), (20, 105)):
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < 100] = (215.0, 160.0, 170.0)
    pixels[(rows - 45) ** 2 + (columns - 64) ** 2 < 144] = (120.0, 60.0, 160.0)
    return Image(pixels, "1")


MODALITY = Modality(
    name="microscopy",
    title="microscopy",
    claims=("dicom:gm", "modality:microscopy"),
    example=example,
    measure=measure,
)
