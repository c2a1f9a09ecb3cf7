"""HL7 v2 data types as the record's own: times, coded elements, units, ranges, and the standard's tables of status and sex.

Takes segments; gives times, codes, numbers. A wrong value raises `FormatError`, whose text names the field and never its content.

Source: HL7 v2.5.1, chapter 2A: 2.A.13 (CWE), 2.A.22 (DTM), 2.A.75 (TS), 7.4.2 (OBX); tables 0001, 0004, 0085, 0396.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from salus.errors import FormatError, UnitError
from salus.record.patient import Code, Instant, Precision, ReferenceRange
from salus.record.read.fhir_fields import PREFERRED, Concept
from salus.record.read.hl7v2_message import Segment
from salus.record.variables import key_of
from salus.units import check

SYSTEMS = {
    "LN": "http://loinc.org", "LOINC": "http://loinc.org", "SCT": "http://snomed.info/sct", "SNOMEDCT": "http://snomed.info/sct",
    "SNOMED-CT": "http://snomed.info/sct", "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "CVX": "http://hl7.org/fhir/sid/cvx", "NDC": "http://hl7.org/fhir/sid/ndc", "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm", "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm", "I9CDX": "http://hl7.org/fhir/sid/icd-9-cm",
    "C4": "http://www.ama-assn.org/go/cpt", "CPT": "http://www.ama-assn.org/go/cpt", "MDC": "urn:iso:std:iso:11073:10101",
    "UCUM": "http://unitsofmeasure.org",
}  # fmt: skip
"""URI of the code systems of table 0396 that other formats name by URI; any other keeps its short name."""
SEX = {"F": "female", "M": "male", "O": "other", "U": "unknown", "A": "other", "N": "other"}
"""Table 0001 in FHIR's words, as HL7's v2-to-FHIR concept map gives them."""
CLASSES = {"E": "emergency", "I": "inpatient", "O": "ambulatory", "P": "pre-admission", "R": "recurring", "B": "obstetrics"}
"""Table 0004 in words."""
RESULT_STATUS = {
    "F": "final", "C": "corrected", "P": "preliminary", "S": "preliminary", "R": "preliminary", "I": "registered", "O": "registered",
    "U": "final", "A": "preliminary", "B": "preliminary", "V": "final",
}  # fmt: skip
"""Tables 0085 and 0123 in FHIR's words."""
WITHDRAWN = {"D": "deleted", "W": "posted as wrong", "X": "cannot be obtained", "N": "not asked for", "Y": "no order"}
"""Statuses of tables 0085 and 0123 of a result that is none."""
_TIME = re.compile(
    r"(?P<year>\d{4})(?P<month>\d\d)?(?P<day>\d\d)?(?P<hour>\d\d)?(?P<minute>\d\d)?(?P<second>\d\d)?(?:\.(?P<fraction>\d{1,6}))?"
    r"(?P<zone>[+-]\d{4})?",
    re.ASCII,
)
_NUMBER = r"[+-]?\d+(?:\.\d+)?|[+-]?\.\d+"
_BETWEEN = re.compile(rf"\[?\s*({_NUMBER})\s*(?:-|–|to)\s*({_NUMBER})\s*\]?")
_BOUND = re.compile(rf"\[?\s*(<=?|>=?|≤|≥)\s*({_NUMBER})\s*\]?")


@dataclass(frozen=True)
class Clock:
    """The zone that applies where a time states none: that of MSH-7 (2.A.22), or UTC when that states none either."""

    zone: tzinfo = UTC
    is_stated: bool = False


def clock_of(header: Segment) -> Clock:
    """Return the zone of the sender, as MSH-7 states it."""
    found = re.fullmatch(r"[\d.]+([+-])(\d\d)(\d\d)", header.text(7))
    return Clock(_zone(found[1], found[2], found[3]), is_stated=True) if found else Clock()


def _zone(sign: str, hours: str, minutes: str) -> tzinfo:
    shift = timedelta(hours=int(hours), minutes=int(minutes))
    if shift >= timedelta(hours=24):
        raise FormatError("a time zone is a day or more from UTC")
    return timezone(-shift if sign == "-" else shift)


