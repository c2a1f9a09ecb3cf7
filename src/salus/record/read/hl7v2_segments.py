"""HL7 v2 segments that say something about a patient by themselves, each as drafts of items.

Takes one segment and its message's circumstances; gives drafts. Names, addresses, telephone numbers, staff and insurance are never
read; of the birth date only the year is kept. Leaves out observations (`hl7v2_results`), and every segment that `MAPPINGS` does not list.

Source: HL7 v2.5.1, chapters 3 (PID, PV1, AL1), 4 (RXA, RXE, RXO), 6 (DG1, PR1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from salus.errors import FormatError, UnitError
from salus.record.patient import Code, Instant
from salus.record.read.fhir_fields import LOINC, SNOMED
from salus.record.read.fhir_observation import Draft
from salus.record.read.hl7v2_fields import CLASSES, SEX, Clock, concept_of, number_of, require_concept, time_of, unit_of
from salus.record.read.hl7v2_message import Segment
from salus.record.timeline import BIRTH_DATE

INPATIENT_CLASSES = frozenset({"I", "B"})
_STATUS_OF_EVENT = {
    "A01": "in-progress", "A02": "in-progress", "A03": "finished", "A04": "in-progress", "A05": "planned", "A06": "in-progress",
    "A07": "in-progress", "A13": "in-progress", "A14": "planned", "A15": "planned", "A16": "in-progress",
}  # fmt: skip
"""Trigger events of table 0003 in the words of FHIR's Encounter.status; the others say nothing of it."""
CANCELLED_VISITS = frozenset({"A11", "A27", "A38"})
"""Trigger events that take an admission, a pending admission or a pre-admission back."""
_CLASS_CODES = {"I": "IMP", "B": "IMP", "E": "EMER", "O": "AMB", "P": "PRENC", "R": "AMB"}
_SEVERITY = {"SV": "severe", "MO": "moderate", "MI": "mild"}
_ORDER_OVER = {"CA": "cancelled", "OC": "cancelled", "CR": "cancelled", "UA": "refused", "UC": "refused"}
_ORDER_STATUS = {"DC": "stopped", "OD": "stopped", "HD": "on-hold", "NW": "active", "XO": "active", "RL": "active", "RE": "completed"}


@dataclass(frozen=True)
class Circumstances:
    """What a segment's message says for it."""

    kind: str
    """MSH-9: `ADT^A01`."""
    clock: Clock
    units: Mapping[str, str] = field(default_factory=dict)
    """What the manifest declares."""
    order: Segment | None = None
    """The ORC that stands before it."""

    @property
    def event(self) -> str:
        """Return the trigger event: `A01`."""
        return self.kind.partition("^")[2]


def map_person(pid: Segment, about: Circumstances) -> list[Draft]:
    """Return sex, birth year, and death where stated. Source: 3.4.2 (PID-7, -8, -29, -30)."""
    keys = ("hl7v2:PID", "fhir:Patient", "category:demographic")
    drafts = []
    sex = pid.text(8).upper()
    if sex in SEX:
        drafts.append(Draft(Code(LOINC, "76689-9", "sex"), keys, "demographic", " PID-8", value=SEX[sex]))
    birth = time_of(pid.text(7), about.clock)
    if birth is not None:
        year = Instant(datetime(birth.at.year, 1, 1, tzinfo=UTC), "year", zone_is_stated=False)
        code = Code(LOINC, BIRTH_DATE, "birth date")
        drafts.append(Draft(code, keys, "demographic", " PID-7", observed_at=year, remarks=("only the year is kept",)))
    died_at = time_of(pid.text(29), about.clock)
    if died_at is not None or pid.text(30) == "Y":
        drafts.append(Draft(Code(SNOMED, "419099009", "dead"), ("snomed:419099009", "fhir:Patient"), "observation", " PID-30", died_at))
    return drafts


def map_visit(pv1: Segment, about: Circumstances) -> list[Draft]:
    """Return the visit or stay; its value is the class in words. Source: 3.4.3 (PV1-2, -44, -45)."""
    letter = pv1.text(2).upper()
    if letter not in CLASSES:
        raise FormatError("PV1-2 is not a class of patient that is read")
    words = CLASSES[letter]
    start, end = time_of(pv1.text(44), about.clock), time_of(pv1.text(45), about.clock)
    code = Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", _CLASS_CODES[letter], f"{words} encounter")
    return [
        Draft(
            code,
            ("hl7v2:PV1", "fhir:Encounter", "category:encounter"),
            "encounter",
            observed_at=start,
            ended_at=end,
            value=words,
            status="finished" if end else _STATUS_OF_EVENT.get(about.event),
        )
    ]


def map_allergy(segment: Segment, about: Circumstances) -> list[Draft]:
    """Return an allergy; its value names the reactions. Source: 3.4.6 (AL1) and 3.4.7 (IAM)."""
    if segment.name == "IAM" and segment.text(6).upper() == "D":
        raise FormatError("takes the allergy back (IAM-6)")
    what = require_concept(segment, 3)
    reactions = "; ".join(words for each in segment.repetitions(5) if (words := _first(segment.components(each))))
    severity = _SEVERITY.get(segment.text(4).upper())
    noted = segment.text(6 if segment.name == "AL1" else 11)
    return [
        Draft(
            what.code,
            (*what.keys, "fhir:AllergyIntolerance", "category:allergy"),
            "allergy",
            observed_at=time_of(noted, about.clock),
            value=reactions or None,
            remarks=(f"severity is {severity}",) if severity else (),
        )
    ]


