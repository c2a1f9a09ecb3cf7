"""The key ring: a random key for each patient, wrapped by one master key.

Takes a place for two files, the ring (SQLite, one row a patient) and the master key; gives patients' keys. Both files are for their owner
alone and lie outside the store. Whoever deletes a patient's row has erased all that the patient's key sealed, in every copy of the store.
"""

from __future__ import annotations

import base64
import hmac
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from salus.errors import ConfigError, MissingExtra, StoreError, WrongKeyError
from salus.record.durable import create_once, fsync_folder
from salus.record.sealed import SECRET_BYTES, derived

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ModuleNotFoundError:
    raise MissingExtra("open a key ring", "store") from None

MASTER_SUFFIX = ".master"
WAIT_S = 60.0
"""How long a writer waits for another one to be done with the ring."""
_MASTER_HEAD = b"salus-master-1 "
_NONCE_BYTES = 12
_TABLES = """
CREATE TABLE IF NOT EXISTS ring (format INTEGER NOT NULL, mark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS patients (tag TEXT PRIMARY KEY, wrapped BLOB) WITHOUT ROWID;
"""
FORMAT = 1


@dataclass(frozen=True)
class PatientKey:
    """The key of one patient."""

    tag: str
    """32 hex digits that stand for the patient in the store; only the master key leads from the patient's id to it."""
    secret: bytes = field(repr=False)
    """(32,) bytes."""


