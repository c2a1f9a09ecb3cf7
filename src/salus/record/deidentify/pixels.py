"""Finds written text in pictures and covers it.

Takes pictures of any depth; gives boxes of readable text, by RapidOCR (PP-OCR models that the package carries, run by ONNX Runtime).
A single letter is left: it marks the side. Knows no file format.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import MissingExtra
from salus.record.deidentify.work import Box, TextFinder

LEAST_SCORE = 0.3
"""Certainty of the reading below which a box counts as no text."""
LEAST_CHARACTERS = 2
MOST_LOOKS = 4
"""So often a picture is searched and covered: beside text that is covered another stretch may come to be readable."""
TILE = 1600
"""Pixels; larger pictures are searched in tiles, since the model shrinks what it is given."""
OVERLAP = 200
PERCENTILES = (0.1, 99.9)


class RapidFinder:
    """Finds text with RapidOCR."""

    def __init__(self, engine: Any) -> None:
        """Take a `rapidocr.RapidOCR`."""
        self.engine = engine

    def find(self, picture: NDArray[np.uint8]) -> Sequence[Box]:
        """Return the boxes of readable text in an (H, W, 3) picture."""
        boxes: list[Box] = []
        for top in _starts(picture.shape[0]):
            for left in _starts(picture.shape[1]):
                tile = np.ascontiguousarray(picture[top : top + TILE, left : left + TILE])
                boxes += [(a + top, b + left, c + top, d + left) for a, b, c, d in self._find_in(tile)]
        return boxes

    def _find_in(self, tile: NDArray[np.uint8]) -> list[Box]:
        if int(tile.max()) - int(tile.min()) < 8:
            return []
        read = self.engine(tile, use_cls=False)
        if read.boxes is None or read.txts is None:
            return []
        boxes = []
        for corners, text, score in zip(read.boxes, read.txts, read.scores, strict=True):
            if score >= LEAST_SCORE and sum(each.isalnum() for each in text) >= LEAST_CHARACTERS:
                (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
                boxes.append(padded((int(top), int(left), int(np.ceil(bottom)), int(np.ceil(right))), tile.shape[:2]))
        return boxes


def _starts(length: int) -> range:
    return range(0, max(1, length - OVERLAP), TILE - OVERLAP)


def padded(box: Box, shape: tuple[int, ...]) -> Box:
    """Return a box a fifth of its height larger on all sides, within the picture.

    Example:
        >>> padded((10, 10, 20, 60), (22, 100))
        (8, 8, 22, 62)
    """
    top, left, bottom, right = box
    margin = max(2, (bottom - top) // 5)
    return max(0, top - margin), max(0, left - margin), min(shape[0], bottom + margin), min(shape[1], right + margin)


@cache
def build_text_finder() -> TextFinder:
    """Return the finder of burned-in text.

    Raises:
        MissingExtra: RapidOCR or ONNX Runtime is not installed.
    """
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise MissingExtra("find burned-in text", "deidentify") from error
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidFinder(RapidOCR(params={"Global.text_score": LEAST_SCORE, "Global.log_level": "error"}))


def shown(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a frame as (H, W, 3) of 8 bits: bits beyond eight are spread between the 0.1st and the 99.9th percentile.

    Args:
        frame: (H, W) or (H, W, 3 or 4), any number type.
    """
    if frame.dtype != np.uint8:
        numbers = np.nan_to_num(frame.astype(np.float32))
        low, high = np.percentile(numbers, PERCENTILES)
        if high <= low:
            low, high = float(numbers.min()), float(numbers.max())
        frame = (np.clip((numbers - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    if frame.ndim == 2:
        frame = np.repeat(frame[:, :, None], 3, axis=2)
    return np.ascontiguousarray(frame[:, :, :3])


def merged(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Return boxes without those that lie within another one."""
    kept: list[Box] = []
    for box in sorted(set(boxes), key=lambda each: -(each[2] - each[0]) * (each[3] - each[1])):
        if not any(a <= box[0] and b <= box[1] and c >= box[2] and d >= box[3] for a, b, c, d in kept):
            kept.append(box)
    return tuple(kept)