def time_of(written: str, clock: Clock) -> Instant | None:
    """Return a DTM or TS value to the precision that it states; None when empty.

    A time known to the hour counts as of that day, from that hour on.

    Raises:
        FormatError: it is not a time. The message does not repeat it.

    Example:
        >>> time_of("198509161230", Clock()).precision, time_of("1985", Clock()).precision
        ('minute', 'year')
        >>> time_of("20200928002206-0500", Clock()).at.isoformat()
        '2020-09-28T00:22:06-05:00'
    """
    if not written or set(written) == {"0"}:
        return None
    match = _TIME.fullmatch(written)
    if match is None:
        raise FormatError("a time is not written as YYYYMMDDHHMMSS")
    part = match.groupdict()
    known: dict[str, int] = {}
    for name in ("year", "month", "day", "hour", "minute", "second"):
        if part[name] is None:
            break
        known[name] = int(part[name])
    zone, own = clock.zone, part["zone"]
    if own:
        zone = _zone(own[0], own[1:3], own[3:])
    try:
        at = datetime(
            known["year"],
            known.get("month") or 1,
            known.get("day") or 1,
            known.get("hour", 0),
            known.get("minute", 0),
            known.get("second", 0),
            int((part["fraction"] or "").ljust(6, "0")[:6]),
            tzinfo=zone,
        )
    except ValueError:
        raise FormatError("a time is not one of the calendar") from None
    return Instant(at, _precision(known), zone_is_stated=bool(own) or clock.is_stated)


def _precision(known: Mapping[str, int]) -> Precision:
    if not known.get("month"):
        return "year"
    if not known.get("day"):
        return "month"
    if "minute" not in known:
        return "day"
    return "second" if "second" in known else "minute"


def concept_of(segment: Segment, written: str) -> Concept | None:
    """Return what a CE, CWE or CNE means: of code and alternate code, the one of the better known system; None when it is empty."""
    parts = (*segment.components(written), *[""] * 6)[:6]
    codes = [
        Code(SYSTEMS.get(system.upper(), system), code, words or parts[1] or code)
        for code, words, system in (parts[:3], parts[3:6])
        if code
    ]
    words = parts[1] or parts[4]
    if not codes:
        return Concept(Code("", words.lower(), words), ()) if words else None
    rank = {system: position for position, system in enumerate(PREFERRED)}
    codes.sort(key=lambda code: rank.get(code.system, len(rank)))
    return Concept(codes[0], tuple(dict.fromkeys(key_of(code) for code in codes if code.system)))


def require_concept(segment: Segment, number: int) -> Concept:
    """Return a field's coded element.

    Raises:
        FormatError: the field is empty.
    """
    found = concept_of(segment, next(iter(segment.repetitions(number)), ""))
    if found is None:
        raise FormatError(f"{segment.name}-{number} is empty")
    return found


def number_of(written: str, name: str) -> float:
    """Return an NM value.

    Raises:
        FormatError: it is not a finite decimal number.
    """
    if not re.fullmatch(_NUMBER, written.strip(), re.ASCII) or not math.isfinite(value := float(written)):
        raise FormatError(f"{name} is not a decimal number")
    return value


def unit_of(segment: Segment, number: int, declared: Mapping[str, str]) -> str | None:
    """Return a field's unit in UCUM; None when none is stated.

    Args:
        segment: OBX, RXA or another with a unit.
        number: its field of type CE or CWE.
        declared: UCUM by the unit as written, or by the code of the observation; the manifest's word.

    Raises:
        UnitError: it is not UCUM's, and nothing is declared for it.
    """
    written = next(iter(segment.repetitions(number)), "")
    code, words, system, *_ = (*segment.components(written), "", "", "")
    # a unit such as 10*3/uL is often written unescaped; `^` never occurs in UCUM, so the first component is whole
    stated = code or words
    by_code = declared.get(segment.text(3, 1)) if segment.name == "OBX" else None
    if not stated:
        return by_code
    if stated in declared:
        return declared[stated]
    if system.upper() == "MDC" and words:
        raise UnitError("Cannot use a unit of ISO/IEEE 11073-10101: only UCUM is read. Declare it in the manifest's 'units'.")
    return check(stated)


def reference_range(written: str) -> tuple[ReferenceRange | None, tuple[str, ...]]:
    """Return OBX-7 as limits, and a remark when it is words.

    Source: HL7 v2.5.1, 7.4.2.7: `lower-upper`, `> lower`, `< upper`.

    Example:
        >>> reference_range("[ < 4.5]")[0].high, reference_range("3.5 - 5.1")[0].low, reference_range("negative")[1]
        (4.5, 3.5, ('the reference range is not in numbers; it was left out',))
    """
    plain = written.strip()
    if not plain:
        return None, ()
    if found := _BETWEEN.fullmatch(plain):
        low, high = float(found[1]), float(found[2])
        if low <= high:
            return ReferenceRange(low, high, "the record"), ()
    if found := _BOUND.fullmatch(plain):
        limit = float(found[2])
        is_upper = found[1] in ("<", "<=", "≤")
        return ReferenceRange(None if is_upper else limit, limit if is_upper else None, "the record"), ()
    return None, ("the reference range is not in numbers; it was left out",)
