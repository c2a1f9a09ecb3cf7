"""EHR events: what was diagnosed, ordered, done and recorded, as coded events on a time line.

Claims conditions, medicines, procedures, encounters, allergies, immunizations, demographics, and the observations that no other
modality claims. Leaves out vital signs and laboratory values (`vitals_labs`) and text (`notes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from salus.encode.modality import Modality
from salus.record.patient import Code, Instant, Item, Source, item_id

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

CLAIMS = (
    "fhir:Patient",
    "fhir:Condition",
    "fhir:MedicationRequest",
    "fhir:MedicationAdministration",
    "fhir:MedicationStatement",
    "fhir:Procedure",
    "fhir:Encounter",
    "fhir:AllergyIntolerance",
    "fhir:Immunization",
    "fhir:DiagnosticReport",
    "fhir:Observation",
    "fhir:ServiceRequest",
    "fhir:CarePlan",
    "fhir:DetectedIssue",
    "fhir:Device",
    "fhir:FamilyMemberHistory",
    "fhir:Flag",
    "fhir:Goal",
    "fhir:ImagingStudy",
    "fhir:Specimen",
    "device:alarm",
    "category:condition",
    "category:medication",
    "category:procedure",
    "category:encounter",
    "category:allergy",
    "category:immunization",
    "category:demographic",
)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the event network for these settings."""
    from salus.encode.events import EventEncoder

    return EventEncoder(**settings)


def example() -> tuple[Item, ...]:
    """Return a made-up patient's sex, one condition and one medicine.

    Example:
        >>> [item.code.display for item in example()]
        ['sex', 'Hypertension', 'lisinopril 10 MG Oral Tablet']
    """
    sha256 = "0" * 64

    def event(place: str, code: Code, category: str, **known: Any) -> Item:
        return Item(item_id(sha256, place), "ehr", code, Source("example.json", sha256, place), category=category, **known)

    onset = Instant(datetime(2019, 3, 4, tzinfo=UTC), "day", zone_is_stated=False)
    medicine = Code("http://www.nlm.nih.gov/research/umls/rxnorm", "314076", "lisinopril 10 MG Oral Tablet")
    return (
        event("entry[0].resource.gender", Code("http://loinc.org", "76689-9", "sex"), "demographic", value="female"),
        event(
            "entry[1].resource",
            Code("http://snomed.info/sct", "38341003", "Hypertension"),
            "condition",
            observed_at=onset,
            status="active",
        ),
        event("entry[2].resource", medicine, "medication", observed_at=onset, status="active"),
    )


MODALITY = Modality(name="ehr", title="EHR events", claims=CLAIMS, example=example, token_budget=16, build_encoder=build_encoder)
