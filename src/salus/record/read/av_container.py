"""Containers of moving pictures and sound (MP4, MOV, MKV, WebM, AVI, M4A, AAC), opened through PyAV.

Takes a path; gives an open container, or a typed error whatever the bytes. What a container says of title, place or author is never read.
PyAV comes with the extra `video`. Decodes nothing itself: `video` and `sound_av` do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salus.errors import FormatError, MissingExtra

if TYPE_CHECKING:
    from av.container import InputContainer

MOST_PIXELS = 36_000_000
"""Pixels of one frame that are decoded: 8K. FFmpeg itself stops at it, before memory is taken."""
SOUND_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ")
EBML = bytes.fromhex("1a45dfa3")


def media_of(head: bytes) -> str:
    """Return the media type of a container by its first bytes, empty when it is none of those read here.

    Source: ISO/IEC 14496-12, 4.3 (`ftyp`); RFC 8794, 8.2 (EBML header); AVI RIFF file reference (`RIFF` … `AVI `); ADTS in
    ISO/IEC 13818-7, 6.2.

    Example:
        >>> media_of(bytes(4) + b"ftypisom"), media_of(bytes(4) + b"ftypM4A "), media_of(b"RIFF" + bytes(4) + b"WAVE")
        ('video/mp4', 'audio/mp4', '')
    """
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:12] in SOUND_BRANDS else "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head[:4] == EBML:
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska" if b"matroska" in head[:64] else ""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video/x-msvideo"
    return "audio/aac" if _is_adts(head) else ""


def _is_adts(head: bytes) -> bool:
    """Return whether AAC frames follow each other: the second begins where the first says that it ends."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length > 7 and len(following) == 2 and following[0] == 0xFF and following[1] & 0xF6 == 0xF0


def failures() -> tuple[type[Exception], ...]:
    """Return what PyAV raises on damaged files."""
    import av

    return (av.error.FFmpegError, OSError, ValueError, TypeError, IndexError, AssertionError, MemoryError, OverflowError, EOFError)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a container; whatever goes wrong inside is a damaged file.

    Raises:
        MissingExtra: PyAV is not installed.
        FormatError: the file is truncated, damaged, or of an unknown encoding.
    """
    try:
        import av
    except ImportError:
        raise MissingExtra(f"read '{path.name}'", "video") from None
    av.logging.set_level(av.logging.PANIC)  # FFmpeg would print what it meets in a file, which may name a patient
    try:
        # Only the file itself: a playlist inside could name other files, or an address on the network.
        options = {"protocol_whitelist": "file", "max_pixels": str(MOST_PIXELS)}
        with av.open(str(path), options=options, metadata_errors="ignore") as container:
            yield container
    except failures() as error:
        raise damaged(path, error) from error


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream; a damaged place that the container cannot be read past ends them."""
    try:
        yield from container.demux(stream)
    except failures():
        return


def damaged(path: Path, error: Exception) -> FormatError:
    """Return the error for a file that cannot be read."""
    return FormatError(
        f"Cannot read '{path.name}': it is truncated, damaged or of an unknown encoding ({type(error).__name__}). Copy or export it again."
    )


def codec_of(stream: Any) -> str:
    """Return the name of a stream's codec, `unknown` where FFmpeg knows none."""
    context = stream.codec_context
    return "unknown" if context is None else str(context.name)
