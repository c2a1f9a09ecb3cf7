"""FHIR R4 resources of care around the findings: plans, goals, orders, specimens, devices, studies, relatives, warnings, compositions.

Takes one resource; gives drafts. What is planned, ordered, aimed at or told of a relative says so in a remark, and never looks like a
finding of the patient. Leaves out who gives the care, and every identifier of a device.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

from salus.errors import FormatError
from salus.record.patient import Code
from salus.record.read.fhir_documents import Surroundings, parts_of, remarks_of
from salus.record.read.fhir_fields import (
    LOINC,
    Concept,
    Fields,
    choice_time,
    concept,
    concept_of,
    concept_words,
    fields,
    fields_list,
    number,
    period_of,
    text,
    time_of,
    unit_of,
)
from salus.record.read.fhir_observation import Draft, Mapped, require_concept, words_of
from salus.record.read.fhir_texts import texts
from salus.units import printed

MOST_ACTIVITIES = 20
ORDERED = ("an order: it does not say that it was done",)
NARRATIVE_DEPTH = 5
"""How deep sections of a composition may lie in sections."""
_BLOCKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "dt", "dd"})


def map_goal(resource: Fields, around: Surroundings) -> Mapped:
    """Return what is aimed at, with its state and targets in words. Source: FHIR R4, 9.7 (Goal)."""
    what = require_concept(resource, "description")
    start = time_of(resource, "startDate")
    targets = [words for target in fields_list(resource, "target") if (words := _target(target))]
    achieved = concept_words(resource, "achievementStatus")
    words = "; ".join(part for part in (achieved, *targets) if part)
    draft = Draft(
        what.code,
        ("fhir:Goal",),
        "observation",
        observed_at=start,
        status=text(resource, "lifecycleStatus"),
        value=words or None,
        remarks=("a goal, not a finding",),
    )
    return Mapped((draft,))


def _target(target: Fields) -> str | None:
    quantity, measure = fields(target, "detailQuantity"), concept_words(target, "measure")
    value = number(quantity, "value") if quantity else None
    if value is None:
        return None
    sign = text(quantity, "comparator") or ""
    return f"target: {measure or 'value'} {sign}{printed(value, unit_of(quantity))}"


def map_care_plan(resource: Fields, around: Surroundings) -> Mapped:
    """Return a plan with its activities in words; its period is its time. Source: FHIR R4, 9.5 (CarePlan)."""
    kinds = [found for node in fields_list(resource, "category") if (found := concept_of(node))]
    title = text(resource, "title")
    specific = [found for found in kinds if found.code.code != "assess-plan"]  # US Core's tag of every plan
    if not (specific or kinds or title):
        raise FormatError("states neither category nor title")
    what = (specific or kinds or [Concept(Code("", (title or "").lower(), title or ""), ())])[0]
    details = [fields(activity, "detail") for activity in fields_list(resource, "activity")]
    named = [words for detail in details if (words := concept_words(detail, "code") or text(detail, "description"))]
    start, end = period_of(resource, "period")
    return Mapped(
        (
            Draft(
                what.code,
                ("fhir:CarePlan",),
                "observation",
                observed_at=start or time_of(resource, "created"),
                ended_at=end,
                status=text(resource, "status"),
                value="; ".join(dict.fromkeys(named[:MOST_ACTIVITIES])) or None,
                remarks=("a plan: it does not say that it was done",),
            ),
        )
    )


def map_service_request(resource: Fields, around: Surroundings) -> Mapped:
    """Return an order of a service. Source: FHIR R4, 12.18 (ServiceRequest)."""
    if resource.get("doNotPerform") is True:
        raise FormatError("asks that the service not be done (doNotPerform)")
    what, intent = require_concept(resource, "code"), text(resource, "intent")
    return Mapped(
        (
            Draft(
                what.code,
                ("fhir:ServiceRequest",),
                "observation",
                observed_at=time_of(resource, "authoredOn"),
                status=text(resource, "status"),
                value=words_of(fields_list(resource, "reasonCode")),
                remarks=(*ORDERED, *((f"the intent is {intent}",) if intent not in (None, "order") else ())),
            ),
        )
    )


def map_specimen(resource: Fields, around: Surroundings) -> Mapped:
    """Return a specimen with when and where it was taken. Source: FHIR R4, 10.4 (Specimen)."""
    what, taken = require_concept(resource, "type"), fields(resource, "collection")
    start, end = choice_time(taken, "collected")
    site = concept_words(taken, "bodySite")
    keys = ("fhir:Specimen",)
    return Mapped((Draft(what.code, keys, "observation", observed_at=start, ended_at=end, status=text(resource, "status"), value=site),))


def map_device(resource: Fields, around: Surroundings) -> Mapped:
    """Return a device of the patient's, such as an implant; its identifiers are not read. Source: FHIR R4, 8.9 (Device)."""
    what = require_concept(resource, "type")
    return Mapped(
        (
            Draft(
                what.code,
                ("fhir:Device",),
                "observation",
                status=text(resource, "status"),
                remarks=("a device; when it was in use is not stated here",),
            ),
        )
    )


