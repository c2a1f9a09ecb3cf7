"""Makes synthetic patients as FHIR R4 bundles, from a seed.

Takes a number; gives a bundle of 1-6 encounters with conditions, medicines, allergies, vaccines, procedures and 10-60
observations over time. They test reading and looking up, nothing else: values are drawn one by one, without disease behind them.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from salus.cohorts.one_file import read_one_file
from salus.cohorts.synthetic_codes import (
    ALLERGIES,
    BLOOD_PRESSURE,
    CVX,
    DIASTOLIC,
    LABS,
    LASTING,
    LOINC,
    MEDICINES,
    PASSING,
    PROCEDURES,
    RXNORM,
    SNOMED,
    SYSTOLIC,
    UCUM,
    VACCINES,
    VITALS,
    Concept,
    Measured,
)
from salus.record.patient import PatientRecord
from salus.record.read.fhir import READER

Resource = dict[str, Any]
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
GIVEN = {
    "female": ("Ada", "Birte", "Chiara", "Dunja", "Esi", "Farah", "Greta", "Hanako"),
    "male": ("Anton", "Bilal", "Carlos", "Dmitri", "Emeka", "Felix", "Goran", "Haruki"),
}
FAMILY = ("Testperson", "Madeup", "Sample", "Invented", "Specimen", "Example")
ZONES_H = (-8, -5, 0, 1, 2, 9)
LAST_DAY = date(2024, 6, 30)
MOST_OBSERVATIONS = 60
FEWEST_OBSERVATIONS = 10


def subject_of(number: int) -> str:
    """Return the patient key of a synthetic patient.

    Example:
        >>> subject_of(7)
        'synthetic-00007'
    """
    return f"synthetic-{number:05d}"


def _concept(system: str, concept: Concept) -> Resource:
    return {"coding": [{"system": system, "code": concept[0], "display": concept[1]}], "text": concept[1]}


def _status(kind: str, code: str) -> Resource:
    return {"coding": [{"system": f"{TERMINOLOGY}/{kind}", "code": code}]}


def _encounters(rng: random.Random, patient: Resource) -> list[tuple[datetime, datetime, str]]:
    """Return (start, end, class) of 1-6 encounters, oldest first."""
    zone = timezone(timedelta(hours=rng.choice(ZONES_H)))
    born = date.fromisoformat(patient["birthDate"])
    span_days = min(12 * 365, (LAST_DAY - born).days - 30)
    days = sorted(rng.sample(range(span_days), k=rng.randint(1, 6)), reverse=True)
    encounters = []
    for ago in days:
        kind = rng.choices(("AMB", "EMER", "IMP"), weights=(6, 2, 2))[0]
        day = LAST_DAY - timedelta(days=ago)
        start = datetime(day.year, day.month, day.day, rng.randint(7, 18), rng.randrange(60), tzinfo=zone)
        hours = {"AMB": 1, "EMER": rng.randint(4, 12), "IMP": rng.randint(30, 140)}[kind]
        encounters.append((start, start + timedelta(hours=hours), kind))
    return encounters


def _conditions(rng: random.Random, starts: Sequence[datetime]) -> list[Resource]:
    chosen = rng.sample(LASTING, k=rng.randint(1, 5)) + rng.sample(PASSING, k=rng.randint(1, 3))
    resources = []
    for concept in chosen:
        onset = rng.choice(starts) - timedelta(days=rng.randint(0, 20))
        is_resolved = rng.random() < (0.8 if concept in PASSING else 0.1)
        resource = {
            "resourceType": "Condition",
            "clinicalStatus": _status("condition-clinical", "resolved" if is_resolved else "active"),
            "verificationStatus": _status("condition-ver-status", "confirmed"),
            "code": _concept(SNOMED, concept),
            "onsetDateTime": onset.isoformat(),
            "recordedDate": onset.isoformat(),
        }
        if is_resolved:
            resource["abatementDateTime"] = (onset + timedelta(days=rng.randint(5, 40))).isoformat()
        resources.append(resource)
    return resources


def _medicines(rng: random.Random, starts: Sequence[datetime]) -> list[Resource]:
    return [
        {
            "resourceType": "MedicationRequest",
            "status": rng.choices(("active", "stopped", "completed"), weights=(6, 3, 1))[0],
            "intent": "order",
            "medicationCodeableConcept": _concept(RXNORM, concept),
            "authoredOn": rng.choice(starts).isoformat(),
        }
        for concept in rng.sample(MEDICINES, k=rng.randint(1, 8))
    ]


def _others(rng: random.Random, starts: Sequence[datetime]) -> list[Resource]:
    """Return allergies, vaccines and procedures."""
    allergies = [
        {
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": _status("allergyintolerance-clinical", "active"),
            "verificationStatus": _status("allergyintolerance-verification", "confirmed"),
            "code": _concept(SNOMED, concept),
            "recordedDate": rng.choice(starts).isoformat(),
        }
        for concept in rng.sample(ALLERGIES, k=rng.choice((0, 1, 1, 2, 3)))
    ]
    vaccines = [
        {
            "resourceType": "Immunization",
            "status": "completed",
            "vaccineCode": _concept(CVX, concept),
            "occurrenceDateTime": rng.choice(starts).isoformat(),
        }
        for concept in rng.sample(VACCINES, k=rng.randint(0, 5))
    ]
    procedures = [
        {
            "resourceType": "Procedure",
            "status": "completed",
            "code": _concept(SNOMED, concept),
            "performedDateTime": rng.choice(starts).isoformat(),
        }
        for concept in rng.sample(PROCEDURES, k=rng.randint(0, 4))
    ]
    return [*allergies, *vaccines, *procedures]


def _drawn(rng: random.Random, what: Measured, centre: float) -> float:
    value = min(max(rng.gauss(centre, what.within), what.least), what.most)
    return round(value, what.decimals) if what.decimals else float(round(value))


def _quantity(what: Measured, value: float) -> Resource:
    return {"value": value if what.decimals else int(value), "unit": what.unit, "system": UCUM, "code": what.unit}


def _observation(what: Measured, value: float, at: datetime, has_range: bool) -> Resource:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": what.category}]}],
        "code": _concept(LOINC, (what.code, what.display)),
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": _quantity(what, value),
    }
    if has_range and what.low is not None and what.high is not None:
        resource["referenceRange"] = [
            {"low": _quantity(replace(what, decimals=2), what.low), "high": _quantity(replace(what, decimals=2), what.high)}
        ]
    return resource


def _blood_pressure(systolic: float, diastolic: float, at: datetime) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": "vital-signs"}]}],
        "code": _concept(LOINC, BLOOD_PRESSURE),
        "effectiveDateTime": at.isoformat(),
        "component": [
            {"code": _concept(LOINC, (what.code, what.display)), "valueQuantity": _quantity(what, value)}
            for what, value in ((SYSTOLIC, systolic), (DIASTOLIC, diastolic))
        ],
    }


def _times(rng: random.Random, encounters: Sequence[tuple[datetime, datetime, str]]) -> list[datetime]:
    """Return when something is measured: once in a visit, 2-4 times in an emergency or hospital stay."""
    times = []
    for start, end, kind in encounters:
        rounds = 1 if kind == "AMB" else rng.randint(2, 4)
        minutes = rng.sample(range(1, int((end - start).total_seconds() / 60)), k=rounds)
        times += [start + timedelta(minutes=minute) for minute in sorted(minutes)]
    return times


def _observations(rng: random.Random, encounters: Sequence[tuple[datetime, datetime, str]]) -> list[Resource]:
    """Return 10-60 observations; a course with too few is measured again every 20 minutes at its end."""
    chosen = rng.sample(VITALS, k=rng.randint(2, 5)) + rng.sample(LABS, k=rng.randint(3, 9))
    centres = {what.code: rng.gauss(what.typical, what.between) for what in (*chosen, SYSTOLIC, DIASTOLIC)}
    has_range = rng.random() < 0.7
    times = _times(rng, encounters)
    resources: list[Resource] = []
    at = times[0]
    while times or len(resources) < FEWEST_OBSERVATIONS:
        at = times.pop(0) if times else at + timedelta(minutes=20)
        resources += [
            _observation(what, _drawn(rng, what, centres[what.code]), at, has_range) for what in chosen if rng.random() < 0.7
        ]
        if rng.random() < 0.8:
            systolic, diastolic = (_drawn(rng, what, centres[what.code]) for what in (SYSTOLIC, DIASTOLIC))
            resources.append(_blood_pressure(systolic, diastolic, at))
    return resources[:MOST_OBSERVATIONS]


def make_bundle(number: int) -> Resource:
    """Return the bundle of one synthetic patient; the same number always gives the same bundle.

    Example:
        >>> bundle = make_bundle(3)
        >>> bundle["type"], bundle == make_bundle(3), bundle == make_bundle(4)
        ('collection', True, False)
    """
    rng = random.Random(f"salus synthetic patient {number}")
    sex = rng.choice(("female", "male"))
    born = LAST_DAY - timedelta(days=rng.randint(18 * 365, 94 * 365))
    patient: Resource = {
        "resourceType": "Patient",
        "id": subject_of(number),
        "name": [{"use": "official", "given": [rng.choice(GIVEN[sex])], "family": rng.choice(FAMILY)}],
        "gender": sex,
        "birthDate": born.isoformat(),
    }
    encounters = _encounters(rng, patient)
    starts = [start for start, _, _ in encounters]
    visits: list[Resource] = [
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": kind},
            "period": {"start": start.isoformat(), "end": end.isoformat()},
        }
        for start, end, kind in encounters
    ]
    resources = [
        *visits,
        *_conditions(rng, starts),
        *_medicines(rng, starts),
        *_others(rng, starts),
        *_observations(rng, encounters),
    ]
    subject = {"reference": f"Patient/{patient['id']}"}
    for index, resource in enumerate(resources):
        resource["id"] = f"{patient['id']}-{index}"
        key = "patient" if resource["resourceType"] in ("AllergyIntolerance", "Immunization") else "subject"
        resource[key] = subject
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": resource} for resource in (patient, *resources)],
    }


def bundle_bytes(bundle: Mapping[str, Any]) -> bytes:
    """Return a bundle as the bytes of its JSON file."""
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode()


def read_synthetic(number: int) -> PatientRecord:
    """Return the record of one synthetic patient, made and read through the FHIR reader.

    The bundle is written to a temporary file, as readers take files; items name it `synthetic-00007.json`.

    Raises:
        InputError: the reader does not take the bundle.
    """
    name = f"{subject_of(number)}.json"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(bundle_bytes(make_bundle(number)))
        record = read_one_file(READER, path, subject_id=subject_of(number))
    items = tuple(replace(item, source=replace(item.source, path=name)) for item in record.items)
    return replace(record, items=items)