def _first(parts: tuple[str, ...]) -> str:
    return next((part for part in (*parts[1:2], *parts[:1]) if part), "")


def map_diagnosis(segment: Segment, about: Circumstances) -> list[Draft]:
    """Return a diagnosis. Source: 6.5.2 (DG1)."""
    if segment.text(21).upper() == "D":
        raise FormatError("takes the diagnosis back (DG1-21)")
    what = concept_of(segment, next(iter(segment.repetitions(3)), ""))
    words = segment.text(4)
    if what is None and not words:
        raise FormatError("DG1-3 is empty")
    code = what.code if what else Code("", words.lower(), words)
    remarks = {"A": ("an admitting diagnosis",), "W": ("a working diagnosis",)}.get(segment.text(6).upper(), ())
    return [
        Draft(
            code,
            (*(what.keys if what else ()), "fhir:Condition", "category:condition"),
            "condition",
            observed_at=time_of(segment.text(5), about.clock),
            remarks=remarks,
        )
    ]


def map_procedure(segment: Segment, about: Circumstances) -> list[Draft]:
    """Return a procedure that was done. Source: 6.5.4 (PR1)."""
    if segment.text(20).upper() == "D":
        raise FormatError("takes the procedure back (PR1-20)")
    what = require_concept(segment, 3)
    keys = (*what.keys, "fhir:Procedure", "category:procedure")
    return [Draft(what.code, keys, "procedure", observed_at=time_of(segment.text(5), about.clock), status="completed")]


def map_administration(rxa: Segment, about: Circumstances) -> list[Draft]:
    """Return a dose that was given, or a vaccination, given or not. Source: 4.14.7 (RXA)."""
    if rxa.text(21).upper() == "D":
        raise FormatError("takes the administration back (RXA-21)")
    what = require_concept(rxa, 5)
    is_vaccine = about.kind.startswith("VXU") or any(key.startswith("cvx:") for key in what.keys)
    category = "immunization" if is_vaccine else "medication"
    start, end = time_of(rxa.text(3), about.clock), time_of(rxa.text(4), about.clock)
    value, unit, remarks = _dose(rxa, 6, 7, about.units)
    status = {"RE": "not-done", "NA": "not-done", "PA": "completed", "CP": "completed"}.get(rxa.text(20).upper(), "completed")
    return [
        Draft(
            what.code,
            (*what.keys, "fhir:Immunization" if is_vaccine else "fhir:MedicationAdministration", f"category:{category}"),
            category,
            observed_at=start,
            ended_at=None if is_vaccine else end or start,
            status=status,
            value=None if is_vaccine else value,
            unit=None if is_vaccine else unit,
            remarks=() if is_vaccine else remarks,
        )
    ]


def _dose(segment: Segment, amount: int, unit: int, units: Mapping[str, str]) -> tuple[float | str | None, str | None, tuple[str, ...]]:
    """Return amount and unit; 999 means that the amount is not known. An amount whose unit is no UCUM stays in words."""
    written = segment.text(amount)
    if not written or written == "999":
        return None, None, ()
    value = number_of(written, f"{segment.name}-{amount}")
    try:
        return value, unit_of(segment, unit, units), ()
    except UnitError:
        return f"{value:.12g} {segment.text(unit)}", None, ("the dose is in a unit that is not UCUM's: kept as words",)


def map_prescription(segment: Segment, about: Circumstances) -> list[Draft]:
    """Return an ordered medicine with its dose in words. Source: 4.14.1 (RXO), 4.14.4 (RXE)."""
    code, amount, unit = (1, 2, 4) if segment.name == "RXO" else (2, 3, 5)
    what = require_concept(segment, code)
    control = about.order.text(1).upper() if about.order else ""
    if control in _ORDER_OVER:
        raise FormatError(f"the order is {_ORDER_OVER[control]} (ORC-1)")
    dose, words = segment.text(amount), segment.text(unit, 2) or segment.text(unit)
    ordered_at = time_of(about.order.text(9), about.clock) if about.order else None
    return [
        Draft(
            what.code,
            (*what.keys, "fhir:MedicationRequest", "category:medication"),
            "medication",
            observed_at=ordered_at,
            status=_ORDER_STATUS.get(control),
            value=f"{dose} {words}".strip() or None,
        )
    ]


MAPPINGS: dict[str, Callable[[Segment, Circumstances], list[Draft]]] = {
    "PID": map_person,
    "PV1": map_visit,
    "AL1": map_allergy,
    "IAM": map_allergy,
    "DG1": map_diagnosis,
    "PR1": map_procedure,
    "RXA": map_administration,
    "RXE": map_prescription,
    "RXO": map_prescription,
}
"""Segments that are read one by one."""
