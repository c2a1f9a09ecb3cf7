"""EDF, EDF+ and BDF: recordings of channels at their own rates, with annotations and, in EDF+D, gaps.

Takes a file; gives one waveform for each rate and modality, channel labels kept as the montage, the annotations with each, and
a report when there are only annotations. Samples load lazily. Of the patient only a key and the sex are taken. Filters nothing.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, UnitError
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Instant, Item, Signal, Skipped, Source, item_id
from salus.record.read.channels import Waveform, distinct, kind_of, waveform_items
from salus.record.read.edf_annotations import Mark, marks_of, records_start_s
from salus.record.read.leads import LEADS, in_millivolts, lead_name, ucum_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.read.stated_patient import stated_items

EDF_VERSION, BDF_VERSION = b"0       ", b"\xffBIOSEMI"
MOST_CHANNELS = 4096
MOST_ANNOTATION_BYTES = 64 << 20
"""Annotation channels larger than this are refused: no annotator writes so much."""
MOST_SAMPLES = 2_000_000_000
"""Of one channel on its time line, gaps included."""
WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of each field of a channel: label, transducer, dimension, physical and digital limits, filters, samples, reserved."""
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass(frozen=True)
class Channel:
    """One channel as the header describes it."""

    label: str
    dimension: str
    physical: tuple[float, float]
    digital: tuple[float, float]
    samples: int
    """In one data record."""
    offset: int
    """Bytes before it in a data record."""


@dataclass(frozen=True)
class Layout:
    """What the header of a file says, in plain values."""

    path: Path
    sample_bytes: int
    """2 in EDF, 3 in BDF."""
    data_offset: int
    records: int
    record_s: float
    record_bytes: int
    channels: tuple[Channel, ...]
    is_discontinuous: bool
    started_at: Instant | None
    subject_id: str | None
    sex: str | None
    remarks: tuple[str, ...] = ()


def recognises(_path: Path, head: bytes) -> bool:
    """Return whether the first bytes are a header of EDF or BDF: its version, then the size of the header in digits."""
    return head[:8] in (EDF_VERSION, BDF_VERSION) and head[184:192].strip().isdigit() and head[252:256].strip().isdigit()


def read_edf(path: Path, options: ReadOptions) -> FileRead:
    """Return the channels of a file grouped by rate and modality, with annotations; channels that cannot be scaled are skipped.

    Raises:
        FormatError: the header is damaged, the file is truncated, or the times of an EDF+D file run backwards.

    Source: Kemp et al., Electroencephalogr Clin Neurophysiol 1992;82:391-393 (EDF); Kemp & Olivan, Clin Neurophysiol
        2003;114:1755-1761 (EDF+); BioSemi's description of BDF.
    """
    refuse_empty(path)
    layout = read_layout(path)
    sha256 = file_sha256(path)
    marks, starts_s = _timeline(layout)
    units, skipped = _units(layout, options)
    items: list[Item] = []
    by_rate: dict[int, list[int]] = {}
    for index in units:
        by_rate.setdefault(layout.channels[index].samples, []).append(index)
    names = _names(layout)
    for per_record, indices in by_rate.items():
        rate = per_record / layout.record_s
        waveform = Waveform(
            source=Source(str(path), sha256, f"{rate:g} Hz"),
            system="edf",
            leads=tuple(names[index] for index in indices),
            sampling_rate_hz=rate,
            samples=_length(layout, starts_s, rate),
            load=partial(_load, layout, units={index: units[index] for index in indices}, marks=marks, starts_s=starts_s),
            observed_at=layout.started_at,
            remarks=(*layout.remarks, *_channel_remarks(layout, indices, names, starts_s)),
            label="annotated" if marks else "",
        )
        items += waveform_items(waveform, options.modality)
    if marks and not items:
        items.append(_report(layout, marks, Source(str(path), sha256, "annotations")))
    items += stated_items(Source(str(path), sha256, "patient field"), layout.started_at, age=None, sex=layout.sex)
    return FileRead(found=(Found(layout.subject_id, tuple(items)),), skipped=tuple(Skipped(str(path), reason) for reason in skipped))


