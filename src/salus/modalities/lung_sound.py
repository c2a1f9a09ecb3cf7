"""Lung sound recording (auscultation).

Claims sounds that a manifest declares as such. Measures quality and where the power lies by rule; it names no crackle and no wheeze.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.signal import welch

from salus.encode.modality import Measurement, Modality
from salus.encode.sound_quality import quality, tone_burst
from salus.record.patient import Code, Content, Item, Sound, Source, item_id

BAND_HZ = (100.0, 2000.0)
"""Below lie heart and muscle, above little of what a chest wall lets through."""
LEAST_RATE_HZ = 1000.0
SOURCE = "band and median frequency as in Sovijärvi et al., Eur Respir Rev 2000;10(77):597-610"


def median_frequency(sound: Sound) -> float | None:
    """Return the frequency that halves the power between 100 and 2,000 Hz, or None for a silent or slow recording."""
    if sound.sampling_rate_hz < LEAST_RATE_HZ:
        return None
    mono = sound.samples.mean(axis=0)
    hertz, power = welch(mono, sound.sampling_rate_hz, nperseg=min(len(mono), round(sound.sampling_rate_hz / 8)))
    inside = (hertz >= BAND_HZ[0]) & (hertz <= BAND_HZ[1])
    total = np.cumsum(power[inside])
    return float(hertz[inside][np.searchsorted(total, total[-1] / 2)]) if len(total) and total[-1] > 0 else None


def measure(item: Item) -> Sequence[Measurement]:
    """Return the quality of the recording and its median frequency; loads the samples."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Sound) or loaded.samples.size == 0:
        return ()
    found = list(quality(loaded))
    frequency = median_frequency(loaded)
    if frequency is not None:
        rule = f"frequency that halves the power between {BAND_HZ[0]:.0f} and {BAND_HZ[1]:.0f} Hz (Welch); {SOURCE}"
        found.insert(0, Measurement("median frequency of the lung sound", frequency, "Hz", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic recording of 4 s: two breaths of noise.

    Example:
        >>> [found.name for found in measure(example()[0])][:2]
        ['median frequency of the lung sound', 'duration of the recording']
    """
    source = Source("example-lung-sound", "1d" * 32)
    content = Content("sound", partial(tone_burst, 4000.0, (0.3, 2.3), length_s=1.5, total_s=4.0), "mono, 4000 Hz, 4.0 s")
    code = Code("media", "audio/wav", "sound recording")
    return (Item(item_id(source.sha256, source.locator), "lung_sound", code, source, content=content, category="sound"),)


MODALITY = Modality(name="lung_sound", title="lung sound", claims=("modality:lung_sound",), example=example, measure=measure)
