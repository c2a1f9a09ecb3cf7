"""Photoplethysmogram: the pulse wave of a pulse oximeter or wearable.

Claims channels labelled PLETH or PPG. Measures pulse rate, regularity and quality by rule; oxygen saturation is a vital sign of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import flat_mask

SOURCE = "systolic peaks after Elgendi et al., PLoS One 2013;8:e76585"
BAND_HZ = (0.5, 8.0)
PEAK_S, BEAT_S, OFFSET = 0.111, 0.667, 0.02
"""Windows of the two moving averages, and the offset as a share of the mean: the optimum that the paper reports."""
REFRACTORY_S = 0.3
LEAST_BEATS = 4
LEAST_S = 5.0
LEAST_RATE_HZ = 20.0
LEAST_LIKENESS = 0.8
"""Median correlation of the beats with their mean below which no rate is given (Orphanidou et al., IEEE JBHI 2015;19:832-838: 0.86
for a PPG on average; lower here, since beats are not resampled)."""


def pulse_peaks(wave: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of systolic peaks.

    Args:
        wave: (S,) any unit; NaN where missing.
        sampling_rate_hz: Hz, at least 20.

    Source: Elgendi et al. 2013: band-pass 0.5-8 Hz, clip below zero, square, blocks where the short average exceeds the long one.
    """
    known = np.isfinite(wave)
    if known.sum() < LEAST_S * sampling_rate_hz:
        return np.zeros(0, dtype=np.int64)
    filled = np.interp(np.arange(len(wave)), np.flatnonzero(known), wave[known].astype(np.float64))
    high = min(BAND_HZ[1], 0.45 * sampling_rate_hz)
    clean = sosfiltfilt(butter(2, (BAND_HZ[0], high), "bandpass", fs=sampling_rate_hz, output="sos"), filled)
    energy = np.clip(clean, 0, None) ** 2
    short, long = (_average(energy, round(span * sampling_rate_hz)) for span in (PEAK_S, BEAT_S))
    is_block = np.concatenate(([False], short > long + OFFSET * energy.mean(), [False]))
    starts, stops = np.flatnonzero(~is_block[:-1] & is_block[1:]), np.flatnonzero(is_block[:-1] & ~is_block[1:])
    peaks: list[int] = []
    for start, stop in zip(starts, stops, strict=True):
        top = int(start + np.argmax(clean[start:stop]))
        if stop - start >= PEAK_S * sampling_rate_hz and known[top] and (not peaks or top - peaks[-1] >= REFRACTORY_S * sampling_rate_hz):
            peaks.append(top)
    return np.array(peaks, dtype=np.int64)


def _average(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    size = max(1, size | 1)
    return np.convolve(values, np.full(size, 1 / size), mode="same")


def likeness(wave: NDArray[np.float32], peaks: NDArray[np.int64], sampling_rate_hz: float) -> float:
    """Return the median correlation of each beat with the mean beat, 0 when there are too few beats."""
    reach = round(0.3 * sampling_rate_hz)
    beats = [wave[at - reach : at + reach + 1] for at in peaks if at >= reach and at + reach < len(wave)]
    whole = np.array([beat for beat in beats if np.isfinite(beat).all() and np.ptp(beat) > 0], dtype=np.float64)
    if len(whole) < LEAST_BEATS:
        return 0.0
    scaled = (whole - whole.mean(axis=1, keepdims=True)) / whole.std(axis=1, keepdims=True)
    mean = scaled.mean(axis=0)
    return float(np.median(scaled @ (mean / (np.linalg.norm(mean) + 1e-12)) / np.linalg.norm(scaled, axis=1)))


def measure(item: Item) -> Sequence[Measurement]:
    """Return the pulse rate, its irregularity, the likeness of beats and the share that is missing or flat; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    wave, rate = loaded.samples[0], loaded.sampling_rate_hz
    bad = np.isnan(wave) | flat_mask(wave, rate)
    rule = "samples that are missing, or in a run of one value for 2 s or longer"
    found = [Measurement("share of the pulse wave that is missing or flat", 100.0 * float(bad.mean()), "%", rule)]
    if rate < LEAST_RATE_HZ:
        return tuple(found)
    peaks = pulse_peaks(np.where(bad, np.nan, wave).astype(np.float32), rate)
    alike = likeness(wave, peaks, rate)
    rule = f"median correlation of each beat with the mean beat; below {LEAST_LIKENESS} no pulse rate is given; {SOURCE}"
    found.append(Measurement("likeness of the pulse beats", alike, "1", rule))
    steps_s = np.diff(peaks) / rate
    lost = np.concatenate(([0], np.cumsum(bad)))
    whole = steps_s[lost[peaks[1:]] - lost[peaks[:-1]] == 0] if len(peaks) > 1 else steps_s
    if alike >= LEAST_LIKENESS and len(whole) >= LEAST_BEATS - 1:
        rule = f"60 s over the median of {len(whole)} intervals between {SOURCE}"
        found.insert(0, Measurement("pulse rate", 60.0 / float(np.median(whole)), "/min", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic pulse wave of 20 s at 66 /min.

    Example:
        >>> round(measure(example()[0])[0].value)
        66
    """
    source = Source("example-ppg", "bb" * 32, "channel 0")
    content = Content("signal", partial(_pulses, 66.0), "1 channel (PLETH), 125 Hz, 20 s")
    code = Code("wfdb", "PLETH", "waveform PLETH")
    return (Item(item_id(source.sha256, source.locator), "ppg", code, source, content=content, category="waveform"),)


def _pulses(rate_per_min: float) -> Signal:
    phase_s = np.arange(2500) / 125.0 % (60.0 / rate_per_min)
    wave = np.exp(-0.5 * ((phase_s - 0.25) / 0.08) ** 2) + 0.35 * np.exp(-0.5 * ((phase_s - 0.5) / 0.1) ** 2)
    return Signal(wave[None].astype(np.float32), ("PLETH",), ("1",), 125.0)


MODALITY = Modality(name="ppg", title="pulse wave", claims=("signal:ppg", "modality:ppg"), example=example, measure=measure)
