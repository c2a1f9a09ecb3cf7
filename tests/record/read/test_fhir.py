"""FHIR R4 resources, written for these tests. Expected values are read off the resources, or by the standard's formula."""

from __future__ import annotations

import copy
import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salus.errors import FormatError, InputError
from salus.record.patient import Instant, PatientRecord
from salus.record.read import fhir
from salus.record.read.fhir import READER
from salus.record.read.reader import HEAD_BYTES, ReadOptions
from salus.record.timeline import cut, parse_instant

UCUM = "http://unitsofmeasure.org"
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "gender": "female",
    "birthDate": "1956-07-21",
    "deceasedDateTime": "2020-05",
    "name": [{"family": "Secretname"}],
    "address": [{"city": "Secrettown"}],
    "identifier": [{"value": "SECRET-77"}],
    "text": {"div": "Secretname"},
}
SUBJECT = {"reference": "Patient/p1"}


def loinc(code, display="x"):
    return {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]}


def ucum(value, code, **more):
    return {"value": value, "unit": code, "system": UCUM, "code": code, **more}


def observation(**more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": loinc("8867-4", "Heart rate"),
        "subject": SUBJECT,
        "category": [{"coding": [{"code": "vital-signs"}]}],
        "effectiveDateTime": "2019-03-04T10:15:00-05:00",
        **more,
    }


def bundle(*resources, kind="collection"):
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": each} for each in resources]}


def write(folder, document, name="b.json"):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def read(folder, document, name="b.json"):
    return READER.read(write(folder, document, name), ReadOptions())


def one(folder, resource):
    """The only item besides the patient's own."""
    result = read(folder, bundle(PATIENT, resource))
    assert result.skipped == ()
    (found,) = result.found
    (item,) = [each for each in found.items if each.source.locator.startswith("entry[1]")]
    return item


def reasons(result):
    return [each.reason for each in result.skipped]


def test_patient_gives_sex_year_of_birth_and_death_and_no_identity(tmp_path):
    (found,) = read(tmp_path, bundle(PATIENT)).found
    assert found.subject_id == "p1"
    sex, born, dead = found.items
    assert (sex.code.code, sex.value, sex.category, sex.modality) == ("76689-9", "female", "demographic", "ehr")
    assert (born.code.code, born.value, born.observed_at) == (
        "21112-8",
        None,
        Instant(datetime(1956, 1, 1, tzinfo=UTC), "year", False),
    )
    assert (dead.code.display, dead.observed_at.precision) == ("dead", "month")
    everything = repr(found)
    for secret in ("Secretname", "Secrettown", "SECRET-77", "07-21"):
        assert secret not in everything


def test_quantity_with_time_zone_and_range(tmp_path):
    limits = [{"low": ucum(60, "/min"), "high": ucum(100, "/min")}]
    item = one(tmp_path, observation(valueQuantity=ucum(88, "/min"), referenceRange=limits))
    assert (item.value, item.unit, item.modality, item.status) == (88.0, "/min", "vitals_labs", "final")
    assert item.observed_at == Instant(datetime(2019, 3, 4, 10, 15, tzinfo=timezone(timedelta(hours=-5))), "second", True)
    assert (item.reference_range.low, item.reference_range.high, item.reference_range.source) == (60.0, 100.0, "the record")
    assert item.source.locator == "entry[1].resource"


def test_range_is_converted_to_the_unit_of_the_value(tmp_path):
    item = one(tmp_path, observation(valueQuantity=ucum(0.9, "g/dL"), referenceRange=[{"high": ucum(12, "g/L")}]))
    assert item.reference_range.high == pytest.approx(1.2)
    item = one(tmp_path, observation(valueQuantity=ucum(0.9, "g/dL"), referenceRange=[{"high": ucum(12, "s")}]))
    assert item.reference_range is None
    assert item.remarks == ("the record's reference range is in a unit that does not convert; it was left out",)
    item = one(
        tmp_path, observation(valueQuantity=ucum(1, "g/L"), referenceRange=[{"high": ucum(2, "g/L")}, {"high": ucum(3, "g/L")}])
    )
    assert item.remarks == ("the record gives 2 reference ranges; none was chosen",)


