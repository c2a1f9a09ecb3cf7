"""Electrocardiogram: one lead or twelve, resting or ambulatory.

Claims DICOM ECG waveforms and WFDB channels with the name of an ECG lead. Measures rate, regularity and signal quality by rule;
it interprets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import LEADS, flat_mask

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

RHYTHM_LEADS = ("II", "MLII", "I", "V5", "MCL1", "V1")
"""Order in which a lead is chosen for R peaks."""
LEAST_RHYTHM_S = 5.0
LEAST_BEATS = 4
PAN_TOMPKINS = "Pan & Tompkins, IEEE Trans Biomed Eng 1985;32:230-236"


def r_peaks(voltage: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of R peaks in one lead.

    Args:
        voltage: (S,) any unit of voltage; NaN where missing.
        sampling_rate_hz: Hz, above 40.

    Source: Pan & Tompkins 1985: band-pass (here zero-phase 5-15 Hz), derivative, square, 150 ms window, running
        thresholds, search-back.
    """
    filled = _without_gaps(voltage)
    band = sosfiltfilt(butter(2, (5.0, 15.0), "bandpass", fs=sampling_rate_hz, output="sos"), filled)
    slope = np.gradient(band) * sampling_rate_hz
    window = max(1, round(0.150 * sampling_rate_hz))
    energy = np.convolve(slope**2, np.full(window, 1 / window), mode="same")
    candidates, _ = find_peaks(energy, distance=max(1, round(0.2 * sampling_rate_hz)))
    kept = _above_running_threshold(energy, candidates, sampling_rate_hz)
    reach = round(0.075 * sampling_rate_hz)
    height = np.abs(band)
    tops: list[int] = []
    for at in kept:
        low = max(0, at - reach)
        top = low + int(np.argmax(height[low : at + reach + 1]))
        if tops and top - tops[-1] < 0.2 * sampling_rate_hz:  # within the refractory period: one beat, its taller peak
            tops[-1] = max(tops[-1], top, key=lambda index: float(height[index]))
        else:
            tops.append(top)
    peaks = np.array(tops, dtype=np.int64)
    return peaks[~np.isnan(voltage[peaks])]


def _without_gaps(voltage: NDArray[np.float32]) -> NDArray[np.float64]:
    missing = np.isnan(voltage)
    if missing.all():
        return np.zeros(voltage.shape)
    filled = voltage.astype(np.float64)
    filled[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), filled[~missing])
    return filled


def _above_running_threshold(energy: NDArray[np.float64], candidates: NDArray[np.int64], rate: float) -> list[int]:
    span = max(1, round(2 * rate))
    signal = float(np.median([energy[at : at + span].max() for at in range(0, len(energy), span)]))
    noise = float(np.median(energy))
    kept: list[int] = []
    passed: list[int] = []  # candidates below the threshold since the last beat, for the search-back
    for at in candidates:
        threshold = noise + 0.25 * (signal - noise)
        recent = np.diff(kept[-9:])
        if len(recent) and at - kept[-1] > 1.66 * recent.mean() and passed:
            best = max(passed, key=lambda index: float(energy[index]))
            if energy[best] > 0.5 * threshold and best - kept[-1] > 0.36 * rate:
                kept.append(best)
                signal = 0.25 * float(energy[best]) + 0.75 * signal
            passed = [index for index in passed if index > kept[-1]]
        is_t_wave = bool(kept) and at - kept[-1] < 0.36 * rate and energy[at] < 0.5 * energy[kept[-1]]
        if energy[at] > threshold and not is_t_wave:
            kept.append(int(at))
            passed = []
            signal = 0.125 * float(energy[at]) + 0.875 * signal
        else:
            passed.append(int(at))
            noise = 0.125 * float(energy[at]) + 0.875 * noise
    return kept