def map_imaging_study(resource: Fields, around: Surroundings) -> Mapped:
    """Return that a study was made, and of what; its pictures are elsewhere. Source: FHIR R4, 10.5 (ImagingStudy)."""
    kinds = [text(node, "code") for node in fields_list(resource, "modality")]
    series = fields_list(resource, "series")
    kinds += [text(fields(each, "modality"), "code") for each in series]
    named = ", ".join(dict.fromkeys(kind for kind in kinds if kind))
    procedures = [found for node in fields_list(resource, "procedureCode") if (found := concept_of(node))]
    if not (procedures or named):
        raise FormatError("states neither procedure nor modality")
    fallback = Concept(Code("http://dicom.nema.org/resources/ontology/DCM", named, f"imaging study ({named})"), ())
    what = procedures[0] if procedures else fallback
    counts = [
        f"{int(count)} {words}"
        for field_name, words in (("numberOfSeries", "series"), ("numberOfInstances", "images"))
        if (count := number(resource, field_name)) is not None
    ]
    sites = [words for each in series if (words := text(fields(each, "bodySite"), "display"))]
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:ImagingStudy", "category:procedure"),
                "procedure",
                observed_at=time_of(resource, "started"),
                status=text(resource, "status"),
                value=", ".join(dict.fromkeys(part for part in (named, *sites, *counts) if part)) or None,
                remarks=("a pointer to a study: its images are not in this file",),
            ),
        )
    )


def map_family_history(resource: Fields, around: Surroundings) -> Mapped:
    """Return what relatives had, each under the code of family history: a relative's disease is none of the patient's.

    Source: FHIR R4, 9.4 (FamilyMemberHistory).
    """
    who = concept_words(resource, "relationship") or "a relative"
    told_at = time_of(resource, "date")
    drafts = []
    for index, node in enumerate(fields_list(resource, "condition")):
        what = require_concept(node, "code")
        age = fields(node, "onsetAge")
        years = number(age, "value") if age else None
        onset = f" (onset at {printed(years, unit_of(age))})" if years is not None else ""
        drafts.append(
            Draft(
                Code(LOINC, "10157-6", "family history"),
                ("fhir:FamilyMemberHistory",),
                "observation",
                f".condition[{index}]",
                observed_at=told_at,
                status=text(resource, "status"),
                value=f"{who}: {what.code.display}{onset}",
                remarks=("of a relative, not of the patient",),
            )
        )
    if not drafts:
        raise FormatError("names no condition")
    return Mapped(tuple(drafts))


def map_flag(resource: Fields, around: Surroundings) -> Mapped:
    """Return a warning or an alarm with start and end. Source: FHIR R4, 9.10 (Flag)."""
    what = require_concept(resource, "code")
    start, end = period_of(resource, "period")
    kinds = words_of(fields_list(resource, "category"))
    keys = (*what.keys, "fhir:Flag", "device:alarm")
    draft = Draft(what.code, keys, "observation", observed_at=start, ended_at=end, status=text(resource, "status"), value=kinds)
    return Mapped((draft,))


def map_detected_issue(resource: Fields, around: Surroundings) -> Mapped:
    """Return an issue that a system or device noticed. Source: FHIR R4, 9.12 (DetectedIssue)."""
    what, severity = concept(resource, "code"), text(resource, "severity")
    detail = text(resource, "detail")
    if what is None and detail is None:
        raise FormatError("states neither code nor detail")
    code = what.code if what else Code("", "detected issue", "detected issue")
    start, end = choice_time(resource, "identified")
    words = "; ".join(part for part in (f"severity {severity}" if severity else None, detail) if part)
    keys = (*(what.keys if what else ()), "fhir:DetectedIssue", "device:alarm")
    status = text(resource, "status")
    return Mapped((Draft(code, keys, "observation", observed_at=start, ended_at=end, status=status, value=words or None),))


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append("\n" if tag in _BLOCKS else " " if tag in ("td", "th") else "")

    def handle_data(self, data: str) -> None:
        self.parts.append(re.sub(r"\s+", " ", data))


def narrative_words(div: str) -> str:
    r"""Return the words of a narrative's XHTML, a line for each block.

    Example:
        >>> narrative_words("<div><p>No <b>fever</b>.</p><ul><li>Cough</li></ul></div>")
        'No fever.\nCough'
    """
    parser = _Words()
    parser.feed(div)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def map_composition(resource: Fields, around: Surroundings) -> Mapped:
    """Return the sections of a document that stand in narrative only; those with entries are read from the entries.

    Source: FHIR R4, 3.3 (Composition).
    """
    title = concept(resource, "type")
    frame = Draft(
        Code(LOINC, "34109-9", "note"),
        ("media:text/plain", "category:note"),
        "note",
        observed_at=time_of(resource, "date"),
        status=text(resource, "status"),
        remarks=(f"a section of: {title.code.display}",) if title else (),
    )
    drafts: list[Draft] = []
    _sections(resource, "", frame, drafts)
    return Mapped(tuple(drafts))


def _sections(node: Fields, place: str, frame: Draft, drafts: list[Draft]) -> None:
    if place.count(".") >= NARRATIVE_DEPTH:
        return
    for index, section in enumerate(fields_list(node, "section")):
        here = f"{place}.section[{index}]"
        words = narrative_words(text(fields(section, "text"), "div") or "")
        if words and not fields_list(section, "entry"):
            what = concept(section, "code")
            title = text(section, "title")
            code = what.code if what else Code("", title.lower(), title) if title else frame.code
            parts = (("", words, None),) if what else parts_of(words)
            drafts += texts(_at(frame, here, code), parts, remarks_of(words))
        _sections(section, here, frame, drafts)


def _at(frame: Draft, place: str, code: Code) -> Draft:
    return Draft(code, frame.keys, frame.category, place, observed_at=frame.observed_at, status=frame.status, remarks=frame.remarks)


CARE: dict[str, Callable[[Fields, Surroundings], Mapped]] = {
    "CarePlan": map_care_plan,
    "Composition": map_composition,
    "DetectedIssue": map_detected_issue,
    "Device": map_device,
    "FamilyMemberHistory": map_family_history,
    "Flag": map_flag,
    "Goal": map_goal,
    "ImagingStudy": map_imaging_study,
    "ServiceRequest": map_service_request,
    "Specimen": map_specimen,
}
"""Resource types that are read here."""
