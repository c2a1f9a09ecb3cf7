"""Projection radiograph: chest, bone, abdomen.

Claims DICOM CR and DX images and images that a manifest declares. Measures intensity only; it names no structure and no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Image, Item, Source, item_id

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


def measure(item: Item) -> Sequence[Measurement]:
    """Return mean, lowest and highest intensity; loads the pixels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Image) or loaded.pixels.size == 0:
        return ()
    kept = "all pixels, arbitrary units that depend on the detector and its processing; bright is high"
    return (
        Measurement("mean intensity of the image", float(loaded.pixels.mean(dtype=np.float64)), loaded.unit, f"mean of {kept}"),
        Measurement("lowest intensity of the image", float(loaded.pixels.min()), loaded.unit, f"lowest of {kept}"),
        Measurement("highest intensity of the image", float(loaded.pixels.max()), loaded.unit, f"highest of {kept}"),
    )


def example() -> tuple[Item, ...]:
    """Return a synthetic radiograph: two dark fields on a bright ground.

    Example:
        >>> [found.value for found in measure(example()[0])][1:]
        [40.0, 200.0]
    """
    source = Source("example-radiograph", "d7" * 32, "PixelData")
    content = Content("image", partial(_two_fields, 64), "64 × 64, radiograph (DX)")
    code = Code("http://dicom.nema.org/resources/ontology/DCM", "DX", "radiograph (DX)")
    return (Item(item_id(source.sha256, source.locator), "radiograph", code, source, content=content, category="image"),)


def _two_fields(side: int) -> Image:
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    is_dark = ((np.abs(across) - 0.45) / 0.3) ** 2 + (down / 0.7) ** 2 < 1
    return Image(np.where(is_dark, 40.0, 200.0).astype(np.float32), "1")


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the image network with these settings."""
    from salus.encode.image import ImageEncoder

    return ImageEncoder(**settings)


MODALITY = Modality(
    name="radiograph",
    title="radiograph",
    claims=("dicom:cr", "dicom:dx", "dicom:rg", "modality:radiograph"),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
    measure=measure,
)
