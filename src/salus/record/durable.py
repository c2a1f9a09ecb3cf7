"""Files that are either whole or not there, also after a crash or a power cut.

Takes local paths; gives files whose bytes and whose names have reached the disk. Knows nothing of keys or patients.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut (POSIX; on Windows a folder cannot be opened, and nothing is done)."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, readable by the owner alone, so that they last through a power cut."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        fsync_folder(each.parent)


def move_into_place(written: Path, final: Path) -> None:
    """Give a file, whose bytes were fsynced, its final name at once; what had that name before is replaced.

    Source: rename(2), POSIX.1-2017: another process sees the old file or the new one, never part of one.
    """
    make_folders(final.parent)
    written.replace(final)
    fsync_folder(final.parent)
    fsync_folder(final.parent.parent)  # another process may have made the folder and not be done with it


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time do what reads and then replaces a file of a folder (POSIX; on Windows nothing is locked).

    Source: flock(2); the lock goes with the process, so that none is left behind by one that is killed.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def create_once(path: Path, content: bytes) -> bool:
    """Write a small file, mode 0600, unless it is there; return whether this call made it. Of two at once exactly one does."""
    make_folders(path.parent)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(number)
        try:
            path.hardlink_to(name)
        except FileExistsError:
            return False
        fsync_folder(path.parent)
        return True
    finally:
        Path(name).unlink()
