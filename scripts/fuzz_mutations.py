"""Damages a file the way that transfers, exporters and attackers do: bits, lengths, tokens, lines, ends, and halves of two files.

Takes the bytes of a seed and of another one; gives damaged bytes. Knows no file format, only whether the bytes look like text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

MOST_BYTES = 1 << 20
"""No damaged file is larger."""
MARKER = "ZZMARKER"
"""Stands in the seeds where a patient's identifier would: no message may repeat it."""
NUMBERS = (b"0", b"-1", b"1e308", b"-1e999", b"nan", b"inf", b"0.0000001", b"4294967296", b"99999999999999999999999", b"")
WORDS = (
    *(b"", b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xf0\x9f\x98\x80", b"\xd8\x00", b"\r"),
    *(b"null", b"[]", b"{}", b'"', b"'", b"%s%n", b"../../x", b"1e5"),
)
NESTED = (b"[" * 20_000, b'{"a":' * 20_000, b"<a>" * 20_000, b"(" * 20_000)
INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
"""Edges of the integers that length fields are made of."""
NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
TOKEN = re.compile(rb"[^\s,;:\"|^~{}\[\]<>=]+")

Mutation = Callable[[random.Random, bytearray, bytes], None]


def damaged(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """Return the seed with one to five damages.

    Args:
        rng: gives the same damage for the same state.
        seed: the file.
        other: a second file of the format, for splices.
    """
    body = bytearray(seed)
    kinds = BINARY + TEXT if is_text(seed) else BINARY
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        rng.choice(kinds)(rng, body, other)
    return bytes(body[:MOST_BYTES])


def is_text(body: bytes) -> bool:
    r"""Return whether the first kilobyte is UTF-8 without control characters.

    Example:
        >>> is_text(b"time_s,hr\n0,80"), is_text(bytes(8))
        (True, False)
    """
    text = body[:1024].decode("utf-8", errors="ignore")
    return len(text) >= 0.9 * len(body[:1024]) and not any(ord(char) < 9 for char in text)


def _place(rng: random.Random, body: bytearray) -> int:
    """Return a position; the head, where lengths and types stand, is drawn more often."""
    size = max(1, len(body))
    return rng.randrange(min(size, rng.choice((64, 512, 4096, size))))


def _span(rng: random.Random, body: bytearray) -> tuple[int, int]:
    start = _place(rng, body)
    return start, min(len(body), start + rng.choice((1, 2, 4, 16, 128, 1024, len(body) // 3 + 1)))


def _flip_bits(rng: random.Random, body: bytearray, _other: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if body:
            body[_place(rng, body)] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, body: bytearray, _other: bytes) -> None:
    start, end = _span(rng, body)
    fill = rng.choice((b"\x00", b"\xff", None))
    body[start:end] = rng.randbytes(end - start) if fill is None else fill * (end - start)


def _blow_length(rng: random.Random, body: bytearray, _other: bytes) -> None:
    size, order = rng.choice((1, 2, 4, 4, 8)), rng.choice(("little", "big"))
    value = rng.choice((*INTEGERS, len(body), len(body) + 1, len(body) * 2, rng.getrandbits(32))) % (1 << (8 * size))
    at = _place(rng, body)
    body[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]


def _truncate(rng: random.Random, body: bytearray, _other: bytes) -> None:
    del body[rng.choice((_place(rng, body), rng.randrange(len(body) + 1))) :]


def _delete(rng: random.Random, body: bytearray, _other: bytes) -> None:
    start, end = _span(rng, body)
    del body[start:end]


def _repeat(rng: random.Random, body: bytearray, _other: bytes) -> None:
    start, end = _span(rng, body)
    body[start:start] = body[start:end] * rng.choice((1, 2, 50))


def _insert(rng: random.Random, body: bytearray, _other: bytes) -> None:
    at = _place(rng, body)
    body[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))


def _splice(rng: random.Random, body: bytearray, other: bytes) -> None:
    start = rng.randrange(len(other) + 1)
    at = rng.randrange(len(body) + 1)
    if rng.random() < 0.5:
        body[at:] = other[start:]
    else:
        body[at:at] = other[start : start + rng.choice((8, 64, 1024))]


def _swap_number(rng: random.Random, body: bytearray, _other: bytes) -> None:
    found = [match.span() for match in NUMBER.finditer(body[:65536])]
    if found:
        start, end = rng.choice(found)
        body[start:end] = rng.choice(NUMBERS)


def _swap_token(rng: random.Random, body: bytearray, other: bytes) -> None:
    found = [match.span() for match in TOKEN.finditer(body[:65536])]
    foreign = TOKEN.findall(other[:16384])
    if found:
        start, end = rng.choice(found)
        body[start:end] = rng.choice((rng.choice(WORDS), rng.choice(foreign or [b""]), bytes(body[slice(*rng.choice(found))])))


def _swap_lines(rng: random.Random, body: bytearray, _other: bytes) -> None:
    lines = bytes(body).splitlines(keepends=True)
    if lines:
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        how = rng.randrange(4)
        if how == 0:
            lines[a], lines[b] = lines[b], lines[a]
        elif how == 1:
            del lines[a]
        elif how == 2:
            lines[a:a] = [lines[b]] * rng.choice((1, 3, 500))
        else:
            lines[a] = lines[a].rstrip(b"\r\n")
        body[:] = b"".join(lines)


def _swap_separator(rng: random.Random, body: bytearray, _other: bytes) -> None:
    old, new = rng.sample((b",", b";", b"\t", b"\n", b" ", b":", b'"', b"|", b"/"), 2)
    body[:] = bytes(body).replace(old, new, rng.choice((1, 5, -1)))


def _insert_word(rng: random.Random, body: bytearray, _other: bytes) -> None:
    at = _place(rng, body)
    body[at:at] = rng.choice(NESTED) if rng.random() < 0.1 else rng.choice(WORDS)


BINARY: tuple[Mutation, ...] = (_flip_bits, _overwrite, _blow_length, _blow_length, _truncate, _delete, _repeat, _insert, _splice)
TEXT: tuple[Mutation, ...] = (_swap_number, _swap_number, _swap_token, _swap_token, _swap_lines, _swap_separator, _insert_word)
