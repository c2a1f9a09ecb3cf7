"""Where a file's items come from: its path and the hash of its bytes.

Takes a path of any size; gives a `Source` or the digest. Reads in chunks, so memory stays bounded. Knows no file format.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.patient import Source

CHUNK_BYTES = 1 << 20
"""How much of a file is held in memory while it is hashed."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits, reading one MiB at a time.

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
