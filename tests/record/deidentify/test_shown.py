"""The report that `salus ask` writes: no key, no file name, no identifier of the record in its texts; dates and facts as they are."""

from __future__ import annotations

import json
from pathlib import Path

from salus.commands import ask
from salus.generate.answer import Answer, Disclosure, Statement
from salus.generate.report import ReportSection, render_sections
from salus.record.deidentify.shown import shown_of
from salus.record.read.folder import read_path


def folder_of(root: Path) -> Path:
    patient = {"resourceType": "Patient", "id": "mrn-88123", "name": [{"family": "Quimby", "given": ["Zelda"]}], "birthDate": "1980-05-04"}
    seen = {
        "resourceType": "Observation", "id": "o", "status": "final", "subject": {"reference": "Patient/mrn-88123"}, "effectiveDateTime": "2021-03-01T10:00:00Z",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]}, "valueQuantity": {"value": 72, "code": "/min", "system": "http://unitsofmeasure.org"},
    }  # fmt: skip
    (root / "quimby.json").write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient}, {"resource": seen}]}))
    (root / "zelda-note.txt").write_text("Zelda Quimby, born 4 May 1980, called from 212-555-0148 on 2021-03-02. Pulse regular.")
    (root / "quimby.bin").write_bytes(b"\0\1\2")
    return root


def page_of(root: Path, *, is_deidentified: bool) -> str:
    report = read_path(root)
    (record,) = report.patients
    statement = Statement("Heart rate of Zelda: 72 /min", (record.items[-1].id,), 0.9, "verified")
    answer = Answer("How is Mrs. Quimby?", record.subject_id, None, (statement,), (), (), None, (), Disclosure("by a machine", "m", "1", "b"), {"answer": 0.1})
    section = ReportSection(f"Patient {record.subject_id}", record, [answer], report.skipped)
    return render_sections([ask.without_identity(section) if is_deidentified else section])


def test_the_report_does_not_say_who(tmp_path: Path) -> None:
    page = page_of(folder_of(tmp_path), is_deidentified=True)
    assert [value for value in ("quimby", "zelda", "88123", "555-0148", "4 May 1980") if value in page.lower() or value in page] == []
    assert "2021-03-02" in page and "Pulse regular" in page and "72" in page


def test_it_does_when_that_is_asked_for(tmp_path: Path) -> None:
    page = page_of(folder_of(tmp_path), is_deidentified=False)
    assert all(value in page for value in ("Quimby", "mrn-88123", "212-555-0148"))


def test_items_keep_their_ids_numbers_and_times(tmp_path: Path) -> None:
    (record,) = read_path(folder_of(tmp_path)).patients
    new = shown_of(record).record(record)
    assert [(item.id, item.number, item.observed_at) for item in new.items] == [(item.id, item.number, item.observed_at) for item in record.items]
    assert new.subject_id != record.subject_id and shown_of(record).pseudonym != shown_of(record).pseudonym, "a key for each page"