def read_layout(path: Path) -> Layout:
    """Return what the header says, checked against the size of the file.

    Raises:
        FormatError: a field is not what the format promises, or data are missing.
    """
    with path.open("rb") as stream:
        fixed = stream.read(256)
        counted = _whole(fixed[252:256], path, "number of channels", 1, MOST_CHANNELS)
        described = stream.read(256 * counted)
    if fixed[:8] not in (EDF_VERSION, BDF_VERSION) or len(described) < 256 * counted:
        raise _damaged(path, "the header ends early, or is of another format")
    sample_bytes = 3 if fixed[:1] == b"\xff" else 2
    reserved = fixed[192:236].decode("latin-1")
    record_s = _decimal(fixed[244:252], path, "duration of a data record")
    channels = _channels(described, counted, path, sample_bytes)
    record_bytes = sample_bytes * sum(channel.samples for channel in channels)
    data_bytes = path.stat().st_size - 256 * (counted + 1)
    stated = _whole(fixed[236:244], path, "number of data records", -1, 10**9)
    records = data_bytes // record_bytes if record_bytes and stated == -1 else stated
    remarks = ("number of data records not stated: read to the end of the file",) if stated == -1 else ()
    if record_bytes == 0 or records * record_bytes > data_bytes:
        raise _damaged(path, f"{records * record_bytes} bytes of data are promised, {max(data_bytes, 0)} are there")
    if record_s < 0 or not math.isfinite(record_s) or (record_s == 0 and any(c.label not in ANNOTATIONS for c in channels)):
        raise _damaged(path, "a data record has no duration")
    is_plus = reserved.startswith(("EDF+", "BDF+"))
    started_at, dated = _started_at(fixed, is_plus)
    patient = fixed[8:88].decode("latin-1").strip()
    return Layout(
        path=path,
        sample_bytes=sample_bytes,
        data_offset=256 * (counted + 1),
        records=records,
        record_s=record_s,
        record_bytes=record_bytes,
        channels=channels,
        is_discontinuous=reserved[3:5] == "+D",
        started_at=started_at,
        subject_id=_subject(patient, is_plus),
        sex=_sex(patient) if is_plus else None,
        remarks=(*remarks, *dated),
    )


def _channels(described: bytes, counted: int, path: Path, sample_bytes: int) -> tuple[Channel, ...]:
    fields: list[list[bytes]] = []
    start = 0
    for width in WIDTHS:
        fields.append([described[start + width * index : start + width * (index + 1)] for index in range(counted)])
        start += width * counted
    channels, offset = [], 0
    for index in range(counted):
        label = fields[0][index].decode("latin-1").strip() or f"channel {index + 1}"
        is_marks = label in ANNOTATIONS
        limits = [0.0 if is_marks else _decimal(fields[place][index], path, "limit of a channel") for place in (3, 4, 5, 6)]
        samples = _whole(fields[8][index], path, "samples in a data record", 0, 10**8)
        dimension = fields[2][index].decode("latin-1").strip()
        channels.append(Channel(label, dimension, (limits[0], limits[1]), (limits[2], limits[3]), samples, offset))
        offset += samples * sample_bytes
    return tuple(channels)


def _started_at(fixed: bytes, is_plus: bool) -> tuple[Instant | None, tuple[str, ...]]:
    """Return the start of the recording; EDF states no zone, and two digits of the year (1985 to 2084)."""
    words = fixed[88:168].decode("latin-1").split()
    date = re.fullmatch(r"(\d{2})\.(\d{2})\.(\d{2})", fixed[168:176].decode("latin-1").strip())
    time = re.fullmatch(r"(\d{2})[.:](\d{2})[.:](\d{2})", fixed[176:184].decode("latin-1").strip())
    is_blank = fixed[168:184] == b"01.01.8500.00.00"  # what EDF+ prescribes, and anonymisers write, for a date that is not told
    if words[:2] == ["Startdate", "X"] or (is_blank and words[:1] != ["Startdate"]):
        return None, ("the date is withheld in the file: its time is not used",)
    if not date or not time:
        return None, ("the start is not a date and time: it is not used",)
    day, month, year = (int(part) for part in date.groups())
    year += 1900 if year >= 85 else 2000
    if is_plus and (full := re.fullmatch(r"(\d{2})-([A-Z]{3})-(\d{4})", "".join(words[1:2]).upper())) and full[2] in MONTHS:
        day, month, year = int(full[1]), MONTHS.index(full[2]) + 1, int(full[3])
    try:
        hour, minute, second = (int(part) for part in time.groups())
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None, ("the start is not a date and time: it is not used",)
    return Instant(at, "second", zone_is_stated=False), ()


