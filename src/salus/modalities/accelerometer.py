"""Accelerometer of a wearable: three axes at some ten samples a second or more.

Claims channels named acc_x, acc_y, acc_z and the like. Measures activity and cadence by rule; it recognises no fall and no disease.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt

from salus.encode.modality import Measurement, Modality
from salus.errors import UnitError
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.units import convert

ENMO = "Euclidean norm minus one g, negatives as zero (ENMO, van Hees et al., PLoS One 2013;8:e61691)"
MODERATE_MG = 100.6
"""Wrist, adults (Hildebrand et al., Med Sci Sports Exerc 2014;46:1816-1824, table 3)."""
WALKING = "autocorrelation of the norm, after Moe-Nilssen & Helbostad, J Biomech 2004;37:121-126"
STEPS_HZ = (1.2, 2.6)
"""Cadences that are searched: 72 to 156 steps a minute."""
WINDOW_S = 10.0
LEAST_RATE_HZ = 10.0
LEAST_WALKING_G = 0.05
"""Standard deviation of the norm in a window below which nobody walks."""
LEAST_PERIODICITY = 0.5
LEAST_WINDOWS = 2
SHORTEST_SHARE = 0.85
"""The shortest lag whose peak reaches this share of the highest is one step."""


def cadence(norm_g: NDArray[np.float64], sampling_rate_hz: float) -> tuple[float, int] | None:
    """Return steps a minute and how many windows of 10 s were walked, or None when fewer than two were.

    Args:
        norm_g: (S,) length of the acceleration, multiples of g, without gaps.
        sampling_rate_hz: Hz, at least 10.
    """
    size = round(WINDOW_S * sampling_rate_hz)
    high = min(5.0, 0.45 * sampling_rate_hz)
    if len(norm_g) < size:
        return None
    clean = sosfiltfilt(butter(2, (0.5, high), "bandpass", fs=sampling_rate_hz, output="sos"), norm_g)
    first, last = int(sampling_rate_hz / STEPS_HZ[1]), int(np.ceil(sampling_rate_hz / STEPS_HZ[0]))
    found = []
    for start in range(0, len(clean) - size + 1, size):
        part = clean[start : start + size] - clean[start : start + size].mean()
        if part.std() < LEAST_WALKING_G:
            continue
        products = np.correlate(part, part, mode="full")[size - 1 :] / np.arange(size, 0, -1)
        tops, _ = find_peaks(products[first - 1 : last + 2])
        if not len(tops):
            continue
        heights = products[first - 1 + tops]
        lag = first - 1 + int(tops[heights >= SHORTEST_SHARE * heights.max()][0])  # two steps repeat as well as one
        if products[lag] >= LEAST_PERIODICITY * products[0]:
            bend = products[lag - 1] - 2 * products[lag] + products[lag + 1]
            shift = 0.0 if bend == 0 else 0.5 * (products[lag - 1] - products[lag + 1]) / bend  # top of the parabola
            found.append(60.0 * sampling_rate_hz / (lag + float(shift)))
    return (float(np.median(found)), len(found)) if len(found) >= LEAST_WINDOWS else None


def measure(item: Item) -> Sequence[Measurement]:
    """Return mean activity, time in moderate activity, cadence, and the share that is missing; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.shape[0] < 3 or loaded.samples.size == 0 or loaded.sampling_rate_hz < LEAST_RATE_HZ:
        return ()
    try:
        factors = np.array([convert(1.0, unit, "[g]") for unit in loaded.units[:3]])
    except UnitError:
        return ()
    rate = loaded.sampling_rate_hz
    norm_g = np.sqrt(np.sum((loaded.samples[:3].astype(np.float64) * factors[:, None]) ** 2, axis=0))
    known = np.isfinite(norm_g)
    missing = 100.0 * float((~known).mean())
    found = [Measurement("share of the acceleration that is missing", missing, "%", "samples without all three axes")]
    if known.sum() < WINDOW_S * rate:
        return tuple(found)
    enmo_mg = 1000.0 * np.clip(norm_g - 1.0, 0, None)
    found.append(Measurement("mean activity", float(enmo_mg[known].mean()), "m[g]", f"mean of the {ENMO}"))
    whole = enmo_mg[: len(enmo_mg) // round(5 * rate) * round(5 * rate)].reshape(-1, round(5 * rate))
    epochs = whole[np.isfinite(whole).all(axis=1)].mean(axis=1)
    if len(epochs):
        rule = f"share of {len(epochs)} epochs of 5 s with a mean above {MODERATE_MG} mg (Hildebrand et al. 2014, wrist, adults); {ENMO}"
        found.append(Measurement("share of time in moderate or vigorous activity", 100.0 * float((epochs > MODERATE_MG).mean()), "%", rule))
    steps = cadence(np.where(known, norm_g, 1.0), rate)
    if steps is not None:
        rule = f"median over {steps[1]} windows of 10 s with steady steps, {WALKING}"
        found.insert(0, Measurement("walking cadence", steps[0], "/min", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic wrist accelerometer of 40 s: walking at 110 steps a minute.

    Example:
        >>> round(measure(example()[0])[0].value)
        110
    """
    source = Source("example-accelerometer", "ac" * 32, "channels 0,1,2")
    content = Content("signal", partial(_walking, 110.0), "3 channels (acc_x, acc_y, acc_z), 50 Hz, 40 s")
    code = Code("column", "acc_x-acc_y-acc_z", "waveform acc_x, acc_y, acc_z")
    return (Item(item_id(source.sha256, source.locator), "accelerometer", code, source, content=content, category="waveform"),)


def _walking(steps_per_min: float) -> Signal:
    time_s = np.arange(2000) / 50.0
    up = 1.0 + 0.3 * np.sin(2 * np.pi * steps_per_min / 60 * time_s)
    samples = np.stack([0.05 * np.sin(2 * np.pi * steps_per_min / 120 * time_s), np.zeros_like(time_s), up]).astype(np.float32)
    return Signal(samples, ("acc_x", "acc_y", "acc_z"), ("[g]",) * 3, 50.0)


MODALITY = Modality(
    name="accelerometer",
    title="acceleration of a wearable",
    claims=("signal:accelerometer", "modality:accelerometer"),
    example=example,
    measure=measure,
)
