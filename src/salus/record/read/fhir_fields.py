"""FHIR R4 data types: typed access to fields, concepts, quantities, times, sampled data, ranges and references.

Takes parsed JSON objects; gives the record's own types. A field of the wrong type raises `FormatError`, whose text names the
field and never its content. Knows no resource type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, UnitError
from salus.record.patient import Code, ObservedTime, ReferenceRange
from salus.record.timeline import parse_instant
from salus.record.variables import key_of
from salus.units import check, convert

Fields = dict[str, object]
UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
PREFERRED = (LOINC, SNOMED, "http://www.nlm.nih.gov/research/umls/rxnorm", "http://hl7.org/fhir/sid/cvx")
"""Code systems in the order in which one is chosen for an item's code."""
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}


@dataclass(frozen=True)
class Concept:
    """A CodeableConcept: the code chosen for the item, and the claim keys of all its codings."""

    code: Code
    keys: tuple[str, ...]


@dataclass(frozen=True)
class SampledData:
    """One row of a waveform in its unit; NaN where the device wrote E, U or L."""

    samples: NDArray[np.float32]
    """(dimensions, S)."""
    unit: str
    period_s: float
    remarks: tuple[str, ...] = ()


def _wrong(name: str, value: object, wanted: str) -> FormatError:
    return FormatError(f"{name} is {_KINDS.get(type(value), 'of an unknown kind')}, not {wanted}")


def fields(parent: Fields, name: str) -> Fields:
    """Return an object-valued field; empty when absent."""
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return value


def fields_list(parent: Fields, name: str) -> list[Fields]:
    """Return a field that repeats; empty when absent."""
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(name, value, "a list of objects")
    if not all(isinstance(part, dict) for part in value):
        raise FormatError(f"{name} holds a part that is not an object")
    return cast(list[Fields], value)


def text(parent: Fields, name: str) -> str | None:
    """Return a text field without surrounding blanks; None when absent or blank."""
    value = parent.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value.strip() or None


def number(parent: Fields, name: str) -> float | None:
    """Return a finite number; None when absent."""
    value = parent.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, value, "a number")
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise FormatError(f"{name} is not a finite number")
    return converted


def concept(parent: Fields, name: str, *, preferred: tuple[str, ...] = PREFERRED) -> Concept | None:
    """Return a CodeableConcept field; None when it holds neither a coding nor a text."""
    return concept_of(fields(parent, name), preferred=preferred)


def concept_of(node: Fields, *, preferred: tuple[str, ...] = PREFERRED) -> Concept | None:
    """Return what a CodeableConcept means: of several codings, the first of the preferred systems."""
    words = text(node, "text")
    codes: list[Code] = []
    for coding in fields_list(node, "coding"):
        code = text(coding, "code")
        if code is not None:
            codes.append(Code(text(coding, "system") or "", code, text(coding, "display") or words or code))
    if not codes:
        # a converted C-CDA often keeps the words of a code that it could not map
        words = words or next((said for coding in fields_list(node, "coding") if (said := text(coding, "display"))), None)
        if words is None:
            return None
        return Concept(Code("", words.lower(), words), ())
    rank = {system: position for position, system in enumerate(preferred)}
    codes.sort(key=lambda code: rank.get(code.system, len(rank)))
    return Concept(codes[0], tuple(dict.fromkeys(key_of(code) for code in codes)))


def concept_words(parent: Fields, name: str) -> str | None:
    """Return a CodeableConcept field in words."""
    found = concept(parent, name)
    return None if found is None else text(fields(parent, name), "text") or found.code.display


def concept_code(parent: Fields, name: str) -> str | None:
    """Return the bare code of a CodeableConcept field, such as `active`."""
    found = concept(parent, name)
    return None if found is None else found.code.code


def concept_codes(parent: Fields, name: str) -> tuple[str, ...]:
    """Return the bare codes of a repeating CodeableConcept field, such as `laboratory`."""
    return tuple(found.code.code for node in fields_list(parent, name) if (found := concept_of(node)))


def time_of(parent: Fields, name: str) -> ObservedTime | None:
    """Return a date, dateTime or instant field; None when absent.

    Raises:
        FormatError: it is not a time. The message does not repeat it.
    """
    written = text(parent, name)
    if written is None:
        return None
    try:
        return parse_instant(written)
    except FormatError as error:
        raise FormatError(f"{name} is {error}") from None


def period_of(parent: Fields, name: str) -> tuple[ObservedTime | None, ObservedTime | None]:
    """Return start and end of a Period field."""
    period = fields(parent, name)
    return time_of(period, "start"), time_of(period, "end")