@pytest.mark.parametrize(
    ("value", "expected", "unit"),
    [
        ({"valueCodeableConcept": {"text": "Never smoker"}}, "Never smoker", None),
        ({"valueString": "positive"}, "positive", None),
        ({"valueInteger": 3}, 3.0, None),
        ({"valueBoolean": False}, "false", None),
        ({"valueQuantity": ucum(5, "mg/dL", comparator="<")}, "< 5", "mg/dL"),
        ({"valueQuantity": {"value": 7.4}}, 7.4, None),
        ({"valueQuantity": {"value": 7, "unit": "mg/dL"}}, 7.0, "mg/dL"),
        ({"dataAbsentReason": {"coding": [{"code": "unknown"}]}}, None, None),
    ],
)
def test_other_kinds_of_value(tmp_path, value, expected, unit):
    item = one(tmp_path, observation(**value))
    assert (item.value, item.unit) == (expected, unit)
    if "dataAbsentReason" in value:
        assert item.remarks == ("value absent: unknown",)


def test_components_are_items_of_their_own(tmp_path):
    parts = [
        {"code": loinc("8480-6", "Systolic"), "valueQuantity": ucum(120, "mm[Hg]")},
        {"code": loinc("8462-4", "Diastolic"), "valueQuantity": ucum(80, "furlongs")},
    ]
    result = read(tmp_path, bundle(PATIENT, observation(code=loinc("85354-9", "BP"), component=parts)))
    systolic = result.found[0].items[-1]
    assert (systolic.code.display, systolic.value, systolic.source.locator) == (
        "Systolic",
        120.0,
        "entry[1].resource.component[0]",
    )
    assert systolic.observed_at.precision == "second"
    (reason,) = reasons(result)
    assert reason.startswith("Observation at entry[1].resource.component[1]: Cannot use unit 'furlongs'")


def test_sampled_data_becomes_a_signal(tmp_path):
    sampled = {"origin": ucum(2, "mV"), "period": 2, "factor": 0.5, "dimensions": 1, "data": "0 2 E -4 U"}
    item = one(tmp_path, observation(valueSampledData=sampled))
    signal = item.content.load()
    np.testing.assert_array_equal(signal.samples, np.array([[2, 3, np.nan, 0, np.nan]], np.float32))  # data × factor + origin
    assert (signal.sampling_rate_hz, signal.units, item.category) == (500.0, ("mV",), "waveform")
    assert item.content.summary == "1 lead, 500 Hz, 0.01 s"
    assert "2 of 5 samples are missing or beyond the device's limits" in item.remarks


def test_leads_in_components_make_one_signal_in_millivolts(tmp_path):
    def lead(name, data):
        code = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.24", "code": "1", "display": f"MDC_ECG_ELEC_POTL_{name}"}]}
        return {"code": code, "valueSampledData": {"origin": ucum(0, "uV"), "period": 4, "dimensions": 1, "data": data}}

    parts = [lead("I", "1000 2000"), lead("AVR", "0 500"), {"code": loinc("8867-4"), "valueQuantity": ucum(60, "/min")}]
    result = read(tmp_path, bundle(PATIENT, observation(code={"text": "ECG"}, component=parts)))
    wave, rate = result.found[0].items[-2:]
    signal = wave.content.load()
    assert (signal.leads, signal.units, wave.modality) == (("I", "aVR"), ("mV", "mV"), "ecg")
    np.testing.assert_allclose(signal.samples, [[1, 2], [0, 0.5]])
    assert rate.value == 60.0


def test_condition_with_partial_dates(tmp_path):
    item = one(
        tmp_path,
        {
            "resourceType": "Condition",
            "subject": SUBJECT,
            "clinicalStatus": {"coding": [{"code": "resolved"}]},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": "10509002", "display": "Acute bronchitis"}]},
            "onsetDateTime": "2019",
            "abatementDateTime": "2019-03",
        },
    )
    assert (item.category, item.modality, item.status, item.code.code) == ("condition", "ehr", "resolved", "10509002")
    assert (item.observed_at.precision, item.ended_at.precision, item.ended_at.zone_is_stated) == ("year", "month", False)


def test_a_time_without_zone_is_taken_as_utc_and_says_so(tmp_path):
    item = one(tmp_path, observation(valueInteger=1, effectiveDateTime="2019-03-04T10:15:00"))
    assert item.observed_at == Instant(datetime(2019, 3, 4, 10, 15, tzinfo=UTC), "second", False)


MEDICATION = {"resourceType": "Medication", "id": "m1", "code": {"text": "aspirin 75 mg"}}


