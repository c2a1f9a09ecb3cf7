"""Moving pictures in DICOM files (cine): multi-frame ultrasound, angiography, fluoroscopy and secondary capture as clips.

Takes a `Header`; gives one item whose frames load lazily. Leaves out stacks of slices (enhanced CT and MR, dose, segmentations), whose
frames are places, not times.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels

from salus.errors import FormatError
from salus.record.claims import modality_of
from salus.record.patient import Clip, Code, Content, Item, Source, item_id
from salus.record.read.dicom_header import PARSE_ERRORS, Header, number_of, numbers_of, observed_at, read_header, text_of
from salus.record.read.dicom_image import DCM, frame_image, image_remarks, refuse_unreadable, shape_of
from salus.record.read.reader import ReadOptions

CINE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.3": "US", "1.2.840.10008.5.1.4.1.1.3.1": "US", "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.12.1.1": "XA", "1.2.840.10008.5.1.4.1.1.12.2": "RF", "1.2.840.10008.5.1.4.1.1.12.2.1": "RF",
    "1.2.840.10008.5.1.4.1.1.7": "OT", "1.2.840.10008.5.1.4.1.1.7.1": "OT", "1.2.840.10008.5.1.4.1.1.7.2": "OT",
    "1.2.840.10008.5.1.4.1.1.7.3": "OT", "1.2.840.10008.5.1.4.1.1.7.4": "OT",
}  # fmt: skip
"""SOP classes whose frames follow each other in time (DICOM PS3.4 B.5), and the modality that they are of."""
STACKS = frozenset({"CT", "MR", "PT", "NM", "RTDOSE", "SEG", "SM"})
"""Modalities whose frames are places, whatever times their header states."""
WORDS = {"US": "ultrasound clip", "XA": "angiogram clip", "RF": "fluoroscopy clip", "ES": "endoscopy clip"}
MOST_BYTES = 256 << 20
"""Frames of one loaded clip; of longer ones every second, third, … is kept."""


def is_cine(header: Header) -> bool:
    """Return whether the frames of an image follow each other in time."""
    if shape_of(header)[2] < 2 or text_of(header, "Modality").upper() in STACKS:
        return False
    timed = any(numbers_of(header, name) for name in ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"))
    return timed or text_of(header, "SOPClassUID") in CINE_CLASSES


def clip_item(header: Header, sha256: str, options: ReadOptions) -> Item:
    """Return the item of a clip; its frames stay on disk.

    Raises:
        FormatError: the clip is truncated, damaged or too large.
        MissingExtra: its compression needs a codec that is not installed.
    """
    rows, columns, frames = shape_of(header)
    refuse_unreadable(header)
    kind = text_of(header, "Modality").upper() or "OT"
    words = WORDS.get(kind, f"clip ({kind})")
    time_s = frame_times_s(header, frames)
    rate = f", {(frames - 1) / time_s[-1]:.4g} Hz, {frames * time_s[-1] / (frames - 1):.1f} s" if np.isfinite(time_s[-1]) else ""
    stride = _stride(header)
    remarks = [] if rate else ["the times of the frames are not stated"]
    steps = np.diff(time_s)
    if rate and np.ptp(steps) > 0.2 * np.median(steps):
        remarks.append(f"variable frame rate: steps of {1000 * steps.min():.0f} to {1000 * steps.max():.0f} ms")
    remarks += [f"one in {stride} frames is loaded"] if stride > 1 else []
    return Item(
        id=item_id(sha256, "PixelData"),
        modality=options.modality or modality_of(f"dicom:{kind}-clip"),
        code=Code(DCM, kind, words),
        source=Source(str(header.path), sha256, "PixelData"),
        observed_at=observed_at(header),
        category="video",
        content=Content("clip", partial(load_clip, header.path), f"{frames} frames, {rows} × {columns}, {words}{rate}"),
        remarks=(*remarks, *image_remarks(header, kind)),
    )


def frame_times_s(header: Header, frames: int) -> NDArray[np.float64]:
    """Return when each frame was taken, (frames,) seconds from the first; NaN where the header does not say.

    Raises:
        FormatError: a time is no number.

    Source: DICOM PS3.3 C.7.6.5 (cine: Frame Time and Cine Rate) and C.7.6.5.1.2 (Frame Time Vector: milliseconds since the frame before).
    """
    steps_ms = numbers_of(header, "FrameTimeVector")
    if len(steps_ms) == frames and min(steps_ms[1:]) > 0:
        return np.asarray(np.cumsum([0.0, *steps_ms[1:]]) / 1000)
    step_ms = number_of(header, "FrameTime")
    rate = number_of(header, "CineRate") or number_of(header, "RecommendedDisplayFrameRate")
    step_s = step_ms / 1000 if step_ms else 1 / rate if rate else math.nan
    return np.asarray(np.arange(frames) * step_s if step_s > 0 else np.full(frames, np.nan), dtype=np.float64)


def load_clip(path: Path) -> Clip:
    """Return the frames of a DICOM clip: grey and colour of 8 bits as they are, others as display intensity; a damaged frame is missing.

    Raises:
        FormatError: no frame can be decoded.
        MissingExtra: a codec is not installed.
    """
    header = read_header(path)
    rows, columns, frames = shape_of(header)
    refuse_unreadable(header)
    stride = _stride(header)
    chosen = range(0, frames, stride)
    is_plain = _is_plain(header)
    is_colour = (number_of(header, "SamplesPerPixel", default=1) or 1) > 1 or text_of(header, "PhotometricInterpretation").startswith("PAL")
    stored = np.zeros((len(chosen), rows, columns, 3) if is_colour else (len(chosen), rows, columns), np.uint8 if is_plain else np.float32)
    is_present = np.zeros(len(chosen), np.bool_)
    spacing = None
    for place, index in enumerate(chosen):
        try:
            if is_plain:
                stored[place] = _plain_frame(path, index)
            else:
                picture = frame_image(header, index)
                stored[place], spacing = picture.pixels, picture.spacing_mm
            is_present[place] = True
        except (FormatError, *PARSE_ERRORS):
            continue
    if not is_present.any():
        raise FormatError(f"Cannot decode the frames of DICOM '{path.name}' ({header.syntax_name}). Export it again.")
    if is_plain and text_of(header, "PhotometricInterpretation") == "MONOCHROME1":
        stored[is_present] = 255 - stored[is_present]
    if is_plain or is_colour:
        value_range = (0.0, 255.0)
    else:
        seen = stored[is_present]
        value_range = (float(seen.min()), float(seen.max()))
    return Clip(stored, frame_times_s(header, frames)[::stride], is_present, value_range, "1", spacing)


def _plain_frame(path: Path, index: int) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(next(iter(iter_pixels(path, indices=[index]))), dtype=np.uint8)


def _is_plain(header: Header) -> bool:
    """Return whether stored values are display values: 8 bits, no sign, no palette, no rescaling, in an ordinary file."""
    slope, intercept = number_of(header, "RescaleSlope", default=1.0), number_of(header, "RescaleIntercept", default=0.0)
    is_8_bit = number_of(header, "BitsAllocated", default=8) == 8 == number_of(header, "BitsStored", default=8)
    is_colour_table = text_of(header, "PhotometricInterpretation").startswith("PALETTE")
    is_stated = "TransferSyntaxUID" in getattr(header.dataset, "file_meta", {}) and header.pixel_position > 0
    is_unsigned = number_of(header, "PixelRepresentation", default=0) == 0 and "ModalityLUTSequence" not in header.dataset
    return bool(is_8_bit and not is_colour_table and is_stated and is_unsigned and slope == 1 and intercept == 0)


def _stride(header: Header) -> int:
    rows, columns, frames = shape_of(header)
    channels = 1 if text_of(header, "PhotometricInterpretation").startswith("MONOCHROME") else 3
    frame_bytes = rows * columns * channels * (1 if _is_plain(header) else 4)
    return max(1, math.ceil(frames / max(1, MOST_BYTES // frame_bytes)))