def choice_time(parent: Fields, name: str) -> tuple[ObservedTime | None, ObservedTime | None]:
    """Return start and end of a `…[x]` field that is a dateTime, an instant or a Period; end is None for a point."""
    for ending in ("DateTime", "Instant"):
        moment = time_of(parent, f"{name}{ending}")
        if moment is not None:
            return moment, None
    return period_of(parent, f"{name}Period")


def unit_of(quantity: Fields) -> str | None:
    """Return the UCUM unit of a Quantity, or None when it states none.

    Raises:
        UnitError: the unit is not UCUM's.

    Source: FHIR R4, 2.24.0.6 (Quantity).
    """
    stated = text(quantity, "code") if quantity.get("system") == UCUM else None
    stated = stated or text(quantity, "unit") or text(quantity, "code")
    return None if stated is None else check(stated)


def quantity_in(quantity: Fields, unit: str | None) -> float | None:
    """Return a Quantity's value in another unit; one that states no unit is taken to be in it already.

    Raises:
        UnitError: the units do not convert.
    """
    value, own = number(quantity, "value"), unit_of(quantity)
    if value is None or own is None or unit is None or own == unit:
        return value
    return convert(value, own, unit)


def reference_range(parent: Fields, unit: str | None) -> tuple[ReferenceRange | None, tuple[str, ...]]:
    """Return the normal range that the record itself gives, in the item's unit, and remarks.

    Only a single range is taken: which of several (by age, by sex) applies is for nobody to guess.
    """
    ranges = [node for node in fields_list(parent, "referenceRange") if concept_code(node, "type") in (None, "normal")]
    ranges = [node for node in ranges if fields(node, "low") or fields(node, "high")]
    if len(ranges) > 1:
        return None, (f"the record gives {len(ranges)} reference ranges; none was chosen",)
    if not ranges:
        return None, ()
    try:
        low, high = (quantity_in(fields(ranges[0], side), unit) for side in ("low", "high"))
    except UnitError:
        return None, ("the record's reference range is in a unit that does not convert; it was left out",)
    return ReferenceRange(low, high, "the record"), ()


def sampled_data(node: Fields) -> SampledData:
    """Return the samples of a SampledData in the unit of its origin: data × factor + origin.

    Raises:
        FormatError: a required field is missing, or a sample is neither a number nor E, U or L.
        UnitError: the unit is not UCUM's.

    Source: FHIR R4, 2.24.0.12 (SampledData).

    Example:
        >>> origin = {"value": 2, "unit": "mV"}
        >>> row = sampled_data({"origin": origin, "period": 4, "factor": 0.5, "dimensions": 1, "data": "2 E 4"})
        >>> row.samples.tolist(), row.period_s
        ([[3.0, nan, 4.0]], 0.004)
    """
    origin, data = fields(node, "origin"), text(node, "data")
    period_ms, factor = number(node, "period"), number(node, "factor")
    zero, dimensions = number(origin, "value"), number(node, "dimensions")
    if data is None or period_ms is None or period_ms <= 0 or zero is None:
        raise FormatError("SampledData lacks its data, its origin's value, or a period above 0")
    if dimensions is None or dimensions < 1 or dimensions != int(dimensions):
        raise FormatError("SampledData does not state its dimensions as a whole number above 0")
    try:
        raw = np.array([math.nan if word in ("E", "U", "L") else float(word) for word in data.split()], dtype=np.float64)
    except ValueError:
        raise FormatError("SampledData holds a sample that is neither a number nor E, U or L") from None
    if np.isinf(raw).any() or len(raw) % int(dimensions):
        raise FormatError("SampledData holds an infinite sample, or a number of samples that its dimensions do not divide")
    values = raw * (1.0 if factor is None else factor) + zero
    unit = unit_of(origin)
    lost = int(np.isnan(raw).sum())
    remarks = () if unit else ("the record states no unit for the samples",)
    if lost:
        remarks = (*remarks, f"{lost} of {len(raw)} samples are missing or beyond the device's limits")
    return SampledData(values.reshape(-1, int(dimensions)).T.astype(np.float32), unit or "1", period_ms / 1000.0, remarks)


def reference_keys(reference: str) -> tuple[str, ...]:
    """Return the keys under which a referenced resource may be filed: as written, and `Type/id`.

    Example:
        >>> reference_keys("http://example.org/fhir/Patient/7/_history/2")
        ('http://example.org/fhir/Patient/7', 'Patient/7')
    """
    plain = reference.split("/_history/")[0]
    parts = plain.split("/")
    if plain.startswith(("urn:", "#")) or "?" in plain or len(parts) < 2:
        return (plain,)
    return tuple(dict.fromkeys((plain, "/".join(parts[-2:]))))
