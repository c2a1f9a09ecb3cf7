"""How well a sound was recorded, by rule: length, clipping, silence, offset, loudness, noise and band.

Takes a loaded `Sound`; gives measurements that all sound modalities share. Channels are mixed to one where a rule says so. Names no
finding. Needs no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from salus.encode.modality import Measurement
from salus.record.patient import Sound

CLIPPED = 0.999
"""Of full scale: samples at or above count as clipped."""
FRAME_S = 0.05
SILENT_DB = -60.0
"""Root mean square of a frame below which it is silent, relative to full scale."""
LEAST_FRAMES = 20
"""Of fewer frames no noise is estimated."""
BAND_SHARE = 0.99
"""Share of the power below the upper end of the band."""
FLOOR = 1e-10
FULL_SCALE = "relative to full scale (1)"


def duration_and_clipping(sound: Sound) -> tuple[Measurement, Measurement]:
    """Return the length of a recording and the share of samples at full scale."""
    clipped = 100.0 * float((np.abs(sound.samples) >= CLIPPED).mean())
    return (
        Measurement(
            "duration of the recording", sound.samples.shape[1] / sound.sampling_rate_hz, "s", "samples over sampling rate"
        ),
        Measurement("share of clipped samples", clipped, "%", f"samples at or above {CLIPPED} of full scale"),
    )


def quality(sound: Sound) -> tuple[Measurement, ...]:
    """Return length, clipping, channels, silence, offset, loudness, and for a second or more of sound noise and band.

    Example:
        >>> tone = np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000, dtype=np.float32)
        >>> found = {one.name: round(one.value, 1) for one in quality(Sound(0.5 * tone[None], 8000.0))}
        >>> found["duration of the recording"], found["loudness of the recording"], found["upper end of the band"]
        (1.0, -9.0, 453.1)
    """
    if sound.samples.size == 0:
        return ()
    mono = sound.samples.mean(axis=0)
    mixed = "" if len(sound.samples) == 1 else f" of the mean of {len(sound.samples)} channels"
    levels = frame_levels(mono, sound.sampling_rate_hz)
    centred = mono - mono.mean()
    loudness = float(10 * np.log10(np.mean(centred.astype(np.float64) ** 2) + FLOOR))
    offset = 100.0 * float(np.abs(sound.samples.mean(axis=1)).max())
    found = [
        *duration_and_clipping(sound),
        Measurement("number of channels", float(len(sound.samples)), "1", "channels in the file"),
        Measurement(
            "share of silence",
            100.0 * float((levels < SILENT_DB).mean()),
            "%",
            f"frames of {1000 * FRAME_S:.0f} ms{mixed} whose root mean square is below {SILENT_DB:.0f} dB {FULL_SCALE}",
        ),
        Measurement("constant offset of the sound", offset, "%", "largest mean of a channel, of full scale"),
        Measurement("loudness of the recording", loudness, "dB", f"root mean square{mixed}, offset taken out, {FULL_SCALE}"),
    ]
    heard = levels[levels > -100.0]  # frames of digital silence say nothing about noise
    if len(heard) >= LEAST_FRAMES:
        quiet, loud = (float(level) for level in np.percentile(heard, (10, 95)))
        rule = f"95th less 10th percentile of the level of {1000 * FRAME_S:.0f} ms frames{mixed}; small also where a sound is steady"
        found.append(Measurement("loud parts above the quiet ones", loud - quiet, "dB", rule))
        found.append(
            Measurement(
                "upper end of the band",
                band_end(centred, sound.sampling_rate_hz),
                "Hz",
                f"frequency below which {100 * BAND_SHARE:.0f} % of the power lies{mixed} (Welch); half the sampling rate at most",
            )
        )
    return tuple(found)


def frame_levels(mono: NDArray[np.float32], sampling_rate_hz: float, *, frame_s: float = FRAME_S) -> NDArray[np.float64]:
    """Return the level of each frame in dB of full scale, its own mean taken out; one frame at least.

    Args:
        mono: (S,) -1 to 1.
        sampling_rate_hz: Hz.
        frame_s: length of a frame, seconds.
    """
    size = max(1, min(len(mono), round(frame_s * sampling_rate_hz)))
    frames = mono[: len(mono) // size * size].reshape(-1, size)
    return np.asarray(10 * np.log10(frames.astype(np.float64).var(axis=1) + FLOOR))


def band_end(samples: NDArray[np.float32], sampling_rate_hz: float, *, share: float = BAND_SHARE) -> float:
    """Return the frequency below which a share of the power lies, Hz; NaN-free samples (S,)."""
    hertz, power = welch(samples, sampling_rate_hz, nperseg=min(len(samples), 1 << 9))
    total = np.cumsum(power)
    return float(hertz[np.searchsorted(total, share * total[-1])]) if total[-1] > 0 else 0.0


def tone_burst(sampling_rate_hz: float, starts_s: tuple[float, ...], *, length_s: float, total_s: float) -> Sound:
    """Return a made-up sound for examples: noise that dies away after each start, over a quiet floor.

    Example:
        >>> tone_burst(8000.0, (0.5,), length_s=0.3, total_s=2.0).samples.shape
        (1, 16000)
    """
    time_s = np.arange(round(total_s * sampling_rate_hz)) / sampling_rate_hz
    noise = np.random.default_rng(0).normal(0.0, 1.0, len(time_s))
    loud = sum((np.where(time_s >= start, np.exp(-(time_s - start) / (length_s / 4)), 0.0) for start in starts_s), np.zeros(len(time_s)))
    samples = np.clip(0.002 * noise + 0.2 * loud * noise, -0.98, 0.98)
    return Sound(samples[None].astype(np.float32), sampling_rate_hz)