class KeyRing:
    """The keys of all patients of one or more stores; safe to use from several processes at once."""

    def __init__(self, path: Path, master: Path | None = None, *, may_make: bool = False) -> None:
        """Open a key ring.

        Args:
            path: the ring's file.
            master: the master key's file; by default beside the ring, with `.master` after its name. Better on another disk.
            may_make: make both files where neither is there. A ring without its master key, or the reverse, is never made good.

        Raises:
            ConfigError: one of the files is missing or open to others.
            WrongKeyError: the master key is another ring's.
            StoreError: a file is not what it should be.
        """
        self.path = path
        self.master_path = path.with_name(path.name + MASTER_SUFFIX) if master is None else master
        self._may_make = may_make
        if may_make and not self.path.exists() and not self.master_path.exists():
            create_once(self.path, b"")
        if may_make and not self.master_path.exists() and self.path.exists() and self.path.stat().st_size == 0:
            secret = base64.b64encode(os.urandom(SECRET_BYTES))
            create_once(self.master_path, _MASTER_HEAD + secret + b"\n")
        self._master = _read_master(self.master_path, self.path)
        self._naming = derived(self._master, b"patient tag")
        self._wrapper = AESGCM(derived(self._master, b"key wrap"))
        self.mark = derived(self._master, b"mark", length=16).hex()
        """Tells rings apart; says nothing of the keys."""
        _refuse_open_file(self.path, "key ring")
        with self._transaction() as ring:
            self._check(ring)

    def tag_of(self, subject_id: str) -> str:
        """Return what stands for a patient in the store."""
        return hmac.digest(self._naming, subject_id.encode(), "sha256").hex()[:32]

    def key_of(self, subject_id: str) -> PatientKey:
        """Return a patient's key.

        Raises:
            StoreError: the ring has none, or it was erased.
            WrongKeyError: the key does not open with this master key.
        """
        return self.key_by_tag(self.tag_of(subject_id))

    def key_by_tag(self, tag: str) -> PatientKey:
        """Return the key of the patient that a tag stands for; raises as `key_of`."""
        with self._transaction() as ring:
            row = ring.execute("SELECT wrapped FROM patients WHERE tag = ?", (tag,)).fetchone()
        if row is None:
            raise StoreError(f"Cannot find patient {tag[:12]}: this key ring has no key of theirs. Check the id and the key ring.")
        return self._unwrapped(tag, row[0])

    def knows(self, tag: str) -> bool:
        """Return whether a patient has a key, or had one that was erased."""
        with self._transaction() as ring:
            return ring.execute("SELECT 1 FROM patients WHERE tag = ?", (tag,)).fetchone() is not None

    def make_key(self, subject_id: str) -> PatientKey:
        """Return a patient's key; makes one for a patient who has none, on the disk before this returns.

        Raises:
            StoreError: the key was erased; what is erased does not come back under the same id.
        """
        tag = self.tag_of(subject_id)
        with self._transaction(is_writing=True) as ring:
            row = ring.execute("SELECT wrapped FROM patients WHERE tag = ?", (tag,)).fetchone()
            if row is None:
                secret, nonce = os.urandom(SECRET_BYTES), os.urandom(_NONCE_BYTES)
                wrapped = nonce + self._wrapper.encrypt(nonce, secret, tag.encode())
                ring.execute("INSERT INTO patients VALUES (?, ?)", (tag, wrapped))
                return PatientKey(tag, secret)
        return self._unwrapped(tag, row[0])

    def forget(self, subject_id: str) -> bool:
        """Delete a patient's key for good; return whether there was one. The tag stays, so that nothing is written under it again.

        CAUTION: a copy of the ring that was made before still holds the key; delete or renew such copies as well.
        """
        with self._transaction(is_writing=True) as ring:
            found = ring.execute("UPDATE patients SET wrapped = NULL WHERE tag = ? AND wrapped IS NOT NULL", (self.tag_of(subject_id),))
            return found.rowcount == 1

    def is_erased(self, tag: str) -> bool:
        """Return whether a patient's key was there and was deleted."""
        with self._transaction() as ring:
            row = ring.execute("SELECT wrapped FROM patients WHERE tag = ?", (tag,)).fetchone()
        return row is not None and row[0] is None

    def _unwrapped(self, tag: str, wrapped: bytes | None) -> PatientKey:
        if wrapped is None:
            raise StoreError(f"Cannot use the key of patient {tag[:12]}: it was erased. New data of this patient needs a new id.")
        try:
            return PatientKey(tag, self._wrapper.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], tag.encode()))
        except (InvalidTag, ValueError):
            raise WrongKeyError(
                f"Cannot open the key of patient {tag[:12]}: it was wrapped by another master key, or is damaged. Restore the key ring."
            ) from None

    def _check(self, ring: sqlite3.Connection) -> None:
        row = ring.execute("SELECT format, mark FROM ring").fetchone()
        failed = f"Cannot open key ring '{self.path.name}'"
        if row[0] != FORMAT:
            raise StoreError(f"{failed}: format {row[0]}, this program reads {FORMAT}. Use the matching version.")
        if row[1] != self.mark:
            raise WrongKeyError(f"{failed}: '{self.master_path.name}' is another ring's master key. Name its own.")

    @contextmanager
    def _transaction(self, *, is_writing: bool = False) -> Iterator[sqlite3.Connection]:
        """Give a connection; what was written is on the disk when the block ends, or nothing of it is.

        Source: SQLite's `synchronous = EXTRA` syncs the folder too; `secure_delete` writes zeros over what is deleted.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)) as ring:
                ring.execute("PRAGMA synchronous = EXTRA")
                ring.execute("PRAGMA secure_delete = ON")
                if self._may_make and ring.execute("PRAGMA schema_version").fetchone()[0] == 0:
                    self._lay_out(ring)
                ring.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
                yield ring
                ring.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(
                f"Cannot use key ring '{self.path.name}': {error}. Check the disk, that the file may be written, and that it is a key ring."
            ) from error

    def _lay_out(self, ring: sqlite3.Connection) -> None:
        """Make the tables of a fresh ring; of two processes at once one does."""
        ring.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _TABLES.split(";")):
            ring.execute(statement)
        if ring.execute("SELECT count(*) FROM ring").fetchone()[0] == 0:
            ring.execute("INSERT INTO ring VALUES (?, ?)", (FORMAT, self.mark))
        ring.execute("COMMIT")
        fsync_folder(self.path.parent)


def _read_master(path: Path, ring: Path) -> bytes:
    _refuse_open_file(path, f"master key of '{ring.name}',")
    content = path.read_bytes().strip()
    try:
        secret = base64.b64decode(content.removeprefix(_MASTER_HEAD), validate=True)
    except ValueError:
        secret = b""
    if not content.startswith(_MASTER_HEAD) or len(secret) != SECRET_BYTES:
        raise StoreError(f"Cannot read master key '{path.name}': it is not one, or is cut short. Restore it from where it is kept.")
    return secret


def _refuse_open_file(path: Path, what: str) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(
            f"Cannot open the {what} '{path.name}': {error.strerror}. Check the path; a lost key cannot be made again."
        ) from None
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"Cannot use the {what}: others may read '{path.name}' (mode {mode & 0o777:o}). Run: chmod 600 '{path.name}'")
