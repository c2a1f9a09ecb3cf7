"""How a moving picture was recorded, by rule: length, rate, missing frames, brightness, motion.

Takes a loaded `Clip`; gives measurements that all modalities of clips share. Goes through the frames one by one, so memory stays that of
the clip. Names no finding. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from salus.encode.modality import Measurement
from salus.record.patient import Clip, Code, Content, Item, Source, item_id


def measure_clip(item: Item) -> Sequence[Measurement]:
    """Return duration, rate, missing frames, brightness and motion of an item's clip; loads the frames."""
    loaded = item.content.load() if item.content else None
    return clip_quality(loaded) if isinstance(loaded, Clip) else ()


def made_clip_item(modality: str, sha256: str, code: Code | None = None) -> Item:
    """Return a synthetic clip of 2 s: a disc that swings from side to side."""
    source = Source(f"example-{modality}", sha256)
    content = Content("clip", moving_disc, "24 frames, 32 × 32, grey, 12 Hz, 2.0 s")
    code = code or Code("media", "video/mp4", "video")
    return Item(item_id(source.sha256, source.locator), modality, code, source, content=content, category="video")


def clip_quality(clip: Clip) -> tuple[Measurement, ...]:
    """Return duration and frame rate where times are known, the share of missing frames, mean brightness, and motion between frames.

    Example:
        >>> frames = np.zeros((4, 8, 8), np.uint8)
        >>> frames[1::2] = 51
        >>> clip = Clip(frames, np.arange(4) / 2, np.array([True, True, False, True]))
        >>> [(one.name, round(one.value, 2), one.unit) for one in clip_quality(clip)][1:]
        [('frame rate of the clip', 2.0, 'Hz'), ('share of frames that are missing', 25.0, '%'),
         ('mean brightness of the clip', 13.33, '%'), ('motion between frames', 20.0, '%')]
    """
    total = len(clip.frames)
    if total == 0:
        return ()
    found = []
    rate = clip.frame_rate_hz
    if rate is not None:
        found.append(Measurement("duration of the clip", total / rate, "s", "frames of the grid over its rate"))
        found.append(Measurement("frame rate of the clip", rate, "Hz", "frames of the grid less one over the time from first to last"))
    missing = 100.0 * float((~clip.is_present).mean())
    found.append(Measurement("share of frames that are missing", missing, "%", "places of the even grid without a frame that decodes"))
    low, high = clip.value_range
    span = (high - low) or 1.0
    brightness: list[float] = []
    motion: list[float] = []
    before: NDArray[np.float32] | None = None
    for frame, is_present in zip(clip.frames, clip.is_present, strict=True):
        shade = (_grey(frame) - low) / span if is_present else None
        if shade is not None:
            brightness.append(float(shade.mean()))
            if before is not None:
                motion.append(float(np.abs(shade - before).mean()))
        before = shade
    if brightness:
        rule = "mean over pixels and frames that are there, of the range of values"
        found.append(Measurement("mean brightness of the clip", 100.0 * float(np.mean(brightness)), "%", rule))
    if motion:
        rule = "mean absolute difference of pixels between neighbouring frames that are both there, of the range of values"
        found.append(Measurement("motion between frames", 100.0 * float(np.mean(motion)), "%", rule))
    return tuple(found)


def _grey(frame: NDArray[np.generic]) -> NDArray[np.float32]:
    values = np.asarray(frame, np.float32)
    return values if values.ndim == 2 else np.asarray(values.mean(axis=-1))


def moving_disc(frames: int = 24, side: int = 32, rate_hz: float = 12.0) -> Clip:
    """Return a made-up clip for examples: a disc that swings from side to side once a second; one frame is missing.

    Example:
        >>> clip = moving_disc()
        >>> clip.frames.shape, int((~clip.is_present).sum())
        ((24, 32, 32), 1)
    """
    time_s = np.arange(frames) / rate_hz
    down, across = np.mgrid[:side, :side] - side / 2 + 0.5
    shift = side / 6 * np.sin(2 * np.pi * time_s)
    disc = (across[None] - shift[:, None, None]) ** 2 + down[None] ** 2 < (side / 4) ** 2
    pixels = np.where(disc, 200, 30).astype(np.uint8)
    is_present = np.arange(frames) != frames // 2
    pixels[~is_present] = 0
    return Clip(pixels, time_s, is_present)
