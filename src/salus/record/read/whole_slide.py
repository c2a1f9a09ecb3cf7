"""Whole-slide files, through OpenSlide: Aperio, Hamamatsu, Leica, Philips, Ventana, Trestle, generic tiled TIFF, DICOM.

Takes a path; gives what is needed for an item, and the `Slide` when it is loaded. Labels and other pictures beside the slide are never
read: a label may show a name. Not a reader itself: the readers of TIFF and DICOM call it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, MissingExtra
from salus.record.patient import Slide

MOST_REGION_PIXELS = 1 << 26
"""Pixels of one region: 256 MiB while it is read."""
GENERIC = "generic-tiff"


@dataclass(frozen=True)
class SlideFacts:
    """What is known of a whole slide without reading it."""

    levels: tuple[tuple[int, int], ...]
    """Rows and columns, finest first."""
    spacing_mm: tuple[float, float] | None
    objective: float | None
    vendor: str

    @property
    def summary(self) -> str:
        """Size in words."""
        size = " × ".join(map(str, self.levels[0]))
        spacing = "" if self.spacing_mm is None else f", {1000 * self.spacing_mm[0]:.3g} µm a pixel"
        objective = "" if self.objective is None else f", {self.objective:g}× objective"
        return f"{size}, {len(self.levels)} level{'s'[: len(self.levels) != 1]}{spacing}{objective}, whole slide"


def vendor_of(path: Path) -> str:
    """Return OpenSlide's name of a file's format, empty when it is no whole slide.

    Raises:
        MissingExtra: OpenSlide is not installed.
    """
    return _library(path).OpenSlide.detect_format(str(path)) or ""


def facts_of(path: Path) -> SlideFacts:
    """Return the sizes and the scale of a whole slide.

    Raises:
        FormatError: OpenSlide cannot open it.
        MissingExtra: OpenSlide is not installed.
    """
    opened = _opened(path)
    try:
        return _facts(opened)
    finally:
        opened.close()


def load_slide(path: Path) -> Slide:
    """Return the slide; the file stays open as long as it is used.

    Raises:
        FormatError: OpenSlide cannot open it.
        MissingExtra: OpenSlide is not installed.
    """
    opened = _opened(path)
    facts = _facts(opened)

    def region(level: int, row: int, column: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return a region; see `Slide.region`."""
        if size[0] * size[1] > MOST_REGION_PIXELS or min(size) < 1:
            raise FormatError(f"Cannot read a region of {size[0]} × {size[1]} pixels: at most {MOST_REGION_PIXELS} are read. Ask for less.")
        factor = opened.level_downsamples[level]
        try:
            picture = opened.read_region((round(column * factor), round(row * factor)), level, (size[1], size[0]))
        except _library(path).OpenSlideError as error:
            raise FormatError(f"Cannot decode a region of the slide '{path.name}': it is damaged. Export it again.") from error
        values = np.asarray(picture, dtype=np.float32)
        alpha = values[..., 3:] / 255.0
        return np.asarray(np.round(values[..., :3] * alpha + 255.0 * (1.0 - alpha)), dtype=np.uint8)

    return Slide(facts.levels, region, facts.spacing_mm, facts.objective)


def _facts(opened: Any) -> SlideFacts:
    properties = opened.properties
    spacing = [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "yx"]
    known = (spacing[0] / 1000, spacing[1] / 1000) if spacing[0] and spacing[1] else None
    levels = tuple((rows, columns) for columns, rows in opened.level_dimensions)
    return SlideFacts(levels, known, _number(properties.get("openslide.objective-power")), properties.get("openslide.vendor", ""))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


def _library(path: Path) -> Any:
    try:
        return importlib.import_module("openslide")
    except (ImportError, OSError) as error:  # OSError: the package is there, its C library is not
        raise MissingExtra(f"read the whole slide '{path.name}'", "images") from error


def _opened(path: Path) -> Any:
    library = _library(path)
    try:
        return library.OpenSlide(str(path))
    except library.OpenSlideError as error:
        raise FormatError(
            f"Cannot read the whole slide '{path.name}': it is damaged, or in a form that OpenSlide does not read. Export it again."
        ) from error
