"""The item of a sound recording, whatever its format: rate, channels and length, and what loading it changes.

Takes what a reader found; gives the item whose samples load lazily. Knows no file format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from salus.record.claims import UNCLAIMED, modality_of
from salus.record.normalised import resample
from salus.record.patient import Code, Content, Item, Sound, Source, item_id
from salus.record.read.reader import FileRead, Found, ReadOptions
from salus.record.read.sound_blocks import shrinking
from salus.record.read.source import file_sha256

LEAST_SOUND_HZ = 500.0
"""A lower sampling rate cannot hold what an ear hears: it is some other signal in a sound container."""


@dataclass(frozen=True)
class SoundExtent:
    """Size of a recording, known without decoding all of it."""

    rate_hz: float
    frames: int
    """Samples for each channel."""
    channels: int


def sound_item(
    path: Path, media: str, extent: SoundExtent, load: Callable[[], Sound], *, options: ReadOptions, remarks: Sequence[str]
) -> FileRead:
    """Return the item of a recording.

    Args:
        path: the file.
        media: media type, such as `audio/wav`.
        extent: size of the recording.
        load: gives the samples.
        options: what the user declares.
        remarks: what the reader knows besides.
    """
    rate, frames, channels = extent.rate_hz, extent.frames, extent.channels
    modality = options.modality or modality_of(f"media:{media}")
    said = ["kind of sound not stated: declare it in the manifest"] if modality == UNCLAIMED else []
    said += remarks
    if rate < LEAST_SOUND_HZ:
        said.append(f"a sampling rate of {rate:g} Hz holds no audible sound: probably another signal in a sound container")
    if (divisor := shrinking(frames, channels)) > 1:
        said.append(f"long: loaded at {rate / divisor:g} Hz instead of {rate:g} Hz, so nothing above {0.45 * rate / divisor:.0f} Hz")
    sha256 = file_sha256(path)
    item = Item(
        id=item_id(sha256, ""),
        modality=modality,
        code=Code("media", media, "sound recording"),
        source=Source(str(path), sha256),
        category="sound",
        content=Content("sound", load, f"{'mono' if channels == 1 else f'{channels} channels'}, {rate:g} Hz, {frames / rate:.1f} s"),
        remarks=tuple(said),
        normalised=resample(rate, rate / divisor),
    )
    return FileRead(found=(Found(None, (item,)),))
