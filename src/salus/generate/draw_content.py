"""Pictures of what an item holds: ECG on calibrated paper, other waveforms, heart sounds, images. Inline SVG, pixels as PNG.

Takes loaded content; gives SVG strings with title and description, dark ink on white. A missing sample is a gap, never a zero.
Sizes and scales are stated in the drawing. Leaves out which items are drawn (`report`), and charts of numbers (`draw`).
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.signal import spectrogram

from salus.generate.draw import INK, MUTED, TRACE, Placing, line, nice_ticks, scale, svg, text
from salus.record.patient import Image, Signal, Sound
from salus.units import number, words

GRID_FINE, GRID_COARSE = "#f7dcdc", "#eab4b4"
MILLIVOLTS = {"mV": 1.0, "uV": 1e-3, "V": 1e3}
"""Millivolts in one unit of an ECG lead."""
STANDARD_LEADS = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
MM_PER_S, MM_PER_MV = 25.0, 10.0
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
MOST_POINTS = 1400
"""Points of one trace; more are drawn as the least and greatest of each bin."""
MOST_PIXELS = 640
"""Longer side of a drawn image, pixels."""


def _finite_runs(samples: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Yield (first index, samples) of each stretch without a missing sample."""
    finite = np.isfinite(samples)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], finite.astype(np.int8), [0]))))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield int(start), samples[start:stop]


def _thinned(run: NDArray[np.floating], width: int) -> list[tuple[int, float]]:
    """Return (index, value) of the least and greatest sample of each bin of `width` samples, in order of time."""
    if width <= 2:
        return [(index, float(value)) for index, value in enumerate(run)]
    points: list[tuple[int, float]] = []
    for start in range(0, len(run), width):
        part = run[start : start + width]
        for index in sorted({int(part.argmin()), int(part.argmax())}):
            points.append((start + index, float(part[index])))
    return points


def trace_path(samples: NDArray[np.floating], place_x: Placing, *, place_y: Placing) -> str:
    """Return SVG path data of a trace: (S,) samples, NaN where missing.

    A missing sample breaks the line; long traces keep the extremes of each bin.

    Example:
        >>> trace_path(np.array([0.0, 1.0, np.nan, 2.0]), float, place_y=float)
        'M0.0 0.0L1.0 1.0M3.0 2.0h0.01'
    """
    width = math.ceil(2 * len(samples) / MOST_POINTS)
    pieces = []
    for start, run in _finite_runs(samples):
        points = [f"{place_x(start + index):.2f} {place_y(value):.2f}" for index, value in _thinned(run, width)]
        pieces.append("M" + "L".join(points) + ("h0.01" if len(points) == 1 else ""))
    return "".join(pieces).replace(".00", ".0")


