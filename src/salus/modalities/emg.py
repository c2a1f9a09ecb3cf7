"""Electromyogram: surface or needle, one channel or more.

Claims channels labelled EMG. Measures amplitude and median frequency by rule; it names no disease of nerve or muscle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt, welch

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import flat_mask

BAND_HZ = (20.0, 450.0)
"""Surface EMG without movement artefact (De Luca et al., J Biomech 2010;43:1573-1579; ISEK standards, Merletti 1999)."""
LEAST_RATE_HZ = 200.0
LEAST_S = 1.0
MICROVOLTS_PER = {"uV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3}


def filtered(microvolts: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.float64] | None:
    """Return the samples that are known, band-passed 20 to 450 Hz (or to 0.45 of the rate), or None when too short or slow."""
    known = microvolts[np.isfinite(microvolts)].astype(np.float64)
    if sampling_rate_hz < LEAST_RATE_HZ or len(known) < LEAST_S * sampling_rate_hz:
        return None
    high = min(BAND_HZ[1], 0.45 * sampling_rate_hz)
    sos = butter(4, (BAND_HZ[0], high), "bandpass", fs=sampling_rate_hz, output="sos")
    return np.asarray(sosfiltfilt(sos, known), dtype=np.float64)


def measure(item: Item) -> Sequence[Measurement]:
    """Return root mean square and median frequency of each channel, and the share that is missing or flat; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    rate = loaded.sampling_rate_hz
    unusable = float(np.mean([(np.isnan(row) | flat_mask(row, rate)).mean() for row in loaded.samples]))
    rule = "samples that are missing, or in a run of one value for 2 s or longer, over all channels"
    found = [Measurement("share of the EMG that is missing or flat", 100.0 * unusable, "%", rule)]
    for lead, unit, row in zip(loaded.leads, loaded.units, loaded.samples, strict=True):
        clean = filtered(row * MICROVOLTS_PER[unit], rate) if unit in MICROVOLTS_PER else None
        if clean is None:
            continue
        band = f"after a band-pass of {BAND_HZ[0]:g} to {min(BAND_HZ[1], 0.45 * rate):g} Hz (De Luca et al. 2010)"
        found.append(Measurement(f"root mean square of {lead}", float(np.sqrt(np.mean(clean**2))), "uV", f"over all samples {band}"))
        hertz, power = welch(clean, fs=rate, nperseg=min(len(clean), round(rate)))
        total = np.cumsum(power)
        if total[-1] > 0:
            median_hz = float(hertz[int(np.searchsorted(total, total[-1] / 2))])
            rule = f"frequency that halves the power spectrum (Welch, 1 s windows) {band}"
            found.append(Measurement(f"median frequency of {lead}", median_hz, "Hz", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic surface EMG of 4 s: band noise of about 50 µV.

    Example:
        >>> found = {part.name: part.value for part in measure(example()[0])}
        >>> 20 < found["root mean square of EMG biceps"] < 80
        True
    """
    source = Source("example-emg", "e3" * 32, "channel 0")
    content = Content("signal", partial(_burst, 50.0), "1 channel (EMG biceps), 1000 Hz, 4 s")
    code = Code("edf", "EMG-biceps", "waveform EMG biceps")
    return (Item(item_id(source.sha256, source.locator), "emg", code, source, content=content, category="waveform"),)


def _burst(microvolts: float) -> Signal:
    noise = np.random.default_rng(0).normal(0, microvolts, (1, 4000)).astype(np.float32)
    return Signal(noise, ("EMG biceps",), ("uV",), 1000.0)


MODALITY = Modality(
    name="emg", title="electromyogram", claims=("signal:emg", "modality:emg", "dicom:emg"), example=example, measure=measure
)