@pytest.mark.parametrize(
    "medicine",
    [
        {"medicationCodeableConcept": {"text": "aspirin 75 mg"}},
        {"medicationReference": {"reference": "Medication/m1"}},
        {"medicationReference": {"reference": "#c"}, "contained": [{**MEDICATION, "id": "c"}]},
        {"medicationReference": {"reference": "http://example.org/fhir/Medication/m1/_history/2"}},
    ],
)
@pytest.mark.parametrize("name", ["b.json", "b.ndjson"])
def test_medicine_by_concept_by_reference_and_contained(tmp_path, medicine, name):
    request = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "subject": SUBJECT,
        "authoredOn": "2019-03-04",
        **medicine,
        "dosageInstruction": [{"text": "one daily"}],
    }
    parts = (PATIENT, request, MEDICATION)
    result = read(tmp_path, "\n".join(json.dumps(each) for each in parts) if name == "b.ndjson" else bundle(*parts), name)
    assert result.skipped == ()
    item = result.found[0].items[-1]
    assert (item.code.display, item.value, item.status, item.category) == ("aspirin 75 mg", "one daily", "active", "medication")


def test_other_events(tmp_path):
    what = {"text": "thing"}
    parts = [
        {
            "resourceType": "MedicationAdministration",
            "subject": SUBJECT,
            "medicationCodeableConcept": what,
            "status": "completed",
            "effectiveDateTime": "2019-03-04T10:00:00Z",
            "dosage": {"dose": ucum(5, "mg")},
        },
        {"resourceType": "MedicationStatement", "subject": SUBJECT, "medicationCodeableConcept": what, "dateAsserted": "2019"},
        {
            "resourceType": "Procedure",
            "subject": SUBJECT,
            "code": what,
            "performedPeriod": {"start": "2019-01-01", "end": "2019-01-02"},
        },
        {
            "resourceType": "AllergyIntolerance",
            "patient": SUBJECT,
            "code": what,
            "recordedDate": "2019",
            "criticality": "high",
            "reaction": [{"manifestation": [{"text": "hives"}]}],
        },
        {
            "resourceType": "Immunization",
            "patient": SUBJECT,
            "vaccineCode": what,
            "occurrenceDateTime": "2019",
            "status": "not-done",
        },
        {"resourceType": "DiagnosticReport", "subject": SUBJECT, "code": what, "issued": "2019-03-04T10:00:00Z"},
    ]
    result = read(tmp_path, bundle(*parts, PATIENT))
    assert result.skipped == ()
    given_dose, said, done, allergy, shot, report = result.found[0].items[:6]
    assert (given_dose.value, given_dose.unit, given_dose.ended_at) == (5.0, "mg", given_dose.observed_at)
    assert said.remarks == ("the time is when it was asserted",)
    assert (done.category, done.ended_at.at.day) == ("procedure", 2)
    assert (allergy.value, allergy.category, allergy.remarks[-1]) == ("hives", "allergy", "criticality is high")
    assert (shot.status, shot.category, shot.modality) == ("not-done", "immunization", "ehr")
    assert (report.category, report.content, report.modality) == ("report", None, "ehr")


def stay(start, code="IMP", **more):
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": code},
        "subject": SUBJECT,
        "period": {"start": start},
        **more,
    }


def test_one_stay_is_the_admission_anchor_and_two_are_none(tmp_path):
    visit, first = stay("2018-01-01T00:00:00Z", "AMB"), stay("2019-03-04T10:00:00Z")
    (found,) = read(tmp_path, bundle(PATIENT, visit, first)).found
    assert found.anchors == {"admission": datetime(2019, 3, 4, 10, tzinfo=UTC)}
    assert [each.value for each in found.items if each.category == "encounter"] == ["ambulatory", "inpatient"]
    assert read(tmp_path, bundle(PATIENT, first, stay("2020-01-01T00:00:00Z"))).found[0].anchors == {}
    assert read(tmp_path, bundle(PATIENT, stay("2019-03-04"))).found[0].anchors == {}


def test_references_by_full_url_and_several_patients(tmp_path):
    document = bundle(
        {**PATIENT, "id": "a"}, {**PATIENT, "id": "b"}, observation(valueInteger=1, subject={"reference": "urn:uuid:9"})
    )
    document["entry"][1]["fullUrl"] = "urn:uuid:9"
    result = read(tmp_path, document)
    assert {each.subject_id: len(each.items) for each in result.found} == {"a": 3, "b": 4}


