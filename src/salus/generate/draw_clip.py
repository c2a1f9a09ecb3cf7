"""A moving picture on paper: a sheet of its frames, each with its time. Inline SVG around one JPEG.

Takes a loaded `Clip`; gives an SVG string with title and description. Small on purpose: a dozen frames, reduced; a missing frame is said to
be missing, never drawn black. Leaves out which clips are drawn (`report`), and playing them.
"""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from salus.generate.draw import MUTED, svg, text
from salus.record.patient import Clip
from salus.units import number

MOST_FRAMES = 12
COLUMNS = 4
MOST_SIDE = 220
"""Longer side of one drawn frame, pixels."""
QUALITY = 75
"""Of the JPEG; 100 would be lossless to the eye at three times the size."""
LABEL, GAP = 22, 8
"""Pixels below a frame for its time, and beside it."""


def contact_sheet(content: Clip, *, name: str) -> str:
    """Return at most twelve frames, evenly spread from the first to the last, from left to right and top to bottom.

    Args:
        content: frames (T, H, W) or (T, H, W, 3).
        name: what the clip is, in words.
    """
    chosen = np.unique(np.linspace(0, len(content.frames) - 1, min(MOST_FRAMES, len(content.frames))).round().astype(int))
    rows, columns = content.frames.shape[1:3]
    spacing = content.spacing_mm or (1.0, 1.0)
    scale = MOST_SIDE / max(rows * spacing[0], columns * spacing[1])
    height, width = max(1, round(rows * spacing[0] * scale)), max(1, round(columns * spacing[1] * scale))
    across, down = min(COLUMNS, len(chosen)), math.ceil(len(chosen) / COLUMNS)
    step_x, step_y = width + GAP, height + LABEL
    sheet = np.full((down * step_y, across * step_x - GAP, 3), 255, np.uint8)  # one picture with its margins: every browser places it alike
    parts = []
    for place, index in enumerate(chosen):
        left, top = place % COLUMNS * step_x, place // COLUMNS * step_y
        if content.is_present[index]:
            sheet[top : top + height, left : left + width] = _frame(content, int(index), (width, height))
        else:
            outline = f'fill="none" stroke="{MUTED}" stroke-dasharray="5 4"'
            parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" {outline}/>')
            parts.append(text(left + width / 2, top + height / 2, label="missing frame", anchor="middle", fill=MUTED))
        parts.append(text(left, top + height + 15, label=_label(content, int(index)), size=12, fill=MUTED))
    size = (sheet.shape[1], sheet.shape[0])
    picture = f'<image href="{_jpeg(sheet)}" width="{size[0]}" height="{size[1]}"/>'
    return svg(size, picture + "".join(parts), title=name, description=clip_words(content))


def clip_words(content: Clip) -> str:
    """Return what a sheet shows of a clip, in words for a caption."""
    total, missing = len(content.frames), int((~content.is_present).sum())
    rate = content.frame_rate_hz
    pace = f"{number(float(f'{rate:.3g}'))} frames a second" if rate else "times of the frames not stated"
    gaps = f"; {missing} of {total} frames are missing" if missing else ""
    shown = f"{min(MOST_FRAMES, total)} of {total} frames, reduced, lossy"
    return f"{shown}; {pace}{gaps}"


def _label(content: Clip, index: int) -> str:
    at_s = float(content.time_s[index])
    return f"frame {index + 1}, {at_s:.2f} s" if math.isfinite(at_s) else f"frame {index + 1}"


def _frame(content: Clip, index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    low, high = content.value_range
    pixels = np.asarray(content.frames[index], np.float32)
    shown = np.round(np.clip(np.nan_to_num((pixels - low) / ((high - low) or 1.0)), 0, 1) * 255).astype(np.uint8)
    return np.asarray(Picture.fromarray(shown).convert("RGB").resize(size, Picture.Resampling.LANCZOS), dtype=np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
