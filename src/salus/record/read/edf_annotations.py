"""Time-stamped annotation lists of EDF+ and BDF+.

Takes the bytes of an annotation channel, record by record; gives annotations and the start of each record. Reads no header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from salus.errors import FormatError

Mark = tuple[float, str]
"""Seconds from the start of the file, and the annotation's text."""
ONSET = re.compile(rb"[+-]\d+(?:\.\d*)?")
MOST_TEXT = 400
"""Characters of one annotation that are kept."""


def marks_of(block: bytes) -> list[Mark]:
    r"""Return the annotations of one record: each text with the onset of its list; lists that only keep time give none.

    What does not follow the format is passed over: an annotation is never guessed.

    Source: EDF+ specification 2.2.2: `onset 0x15 duration 0x14 text 0x14 … 0x14 0x00`.

    Example:
        >>> marks_of(b"+0\x14\x14\x00+30\x1530\x14Sleep stage W\x14\x00")
        [(30.0, 'Sleep stage W')]
    """
    marks = []
    for listed in block.split(b"\0"):
        head, *texts = listed.split(b"\x14")
        onset = head.split(b"\x15")[0]
        if ONSET.fullmatch(onset) and len(onset) < 32:
            marks += [(float(onset), words) for text in texts if (words := _words(text))]
    return marks


def records_start_s(blocks: Sequence[bytes], record_s: float, *, file: str) -> tuple[float, ...]:
    r"""Return where each record begins, seconds from the start of the file: the first list of each record keeps time.

    Raises:
        FormatError: a record states no time, or begins before the one before it has ended.

    Example:
        >>> records_start_s([b"+0\x14\x14\x00", b"+5.5\x14\x14\x00"], 1.0, file="a.edf")
        (0.0, 5.5)
    """
    starts: list[float] = []
    for number, block in enumerate(blocks, start=1):
        onset = block.split(b"\x14", 1)[0]
        if len(onset) >= 32 or not ONSET.fullmatch(onset):
            raise FormatError(f"Cannot read '{file}' as EDF or BDF: data record {number} states no time. Export it again.")
        start = float(onset)
        if not math.isfinite(start) or (starts and start < starts[-1] + record_s - 1e-3):
            raise FormatError(
                f"Cannot read '{file}' as EDF or BDF: data record {number} begins before the one before it ends. Export it again."
            )
        starts.append(start)
    return tuple(starts)


def _words(text: bytes) -> str:
    return " ".join(text.decode("utf-8", errors="replace").split())[:MOST_TEXT]
