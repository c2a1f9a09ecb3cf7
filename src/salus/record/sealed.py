"""The sealed form of one object: AES-256-GCM in chunks, so that any length is written and read in bounded memory.

Takes streams of bytes and a patient's key; gives sealed bytes and the object's address, or the bytes back. Knows no file or store.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway and Vizár 2015, https://eprint.iacr.org/2015/189, section 6) with a fresh key
for each object, as Tink's AES-GCM-HKDF streaming does: the nonce of a chunk holds its number and whether it is the last, so a chunk
that is changed, left out, swapped, repeated or cut off does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from salus.errors import DamagedError, MissingExtra, StoreError, WrongKeyError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ModuleNotFoundError:
    raise MissingExtra("seal or open a stored file", "store") from None

CHUNK_BYTES = 1 << 20
"""Bytes of content in a chunk: small against memory, large against the 16 bytes of its tag."""
MOST_CHUNK_BYTES = 1 << 24
MOST_CHUNKS = 1 << 32
"""A number of a chunk has four bytes: 4 PiB in one object."""
TAG_BYTES = 16
SECRET_BYTES = 32
_MAGIC = b"SALUSOBJ"
_FORMAT = 1
_HEAD = struct.Struct(">8sBI32s7s")
"""Magic, format, bytes in a chunk, salt of the key, start of every nonce."""
_CHECK_BYTES = 16
HEADER_BYTES = _HEAD.size + 2 * _CHECK_BYTES


class Readable(Protocol):
    """A stream to read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most this many bytes; none at the end."""
        ...


class Writable(Protocol):
    """A stream to write to."""

    def write(self, content: bytes, /) -> object:
        """Take all of these bytes."""
        ...


@dataclass(frozen=True)
class Sealed:
    """What sealing one object gave."""

    address: str
    """64 hex digits: HMAC-SHA256 of the content under the patient's own key, so equal files of two patients have unlike addresses."""
    content_bytes: int
    sealed_bytes: int


def derived(secret: bytes, purpose: bytes, *, salt: bytes = b"", length: int = SECRET_BYTES) -> bytes:
    """Return a key for one purpose.

    Source: RFC 5869 (HKDF), with SHA-256.
    """
    return HKDF(SHA256(), length, salt, b"salus " + purpose).derive(secret)


def sealed_length(content_bytes: int) -> int:
    """Return how long an object of this many bytes is when sealed.

    Example:
        >>> sealed_length(0) == HEADER_BYTES + TAG_BYTES
        True
    """
    chunks = max(1, -(-content_bytes // CHUNK_BYTES))
    return HEADER_BYTES + content_bytes + chunks * TAG_BYTES


def seal(content: Readable, out: Writable, secret: bytes) -> Sealed:
    """Write the sealed form of a stream and return its address; holds two chunks in memory.

    Args:
        content: read to its end.
        out: gets the header and the chunks.
        secret: (32,) bytes, the patient's key.

    Raises:
        StoreError: there are more than 2^32 chunks.
    """
    head = _HEAD.pack(_MAGIC, _FORMAT, CHUNK_BYTES, os.urandom(32), os.urandom(7))
    cipher, check, prefix, address = _tools(head, secret)
    out.write(head + check + _digest(head + check))
    number, content_bytes, sealed_bytes = 0, 0, HEADER_BYTES
    chunk = _read_fully(content, CHUNK_BYTES)
    while True:
        following = _read_fully(content, CHUNK_BYTES) if len(chunk) == CHUNK_BYTES else b""
        sealed = cipher.encrypt(_nonce(prefix, number, is_last=not following), chunk, None)
        out.write(sealed)
        address.update(chunk)
        content_bytes, sealed_bytes = content_bytes + len(chunk), sealed_bytes + len(sealed)
        if not following:
            return Sealed(address.hexdigest(), content_bytes, sealed_bytes)
        chunk, number = following, number + 1
        if number == MOST_CHUNKS:
            raise StoreError(f"Cannot seal the object: it has more than {MOST_CHUNKS * CHUNK_BYTES} bytes. Split it.")


def unseal(sealed: Readable, secret: bytes, address: str) -> Iterator[bytes]:
    """Yield the content of a sealed object, a chunk at a time, each checked; the last one only when the whole has its address.

    Raises:
        DamagedError: the bytes are not those that were written, or belong to another object.
        WrongKeyError: another key sealed it.
    """
    name = opaque(address)
    header = _read_fully(sealed, HEADER_BYTES)
    head, check, digest = header[: _HEAD.size], header[_HEAD.size : -_CHECK_BYTES], header[-_CHECK_BYTES:]
    if len(header) < HEADER_BYTES or digest != _digest(head + check):
        raise _damaged(name, "its header is cut short or changed")
    magic, version, chunk_bytes, _, _ = _HEAD.unpack(head)
    if magic != _MAGIC or version != _FORMAT or not 0 < chunk_bytes <= MOST_CHUNK_BYTES:
        raise StoreError(f"Cannot open object {name}: its format is {version}, this program reads {_FORMAT}. Use the matching version.")
    cipher, expected, prefix, content = _tools(head, secret)
    if not hmac.compare_digest(check, expected):
        raise WrongKeyError(f"Cannot open object {name}: another key sealed it. Use the key ring that it was written with.")
    number, chunk = 0, _read_fully(sealed, chunk_bytes + TAG_BYTES)
    while True:
        following = _read_fully(sealed, chunk_bytes + TAG_BYTES) if len(chunk) == chunk_bytes + TAG_BYTES else b""
        try:
            plain = cipher.decrypt(_nonce(prefix, number, is_last=not following), chunk, None)
        except InvalidTag:
            raise _damaged(name, f"chunk {number} is changed, out of its place, or what follows it is missing") from None
        content.update(plain)
        if not following and not hmac.compare_digest(content.hexdigest(), address):
            raise _damaged(name, "it holds another object's content")
        yield plain
        if not following:
            return
        chunk, number = following, number + 1


def opaque(address: str) -> str:
    """Return the short name of an address that messages show."""
    return address[:12]


def _tools(head: bytes, secret: bytes) -> tuple[AESGCM, bytes, bytes, hmac.HMAC]:
    """Return the object's cipher, the mark by which its key is known, the start of its nonces, and the hash that gives its address."""
    salt, prefix = _HEAD.unpack(head)[3:]
    both = derived(secret, b"object" + head, salt=salt, length=SECRET_BYTES + _CHECK_BYTES)
    address = hmac.new(derived(secret, b"address"), digestmod=hashlib.sha256)
    return AESGCM(both[:SECRET_BYTES]), both[SECRET_BYTES:], prefix, address


def _nonce(prefix: bytes, number: int, *, is_last: bool) -> bytes:
    return prefix + struct.pack(">IB", number, is_last)


def _digest(header: bytes) -> bytes:
    """Return the part of a hash that tells a changed header from a wrong key; it guards nothing."""
    return hashlib.sha256(header).digest()[:_CHECK_BYTES]


def _read_fully(stream: Readable, size: int) -> bytes:
    """Return this many bytes, fewer only at the end: a pipe or a socket may give less at a time."""
    first = stream.read(size)
    if len(first) == size or not first:
        return first
    parts, held = [first], len(first)
    while held < size and (part := stream.read(size - held)):
        parts.append(part)
        held += len(part)
    return b"".join(parts)


def _damaged(name: str, why: str) -> DamagedError:
    return DamagedError(f"Cannot read object {name}: {why}. Store the file again, or restore the object from a copy.")
