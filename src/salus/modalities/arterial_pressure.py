"""Pressure waves from a catheter: arterial, aortic, pulmonary artery.

Claims channels labelled ABP, ART, PAP and the like. Measures systolic, diastolic and mean pressure of each beat by rule; single
readings are vital signs, not this.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt

from salus.encode.modality import Measurement, Modality
from salus.errors import UnitError
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import flat_mask
from salus.units import convert

SOURCE = "beats by their steepest rise, after Zong et al., Comput Cardiol 2003;30:259-262 (slope sum)"
SLOPE_S = 0.128
REFRACTORY_S = 0.3
LEAST_BEATS = 4
LEAST_S = 5.0
LEAST_RATE_HZ = 40.0
PLAUSIBLE = (-10.0, 350.0)
"""mmHg; Sun et al., Comput Cardiol 2006;33:13-16 take arterial 20 to 300; wider here, since pulmonary pressures are lower."""
LEAST_PULSE = 5.0
"""mmHg between systole and diastole below which a beat is damped or an artefact (Sun et al. 2006: 20 for arterial)."""


def beats(pressure: NDArray[np.float64], sampling_rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices at which the pressure rises fastest, one a beat.

    Args:
        pressure: (S,) mmHg, without gaps.
        sampling_rate_hz: Hz, at least 40.

    Source: Zong et al. 2003: low-pass 16 Hz, sum of rising slopes over 128 ms, threshold at 60 % of the usual peak; here zero-phase,
        and the usual peak is the median of the highest in each 2 s.
    """
    low = sosfiltfilt(butter(2, min(16.0, 0.45 * sampling_rate_hz), fs=sampling_rate_hz, output="sos"), pressure)
    window = max(1, round(SLOPE_S * sampling_rate_hz))
    rise = np.convolve(np.clip(np.diff(low, prepend=low[0]), 0, None), np.ones(window), mode="same")
    span = round(2 * sampling_rate_hz)
    usual = float(np.median([rise[at : at + span].max() for at in range(0, len(rise), span)]))
    tops, _ = find_peaks(rise, height=0.6 * usual, distance=max(1, round(REFRACTORY_S * sampling_rate_hz)))
    return np.asarray(tops, dtype=np.int64)


def beat_pressures(mmhg: NDArray[np.float64], sampling_rate_hz: float) -> NDArray[np.float64]:
    """Return (N, 3) systolic, diastolic and mean pressure of each whole, plausible beat.

    Diastolic is the lowest pressure in the 0.3 s before the rise, systolic the highest until the next rise, mean the average from
    one rise to the next.
    """
    known = np.isfinite(mmhg)
    if known.sum() < LEAST_S * sampling_rate_hz:
        return np.zeros((0, 3))
    filled = np.interp(np.arange(len(mmhg)), np.flatnonzero(known), mmhg[known])
    rises = beats(filled, sampling_rate_hz)
    before = round(0.3 * sampling_rate_hz)
    rows = []
    for at, following in pairwise(rises):
        low = max(0, at - before)
        if not known[low:following].all() or following - at > 3 * sampling_rate_hz:
            continue
        row = (filled[at:following].max(), filled[low : at + 1].min(), filled[at:following].mean())
        if PLAUSIBLE[0] <= row[1] < row[0] <= PLAUSIBLE[1] and row[0] - row[1] >= LEAST_PULSE:
            rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def measure(item: Item) -> Sequence[Measurement]:
    """Return median systolic, diastolic and mean pressure of each channel, and the share missing or flat; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    rate = loaded.sampling_rate_hz
    found = []
    for lead, unit, row in zip(loaded.leads, loaded.units, loaded.samples, strict=True):
        bad = np.isnan(row) | flat_mask(row, rate)
        rule = "samples that are missing, or in a run of one value for 2 s or longer"
        found.append(Measurement(f"share of {lead} that is missing or flat", 100.0 * float(bad.mean()), "%", rule))
        try:
            factor = convert(1.0, unit, "mm[Hg]")
        except UnitError:
            continue  # a wave in arbitrary units has no pressure
        rows = beat_pressures(np.where(bad, np.nan, row.astype(np.float64) * factor), rate) if rate >= LEAST_RATE_HZ else np.zeros((0, 3))
        if len(rows) < LEAST_BEATS:
            continue
        for name, value in zip(("systolic", "diastolic", "mean"), np.median(rows, axis=0), strict=True):
            rule = f"median over {len(rows)} whole and plausible beats; {SOURCE}"
            found.append(Measurement(f"{name} pressure of {lead}", float(value), "mm[Hg]", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic arterial pressure of 20 s at 75 /min, 120 over 80.

    Example:
        >>> [round(part.value) for part in measure(example()[0])][1:3]
        [120, 80]
    """
    source = Source("example-pressure", "ab" * 32, "channel 0")
    content = Content("signal", partial(_waves, 120.0, 80.0), "1 channel (ABP), 125 Hz, 20 s")
    code = Code("wfdb", "ABP", "waveform ABP")
    return (Item(item_id(source.sha256, source.locator), "arterial_pressure", code, source, content=content, category="waveform"),)


def _waves(systolic: float, diastolic: float) -> Signal:
    phase_s = np.arange(2500) / 125.0 % 0.8
    shape = np.where(phase_s < 0.15, np.sin(np.pi / 2 * phase_s / 0.15), 1 - (phase_s - 0.15) / 0.65)
    return Signal((diastolic + (systolic - diastolic) * shape)[None].astype(np.float32), ("ABP",), ("mm[Hg]",), 125.0)


MODALITY = Modality(
    name="arterial_pressure",
    title="pressure wave",
    claims=("signal:pressure", "modality:arterial_pressure"),
    example=example,
    measure=measure,
)
