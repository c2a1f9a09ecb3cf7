"""FHIR R4 resources around the findings, written for these tests; counts of the real bundles are those that their JSON holds."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from salus.record.read.fhir import READER
from salus.record.read.reader import ReadOptions

PATIENT = {"resourceType": "Patient", "id": "p1"}
SUBJECT = {"subject": {"reference": "Patient/p1"}}
SNOMED = "http://snomed.info/sct"


def snomed(code, display):
    return {"coding": [{"system": SNOMED, "code": code, "display": display}]}


def read(folder, *resources):
    path = folder / "b.json"
    path.write_text(json.dumps({"resourceType": "Bundle", "entry": [{"resource": each} for each in (PATIENT, *resources)]}))
    result = READER.read(path, ReadOptions())
    return [item for found in result.found for item in found.items], [each.reason for each in result.skipped]


CASES = [
    (
        {
            "resourceType": "Goal", **SUBJECT, "lifecycleStatus": "active", "description": {"text": "HbA1c < 7"},
            "target": [{"measure": {"text": "HbA1c"}, "detailQuantity": {"value": 7, "unit": "%", "comparator": "<"}}],
        },
        ("HbA1c < 7", "target: HbA1c <7 %", "active", "a goal, not a finding"),
    ),
    (
        {
            "resourceType": "CarePlan", **SUBJECT, "status": "active",
            "category": [{"coding": [{"code": "assess-plan"}]}, snomed("736376001", "Infectious disease care plan")],
            "activity": [{"detail": {"code": snomed("1", "Isolation")}}, {"detail": {"description": "Fluids"}}],
        },
        ("Infectious disease care plan", "Isolation; Fluids", "active", "a plan: it does not say that it was done"),
    ),
    (
        {"resourceType": "ServiceRequest", **SUBJECT, "status": "active", "intent": "order", "code": snomed("2", "Chest CT")},
        ("Chest CT", None, "active", "an order: it does not say that it was done"),
    ),
    (
        {"resourceType": "Device", "patient": SUBJECT["subject"], "type": snomed("3", "Pacemaker"), "serialNumber": "SECRET"},
        ("Pacemaker", None, None, "a device; when it was in use is not stated here"),
    ),
    (
        {
            "resourceType": "ImagingStudy", **SUBJECT, "status": "available", "numberOfInstances": 120,
            "series": [{"modality": {"code": "CT"}, "bodySite": {"display": "Chest"}}],
        },
        ("imaging study (CT)", "CT, Chest, 120 images", "available", "a pointer to a study: its images are not in this file"),
    ),
    (
        {
            "resourceType": "FamilyMemberHistory", "patient": SUBJECT["subject"], "status": "completed", "relationship": {"text": "mother"},
            "condition": [{"code": snomed("254837009", "Breast cancer"), "onsetAge": {"value": 45, "unit": "a"}}],
        },
        ("family history", "mother: Breast cancer (onset at 45 years)", "completed", "of a relative, not of the patient"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "expected"), CASES, ids=[case[0]["resourceType"] for case in CASES])
def test_care_is_read_and_says_what_it_is(tmp_path, resource, expected):
    (item,), skipped = read(tmp_path, resource)
    assert (item.code.display, item.value, item.status, item.remarks[0]) == expected
    assert skipped == [] and item.modality == "ehr" and "SECRET" not in repr(item)
    assert item.category != "condition"


def test_a_flag_is_an_item_with_start_and_end(tmp_path):
    period = {"start": "2020-01-02T03:00:00Z", "end": "2020-01-02T03:10:00Z"}
    flag = {"resourceType": "Flag", **SUBJECT, "status": "inactive", "code": {"text": "SpO2 low"}, "period": period}
    (item,), _ = read(tmp_path, flag)
    assert (item.ended_at.at - item.observed_at.at).total_seconds() == 600 and item.code.display == "SpO2 low"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueRange": {"low": {"value": 2, "unit": "mg"}, "high": {"value": 5, "unit": "mg"}}}, ("2–5", "mg")),
        ({"valueRange": {"high": {"value": 5, "unit": "mg"}}}, ("<= 5", "mg")),
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}, ("1:128", None)),
        ({"valueDateTime": "2020-01"}, ("2020-01", None)),
        ({"valueTime": "10:30:00"}, ("10:30:00", None)),
        ({"valuePeriod": {"start": "2020"}}, ("2020 to …", None)),
    ],
)
def test_values_in_words(tmp_path, value, expected):
    (item,), skipped = read(tmp_path, {"resourceType": "Observation", **SUBJECT, "status": "final", "code": {"text": "x"}, **value})
    assert (item.value, item.unit) == expected and skipped == []


def test_a_converted_ccda_document(tmp_path):
    absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
    null_flavor = {"url": "http://hl7.org/fhir/StructureDefinition/iso21090-nullFlavor", "valueCode": "UNK"}
    div = "<div xmlns='http://www.w3.org/1999/xhtml'><p>Lives <b>alone</b>.</p><table><tr><td>Smokes</td><td>no</td></tr></table></div>"
    composition = {
        "resourceType": "Composition", **SUBJECT, "status": "final", "date": "2020-01-02",
        "type": {"coding": [{"system": "http://loinc.org", "code": "34133-9", "display": "Summary of episode note"}]},
        "section": [
            {
                "title": "Social history", "text": {"div": div},
                "code": {"coding": [{"system": "http://loinc.org", "code": "29762-2", "display": "Social history"}]},
            },
            {"title": "Problems", "text": {"div": "<div>Hypertension</div>"}, "entry": [{"reference": "urn:uuid:2"}]},
        ],
    }  # fmt: skip
    medicine = {"resourceType": "Medication", "id": "m", "code": {"coding": [{"system": "", "display": "Aspirin 81 mg"}]}}
    statement = {
        "resourceType": "MedicationStatement", **SUBJECT, "status": "active", "contained": [medicine],
        "medicationReference": {"reference": "#m"}, "_effectiveDateTime": {"extension": [absent]},
    }  # fmt: skip
    condition = {"resourceType": "Condition", "subject": {"reference": "urn:uuid:1"}, "code": {"coding": [{"extension": [null_flavor]}]}}
    known = {"resourceType": "Condition", "subject": {"reference": "urn:uuid:1"}, "code": {"text": "Hypertension"}}
    entries = [
        {"fullUrl": "urn:uuid:1", "resource": PATIENT},
        *({"fullUrl": f"urn:uuid:{n}", "resource": each} for n, each in enumerate((known, composition, statement, condition), 2)),
    ]
    path = tmp_path / "ccda.json"
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "document", "entry": entries}))
    result = READER.read(path, ReadOptions())
    items = result.found[0].items
    assert [(item.category, item.code.display) for item in items] == [
        ("condition", "Hypertension"), ("note", "Social history"), ("medication", "Aspirin 81 mg"),
    ]  # fmt: skip
    assert items[1].content.load() == "Lives alone.\nSmokes no"
    assert items[1].source.locator == "entry[2].resource.section[0]"
    assert [each.reason for each in result.skipped] == ["Condition at entry[4].resource: code holds neither a coding nor a text"]


@pytest.mark.data
@pytest.mark.parametrize("folder", ["fhir_synthea_r4", "fhir_synthea_covid"])
def test_all_clinical_resources_of_the_real_bundles_are_read(salus_data, folder):
    administrative = {"Claim", "ExplanationOfBenefit", "Organization", "Practitioner", "CareTeam"}
    for path in sorted((salus_data / folder / "fhir").glob("*.json"))[::3]:
        kinds = Counter(entry["resource"]["resourceType"] for entry in json.loads(path.read_text())["entry"])
        result = READER.read(path, ReadOptions())
        unread = {each.reason.split(":")[0].split(" ", 1)[1] for each in result.skipped if "is not read" in each.reason}
        assert unread <= administrative
        if not kinds["Patient"]:
            assert not result.found and any("holds no patient" in each.reason for each in result.skipped)
            continue
        read_places = {item.source.locator.split(".resource")[0] for found in result.found for item in found.items}
        assert len(read_places) == sum(count for kind, count in kinds.items() if kind not in administrative)
