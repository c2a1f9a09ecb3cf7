"""HL7 aECG: annotated electrocardiograms in XML, as sent to the FDA.

Takes a file; gives one waveform for each series of sequences (rhythm, representative beat), the intervals that its annotations
state, age and sex. Names, birth dates, the trial and its people are not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.normalised import lead_unit
from salus.record.patient import Instant, Item, Normalisation, Precision, Signal, Source
from salus.record.read.channels import Waveform, distinct, waveform_items
from salus.record.read.leads import in_millivolts, lead_name, ucum_of
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.read.stated_intervals import interval_items
from salus.record.read.stated_patient import stated_items
from salus.units import convert

V3 = "{urn:hl7-org:v3}"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
MOST_BYTES = 256 << 20
MOST_SAMPLES = 100_000_000
MOST_SEQUENCES = 4096
AGE_CODES = frozenset(("21612-7", "30525-0"))
STATED = {
    "MDC_ECG_HEART_RATE": "heart_rate",
    "MDC_ECG_TIME_PD_PR": "pr",
    "MDC_ECG_TIME_PD_QRS": "qrs",
    "MDC_ECG_TIME_PD_QT": "qt",
    "MDC_ECG_TIME_PD_QTc": "qtc",
}
"""What an annotation states, by its MDC code (ISO/IEEE 11073-10101)."""


@dataclass(frozen=True)
class Series:
    """One set of sequences that share a time line."""

    locator: str
    label: str
    leads: tuple[str, ...]
    units: tuple[str, ...]
    sampling_rate_hz: float
    samples: NDArray[np.float32]
    """(C, S) in `units`, NaN where a sequence is shorter than the longest."""
    observed_at: Instant | None
    remarks: tuple[str, ...] = ()
    normalised: tuple[Normalisation, ...] = ()


def recognises(_path: Path, head: bytes) -> bool:
    """Return whether a text opens an AnnotatedECG of HL7 version 3."""
    return re.search(rb"<(\w+:)?AnnotatedECG[\s>]", head) is not None


def read_aecg(path: Path, options: ReadOptions) -> FileRead:
    """Return the waveforms of an annotated ECG, and the age, sex and intervals that it states.

    Raises:
        FormatError: the file is no well-formed aECG, declares entities, or a sequence cannot be read.
        UnitError: a sequence is in a unit that is unknown.

    Source: HL7 V3 Annotated ECG, release 1 (ANSI/HL7 V3 ECG R1-2004), PORT_MT020001; Brown & Badilini, HL7 aECG
        Implementation Guide, 2005.
    """
    refuse_empty(path)
    root = _root(path)
    sha256 = file_sha256(path)
    items: list[Item] = []
    observed_at = None
    for index, series in enumerate(_series(root, path, options)):
        observed_at = observed_at or series.observed_at
        waveform = Waveform(
            source=Source(str(path), sha256, series.locator),
            system="aecg",
            leads=series.leads,
            sampling_rate_hz=series.sampling_rate_hz,
            samples=series.samples.shape[1],
            load=partial(_load, path, index, options),
            observed_at=series.observed_at,
            remarks=series.remarks,
            normalised=series.normalised,
            label=series.label,
        )
        items += waveform_items(waveform, options.modality or modality_of("signal:ecg"))
    observed_at = observed_at or _instant(_first(root, "effectiveTime/center", "effectiveTime/low"))
    items += interval_items(Source(str(path), sha256, "annotationSet"), observed_at, _stated(root))
    sex = root.find(f".//{V3}subjectDemographicPerson/{V3}administrativeGenderCode")
    items += stated_items(
        Source(str(path), sha256, "subjectDemographicPerson"), observed_at, age=_age(root), sex=None if sex is None else sex.get("code")
    )
    subject = root.find(f".//{V3}trialSubject/{V3}id")
    key = None if subject is None else subject.get("extension") or subject.get("root")
    return FileRead(found=(Found(key, tuple(items)),))


def _root(path: Path) -> ElementTree.Element:
    """Return the document, without expanding anything that it declares.

    Raises:
        FormatError: too large, not well-formed, with a document type, or another document.
    """
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"Cannot read '{path.name}': it is larger than {MOST_BYTES >> 20} MiB. Split it by recording.")
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise FormatError(f"Cannot read '{path.name}' as aECG: it declares a document type, which is never followed. Remove it.")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(f"Cannot read '{path.name}' as aECG: it is not well-formed XML. Export or copy it again.") from error
    if root.tag != f"{V3}AnnotatedECG":
        raise FormatError(f"Cannot read '{path.name}' as aECG: it is not an AnnotatedECG of HL7 version 3. Export it as such.")
    return root


def _series(root: ElementTree.Element, path: Path, options: ReadOptions) -> Iterator[Series]:
    """Yield every set of sequences, of the series themselves and of those derived from them."""
    for number, holder in enumerate([*root.iter(f"{V3}series"), *root.iter(f"{V3}derivedSeries")]):
        code = holder.find(f"{V3}code")
        kind = (code.get("code") or "series") if code is not None else "series"
        for place, group in enumerate(holder.findall(f"{V3}component/{V3}sequenceSet")):
            locator = f"series[{number}].sequenceSet[{place}]"
            yield _sequence_set(group, (path.name, locator, kind), options)


def _sequence_set(group: ElementTree.Element, where: tuple[str, str, str], options: ReadOptions) -> Series:
    file, locator, kind = where
    increment_s: float | None = None
    observed_at = None
    names, units, rows = [], [], []
    sequences = group.findall(f"{V3}component/{V3}sequence")
    if len(sequences) > MOST_SEQUENCES:
        raise _damaged(file, f"{locator} holds more than {MOST_SEQUENCES} sequences")
    for sequence in sequences:
        code, value = sequence.find(f"{V3}code"), sequence.find(f"{V3}value")
        if code is None or value is None:
            raise _damaged(file, f"a sequence of {locator} has no code or no value")
        name = code.get("code") or ""
        if name.startswith("TIME_"):
            increment_s = _quantity(value, "increment", "s", file)
            observed_at = _instant(_first(value, "head")) if name == "TIME_ABSOLUTE" else None
            continue
        lead = lead_name(re.sub(r"^MDC_ECG_LEAD_", "", name, flags=re.IGNORECASE))
        unit = ucum_of(options.units.get(lead) or _unit_of(value), lead=lead, file=file)
        scale = _scalar(value, "scale", file)
        rows.append(_digits(value, file) * (1.0 if scale is None else scale) + (_scalar(value, "origin", file) or 0.0))
        names.append(lead)
        units.append(unit)
    if not rows or not increment_s or increment_s <= 0 or max(len(row) for row in rows) == 0:
        raise _damaged(file, f"{locator} has no time increment, no lead or no sample")
    longest = max(len(row) for row in rows)
    if longest * len(rows) > MOST_SAMPLES:
        raise _damaged(file, f"{locator} holds more than {MOST_SAMPLES:,} samples")
    samples = np.full((len(rows), longest), np.nan, dtype=np.float32)
    for place, row in enumerate(rows):
        samples[place, : len(row)] = row
    leads = distinct(names, file=file)
    short = [lead for lead, row in zip(leads, rows, strict=True) if len(row) < longest]
    remarks = [f"lead {lead} has fewer samples than the others: the rest is missing" for lead in short]
    is_beat = "REPRESENTATIVE" in kind
    if is_beat:
        remarks.append("a median beat computed by the recorder, not a stretch of time")
    samples, in_mv = in_millivolts(samples, tuple(units))
    label = "median beat" if is_beat else kind.lower().replace("_", " ")
    steps = lead_unit(leads, units, in_mv)
    return Series(locator, label, leads, in_mv, 1.0 / increment_s, samples, observed_at, tuple(remarks), steps)


def _load(path: Path, index: int, options: ReadOptions, chosen: tuple[int, ...]) -> Signal:
    """Return the chosen leads of one set of sequences, voltages in mV.

    Raises:
        FormatError: the file has changed since it was inspected.
    """
    for place, series in enumerate(_series(_root(path), path, options)):
        if place == index:
            leads = tuple(series.leads[row] for row in chosen)
            return Signal(series.samples[list(chosen)], leads, tuple(series.units[row] for row in chosen), series.sampling_rate_hz)
    raise _damaged(path.name, "a series that was there is gone")


def _digits(value: ElementTree.Element, file: str) -> NDArray[np.float64]:
    """Return the numbers of a list of samples."""
    digits = value.find(f"{V3}digits")
    try:
        return np.array((digits.text or "").split() if digits is not None else [], dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise _damaged(file, "its digits are not all numbers") from error


def _unit_of(value: ElementTree.Element) -> str:
    units = (part.get("unit") for name in ("scale", "origin") if (part := value.find(f"{V3}{name}")) is not None)
    return next((unit for unit in units if unit), "1")


def _scalar(value: ElementTree.Element, name: str, file: str) -> float | None:
    """Return origin or scale, both in the unit of the scale."""
    part = value.find(f"{V3}{name}")
    if part is None:
        return None
    number = _float(part.get("value"), file)
    unit, wanted = part.get("unit"), _unit_of(value)
    return convert(number, unit, wanted) if unit and unit != wanted else number


def _quantity(value: ElementTree.Element, name: str, unit: str, file: str) -> float | None:
    part = value.find(f"{V3}{name}")
    return None if part is None else convert(_float(part.get("value"), file), part.get("unit") or unit, unit)


def _float(text: str | None, file: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise _damaged(file, "a scale, origin or increment is not a number")
    return number


def _stated(root: ElementTree.Element) -> dict[str, float]:
    """Return the intervals (ms) and the rate (/min) that the annotations state, the first of each: the one of the whole record."""
    found: dict[str, float] = {}
    for annotation in root.iter(f"{V3}annotation"):
        code, value = annotation.find(f"{V3}code"), annotation.find(f"{V3}value")
        name = STATED.get((code.get("code") or "") if code is not None else "")
        if name is None or value is None or name in found:
            continue
        wanted = "/min" if name == "heart_rate" else "ms"
        try:
            found[name] = convert(float(value.get("value") or "nan"), wanted if wanted == "/min" else value.get("unit") or "ms", wanted)
        except (ValueError, InputError):
            continue  # not a number of time: it states nothing
    return found


def _age(root: ElementTree.Element) -> float | None:
    for observation in root.iter(f"{V3}relatedObservation"):
        code, value = observation.find(f"{V3}code"), observation.find(f"{V3}value")
        if code is not None and value is not None and code.get("code") in AGE_CODES and value.get("unit") in {"a", "yr", "year", "years"}:
            text = value.get("value") or ""
            return float(text) if re.fullmatch(r"\d{1,3}(\.\d+)?", text) else None
    return None


def _first(element: ElementTree.Element, *paths: str) -> str | None:
    """Return the `value` of the first of these elements that is there."""
    found = (element.find("/".join(f"{V3}{part}" for part in path.split("/"))) for path in paths)
    return next((part.get("value") for part in found if part is not None), None)


def _instant(text: str | None) -> Instant | None:
    """Return an HL7 time stamp, `YYYYMMDD[HH[MM[SS[.f]]]][±ZZZZ]`; without a zone, UTC is assumed and said so.

    Example:
        >>> found = _instant("20021122091000.500-0500")
        >>> found.at.isoformat(), found.zone_is_stated
        ('2002-11-22T09:10:00.500000-05:00', True)
    """
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(\.\d{1,6})?\d*)?)?)?(?:([+-])(\d{2})(\d{2}))?", text or "")
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, sign, zone_h, zone_m = match.groups()
    offset_min = (int(zone_h) * 60 + int(zone_m)) * (-1 if sign == "-" else 1) if sign else 0
    precision: Precision = "second" if second else "minute" if minute else "day"
    try:
        zone = timezone(timedelta(minutes=offset_min)) if sign else UTC
        clock = (int(hour or 0), int(minute or 0), int(second or 0), round(float(fraction or 0) * 1e6))
        at = datetime(int(year), int(month), int(day), *clock, tzinfo=zone)
    except ValueError:
        return None
    return Instant(at, precision, zone_is_stated=bool(sign))


def _damaged(file: str, why: str) -> FormatError:
    return FormatError(f"Cannot read '{file}' as aECG: {why}. Export or copy it again.")


READER = Reader(name="aecg", title="HL7 annotated ECG", recognises=recognises, read=read_aecg, priority=30)