def measure(item: Item) -> Sequence[Measurement]:
    """Return heart rate, RR irregularity, the range of each lead and the share that is missing or flat; loads the samples."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Signal):
        return ()
    unusable = [np.isnan(row) | flat_mask(row, loaded.sampling_rate_hz) for row in loaded.samples]
    found = [_quality(unusable)]
    found += [
        _range(lead, unit, row)
        for lead, unit, row in zip(loaded.leads, loaded.units, loaded.samples, strict=True)
        if not np.isnan(row).all()
    ]
    row = _rhythm_row(loaded, unusable)
    if row is None or loaded.samples.shape[1] < LEAST_RHYTHM_S * loaded.sampling_rate_hz or loaded.sampling_rate_hz < 40:
        return tuple(found)
    return (*_rhythm(loaded, row, unusable[row]), *found)


def _quality(unusable: Sequence[NDArray[np.bool_]]) -> Measurement:
    share = float(np.mean([mask.mean() for mask in unusable])) if unusable else 1.0
    return Measurement(
        "share of the ECG that is missing or flat",
        100.0 * share,
        "%",
        "samples that are missing, or in a run of one value for 2 s or longer, over all leads",
    )


def _range(lead: str, unit: str, row: NDArray[np.float32]) -> Measurement:
    return Measurement(
        f"peak-to-peak range of lead {lead}",
        float(np.nanmax(row) - np.nanmin(row)),
        unit,
        "highest minus lowest sample, unfiltered",
    )


def _rhythm_row(signal: Signal, unusable: Sequence[NDArray[np.bool_]]) -> int | None:
    order = [signal.leads.index(lead) for lead in RHYTHM_LEADS if lead in signal.leads]
    order += [row for row, lead in enumerate(signal.leads) if row not in order and lead in LEADS]
    return next((row for row in order if unusable[row].mean() < 0.5), None)


def _rhythm(signal: Signal, row: int, unusable: NDArray[np.bool_]) -> tuple[Measurement, ...]:
    peaks = r_peaks(signal.samples[row], signal.sampling_rate_hz)
    bad = np.concatenate(([0], np.cumsum(unusable)))
    between = bad[peaks[1:]] - bad[peaks[:-1]] if len(peaks) > 1 else np.zeros(0)
    is_whole = between <= 0.1 * signal.sampling_rate_hz  # an interval across a gap is no RR interval
    intervals_s = np.diff(peaks)[is_whole] / signal.sampling_rate_hz
    if len(intervals_s) < LEAST_BEATS - 1:
        return ()
    rule = f"R peaks of lead {signal.leads[row]} after {PAN_TOMPKINS}"
    following = is_whole[1:] & is_whole[:-1]
    steps = np.diff(np.diff(peaks) / signal.sampling_rate_hz)[following]
    found = [
        Measurement(
            "heart rate from R peaks",
            60.0 / float(intervals_s.mean()),
            "/min",
            f"60 s over the mean of {len(intervals_s)} RR intervals; {rule}",
        )
    ]
    if len(steps) >= LEAST_BEATS - 2:
        irregular = 100.0 * float(np.sqrt(np.mean(steps**2)) / intervals_s.mean())
        found.append(
            Measurement(
                "RR irregularity",
                irregular,
                "%",
                f"root mean square of successive RR differences over the mean RR (Task Force, Circulation 1996;93:1043-1065); "
                f"{rule}",
            )
        )
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic two-lead ECG of 10 s at 75 /min: one narrow pulse for each beat.

    Example:
        >>> [round(found.value) for found in measure(example()[0]) if found.name == "heart rate from R peaks"]
        [75]
    """
    source = Source("example-ecg", "ec" * 32, "leads I, II")
    content = Content("signal", partial(_synthetic, 75.0), "2 leads (I, II), 250 Hz, 10 s")
    code = Code("wfdb", "I-II", "waveform I, II")
    return (Item(item_id(source.sha256, source.locator), "ecg", code, source, content=content, category="waveform"),)


def _synthetic(rate_per_min: float) -> Signal:
    time_s = np.arange(2500) / 250.0
    phase_s = time_s % (60.0 / rate_per_min) - 0.3
    beat = np.exp(-0.5 * (phase_s / 0.012) ** 2) + 0.25 * np.exp(-0.5 * ((phase_s - 0.25) / 0.05) ** 2)
    samples = np.stack([0.6 * beat, beat]).astype(np.float32)
    return Signal(samples, ("I", "II"), ("mV", "mV"), 250.0)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the signal network with these settings."""
    from salus.encode.signal import SignalEncoder

    return SignalEncoder(**settings)


MODALITY = Modality(
    name="ecg",
    title="electrocardiogram",
    claims=("dicom:ecg", "modality:ecg", *(f"lead:{lead.lower()}" for lead in LEADS)),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
    measure=measure,
)
