"""Sound recordings: WAV and FLAC.

Takes a path; gives one item whose samples load lazily. The format does not say what was recorded, and a file name is no evidence,
so the modality comes from the manifest.
"""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from salus.errors import FormatError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.patient import Code, Content, Item, Sound, Source, item_id
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty

STREAMED_LENGTHS = (0, 0xFFFFFFFF)
"""RIFF lengths of recordings whose end was not known when the header was written."""
LEAST_SOUND_HZ = 500.0
"""A lower sampling rate cannot hold what an ear hears: it is some other signal in a sound container."""


def read_sound(path: Path, options: ReadOptions) -> FileRead:
    """Return a WAV or FLAC file as one item; of the file, the header and the last sample are decoded.

    Raises:
        FormatError: the file is empty, truncated, without samples, or of an unknown encoding.
    """
    refuse_empty(path)
    with path.open("rb") as stream:
        head = stream.read(12)
    media = media_of(head)
    promised = struct.unpack_from("<I" if head[:4] == b"RIFF" else ">I", head, 4)[0] if media == "audio/wav" else None
    streamed = promised in STREAMED_LENGTHS
    if promised is not None and not streamed and promised + 8 > path.stat().st_size + 1:  # the pad byte is often left out
        raise FormatError(
            f"Cannot read the sound '{path.name}': it is truncated ({promised + 8} bytes are promised, "
            f"{path.stat().st_size} are there). Copy it again."
        )
    rate, frames, channels = _extent(path)
    sha256 = file_sha256(path)
    modality = options.modality or modality_of(f"media:{media}")
    remarks = ["kind of sound not stated: declare it in the manifest"] if modality == UNCLAIMED else []
    remarks += ["length not stated in the header: read to the end of the file"] if streamed else []
    if rate < LEAST_SOUND_HZ:
        remarks.append(f"a sampling rate of {rate:g} Hz holds no audible sound: probably another signal in a sound container")
    summary = f"{'mono' if channels == 1 else f'{channels} channels'}, {rate:g} Hz, {frames / rate:.1f} s"
    item = Item(
        id=item_id(sha256, ""),
        modality=modality,
        code=Code("media", media, "sound recording"),
        source=Source(str(path), sha256),
        category="sound",
        content=Content("sound", partial(load_sound, path), summary),
        remarks=tuple(remarks),
    )
    return FileRead(found=(Found(None, (item,)),))


def media_of(head: bytes) -> str:
    """Return the media type by the first bytes, empty when they are neither WAV nor FLAC.

    Example:
        >>> media_of(b"RIFF" + bytes(4) + b"WAVE"), media_of(b"fLaC"), media_of(b"ID3")
        ('audio/wav', 'audio/flac', '')
    """
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "audio/wav"
    return "audio/flac" if head[:4] == b"fLaC" else ""


def load_sound(path: Path) -> Sound:
    """Return all samples, (C, S), -1 to 1.

    Raises:
        FormatError: the file cannot be decoded to its end.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise _damaged(path) from error
    return Sound(np.ascontiguousarray(samples.T), float(rate))


def _extent(path: Path) -> tuple[float, int, int]:
    """Return sampling rate in Hz, samples for each channel, channels; decodes the last sample to see that it is there."""
    try:
        with soundfile.SoundFile(path) as stream:
            rate, frames, channels = float(stream.samplerate), int(stream.frames), int(stream.channels)
            if frames > 0:
                stream.seek(frames - 1)
                if len(stream.read(1)) == 0:
                    raise _damaged(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise _damaged(path) from error
    if frames <= 0 or rate <= 0:
        raise FormatError(f"Cannot read the sound '{path.name}': it holds no samples. Record or export it again.")
    return rate, frames, channels


def _damaged(path: Path) -> FormatError:
    return FormatError(
        f"Cannot read the sound '{path.name}': it is truncated, damaged or of an unknown encoding. Copy or export it again."
    )


READER = Reader(
    name="sound",
    title="WAV or FLAC sound",
    recognises=lambda _path, head: media_of(head) != "",
    read=read_sound,
    priority=10,
)
