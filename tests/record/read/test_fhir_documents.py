"""Text that FHIR resources carry. Expected texts are what the test itself encoded."""

from __future__ import annotations

import base64
import json

from tests.record.read.made_pdf import made_pdf

from salus.record.read.fhir import READER
from salus.record.read.reader import ReadOptions

PATIENT = {"resourceType": "Patient", "id": "p1"}
SUBJECT = {"reference": "Patient/p1"}


def read(folder, *resources):
    path = folder / "b.json"
    path.write_text(json.dumps({"resourceType": "Bundle", "entry": [{"resource": each} for each in resources]}))
    return READER.read(path, ReadOptions())


def reasons(result):
    return [each.reason for each in result.skipped]


def test_reports_and_documents_carry_text(tmp_path):
    (tmp_path / "beside.txt").write_text("Letter beside the bundle.")
    encoded = base64.b64encode("Größe unverändert.".encode("latin-1")).decode()
    report = {
        "resourceType": "DiagnosticReport",
        "subject": SUBJECT,
        "code": {"text": "Chest X-ray"},
        "conclusion": "No change.",
        "presentedForm": [
            {"contentType": "text/plain; charset=ISO-8859-1", "data": encoded},
            {"contentType": "application/pdf", "data": "AA=="},
        ],
    }
    binary = {"resourceType": "Binary", "id": "n", "contentType": "text/plain", "data": base64.b64encode(b"Stored.").decode()}
    attachments = [
        {"contentType": "text/plain", "url": url} for url in ("beside.txt", "Binary/n", "../x.txt", "gone.txt", "https://a.b/c")
    ]
    attachments += [
        {"contentType": "image/png", "data": "AA=="},
        {"contentType": "text/plain", "data": "*"},
        {"contentType": "text/plain"},
    ]
    document = {
        "resourceType": "DocumentReference",
        "subject": SUBJECT,
        "content": [{"attachment": each} for each in attachments],
    }
    result = read(tmp_path, PATIENT, report, document, binary)
    texts = {each.source.locator: each.content.load() for each in result.found[0].items if each.content}
    assert texts == {
        "entry[1].resource.conclusion": "No change.",
        "entry[1].resource.presentedForm[0]": "Größe unverändert.",
        "entry[2].resource.content[0].attachment": "Letter beside the bundle.",
        "entry[2].resource.content[1].attachment": "Stored.",
    }
    assert {each.modality for each in result.found[0].items if each.content} == {"notes"}
    assert result.companions == (tmp_path / "beside.txt",)
    place = "DocumentReference at entry[2].resource.content"
    assert reasons(result) == [
        "DiagnosticReport at entry[1].resource.presentedForm[1]: "
        "the PDF is damaged; export it again",
        f"{place}[2].attachment: attachment's address leads out of the file's folder",
        f"{place}[3].attachment: attachment's file is not there",
        f"{place}[4].attachment: attachment at a network address is not fetched",
        f"{place}[5].attachment: attachment of type image/png: only text/plain and application/pdf are read here",
        f"{place}[6].attachment: attachment's data is not base64",
        f"{place}[7].attachment: attachment holds neither data nor an address",
    ]


def test_a_pdf_gives_its_pages_and_sections(tmp_path):
    form = {"contentType": "application/pdf", "data": base64.b64encode(made_pdf("Seen.", "FINDINGS: clear.\nPLAN: rest.")).decode()}
    kind = {"coding": [{"system": "http://loinc.org", "code": "18842-5", "display": "Discharge summary"}]}
    document = {"resourceType": "DocumentReference", "type": kind, "subject": SUBJECT, "content": [{"attachment": form}]}
    items = read(tmp_path, PATIENT, document).found[0].items
    assert [(each.source.locator.partition("attachment")[2], each.code.display, each.content.load().strip()) for each in items] == [
        (".page[1]", "Discharge summary", "Seen."),
        (".page[2].section[0]", "findings", "FINDINGS: clear."),
        (".page[2].section[1]", "plan", "PLAN: rest."),
    ]
    assert items[-1].remarks == ("a section of: Discharge summary",)
