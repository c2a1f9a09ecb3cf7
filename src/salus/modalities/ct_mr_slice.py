"""One slice of a CT or MR examination.

Claims DICOM CT and MR images. Measures intensity by rule, and for CT in Hounsfield units the share of
named bands; it names no organ and no finding.
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

HU = "[hnsf'U]"
LEAST_HU = -1024.0
"""Lower values are padding outside the reconstructed circle, not tissue (12-bit CT scale, -1024 to 3071)."""
BANDS = {
    "air": (-np.inf, -900.0),
    "fat": (-150.0, -30.0),
    "soft tissue and fluid": (0.0, 80.0),
    "bone or dense": (300.0, np.inf),
}
"""HU limits of the named bands, both ends included."""
BANDS_SOURCE = (
    "limits set for this program around the tissue values of "
    "Bushberg et al., The Essential Physics of Medical Imaging, 3rd ed. 2012, chapter 10"
)


def measure(item: Item) -> Sequence[Measurement]:
    """Return mean, lowest and highest value of the slice, and for CT the share of pixels in each HU band; loads the pixels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Image) or loaded.pixels.ndim != 2:
        return ()
    is_ct = loaded.unit == HU
    values = loaded.pixels[loaded.pixels >= LEAST_HU] if is_ct else loaded.pixels.ravel()
    if values.size == 0:
        return ()
    kept = (
        "all pixels at or above -1024 HU (lower is padding)"
        if is_ct
        else "all pixels; MR intensity is not comparable between scanners"
    )
    what = "CT number" if is_ct else "intensity"
    found = [
        Measurement(f"mean {what} of the slice", float(values.mean(dtype=np.float64)), loaded.unit, f"mean of {kept}"),
        Measurement(f"lowest {what} of the slice", float(values.min()), loaded.unit, f"lowest of {kept}"),
        Measurement(f"highest {what} of the slice", float(values.max()), loaded.unit, f"highest of {kept}"),
    ]
    for name, (low, high) in BANDS.items() if is_ct else ():
        share = 100.0 * float(((values >= low) & (values <= high)).mean())
        limits = " and ".join(
            f"{word} {edge:.0f} HU" for word, edge in (("at least", low), ("at most", high)) if np.isfinite(edge)
        )
        found.append(Measurement(f"share of pixels in the {name} band", share, "%", f"pixels {limits} of {kept}; {BANDS_SOURCE}"))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic CT slice: a disc of 40 HU in air.

    Example:
        >>> [found.value for found in measure(example()[0]) if found.name.startswith("highest")]
        [40.0]
    """
    source = Source("example-ct", "c7" * 32, "PixelData")
    content = Content("image", partial(_disc, 64), "64 × 64, CT slice, HU")
    code = Code("http://dicom.nema.org/resources/ontology/DCM", "CT", "CT slice")
    return (Item(item_id(source.sha256, source.locator), "ct_mr_slice", code, source, content=content, category="image"),)


def _disc(side: int) -> Image:
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    pixels = np.where(across**2 + down**2 < 0.5, 40.0, -1000.0).astype(np.float32)
    return Image(pixels, HU, (1.0, 1.0), "L\\P", (40.0, 400.0))


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the image network with these settings."""
    from salus.encode.image import ImageEncoder

    return ImageEncoder(**settings)


MODALITY = Modality(
    name="ct_mr_slice",
    title="CT or MR slice",
    claims=("dicom:ct", "dicom:mr", "modality:ct_mr_slice"),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
    measure=measure,
)
