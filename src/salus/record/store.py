"""A content-addressed store of patients' files, sealed by a key for each patient, in a folder or an object store.

Takes streams of bytes and a key ring; gives addresses, and the bytes back, checked. Any fsspec URL: a local path, `s3://bucket/prefix`.
Knows no file format and de-identifies nothing: see `salus.record.intake` for what comes before.

    <url>/salus-store.json                     format, and the mark of the key ring that it belongs to
    <url>/objects/<patient's tag>/<address>    one sealed object (`salus.record.sealed`)
    <url>/incoming/                            local stores: what is being written; left over only by a crash, cleared by `verify`
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from salus.errors import ConfigError, DamagedError, MissingExtra, StoreError, WrongKeyError
from salus.record.durable import create_once, make_folders, move_into_place
from salus.record.keys import KeyRing, PatientKey
from salus.record.sealed import Readable, Sealed, opaque, seal, sealed_length, unseal

try:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem
except ModuleNotFoundError:
    raise MissingExtra("open a store", "store") from None

FORMAT = 1
ABOUT = "salus-store.json"
READ_BYTES = 8 << 20
"""How much of a remote object is fetched at once."""
PART_BYTES = 8 << 20
"""How much is sent at once to S3; ten parts are in memory at a time."""
MOST_PARTS = 9_000
"""S3 takes 10,000 parts of one object."""
STALE_S = 24 * 3600.0
"""What lies in `incoming` longer than this was left by a crash."""
_ADDRESS_DIGITS = 64


@dataclass(frozen=True)
class Problem:
    """An object that `verify` could not read."""

    kind: Literal["damaged", "wrong key", "no key", "erased", "unreadable"]
    """`erased`: the patient's key was deleted and the object is still there; `no key`: the ring never had one."""
    place: str
    """Below the store: `objects/<tag>/<address>`."""
    why: str


@dataclass(frozen=True)
class Verified:
    """What `verify` found."""

    objects: int
    content_bytes: int
    problems: tuple[Problem, ...]
    cleared: int
    """Parts of writes that a crash left behind, removed."""


class OpenObject:
    """An object that is read from its start; every byte that it gives was checked."""

    def __init__(self, sealed: BinaryIO, chunks: Iterator[bytes]) -> None:
        self._sealed, self._chunks, self._held, self._at = sealed, chunks, b"", 0

    def read(self, size: int = -1, /) -> bytes:
        """Return at most this many bytes, all that is left if negative; none at the end.

        Raises:
            DamagedError: the object is damaged here. What was read before is good.
        """
        if size < 0:
            return self._rest()
        while size and self._at == len(self._held):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._held, self._at = chunk, 0
        found = self._held[self._at : self._at + size]
        self._at += len(found)
        return found

    def _rest(self) -> bytes:
        found = self._held[self._at :]
        self._held, self._at = b"", 0
        return b"".join([found, *self._chunks])

    def __enter__(self) -> OpenObject:
        return self

    def __exit__(self, *_: object) -> None:
        self._sealed.close()


