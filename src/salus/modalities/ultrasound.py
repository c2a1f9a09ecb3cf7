"""One ultrasound picture.

Claims DICOM US images. Measures quality and the share of the picture that is coloured (colour flow, or marks on the screen) by rule; it
names no structure and no finding. Films are another modality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.encode.picture import quality
from salus.record.patient import Code, Content, Image, Item, Source, item_id

LEAST_COLOUR = 30.0
"""Largest less smallest of red, green and blue, of 255, from which on a pixel is coloured."""


def measure(item: Item) -> Sequence[Measurement]:
    """Return quality, and in colour the share of coloured pixels; loads the pixels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Image):
        return ()
    found = list(quality(loaded))
    if loaded.pixels.ndim == 3 and found:
        share = float((np.ptp(loaded.pixels, axis=-1) >= LEAST_COLOUR).mean())
        rule = f"red, green and blue differ by at least {LEAST_COLOUR:.0f} of 255: colour flow, or marks on the screen"
        found.append(Measurement("share of coloured pixels", 100.0 * share, "%", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic fan of speckle with a red spot of a hundredth of the picture.

    Example:
        >>> [round(found.value) for found in measure(example()[0]) if found.name == "share of coloured pixels"]
        [1]
    """
    source = Source("example-ultrasound", "05" * 32, "PixelData")
    content = Content("image", _fan, "100 × 100, ultrasound image")
    code = Code("http://dicom.nema.org/resources/ontology/DCM", "US", "ultrasound image")
    return (Item(item_id(source.sha256, source.locator), "ultrasound", code, source, content=content, category="image"),)


def _fan() -> Image:
    rows, columns = np.indices((100, 100))
    is_inside = np.abs(columns - 50) < rows * 0.6
    grey = np.where(is_inside, np.random.default_rng(0).rayleigh(40.0, rows.shape), 0.0)
    pixels = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=-1).astype(np.float32)
    pixels[60:70, 45:55] = (200.0, 40.0, 40.0)
    return Image(pixels, "1")


MODALITY = Modality(
    name="ultrasound",
    title="ultrasound",
    claims=("dicom:us", "modality:ultrasound"),
    example=example,
    measure=measure,
)
