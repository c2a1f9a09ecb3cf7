"""How well one modality finds another: recall at k and median rank, both ways, with several right answers, ties and chance.

Takes vectors of queries and of a gallery, and which belong together; gives ranks. Needs numpy alone. Leaves out intervals: see
`salus.metrics.bootstrap`, over the queries' patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """Where each query's first right answer stands; n queries."""

    above: NDArray[np.int64]
    """(n,) wrong answers that are closer than the closest right one."""
    tied: NDArray[np.int64]
    """(n,) wrong answers as close as it."""
    best: NDArray[np.int64]
    """(n,) right answers that are as close as the closest; 0 where nothing in the gallery is right."""
    right: NDArray[np.int64]
    """(n,) how many of the gallery are right."""
    gallery: NDArray[np.int64]
    """(n,) size of the gallery."""

    @property
    def rank(self) -> Floats:
        """(n,) place of the first right answer, 1 is first; among ties the place that is expected in random order; NaN without any."""
        return np.where(self.best > 0, 1.0 + self.above + self.tied / (self.best + 1.0), np.nan)

    def recall(self, k: int) -> Floats:
        """Return (n,) 1 where a right answer is among the first k, else 0; with ties the chance of it in random order."""
        slots = k - self.above
        hit = _chance(self.best, self.tied + self.best, np.maximum(slots, 0))
        return np.where((slots > 0) & (self.best > 0), hit, 0.0)

    def chance(self, k: int) -> Floats:
        """Return (n,) the chance that a random order has a right answer among the first k: 1 - C(g - r, k) / C(g, k).

        Example:
            >>> ranked(np.zeros((1, 4)), np.array([[True, True, False, False]])).chance(1).round(3).tolist()
            [0.5]
        """
        return _chance(self.right, self.gallery, np.full(len(self.right), k))


def ranked(scores: NDArray[np.floating], is_right: NDArray[np.bool_]) -> Ranked:
    """Return where the closest right answer of each query stands.

    Args:
        scores: (n, g), higher is closer.
        is_right: (n, g); a query may have several.

    Example:
        >>> ranked(np.array([[0.9, 0.5, 0.1]]), np.array([[False, True, True]])).rank.tolist()
        [2.0]
    """
    closest = np.where(is_right, scores, -np.inf).max(1, keepdims=True)
    above = (~is_right & (scores > closest)).sum(1)
    same = scores == closest
    sizes = np.full(len(scores), scores.shape[1], np.int64)
    return Ranked(above, (~is_right & same).sum(1), (is_right & same).sum(1), is_right.sum(1), sizes)


def _chance(right: NDArray[np.int64], size: NDArray[np.int64], take: NDArray[np.int64]) -> Floats:
    """Return (n,) the chance that at least one of `right` is among `take` of `size` drawn without putting back."""
    wrong, take = size - right, np.minimum(take, size)
    is_sure = (wrong < take) & (right > 0)
    safe = np.maximum(wrong, take).astype(np.float64)  # where it is sure, the formula has no meaning and is not used
    none = np.exp(gammaln(safe + 1) - gammaln(safe - take + 1) - gammaln(size + 1.0) + gammaln(size - take + 1.0))
    return np.where(is_sure, 1.0, np.where(right > 0, 1.0 - none, 0.0))
