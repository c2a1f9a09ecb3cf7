"""Mammogram.

Claims DICOM MG images. Measures quality and how much of the picture the breast covers by rule; side and view stand in the item's summary.
It names no structure and no finding, and no density.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.encode.picture import quality
from salus.record.patient import Code, Content, Image, Item, Source, item_id
from salus.record.slide import otsu


def measure(item: Item) -> Sequence[Measurement]:
    """Return quality and the share of the picture above Otsu's threshold; loads the pixels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Image) or loaded.pixels.ndim != 2:
        return ()
    found = list(quality(loaded))
    low, high = (float(one) for one in np.percentile(loaded.pixels, (0.5, 99.5))) if found else (0.0, 0.0)
    if high > low:
        scaled = np.clip((loaded.pixels - low) / (high - low), 0.0, 1.0)
        share = 100.0 * float((scaled > otsu(scaled)).mean())
        found.append(Measurement("share of the picture that is bright", share, "%", "above Otsu's threshold (1979): breast, and any label"))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic mammogram: half a disc at the left border.

    Example:
        >>> [round(found.value) for found in measure(example()[0]) if found.name.startswith("share")]
        [25]
    """
    source = Source("example-mammogram", "36" * 32, "PixelData")
    content = Content("image", _half_disc, "96 × 64, mammogram, left, MLO")
    code = Code("http://dicom.nema.org/resources/ontology/DCM", "MG", "mammogram")
    return (Item(item_id(source.sha256, source.locator), "mammogram", code, source, content=content, category="image"),)


def _half_disc() -> Image:
    rows, columns = np.indices((96, 64))
    is_inside = (rows - 48) ** 2 + columns**2 < 31.2**2
    return Image(np.where(is_inside, 2000.0 + 5.0 * columns, 100.0).astype(np.float32), "1", (0.1, 0.1))


MODALITY = Modality(
    name="mammogram",
    title="mammogram",
    claims=("dicom:mg", "modality:mammogram"),
    example=example,
    measure=measure,
)