def test_dangling_references_make_one_line_without_identifiers(tmp_path):
    lost = observation(valueInteger=1, subject={"reference": "urn:uuid:SECRET"})
    request = {"resourceType": "MedicationRequest", "subject": SUBJECT, "medicationReference": {"reference": "Medication/SECRET"}}
    result = read(tmp_path, bundle(PATIENT, lost, lost, lost, request, {**lost, "subject": {"reference": "Group/SECRET"}}))
    assert reasons(result) == [
        "Observation at entry[1].resource: its reference to a Patient leads to nothing in this file (and 2 more)",
        "MedicationRequest at entry[4].resource: its reference to a Medication leads to nothing in this file",
        "Observation at entry[5].resource: is not about a patient",
    ]


def test_a_bulk_export_keeps_its_patients_elsewhere(tmp_path):
    lines = [observation(valueInteger=1, subject={"reference": f"Patient/{who}"}) for who in ("a", "b", "a")]
    result = read(tmp_path, "\n".join(map(json.dumps, lines)) + "\n", "Observation.ndjson")
    assert {each.subject_id: [item.source.locator for item in each.items] for each in result.found} == {
        "a": ["line 1", "line 3"],
        "b": ["line 2"],
    }


def test_ndjson_is_known_by_content_and_a_bad_line_is_skipped(tmp_path):
    lines = [json.dumps(PATIENT), "", '{"resourceType": "Obs', json.dumps(observation(valueInteger=1)), "7"]
    result = read(tmp_path, "\n".join(lines))
    assert len(result.found[0].items) == 4
    assert reasons(result) == [
        "entry at line 3: not valid JSON at column 18 (Unterminated string starting at)",
        "entry at line 5: not a JSON object",
    ]


def test_a_long_line_is_skipped_and_the_rest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fhir, "LINE_LIMIT_BYTES", 2000)
    lines = [json.dumps(PATIENT), json.dumps(observation(valueString="x" * 9000)), json.dumps(observation(valueInteger=1))]
    result = read(tmp_path, "\n".join(lines), "b.ndjson")
    assert reasons(result) == ["entry at line 2: longer than 2000 bytes"]
    assert result.found[0].items[-1].source.locator == "line 3"


def test_single_resource_list_history_and_nested_bundle(tmp_path):
    assert read(tmp_path, PATIENT).found[0].subject_id == "p1"
    assert len(read(tmp_path, [PATIENT, observation(valueInteger=1)]).found[0].items) == 4
    assert len(read(tmp_path, bundle(PATIENT, bundle(observation(valueInteger=1)))).found[0].items) == 4
    deleted = {"request": {"method": "DELETE", "url": "Observation/o2"}}
    versions = bundle(
        PATIENT, *(observation(id=own, valueInteger=value) for own, value in (("o1", 2), ("o1", 1), ("o2", 5))), kind="history"
    )
    versions["entry"].insert(0, deleted)
    result = read(tmp_path, versions)
    assert [each.value for each in result.found[0].items[3:]] == [2.0]
    assert reasons(result) == [
        "entry at entry[0]: holds no resource",
        "Observation at entry[3].resource: an entry before it has the same id; only the first is read (and 1 more)",
    ]


def test_what_is_not_read_is_counted(tmp_path):
    other = [{"resourceType": "Claim"}, {"resourceType": "Claim"}, {"resourceType": "John Secretname 1956"}, {}]
    result = read(tmp_path, bundle(PATIENT, *other, observation(status="entered-in-error", valueInteger=1)))
    assert reasons(result) == [
        "Observation at entry[5].resource: status is entered-in-error",
        "2 Claim: this resource type is not read",
        "2 resource without a type: this resource type is not read",
    ]


