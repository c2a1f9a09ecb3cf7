"""EDF and BDF: written by pyedflib with planted identifiers; what is delivered holds none, and the same samples."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyedflib
import pytest

from salus.record.deidentify import recordings
from salus.record.deidentify.gate import Report, deidentify_folder
from salus.record.deidentify.key import read_key
from salus.record.patient import Signal
from salus.record.read.folder import read_path

PLANTED = ("Huber", "Anna", "MCH-0234567", "Miller", "617-555-0199", "Dr. Jane Cooper")
STARTED = datetime(2011, 5, 24, 22, 15, tzinfo=UTC).replace(tzinfo=None)  # EDF knows no zone
SAMPLES = np.arange(512) % 100 - 50.0


def write_edf(path: Path, *, kind: int = pyedflib.FILETYPE_EDFPLUS) -> Path:
    with pyedflib.EdfWriter(str(path), 2, file_type=kind) as writer:
        writer.setPatientCode("MCH-0234567")
        writer.setPatientName("Huber_Anna")
        writer.setBirthdate(date(1951, 8, 2))
        writer.setSex(0)
        writer.setTechnician("Miller")
        writer.setAdmincode("PSG-12345")
        writer.setStartdatetime(STARTED)
        for number, label in enumerate(("EEG Fp1-A1", "EEG C3-A1")):
            writer.setSignalHeader(number, {
                "label": label, "dimension": "uV", "sample_frequency": 64, "physical_min": -100.0, "physical_max": 100.0,
                "digital_min": -2048, "digital_max": 2047, "transducer": "AgAgCl, placed by Dr. Jane Cooper", "prefilter": "HP:0.1Hz LP:75Hz",
            })  # fmt: skip
        writer.writeSamples([SAMPLES, -SAMPLES])
        if kind in (pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS):
            writer.writeAnnotation(1.0, -1, "Sleep stage W")
            writer.writeAnnotation(3.0, -1, "called Dr. Jane Cooper at 617-555-0199 on 24.05.2011")
    return path


def delivered(tmp_path: Path) -> tuple[Report, list[Path]]:
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key")
    return report, sorted(path for path in (tmp_path / "out").rglob("*") if path.suffix in (".edf", ".bdf"))


@pytest.mark.parametrize("kind", [pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_BDFPLUS, pyedflib.FILETYPE_EDF, pyedflib.FILETYPE_BDF])
def test_nothing_planted_is_left_and_samples_stay(tmp_path: Path, kind: int) -> None:
    (tmp_path / "in").mkdir()
    path = write_edf(tmp_path / "in" / "anna huber.edf", kind=kind)
    report, (new,) = delivered(tmp_path)
    assert report.is_complete
    body = new.read_bytes()
    assert [word for word in PLANTED if word.encode() in body] == []
    assert b"24.05.11" not in body and b"24-MAY-2011" not in body and b"1951" not in body[:256]
    assert new.suffix == (".bdf" if kind in (pyedflib.FILETYPE_BDF, pyedflib.FILETYPE_BDFPLUS) else ".edf")
    one, other = (read_path(each).patients[0] for each in (path, new))
    signals = [[item.content.load() for item in each.items if item.content and item.content.kind == "signal"] for each in (one, other)]
    assert [each.leads for each in signals[0]] == [each.leads for each in signals[1]]
    assert all(isinstance(a, Signal) and np.array_equal(a.samples, b.samples) for a, b in zip(*signals, strict=True))
    with pyedflib.EdfReader(str(new)) as reader:  # a library that checks every field against the specification
        start = reader.getStartdatetime()
        assert (start.hour, start.minute) == (22, 15) and reader.getPrefilter(0) == "HP:0.1Hz LP:75Hz"


def test_dates_move_by_the_patients_days_and_marks_keep_their_place(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_edf(tmp_path / "in" / "a.edf")
    _, (new,) = delivered(tmp_path)
    key = read_key(tmp_path / "key")
    with pyedflib.EdfReader(str(new)) as reader:
        assert (reader.getStartdatetime() - STARTED).days == key.days("MCH-0234567")
        assert reader.getPatientCode() == key.subject("MCH-0234567") and reader.getSex() == "Female"
        onsets, _, texts = reader.readAnnotations()
    assert onsets.tolist() == [1.0, 3.0] and texts[0] == "Sleep stage W" and texts[1].startswith("called")


def test_what_follows_no_format_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write_edf(tmp_path / "in" / "a.edf")
    path.write_bytes(path.read_bytes() + b"Anna Huber")
    report, (new,) = delivered(tmp_path)
    assert report.is_complete and b"Anna" not in new.read_bytes()


def test_a_planted_miss_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    write_edf(tmp_path / "in" / "a.edf")
    monkeypatch.setattr(recordings, "_text", lambda old, _work, _counts: old)
    report, files = delivered(tmp_path)
    assert files == [] and "the residual check still finds" in report.files[0].reasons[0]


def test_a_date_that_edf_cannot_say_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    write_edf(tmp_path / "in" / "a.edf")
    monkeypatch.setattr(recordings, "SPAN", range(2030, 2085))
    report, files = delivered(tmp_path)
    assert files == [] and "EDF cannot say its moved date" in report.files[0].reasons[0]


@pytest.mark.data
def test_the_real_recording(salus_data: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.edf").write_bytes((salus_data / "ecg_wfdb_samples" / "test_edfann.edf").read_bytes())
    report, files = delivered(tmp_path)
    assert report.is_complete and len(files) == 1
