"""Burned-in text of DICOM frames: found on every frame, covered on every frame.

Takes a data set; changes its pixels in place and gives the number of stretches of text. What is found on one frame is covered on all,
because text stands still while the reading of it wavers. A file without text keeps its bytes as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian

from salus.errors import FormatError, MissingExtra
from salus.record.deidentify.pixels import MOST_LOOKS, merged, shown
from salus.record.deidentify.work import Box, TextFinder, Work

MOST_PIXEL_BYTES = 2 << 30
"""Of the decoded pixels of one file; more is refused."""


def mask_text(data: Dataset, name: str, work: Work) -> int:
    """Cover the text on all frames and return how many stretches were found.

    Raises:
        FormatError: the pixels cannot be decoded, so text in them cannot be excluded.
        MissingExtra: the finder is not installed.
    """
    if "FloatPixelData" in data or "DoubleFloatPixelData" in data or "PixelData" not in data:
        return 0
    covered: set[Box] = set()
    for _ in range(MOST_LOOKS):
        boxes = set(merged(_boxes(data, name, _finder(work)))) - covered
        if not boxes:
            break
        _cover(data, sorted(boxes), name)
        covered |= boxes
    return len(covered)


def text_left(data: Dataset, name: str, work: Work) -> int:
    """Return how many stretches of text can still be read on the frames."""
    return len(merged(_boxes(data, name, _finder(work)))) if "PixelData" in data else 0


def _finder(work: Work) -> TextFinder:
    if work.finder is None:
        raise MissingExtra("find burned-in text", "deidentify")
    return work.finder()


def _boxes(data: Dataset, name: str, finder: TextFinder) -> Iterator[Box]:
    """Yield the boxes of text on all frames; equal frames are searched once."""
    seen: set[bytes] = set()
    for frame in _frames(data, name):
        digest = hashlib.sha256(np.ascontiguousarray(frame).tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            yield from finder.find(shown(frame))


def _frames(data: Dataset, name: str) -> Iterator[NDArray[Any]]:
    """Yield the frames as they look, colours as RGB."""
    try:
        for frame in iter_pixels(data):
            if data.get("PhotometricInterpretation") == "PALETTE COLOR":
                frame = apply_color_lut(frame, data)
            yield frame
    except Exception as error:
        raise FormatError(
            f"Cannot de-identify '{name}': its pixels cannot be decoded ({type(error).__name__}), so text in them cannot be excluded. "
            "Install decoders with pip install 'salus[images]', or convert it."
        ) from error


def _cover(data: Dataset, boxes: Sequence[Box], name: str) -> None:
    """Write black over the boxes of all frames; the pixels become uncompressed."""
    count = max(1, int(data.get("NumberOfFrames") or 1))
    size = int(data.Rows) * int(data.Columns) * int(data.SamplesPerPixel) * (int(data.BitsAllocated) // 8 or 1) * count
    if size > MOST_PIXEL_BYTES:
        raise FormatError(f"Cannot de-identify '{name}': {size} bytes of pixels are more than {MOST_PIXEL_BYTES}. Split the file.")
    try:
        frames = np.stack(list(iter_pixels(data)))
    except Exception as error:
        raise FormatError(f"Cannot de-identify '{name}': its pixels cannot be decoded ({type(error).__name__}). Convert it.") from error
    dark = _darkest(data, frames)
    for top, left, bottom, right in boxes:
        frames[:, top:bottom, left:right] = dark
    if frames.ndim == 4:
        data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0
    if data.BitsAllocated == 1:
        raise FormatError(f"Cannot de-identify '{name}': text stands in pixels of one bit. Convert it to 8 bits.")
    stored = np.ascontiguousarray(frames).tobytes()
    data.PixelData = stored + bytes(len(stored) % 2)
    data["PixelData"].VR = "OB" if data.BitsAllocated <= 8 else "OW"
    data["PixelData"].is_undefined_length = False
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in data:
            delattr(data, keyword)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.set_original_encoding(False, True, data.original_character_set)


def _darkest(data: Dataset, frames: NDArray[Any]) -> Any:
    """Return the stored value that looks black."""
    kind = data.get("PhotometricInterpretation")
    if kind == "PALETTE COLOR":
        lut = apply_color_lut(np.arange(min(256, 1 << int(data.BitsStored)), dtype=np.uint8).reshape(1, -1), data)
        return int(np.argmin(lut.reshape(-1, lut.shape[-1])[:, :3].astype(np.int64).sum(axis=1)))
    return frames.max() if kind == "MONOCHROME1" else frames.min() if frames.ndim == 3 else 0
