"""Heart sound recording (phonocardiogram).

Claims sounds that a manifest declares as such; a sound file itself does not say what it holds. Measures duration, clipping
and the heart rate of the envelope by rule; it names no murmur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, hilbert, resample_poly, sosfiltfilt

from salus.encode.modality import Measurement, Modality
from salus.encode.sound_quality import duration_and_clipping
from salus.record.patient import Code, Content, Item, Sound, Source, item_id

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

BAND_HZ = (25.0, 400.0)
LAGS_S = (0.3, 1.5)
"""Cycle lengths that are searched: 200 to 40 beats a minute."""
ENVELOPE_HZ = 100
LEAST_PERIODICITY = 0.4
"""Below this autocorrelation no heart rate is given."""
SHORTEST_SHARE = 0.85
"""The shortest lag whose peak reaches this share of the highest is taken as one cycle."""
LEAST_DURATION_S = 3.0
SOURCE = "after Schmidt et al., Physiol Meas 2010;31:513-529, section 2.2 (envelope autocorrelation)"


def envelope_rate(samples: NDArray[np.float32], sampling_rate_hz: float) -> tuple[float, float] | None:
    """Return the heart rate in beats a minute and the periodicity (0 to 1) of the envelope, or None if too short or silent.

    Args:
        samples: (S,) -1 to 1.
        sampling_rate_hz: Hz, above 200.
    """
    if len(samples) < LEAST_DURATION_S * sampling_rate_hz or sampling_rate_hz < 200 or not np.ptp(samples):
        return None
    high = min(BAND_HZ[1], 0.45 * sampling_rate_hz)
    band = sosfiltfilt(butter(2, (BAND_HZ[0], high), "bandpass", fs=sampling_rate_hz, output="sos"), samples.astype(np.float64))
    envelope = resample_poly(np.abs(hilbert(band)), ENVELOPE_HZ, round(sampling_rate_hz))
    envelope -= envelope.mean()
    padded = np.fft.rfft(envelope, 2 * len(envelope))
    products = np.fft.irfft(np.abs(padded) ** 2)[: len(envelope)]
    overlap = np.arange(len(envelope), 0, -1)
    correlation = (products / overlap) / (products[0] / overlap[0])
    first, last = round(LAGS_S[0] * ENVELOPE_HZ), min(round(LAGS_S[1] * ENVELOPE_HZ), len(envelope) // 2)
    searched = correlation[first : last + 1]
    tops, _ = find_peaks(searched)
    strong = tops[searched[tops] >= SHORTEST_SHARE * searched.max()]  # two or three cycles repeat as well as one
    lag = first + int(strong[0] if len(strong) else np.argmax(searched))
    return 60.0 * ENVELOPE_HZ / lag, float(np.clip(correlation[lag], 0.0, 1.0))


def measure(item: Item) -> Sequence[Measurement]:
    """Return duration, share of clipped samples, periodicity and, where periodic enough, the heart rate; loads the samples."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Sound) or loaded.samples.size == 0:
        return ()
    mono = loaded.samples.mean(axis=0)
    found = list(duration_and_clipping(loaded))
    estimate = envelope_rate(mono, loaded.sampling_rate_hz)
    if estimate is None:
        return tuple(found)
    rate, periodicity = estimate
    quality = f"periodicity {periodicity:.2f} of 1; below {LEAST_PERIODICITY} no rate is given; the rate may be half or double"
    found.append(
        Measurement(
            "periodicity of the sound",
            periodicity,
            "1",
            f"highest autocorrelation of the envelope at lags of 0.3 to 1.5 s, {SOURCE}",
        )
    )
    if periodicity >= LEAST_PERIODICITY:
        rule = f"60 s over the lag of the first high peak of the envelope autocorrelation at lags of 0.3 to 1.5 s, {SOURCE}"
        found.insert(0, Measurement("estimated heart rate from the sound", rate, "/min", f"{rule}; {quality}"))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic recording of 6 s at 72 /min: two short tones for each beat.

    Example:
        >>> round(measure(example()[0])[0].value)
        72
    """
    source = Source("example-heart-sound", "a5" * 32)
    content = Content("sound", partial(_two_tones, 72.0), "mono, 2000 Hz, 6.0 s")
    code = Code("media", "audio/wav", "sound recording")
    return (Item(item_id(source.sha256, source.locator), "heart_sound", code, source, content=content, category="sound"),)


def _two_tones(rate_per_min: float) -> Sound:
    time_s = np.arange(12_000) / 2000.0
    phase_s = time_s % (60.0 / rate_per_min)
    loud = np.exp(-0.5 * ((phase_s - 0.1) / 0.02) ** 2) + 0.6 * np.exp(-0.5 * ((phase_s - 0.4) / 0.015) ** 2)
    return Sound((0.5 * loud * np.sin(2 * np.pi * 60.0 * time_s))[None].astype(np.float32), 2000.0)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the sound network with these settings."""
    from salus.encode.audio import SoundEncoder

    return SoundEncoder(**settings)


MODALITY = Modality(
    name="heart_sound",
    title="heart sound",
    claims=("modality:heart_sound",),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
    measure=measure,
)
