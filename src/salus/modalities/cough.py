"""Cough recording.

Claims sounds that a manifest declares as such. Measures quality and counts bursts of sound by rule; a burst need not be a cough, and no
cause is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from salus.encode.modality import Measurement, Modality
from salus.encode.sound_quality import frame_levels, quality, tone_burst
from salus.record.patient import Code, Content, Item, Sound, Source, item_id

FRAME_S = 0.02
BURST_DB = 15.0
"""By so much a burst stands above the quiet parts, and above the lowest point between it and the next."""
APART_S = 0.25
"""Two bursts are at least so far apart."""


def bursts(mono: NDArray[np.float32], sampling_rate_hz: float) -> int:
    """Return how many bursts stand out of a sound.

    Args:
        mono: (S,) -1 to 1.
        sampling_rate_hz: Hz.

    Example:
        >>> made = tone_burst(8000.0, (0.5, 1.2, 2.0), length_s=0.3, total_s=3.0)
        >>> bursts(made.samples[0], made.sampling_rate_hz)
        3
    """
    levels = frame_levels(mono, sampling_rate_hz, frame_s=FRAME_S)
    smooth = np.convolve(np.pad(levels, 1, mode="edge"), np.ones(3) / 3, "valid")
    padded = np.pad(smooth, 1, constant_values=float(smooth.min()))
    height = float(np.percentile(smooth, 10)) + BURST_DB
    tops, _ = find_peaks(padded, height=height, prominence=BURST_DB, distance=max(1, round(APART_S / FRAME_S)))
    return len(tops)


def measure(item: Item) -> Sequence[Measurement]:
    """Return the quality of the recording and the number of bursts; loads the samples."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Sound) or loaded.samples.size == 0:
        return ()
    rule = (
        f"peaks of the level of {1000 * FRAME_S:.0f} ms frames that stand {BURST_DB:.0f} dB above the quiet parts and above what lies "
        f"between them, {APART_S} s apart; not every burst is a cough"
    )
    count = bursts(loaded.samples.mean(axis=0), loaded.sampling_rate_hz)
    return (Measurement("bursts of sound", float(count), "1", rule), *quality(loaded))


def example() -> tuple[Item, ...]:
    """Return a synthetic recording of 3 s with two bursts of noise.

    Example:
        >>> measure(example()[0])[0].value
        2.0
    """
    source = Source("example-cough", "c0" * 32)
    load = partial(tone_burst, 8000.0, (0.6, 1.6), length_s=0.35, total_s=3.0)
    content = Content("sound", load, "mono, 8000 Hz, 3.0 s")
    code = Code("media", "audio/wav", "sound recording")
    return (Item(item_id(source.sha256, source.locator), "cough", code, source, content=content, category="sound"),)


MODALITY = Modality(name="cough", title="cough", claims=("modality:cough",), example=example, measure=measure)
