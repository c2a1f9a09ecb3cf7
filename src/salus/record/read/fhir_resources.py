"""FHIR R4 resources other than Observation, each as drafts of items; those of care around the findings stand in `fhir_care`.

Takes one resource; gives drafts. Names, addresses, identifiers, performers and narrative are never read; of the birth date only
the year is kept. Leaves out every resource type that `MAPPINGS` does not list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.patient import Code, Instant
from salus.record.read.fhir_care import CARE
from salus.record.read.fhir_documents import Document, Surroundings, document_of, parts_of, remarks_of
from salus.record.read.fhir_fields import (
    LOINC,
    SNOMED,
    Concept,
    Fields,
    choice_time,
    concept_code,
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
from salus.record.read.fhir_observation import Draft, Mapped, map_observation, require_concept, words_of
from salus.record.read.fhir_texts import texts
from salus.record.timeline import BIRTH_DATE

INPATIENT = frozenset({"imp", "acute", "nonac", "inpatient"})
"""Encounter classes of a stay: v3-ActCode IMP and its children, and the word that DSTU2 used."""
_CLASS_WORDS = {
    "amb": "ambulatory",
    "emer": "emergency",
    "imp": "inpatient",
    "hh": "home health",
    "vr": "virtual",
    "obsenc": "observation",
}
_UNSURE = frozenset({"unconfirmed", "provisional", "differential"})
_NOT_TRUE = frozenset({"entered-in-error", "refuted"})


def map_patient(resource: Fields, around: Surroundings) -> Mapped:
    """Return sex, birth year, and death where stated; age is for whoever knows at what time it is asked.

    Source: FHIR R4, 8.1 (Patient).
    """
    drafts: list[Draft] = []
    refusals: list[tuple[str, str]] = []
    keys = ("fhir:Patient", "category:demographic")
    gender = text(resource, "gender")
    if gender is not None:
        drafts.append(Draft(Code(LOINC, "76689-9", "sex"), keys, "demographic", ".gender", value=gender))
    try:
        birth = time_of(resource, "birthDate")
        if isinstance(birth, Instant):
            year = Instant(datetime(birth.at.year, 1, 1, tzinfo=UTC), "year", zone_is_stated=False)
            drafts.append(
                Draft(
                    Code(LOINC, BIRTH_DATE, "birth date"),
                    keys,
                    "demographic",
                    ".birthDate",
                    observed_at=year,
                    remarks=("only the year is kept",),
                )
            )
    except FormatError as error:
        refusals.append((".birthDate", str(error)))
    died_at = time_of(resource, "deceasedDateTime")
    if died_at is not None or resource.get("deceasedBoolean") is True:
        drafts.append(
            Draft(Code(SNOMED, "419099009", "dead"), ("snomed:419099009", "fhir:Patient"), "observation", ".deceased", died_at)
        )
    return Mapped(tuple(drafts), tuple(refusals))


def _verification(resource: Fields) -> tuple[str, ...]:
    stated = concept_code(resource, "verificationStatus")
    if stated in _NOT_TRUE:
        raise FormatError(f"verification status is {stated}")
    return (f"verification status is {stated}",) if stated in _UNSURE else ()


def map_condition(resource: Fields, around: Surroundings) -> Mapped:
    """Return a problem or diagnosis with onset and abatement. Source: FHIR R4, 9.2 (Condition)."""
    what, remarks = require_concept(resource, "code"), _verification(resource)
    observed_at, ended_at = choice_time(resource, "onset")
    abated_at, abated_until = choice_time(resource, "abatement")
    if observed_at is None:
        observed_at = time_of(resource, "recordedDate")
        remarks = (*remarks, "the time is when it was recorded; the onset is not stated as a date") if observed_at else remarks
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:Condition", "category:condition"),
                "condition",
                observed_at=observed_at,
                ended_at=abated_until or abated_at or ended_at,
                status=concept_code(resource, "clinicalStatus"),
                remarks=remarks,
            ),
        )
    )


def _medicine(resource: Fields, around: Surroundings) -> Concept:
    if resource.get("medicationCodeableConcept") is not None:
        return require_concept(resource, "medicationCodeableConcept")
    reference = text(fields(resource, "medicationReference"), "reference")
    if reference is None:
        raise FormatError("names no medicine")
    medication = around.resolve(reference, fields_list(resource, "contained"))
    if medication is None:
        raise FormatError("its reference to a Medication leads to nothing in this file")
    return require_concept(medication, "code")


def map_medication_request(resource: Fields, around: Surroundings) -> Mapped:
    """Return an order with its dosage in words. Source: FHIR R4, 11.1 (MedicationRequest)."""
    if resource.get("doNotPerform") is True:
        raise FormatError("asks that the medicine not be given (doNotPerform)")
    what, dosages = _medicine(resource, around), fields_list(resource, "dosageInstruction")
    intent = text(resource, "intent")
    ends = [period_of(fields(fields(dosage, "timing"), "repeat"), "boundsPeriod")[1] for dosage in dosages]
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:MedicationRequest", "category:medication"),
                "medication",
                observed_at=time_of(resource, "authoredOn"),
                ended_at=ends[0] if len(ends) == 1 else None,
                status=text(resource, "status"),
                value="; ".join(words for dosage in dosages if (words := text(dosage, "text"))) or None,
                remarks=() if intent in (None, "order") else (f"the intent is {intent}",),
            ),
        )
    )


def map_medication_administration(resource: Fields, around: Surroundings) -> Mapped:
    """Return a dose that was given; one at a point in time ends there. Source: FHIR R4, 11.3 (MedicationAdministration)."""
    what, dosage = _medicine(resource, around), fields(resource, "dosage")
    observed_at, ended_at = choice_time(resource, "effective")
    dose = fields(dosage, "dose")
    is_point = resource.get("effectiveDateTime") is not None
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:MedicationAdministration", "category:medication"),
                "medication",
                observed_at=observed_at,
                ended_at=observed_at if is_point else ended_at,
                status=text(resource, "status"),
                value=number(dose, "value") if dose else text(dosage, "text"),
                unit=unit_of(dose) if dose else None,
            ),
        )
    )


def map_medication_statement(resource: Fields, around: Surroundings) -> Mapped:
    """Return what the patient is said to take. Source: FHIR R4, 11.4 (MedicationStatement)."""
    what, dosages = _medicine(resource, around), fields_list(resource, "dosage")
    observed_at, ended_at = choice_time(resource, "effective")
    remarks: tuple[str, ...] = ()
    if observed_at is None:
        observed_at = time_of(resource, "dateAsserted")
        remarks = ("the time is when it was asserted",) if observed_at else ()
    words = "; ".join(words for dosage in dosages if (words := text(dosage, "text"))) or None
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:MedicationStatement", "category:medication"),
                "medication",
                observed_at=observed_at,
                ended_at=ended_at,
                status=text(resource, "status"),
                value=words,
                remarks=remarks,
            ),
        )
    )


def map_procedure(resource: Fields, around: Surroundings) -> Mapped:
    """Return a procedure. Source: FHIR R4, 9.3 (Procedure)."""
    what = require_concept(resource, "code")
    observed_at, ended_at = choice_time(resource, "performed")
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:Procedure", "category:procedure"),
                "procedure",
                observed_at=observed_at,
                ended_at=ended_at,
                status=text(resource, "status"),
                value=concept_words(resource, "outcome"),
            ),
        )
    )


def encounter_class(resource: Fields) -> str:
    """Return the class code of an Encounter in lower case; empty when not stated."""
    stated = resource.get("class")
    if isinstance(stated, str):
        return stated.lower()
    return (text(fields(resource, "class"), "code") or "").lower()


def map_encounter(resource: Fields, around: Surroundings) -> Mapped:
    """Return a visit or stay; its value is the class in words. Source: FHIR R4, 8.11 (Encounter)."""
    kind = encounter_class(resource)
    words = "inpatient" if kind in INPATIENT else _CLASS_WORDS.get(kind, kind) or None
    types = [found for node in fields_list(resource, "type") if (found := concept_of(node))]
    what = types[0] if types else Concept(Code("http://terminology.hl7.org/CodeSystem/v3-ActCode", kind.upper(), words or ""), ())
    if not types and not kind:
        raise FormatError("states neither type nor class")
    observed_at, ended_at = period_of(resource, "period")
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:Encounter", "category:encounter"),
                "encounter",
                observed_at=observed_at,
                ended_at=ended_at,
                status=text(resource, "status"),
                value=words,
            ),
        )
    )


def map_allergy(resource: Fields, around: Surroundings) -> Mapped:
    """Return an allergy or intolerance; its value names the reactions. Source: FHIR R4, 9.1 (AllergyIntolerance)."""
    what, remarks = require_concept(resource, "code"), _verification(resource)
    observed_at, _ = choice_time(resource, "onset")
    if observed_at is None:
        observed_at = time_of(resource, "recordedDate")
        remarks = (*remarks, "the time is when it was recorded") if observed_at else remarks
    criticality = text(resource, "criticality")
    reactions = words_of(
        [node for reaction in fields_list(resource, "reaction") for node in fields_list(reaction, "manifestation")]
    )
    severities = {severity for reaction in fields_list(resource, "reaction") if (severity := text(reaction, "severity"))}
    remarks += tuple(f"a reaction was {severity}" for severity in ("severe", "moderate", "mild") if severity in severities)
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:AllergyIntolerance", "category:allergy"),
                "allergy",
                observed_at=observed_at,
                value=reactions,
                status=concept_code(resource, "clinicalStatus"),
                remarks=(*remarks, f"criticality is {criticality}") if criticality else remarks,
            ),
        )
    )


def map_immunization(resource: Fields, around: Surroundings) -> Mapped:
    """Return a vaccination, given or not. Source: FHIR R4, 9.5 (Immunization)."""
    what = require_concept(resource, "vaccineCode")
    return Mapped(
        (
            Draft(
                what.code,
                (*what.keys, "fhir:Immunization", "category:immunization"),
                "immunization",
                observed_at=time_of(resource, "occurrenceDateTime"),
                status=text(resource, "status"),
            ),
        )
    )


def _read_all(
    attachments: list[tuple[str, Fields]], around: Surroundings
) -> tuple[list[tuple[str, Document]], list[tuple[str, str]]]:
    documents, refusals = [], []
    for place, attachment in attachments:
        try:
            documents.append((place, document_of(attachment, around)))
        except (InputError, MissingExtra) as error:
            refusals.append((place, str(error)))
    return documents, refusals


def map_report(resource: Fields, around: Surroundings) -> Mapped:
    """Return a report's texts, or the bare report when it holds none. Source: FHIR R4, 10.3 (DiagnosticReport)."""
    what = require_concept(resource, "code")
    observed_at, ended_at = choice_time(resource, "effective")
    remarks: tuple[str, ...] = ()
    if observed_at is None:
        observed_at = time_of(resource, "issued")
        remarks = ("the time is when it was issued",) if observed_at else ()
    frame = Draft(
        what.code,
        (*what.keys, "category:report"),
        "report",
        observed_at=observed_at,
        ended_at=ended_at,
        status=text(resource, "status"),
        value=words_of(fields_list(resource, "conclusionCode")),
        remarks=remarks,
    )
    drafts: list[Draft] = []
    conclusion = text(resource, "conclusion")
    if conclusion is not None:
        drafts += texts(replace(frame, within=".conclusion"), parts_of(conclusion), remarks_of(conclusion))
    forms = [(f".presentedForm[{index}]", form) for index, form in enumerate(fields_list(resource, "presentedForm"))]
    documents, refusals = _read_all(forms, around)
    for place, document in documents:
        drafts += texts(replace(frame, within=place), document.parts, document.remarks)
    if not drafts:
        drafts = [replace(frame, keys=(*what.keys, "fhir:DiagnosticReport", "category:report"))]
    return Mapped(tuple(drafts), tuple(refusals), _companions(documents))