def test_a_bundle_without_patient_says_so(tmp_path):
    result = read(tmp_path, bundle({"resourceType": "Organization"}))
    assert result.found == ()
    assert reasons(result) == [
        "holds no patient, and nothing that is read about one",
        "1 Organization: this resource type is not read",
    ]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"code": [1]}, "code is a list, not an object"),
        ({"code": {"coding": "x"}}, "coding is a text, not a list of objects"),
        ({"code": {}}, "code holds neither a coding nor a text"),
        ({"code": {"coding": [1]}}, "coding holds a part that is not an object"),
        ({"valueQuantity": {"value": "5"}}, "value is a text, not a number"),
        ({"valueQuantity": {"value": True}}, "value is a boolean, not a number"),
        ({"valueQuantity": {"value": 10**400}}, "value is not a finite number"),
        ({"valueQuantity": {}}, "valueQuantity holds no value"),
        ({"valueAttachment": {}}, "holds a value of a type that is not read"),
        ({}, "holds no value, no component and no reason for the absence of data"),
        ({"valueInteger": 1, "valueString": "x"}, "holds 2 values where one is allowed"),
        ({"valueInteger": 1, "status": 5}, "status is a number, not a text"),
        (
            {"valueInteger": 1, "effectiveDateTime": "21/07/1956"},
            "effectiveDateTime is not a date or time such as 2019, 2019-03, 2019-03-04 or 2019-03-04T10:15:00Z",
        ),
        ({"valueSampledData": {"data": "1 2"}}, "SampledData lacks its data, its origin's value, or a period above 0"),
        (
            {"valueSampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 2, "data": "1 2 3"}},
            "SampledData holds an infinite sample, or a number of samples that its dimensions do not divide",
        ),
        (
            {"valueSampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 1, "data": "1 x"}},
            "SampledData holds a sample that is neither a number nor E, U or L",
        ),
    ],
)
def test_a_broken_resource_is_skipped_with_its_place_and_the_rest_is_read(tmp_path, broken, reason):
    result = read(tmp_path, bundle(PATIENT, observation(**broken), observation(valueInteger=1)))
    assert reasons(result) == [f"Observation at entry[1].resource: {reason}"]
    assert result.found[0].items[-1].source.locator == "entry[2].resource"


def test_prohibitions_and_refuted_conditions_are_not_read_as_true(tmp_path):
    request = {
        "resourceType": "MedicationRequest",
        "subject": SUBJECT,
        "doNotPerform": True,
        "medicationCodeableConcept": {"text": "x"},
    }
    condition = {
        "resourceType": "Condition",
        "subject": SUBJECT,
        "code": {"text": "x"},
        "verificationStatus": {"coding": [{"code": "refuted"}]},
    }
    assert reasons(read(tmp_path, bundle(PATIENT, request, condition))) == [
        "MedicationRequest at entry[1].resource: asks that the medicine not be given (doNotPerform)",
        "Condition at entry[2].resource: verification status is refuted",
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Cannot read 'b.json': the file is empty (0 bytes). Export or copy it again."),
        (
            b'{"resourceType": "Bundle",\n "entry": [{"fullUrl',
            "Cannot read FHIR 'b.json': not valid JSON at line 2, column 13 (Unterminated string starting at). "
            "It may be truncated: export or copy it again.",
        ),
        (
            b'{"resourceType": "\xff"}',
            "Cannot read FHIR 'b.json': not UTF-8 text at byte 18. It may be truncated: export or copy it again.",
        ),
        (
            b'{"resourceType": ' + b"[" * 200_000,
            "Cannot read FHIR 'b.json': JSON that is nested too deeply. It may be truncated: export or copy it again.",
        ),
        (
            b'{"resourceType": ' + b"9" * 5000 + b"}",
            "Cannot read FHIR 'b.json': JSON with a number that is too long. It may be truncated: export or copy it again.",
        ),
    ],
    ids=["empty", "truncated", "bytes", "deep", "digits"],
)
def test_unreadable_files_say_why(tmp_path, raw, message):
    path = tmp_path / "b.json"
    path.write_bytes(raw)
    with pytest.raises(FormatError) as caught:
        READER.read(path, ReadOptions())
    assert str(caught.value) == message


def test_a_document_over_the_limit_is_refused_before_it_is_loaded(tmp_path):
    path = tmp_path / "b.json"
    with path.open("wb") as stream:
        stream.write(b'{"resourceType":\n')
        stream.truncate(600 << 20)  # sparse
    with pytest.raises(InputError) as caught:
        READER.read(path, ReadOptions())
    assert str(caught.value) == (
        "Cannot read FHIR 'b.json': one JSON document of 629145600 bytes is over the limit of 536870912 bytes. "
        "Export it as NDJSON, or as one bundle for each patient."
    )


def test_recognised_by_content(tmp_path):
    assert READER.recognises(tmp_path / "x", b'\xef\xbb\xbf {"resourceType": "Patient"}')
    assert READER.recognises(tmp_path / "x.json", b'[{"resourceType": "Patient"}]')
    assert not READER.recognises(tmp_path / "x.json", b'{"shapes": []}')
    assert not READER.recognises(tmp_path / "x.json", b'"resourceType"')


