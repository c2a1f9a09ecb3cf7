"""Long sounds in bounded memory: blocks of samples gathered to one array, at a lower rate where they would not fit.

Takes blocks as a decoder gives them; gives a `Sound`. An hour of stereo at 44.1 kHz is loaded at a fifth of its rate, low-pass filtered
first, and its length is kept. Knows no file format.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, lfilter

from salus.record.patient import Sound

MOST_SAMPLES = 1 << 26
"""Samples of one loaded sound, all channels together: 256 MiB."""
HALF_TAPS = 10
"""Taps of the low-pass filter on each side, for each step of the lower rate."""


def shrinking(frames: int, channels: int) -> int:
    """Return by which whole number the sampling rate of a sound is divided when it is loaded; 1 for all but hours.

    Example:
        >>> shrinking(10 * 60 * 44_100, 2), shrinking(3600 * 44_100, 2)
        (1, 5)
    """
    return max(1, math.ceil(frames * channels / MOST_SAMPLES))


def gathered(blocks: Iterable[NDArray[np.float32]], sampling_rate_hz: float, *, divisor: int = 1) -> Sound:
    """Return the blocks as one sound, at `sampling_rate_hz / divisor`.

    Args:
        blocks: (C, n) each, -1 to 1, in order.
        sampling_rate_hz: Hz, of the blocks.
        divisor: result of `shrinking`.

    Example:
        >>> tone = np.sin(np.arange(9000) / 50, dtype=np.float32)[None]
        >>> lower = gathered([tone[:, :4000], tone[:, 4000:]], 3000.0, divisor=3)
        >>> lower.samples.shape, lower.sampling_rate_hz, bool(np.abs(lower.samples - tone[:, ::3])[:, 20:-20].max() < 0.01)
        ((1, 3000), 1000.0, True)
    """
    kept = list(blocks if divisor == 1 else _decimated(blocks, divisor))
    samples = np.concatenate(kept, axis=1) if kept else np.zeros((1, 0), np.float32)
    return Sound(np.ascontiguousarray(samples), sampling_rate_hz / divisor)


def _decimated(blocks: Iterable[NDArray[np.float32]], divisor: int) -> Iterator[NDArray[np.float32]]:
    """Yield the blocks low-pass filtered (linear phase, its delay taken out) and thinned; no sample counts on where blocks end."""
    taps = firwin(2 * HALF_TAPS * divisor + 1, 0.9 / divisor)
    late = HALF_TAPS * divisor  # samples by which the filter delays
    state: NDArray[np.float64] | None = None
    start = -late  # place of the block's first filtered sample
    for block in _with_tail(blocks, late):
        if state is None:
            state = np.zeros((len(block), len(taps) - 1))
        filtered, state = lfilter(taps, 1.0, block, axis=1, zi=state)
        first = -start if start < 0 else (-start) % divisor
        yield filtered[:, first::divisor].astype(np.float32)
        start += block.shape[1]


def _with_tail(blocks: Iterable[NDArray[np.float32]], late: int) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of at least `late` samples, and silence after the last, so that the filter runs out."""
    held: NDArray[np.float32] | None = None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        if held.shape[1] >= late:
            yield held
            held = held[:, :0]
    if held is not None:
        yield np.concatenate([held, np.zeros((len(held), late), np.float32)], axis=1)
