"""HL7 v2 results: OBR with its OBX and NTE as drafts of items, and alarms of devices.

Takes the segments of one order; gives drafts, and what was refused. Adjacent lines of text with one code are one text. Leaves out pointers
(RP), waveforms as arrays (NA, MA), and documents that are neither plain text nor PDF.

Source: HL7 v2.5.1, 7.4.1 (OBR), 7.4.2 (OBX), 2.9.1 (NTE); IHE Patient Care Device TF-2, PCD-04 and appendix B.8 (alarms, ORU^R40).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.patient import Code, Instant
from salus.record.read.fhir_documents import Surroundings, document_of, parts_of, remarks_of, text_content
from salus.record.read.fhir_fields import LOINC, Concept, Fields
from salus.record.read.fhir_observation import Draft
from salus.record.read.fhir_texts import texts
from salus.record.read.hl7v2_fields import (
    RESULT_STATUS,
    WITHDRAWN,
    concept_of,
    number_of,
    reference_range,
    require_concept,
    time_of,
    unit_of,
)
from salus.record.read.hl7v2_message import Segment
from salus.record.read.hl7v2_segments import Circumstances

Placed = tuple[Segment, Draft]
"""A draft, and the segment that it came from."""
TEXTS = frozenset({"TX", "FT"})
_FLAGS = {"L": "low", "H": "high", "LL": "critically low", "HH": "critically high", "A": "abnormal", "AA": "critically abnormal"}
"""Table 0078, in part; others are for the answering program's own range to say."""
_ORDERS = ("ORM", "OML", "OMG", "OMI", "OMP", "RDE")
"""Types of messages that ask for something and report nothing."""
_DATES = frozenset({"DT", "TM", "TS", "DTM"})


@dataclass(frozen=True)
class Order:
    """One OBR (or none, where results come without) and what follows it."""

    request: Segment | None
    lines: tuple[Segment, ...]
    """OBX and NTE in the order of the message."""


@dataclass(frozen=True)
class Results:
    """What one order gave."""

    placed: tuple[Placed, ...]
    refused: tuple[tuple[Segment, str], ...] = ()


def map_order(order: Order, about: Circumstances) -> Results:
    """Return the drafts of a report or an order, its results and the comments on them."""
    placed: list[Placed] = []
    refused: list[tuple[Segment, str]] = []
    frame = _frame(order.request, about, refused)
    if order.request is not None:
        try:
            placed.append((order.request, _request(order.request, frame, about)))
        except InputError as error:
            refused.append((order.request, str(error)))
    for group in _groups(order.lines):
        try:
            placed += _note(group[0], placed, frame) if group[0].name == "NTE" else _result(group, frame, about)
        except (InputError, MissingExtra) as error:
            refused.append((group[0], str(error)))
    return Results(tuple(placed), tuple(refused))


def _frame(request: Segment | None, about: Circumstances, refused: list[tuple[Segment, str]]) -> Draft:
    """Return what the results of an order have in common: the time."""
    start = end = None
    if request is not None:
        try:
            start, end = time_of(request.text(7), about.clock), time_of(request.text(8), about.clock)
            if start is None:
                start = time_of(request.text(22), about.clock)
        except InputError as error:
            refused.append((request, str(error)))
    return Draft(Code("", "", ""), (), "observation", observed_at=start, ended_at=None if end == start else end)


def _request(request: Segment, frame: Draft, about: Circumstances) -> Draft:
    what = require_concept(request, 4)
    stated = request.text(25).upper()
    if stated in WITHDRAWN:
        raise FormatError(f"its status says that it is none: {WITHDRAWN[stated]} (OBR-25)")
    if about.kind.startswith(_ORDERS):
        ordered_at = time_of(about.order.text(9), about.clock) if about.order else None
        return replace(
            frame,
            code=what.code,
            keys=("fhir:ServiceRequest",),
            observed_at=ordered_at or frame.observed_at,
            ended_at=None,
            status="active",
            remarks=("an order: it does not say that it was done",),
        )
    keys = (*what.keys, "fhir:DiagnosticReport", "category:report")
    return replace(frame, code=what.code, keys=keys, category="report", status=RESULT_STATUS.get(stated))


def _groups(lines: Sequence[Segment]) -> list[list[Segment]]:
    """Return the lines in groups: adjacent OBX of text with the same code and sub-id are one."""
    groups: list[list[Segment]] = []
    for line in lines:
        last = groups[-1][-1] if groups else None
        same = last is not None and last.name == line.name == "OBX" and {last.text(2), line.text(2)} <= TEXTS
        if same and last is not None and (last.raw(3), last.raw(4)) == (line.raw(3), line.raw(4)):
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def _note(note: Segment, placed: Sequence[Placed], frame: Draft) -> list[Placed]:
    words = note.whole(3).strip()
    if not words:
        return []
    on = placed[-1][1].code.display if placed else ""
    about = placed[-1][1] if placed else frame
    code = Code(LOINC, "34109-9", "note")
    keys = ("media:text/plain", "category:note")
    remarks = (f"a comment on: {on}",) if on and on != "note" else ()
    return [
        (note, Draft(code, keys, "note", observed_at=about.observed_at, content=text_content(words), status=about.status, remarks=remarks))
    ]