def map_document(resource: Fields, around: Surroundings) -> Mapped:
    """Return a document's texts as notes. Source: FHIR R4, 3.5 (DocumentReference)."""
    kind = fields(resource, "type")
    what = concept_of(kind) or Concept(Code(LOINC, "34109-9", "note"), ())
    observed_at = time_of(resource, "date") or period_of(fields(resource, "context"), "period")[0]
    contents = fields_list(resource, "content")
    if not contents:
        raise FormatError("holds no attachment")
    forms = [(f".content[{index}].attachment", fields(content, "attachment")) for index, content in enumerate(contents)]
    documents, refusals = _read_all(forms, around)
    frame = Draft(
        what.code, (*what.keys, "media:text/plain", "category:note"), "note", observed_at=observed_at, status=text(resource, "status")
    )
    drafts = tuple(
        draft for place, document in documents for draft in texts(replace(frame, within=place), document.parts, document.remarks)
    )
    return Mapped(drafts, tuple(refusals), _companions(documents))


def _companions(documents: list[tuple[str, Document]]) -> tuple[Path, ...]:
    return tuple(document.companion for _, document in documents if document.companion is not None)


def _map_observation(resource: Fields, around: Surroundings) -> Mapped:
    return map_observation(resource)


MAPPINGS: dict[str, Callable[[Fields, Surroundings], Mapped]] = {
    "Patient": map_patient,
    "Condition": map_condition,
    "Observation": _map_observation,
    "MedicationRequest": map_medication_request,
    "MedicationAdministration": map_medication_administration,
    "MedicationStatement": map_medication_statement,
    "Procedure": map_procedure,
    "Encounter": map_encounter,
    "AllergyIntolerance": map_allergy,
    "Immunization": map_immunization,
    "DiagnosticReport": map_report,
    "DocumentReference": map_document,
    **CARE,
}
"""Resource types that are read."""
SUPPORTING = frozenset({"Medication", "Binary"})
"""Resource types that are read only where another refers to them."""
