"""Photograph of skin, of a wound or of any part of the body.

Claims DICOM XC images and photographs that a manifest declares. Measures quality only; it names no structure and no finding. A photograph
may show a face: nothing here recognises or hides one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.encode.picture import quality
from salus.record.patient import Code, Content, Image, Item, Source, item_id


def measure(item: Item) -> Sequence[Measurement]:
    """Return sharpness, brightness and clipping, and size where the scale is known; loads the pixels."""
    loaded = item.content.load() if item.content else None
    return quality(loaded) if isinstance(loaded, Image) else ()


def example() -> tuple[Item, ...]:
    """Return a synthetic photograph: a brown spot on a light ground.

    Example:
        >>> [found.name for found in measure(example()[0])][:2]
        ['sharpness of the picture', 'mean brightness of the picture']
    """
    source = Source("example-skin", "5c" * 32)
    content = Content("image", _spot, "64 × 64, colour")
    code = Code("media", "image/jpeg", "image")
    return (Item(item_id(source.sha256, ""), "skin_photograph", code, source, content=content, category="image"),)


def _spot() -> Image:
    rows, columns = np.indices((64, 64)) - 31.5
    pixels = np.full((64, 64, 3), (220.0, 180.0, 160.0), np.float32)
    pixels[rows**2 + columns**2 < 100] = (110.0, 70.0, 50.0)
    return Image(pixels, "1")


MODALITY = Modality(
    name="skin_photograph",
    title="photograph of skin",
    claims=("dicom:xc", "modality:skin_photograph"),
    example=example,
    measure=measure,
)