def ecg(signal: Signal, *, name: str) -> str | None:
    """Return an ECG on a calibrated grid, 25 mm/s and 10 mm/mV, or None when a lead is not in volts.

    All twelve standard leads: three rows of four 2.5 s columns, which follow each other in time, and lead II below. Other sets of
    leads: one row a lead, at most the first 10 s. Each lead is centred on its median. The calibration pulse is 1 mV for 0.2 s.
    Sizes are true millimetres.

    Args:
        signal: samples (C, S), units mV, uV or V.
        name: what the recording is, in words.

    Source: AHA/ACCF/HRS 2007 recommendations for the ECG, part I (paper speed, gain, 3 x 4 format).
    """
    if not all(unit in MILLIVOLTS for unit in signal.units):
        return None
    millivolts = {
        lead: _centred(np.asarray(row, dtype=np.float64) * MILLIVOLTS[unit])
        for lead, row, unit in zip(signal.leads, signal.samples, signal.units, strict=True)
    }
    rate = signal.sampling_rate_hz
    duration_s = min(signal.samples.shape[1] / rate, 10.0)
    is_standard = duration_s >= 9.9 and all(lead in millivolts for row in STANDARD_LEADS for lead in row)
    rows: list[tuple[tuple[str, float, float], ...]]
    if is_standard:
        rows = [tuple((lead, 2.5 * column, 2.5 * column + 2.5) for column, lead in enumerate(row)) for row in STANDARD_LEADS]
        rows.append((("II", 0.0, 10.0),))
    else:
        rows = [((lead, 0.0, duration_s),) for lead in signal.leads]
    row_mm = _row_height_mm(list(millivolts.values()))
    size = (12 + duration_s * MM_PER_S + 3, math.ceil(row_mm * len(rows) + 4))
    parts = [_ecg_grid(*size)]
    for index, row in enumerate(rows):
        middle = 2 + row_mm * (index + 0.5) + 2
        parts.append(f'<path d="M2 {middle:g}h2v-10h5v10h2" stroke="{INK}" stroke-width=".3" fill="none"/>')
        parts += [_ecg_cell(millivolts[lead], (start, end), rate=rate, middle=middle, label=lead) for lead, start, end in row]
    shown = "3 × 4 with rhythm strip" if is_standard else f"{len(rows)} leads, first {number(round(duration_s, 2))} s"
    description = f"{shown}; 25 mm/s, 10 mm/mV; a small square is 0.04 s and 0.1 mV; gaps are missing samples."
    return svg(size, "".join(parts), title=name, description=description, unit="mm")


