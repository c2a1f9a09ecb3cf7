"""Sound recordings: WAV, FLAC, OGG (Vorbis, Opus) and MP3 through libsndfile, M4A and AAC through PyAV.

Takes a path; gives one item whose samples load lazily. The format does not say what was recorded, and a file name or a tag (ID3, Vorbis
comments) is no evidence and is never read, so the modality comes from the manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from salus.errors import FormatError
from salus.record.patient import Sound
from salus.record.read import av_container
from salus.record.read.reader import FileRead, Reader, ReadOptions
from salus.record.read.sound_av import read_av_sound
from salus.record.read.sound_blocks import gathered, shrinking
from salus.record.read.sound_item import SoundExtent, sound_item
from salus.record.read.source import refuse_empty

STREAMED_LENGTHS = (0, 0xFFFFFFFF)
"""RIFF lengths of recordings whose end was not known when the header was written."""
SOUND_ERRORS = (soundfile.SoundFileError, OSError, ValueError, MemoryError)
"""What soundfile raises on damaged files; ValueError where libsndfile seeks past the end of a damaged MP3."""
BLOCK_SAMPLES = 1 << 20
LONGEST_PAGE = 65_307
"""Bytes of an Ogg page (RFC 3533, section 6)."""
OGG_SOUNDS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC")
MP3_RATES_KBIT_S = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of layer III of MPEG-1 (3) and MPEG-2 (2), in the order of the header's index."""
MP3_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def read_sound(path: Path, options: ReadOptions) -> FileRead:
    """Return a sound file as one item; of the file, the header and the last sample are decoded.

    Raises:
        FormatError: the file is empty, truncated, without samples, or of an unknown encoding.
        MissingExtra: it is M4A or AAC, and PyAV is not installed.
    """
    refuse_empty(path)
    with path.open("rb") as stream:
        head = stream.read(4096)
    media = media_of(head)
    if media in ("audio/mp4", "audio/aac"):
        return read_av_sound(path, media, options)
    promised = struct.unpack_from("<I" if head[:4] == b"RIFF" else ">I", head, 4)[0] if media == "audio/wav" else None
    streamed = promised in STREAMED_LENGTHS
    if promised is not None and not streamed and promised + 8 > path.stat().st_size + 1:  # the pad byte is often left out
        raise FormatError(
            f"Cannot read the sound '{path.name}': it is truncated ({promised + 8} bytes are promised, "
            f"{path.stat().st_size} are there). Copy it again."
        )
    if media == "audio/ogg":
        _refuse_without_last_page(path)
    extent = _extent(path)
    remarks = ["length not stated in the header: read to the end of the file"] if streamed else []
    remarks += ["lossy compression"] if media == "audio/mpeg" or (media == "audio/ogg" and b"\x7fFLAC" not in head[:64]) else []
    return sound_item(path, media, extent, partial(load_sound, path), options=options, remarks=remarks)


def media_of(head: bytes) -> str:
    r"""Return the media type by the first bytes, empty when they are no sound that is read here.

    Example:
        >>> media_of(b"RIFF" + bytes(4) + b"WAVE"), media_of(b"fLaC"), media_of(b"ID3\x04\x00\x00\x00\x00\x00\x00")
        ('audio/wav', 'audio/flac', 'audio/mpeg')
        >>> media_of(b"RIFF" + bytes(4) + b"AVI "), media_of(bytes.fromhex("ffd8ffe0"))
        ('', '')
    """
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"fLaC":
        return "audio/flac"
    if head[:4] == b"OggS" and any(kind in head[:64] for kind in OGG_SOUNDS):
        return "audio/ogg"
    if (head[:3] == b"ID3" and len(head) >= 10 and max(head[3:5]) < 0xFF and max(head[6:10]) < 0x80) or _is_mp3(head):
        return "audio/mpeg"
    media = av_container.media_of(head)
    return media if media.startswith("audio/") else ""


def _is_mp3(head: bytes) -> bool:
    """Return whether frames of layer III follow each other: the second begins where the first says that it ends.

    Source: ISO/IEC 11172-3, 2.4.1.3 and 2.4.3.1 (header, frame length).
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return False
    version, bits, hertz = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bits in (0, 15) or hertz == 3:
        return False
    rate = MP3_RATES_KBIT_S[3 if version == 3 else 2][bits - 1] * 1000
    length = (144 if version == 3 else 72) * rate // MP3_RATES_HZ[version][hertz] + (head[2] >> 1 & 1)
    following = head[length : length + 2]
    return len(following) == 2 and following[0] == 0xFF and following[1] & 0xFE == head[1] & 0xFE


def load_sound(path: Path) -> Sound:
    """Return all samples, (C, S), -1 to 1; of hours of sound at a lower rate (`salus.record.read.sound_blocks`).

    Raises:
        FormatError: the file cannot be decoded to its end.
    """
    extent = _extent(path)
    return gathered(blocks(path), extent.rate_hz, divisor=shrinking(extent.frames, extent.channels))


def blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the samples in blocks (C, n), so that a recording of any length fits in memory.

    Raises:
        FormatError: the file cannot be decoded to its end.
    """
    try:
        with soundfile.SoundFile(path) as stream:
            size = max(1, BLOCK_SAMPLES // stream.channels)
            while len(block := stream.read(size, dtype="float32", always_2d=True)):
                yield np.ascontiguousarray(block.T)
    except SOUND_ERRORS as error:
        raise _damaged(path) from error


def _refuse_without_last_page(path: Path) -> None:
    """Refuse an Ogg file without the page that ends it (RFC 3533, section 6: header type flag 4), or with only a part of that page."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - LONGEST_PAGE))
        tail = stream.read()
    start = tail.rfind(b"OggS")
    lacing = tail[start + 27 : start + 27 + tail[start + 26]] if 0 <= start < len(tail) - 27 else b""
    if start < 0 or not lacing or not tail[start + 5] & 4 or len(tail) - start < 27 + len(lacing) + sum(lacing):
        raise FormatError(f"Cannot read the sound '{path.name}': it is truncated (the page that ends it is missing). Copy it again.")


def _extent(path: Path) -> SoundExtent:
    """Return the size of a recording; decodes the last sample to see that it is there."""
    try:
        with soundfile.SoundFile(path) as stream:
            rate, frames, channels = float(stream.samplerate), int(stream.frames), int(stream.channels)
            if frames > 0:
                stream.seek(frames - 1)
                if len(stream.read(1)) == 0:
                    raise _damaged(path)
    except SOUND_ERRORS as error:
        raise _damaged(path) from error
    if frames <= 0 or rate <= 0:
        raise FormatError(f"Cannot read the sound '{path.name}': it holds no samples. Record or export it again.")
    return SoundExtent(rate, frames, channels)


def _damaged(path: Path) -> FormatError:
    return FormatError(
        f"Cannot read the sound '{path.name}': it is truncated, damaged or of an unknown encoding. Copy or export it again."
    )


READER = Reader(
    name="sound",
    title="WAV, FLAC, OGG, MP3, M4A or AAC sound",
    recognises=lambda _path, head: media_of(head) != "",
    read=read_sound,
    priority=10,
)
