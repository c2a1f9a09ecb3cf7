"""Sounds in containers that libsndfile does not read: M4A and AAC, and MP4, MKV or WebM that hold only sound, through PyAV.

Takes a path; gives one item whose samples load lazily. Leaves out covers and everything that the container says about title or author.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError
from salus.record.patient import Sound
from salus.record.read.av_container import codec_of, failures, opened, packets_of
from salus.record.read.reader import FileRead, ReadOptions
from salus.record.read.sound_blocks import gathered, shrinking
from salus.record.read.sound_item import SoundExtent, sound_item
from salus.record.read.source import refuse_empty

LOSSLESS = ("alac", "flac", "ape", "tta", "wavpack")
MOST_CHANNELS = 64


def read_av_sound(path: Path, media: str, options: ReadOptions) -> FileRead:
    """Return the sound of a container as one item; its packets are counted, its first frame is decoded.

    Args:
        path: the file.
        media: media type, such as `audio/mp4`.
        options: what the user declares.

    Raises:
        FormatError: the file is empty, truncated, damaged, or holds no sound.
        MissingExtra: PyAV is not installed.
    """
    refuse_empty(path)
    extent, codec, promised_s, held_s = _extent(path)
    if held_s < 0.9 * promised_s - 1.0:
        found = f"{promised_s:.1f} s are promised, {held_s:.1f} s are there"
        raise FormatError(f"Cannot read the sound '{path.name}': it is truncated ({found}). Copy it again.")
    remarks = () if codec in LOSSLESS or codec.startswith("pcm") else ("lossy compression",)
    return sound_item(path, media, extent, partial(load_av_sound, path), options=options, remarks=remarks)


def load_av_sound(path: Path) -> Sound:
    """Return all samples, (C, S), -1 to 1; of hours of sound at a lower rate.

    Raises:
        FormatError: nothing can be decoded.
    """
    extent, _, _, _ = _extent(path)
    sound = gathered(blocks(path), extent.rate_hz, divisor=shrinking(extent.frames, extent.channels))
    if sound.samples.shape[1] == 0:
        raise FormatError(f"Cannot read the sound '{path.name}': none of it can be decoded. Copy or export it again.")
    return sound


def blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the samples as the decoder gives them, (C, n) each; what cannot be decoded is silence of the same length."""
    import av

    with opened(path) as container:
        stream = container.streams.audio[0]
        rate, channels = stream.rate, stream.channels
        to_float = av.AudioResampler(format="fltp", layout=stream.layout.name, rate=rate)
        for packet in packets_of(container, stream):
            try:
                for frame in packet.decode():
                    for piece in to_float.resample(frame):
                        yield np.asarray(piece.to_ndarray(), dtype=np.float32)
            except failures():
                lost = round(float((packet.duration or 0) * (packet.time_base or 0)) * rate)
                yield np.zeros((channels, min(lost, rate)), np.float32)


def _extent(path: Path) -> tuple[SoundExtent, str, float, float]:
    """Return what the container holds, its codec, the seconds that its header promises (0: none), and those that are there."""
    with opened(path) as container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            raise FormatError(f"Cannot read the sound '{path.name}': it holds no sound of a known encoding. Export it again.")
        stream, name = container.streams.audio[0], str(container.format.name)
        codec, rate, channels = codec_of(stream), int(stream.rate or 0), int(stream.channels or 0)
        promised_s = float((stream.duration or 0) * (stream.time_base or 0)) or float(container.duration or 0) / 1e6
        if not rate or not 0 < channels <= MOST_CHANNELS:
            raise FormatError(f"Cannot read the sound '{path.name}': its rate or channels are not stated. Export it again.")
        held_s, decodes = 0.0, False
        for packet in packets_of(container, stream):
            if packet.size and not packet.is_corrupt:
                held_s += float((packet.duration or 0) * (packet.time_base or 0))
                decodes = decodes or _decodes(packet)
        if not decodes:
            raise FormatError(f"Cannot read the sound '{path.name}': none of it can be decoded. Copy or export it again.")
    is_raw = "aac" in name  # its header promises nothing: FFmpeg guesses a length from the bit rate
    length_s = promised_s if "mov" in name and promised_s else held_s
    return SoundExtent(float(rate), max(1, math.floor(length_s * rate + 0.5)), channels), codec, 0.0 if is_raw else promised_s, held_s


def _decodes(packet: object) -> bool:
    try:
        return any(True for _ in packet.decode())  # type: ignore[attr-defined]
    except failures():
        return False
