"""Writes SCP-ECG files for the tests, from the clauses of EN 1064, apart from the reader: default Huffman table, differences, beats."""

from __future__ import annotations

import binascii
import struct

import numpy as np

UNDEFINED = 29999


def bits_of(number: int) -> str:
    """Return a number in the default Huffman table: k ones, a zero, the sign; larger ones as 8 or 16 bits after a mark."""
    if number == 0:
        return "0"
    if abs(number) <= 8:
        return "1" * abs(number) + "0" + ("1" if number < 0 else "0")
    if -128 <= number < 128:
        return "1111111110" + f"{number & 0xFF:08b}"
    return "1111111111" + f"{number & 0xFFFF:016b}"


def packed(numbers: np.ndarray, *, huffman: bool) -> bytes:
    if not huffman:
        return numbers.astype("<i2").tobytes()
    bits = "".join(bits_of(int(number)) for number in numbers)
    bits += "0" * (-len(bits) % 16)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def differences(samples: np.ndarray, order: int) -> np.ndarray:
    out = samples.astype(np.int64)
    return out if order == 0 else np.concatenate((out[:order], np.diff(out, order)))


def section(number: int, body: bytes, reserved: bytes = bytes(6)) -> bytes:
    body += b"\0" * (len(body) % 2)
    rest = struct.pack("<HIBB", number, 16 + len(body), 20, 20) + reserved + body
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def samples_section(number: int, rows: np.ndarray, *, nanovolts: int, interval_us: int, order: int, huffman: bool) -> bytes:
    parts = [packed(differences(row, order), huffman=huffman) for row in rows]
    head = struct.pack("<HHBB", nanovolts, interval_us, order, 0) + struct.pack(f"<{len(parts)}H", *map(len, parts))
    return section(number, head + b"".join(parts))


def tag(number: int, value: bytes) -> bytes:
    return struct.pack("<BH", number, len(value)) + value


PATIENT = (
    tag(0, b"Surname\0") + tag(2, b"key-7\0") + tag(4, struct.pack("<HB", 81, 1)) + tag(8, b"\2")
    + tag(25, struct.pack("<HBB", 1990, 10, 1)) + tag(26, bytes((11, 30, 5))) + tag(255, b"")
)  # fmt: skip
MEASURED = struct.pack("<BBHH", 1, 0, 1000, UNDEFINED) + struct.pack("<5H3h", 100, 200, 260, 350, 660, 1, 2, 3)


def written(
    rows: np.ndarray,
    leads: tuple[int, ...],
    *,
    order: int = 2,
    huffman: bool = True,
    beat: tuple[np.ndarray, int, list[tuple[int, int, int]]] | None = None,
) -> bytes:
    """Return a file of (C, S) whole numbers at 500 Hz, 2500 nV a step; `beat` is (C, B) reference, its fiducial, (start, at, end)."""
    stored = rows.astype(np.int64).copy()
    length = rows.shape[1]
    places = b"".join(struct.pack("<IIB", 1, length, lead) for lead in leads)
    sections = [section(1, PATIENT), section(3, bytes((len(leads), 4 | len(leads) << 3 | (beat is not None))) + places)]
    if huffman:
        sections.append(section(2, struct.pack("<H", 19999)))
    if beat is not None:
        reference, fiducial, zones = beat[0].astype(np.int64), beat[1], beat[2]
        for start, at, end in zones:  # sample numbers from 1
            zero = at - fiducial + 1
            stored[:, start - 1 : end] -= reference[:, start - zero : end - zero + 1]
        head = struct.pack("<HHH", reference.shape[1] * 2, fiducial, len(zones))
        sections.append(section(4, head + b"".join(struct.pack("<HIII", 0, *zone) for zone in zones)))
        sections.append(samples_section(5, reference, nanovolts=2500, interval_us=2000, order=order, huffman=huffman))
    sections.append(samples_section(6, stored, nanovolts=2500, interval_us=2000, order=order, huffman=huffman))
    sections.append(section(7, MEASURED))
    pointers_size = 16 + 10 * (len(sections) + 1)
    place, pointers = 6 + pointers_size + 1, struct.pack("<HII", 0, pointers_size, 7)
    for part in sections:
        number = struct.unpack_from("<H", part, 2)[0]
        pointers += struct.pack("<HII", number, len(part), place)
        place += len(part)
    first = section(0, pointers, b"SCPECG")
    rest = struct.pack("<I", 6 + len(first) + sum(map(len, sections))) + first + b"".join(sections)
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest
