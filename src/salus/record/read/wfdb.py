"""WFDB records: a `.hea` header with its signal files and annotations, single or in segments.

Takes the header's path; gives one item for each modality among the channels, age and sex and the remaining header comments.
Samples load lazily. Leaves network access and writing alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import wfdb

from salus.errors import FormatError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.patient import Code, Content, Instant, Item, Signal, Source, item_id
from salus.record.read.channels import claim_keys, distinct, signal_remarks
from salus.record.read.leads import in_millivolts, lead_name, ucum_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import Stamp, file_sha256, refuse_empty, stamp_of
from salus.record.read.stated_patient import stated_items

WFDB_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    RuntimeError,
    AssertionError,
    ZeroDivisionError,
    OverflowError,
)
"""What the wfdb library raises on damaged files (it documents no closed list)."""
MOST_CHECKED_BYTES = 50 << 20
"""Records larger than this are not searched for gaps when they are inspected."""
MOST_KEPT_BYTES = 8 << 20
"""Larger records are decoded once to look for gaps and again when they are loaded."""
MOST_HEADER = 1 << 16
MOST_PER_FRAME = 10_000
"""Samples of one channel in one frame; more is a damaged header, and would be taken as room for them."""
ANNOTATORS = (
    "atr",
    "ecg",
    "ari",
    "ann",
    "man",
    "st",
    "sta",
    "stb",
    "apn",
    "alm",
    "qrs",
    "qrsc",
    "qrsh",
    "qrsl",
    "pu",
    "pu0",
    "pu1",
    "q1c",
    "q2c",
    "qt1",
    "gqrs",
    "gqrsh",
    "gqrsl",
    "wqrs",
    "sqrs",
    "jqrs",
)
"""Extensions of PhysioNet's annotators, in the order of trust: reference annotations first, programs last."""
RECORD_LINE = re.compile(r"^[\w\-./]+(/\d+)?\s+\d+(\s+\d[\d.]*(/[\d.]+)?(\([-\d.]+\))?.*)?$")
"""Record line of a header: name[/segments] signals [frequency[/counter(base)] [samples [time [date]]]] (WFDB header(5))."""
AGE = re.compile(r"<?\bage\b>?\s*[:=]\s*(\d{1,3}(?:\.\d+)?)\b", re.IGNORECASE)
SEX = re.compile(r"<?\b(?:sex|gender)\b>?\s*[:=]\s*(male|female|m|f)\b", re.IGNORECASE)
MIT_AGE_SEX = re.compile(r"^\s*(\d{1,3})\s+([MF])(?=\s+\d+\s)", re.MULTILINE)
"""Comment of the MIT-BIH records: age and sex, then recorder numbers."""


@dataclass(frozen=True)
class Layout:
    """What a header says, in plain values."""

    header: Path
    channels: tuple[str, ...]
    units: tuple[str, ...]
    sampling_rate_hz: float
    samples: int
    files: tuple[Path, ...]
    """Signal files and headers of segments."""
    comments: tuple[str, ...]
    started_at: Instant | None
    remarks: tuple[str, ...]


def recognises(path: Path, head: bytes) -> bool:
    """Return whether a file is a WFDB header: named `.hea`, its first uncommented line a record line."""
    if path.suffix.lower() != ".hea":
        return False
    lines = head.decode("utf-8", errors="replace").splitlines()
    first = next((line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    return not head or RECORD_LINE.match(first) is not None


def read_wfdb(path: Path, options: ReadOptions) -> FileRead:
    """Return the channels of a record, grouped by the modality that claims them, with age, sex and header comments.

    Raises:
        FormatError: a signal file is absent, or the record is damaged or truncated.
        UnitError: a channel's unit is unknown and none is declared.
    """
    refuse_empty(path)
    layout = _layout(path, options)
    sha256 = file_sha256(path)
    annotators = _annotators(path)
    digest = hashlib.sha256("".join(file_sha256(file) for file in (*layout.files, *annotators)).encode()).hexdigest()[:16]
    size = sum(file.stat().st_size for file in layout.files)
    signal = _load(layout, tuple(range(len(layout.channels))), ()) if size <= MOST_CHECKED_BYTES else None
    items = [
        _signal_item(layout, modality, channels=channels, annotators=annotators, signal=signal, hashes=(sha256, digest))
        for modality, channels in _by_modality(layout, options).items()
    ]
    items += _comment_items(layout, sha256)
    return FileRead(found=(Found(None, tuple(items)),), companions=(*layout.files, *annotators))


def _layout(path: Path, options: ReadOptions) -> Layout:
    try:
        header: Any = _decoded(path) or wfdb.rdheader(str(path.with_suffix("")), rd_segments=True)
    except FileNotFoundError as error:
        name = Path(str(error.filename or "")).name
        raise FormatError(
            f"Cannot read WFDB record '{path.name}': the header of segment '{name}' is not beside it. Add that file."
        ) from error
    except WFDB_ERRORS as error:
        raise _damaged(path, error) from error
    segments = [segment for segment in (getattr(header, "segments", None) or ()) if segment is not None]
    files = _files(path, header, segments)
    described = next((segment for segment in segments if segment.sig_name), header) if segments else header
    names = list(getattr(header, "sig_name", None) or described.sig_name or ())
    if any(int(count or 1) > MOST_PER_FRAME for one in (header, *segments) for count in getattr(one, "samps_per_frame", None) or ()):
        raise FormatError(
            f"Cannot read WFDB record '{path.name}': it states more than {MOST_PER_FRAME:,} samples in a frame. Correct the header."
        )
    if not names or not header.fs or header.fs <= 0:
        raise FormatError(f"Cannot read WFDB record '{path.name}': it describes no signal. Add the header that does.")
    channels = distinct([lead_name(name) if name else f"channel {row + 1}" for row, name in enumerate(names)], file=path.name)
    stated = [*(described.units or ()), *[None] * len(channels)]
    units = tuple(
        ucum_of(options.units.get(lead) or unit or "mV", lead=lead, file=path.name)
        for lead, unit in zip(channels, stated, strict=False)
    )
    remarks = [f"{len(segments)} segments read as one record"] if segments else []
    for lead, per_frame in zip(channels, described.samps_per_frame or (), strict=False):
        if per_frame and per_frame > 1:
            remarks.append(f"lead {lead} was sampled at {per_frame * header.fs:g} Hz and is averaged to {header.fs:g} Hz")
    return Layout(
        path,
        channels,
        units,
        float(header.fs),
        int(header.sig_len or 0),
        files,
        tuple(line.strip() for part in (header, *segments) for line in (part.comments or ()) if line.strip()),
        _started_at(header),
        tuple(remarks),
    )


def _files(path: Path, header: Any, segments: Sequence[Any]) -> tuple[Path, ...]:
    """Return the files that a record needs, each present beside its header (the library refuses names with a folder)."""
    headers = [f"{name}.hea" for name in (getattr(header, "seg_name", None) or ()) if name != "~"]
    named = [name for part in (header, *segments) for name in (getattr(part, "file_name", None) or ()) if name not in ("~", None)]
    missing = next((name for name in (*named, *headers) if not (path.parent / name).is_file()), None)
    if missing:
        raise FormatError(f"Cannot read WFDB record '{path.name}': its signal file '{missing}' is not beside it. Add that file.")
    if named and all(name.lower().endswith((".wav", ".flac")) for name in named):
        raise FormatError(
            f"Not read as a WFDB record: '{path.name}' only describes the sound '{named[0]}', which is read by itself."
        )
    return tuple(dict.fromkeys(path.parent / name for name in (*headers, *named)))


def _started_at(header: Any) -> Instant | None:
    if header.base_date is None:
        return None
    if header.base_time is None:
        return Instant(datetime.combine(header.base_date, datetime.min.time(), tzinfo=UTC), "day", False)
    return Instant(datetime.combine(header.base_date, header.base_time, tzinfo=UTC), "second", False)


def _by_modality(layout: Layout, options: ReadOptions) -> dict[str, tuple[int, ...]]:
    groups: dict[str, list[int]] = {}
    for index, lead in enumerate(layout.channels):
        groups.setdefault(options.modality or modality_of(*claim_keys(lead)), []).append(index)
    return {modality: tuple(indices) for modality, indices in groups.items()}


def _signal_item(
    layout: Layout,
    modality: str,
    *,
    channels: tuple[int, ...],
    annotators: tuple[Path, ...],
    signal: Signal | None,
    hashes: tuple[str, str],
) -> Item:
    leads = tuple(layout.channels[index] for index in channels)
    rate = layout.sampling_rate_hz
    remarks = [remark for remark in layout.remarks if not remark.startswith("lead ") or remark.split()[1] in leads]
    if signal is None:
        remarks.append(f"larger than {MOST_CHECKED_BYTES >> 20} MiB: not searched for gaps or flat stretches")
    else:
        own = Signal(signal.samples[list(channels)], leads, tuple(signal.units[index] for index in channels), rate)
        remarks += signal_remarks(own)
    used = annotators[:1]
    if used:
        others = f"; also present, not used: {', '.join(path.suffix[1:] for path in annotators[1:])}" if annotators[1:] else ""
        remarks.append(f"annotations from annotator '{used[0].suffix[1:]}'{others}")
    if modality == UNCLAIMED:
        remarks.append("no installed modality claims these channels")
    plural = "lead" if modality != UNCLAIMED else "channel"
    seconds = layout.samples / rate
    summary = f"{len(leads)} {plural}{'s' if len(leads) > 1 else ''} ({', '.join(leads)}), {rate:g} Hz, {seconds:g} s"
    sha256, digest = hashes  # the header's own hash, and one over signal and annotation files: a changed signal is another item
    locator = f"channels {','.join(str(index) for index in channels)} of signal {digest}"
    return Item(
        id=item_id(sha256, locator),
        modality=modality,
        code=Code("wfdb", "-".join(leads), f"waveform {', '.join(leads)}"),
        source=Source(str(layout.header), sha256, locator),
        observed_at=layout.started_at,
        category="waveform",
        content=Content("signal", partial(_load, layout, channels, used), summary),
        remarks=tuple(remarks),
    )


def _load(layout: Layout, channels: tuple[int, ...], annotators: tuple[Path, ...]) -> Signal:
    """Return the chosen channels (C, S), voltages in mV, missing samples NaN, with the annotations of the first annotator.

    Raises:
        FormatError: a signal or annotation file is truncated or damaged.

    Source: WFDB header(5), signal(5): physical value = (sample - baseline) / gain.
    """
    record = _decoded(layout.header)
    try:
        if record is None:
            record = wfdb.rdrecord(str(layout.header.with_suffix("")), channels=list(channels), physical=True, m2s=True, return_res=32)
            samples = np.asarray(record.p_signal, dtype=np.float32).T
        else:
            samples = record.p_signal if channels == tuple(range(len(record.p_signal))) else record.p_signal[list(channels)]
    except WFDB_ERRORS as error:
        raise _damaged(layout.header, error) from error
    units = tuple(layout.units[index] for index in channels)
    samples, units = in_millivolts(np.ascontiguousarray(samples), units)
    return Signal(
        samples,
        tuple(layout.channels[index] for index in channels),
        units,
        layout.sampling_rate_hz,
        tuple(mark for path in annotators for mark in _marks(path, layout.sampling_rate_hz)),
    )


def _decoded(path: Path) -> Any:
    """Return the whole record of a header that is looked at more than once (layout, gaps, samples); None when it is not a simple one.

    The library parses a header for longer than it decodes ten seconds of a dozen leads.
    """
    files = _simple_files(path)
    stamps = tuple(stamp_of(file) for file in (path, *files))
    if not files or None in stamps or sum(stamp[0] for stamp in stamps if stamp) > MOST_KEPT_BYTES:
        return None
    return _kept(path, stamps)


@lru_cache(maxsize=1)
def _kept(path: Path, _stamps: tuple[Stamp | None, ...]) -> Any:
    try:
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=True, return_res=32)
        record.p_signal = np.ascontiguousarray(record.p_signal.T, dtype=np.float32)  # (C, S), turned over once
        record.p_signal.setflags(write=False)  # several items look at it
        return record
    except WFDB_ERRORS:  # the longer way says what is wrong with it
        return None


def _simple_files(path: Path) -> tuple[Path, ...]:
    """Return the signal files of a record of one segment with one sample a frame; empty when it is any other."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        lines = [line.split() for line in stream.read(MOST_HEADER).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    is_simple = bool(lines) and "/" not in lines[0][0] and all(len(line) > 1 and "x" not in line[1] for line in lines[1:])
    return tuple({path.parent / Path(line[0]).name: None for line in lines[1:]}) if is_simple else ()


def _marks(path: Path, sampling_rate_hz: float) -> tuple[tuple[float, str], ...]:
    try:
        annotation: Any = wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
    except WFDB_ERRORS as error:
        raise _damaged(path, error) from error
    rate = annotation.fs or sampling_rate_hz
    return tuple((float(sample) / rate, str(symbol)) for sample, symbol in zip(annotation.sample, annotation.symbol, strict=True))


def _annotators(path: Path) -> tuple[Path, ...]:
    return tuple(found for name in ANNOTATORS if (found := path.with_suffix(f".{name}")).is_file() and found.stat().st_size > 0)


def _comment_items(layout: Layout, sha256: str) -> list[Item]:
    source = Source(str(layout.header), sha256, "comments")
    items: list[Item] = []
    text = "\n".join(dict.fromkeys(layout.comments))
    mit = MIT_AGE_SEX.findall(text)
    ages = AGE.findall(text) + [age for age, _ in mit]
    age = _only(ages)
    sex = _only(SEX.findall(text) + [sex for _, sex in mit])
    items += stated_items(source, layout.started_at, age=None if age is None else float(age), sex=sex)
    rest = _without_demographics(text, has_age=age is not None, has_sex=sex is not None)
    if rest:
        content = Content("text", lambda: rest, f"{len(rest.split())} words")
        items.append(
            Item(
                item_id(sha256, "comments"),
                modality_of("category:note"),
                Code("wfdb", "comments", "comments in the record's header"),
                source,
                observed_at=layout.started_at,
                content=content,
                category="note",
            )
        )
    return items


def _only(values: list[str]) -> str | None:
    """Return the one value that all mentions agree on; None when there is none, or when they differ."""
    return values[0] if len({value[0].lower() if value.isalpha() else value for value in values}) == 1 else None


def _without_demographics(text: str, *, has_age: bool, has_sex: bool) -> str:
    if has_age and has_sex:
        text = MIT_AGE_SEX.sub("", text)
    text = AGE.sub("", text) if has_age else text
    text = SEX.sub("", text) if has_sex else text
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def _damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"Cannot read WFDB file '{path.name}': it is truncated or damaged ({type(error).__name__}). Copy the record again."
    )


READER = Reader(
    name="wfdb",
    title="WFDB record",
    recognises=recognises,
    read=read_wfdb,
    priority=20,
)