SEED = bundle(
    PATIENT,
    MEDICATION,
    observation(valueQuantity=ucum(1, "g/L"), referenceRange=[{"low": ucum(1, "g/L")}]),
    stay("2019-03-04T10:00:00Z"),
    observation(
        component=[
            {"code": loinc("1"), "valueSampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 1, "data": "1 E"}}
        ]
        * 2
    ),
    {
        "resourceType": "MedicationRequest",
        "subject": SUBJECT,
        "medicationReference": {"reference": "Medication/m1"},
        "dosageInstruction": [{"text": "x"}],
    },
    {
        "resourceType": "DocumentReference",
        "subject": SUBJECT,
        "content": [{"attachment": {"contentType": "text/plain", "data": "eA=="}}],
    },
    {"resourceType": "Condition", "subject": SUBJECT, "code": {"text": "x"}, "onsetPeriod": {"start": "2019"}},
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["2019", "urn:uuid:1", "#", "../..", "text/plain"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["code", "value", "reference", "data"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(node, at=()):
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*at, key)
        yield from places(inner, (*at, key))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(list(places(SEED))), JUNK), min_size=1, max_size=4))
def test_junk_anywhere_is_skipped_or_refused_and_never_crashes(tmp_path, changes):
    document = copy.deepcopy(SEED)
    for at, junk in changes:
        node = document
        try:
            for key in at[:-1]:
                node = node[key]
            node[at[-1]] = junk
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change removed the place
    try:
        result = read(tmp_path, document)
    except InputError:
        return
    ids = [item.id for found in result.found for item in found.items]
    assert len(ids) == len(set(ids))
    assert result.found or result.skipped


@pytest.mark.data
def test_real_bundles_are_read_whole(salus_data):
    """Counts agree with an independent count over the JSON, and no name of a patient appears anywhere."""
    files = sorted(salus_data.glob("fhir_synthea_*/fhir/*.json"))
    assert len(files) == 28
    without_patient = 0
    for path in files:
        head = path.read_bytes()[:HEAD_BYTES]
        assert READER.recognises(path, head)
        result = READER.read(path, ReadOptions())
        resources = [entry["resource"] for entry in json.loads(path.read_text())["entry"]]
        patients = [each for each in resources if each["resourceType"] == "Patient"]
        without_patient += not patients
        assert [found.subject_id for found in result.found] == [each["id"] for each in patients]
        if not patients:
            assert result.skipped[0].reason == "holds no patient, and nothing that is read about one"
            continue
        types, (found,) = Counter(each["resourceType"] for each in resources), result.found
        categories = Counter(item.category for item in found.items)
        for category, kind in [
            ("condition", "Condition"),
            ("encounter", "Encounter"),
            ("immunization", "Immunization"),
            ("procedure", "Procedure"),
            ("medication", "MedicationRequest"),
            ("report", "DiagnosticReport"),
        ]:
            assert categories[category] == types[kind]
        values = sum(max(1, len(each.get("component", []))) for each in resources if each["resourceType"] == "Observation")
        care = types["Goal"] + types["CarePlan"]
        assert categories["observation"] == values + care + ("deceasedDateTime" in patients[0])
        written = repr(found.items).replace(str(path), "") + repr([each.reason for each in result.skipped])
        for name in patients[0]["name"]:
            assert name["family"] not in written
            assert patients[0]["birthDate"] not in repr(found.items[:2])


def test_a_result_is_known_from_when_it_was_issued(tmp_path):
    given_at = {"effectiveDateTime": "2019-03-04T10:00:00Z"}
    parts = [
        observation(valueInteger=5, **given_at, issued="2019-03-04T15:00:00.250Z"),
        observation(valueInteger=6, id="2", **given_at, meta={"lastUpdated": "2024-01-01T00:00:00Z"}),
        {"resourceType": "Condition", "subject": SUBJECT, "code": {"text": "x"}, "onsetDateTime": "2010", "recordedDate": "2019-03-05"},
    ]
    result = read(tmp_path, bundle(*parts, PATIENT))
    first, second, condition = result.found[0].items[:3]
    assert first.recorded_at == Instant(datetime(2019, 3, 4, 15, tzinfo=UTC))
    assert (second.recorded_at, condition.recorded_at.precision) == (None, "day")
    record = PatientRecord("p", (first, second, condition))
    assert cut(record, parse_instant("2019-03-04T12:00Z")).record.items == (second,)


def test_a_time_of_issue_that_is_none_is_a_refusal_of_that_resource(tmp_path):
    result = read(tmp_path, bundle(observation(valueInteger=5, issued="soon"), PATIENT))
    assert any("issued is not a date or time" in reason for reason in reasons(result))
