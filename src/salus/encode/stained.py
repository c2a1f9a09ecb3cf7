"""What is stained purple in a picture of cells: nuclei and platelets in Romanowsky stains.

Takes colours; gives the areas of connected regions. Needs no torch. A rule of colour and size:
it cannot tell a cell from a deposit of stain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LEAST_EXCESS = 30.0
"""Blue over green, of 255, from which on a pixel counts as purple. Chosen on the `val` images of BCCD (`scripts/bccd_count.py`)."""
LEAST_SHARE = 0.01
"""Of the picture, the least area of a region. Chosen likewise."""
SMOOTH = 2.0
"""Standard deviation of the Gaussian before the threshold, pixels for a picture 640 wide."""
CLOSE = 0
"""Times that gaps are closed by a cross of 3 × 3; 3 was no better on `val`."""


def stained_regions(
    pixels: NDArray[np.floating], *, least_excess: float = LEAST_EXCESS, least_share: float = LEAST_SHARE, close: int = CLOSE
) -> NDArray[np.float64]:
    """Return the areas in pixels of the purple regions of a picture, largest first.

    Args:
        pixels: (H, W, 3), 0 to 255.
        least_excess: blue less green from which on a pixel counts.
        least_share: least area of a region, as a share of the picture.
        close: times that gaps are closed.

    Example:
        >>> picture = np.full((100, 100, 3), 220.0)
        >>> picture[10:30, 10:30] = (120, 60, 160)
        >>> len(stained_regions(picture)), len(stained_regions(picture[40:]))
        (1, 0)
    """
    excess = ndimage.gaussian_filter(np.asarray(pixels[..., 2] - pixels[..., 1], np.float64), SMOOTH * pixels.shape[1] / 640)
    mask = excess > least_excess
    if close:
        mask = ndimage.binary_closing(np.pad(mask, close), iterations=close)[close:-close, close:-close]
    labels, count = ndimage.label(mask)
    areas = ndimage.sum_labels(mask, labels, np.arange(1, count + 1)) if count else np.zeros(0)
    kept = areas[areas >= least_share * mask.size]
    return np.asarray(np.sort(kept)[::-1], np.float64)
