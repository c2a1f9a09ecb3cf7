"""Arrays that were read, decoded and prepared once, kept on disk by what they were made from.

Takes a key and named arrays; gives them back byte for byte, or nothing. One SQLite file: many processes may read and write it at once, an
entry is there whole or not at all, and ten thousand small entries are no ten thousand files. Holds no original data, so it may be deleted
at any time. Leaves encryption to the disk. CAUTION: prepared arrays are patient data; keep the file where the originals may lie.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import InputError
from salus.record.read.source import bytes_sha256, file_sha256, stamp_of

FORMAT = 1
MOST_BYTES = 20 << 30
WAIT_S = 60.0
"""How long a process waits for another one's write."""
TABLES = """
CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, key TEXT UNIQUE, about TEXT, body BLOB, crc INTEGER);
CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT) WITHOUT ROWID;
"""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Entry:
    """What the cache holds under one key."""

    arrays: Arrays
    """Read-only."""
    about: Mapping[str, Any]
    """What was stored beside them: plain values, as JSON has them."""


class ArrayCache:
    """Named arrays by key, in one file of bounded size; past the bound, the entries that were stored first go first."""

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        """Open or make the cache.

        Args:
            path: its file; the folder is made. CAUTION: not on a network file system, where SQLite's locks do not hold.
            most_bytes: of stored arrays.

        Raises:
            InputError: the file cannot be opened, or is not a cache.
        """
        self.path, self.most_bytes = path, most_bytes
        self.remarks: list[str] = []
        """What was found damaged and is made again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            raise InputError(f"Cannot open the cache '{path.name}': {error}. Check that its folder may be written.") from error
        except sqlite3.DatabaseError:
            self._begin_again()
        held = self._database.execute("PRAGMA user_version").fetchone()[0]
        if held not in (0, FORMAT):
            raise InputError(f"Cannot use the cache '{path.name}': its format is {held}, not {FORMAT}. Delete it; it is made again.")
        self._database.execute(f"PRAGMA user_version = {FORMAT}")

    def _open(self) -> None:
        self._database = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")  # readers go on while one process writes
        self._database.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last entries, never tear one
        self._database.executescript(TABLES)

    def _begin_again(self) -> None:
        self.remarks.append("the cache file was damaged: it is made again")
        self._database.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._open()

    def get(self, key: str) -> Entry | None:
        """Return what is stored under a key; None when nothing is, or when its checksum is wrong: it is then removed, with a remark."""
        try:
            row = self._database.execute("SELECT about, body, crc FROM entry WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError:  # another process holds it for longer than WAIT_S, or the disk is full: no entry, no harm
            return None
        except sqlite3.DatabaseError:
            self._begin_again()
            return None
        if row is None:
            return None
        about, body, crc = row
        if _crc(about, body) != crc:
            self.remarks.append("an entry of the cache was damaged: it is made again")
            self.remove(key)
            return None
        described = json.loads(about)
        return Entry(dict(_unpacked(described["arrays"], body)), described["about"])

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Store entries, all or none; those under the same keys are replaced.

        Raises:
            InputError: the disk is full, or another process holds the cache for too long.
        """
        rows = []
        for key, entry in entries.items():
            arrays = {name: np.ascontiguousarray(array) for name, array in entry.arrays.items()}
            shapes = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
            about = json.dumps({"arrays": shapes, "about": entry.about})
            body = b"".join(array.tobytes() for array in arrays.values())
            rows.append((key, about, body, _crc(about, body)))
        with self._writing() as database:
            database.executemany("INSERT OR REPLACE INTO entry (key, about, body, crc) VALUES (?, ?, ?, ?)", rows)
            self._evict(database, sum(len(row[2]) for row in rows))

    def remove(self, key: str) -> None:
        """Forget what is stored under a key."""
        with self._writing() as database:
            database.execute("DELETE FROM entry WHERE key = ?", (key,))

    def sha256_of(self, paths: Sequence[Path], *, is_strict: bool = False) -> list[str]:
        """Return the SHA-256 of files, from memory when their stamp (size, times, inode) is as it was.

        Args:
            paths: any files.
            is_strict: hash the bytes whatever the stamp says.

        Raises:
            InputError: a file cannot be read.
        """
        found, fresh = [], []
        for path in paths:
            stamp = stamp_of(path)
            row = None if is_strict or stamp is None else self._memory_of(path)
            if row is not None and row[0] == repr(stamp):
                found.append(str(row[1]))
                continue
            found.append(bytes_sha256(path) if is_strict else file_sha256(path))
            if stamp is not None and stamp == stamp_of(path):  # not changed while it was hashed
                fresh.append((str(path.absolute()), repr(stamp), found[-1]))
        if fresh:
            with self._writing() as database:
                database.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?)", fresh)
        return found

    def _memory_of(self, path: Path) -> tuple[str, str] | None:
        try:
            row = self._database.execute("SELECT stamp, sha256 FROM file WHERE path = ?", (str(path.absolute()),)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return None if row is None else (row[0], row[1])

    def _evict(self, database: sqlite3.Connection, added: int) -> None:
        """Remove the oldest entries until the rest fit; counted by whole pages, so only when the file has grown near its bound."""
        pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
        excess = (pages - free) * size - self.most_bytes
        if excess <= 0:
            return
        freed, numbers = 0, []
        for number, length in database.execute("SELECT number, length(body) FROM entry ORDER BY number"):
            if freed >= excess + added:
                break
            freed += length
            numbers.append((number,))
        database.executemany("DELETE FROM entry WHERE number = ?", numbers)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield self._database
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise InputError(f"Cannot write the cache '{self.path.name}': {error}. Free space, or delete it.") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _crc(about: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(about.encode()))


def _unpacked(shapes: Sequence[tuple[str, str, Sequence[int]]], body: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    at = 0
    for name, dtype, shape in shapes:
        kind, count = np.dtype(dtype), int(np.prod(shape))
        yield name, np.frombuffer(body, kind, count, at).reshape(shape)
        at += count * kind.itemsize
