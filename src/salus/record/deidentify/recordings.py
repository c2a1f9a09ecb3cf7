"""De-identifies EDF, EDF+ and BDF: who and when in the header, free fields of the channels, and the text of annotations.

Takes a file and a `Work`; samples are copied as they are. An annotation in which something is found keeps its length, so that every record
keeps its place. What follows no format (a list without an onset, bytes after the last record) is not copied.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from salus.errors import InputError
from salus.record.deidentify.dates import later
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.text import clean, left_over
from salus.record.deidentify.work import Done, Person, Work, in_words
from salus.record.read.edf import ANNOTATIONS, MONTHS, WIDTHS, Layout, read_layout
from salus.record.read.edf_annotations import ONSET, marks_of

PATIENT, RECORDING, DATE, TIME, RESERVED = slice(8, 88), slice(88, 168), slice(168, 176), slice(176, 184), slice(192, 236)
KINDS = (b"EDF+C", b"EDF+D", b"BDF+C", b"BDF+D", b"24BIT")
"""What may stand in the reserved field of the header (EDF+ specification 2.1.3; BioSemi's description of BDF)."""
SPAN = range(1985, 2085)
"""Years that two digits can say (EDF+ specification 2.1.3.2)."""
LIMITS = {3: ("-1", "-1"), 4: ("1", "1"), 5: ("-32768", "-8388608"), 6: ("32767", "8388607")}
"""Physical and digital limits of a channel of annotations, in EDF+ and BDF+."""
REMOVED = b"[removed]"


def survey_edf(path: Path) -> tuple[Person, ...]:
    """Return whom the patient field names: code, birth date and name in EDF+, else the whole free field.

    Source: EDF+ specification 2.1.3.3.

    Raises:
        FormatError: the header is damaged, or data are missing.
    """
    layout = read_layout(path)
    with path.open("rb") as stream:
        fixed = stream.read(256)
    words = fixed[PATIENT].decode("latin-1").split()
    if layout.subject_id is None:
        return ()
    if not _is_plus(fixed):
        numbers = frozenset(word for word in words if any(char.isdigit() for char in word))
        name = " ".join(word for word in words if word not in numbers and word != "X")
        return (Person(layout.subject_id, {Kind.RECORD: numbers, Kind.NAME: frozenset({name} - {""})}),)
    code, _, born, name = [*words, *["X"] * 4][:4]
    found = re.fullmatch(r"(\d{2})-([A-Z]{3})-(\d{4})", born.upper())
    is_date = found is not None and found[2] in MONTHS
    return (
        Person(
            layout.subject_id,
            {
                Kind.RECORD: frozenset({code} - {"X"}),
                Kind.NAME: frozenset({name.replace("_", " ")} - {"X"}),
                Kind.DATE: frozenset({f"{found[3]}-{MONTHS.index(found[2]) + 1:02}-{found[1]}"} if found and is_date else ()),
            },
        ),
    )


def deidentify_edf(path: Path, target: Path, work: Work) -> Done:
    """Write a recording: patient and recording field anew, the start moved, free fields and annotations searched.

    Raises:
        FormatError: the header is damaged, or data are missing.
        InputError: the moved start is a date that the format cannot say.
    """
    layout, counts = read_layout(path), Counter[tuple[str, str]]({("header", "replaced"): 1})
    with path.open("rb") as source, target.open("wb") as new:
        new.write(_header(source.read(layout.data_offset), layout, work, counts))
        for block in _records(layout):
            new.write(_record(block, layout, work, counts))
    return Done((target,), counts)


def _records(layout: Layout) -> Iterator[bytes]:
    with layout.path.open("rb") as stream:
        stream.seek(layout.data_offset)
        for _ in range(layout.records):
            yield stream.read(layout.record_bytes)


def _is_plus(fixed: bytes) -> bool:
    return fixed[RESERVED][:4] in (b"EDF+", b"BDF+")


def _field(text: str, width: int) -> bytes:
    return text.encode("ascii", "replace")[:width].ljust(width)


def _header(old: bytes, layout: Layout, work: Work, counts: Counter[tuple[str, str]]) -> bytes:
    new = bytearray(old)
    date, started = b"01.01.85", "X"  # what EDF+ prescribes for a date that is not told
    new[TIME] = b"00.00.00"
    if layout.started_at is not None:
        at = later(layout.started_at.at.date(), work.key.days(work.subject))
        if at.year not in SPAN:
            raise InputError(f"Cannot de-identify '{layout.path.name}': EDF cannot say its moved date, before 1985. Leave it out.")
        date, started = at.strftime("%d.%m.%y").encode(), f"{at.day:02}-{MONTHS[at.month - 1]}-{at.year}"
        new[TIME] = re.sub(rb"[^0-9.:]", b"0", old[TIME])
        counts["date", "moved"] += 1
    who = f"{work.pseudonym} {layout.sex or 'X'} X X" if _is_plus(old) else "X X X X"  # a plain file's patient is told by its folder
    new[PATIENT], new[RECORDING], new[DATE] = _field(who, 80), _field(f"Startdate {started} X X X", 80), date
    new[RESERVED] = (old[RESERVED][:5] if old[RESERVED][:5] in KINDS else b"").ljust(44)
    start, channels = 256, len(layout.channels)
    for place, width in enumerate(WIDTHS):
        for number, channel in enumerate(layout.channels):
            at_byte = slice(start + width * number, start + width * (number + 1))
            if channel.label in ANNOTATIONS and place in LIMITS:
                new[at_byte] = _field(LIMITS[place][layout.sample_bytes == 3], width)
            elif channel.label not in ANNOTATIONS or place == 9:
                new[at_byte] = _channel_field(old[at_byte], place, work, counts)
        start += width * channels
    return bytes(new)


def _channel_field(old: bytes, place: int, work: Work, counts: Counter[tuple[str, str]]) -> bytes:
    """Return one field of a channel: 0 label, 1 transducer, 2 dimension, 3 to 6 limits, 7 filters, 8 samples, 9 reserved."""
    if place == 9:
        return b" " * len(old)
    if place not in (0, 1, 2, 7):
        return old
    text = old.decode("latin-1").strip()
    cleaned = clean(text, work.person)
    counts.update(cleaned.counts)
    if cleaned.text == text:
        return _field(text.encode("ascii", "replace").decode(), len(old))
    return _field(cleaned.text if len(cleaned.text) <= len(old) and place else "", len(old))


def _record(block: bytes, layout: Layout, work: Work, counts: Counter[tuple[str, str]]) -> bytes:
    new = bytearray(block)
    for channel in layout.channels:
        if channel.label in ANNOTATIONS:
            place = slice(channel.offset, channel.offset + channel.samples * layout.sample_bytes)
            new[place] = b"\0".join(_listed(one, work, counts) for one in block[place].split(b"\0"))
    return bytes(new)


def _listed(old: bytes, work: Work, counts: Counter[tuple[str, str]]) -> bytes:
    """Return one time-stamped list of the same length, its texts searched; what is no such list becomes zeros."""
    head, *texts = old.split(b"\x14")
    onset, _, duration = head.partition(b"\x15")
    if not texts or not ONSET.fullmatch(onset) or not re.fullmatch(rb"[\d.]*", duration):
        return b"\0" * len(old)
    return b"\x14".join([head, *(_text(text, work, counts) for text in texts)])


def _text(old: bytes, work: Work, counts: Counter[tuple[str, str]]) -> bytes:
    text = old.decode("utf-8", errors="replace")
    cleaned = clean(text, work.person)
    counts.update(cleaned.counts)
    new = cleaned.text.encode()
    if new == old:
        return old
    shorter = re.sub(r"-[0-9A-F]{6}\]", "]", cleaned.text).encode()  # which of several it was is given up for its place
    kept = next((each for each in (new, shorter, REMOVED) if len(each) <= len(old)), b"")
    return kept.ljust(len(old), b" " if kept else b"-")


def check_edf(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a recording may not be delivered: a field is not as it should be, or an identifier is left in a text."""
    old, new = read_layout(path), read_layout(target)
    left: Counter[str] = Counter()
    with path.open("rb") as was, target.open("rb") as now:
        before, after = was.read(old.data_offset), now.read(new.data_offset)
    wanted = _header(before, old, work, Counter())
    left["header"] += after != wanted
    left["bytes"] += target.stat().st_size != new.data_offset + new.records * new.record_bytes
    free = [(0, 16), (16, 80), (96, 8), (136, 80)]
    for offset, width in free:
        at = 256 + offset * len(old.channels)
        texts = [
            " ; ".join(header[at + width * n : at + width * (n + 1)].decode("latin-1").strip() for n in range(len(old.channels)))
            for header in (before, after)
        ]
        left.update(left_over(texts[0], texts[1], work.person))
    for one, other in zip(_records(old), _records(new), strict=True):
        for channel in old.channels:
            if channel.label in ANNOTATIONS:
                place = slice(channel.offset, channel.offset + channel.samples * old.sample_bytes)
                texts = [" ; ".join(words for _, words in marks_of(block[place])) for block in (one, other)]
                left.update(left_over(texts[0], texts[1], work.person) if texts[1] else Counter())
    return in_words(left)