def _centred(lead: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a lead around its median, so that an electrode's offset does not push it off the paper."""
    finite = lead[np.isfinite(lead)]
    return lead - float(np.median(finite)) if finite.size else lead


def _row_height_mm(leads: list[NDArray[np.float64]]) -> float:
    finite = np.concatenate([lead[np.isfinite(lead)] for lead in leads if np.isfinite(lead).any()] or [np.zeros(1)])
    reach = max(abs(float(np.percentile(finite, 0.1))), abs(float(np.percentile(finite, 99.9))))
    return min(max(math.ceil(reach * MM_PER_MV * 1.6), 20), 50)


def _ecg_cell(lead: NDArray[np.float64], span_s: tuple[float, float], *, rate: float, middle: float, label: str) -> str:
    first, last = round(span_s[0] * rate), min(round(span_s[1] * rate), len(lead))
    left = 12 + span_s[0] * MM_PER_S
    path = trace_path(lead[first:last], lambda index: left + index / rate * MM_PER_S, place_y=lambda value: middle - value * MM_PER_MV)
    tick = f'<path d="M{left:g} {middle - 4:g}v8" stroke="{INK}" stroke-width=".2"/>' if span_s[0] else ""
    return (
        f'{tick}<path d="{path}" stroke="{INK}" stroke-width=".28" fill="none" stroke-linejoin="round" stroke-linecap="round"/>'
        f'<text x="{left + 1:g}" y="{middle - 9:g}" font-size="3.4" font-weight="600" fill="{INK}" stroke="#fff" '
        f'stroke-width=".8" paint-order="stroke">{escape(label)}</text>'
    )


def _ecg_grid(width: float, height: float) -> str:
    def lines(step: int) -> str:
        upright = "".join(f"M{x} 0V{height:g}" for x in range(0, int(width) + 1, step))
        return upright + "".join(f"M0 {y}H{width:g}" for y in range(0, int(height) + 1, step))

    fine = f'<path d="{lines(1)}" stroke="{GRID_FINE}" stroke-width=".1"/>'
    return fine + f'<path d="{lines(5)}" stroke="{GRID_COARSE}" stroke-width=".2"/>'


def shown_s(signal: Signal) -> float:
    """Return how much of a waveform is drawn, seconds: the first ten, or all of a sensor that reads less than once a second.

    Example:
        >>> round(shown_s(Signal(np.zeros((1, 100), np.float32), ("cgm",), ("mg/dL",), 1 / 300)))
        30000
    """
    total_s = float(signal.samples.shape[1] / signal.sampling_rate_hz)
    return total_s if signal.sampling_rate_hz < 1 else min(total_s, 10.0)


def waveforms(signal: Signal, *, name: str) -> str:
    """Return one row a channel, each on its own scale with its unit; as much as `shown_s` says.

    Args:
        signal: samples (C, S), NaN where missing.
        name: what the recording is, in words.
    """
    rate = signal.sampling_rate_hz
    shown = signal.samples[:, : max(1, round(shown_s(signal) * rate))]
    duration_s = shown.shape[1] / rate
    left, right, row = 110.0, 880.0, 84.0
    place_x = scale(0, shown.shape[1], start=left, end=right)
    parts = []
    for index, (lead, unit, samples) in enumerate(zip(signal.leads, signal.units, shown, strict=True)):
        top = 8 + index * row
        parts.append(line(left, top + row - 6, x2=right, y2=top + row - 6))
        parts.append(text(0, top + row / 2, label=lead, size=13) + text(0, top + row / 2 + 15, label=words(unit), fill=MUTED))
        finite = samples[np.isfinite(samples)]
        if not finite.size:
            parts.append(text((left + right) / 2, top + row / 2, label="no sample in this stretch", anchor="middle", fill=MUTED))
            continue
        low, high = float(finite.min()), float(finite.max())
        place_y = (
            scale(low, high, start=top + row - 12, end=top + 6)
            if high > low
            else scale(low - 1, high + 1, start=top + row - 12, end=top + 6)
        )
        parts.append(f'<path d="{trace_path(samples, place_x, place_y=place_y)}" stroke="{TRACE}" fill="none" stroke-linecap="round"/>')
        parts.append(text(left - 6, top + 12, label=f"{high:.3g}", anchor="end", fill=MUTED))
        parts.append(text(left - 6, top + row - 10, label=f"{low:.3g}", anchor="end", fill=MUTED))
    bottom = 8 + len(signal.leads) * row
    step, unit = (86400.0, "d") if duration_s > 172_800 else (3600.0, "h") if duration_s > 7200 else (1.0, "s")
    place_s = scale(0, duration_s, start=left, end=right)
    parts += [text(place_s(tick * step), bottom + 12, label=f"{tick:g} {unit}", anchor="middle", fill=MUTED)
              for tick in nice_ticks(0, duration_s / step)]  # fmt: skip
    total_s = signal.samples.shape[1] / rate
    shown_of = f"{number(round(duration_s, 2))} s of {number(round(total_s, 2))} s"
    description = f"{len(signal.leads)} channels, {shown_of}; gaps are missing samples."
    return svg((900, bottom + 20), "".join(parts), title=name, description=description)


def _png(pixels: NDArray[np.uint8]) -> str:
    """Return a PNG data URI of (H, W) or (H, W, 3) pixels."""
    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def sound(content: Sound, *, name: str) -> str:
    """Return waveform and spectrogram of a recording, the first channel, on one time axis.

    The spectrogram covers 0 to 500 Hz for rates to 4 kHz (heart sounds) and 0 to 4 kHz above, in windows of 64 ms that overlap by
    three quarters; dark is loud, over a range of 50 dB below the loudest.

    Args:
        content: samples (C, S), -1 to 1; NaN where missing.
        name: what the recording is, in words.
    """
    rate, samples = content.sampling_rate_hz, content.samples[0]
    duration_s = len(samples) / rate
    left, right = 56.0, 886.0
    reach = float(np.nanmax(np.abs(samples))) if np.isfinite(samples).any() else 1.0
    path = trace_path(
        samples, scale(0, len(samples), start=left, end=right), place_y=scale(-(reach or 1.0), reach or 1.0, start=118, end=8)
    )
    parts = [line(left, 63, x2=right, y2=63), f'<path d="{path}" stroke="{TRACE}" stroke-width=".8" fill="none"/>']
    parts.append(text(left - 6, 67, label="amplitude", size=10, anchor="end", fill=MUTED))
    highest_hz = min(500.0 if rate <= 4000 else 4000.0, rate / 2)
    pixels = _loudness(np.nan_to_num(samples), rate, highest_hz=highest_hz)
    if pixels is not None:
        parts.append(
            f'<image href="{_png(pixels)}" x="{left:g}" y="130" width="{right - left:g}" height="130" preserveAspectRatio="none"/>'
        )
        place_y = scale(0, highest_hz, start=260, end=130)
        for tick in nice_ticks(0, highest_hz, most=5):
            label = f"{tick:g}" if tick < highest_hz else f"{tick:g} Hz"
            parts.append(text(left - 6, place_y(tick) + 4, label=label, size=10, anchor="end", fill=MUTED))
    place_x = scale(0, duration_s, start=left, end=right)
    parts += [text(place_x(tick), 276, label=f"{tick:g}", anchor="middle", fill=MUTED) for tick in nice_ticks(0, duration_s, most=12)]
    parts.append(text((left + right) / 2, 292, label="seconds", anchor="middle", fill=MUTED))
    description = f"{number(round(duration_s, 2))} s at {number(rate)} Hz: waveform above, spectrogram to {highest_hz:g} Hz below."
    return svg((900, 298), "".join(parts), title=name, description=description)


def _loudness(samples: NDArray[np.floating], rate: float, *, highest_hz: float) -> NDArray[np.uint8] | None:
    """Return the spectrogram as (F, T, 3) pixels, low frequencies at the bottom, or None for a silent or very short recording."""
    window = round(0.064 * rate)
    if len(samples) < window or not samples.any():
        return None
    hertz, _, power = spectrogram(samples, rate, nperseg=window, noverlap=window * 3 // 4, nfft=max(512, window))
    decibels = 10 * np.log10(power[hertz <= highest_hz] + 1e-20)
    dark = np.clip((decibels - decibels.max() + 50) / 50, 0, 1)[::-1, :, None]
    light, deep = np.array([255.0, 255.0, 255.0]), np.array([10.0, 34.0, 66.0])
    return np.asarray(np.round(light + (deep - light) * dark**1.3), dtype=np.uint8)


def windowed(pixels: NDArray[np.floating], centre: float, *, width: float) -> NDArray[np.uint8]:
    """Return display values 0 to 255 of pixels through a window.

    Source: DICOM PS3.3, C.11.2.1.2.1 (linear VOI LUT function).

    Example:
        >>> windowed(np.array([[-200.0, 40.0, 300.0]]), 40.0, width=400.0).tolist()
        [[0, 128, 255]]
    """
    steps = max(width - 1, 1e-6)
    return np.asarray(np.round(np.clip((pixels - (centre - 0.5)) / steps + 0.5, 0, 1) * 255), dtype=np.uint8)


def image(content: Image, *, name: str) -> str:
    """Return an image through its window, with a scale bar where its spacing is known and letters where its orientation is.

    Pixels that are not finite are drawn black. Without a recommended window, the window runs from the 1st to the 99th percentile,
    and the description says so.

    Args:
        content: pixels (H, W) or (H, W, 3); spacing in mm.
        name: what the image is, in words.

    Source: DICOM PS3.3, C.7.6.1.1.1 (patient orientation: row direction, then column direction).
    """
    pixels = content.pixels
    if pixels.ndim == 3:
        shown, window = _display_colour(pixels), "colour as stored"
    else:
        shown, window = _display_grey(pixels, content)
    rows, columns = pixels.shape[:2]
    spacing = content.spacing_mm or (1.0, 1.0)
    height, width = rows * spacing[0], columns * spacing[1]
    factor = MOST_PIXELS / max(height, width)
    height, width = height * factor, width * factor
    parts = [f'<rect width="{width:.1f}" height="{height:.1f}" fill="#000"/>']
    parts.append(
        f'<image href="{_png(_at_most(shown, MOST_PIXELS))}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none"/>'
    )
    parts += _orientation_letters(content.orientation, width, height=height)
    if content.spacing_mm:
        parts.append(_scale_bar(factor, width, height=height))
    place = "orientation not stated" if not content.orientation else f"orientation {content.orientation}"
    measure = "scale bar in mm" if content.spacing_mm else "pixel spacing not stated, so no scale bar"
    return svg((width, height), "".join(parts), title=name, description=f"{columns} × {rows} pixels, {window}, {measure}, {place}.")


def window_words(content: Image) -> str:
    """Return how an image is shown, in words for a caption: window, or how one was chosen."""
    if content.pixels.ndim == 3:
        return "colour as stored"
    unit = words(content.unit)
    if content.window is None:
        return "window from the 1st to the 99th percentile (the file recommends none)"
    centre, width = content.window
    return f"window centre {number(centre)}, width {number(width)} {unit}".rstrip()


def _display_colour(pixels: NDArray[np.floating]) -> NDArray[np.uint8]:
    reach = 255.0 if float(np.nanmax(pixels)) > 1.0 else 1.0
    return np.asarray(np.round(np.clip(np.nan_to_num(pixels) / reach, 0, 1) * 255), dtype=np.uint8)


def _display_grey(pixels: NDArray[np.floating], content: Image) -> tuple[NDArray[np.uint8], str]:
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape, dtype=np.uint8), "no finite pixel"
    lowest = float(finite.min())
    filled = np.where(np.isfinite(pixels), pixels, lowest)
    if content.window is not None:
        return windowed(filled, content.window[0], width=content.window[1]), window_words(content)
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    span = (high - low) or 1.0
    return np.asarray(np.round(np.clip((filled - low) / span, 0, 1) * 255), dtype=np.uint8), window_words(content)


def _at_most(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    picture = Picture.fromarray(pixels)
    picture.thumbnail((side, side), Picture.Resampling.LANCZOS)
    return np.asarray(picture, dtype=np.uint8)


def _on_image(x: float, y: float, *, label: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="18" font-weight="600" text-anchor="{anchor}" fill="#fff" stroke="#000" '
        f'stroke-width="3" paint-order="stroke">{escape(label)}</text>'
    )


def _orientation_letters(orientation: str | None, width: float, *, height: float) -> list[str]:
    """Return the letters at the four edges: the file names right and bottom, the other two are their opposites."""
    right, separator, down = (orientation or "").partition("\\")
    if not separator or not all(letter in OPPOSITE for letter in right + down):
        return []
    left, up = ("".join(OPPOSITE[letter] for letter in side) for side in (right, down))
    return [
        _on_image(width - 8, height / 2 + 6, label=right, anchor="end"),
        _on_image(8, height / 2 + 6, label=left, anchor="start"),
        _on_image(width / 2, height - 8, label=down, anchor="middle"),
        _on_image(width / 2, 22, label=up, anchor="middle"),
    ]


def _scale_bar(pixels_per_mm: float, width: float, *, height: float) -> str:
    """Return a bar of a round length, at most a quarter of the width."""
    longest_mm = width / pixels_per_mm / 4
    round_mm = (step * 10.0**power for power in range(-2, 3) for step in (1.0, 2.0, 5.0))
    length_mm = max((mm for mm in round_mm if mm <= longest_mm), default=longest_mm)
    end = 14 + length_mm * pixels_per_mm
    bar = f"M14 {height - 16:.1f}v-8v4H{end:.1f}v-4v8"
    paths = "".join(f'<path d="{bar}" fill="none" stroke="{ink}" stroke-width="{thick}"/>' for ink, thick in (("#000", 5), ("#fff", 2)))
    return paths + _on_image(14, height - 32, label=f"{number(length_mm)} mm", anchor="start")