def _result(group: list[Segment], frame: Draft, about: Circumstances) -> list[Placed]:
    """Return the draft of one result.

    Raises:
        FormatError: it has no code, is withdrawn, or its value is not of its type.
        UnitError: its unit is not UCUM's.
        MissingExtra: it holds a PDF, and nothing is installed that reads one.
    """
    first, kind = group[0], group[0].text(2).upper()
    what = require_concept(first, 3)
    stated = first.text(11).upper()
    if stated in WITHDRAWN:
        raise FormatError(f"its status says that it is no result: {WITHDRAWN[stated]} (OBX-11)")
    own = time_of(first.text(14), about.clock)
    draft = replace(
        frame,
        code=what.code,
        keys=(*what.keys, "fhir:Observation"),
        observed_at=own or frame.observed_at,
        ended_at=None if own else frame.ended_at,
        status=RESULT_STATUS.get(stated),
    )
    if kind in TEXTS:
        words = "\n".join(line.whole(5) for line in group).strip()
        if not words:
            raise FormatError("OBX-5 is empty")
        category = "note" if about.kind.startswith("MDM") else "report"
        keys = (*what.keys, "media:text/plain" if category == "note" else "category:report")
        frame = replace(draft, keys=keys, category=category)
        return [(first, each) for each in texts(frame, parts_of(words), remarks_of(words))]
    if kind == "ED":
        return [(first, each) for each in _document(first, draft)]
    if kind not in VALUES:
        named = kind if re.fullmatch(r"[A-Z]{2,3}", kind) else "that is not stated"
        raise FormatError(f"a value of type {named} is not read")
    read = VALUES[kind](first, draft, about)
    flag = _FLAGS.get(first.text(8).upper())
    return [(first, replace(read, remarks=(*read.remarks, f"flagged {flag} by its source")) if flag else read)]


def _numeric(obx: Segment, draft: Draft, about: Circumstances) -> Draft:
    if len(obx.repetitions(5)) > 1:
        raise FormatError("OBX-5 holds several numbers where one is expected")
    value = number_of(obx.text(5), "OBX-5")
    unit = unit_of(obx, 6, about.units)
    limits, remarks = reference_range(obx.text(7))
    remarks = remarks if unit else (*remarks, "the record states no unit")
    category = () if draft.category != "observation" else ("fhir:Observation/laboratory",)
    keys = (*(key for key in draft.keys if key != "fhir:Observation"), *category, "fhir:Observation")
    return replace(draft, keys=keys, value=value, unit=unit, reference_range=limits, remarks=(*draft.remarks, *remarks))


def _structured(obx: Segment, draft: Draft, about: Circumstances) -> Draft:
    """Return an SN: comparator, number, separator, number. Source: 2.A.71."""
    sign, low, mark, high = (*obx.components(next(iter(obx.repetitions(5)), "")), "", "", "", "")[:4]
    if sign in ("", "=") and not mark and low:
        single = replace(obx, parts=(*obx.parts[:4], low, *obx.parts[5:]))
        return _numeric(single, draft, about)
    unit = unit_of(obx, 6, about.units)
    for part, name in ((low, "the first number of OBX-5"), (high, "the second number of OBX-5")):
        if part:
            number_of(part, name)
    if sign not in ("", "=", "<", ">", "<=", ">=", "<>") or mark not in ("", "-", "+", "/", ".", ":"):
        raise FormatError("OBX-5 is not a structured number")
    words = " ".join(part for part in ("" if sign == "=" else sign, low + mark + high) if part)
    remark = "the value is a limit, not a measurement" if sign else "the value is a range or ratio, not a measurement"
    return replace(draft, value=words, unit=unit, remarks=(*draft.remarks, remark))


def _string(obx: Segment, draft: Draft, about: Circumstances) -> Draft:
    words = obx.whole(5).strip()
    if not words:
        raise FormatError("OBX-5 is empty")
    return replace(draft, value=words)


def _coded(obx: Segment, draft: Draft, about: Circumstances) -> Draft:
    found = [concept for each in obx.repetitions(5) if (concept := concept_of(obx, each))]
    if not found:
        raise FormatError("OBX-5 is empty")
    return replace(draft, value="; ".join(concept.code.display for concept in found))


def _date(obx: Segment, draft: Draft, about: Circumstances) -> Draft:
    if obx.text(2).upper() == "TM":
        return _string(obx, draft, about)
    found = time_of(obx.text(5), about.clock)
    if found is None:
        raise FormatError("OBX-5 is empty")
    width = {"year": 4, "month": 7, "day": 10, "minute": 16, "second": 19}[found.precision]
    return replace(draft, value=found.at.isoformat()[:width])


