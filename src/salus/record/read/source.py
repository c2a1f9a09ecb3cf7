"""Where a file's items come from: its path and the hash of its bytes.

Takes a path of any size; gives a `Source` or the digest. Reads in chunks, so memory stays bounded. Knows no file format.
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.patient import Source

CHUNK_BYTES = 1 << 20
"""How much of a file is held in memory while it is hashed."""
SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again within one tick of the clock that stamps it (FAT: two seconds)."""

Stamp = tuple[int, int, int, int]
"""Size, time of change of content, time of change of content or metadata (both ns), inode."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits; that of a file just hashed is kept while its stamp is as it was.

    Raises:
        InputError: the file cannot be opened or read.
    """
    stamp = stamp_of(path)
    return bytes_sha256(path) if stamp is None else _kept_sha256(path, stamp)


@lru_cache(maxsize=64)
def _kept_sha256(path: Path, _stamp: Stamp) -> str:
    return bytes_sha256(path)


def bytes_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits, read now, one MiB at a time.

    Raises:
        InputError: the file cannot be opened or read.

    Source: FIPS 180-4, section 6.2.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes when a file changes; None while it is so fresh that it could change unseen, or is not there.

    The time of change of metadata cannot be set by a program, so bytes replaced in place under an old modification time are seen.
    CAUTION: a network file system may keep its own idea of time: what must be certain is hashed, not stamped.
    """
    try:
        about = os.stat(path)  # noqa: PTH116 (half the time of Path.stat, for every file on every warm read)
    except OSError:
        return None
    if time.time_ns() - max(about.st_mtime_ns, about.st_ctime_ns) < SETTLED_NS:
        return None
    return (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


def source_of(path: Path, locator: str = "") -> Source:
    """Return the source of an item that is found at `locator` in this file.

    Raises:
        InputError: the file cannot be opened or read.
    """
    return Source(path=str(path), sha256=file_sha256(path), locator=locator)


def refuse_empty(path: Path) -> None:
    """Raise when a file cannot be opened or holds no bytes at all.

    Raises:
        InputError: the file cannot be opened.
        FormatError: the file is empty.
    """
    try:
        with path.open("rb") as stream:
            is_empty = not stream.read(1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if is_empty:
        raise FormatError(f"Cannot read '{path.name}': the file is empty (0 bytes). Export or copy it again.")


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"Cannot read '{path.name}': {error.strerror}. Check that the file exists and may be read.")
