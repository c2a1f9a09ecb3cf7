"""SCP-ECG (EN 1064, ISO 11073-91064): the rhythm of section 6, with the tables, leads and reference beats that it needs.

Takes a file; gives one waveform, the recorder's own intervals, age and sex. Checksums and every length are checked. Bimodal
compression, other rates than those of the reference beat, and interpretations (sections 8 and 11) are left out.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.normalised import lead_unit
from salus.record.patient import Instant, Item, Signal, Source
from salus.record.read.channels import Waveform, distinct, waveform_items
from salus.record.read.leads import in_millivolts
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.scp_huffman import Table, decode, from_differences, read_tables
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.read.stated_intervals import interval_items
from salus.record.read.stated_patient import stated_items

RECORD_HEADER, SECTION_HEADER, POINTER = 6, 16, 10
MOST_BYTES = 32 << 20
MOST_ADDED_BEATS = 200_000
"""Leads times beats that are put back after reference-beat subtraction."""
LEADS = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 9: "V7", 10: "V2R", 11: "V3R", 12: "V4R", 13: "V5R", 14: "V6R",
    15: "V7R", 16: "Vx", 17: "Vy", 18: "Vz", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 66: "V8", 67: "V9", 68: "V8R", 69: "V9R",
}  # fmt: skip
"""Lead numbers of EN 1064, table of lead identifications; others keep their number."""
AGE_YEARS = {1: 1.0, 2: 1 / 12, 3: 7 / 365.25, 4: 1 / 365.25, 5: 1 / 8766}
"""Years in a unit of age (years, months, weeks, days, hours)."""
SEX = {1: "male", 2: "female"}
UNKNOWN = frozenset((999, 29999, 0xFFFF))
"""Values of a measurement that was not made."""


@dataclass(frozen=True)
class Layout:
    """The sections of a file, checked."""

    path: Path
    bodies: dict[int, bytes]
    """Section number → its bytes after the header."""
    leads: tuple[tuple[str, int, int], ...]
    """Name, first and last sample (from 1) of each lead."""
    is_subtracted: bool
    """The reference beat was subtracted from the rhythm."""
    remarks: tuple[str, ...]


def recognises(_path: Path, head: bytes) -> bool:
    """Return whether section 0 stands where the standard puts it, with its mark."""
    return head[16:22] == b"SCPECG" and head[8:10] == b"\0\0"


def read_scp(path: Path, options: ReadOptions) -> FileRead:
    """Return the rhythm of an SCP-ECG file as one waveform, with the recorder's intervals, age and sex.

    Raises:
        FormatError: a section is truncated, absent or contradicts another, or a compression is not read.
        InputError: the file is larger than any electrocardiograph writes.

    Source: EN 1064:2005+A1:2007, sections 0 to 7 (clause 5.3 to 5.10); CRC-CCITT of clause 5.2.
    """
    refuse_empty(path)
    layout = _layout(path)
    sha256 = file_sha256(path)
    signal = _signal(layout)
    tags = _tags(layout.bodies.get(1, b""))
    observed_at = _started_at(tags)
    names = tuple(lead for lead, _, _ in layout.leads)
    waveform = Waveform(
        source=Source(str(path), sha256, "section 6"),
        system="scp",
        leads=names,
        sampling_rate_hz=signal.sampling_rate_hz,
        samples=signal.samples.shape[1],
        load=partial(_load, path),
        observed_at=observed_at,
        remarks=layout.remarks,
        normalised=lead_unit(names, ("nV",) * len(names), signal.units),
    )
    items: list[Item] = waveform_items(waveform, options.modality or modality_of("signal:ecg"))
    items += interval_items(Source(str(path), sha256, "section 7"), observed_at, _stated(layout.bodies.get(7, b"")))
    sex = SEX.get(tags[8][0]) if tags.get(8) else None
    items += stated_items(Source(str(path), sha256, "section 1"), observed_at, age=_age(tags), sex=sex)
    key = tags.get(2, b"").split(b"\0")[0].decode("latin-1").strip() or None
    return FileRead(found=(Found(key, tuple(items)),))


def _layout(path: Path) -> Layout:
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"Cannot read '{path.name}': it is larger than {MOST_BYTES >> 20} MiB, which no SCP-ECG file is. Check it.")
    content = path.read_bytes()
    if not recognises(path, content) or len(content) < RECORD_HEADER + SECTION_HEADER:
        raise _damaged(path, "section 0 is not there")
    crc, size = struct.unpack_from("<HI", content)
    if size > len(content):
        raise _damaged(path, f"it is truncated ({size} bytes are promised, {len(content)} are there)")
    remarks = [] if crc == _crc(content[2:size]) else ["the checksum of the file does not fit: it may have been altered"]
    if size < len(content):
        remarks.append(f"{len(content) - size} bytes after the record are not read")
    bodies = _sections(content, path, remarks)
    for number in (3, 6):
        if number not in bodies:
            raise _damaged(path, f"section {number} is not there")
    leads, flags = _leads(bodies[3], path)
    return Layout(path, bodies, leads, bool(flags & 1), tuple(remarks))


def _sections(content: bytes, path: Path, remarks: list[str]) -> dict[int, bytes]:
    """Return the body of each section that section 0 points to; a wrong checksum is remarked."""
    length = struct.unpack_from("<I", content, RECORD_HEADER + 4)[0]
    end = min(RECORD_HEADER + length, len(content))
    bodies: dict[int, bytes] = {}
    broken = []
    for at in range(RECORD_HEADER + SECTION_HEADER, end - POINTER + 1, POINTER):
        number, size, place = struct.unpack_from("<HII", content, at)
        if number == 0 or size == 0 or place == 0:
            continue
        start = place - 1
        if size < SECTION_HEADER or start + size > len(content) or number in bodies:
            raise _damaged(path, f"section {number} lies outside the file, or is there twice")
        if struct.unpack_from("<H", content, start + 2)[0] != number:
            raise _damaged(path, f"section {number} is not where section 0 says")
        if struct.unpack_from("<H", content, start)[0] != _crc(content[start + 2 : start + size]):
            broken.append(number)
        bodies[number] = content[start + SECTION_HEADER : start + size]
    if broken:
        remarks.append(f"the checksum of section {', '.join(map(str, sorted(broken)))} does not fit: it may have been altered")
    return bodies


def _crc(content: bytes) -> int:
    """Return the CRC-CCITT of EN 1064, clause 5.2: polynomial 0x1021, from 0xFFFF.

    Example:
        >>> hex(_crc(b"123456789"))
        '0x29b1'
    """
    return binascii.crc_hqx(content, 0xFFFF)


def _leads(body: bytes, path: Path) -> tuple[tuple[tuple[str, int, int], ...], int]:
    if len(body) < 2 or not body[0] or len(body) < 2 + 9 * body[0]:
        raise _damaged(path, "section 3 defines no lead, or is cut short")
    found = [struct.unpack_from("<IIB", body, 2 + 9 * place) for place in range(body[0])]
    if any(first < 1 or last < first for first, last, _ in found):
        raise _damaged(path, "a lead has no sample")
    names = distinct([LEADS.get(number, f"lead {number}") for _, _, number in found], file=path.name)
    return tuple((name, first, last) for name, (first, last, _) in zip(names, found, strict=True)), body[1]


def _load(path: Path, chosen: tuple[int, ...]) -> Signal:
    """Return the chosen leads, mV.

    Raises:
        FormatError: as `read_scp` says.
    """
    signal = _signal(_layout(path))
    leads, units = (tuple(each[row] for row in chosen) for each in (signal.leads, signal.units))
    return Signal(signal.samples[list(chosen)], leads, units, signal.sampling_rate_hz)


def _signal(layout: Layout) -> Signal:
    """Return all leads (C, S) on one time line, mV; NaN where a lead begins later or ends earlier than the others."""
    path = layout.path
    body = layout.bodies[6]
    counts = [last - first + 1 for _, first, last in layout.leads]
    is_bimodal = len(body) > 5 and body[5] == 1
    if is_bimodal:
        raise _damaged(path, "its rhythm is stored in two rates (bimodal compression), which is not read", "Export it without compression")
    nanovolts, interval_us, rows = _decoded(layout, 6, counts)
    scaled = [row.astype(np.float64) * nanovolts for row in rows]
    if layout.is_subtracted:
        _add_reference_beats(layout, scaled, interval_us)
    first, last = min(start for _, start, _ in layout.leads), max(end for _, _, end in layout.leads)
    if last - first + 1 > 4 * max(counts):
        raise _damaged(path, "its leads lie far apart in time")
    samples = np.full((len(rows), last - first + 1), np.nan, dtype=np.float32)
    for place, (row, (_, start, _)) in enumerate(zip(scaled, layout.leads, strict=True)):
        samples[place, start - first : start - first + len(row)] = row
    in_mv, units = in_millivolts(samples, ("nV",) * len(rows))
    return Signal(in_mv, tuple(name for name, _, _ in layout.leads), units, 1e6 / interval_us)


def _decoded(layout: Layout, section: int, counts: list[int]) -> tuple[float, int, list[NDArray[np.int64]]]:
    """Return nanovolts for one step, microseconds between samples, and the numbers of each lead."""
    path, body = layout.path, layout.bodies[section]
    header = 6 + 2 * len(counts)
    if len(body) < header:
        raise _damaged(path, f"section {section} is cut short")
    nanovolts, interval_us, order = struct.unpack_from("<HHB", body)
    if not nanovolts or not interval_us or order > 2:
        raise _damaged(path, f"section {section} states no amplitude, no rate, or an unknown encoding")
    sizes = struct.unpack_from(f"<{len(counts)}H", body, 6)
    if header + sum(sizes) > len(body):
        raise _damaged(path, f"the samples of section {section} are cut short")
    tables: list[Table] | None = read_tables(layout.bodies[2], file=path.name) if 2 in layout.bodies else None
    rows, at = [], header
    for count, size in zip(counts, sizes, strict=True):
        part = body[at : at + size]
        at += size
        if tables is not None:
            numbers = decode(part, count, tables, file=path.name)
        elif 2 * count > size:
            raise _damaged(path, f"a lead of section {section} holds {size // 2} samples, {count} are promised")
        else:
            numbers = np.frombuffer(part, dtype="<i2", count=count).astype(np.int64)
        rows.append(from_differences(numbers, order))
    return float(nanovolts), interval_us, rows


def _add_reference_beats(layout: Layout, rows: list[NDArray[np.float64]], interval_us: int) -> None:
    """Add the reference beat (type 0) back to each stretch from which it was subtracted; in place, nanovolts.

    Source: EN 1064:2005, 5.7 (section 4: length, fiducial point, stretches) and 5.8 (section 5).
    """
    path, zones = layout.path, layout.bodies.get(4, b"")
    if 5 not in layout.bodies or len(zones) < 6:
        raise _damaged(path, "a reference beat was subtracted, but sections 4 and 5 do not hold it")
    length_ms, fiducial, beats = struct.unpack_from("<HHH", zones)
    if len(zones) < 6 + 14 * beats or beats * len(rows) > MOST_ADDED_BEATS:
        raise _damaged(path, "the stretches of section 4 are cut short, or too many")
    length = round(length_ms * 1000 / interval_us)
    nanovolts, of_beat_us, reference = _decoded(layout, 5, [length] * len(rows))
    if of_beat_us != interval_us:
        raise _damaged(path, "the reference beat has another rate than the rhythm", "Export it without compression")
    for place in range(beats):
        kind, start, at, end = struct.unpack_from("<HIII", zones, 6 + 14 * place)
        if kind != 0:
            continue
        zero = at - fiducial + 1  # sample number (from 1) at which the reference beat begins
        for row, beat, (_, first, last) in zip(rows, reference, layout.leads, strict=True):
            low, high = max(start, first, zero), min(end, last, zero + length - 1)
            if low <= high:
                row[low - first : high - first + 1] += beat[low - zero : high - zero + 1] * nanovolts


def _tags(body: bytes) -> dict[int, bytes]:
    """Return the tagged fields of section 1, the first of each tag; what follows a broken one is left."""
    tags: dict[int, bytes] = {}
    at = 0
    while at + 3 <= len(body) and body[at] != 255:
        tag, size = struct.unpack_from("<BH", body, at)
        if at + 3 + size > len(body):
            break
        tags.setdefault(tag, body[at + 3 : at + 3 + size])
        at += 3 + size
    return tags


def _age(tags: dict[int, bytes]) -> float | None:
    field = tags.get(4, b"")
    return struct.unpack_from("<H", field)[0] * AGE_YEARS[field[2]] if len(field) >= 3 and field[2] in AGE_YEARS else None


def _started_at(tags: dict[int, bytes]) -> Instant | None:
    """Return when the recording began: date (tag 25), time (26), and minutes east of UTC (34), where they are there."""
    date, time, zone = tags.get(25, b""), tags.get(26, b""), tags.get(34, b"")
    if len(date) < 4:
        return None
    offset_min = struct.unpack_from("<h", zone)[0] if len(zone) >= 2 else None
    is_stated = offset_min is not None and abs(offset_min) <= 780
    try:
        tz = timezone(timedelta(minutes=offset_min or 0)) if is_stated else UTC
        clock = (time[0], time[1], time[2]) if len(time) >= 3 else (0, 0, 0)
        at = datetime(struct.unpack_from("<H", date)[0], date[2], date[3], *clock, tzinfo=tz)
    except ValueError:
        return None
    return Instant(at, "second" if len(time) >= 3 else "day", zone_is_stated=is_stated)


def _stated(body: bytes) -> dict[str, float]:
    """Return rate and intervals from the global measurements of section 7 (milliseconds from the start of the reference beat)."""
    if len(body) < 6:
        return {}
    blocks, spikes, rr_ms = struct.unpack_from("<BBH", body)
    stated = {"heart_rate": 60_000 / rr_ms} if rr_ms and rr_ms not in UNKNOWN else {}
    if not blocks or len(body) < 6 + 16 * blocks:
        return stated
    p_on, _, qrs_on, qrs_off, t_off = struct.unpack_from("<5H", body, 6)
    spans = {"pr": (p_on, qrs_on), "qrs": (qrs_on, qrs_off), "qt": (qrs_on, t_off)}
    stated |= {name: float(end - start) for name, (start, end) in spans.items() if not {start, end} & UNKNOWN and end > start}
    at = 6 + 16 * blocks + 10 * spikes
    if len(body) >= at + 2:
        at += 2 + struct.unpack_from("<H", body, at)[0]
        if len(body) >= at + 6 and (qtc := struct.unpack_from("<H", body, at + 4)[0]) not in UNKNOWN:
            stated["qtc"] = float(qtc)
    return stated


def _damaged(path: Path, why: str, what_to_do: str = "Copy or export it again") -> FormatError:
    return FormatError(f"Cannot read '{path.name}' as SCP-ECG: {why}. {what_to_do}.")


READER = Reader(name="scp", title="SCP-ECG", recognises=recognises, read=read_scp, priority=10)
