"""HL7 v2 in its vertical-bar encoding (ER7): a file into messages, segments, fields and components.

Takes a file of one message, many, or batches, with or without MLLP framing; gives messages one at a time, so memory stays bounded.
Knows no segment but those that frame others (FHS, BHS, MSH, BTS, FTS). Leaves out the XML encoding.

Source: HL7 v2.5.1, chapter 2: 2.5 (delimiters), 2.7 (escape sequences), 2.10.3 (batches), 2.15.9 (MSH), table 0211 (character sets).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from salus.errors import FormatError, InputError

SEGMENT_LIMIT_BYTES = 32 << 20
"""Longest segment that is kept; a document in base64 may be long."""
MESSAGE_LIMIT_BYTES = 128 << 20
"""Longest message that is kept."""
_CHUNK_BYTES = 1 << 20
_FRAMING = b"\x0b\x1c"
"""MLLP's start and end block (HL7 v2.5.1 implementation guide, appendix C)."""
_FRAMES = frozenset({"FHS", "BHS", "BTS", "FTS"})
CHARSETS = {
    "": "", "ASCII": "ascii", "8859/1": "iso8859-1", "8859/2": "iso8859-2", "8859/3": "iso8859-3", "8859/4": "iso8859-4",
    "8859/5": "iso8859-5", "8859/6": "iso8859-6", "8859/7": "iso8859-7", "8859/8": "iso8859-8", "8859/9": "iso8859-9",
    "8859/15": "iso8859-15", "UNICODE": "utf-8", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8", "GB 18030-2000": "gb18030",
    "BIG-5": "big5", "KS X 1001": "euc_kr", "CNS 11643-1992": "euc_tw",
}  # fmt: skip
"""Python's codec for each character set of table 0211 whose bytes keep the segment terminator apart; not stated: ASCII or UTF-8."""


@dataclass(frozen=True)
class Delimiters:
    """The five characters that MSH-1 and MSH-2 declare."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True)
class Segment:
    """One segment; fields count from 1, as the standard counts."""

    name: str
    parts: tuple[str, ...]
    """Raw fields; of MSH the first is MSH-1, the delimiter itself."""
    place: str
    """`message 2, OBX 3`."""
    delimiters: Delimiters = field(default_factory=Delimiters)

    def raw(self, number: int) -> str:
        """Return a field as written; empty when absent, or when it is the explicit null `""`."""
        written = self.parts[number - 1] if 0 < number <= len(self.parts) else ""
        return "" if written == '""' else written

    def repetitions(self, number: int) -> list[str]:
        """Return the repetitions of a field that hold something, as written."""
        return [each for each in self.raw(number).split(self.delimiters.repetition) if each not in ("", '""')]

    def components(self, written: str) -> tuple[str, ...]:
        """Return the components of one repetition, unescaped; a component's first sub-component stands for it."""
        mark = self.delimiters
        firsts = (each.split(mark.subcomponent)[0] for each in written.split(mark.component))
        return tuple("" if each == '""' else unescaped(each, mark).strip() for each in firsts)

    def text(self, number: int, component: int = 1) -> str:
        """Return one component of a field's first repetition, unescaped; empty when absent."""
        first = next(iter(self.repetitions(number)), "")
        found = self.components(first)
        return found[component - 1] if component <= len(found) else ""

    def whole(self, number: int) -> str:
        """Return a field of plain text, unescaped; its repetitions are lines."""
        return "\n".join(unescaped(each, self.delimiters) for each in self.raw(number).split(self.delimiters.repetition))

    @property
    def is_blank(self) -> bool:
        """Return whether no field but the set id holds anything."""
        return not any(part.strip() for part in self.parts[1:])


@dataclass(frozen=True)
class Message:
    """One message, or the reason why it cannot be read."""

    number: int
    """From 1, in the order of the file."""
    segments: tuple[Segment, ...] = ()
    refusal: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def header(self) -> Segment:
        """Return MSH."""
        return self.segments[0]

    @property
    def kind(self) -> str:
        """Return MSH-9 as type and trigger: `ORU^R01`; the type alone when no trigger is stated."""
        return "^".join(part for part in (self.header.text(9, 1), self.header.text(9, 2)) if part)


