"""Numbers that tell how good a picture is: sharpness, brightness, clipping. By rule, of any 2-D image.

Takes a loaded `Image`; gives measurements. Needs no torch. Names no structure and no finding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

from salus.encode.modality import Measurement
from salus.record.patient import Image

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue (ITU-R BT.709-6, item 3.2)."""
DARK, BRIGHT = 5.0, 250.0
"""Of 255: at or below is black, at or above is white."""


def grey_of(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the brightness of (H, W, 3) colours; (H, W) as it is.

    Example:
        >>> grey_of(np.array([[[0.0, 255.0, 0.0]]])).round(1).tolist()
        [[182.4]]
    """
    values = np.asarray(pixels, np.float64)
    return values if values.ndim == 2 else values @ np.array(LUMA)


def sharpness(pixels: NDArray[np.floating]) -> float:
    """Return the variance of the Laplacian over that of the grey values; 0 for a picture without contrast.

    The division makes it independent of exposure; it still depends on what is shown, so it compares pictures of one kind only.

    Source: Pech-Pacheco et al. 2000, ICPR, "Diatom autofocusing in brightfield microscopy" (variance of the Laplacian).

    Example:
        >>> edges = np.tile([0.0, 0.0, 9.0, 9.0], (4, 1))
        >>> sharpness(edges) > sharpness(np.tile([0.0, 3.0, 6.0, 9.0], (4, 1)))
        True
    """
    grey = grey_of(pixels)
    spread = float(grey.var())
    return float(laplace(grey).var() / spread) if spread > 1e-12 else 0.0


def quality(image: Image) -> tuple[Measurement, ...]:
    """Return width and height where the scale is known, sharpness, mean brightness, and for colours the share of black and white pixels."""
    pixels = image.pixels
    if pixels.size == 0 or not np.isfinite(pixels).all():
        return ()
    found = []
    if image.spacing_mm is not None:
        rule = "pixels times the spacing that the file states"
        found.append(Measurement("height of the picture", pixels.shape[0] * image.spacing_mm[0], "mm", rule))
        found.append(Measurement("width of the picture", pixels.shape[1] * image.spacing_mm[1], "mm", rule))
    rule = "variance of the Laplacian over the variance of the grey values (Pech-Pacheco et al. 2000); compares pictures of one kind only"
    found.append(Measurement("sharpness of the picture", sharpness(pixels), "1", rule))
    grey = grey_of(pixels)
    if pixels.ndim == 3:
        found.append(Measurement("mean brightness of the picture", float(grey.mean() / 2.55), "%", "mean luma (ITU-R BT.709) of 255"))
        for name, share in (("black", (grey <= DARK).mean()), ("white", (grey >= BRIGHT).mean())):
            limit = f"at or below {DARK:.0f}" if name == "black" else f"at or above {BRIGHT:.0f}"
            found.append(Measurement(f"share of {name} pixels", 100.0 * float(share), "%", f"luma {limit} of 255"))
    else:
        found.append(Measurement("mean intensity of the picture", float(grey.mean()), image.unit, "mean of all pixels"))
    return tuple(found)
