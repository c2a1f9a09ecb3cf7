"""Breathing as a wave: impedance, belts, airflow.

Claims channels labelled RESP, thorax, abdomen, airflow and the like. Measures the breathing rate by rule; it names no apnoea.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import flat_mask

SOURCE = "counted after Charlton et al., Physiol Meas 2016;37:610-626 (count-orig of Schäfer & Kratky 2008)"
BAND_HZ = (0.066, 1.0)
"""4 to 60 breaths a minute."""
LEAST_S = 20.0
LEAST_RATE_HZ = 3.0
LEAST_BREATHS = 3
MOST_SPREAD = 0.6
"""Interquartile range over the median of breath lengths above which no rate is given."""


def breath_lengths_s(wave: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.float64]:
    """Return the length of each breath, from one accepted peak to the next.

    Args:
        wave: (S,) any unit; NaN where missing.
        sampling_rate_hz: Hz, at least 3.

    Source: Schäfer & Kratky, Ann Biomed Eng 2008;36:476-485, section 2.3: peaks above 0.2 of the third quartile of peak heights,
        with exactly one trough below zero between two of them.
    """
    known = np.isfinite(wave)
    if known.sum() < LEAST_S * sampling_rate_hz:
        return np.zeros(0)
    filled = np.interp(np.arange(len(wave)), np.flatnonzero(known), wave[known].astype(np.float64))
    clean = sosfiltfilt(butter(2, BAND_HZ, "bandpass", fs=sampling_rate_hz, output="sos"), filled)
    peaks, _ = find_peaks(clean)
    troughs, _ = find_peaks(-clean)
    if not len(peaks):
        return np.zeros(0)
    high = peaks[clean[peaks] > 0.2 * np.percentile(clean[peaks], 75)]
    low = troughs[clean[troughs] < 0]
    lengths = []
    for start, stop in pairwise(high):
        if np.count_nonzero((low > start) & (low < stop)) == 1 and known[start:stop].all():
            lengths.append((stop - start) / sampling_rate_hz)
    return np.array(lengths)


def measure(item: Item) -> Sequence[Measurement]:
    """Return the breathing rate of the first channel that gives one, and the share missing or flat; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    rate = loaded.sampling_rate_hz
    masks = [np.isnan(row) | flat_mask(row, rate) for row in loaded.samples]
    rule = "samples that are missing, or in a run of one value for 2 s or longer, over all channels"
    found = [Measurement("share of the breathing wave that is missing or flat", 100.0 * float(np.mean(masks)), "%", rule)]
    for lead, row, mask in zip(loaded.leads, loaded.samples, masks, strict=True):
        lengths = breath_lengths_s(np.where(mask, np.nan, row).astype(np.float32), rate) if rate >= LEAST_RATE_HZ else np.zeros(0)
        if len(lengths) < LEAST_BREATHS:
            continue
        middle = float(np.median(lengths))
        spread = float(np.subtract(*np.percentile(lengths, [75, 25]))) / middle
        rule = f"interquartile range over the median of {len(lengths)} breaths of {lead}; above {MOST_SPREAD} no rate is given; {SOURCE}"
        found.append(Measurement("irregularity of breathing", spread, "1", rule))
        if spread <= MOST_SPREAD:
            rule = f"60 s over the median length of {len(lengths)} breaths of {lead}, {SOURCE}"
            found.insert(0, Measurement("breathing rate", 60.0 / middle, "/min", rule))
        break
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic breathing wave of 60 s at 15 /min.

    Example:
        >>> round(measure(example()[0])[0].value)
        15
    """
    source = Source("example-respiration", "ae" * 32, "channel 0")
    content = Content("signal", partial(_breaths, 15.0), "1 channel (RESP), 25 Hz, 60 s")
    code = Code("wfdb", "RESP", "waveform RESP")
    return (Item(item_id(source.sha256, source.locator), "respiration", code, source, content=content, category="waveform"),)


def _breaths(rate_per_min: float) -> Signal:
    wave = np.sin(2 * np.pi * rate_per_min / 60 * np.arange(1500) / 25.0)
    return Signal(wave[None].astype(np.float32), ("RESP",), ("1",), 25.0)


MODALITY = Modality(
    name="respiration", title="breathing wave", claims=("signal:respiration", "modality:respiration"), example=example, measure=measure
)