class Store:
    """Objects of patients at one URL. Several processes may read and write it at once."""

    def __init__(self, url: str, keys: KeyRing, *, options: Mapping[str, Any] | None = None) -> None:
        """Open a store; makes it where nothing is.

        Args:
            url: local path, or any URL that fsspec knows.
            keys: the ring with the patients' keys.
            options: of the fsspec file system, such as `endpoint_url`; credentials come from the service's own environment.

        Raises:
            ConfigError: the URL cannot be used, or the key ring lies inside the store.
            WrongKeyError: the store belongs to another key ring.
            StoreError: it is no store, or of another format.
            MissingExtra: the package of this kind of URL is not installed.
        """
        self.keys = keys
        self.files, self.root = _file_system(url, options or {})
        self.is_local = isinstance(self.files, LocalFileSystem)
        for path in (keys.path, keys.master_path):
            refuse_inside(url, path)
        with _explained("open the store"):
            about = self._about()
        if about.get("format") != FORMAT:
            found = about.get("format")
            raise StoreError(f"Cannot open the store: format {found!r}, this program reads {FORMAT}. Use the matching version.")
        if about.get("keys") != keys.mark:
            raise WrongKeyError("Cannot open the store: it belongs to another key ring. Name the key ring that it was made with.")

    def put(self, subject_id: str, content: Readable) -> str:
        """Store a stream and return its address; once this returns, the object outlasts a crash.

        The same content of the same patient has one address and one object. What is there is read back, and replaced if damaged.

        Raises:
            StoreError: the disk is full, the service fails, or the patient was erased. Nothing is left behind.
        """
        tag = self.keys.tag_of(subject_id)
        if not self.keys.knows(tag) and self._names(f"objects/{tag}"):
            raise WrongKeyError(f"Cannot store for patient {tag[:12]}: objects of theirs are here, the key ring lost the key. Restore it.")
        key = self.keys.make_key(subject_id)
        with _explained("store the object"), self._spool() as (stream, path):
            sealed = seal(content, stream, key.secret)
            stream.flush()
            os.fsync(stream.fileno())
            self._commit(path, key, sealed)
        if self.keys.is_erased(key.tag):  # while this was writing
            self._remove(self._place(key.tag, sealed.address))
            raise StoreError(f"Cannot store the object: patient {key.tag[:12]} was erased meanwhile. Nothing was kept.")
        return sealed.address

    def open(self, subject_id: str, address: str) -> OpenObject:
        """Return an object, to be read as a stream.

        Raises:
            StoreError: the patient has no key here, or no such object.
        """
        key = self.keys.key_of(subject_id)
        return self._opened(key, _checked(address))

    def has(self, subject_id: str, address: str) -> bool:
        """Return whether an object is there; says nothing of its state."""
        with _explained("look for the object"):
            return bool(self.files.exists(self._place(self.keys.tag_of(subject_id), _checked(address))))

    def addresses(self, subject_id: str) -> tuple[str, ...]:
        """Return the addresses of a patient's objects, sorted."""
        return tuple(sorted(self._names(f"objects/{self.keys.tag_of(subject_id)}")))

    def forget(self, subject_id: str) -> int:
        """Erase a patient: delete the key, then the objects; return how many objects were deleted.

        From the moment that the key is gone nothing of the patient opens, in no copy of the store. Called again, it ends what a crash cut
        short.
        """
        self.keys.forget(subject_id)
        tag = self.keys.tag_of(subject_id)
        names = self._names(f"objects/{tag}")
        for name in names:
            self._remove(self._place(tag, name))
        if self.is_local:
            with suppress(OSError):
                Path(self.root, "objects", tag).rmdir()
        return len(names)

    def verify(self) -> Verified:
        """Read every object to its end and return what could not be read.

        Takes as long as reading all; holds in memory the names of patients, and of one patient's objects. An object that is missing is
        not noticed: only who wrote down its address can tell (`has`).
        """
        objects, content_bytes, problems = 0, 0, list[Problem]()
        for tag in sorted(self._names("objects")):
            key: PatientKey | Problem = self._key_of_folder(tag)
            for name in sorted(self._names(f"objects/{tag}")):
                objects += 1
                place = f"objects/{tag}/{name}"
                if isinstance(key, Problem):
                    problems.append(Problem(key.kind, place, key.why))
                    continue
                try:
                    content_bytes += sum(len(chunk) for chunk in _chunks(self._opened(key, name)))
                except DamagedError as error:
                    problems.append(Problem("damaged", place, str(error)))
                except WrongKeyError as error:
                    problems.append(Problem("wrong key", place, str(error)))
                except StoreError as error:
                    problems.append(Problem("unreadable", place, str(error)))
        return Verified(objects, content_bytes, tuple(problems), self._clear_incoming())

    def _about(self) -> dict[str, Any]:
        """Return what the store says of itself; writes it where nothing is yet. Of two processes at once one makes the store."""
        place = f"{self.root}/{ABOUT}"
        content = json.dumps({"format": FORMAT, "cipher": "AES-256-GCM STREAM", "keys": self.keys.mark}).encode()
        if not self.files.exists(place):
            if self._names(""):
                raise StoreError(
                    f"Cannot open the store: that place holds files and no {ABOUT}. Name an empty folder, or restore that file."
                )
            if self.is_local:
                create_once(Path(place), content)
            else:
                with suppress(FileExistsError):
                    self.files.pipe_file(place, content, mode="create")
        try:
            found = json.loads(self.files.cat_file(place))
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    @contextmanager
    def _spool(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Give a file for sealed bytes: on the store's own disk, so that it can be renamed, or in the system's folder for such files."""
        folder = Path(self.root, "incoming") if self.is_local else None
        if folder is not None:
            make_folders(folder)
        number, name = tempfile.mkstemp(dir=folder, prefix="salus-")
        try:
            with os.fdopen(number, "wb") as stream:
                yield stream, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _commit(self, written: Path, key: PatientKey, sealed: Sealed) -> None:
        """Give a written object its name, all at once."""
        place = self._place(key.tag, sealed.address)
        if self.files.exists(place) and self._is_whole(key, sealed):
            return
        if self.is_local:
            move_into_place(written, Path(place))
            return
        size = {"chunksize": max(PART_BYTES, sealed.sealed_bytes // MOST_PARTS + 1)} if "s3" in self.files.protocol else {}
        self.files.put_file(str(written), place, **size)  # one request, or a multipart upload that counts only when it is completed
        self.files.invalidate_cache()
        held = int(self.files.info(place)["size"])
        if held != sealed.sealed_bytes:
            name = opaque(sealed.address)
            raise StoreError(f"Cannot store object {name}: {sealed.sealed_bytes} bytes were sent, {held} are there. Try again.")

    def _is_whole(self, key: PatientKey, sealed: Sealed) -> bool:
        if int(self.files.info(self._place(key.tag, sealed.address))["size"]) != sealed_length(sealed.content_bytes):
            return False
        try:
            return sum(len(chunk) for chunk in _chunks(self._opened(key, sealed.address))) == sealed.content_bytes
        except StoreError:
            return False

    def _opened(self, key: PatientKey, address: str) -> OpenObject:
        with _explained(f"open object {opaque(address)}"):
            try:
                stream = self.files.open(self._place(key.tag, address), "rb", block_size=READ_BYTES)
            except FileNotFoundError:
                raise StoreError(
                    f"Cannot open object {opaque(address)}: patient {key.tag[:12]} has none of that address here. Check both."
                ) from None
        return OpenObject(stream, _explained_chunks(unseal(stream, key.secret, address), opaque(address)))

    def _key_of_folder(self, tag: str) -> PatientKey | Problem:
        try:
            return self.keys.key_by_tag(tag)
        except WrongKeyError as error:
            return Problem("wrong key", tag, str(error))
        except StoreError as error:
            return Problem("erased" if self.keys.is_erased(tag) else "no key", tag, str(error))

    def _place(self, tag: str, address: str) -> str:
        return f"{self.root}/objects/{tag}/{address}"

    def _names(self, below: str) -> list[str]:
        """Return the names in one folder of the store."""
        with _explained("list the store"):
            self.files.invalidate_cache()
            try:
                found = self.files.ls(f"{self.root}/{below}".rstrip("/"), detail=False)
            except FileNotFoundError:
                return []
        return [name for place in found if (name := str(place).rstrip("/").rpartition("/")[2])]

    def _remove(self, place: str) -> None:
        with _explained("delete the object"), suppress(FileNotFoundError):
            self.files.rm_file(place)

    def _clear_incoming(self) -> int:
        if not self.is_local:
            return 0
        cleared = 0
        for path in Path(self.root, "incoming").glob("salus-*"):
            with suppress(FileNotFoundError):  # its writer was done first
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()
                    cleared += 1
        return cleared


def refuse_inside(url: str, path: Path) -> None:
    """Refuse a file of keys that lies inside a local store: whoever copies the store would copy its keys.

    Raises:
        ConfigError: it does.
    """
    if "://" in url.removeprefix("file://"):
        return
    root = Path(url.removeprefix("file://")).resolve()
    if path.resolve().is_relative_to(root):
        raise ConfigError(f"Cannot use key file '{path.name}': it lies inside the store. Keep keys apart, best on another disk.")


def _file_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    try:
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except ImportError:
        raise MissingExtra(f"open a store at a {url.partition(':')[0]} address", "store") from None
    except ValueError as error:
        raise ConfigError(f"Cannot open the store: {error}. Give a folder, or a URL such as s3://bucket/prefix.") from None
    return files, str(root).rstrip("/")


def _checked(address: str) -> str:
    """Return an address; refuses what is none, so that no address leads out of the store."""
    if len(address) != _ADDRESS_DIGITS or not set(address) <= set("0123456789abcdef"):
        raise StoreError("Cannot use the address: it is not 64 hex digits as `put` gives. Copy it whole.")
    return address


def _chunks(opened: OpenObject) -> Iterator[bytes]:
    with opened:
        while chunk := opened.read(READ_BYTES):
            yield chunk


def _explained_chunks(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    with _explained(f"read object {name}"):
        yield from chunks


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the errors of disks and services into `StoreError`; the message holds the kind of error, no path."""
    service = sys.modules.get("botocore.exceptions")  # loaded only where a store speaks S3
    kinds = (OSError, *((service.BotoCoreError, service.ClientError) if service else ()))
    try:
        yield
    except kinds as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        raise StoreError(f"Cannot {what}: {why}. Check space, permission and connection, then try again.") from error
