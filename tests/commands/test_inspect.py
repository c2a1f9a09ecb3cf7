"""`salus inspect`: the table, the lines, and the JSON, over a folder with ICU stays and a CSV."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from salus.commands import inspect
from salus.errors import InputError
from salus.record.patient import Offset

STAY = "Time,Parameter,Value\n00:00,RecordID,{key}\n00:00,Gender,1\n00:30,HR,80\n05:00,HR,95\n05:00,Temp,-17.8\n05:00,pH,7.31\n"


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parser = argparse.ArgumentParser()
    inspect.add_arguments(parser)
    assert inspect.run(parser.parse_args(arguments)) == 0
    return capsys.readouterr().out


@pytest.fixture
def two_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "160")
    for key in ("701", "702"):
        (tmp_path / f"{key}.txt").write_text(STAY.format(key=key))
    (tmp_path / "SOURCE.md").write_text("where it came from")
    return tmp_path


def test_the_table_says_what_a_clinician_asks(two_stays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = _run(capsys, str(two_stays), "--patient", "701")
    assert "1 patient, 5 items from 1 files" in out
    assert "Patient 701" in out and "Patient 702" not in out
    (row,) = [line for line in out.splitlines() if "heart rate" in line]
    for part in ("│ 2 │", "30 min → 5 h after admission", "95 /min"):
        assert part in " ".join(row.split())
    assert "-17.8 °C (not used)" in out
    assert "7.31" in out
    assert "1 × documentation or labels, not evidence\n      SOURCE.md" in out


def test_json_holds_what_the_table_shows(two_stays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(_run(capsys, str(two_stays), "--json"))
    assert [patient["patient"] for patient in printed["patients"]] == ["701", "702"]
    rate = next(item for item in printed["patients"][0]["items"] if item["code"]["code"] == "HR")
    assert rate["observed_at"] == {"seconds": 1800.0, "anchor": "admission"}
    assert (rate["value"], rate["unit"], rate["content"], rate["modality"]) == (80.0, "/min", None, "vitals_labs")
    assert (rate["source"]["path"], rate["source"]["locator"], len(rate["source"]["sha256"])) == ("701.txt", "line 4", 64)
    assert printed["skipped"] == [{"path": "SOURCE.md", "reason": "documentation or labels, not evidence"}]


def test_a_calendar_time_is_iso_and_a_folder_without_evidence_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("timestamp,hr [/min]\n2026-03-01,80\n2026-03-01T10:30:00+01:00,81\n")
    items = json.loads(_run(capsys, str(tmp_path), "--json"))["patients"][0]["items"]
    assert [item["observed_at"] for item in items] == ["2026-03-01", "2026-03-01T10:30:00+01:00"]
    empty = tmp_path / "nothing"
    empty.mkdir()
    assert json.loads(_run(capsys, str(empty), "--json")) == {"patients": [], "skipped": []}
    assert _run(capsys, str(empty)) == "0 patients, 0 items from 0 files\nNothing was skipped.\n"


def test_many_patients_get_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in range(21):
        (tmp_path / f"{key}.txt").write_text(STAY.format(key=f"9{key:02}"))
    out = _run(capsys, str(tmp_path))
    assert "905: vitals and labs 5; 0 min → 5 h after admission; 1 file" in out
    assert "━" not in out


def test_one_file_can_be_inspected(two_stays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(_run(capsys, str(two_stays / "701.txt"), "--json"))["patients"][0]["items"][0]["source"]["path"] == "701.txt"


def test_a_missing_manifest_is_refused(two_stays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError) as caught:
        _run(capsys, str(two_stays), "--manifest", "no.yaml")
    assert str(caught.value) == "Cannot read manifest 'no.yaml': no such file. Check the path."


def test_times_in_words() -> None:
    assert [inspect.time_in_words(Offset(s, "surgery")) for s in (0.0, 1.5, -3600.0, 90000.0)] == [
        "0 min after surgery", "1.5 s after surgery", "1 h before surgery", "25 h after surgery",
    ]  # fmt: skip


def test_latest_is_the_last_in_time(two_stays: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = json.loads(_run(capsys, str(two_stays), "--json"))["patients"][0]["items"]
    times = [item["observed_at"]["seconds"] for item in items]
    assert times == sorted(times)


@pytest.mark.data
@pytest.mark.parametrize("name", ["dicom_samples", "ecg_wfdb_samples", "nifti_samples", "ecg5000", "multiomics_rosmap"])
def test_real_folders_are_read_or_skipped_with_a_reason(salus_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(_run(capsys, str(salus_data / name), "--json"))
    mentioned = {item["source"]["path"] for patient in printed["patients"] for item in patient["items"]}
    mentioned |= {each["path"] for each in printed["skipped"]}
    assert mentioned
    assert all(each["reason"] for each in printed["skipped"])
