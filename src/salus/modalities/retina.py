"""Photograph of the retina (fundus).

Claims DICOM OP images and photographs that a manifest declares. Measures quality inside the round field by rule; it names no structure and
no finding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.encode.picture import quality
from salus.record.patient import Code, Content, Image, Item, Source, item_id

DARK = 15.0
"""Of 255: darker pixels lie outside the round field of the camera."""


def measure(item: Item) -> Sequence[Measurement]:
    """Return quality, the share of the round field, and how unevenly it is lit; loads the pixels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Image) or loaded.pixels.ndim != 3:
        return ()
    found = list(quality(loaded))
    inside = loaded.pixels.max(axis=-1) > DARK
    if found and inside.any():
        rule = f"brightest of red, green and blue above {DARK:.0f} of 255"
        found.append(Measurement("share of the field of view", 100.0 * float(inside.mean()), "%", rule))
        green = loaded.pixels[..., 1][inside]
        uneven = float(green.std() / max(float(green.mean()), 1e-6))
        found.append(Measurement("spread of green in the field of view", 100.0 * uneven, "%", f"deviation over mean, where {rule}"))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic fundus: an orange disc with a bright spot.

    Example:
        >>> [round(found.value) for found in measure(example()[0]) if found.name == "share of the field of view"]
        [64]
    """
    source = Source("example-retina", "f0" * 32)
    content = Content("image", _fundus, "96 × 96, colour")
    code = Code("media", "image/jpeg", "image")
    return (Item(item_id(source.sha256, ""), "retina", code, source, content=content, category="image"),)


def _fundus() -> Image:
    rows, columns = np.indices((96, 96)) - 47.5
    pixels = np.zeros((96, 96, 3), np.float32)
    pixels[rows**2 + columns**2 < 43.3**2] = (190.0, 90.0, 40.0)
    pixels[rows**2 + (columns - 20) ** 2 < 49] = (250.0, 210.0, 140.0)
    return Image(pixels, "1")


MODALITY = Modality(
    name="retina",
    title="retinal photograph",
    claims=("dicom:op", "modality:retina"),
    example=example,
    measure=measure,
)
