"""Known answers on small records written by hand; the expected strings were worked out by hand from the values below."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from salus.cohorts import known_answers as known
from salus.cohorts.one_file import read_one_file
from salus.record.patient import PatientRecord
from salus.record.read.fhir import READER as FHIR
from salus.record.read.icu2012 import READER as ICU

STAY = """Time,Parameter,Value
00:00,RecordID,1
00:00,Age,71
00:00,Gender,1
00:00,Height,-1
00:00,ICUType,3
00:00,Weight,80
00:07,K,3.4
05:30,K,4.6
09:00,K,5.2
20:00,K,5.2
40:30,K,5.1
01:00,HR,80
02:00,HR,81
03:00,HR,0
01:00,Temp,36.5
01:00,Temp,36.9
00:10,Glucose,150
10:00,Glucose,90
20:00,Glucose,180
30:00,Glucose,100
40:00,Glucose,140
"""


def _codes(system: str, code: str, display: str) -> dict[str, object]:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _status(code: str) -> dict[str, object]:
    return {"coding": [{"code": code}]}


def _medicine(display: str, status: str, at: str) -> dict[str, object]:
    return {
        "resourceType": "MedicationRequest", "status": status, "intent": "order", "authoredOn": at,
        "medicationCodeableConcept": _codes("http://www.nlm.nih.gov/research/umls/rxnorm", display, display),
    }  # fmt: skip


def _sodium(value: float, at: str, low: float, high: float) -> dict[str, object]:
    return {
        "resourceType": "Observation", "status": "final", "effectiveDateTime": at,
        "code": _codes("http://loinc.org", "2951-2", "Sodium [Moles/volume] in Serum or Plasma"),
        "valueQuantity": {"value": value, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "referenceRange": [{"low": {"value": low, "unit": "mmol/L"}, "high": {"value": high, "unit": "mmol/L"}}],
    }  # fmt: skip


RESOURCES = [
    {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-11-02"},
    {"resourceType": "Condition", "clinicalStatus": _status("active"), "onsetDateTime": "2001-05-01",
     "code": _codes("http://snomed.info/sct", "38341003", "Hypertension")},
    {"resourceType": "Condition", "clinicalStatus": _status("active"), "onsetDateTime": "2010-05-01",
     "code": _codes("http://snomed.info/sct", "195967001", "Asthma")},
    {"resourceType": "Condition", "clinicalStatus": _status("resolved"), "onsetDateTime": "2012-05-01",
     "abatementDateTime": "2012-06-01", "code": _codes("http://snomed.info/sct", "10509002", "Acute bronchitis")},
    _medicine("aspirin 81 MG Oral Tablet", "stopped", "2015-01-01"),
    _medicine("lisinopril 10 MG Oral Tablet", "active", "2016-01-01"),
    _medicine("metformin 500 MG Oral Tablet", "active", "2018-01-01"),
    _sodium(139, "2018-01-01T08:00:00Z", 135, 145),
    _sodium(134.5, "2019-03-04T10:15:00-05:00", 130, 134),
]  # fmt: skip


@pytest.fixture
def stay(tmp_path: Path) -> PatientRecord:
    path = tmp_path / "1.txt"
    path.write_text(STAY)
    return read_one_file(ICU, path)


@pytest.fixture
def chart(tmp_path: Path) -> PatientRecord:
    for number, resource in enumerate(RESOURCES):
        resource["id"] = resource.get("id", str(number))
        if resource["resourceType"] != "Patient":
            resource["subject"] = {"reference": "Patient/p"}
    path = tmp_path / "p.json"
    path.write_text(
        json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in RESOURCES]})
    )
    return read_one_file(FHIR, path)


def _series(record: PatientRecord, key: str) -> known.Series:
    return next(series for series in known.series_of(record) if series.key == key)


def _lines(record: PatientRecord, item_ids: tuple[str, ...]) -> list[str]:
    by_id = record.by_id()
    return [by_id[item_id].source.locator for item_id in item_ids]


@pytest.mark.parametrize(
    ("family", "answer", "lines"),
    [
        ("latest", "5.1 mmol/L at 40 h 30 min", ["line 12"]),
        ("earliest", "3.4 mmol/L at 7 min", ["line 8"]),
        ("highest", "5.2 mmol/L at 9 h", ["line 10", "line 11"]),
        ("lowest", "3.4 mmol/L at 7 min", ["line 8"]),
        ("change", "rose by 1.7 mmol/L", ["line 8", "line 12"]),
        ("trend", "rising", ["line 8", "line 9", "line 10", "line 11", "line 12"]),
        ("count", "5", ["line 8", "line 9", "line 10", "line 11", "line 12"]),
        ("out_of_range", "high", ["line 12"]),
        ("when_highest", "5.2 mmol/L at 9 h", ["line 10", "line 11"]),
    ],
)
def test_answers_about_potassium(stay: PatientRecord, family: str, answer: str, lines: list[str]) -> None:
    found = known.BY_SERIES[family](_series(stay, "potassium"))
    assert found is not None
    assert (found.answer, _lines(stay, found.item_ids)) == (answer, lines)


def test_weight_at_admission_is_said_without_a_number_of_hours(stay: PatientRecord) -> None:
    found = known.latest(_series(stay, "weight"))
    assert found is not None
    assert found.answer == "80 kg at admission"


def test_an_implausible_value_does_not_count(stay: PatientRecord) -> None:
    rates = _series(stay, "heart_rate")
    assert [known.count(rates), known.lowest(rates), known.change(rates)] == [
        known.Known("2", (rates.items[0].id, rates.items[1].id)),
        known.Known("80 /min at 1 h", (rates.items[0].id,)),
        known.Known("about the same, from 80 /min to 81 /min", (rates.items[0].id, rates.items[1].id)),
    ]


def test_two_values_at_one_moment_leave_the_latest_open(stay: PatientRecord) -> None:
    temperatures = _series(stay, "temperature")
    assert known.latest(temperatures) is None
    assert known.out_of_range(temperatures) is None


def test_up_and_down_is_fluctuating_and_two_values_are_no_trend(stay: PatientRecord) -> None:
    glucose = known.trend(_series(stay, "glucose"))
    assert glucose is not None
    assert glucose.answer == "fluctuating"
    assert known.trend(_series(stay, "heart_rate")) is None


def test_demographics_of_a_stay(stay: PatientRecord) -> None:
    assert [found.answer if (found := rule(stay)) else None for rule in (known.age, known.sex)] == ["71 years", "male"]


def test_a_stay_without_history_is_not_asked_for_lists(stay: PatientRecord) -> None:
    assert known.active_names(stay, "medication") is None


def test_lists_hold_what_is_active_latest_first(chart: PatientRecord) -> None:
    answers = {family: known.WHOLE[family](chart) for family in known.WHOLE}
    assert {family: found.answer if found else None for family, found in answers.items()} == {
        "active_medicines": "metformin 500 MG Oral Tablet; lisinopril 10 MG Oral Tablet",
        "active_conditions": "Asthma; Hypertension",
        "allergies": "none recorded",
        "age": "about 69 years",
        "sex": "female",
    }


def test_calendar_times_keep_their_zone_and_the_records_own_range_decides(chart: PatientRecord) -> None:
    sodium = _series(chart, "sodium")
    latest, is_out, change = known.latest(sodium), known.out_of_range(sodium), known.change(sodium)
    assert latest is not None
    assert latest.answer == "134.5 mmol/L at 2019-03-04 10:15 UTC-05:00"
    assert is_out is not None
    assert is_out.answer == "high"
    assert change is not None
    assert change.answer == "fell by 4.5 mmol/L"


def test_presence_is_yes_or_no(stay: PatientRecord) -> None:
    yes, no = known.measured(_series(stay, "potassium")), known.measured(None)
    assert yes is not None
    assert no is not None
    assert (yes.answer, len(yes.item_ids), no.answer, no.item_ids) == ("yes", 5, "no", ())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=2, max_size=12))
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    times, values = [float(time) for time, _ in pairs], [float(value) for _, value in pairs]
    expected = kendalltau(times, values).statistic
    found = known._tau_b(times, values)
    assert found == pytest.approx(expected) if expected == expected else found == 0.0
