"""FHIR: what a person is goes, what was measured stays, references still fit together, several patients keep their own shifts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from salus.errors import FormatError
from salus.record.deidentify.fhir import check_fhir, deidentify_fhir, survey_fhir
from salus.record.deidentify.key import Key
from salus.record.deidentify.work import Work
from salus.record.read.folder import read_path

KEY = Key(bytes(range(32)))


def patient(key: str, family: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient", "id": key, "name": [{"family": family, "given": ["Zelda"]}], "birthDate": "1980-05-04", "gender": "female",
        "identifier": [{"system": "urn:mrn", "value": f"00{key}77"}], "address": [{"line": ["1 Elm St"], "city": "Lowell", "state": "MA"}],
        "text": {"div": f"<div>{family}</div>"},
    }  # fmt: skip


def observed(key: str, day: str, note: str = "") -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": f"o-{key}-{day}", "status": "final", "subject": {"reference": f"Patient/{key}", "display": "Zelda"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}], "text": "Heart rate"},
        "effectiveDateTime": f"{day}T10:00:00+01:00", "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        **({"note": [{"text": note}]} if note else {}),
    }  # fmt: skip


def written(folder: Path, *resources: dict[str, Any]) -> Path:
    path = folder / "bundle.json"
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}))
    return path


def work_for(path: Path) -> Work:
    people = [person for person in survey_fhir(path) if person.key]
    return Work(KEY, people[0].key, {each.key: each.values for each in people if each.values}, {each.key: each.key for each in people})


def test_people_go_and_measurements_stay(tmp_path: Path) -> None:
    note = {"resourceType": "DocumentReference", "id": "n1", "subject": {"reference": "Patient/a"}, "content": [{"attachment": {
        "contentType": "text/plain", "data": base64.b64encode(b"Mrs. Quimby phoned 212-555-0148. Pulse 72.").decode()}}, {"attachment": {"contentType": "application/pdf", "data": "JVBERg=="}}]}  # fmt: skip
    path = written(tmp_path, patient("a", "Quimby"), observed("a", "2021-03-01", "Ms. Quimby was well on 2021-03-02."), observed("a", "2021-03-09"), note)
    work, target = work_for(path), tmp_path / "new.json"
    deidentify_fhir(path, target, work)
    text = target.read_text()
    new = [entry["resource"] for entry in json.loads(text)["entry"]]
    for value in ("Quimby", "Zelda", "00a77", "Elm", "Lowell", "1980-05", "2021-03-01", "JVBERg"):
        assert value not in text
    assert new[0]["id"] == work.pseudonym and new[1]["subject"] == {"reference": f"Patient/{work.pseudonym}"}
    assert new[0]["gender"] == "female" and new[0]["address"] == [{"state": "MA"}] and len(new[0]["birthDate"]) == 4
    assert new[1]["code"]["coding"][0]["display"] == "Heart rate" and new[1]["valueQuantity"]["value"] == 72
    body = base64.b64decode(new[3]["content"][0]["attachment"]["data"]).decode()
    assert "Quimby" not in body and "555" not in body and body.endswith("Pulse 72.")
    assert check_fhir(path, target, work) == ()
    items = [item for record in read_path(target).patients for item in record.items if item.number == 72]
    (first, second) = sorted(item.observed_at.at for item in items)
    assert (second - first).days == 8 and first.hour == 10, "intervals and times of day stay"


def test_two_patients_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    path = written(tmp_path, patient("a", "Quimby"), patient("b", "Wiggum"), observed("a", "2021-03-01"), observed("b", "2021-03-01"))
    work = work_for(path)
    deidentify_fhir(path, tmp_path / "new.json", work)
    new = [entry["resource"] for entry in json.loads((tmp_path / "new.json").read_text())["entry"]]
    assert new[0]["id"] != new[1]["id"] and new[2]["effectiveDateTime"] != new[3]["effectiveDateTime"]
    assert check_fhir(path, tmp_path / "new.json", work) == ()


@pytest.mark.parametrize(("element", "value", "kind"), [("note", [{"text": "Quimby again"}], "name"), ("effectiveDateTime", "2021-03-01T10:00:00Z", "date"), ("issued", "2021-03-01", "date")])
def test_the_check_catches_a_planted_miss(tmp_path: Path, element: str, value: Any, kind: str) -> None:
    path = written(tmp_path, patient("a", "Quimby"), observed("a", "2021-03-01"))
    work = work_for(path)
    deidentify_fhir(path, tmp_path / "new.json", work)
    tree = json.loads((tmp_path / "new.json").read_text())
    tree["entry"][1]["resource"][element] = value
    (tmp_path / "new.json").write_text(json.dumps(tree))
    (reason,) = check_fhir(path, tmp_path / "new.json", work)
    assert kind in reason and "Quimby" not in reason


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text('{"resourceType": ')
    with pytest.raises(FormatError, match="it is not JSON"):
        survey_fhir(tmp_path / "bundle.json")


@pytest.mark.data
@pytest.mark.parametrize("name", ["fhir_synthea_covid", "fhir_synthea_r4"])
def test_real_bundles_pass_their_check_and_hold_no_name(salus_data: Path, tmp_path: Path, name: str) -> None:
    for path in sorted((salus_data / name / "fhir").glob("*.json"))[:2]:
        work, target = work_for(path), tmp_path / "new.json"
        deidentify_fhir(path, target, work)
        assert check_fhir(path, target, work) == ()
        text, whole = target.read_text(), json.loads(path.read_text())
        person = next(entry["resource"] for entry in whole["entry"] if entry["resource"]["resourceType"] == "Patient")
        assert person["name"][0]["family"] not in text and person["id"] not in text and person["birthDate"] not in text
        assert len(json.loads(text)["entry"]) == len(whole["entry"])
