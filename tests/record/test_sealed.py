"""The sealed form: round trips at every edge, and every way to damage it is found; the cipher is checked against `cryptography` itself."""

from __future__ import annotations

import hashlib
import hmac
import io
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import DamagedError, StoreError, WrongKeyError
from salus.record import sealed as form
from salus.record.sealed import HEADER_BYTES, TAG_BYTES, Sealed, seal, sealed_length, unseal

SECRET, OTHER = b"k" * 32, b"o" * 32
SMALL = 64
"""Bytes of a chunk in these tests."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "CHUNK_BYTES", SMALL)


def made(content: bytes, secret: bytes = SECRET) -> tuple[bytes, Sealed]:
    out = io.BytesIO()
    sealed = seal(io.BytesIO(content), out, secret)
    return out.getvalue(), sealed


def opened(sealed: bytes, address: str, secret: bytes = SECRET) -> bytes:
    return b"".join(unseal(io.BytesIO(sealed), secret, address))


EDGES = st.sampled_from([n * SMALL + d for n in (1, 2, 3) for d in (-1, 0, 1)] + [0, 1])


@given(EDGES | st.integers(0, 500), st.randoms(use_true_random=False))
def test_round_trip(length: int, source) -> None:  # type: ignore[no-untyped-def]
    form.CHUNK_BYTES = SMALL
    content = source.randbytes(length)
    raw, sealed = made(content)
    assert opened(raw, sealed.address) == content
    assert len(raw) == sealed.sealed_bytes == sealed_length(length) and sealed.content_bytes == length


class Dribble:
    """A stream that gives a few bytes at a time, as a socket may."""

    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(min(size, 7) if size >= 0 else 7)


def test_a_stream_that_dribbles_gives_the_same() -> None:
    content = bytes(range(200))
    out = io.BytesIO()
    sealed = seal(Dribble(content), out, SECRET)
    assert b"".join(unseal(Dribble(out.getvalue()), SECRET, sealed.address)) == content
    assert sealed.address == made(content)[1].address


def test_form_is_the_documented_one() -> None:
    """Opened here by the description alone: HKDF-SHA256, AES-256-GCM, nonce = prefix, number, last; address = keyed hash."""
    content = b"a" * SMALL + b"b"
    raw, sealed = made(content)
    head = raw[:52]
    assert head[:8] == b"SALUSOBJ" and head[8] == 1 and int.from_bytes(head[9:13], "big") == SMALL
    salt, prefix = head[13:45], head[45:52]
    both = HKDF(SHA256(), 48, salt, b"salus object" + head).derive(SECRET)
    assert raw[52:68] == both[32:] and raw[68:84] == hashlib.sha256(raw[:68]).digest()[:16]
    cipher = AESGCM(both[:32])
    first, last = raw[84 : 84 + SMALL + 16], raw[84 + SMALL + 16 :]
    assert cipher.decrypt(prefix + b"\0\0\0\0\0", first, None) == b"a" * SMALL
    assert cipher.decrypt(prefix + b"\0\0\0\1\1", last, None) == b"b"
    address_key = HKDF(SHA256(), 32, b"", b"salus address").derive(SECRET)
    assert sealed.address == hmac.new(address_key, content, "sha256").hexdigest()


def test_equal_content_of_two_patients_has_nothing_in_common() -> None:
    (one, first), (two, second) = made(b"x" * 100), made(b"x" * 100, OTHER)
    assert first.address != second.address and one[13:] != two[13:]
    assert made(b"x" * 100)[0] != one, "a fresh key and nonce for each write"


START, STEP = HEADER_BYTES, SMALL + TAG_BYTES
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "tail missing": lambda raw: raw[:-1],
    "last chunk missing": lambda raw: raw[: HEADER_BYTES + 2 * STEP],
    "all chunks missing": lambda raw: raw[:HEADER_BYTES],
    "header cut": lambda raw: raw[:40],
    "nothing left": lambda raw: b"",
    "chunks swapped": lambda raw: raw[:START] + raw[START + STEP :][:STEP] + raw[START:][:STEP] + raw[START + 2 * STEP :],
    "chunk repeated": lambda raw: raw[: HEADER_BYTES + STEP] + raw[HEADER_BYTES:],
    "first chunk left out": lambda raw: raw[:HEADER_BYTES] + raw[HEADER_BYTES + STEP :],
    "something appended": lambda raw: raw + b"\0" * STEP,
    "one byte appended": lambda raw: raw + b"\0",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(damage: str) -> None:
    raw, sealed = made(b"0123456789" * 16)
    with pytest.raises(DamagedError, match=rf"^Cannot read object {sealed.address[:12]}: .*restore the object from a copy\.$"):
        opened(DAMAGE[damage](raw), sealed.address)


@pytest.mark.parametrize("length", [0, 1, SMALL, 2 * SMALL + 5])
def test_every_flipped_bit_is_found(length: int) -> None:
    raw, sealed = made(b"z" * length)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 8
        with pytest.raises(DamagedError):
            opened(bytes(changed), sealed.address)


def test_nothing_of_a_damaged_chunk_comes_out() -> None:
    raw, sealed = made(b"a" * SMALL + b"b" * SMALL + b"c")
    changed = bytearray(raw)
    changed[HEADER_BYTES + STEP] ^= 1
    chunks = unseal(io.BytesIO(bytes(changed)), SECRET, sealed.address)
    assert next(chunks) == b"a" * SMALL
    with pytest.raises(DamagedError, match=r"chunk 1 is changed"):
        next(chunks)


def test_another_objects_content_under_this_address_is_found_before_its_end() -> None:
    raw, _ = made(b"a" * SMALL + b"b")
    _, other = made(b"other")
    chunks = unseal(io.BytesIO(raw), SECRET, other.address)
    next(chunks)
    with pytest.raises(DamagedError, match=r"it holds another object's content"):
        next(chunks)


def test_wrong_key_is_told_from_damage() -> None:
    raw, sealed = made(b"content")
    with pytest.raises(WrongKeyError, match=r"^Cannot open object \w{12}: another key sealed it\. Use the key ring"):
        opened(raw, sealed.address, OTHER)


def test_a_later_format_is_refused() -> None:
    raw, sealed = made(b"content")
    header = raw[:8] + b"\x09" + raw[9:68]
    with pytest.raises(StoreError, match=r"its format is 9, this program reads 1\. Use the matching version\."):
        opened(header + hashlib.sha256(header).digest()[:16] + raw[84:], sealed.address)
