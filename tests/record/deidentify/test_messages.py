"""HL7 v2: planted identifiers in every kind of field; what is delivered holds none, and the reader gives the same measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.record.deidentify import messages
from salus.record.deidentify.gate import Report, deidentify_folder
from salus.record.deidentify.key import read_key
from salus.record.read.folder import read_path

PLANTED = ("Okonkwo", "Adaeze", "2338887614", "1945859121", "Middleman", "BM95", "8953", "Litherland", "SIMHOSP", "19310916", "C007")
MESSAGE = "\r".join((
    "MSH|^~\\&|SIMHOSP|SFAC|RAPP|RFAC|20200928002206||ORU^R01|41|T|2.3|||AL||44|ASCII",
    "PID|1|2338887614^^^SIMULATOR MRN^MRN|2338887614^^^SIMULATOR MRN^MRN~1945859121^^^NHSNBR^NHSNMBR||Okonkwo^Adaeze^^^Mrs||19310916000000|F|||"
    "15 Middleman House^Cry Lane^Ilford^^BM95 1CW^GBR^HOME||075 8953 2248^HOME",
    "NK1|1|Okonkwo^Chidi|SPO|15 Middleman House||075 8953 2249",
    "PV1|1|I|OtherWard^MainRoom^Bed 1|28b|||C007^Litherland^Natasha^^^Dr|||SUR|||||||||2756244404586167887^^^^visitid",
    "OBR|1|3310|3310|us-0003^UREA AND ELECTROLYTES^WinPath||20200928003000|20200928003000|||||||||C007^Litherland^Natasha|||||||||F",
    "OBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L^^UCUM|3.5 - 5.1|N|||F|||20200928003500||C007^Litherland",
    "OBX|2|TX|note^Comment^L||Mrs Okonkwo was seen by Dr. Natasha Litherland on 28.09.2020; no oedema||||||F",
    "NTE|1||Call Chidi Okonkwo at 617-555-0199 with the result.",
    "ZZZ|Adaeze Okonkwo",
)) + "\r"  # fmt: skip


def delivered(tmp_path: Path, text: str = MESSAGE) -> tuple[Report, list[Path]]:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "okonkwo.hl7").write_bytes(text.encode())
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key")
    return report, sorted((tmp_path / "out").rglob("*.hl7"))


def test_nothing_planted_is_left_and_measurements_stay(tmp_path: Path) -> None:
    report, (new,) = delivered(tmp_path)
    assert report.is_complete
    assert "Chidi" not in new.read_text(), "a next of kin"
    text = new.read_text()
    assert [word for word in (*PLANTED, "617-555", "28.09.2020", "20200928") if word in text] == []
    assert "no oedema" in text and "NK1" not in text and "ZZZ" not in text
    one, other = (read_path(path).patients[0] for path in (tmp_path / "in", new))
    assert other.subject_id == read_key(tmp_path / "key").subject("2338887614")
    found = [[(item.code.code, item.value, item.unit) for item in each.items if item.number is not None] for each in (one, other)]
    assert found[0] == found[1] and ("2823-3", 4.1, "mmol/L") in found[0]


def test_times_move_by_the_patients_days(tmp_path: Path) -> None:
    _, (new,) = delivered(tmp_path)
    days = read_key(tmp_path / "key").days("2338887614")
    times = [next(item.observed_at for item in read_path(path).patients[0].items if item.number is not None) for path in (tmp_path / "in", new)]
    assert times[0] is not None and times[1] is not None
    moved = times[1].at - times[0].at  # type: ignore[union-attr]
    assert (moved.days, moved.seconds) == (days, 0)


def test_one_of_over_89_has_no_year_of_birth(tmp_path: Path) -> None:
    (tmp_path / "younger").mkdir()
    _, (new,) = delivered(tmp_path)
    assert "|1931" not in new.read_text()
    _, (other,) = delivered(tmp_path / "younger", MESSAGE.replace("19310916", "19710916"))
    assert "|1971|" in other.read_text() and "19710916" not in other.read_text()


def test_a_message_that_cannot_be_read_fails_the_file(tmp_path: Path) -> None:
    report, files = delivered(tmp_path, MESSAGE + MESSAGE.replace("oedema", "Ödem"))  # said to be ASCII
    assert files == [] and "message 2" in report.files[0].reasons[0]


def test_a_planted_miss_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_searched", lambda text, _work, _counts: text)
    report, files = delivered(tmp_path)
    assert files == [] and "the residual check still finds" in report.files[0].reasons[0]


@pytest.mark.data
def test_the_real_messages(salus_data: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in (salus_data / "fhir_synthea_covid" / "hl7v2").iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key")
    assert report.is_complete, [each.reasons for each in report.files]
    one, other = (read_path(tmp_path / each) for each in ("in", "out"))
    numbers = [sorted(item.number for each in read.patients for item in each.items if item.number is not None) for read in (one, other)]
    assert numbers[0] == numbers[1] and numbers[0]