def _subject(patient: str, is_plus: bool) -> str | None:
    """Return a key of the patient: the hospital's code in EDF+, else a hash of the free field, which may hold a name."""
    first = patient.split()[0] if patient else "X"
    if is_plus and first != "X":
        return first
    if not patient.replace("X", "").strip():
        return None
    return "edf-" + hashlib.sha256(patient.encode()).hexdigest()[:12]


def _sex(patient: str) -> str | None:
    words = patient.split()
    return words[1] if len(words) > 1 and words[1] in {"F", "M"} else None


def _timeline(layout: Layout) -> tuple[tuple[Mark, ...], tuple[float, ...]]:
    """Return the annotations (seconds from the start), and where each record of a discontinuous file begins (empty: end to end)."""
    places = [channel for channel in layout.channels if channel.label in ANNOTATIONS]
    if sum(channel.samples for channel in places) * layout.sample_bytes * layout.records > MOST_ANNOTATION_BYTES:
        raise _damaged(layout.path, f"its annotations take more than {MOST_ANNOTATION_BYTES >> 20} MiB")
    if not places:
        if layout.is_discontinuous:
            raise _damaged(layout.path, "it is said to have gaps, but has no channel that times its records")
        return (), ()
    marks: list[Mark] = []
    starts_s: tuple[float, ...] = ()
    first_s = 0.0
    blocks = _blocks(layout)
    for number, channel in enumerate(places):
        texts = [block[channel.offset : channel.offset + channel.samples * layout.sample_bytes].tobytes() for block in blocks]
        if number == 0 and texts:
            timed = texts if layout.is_discontinuous else texts[:1]
            starts_s = records_start_s(timed, layout.record_s, file=layout.path.name)
            first_s = starts_s[0]
        marks += [mark for text in texts for mark in marks_of(text)]
    return tuple(sorted((at - first_s, words) for at, words in marks)), starts_s if layout.is_discontinuous else ()


def _blocks(layout: Layout) -> NDArray[np.uint8]:
    """Return the data records as (R, bytes), mapped and not read."""
    shape = (layout.records, layout.record_bytes)
    if layout.records == 0:
        return np.zeros(shape, dtype=np.uint8)
    return np.memmap(layout.path, dtype=np.uint8, mode="r", offset=layout.data_offset, shape=shape)


def _units(layout: Layout, options: ReadOptions) -> tuple[dict[int, str], list[str]]:
    """Return the UCUM unit of each channel that can be read, and why the others cannot."""
    units: dict[int, str] = {}
    refused = []
    for index, channel in enumerate(layout.channels):
        if channel.label in ANNOTATIONS or channel.samples == 0:
            continue
        if channel.digital[0] >= channel.digital[1] or channel.physical[0] == channel.physical[1]:
            refused.append(f"channel {index + 1}: its limits give no scale (digital {channel.digital}, physical {channel.physical})")
            continue
        name = lead_name(channel.label)
        try:
            units[index] = ucum_of(options.units.get(name) or channel.dimension or "1", lead=name, file=layout.path.name)
        except UnitError as error:
            refused.append(str(error))
    return units, refused


def _names(layout: Layout) -> dict[int, str]:
    """Return the name of each channel: ECG leads as the field spells them, everything else as the montage labels it."""
    ordinary = [index for index, channel in enumerate(layout.channels) if channel.label not in ANNOTATIONS]
    names = distinct([lead_name(layout.channels[index].label) for index in ordinary], file=layout.path.name)
    return dict(zip(ordinary, names, strict=True))


def _channel_remarks(layout: Layout, indices: list[int], names: dict[int, str], starts_s: tuple[float, ...]) -> tuple[str, ...]:
    remarks = []
    for index in indices:
        channel = layout.channels[index]
        if channel.physical[0] > channel.physical[1]:
            remarks.append(f"channel {names[index]} is stored upside down (physical minimum above maximum) and was turned back")
        if not channel.dimension:
            remarks.append(f"channel {names[index]} states no unit: read as a pure number")
    gaps = int(np.sum(np.diff(starts_s) > 1.5 * layout.record_s)) if len(starts_s) > 1 else 0
    if gaps:
        remarks.append(f"discontinuous recording: {gaps} gap{'s'[: gaps != 1]} between records, given as missing samples")
    return tuple(remarks)