def starts_message(head: bytes) -> bool:
    r"""Return whether bytes begin an HL7 v2 message or batch: a header segment's name, its delimiter and its encoding characters.

    Example:
        >>> starts_message(b"\x0bMSH|^~\\&|A"), starts_message(b"MSH was high")
        (True, False)
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x0b\r\n\t ")
    return re.match(rb"(?:MSH|FHS|BHS)([^\w\s])(?!\1)[^\w\s]{1,5}\1", start) is not None


def read_messages(path: Path) -> Iterator[Message]:
    """Yield the messages of a file, one at a time.

    A message that cannot be split or decoded is yielded with its refusal, and the next one is read.

    Raises:
        InputError: the file cannot be opened.
        FormatError: it holds a segment or message over the limit.
    """
    pending: list[bytes] = []
    size = number = 0
    for line in _lines(path):
        if line[:3] == b"MSH" or line[:3].decode("ascii", "replace") in _FRAMES:
            if pending:
                number += 1
                yield _message(number, pending)
            pending, size = [], 0
            if line[:3] != b"MSH":
                continue
        elif not pending:
            continue
        pending.append(line)
        size += len(line)
        if size > MESSAGE_LIMIT_BYTES:
            raise FormatError(f"Cannot read HL7 v2 '{path.name}': message {number + 1} is over {MESSAGE_LIMIT_BYTES} bytes. Split it.")
    if pending:
        yield _message(number + 1, pending)


def promised_messages(path: Path) -> int | None:
    """Return how many messages the file's batch trailers promise together (BTS-1), or None when no trailer says."""
    promised: list[int] = []
    for line in _lines(path):
        found = re.match(rb"BTS[^\w\s]0*(\d{1,9})\b", line)
        if found:
            promised.append(int(found[1]))
    return sum(promised) if promised else None


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the segments of a file without terminator and framing: CR by the standard, CR LF or LF by habit."""
    rest = b""
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
                for line in whole:
                    yield _unframed(line)
                if len(rest) > SEGMENT_LIMIT_BYTES:
                    raise FormatError(
                        f"Cannot read HL7 v2 '{path.name}': a segment is over {SEGMENT_LIMIT_BYTES} bytes. Send the document apart."
                    )
    except OSError as error:
        raise InputError(f"Cannot read HL7 v2 '{path.name}': {error.strerror}. Check that the file is there and may be read.") from error
    yield _unframed(rest)


def _unframed(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf").strip(_FRAMING + b" \t")


def _message(number: int, lines: list[bytes]) -> Message:
    try:
        charset, remarks = _charset(lines)
        written = [line.decode(charset) for line in lines if line]
        mark = _delimiters(written[0])
    except UnicodeDecodeError as error:
        return Message(number, refusal=f"its text is not {error.encoding} at byte {error.start} of a segment")
    except FormatError as error:
        return Message(number, refusal=str(error))
    counts: dict[str, int] = {}
    segments = []
    for line in written:
        name, *parts = line.split(mark.field)
        if not re.fullmatch(r"[A-Z][A-Z0-9]{2}", name):
            remarks = (*remarks, "a line is no segment, and was left out")
            continue
        counts[name] = counts.get(name, 0) + 1
        parts = [mark.field, *parts] if name == "MSH" else parts
        segments.append(Segment(name, tuple(parts), f"message {number}, {name} {counts[name]}", mark))
    return Message(number, tuple(segments), remarks=tuple(dict.fromkeys(remarks)))


def _charset(lines: list[bytes]) -> tuple[str, tuple[str, ...]]:
    """Return the codec that MSH-18 names, and a remark when nothing was named and the bytes are not ASCII."""
    header = lines[0]
    if len(header) < 4:
        raise FormatError("its first segment is cut off before its delimiters")
    fields = header.split(header[3:4])
    stated = fields[17].split(b"~")[0].decode("ascii", "replace").strip() if len(fields) > 17 else ""
    if stated.upper() not in CHARSETS:
        raise FormatError("its character set (MSH-18) is not one that is read")
    if named := CHARSETS[stated.upper()]:
        return named, ()
    if all(line.isascii() for line in lines):
        return "ascii", ()
    return "utf-8", ("no character set is stated (MSH-18), and the text is not ASCII: read as UTF-8",)


def _delimiters(header: str) -> Delimiters:
    """Return what MSH-1 and MSH-2 declare.

    Raises:
        FormatError: two are the same, or fewer than the standard's four follow the first (a sub-component's may be left out).
    """
    own = header[3:4]
    found = header[4:].split(own)[0] if own else ""
    # v2.7 adds a truncation character; letters and digits cannot separate
    if not 3 <= len(found) <= 5 or len({own, *found}) != len(found) + 1 or any(mark.isalnum() or mark.isspace() for mark in own + found):
        raise FormatError("its delimiters (MSH-1 and MSH-2) are not those of a message")
    return Delimiters(own, found[0], found[1], found[2], found[3] if len(found) > 3 else "\x00")


def unescaped(written: str, mark: Delimiters) -> str:
    r"""Return text with its escape sequences resolved; sequences that only format are dropped, `.br` and `.sp` break the line.

    Source: HL7 v2.5.1, 2.7.

    Example:
        >>> unescaped(r"A\T\B \F\ \X41\ \H\bold\N\\.br\next", Delimiters())
        'A&B | A bold\nnext'
    """
    if mark.escape not in written:
        return written
    edge = re.escape(mark.escape)
    meant = {"F": mark.field, "S": mark.component, "T": mark.subcomponent, "R": mark.repetition, "E": mark.escape}

    def resolve(found: re.Match[str]) -> str:
        body = found[1]
        if body in meant:
            return meant[body]
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2}){1,200}", body):
            return bytes.fromhex(body[1:]).decode("utf-8", "replace")
        if re.match(r"\.(?:br|sp|ce)", body):
            return "\n"
        return "" if re.match(r"[HNZCM.]", body) else found[0]

    return re.sub(rf"{edge}([^{edge}\r\n]{{1,402}}?){edge}", resolve, written)
