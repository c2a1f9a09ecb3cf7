"""Decoding of the samples of SCP-ECG: Huffman tables, the default one, and differences of first and second order.

Takes bytes; gives whole numbers. Every read is bounded by the bytes that are there. Knows no section of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError

DEFAULT_TABLE_CODE = 19999
"""Number of tables that stands for the default table of the standard."""


@dataclass(frozen=True)
class Entry:
    """What one prefix stands for."""

    value: int
    extra_bits: int
    """Bits after the prefix that hold a number in two's complement, to be added to `value`."""
    switches: bool = False
    """The value is the number of the table to go on with."""


Table = dict[str, Entry]
"""Entries by their prefix, written as `0` and `1` in the order of transmission."""


def default_table() -> Table:
    """Return the table of EN 1064 annex C: 0; ±1 to ±8; then 8 or 16 bits as they are.

    Example:
        >>> table = default_table()
        >>> table["0"].value, table["100"].value, table["101"].value, table["1111111110"].extra_bits
        (0, 1, -1, 8)
    """
    table = {"0": Entry(0, 0), "1111111110": Entry(0, 8), "1111111111": Entry(0, 16)}
    for size in range(1, 9):
        table["1" * size + "00"] = Entry(size, 0)
        table["1" * size + "01"] = Entry(-size, 0)
    return table


def read_tables(body: bytes, *, file: str) -> list[Table]:
    """Return the Huffman tables of section 2.

    Raises:
        FormatError: a table is cut short or has no use.

    Source: EN 1064:2005, 5.5 (number of tables; for each the number of codes; for each prefix bits, all bits, mode, value, code).
    """
    if len(body) < 2:
        raise _broken(file, "its Huffman tables are cut short")
    count = struct.unpack_from("<H", body)[0]
    if count == DEFAULT_TABLE_CODE:
        return [default_table()]
    tables, at = [], 2
    for _ in range(count):
        if at + 2 > len(body):
            raise _broken(file, "its Huffman tables are cut short")
        codes = struct.unpack_from("<H", body, at)[0]
        at += 2
        if at + 9 * codes > len(body) or not codes:
            raise _broken(file, "its Huffman tables are cut short")
        table: Table = {}
        for place in range(at, at + 9 * codes, 9):
            prefix_bits, all_bits, mode, value, code = struct.unpack_from("<BBBhI", body, place)
            if not 1 <= prefix_bits <= 32 or not prefix_bits <= all_bits <= prefix_bits + 32:
                raise _broken(file, "a Huffman code has an impossible length")
            prefix = f"{code & ((1 << prefix_bits) - 1):0{prefix_bits}b}"[::-1]  # the first bit stands in the lowest place
            table[prefix] = Entry(value, all_bits - prefix_bits, switches=mode == 0)
        tables.append(table)
        at += 9 * codes
    if not tables:
        raise _broken(file, "it names no Huffman table")
    return tables


def decode(content: bytes, count: int, tables: Sequence[Table], *, file: str) -> NDArray[np.int64]:
    """Return `count` numbers from a stream of bits, the highest bit of each byte first.

    Raises:
        FormatError: the bits end early, or fit no code.

    Example:
        >>> decode(bytes([0b01001010]), 3, [default_table()], file="a.scp").tolist()
        [0, 1, -1]
    """
    if count > 8 * len(content):
        raise _broken(file, f"{count} samples cannot stand in {len(content)} bytes")
    bits = "".join(f"{byte:08b}" for byte in content)
    numbers = np.empty(count, dtype=np.int64)
    table = tables[0]
    lengths = sorted({len(prefix) for prefix in table})
    at = done = 0
    while done < count:
        for length in lengths:
            entry = table.get(bits[at : at + length])
            if entry is not None:
                break
        else:
            raise _broken(file, "its bits fit no Huffman code, or end early")
        at += length
        if entry.switches:
            if not 1 <= entry.value <= len(tables):
                raise _broken(file, "it goes on with a Huffman table that is not there")
            table = tables[entry.value - 1]
            lengths = sorted({len(prefix) for prefix in table})
            continue
        number = entry.value
        if entry.extra_bits:
            extra = bits[at : at + entry.extra_bits]
            if len(extra) < entry.extra_bits:
                raise _broken(file, "its bits end early")
            number += int(extra, 2) - (1 << entry.extra_bits if extra[0] == "1" else 0)
            at += entry.extra_bits
        numbers[done] = number
        done += 1
    return numbers


def from_differences(numbers: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Return the samples whose differences of order 0, 1 or 2 these are; sums wrap at 16 bits, as encoders compute.

    Source: EN 1064:2005, 5.8.5: d[n] = x[n] − x[n−1]; d[n] = x[n] − 2 x[n−1] + x[n−2], the first one or two as they are.

    Example:
        >>> from_differences(np.array([5, 2, -1]), 1).tolist(), from_differences(np.array([5, 7, 1, 0]), 2).tolist()
        ([5, 7, 6], [5, 7, 10, 13])
    """
    if order == 0 or len(numbers) < 2:
        return numbers
    if order == 1:
        summed = np.cumsum(numbers)
    else:
        steps = np.concatenate(([numbers[1] - numbers[0]], numbers[2:]))
        summed = numbers[0] + np.concatenate(([0], np.cumsum(np.cumsum(steps))))
    return np.asarray(summed.astype(np.int16), dtype=np.int64)


def _broken(file: str, why: str) -> FormatError:
    return FormatError(f"Cannot read '{file}' as SCP-ECG: {why}. Copy or export it again.")
