"""FHIR R4 Observation: values, components and waveforms as drafts of items.

Takes one Observation; gives a draft for its value and one for each component. Components that are rows of one waveform become one
signal. A range, a ratio or a time is kept in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from salus.errors import FormatError, InputError
from salus.record.patient import Code, Content, ObservedTime, ReferenceRange, Signal
from salus.record.read.fhir_fields import (
    Concept,
    Fields,
    SampledData,
    choice_time,
    concept,
    concept_codes,
    concept_of,
    concept_words,
    fields,
    fields_list,
    number,
    period_of,
    reference_range,
    sampled_data,
    text,
    time_of,
    unit_of,
)
from salus.record.read.leads import gap_remarks, in_millivolts, lead_name
from salus.units import printed


@dataclass(frozen=True)
class Draft:
    """An item before it has an id, a source and a modality."""

    code: Code
    keys: tuple[str, ...]
    """Claim keys, most specific first."""
    category: str
    within: str = ""
    """Place inside the resource: `.component[1]`."""
    observed_at: ObservedTime | None = None
    ended_at: ObservedTime | None = None
    value: float | str | None = None
    unit: str | None = None
    content: Content | None = None
    status: str | None = None
    reference_range: ReferenceRange | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mapped:
    """What one resource gave."""

    drafts: tuple[Draft, ...] = ()
    refusals: tuple[tuple[str, str], ...] = ()
    """(place inside the resource, why that part was not read)."""
    companions: tuple[Path, ...] = field(default=())


@dataclass(frozen=True)
class _Value:
    value: float | str | None = None
    unit: str | None = None
    remarks: tuple[str, ...] = ()


def map_observation(resource: Fields) -> Mapped:
    """Return the drafts of an Observation.

    Raises:
        FormatError: a field has the wrong type, or there is nothing to read.
        UnitError: the unit is not UCUM's.

    Source: FHIR R4, 10.1 (Observation).
    """
    what = require_concept(resource, "code")
    categories = concept_codes(resource, "category")
    observed_at, ended_at = choice_time(resource, "effective")
    remarks: tuple[str, ...] = ()
    if observed_at is None:
        observed_at = time_of(resource, "issued")
        remarks = ("the time is when it was issued",) if observed_at else ()
    frame = Draft(
        code=what.code,
        category="observation",
        status=text(resource, "status"),
        observed_at=observed_at,
        ended_at=ended_at,
        keys=(*(f"fhir:Observation/{category}" for category in categories), "fhir:Observation"),
        remarks=remarks,
    )
    components = fields_list(resource, "component")
    drafts = _drafts_of(resource, what, frame)
    refusals: list[tuple[str, str]] = []
    waveform, rest = _waveform(components, what, frame)
    drafts.extend(waveform)
    for index in rest:
        place = f".component[{index}]"
        try:
            drafts.extend(_drafts_of(components[index], require_concept(components[index], "code"), replace(frame, within=place)))
        except InputError as error:
            refusals.append((place, str(error)))
    if not drafts and not refusals:
        raise FormatError("holds no value, no component and no reason for the absence of data")
    return Mapped(tuple(drafts), tuple(refusals))


def require_concept(parent: Fields, name: str) -> Concept:
    """Return a CodeableConcept that must be there.

    Raises:
        FormatError: it is not.
    """
    found = concept(parent, name)
    if found is None:
        raise FormatError(f"{name} holds neither a coding nor a text")
    return found


def _drafts_of(node: Fields, what: Concept, frame: Draft) -> list[Draft]:
    """Return the draft of one value, of an Observation or a component; none when the node carries no value."""
    names = [name for name in node if name.startswith("value") and node[name] is not None]
    if len(names) > 1:
        raise FormatError(f"holds {len(names)} values where one is allowed")
    if not names:
        absent = concept_words(node, "dataAbsentReason")
        if absent is None:
            return []
        return [replace(frame, code=what.code, keys=what.keys + frame.keys, remarks=(*frame.remarks, f"value absent: {absent}"))]
    if names[0] == "valueSampledData":
        return [_signal_draft([sampled_data(fields(node, names[0]))], [what], what, frame)]
    if names[0] not in VALUES:
        raise FormatError("holds a value of a type that is not read")
    read = VALUES[names[0]](node)
    limits, remarks = reference_range(node, read.unit)
    return [
        replace(
            frame,
            code=what.code,
            keys=what.keys + frame.keys,
            value=read.value,
            unit=read.unit,
            reference_range=limits,
            remarks=frame.remarks + read.remarks + remarks,
        )
    ]


def _quantity(node: Fields) -> _Value:
    quantity = fields(node, "valueQuantity")
    value, unit, comparator = number(quantity, "value"), unit_of(quantity), text(quantity, "comparator")
    if value is None:
        raise FormatError("valueQuantity holds no value")
    if comparator is not None:  # a bound is not a measurement: as text it enters no trend and no average
        if comparator not in ("<", "<=", ">=", ">"):
            raise FormatError("valueQuantity's comparator is none of <, <=, >=, >")
        return _Value(f"{comparator} {value:.12g}", unit, ("the value is a limit, not a measurement",))
    return _Value(value, unit, () if unit else ("the record states no unit",))


def _concept(node: Fields) -> _Value:
    words = concept_words(node, "valueCodeableConcept")
    if words is None:
        raise FormatError("valueCodeableConcept holds neither a coding nor a text")
    return _Value(words)


def _string(node: Fields) -> _Value:
    return _Value(text(node, "valueString"))


def _integer(node: Fields) -> _Value:
    return _Value(number(node, "valueInteger"), None, ("the record states no unit",))


def _boolean(node: Fields) -> _Value:
    value = node["valueBoolean"]
    if not isinstance(value, bool):
        raise FormatError("valueBoolean is not true or false")
    return _Value("true" if value else "false")


def _range(node: Fields) -> _Value:
    ends = [fields(fields(node, "valueRange"), side) for side in ("low", "high")]
    low, high = (number(end, "value") for end in ends)
    units = {unit for end in ends if (unit := unit_of(end))}
    if (low is None and high is None) or len(units) > 1:
        raise FormatError("valueRange holds no limit, or limits in two units")
    if low is not None and high is not None:
        words = f"{low:.12g}–{high:.12g}"
    else:
        words = f">= {low:.12g}" if low is not None else f"<= {high:.12g}"
    return _Value(words, next(iter(units), None), ("the value is a range, not a measurement",))


def _ratio(node: Fields) -> _Value:
    above, below = (fields(fields(node, "valueRatio"), side) for side in ("numerator", "denominator"))
    parts = [number(above, "value"), number(below, "value")]
    if None in parts:
        raise FormatError("valueRatio lacks its numerator or its denominator")
    words = ":".join(printed(value, unit_of(side)) for value, side in zip(parts, (above, below), strict=True) if value is not None)
    return _Value(words, None, ("the value is a ratio, not a measurement",))


def _date_time(node: Fields) -> _Value:
    time_of(node, "valueDateTime")  # refuses what is no time
    return _Value(text(node, "valueDateTime"))


def _time(node: Fields) -> _Value:
    return _Value(text(node, "valueTime"))


def _period(node: Fields) -> _Value:
    period_of(node, "valuePeriod")
    ends = [text(fields(node, "valuePeriod"), side) for side in ("start", "end")]
    return _Value(" to ".join(end or "…" for end in ends))


VALUES: dict[str, Callable[[Fields], _Value]] = {
    "valueQuantity": _quantity,
    "valueCodeableConcept": _concept,
    "valueString": _string,
    "valueInteger": _integer,
    "valueBoolean": _boolean,
    "valueRange": _range,
    "valueRatio": _ratio,
    "valueDateTime": _date_time,
    "valueTime": _time,
    "valuePeriod": _period,
}


def _waveform(components: list[Fields], what: Concept, frame: Draft) -> tuple[list[Draft], list[int]]:
    """Return the signal that at least two components make together, and the indices of the components that are left."""
    everything = list(range(len(components)))
    sampled = [index for index in everything if "valueSampledData" in components[index]]
    if len(sampled) < 2:
        return [], everything
    try:
        rows = [sampled_data(fields(components[index], "valueSampledData")) for index in sampled]
        codes = [require_concept(components[index], "code") for index in sampled]
    except InputError:
        return [], everything  # read one by one, so that the good ones survive
    if len({(row.samples.shape, row.period_s) for row in rows}) > 1 or rows[0].samples.shape[0] != 1:
        return [], everything
    return [_signal_draft(rows, codes, what, replace(frame, within=".component"))], [i for i in everything if i not in sampled]


def _signal_draft(rows: list[SampledData], codes: list[Concept], what: Concept, frame: Draft) -> Draft:
    names = [_lead(code) for code in codes]
    if len(rows) == 1 and len(rows[0].samples) > 1:
        names = [f"{names[0]} {channel + 1}" for channel in range(len(rows[0].samples))]
    units = tuple(row.unit for row in rows for _ in row.samples)
    samples, units = in_millivolts(np.concatenate([row.samples for row in rows]), units)
    rate = 1.0 / rows[0].period_s
    signal = Signal(samples, tuple(names), units, rate)
    count, length_s = samples.shape[1], samples.shape[1] / rate
    return replace(
        frame,
        code=what.code,
        category="waveform",
        keys=(
            *what.keys,
            *(f"lead:{name}" for name in names),
            *(key for code in codes for key in code.keys),
            "category:waveform",
        ),
        content=Content(
            "signal", lambda: signal, f"{len(names)} lead{'s' if len(names) > 1 else ''}, {rate:g} Hz, {length_s:g} s"
        )
        if count
        else None,
        remarks=frame.remarks
        + tuple(dict.fromkeys(remark for row in rows for remark in row.remarks))
        + gap_remarks(signal.samples, signal.leads, rate),
    )


def _lead(code: Concept) -> str:
    """Return the lead that a code names: MDC's reference ids end in it (ISO/IEEE 11073-10101, table A.7.1.4)."""
    found = re.fullmatch(r"MDC_ECG_(?:ELEC_POTL|LEAD)_(\w+)", code.code.display.strip())
    return lead_name(found[1] if found else code.code.display)


def words_of(nodes: list[Fields]) -> str | None:
    """Return several concepts in words, joined by semicolons; None when there are none."""
    found = [concept_of(node) for node in nodes]
    return "; ".join(each.code.display for each in found if each) or None
