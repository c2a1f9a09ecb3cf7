"""Electroencephalogram: any montage, any rate.

Claims channels named after electrodes of the 10-20 system or labelled EEG. Measures the share of each frequency band, amplitude
and quality by rule; it stages no sleep and finds no seizure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import flat_mask

BANDS = (("delta", 0.5, 4.0), ("theta", 4.0, 8.0), ("alpha", 8.0, 13.0), ("beta", 13.0, 30.0))
"""Hz, from and below; IFCN glossary (Kane et al., Clin Neurophysiol Pract 2017;2:170-185), delta from 0.5 Hz to leave out drift."""
WINDOW_S = 4.0
LEAST_WINDOWS = 3
LEAST_RATE_HZ = 70.0
"""Below this a rate does not hold the beta band."""
MOST_UNUSABLE = 0.5
MICROVOLTS_PER = {"uV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3}


def band_shares(microvolts: NDArray[np.float32], sampling_rate_hz: float) -> dict[str, float] | None:
    """Return the share of each band in the power from 0.5 to 30 Hz, or None when less than three whole windows are there.

    Windows that hold a missing sample are left out.

    Args:
        microvolts: (S,) one channel, NaN where missing.
        sampling_rate_hz: Hz.

    Source: Welch, IEEE Trans Audio Electroacoust 1967;15:70-73; windows of 4 s (Hann), not overlapping.

    Example:
        >>> time_s = np.arange(3000) / 100
        >>> found = band_shares(np.sin(2 * np.pi * 10 * time_s).astype(np.float32), 100.0)
        >>> round(found["alpha"], 2)
        1.0
    """
    size = round(WINDOW_S * sampling_rate_hz)
    whole = microvolts[: len(microvolts) // size * size].reshape(-1, size).astype(np.float64)
    whole = whole[np.isfinite(whole).all(axis=1)]
    if len(whole) < LEAST_WINDOWS or sampling_rate_hz < LEAST_RATE_HZ:
        return None
    hertz, power = welch(whole, fs=sampling_rate_hz, nperseg=size, axis=1)
    mean = power.mean(axis=0)
    total = float(mean[(hertz >= BANDS[0][1]) & (hertz < BANDS[-1][2])].sum())
    if total <= 0:
        return None
    return {name: float(mean[(hertz >= low) & (hertz < high)].sum()) / total for name, low, high in BANDS}


def measure(item: Item) -> Sequence[Measurement]:
    """Return the share of the bands, the median amplitude, and the share that is missing or flat; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    rate = loaded.sampling_rate_hz
    unusable = [np.isnan(row) | flat_mask(row, rate) for row in loaded.samples]
    share = 100.0 * float(np.mean([mask.mean() for mask in unusable]))
    rule = "samples that are missing, or in a run of one value for 2 s or longer, over all channels"
    found = [Measurement("share of the EEG that is missing or flat", share, "%", rule)]
    shares, amplitudes = [], []
    for row, unit, mask in zip(loaded.samples, loaded.units, unusable, strict=True):
        if unit not in MICROVOLTS_PER or mask.mean() > MOST_UNUSABLE:
            continue
        microvolts = row * MICROVOLTS_PER[unit]
        amplitudes.append(float(np.nanpercentile(microvolts, 97.5) - np.nanpercentile(microvolts, 2.5)))
        bands = band_shares(np.where(mask, np.nan, microvolts).astype(np.float32), rate)
        if bands is not None:
            shares.append(bands)
    if amplitudes:
        rule = f"median over {len(amplitudes)} channels of the span from the 2.5th to the 97.5th percentile, unfiltered"
        found.append(Measurement("amplitude of the EEG", float(np.median(amplitudes)), "uV", rule))
    for name, low, high in BANDS if shares else ():
        rule = (
            f"mean over {len(shares)} channels of the power from {low:g} to {high:g} Hz over that from 0.5 to 30 Hz; "
            "Welch's method, 4 s Hann windows; IFCN bands (Kane et al. 2017)"
        )
        found.append(Measurement(f"relative {name} power", 100.0 * float(np.mean([bands[name] for bands in shares])), "%", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic two-channel EEG of 30 s: a 10 Hz rhythm on noise.

    Example:
        >>> found = {part.name: part.value for part in measure(example()[0])}
        >>> found["relative alpha power"] > 60
        True
    """
    source = Source("example-eeg", "ee" * 32, "channels 0,1")
    content = Content("signal", partial(_rhythm, 10.0), "2 channels (O1-A2, O2-A1), 128 Hz, 30 s")
    code = Code("edf", "O1-A2-O2-A1", "waveform O1-A2, O2-A1")
    return (Item(item_id(source.sha256, source.locator), "eeg", code, source, content=content, category="waveform"),)


def _rhythm(hertz: float) -> Signal:
    time_s = np.arange(128 * 30) / 128.0
    noise = np.random.default_rng(0).normal(0, 10, (2, len(time_s)))
    samples = (25 * np.sin(2 * np.pi * hertz * time_s) + noise).astype(np.float32)
    return Signal(samples, ("O1-A2", "O2-A1"), ("uV", "uV"), 128.0)


MODALITY = Modality(
    name="eeg", title="electroencephalogram", claims=("signal:eeg", "modality:eeg", "dicom:eeg"), example=example, measure=measure
)