def _document(obx: Segment, draft: Draft) -> list[Draft]:
    """Return the parts of a document carried inside: source ^ type ^ subtype ^ encoding ^ data. Source: 2.A.24 (ED)."""
    _, kind, subtype, encoding, body = (*obx.components(next(iter(obx.repetitions(5)), "")), *[""] * 5)[:5]
    names = {part.lower() for part in (kind, subtype)}
    media = "application/pdf" if names & {"pdf", "application/pdf"} else "text/plain" if names & {"text", "tx", "ft", "plain"} else ""
    if not media:
        raise FormatError("a document that is neither plain text nor PDF is not read")
    frame = replace(draft, keys=(*draft.keys[:-1], "category:report"), category="report")
    if encoding.lower() == "a" and media == "text/plain":
        if not body:
            raise FormatError("the document is empty")
        return texts(frame, parts_of(body), remarks_of(body))
    if encoding.lower() != "base64":
        raise FormatError("a document in an encoding other than A or Base64 is not read")
    attachment: Fields = {"contentType": media, "data": body}
    document = document_of(attachment, Surroundings(Path(), {}))
    return texts(frame, document.parts, document.remarks)


VALUES: Mapping[str, Callable[[Segment, Draft, Circumstances], Draft]] = {
    "NM": _numeric,
    "SN": _structured,
    "ST": _string,
    "CE": _coded,
    "CWE": _coded,
    "CNE": _coded,
    "CF": _coded,
    "IS": _string,
    "ID": _string,
    **dict.fromkeys(_DATES, _date),
}
"""Types of OBX-5 that are read besides text."""

_FACETS = {
    "MDC_ATTR_EVENT_PHASE": "phase", "MDC_ATTR_ALARM_STATE": "state", "MDC_ATTR_ALARM_PRIORITY": "priority",
    "MDC_ATTR_ALERT_TYPE": "type", "MDC_ATTR_ALARM_INACTIVATION_STATE": "inactivation",
}  # fmt: skip
_FACET_WORDS = {
    "PH": "high", "PM": "medium", "PL": "low", "PI": "information", "PN": "none", "SP": "physiological", "ST": "technical",
    "SA": "advisory",
}  # fmt: skip
_ENDED = frozenset({"end", "inactive"})


@dataclass(frozen=True)
class Alarm:
    """One message about an alarm; several with the same instance tell its course."""

    instance: str
    """OBR-3; empty when none is stated. It joins messages and is not shown."""
    segment: Segment
    draft: Draft
    has_ended: bool


def is_alarm(about: Circumstances, order: Order) -> bool:
    """Return whether an order is an alert report: ORU^R40, or OBR-4 names an event or alarm of IEEE 11073."""
    return about.event == "R40" or (order.request is not None and order.request.text(4, 2).startswith("MDC_EVT_"))


def map_alarm(order: Order, about: Circumstances) -> Alarm:
    """Return an alarm as one item: what it was, when it began and ended, its phase, state and priority in words.

    Raises:
        FormatError: no event is named.
    """
    request = order.request
    event: Concept | None = None
    facets: dict[str, str] = {}
    for line in order.lines:
        if line.name != "OBX":
            continue
        name = line.text(3, 2)
        if name in _FACETS:
            words = line.text(5).split("^")[0]
            facets[_FACETS[name]] = _FACET_WORDS.get(words, words)
        elif name.startswith("MDC_EVT_") and line.text(2).upper() in ("CWE", "CE", "CNE"):
            event = concept_of(line, line.raw(5)) or event
    if request is None or (event is None and not request.raw(4)):
        raise FormatError("an alarm that does not say what it is about")
    what = event or require_concept(request, 4)
    start: Instant | None = time_of(request.text(7), about.clock)
    has_ended = facets.get("phase") == "end"
    end = (time_of(request.text(8), about.clock) or start) if has_ended else None
    words = ", ".join(f"{name} {facets[name]}" for name in ("priority", "type", "phase", "state", "inactivation") if name in facets)
    draft = Draft(
        what.code,
        (*what.keys, "device:alarm"),
        "observation",
        observed_at=start,
        ended_at=end,
        value=words or None,
        status="finished" if has_ended else "in-progress",
        remarks=("an alarm of a device, as the device reported it",),
    )
    return Alarm(request.text(3), request, draft, has_ended)


def joined_alarms(alarms: Sequence[Alarm]) -> list[Placed]:
    """Return one draft for each alarm: from the first message about it to the one that says that it has ended."""
    by_instance: dict[str, list[Alarm]] = {}
    for number, alarm in enumerate(alarms):
        by_instance.setdefault(alarm.instance or f"#{number}", []).append(alarm)
    placed: list[Placed] = []
    for course in by_instance.values():
        times = [alarm.draft.observed_at for alarm in course if isinstance(alarm.draft.observed_at, Instant)]
        ends = [alarm.draft.ended_at for alarm in course if isinstance(alarm.draft.ended_at, Instant)]
        last = next((alarm for alarm in course if alarm.has_ended), course[-1])
        start = min(times, key=lambda time: time.at) if times else None
        end = max(ends, key=lambda time: time.at) if ends else None
        placed.append((course[0].segment, replace(last.draft, observed_at=start, ended_at=end)))
    return placed