def _length(layout: Layout, starts_s: tuple[float, ...], rate: float) -> int:
    """Return samples of a channel on its time line, gaps included."""
    seconds = (starts_s[-1] - starts_s[0] + layout.record_s) if starts_s else layout.records * layout.record_s
    if seconds * rate > MOST_SAMPLES:
        raise _damaged(layout.path, f"its records span {seconds:.3g} s, more than {MOST_SAMPLES:,} samples of one channel")
    return round(seconds * rate)


def _load(
    layout: Layout,
    chosen: tuple[int, ...],
    *,
    units: dict[int, str],
    marks: tuple[Mark, ...],
    starts_s: tuple[float, ...],
) -> Signal:
    """Return the chosen channels of one rate (C, S) in their units, ECG in mV, gaps NaN, with the annotations.

    Raises:
        FormatError: the file was cut since it was inspected.
    """
    indices = [list(units)[place] for place in chosen]
    per_record = layout.channels[indices[0]].samples
    rate = per_record / layout.record_s
    try:
        blocks = _blocks(layout)
    except (OSError, ValueError) as error:
        raise _damaged(layout.path, "it has changed since it was first read") from error
    samples = np.full((len(indices), _length(layout, starts_s, rate)), np.nan, dtype=np.float32)
    for row, index in enumerate(indices):
        channel = layout.channels[index]
        slope = (channel.physical[1] - channel.physical[0]) / (channel.digital[1] - channel.digital[0])
        stored = _stored(blocks, channel, layout.sample_bytes)
        values = ((stored - channel.digital[0]) * slope + channel.physical[0]).astype(np.float32)
        if not starts_s:
            samples[row] = values.reshape(-1)
            continue
        for record, start in enumerate(starts_s):
            first = round((start - starts_s[0]) * rate)
            part = samples[row, first : first + per_record]
            part[:] = values[record, : len(part)]
    names, given = _names(layout), tuple(units[index] for index in indices)
    leads = tuple(names[index] for index in indices)
    if all(lead in LEADS or kind_of(lead) == "ecg" for lead in leads):
        samples, given = in_millivolts(samples, given)
    return Signal(samples, leads, given, rate, marks)


def _stored(blocks: NDArray[np.uint8], channel: Channel, sample_bytes: int) -> NDArray[np.float64]:
    """Return the digital values of a channel, (R, samples of a record)."""
    part = np.ascontiguousarray(blocks[:, channel.offset : channel.offset + channel.samples * sample_bytes])
    if sample_bytes == 2:
        return part.view("<i2").astype(np.float64)
    whole = part.reshape(len(blocks), channel.samples, 3).astype(np.int32)
    value = whole[..., 0] | whole[..., 1] << 8 | whole[..., 2] << 16
    return np.where(value >= 1 << 23, value - (1 << 24), value).astype(np.float64)


def _report(layout: Layout, marks: tuple[Mark, ...], source: Source) -> Item:
    """Return annotations that stand alone (such as a hypnogram) as one report: seconds from the start, and text."""
    text = "\n".join(f"{at:g} s: {words}" for at, words in marks)
    return Item(
        id=item_id(source.sha256, source.locator),
        modality=modality_of("category:report", "category:note"),
        code=Code("edf", "annotations", "annotations of a recording"),
        source=source,
        observed_at=layout.started_at,
        category="report",
        content=Content("text", partial(str, text), f"{len(marks)} annotations"),
        remarks=layout.remarks,
    )


def _whole(field: bytes, path: Path, name: str, low: int, high: int) -> int:
    text = field.decode("latin-1").strip()
    if not re.fullmatch(r"-?\d+", text) or not low <= int(text) <= high:
        raise _damaged(path, f"{name} is not a number from {low} to {high}")
    return int(text)


def _decimal(field: bytes, path: Path, name: str) -> float:
    try:
        value = float(field.decode("latin-1").strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _damaged(path, f"{name} is not a number")
    return value


def _damaged(path: Path, why: str) -> FormatError:
    return FormatError(f"Cannot read '{path.name}' as EDF or BDF: {why}. Copy or export it again.")


READER = Reader(name="edf", title="EDF, EDF+ or BDF recording", recognises=recognises, read=read_edf, priority=10)
