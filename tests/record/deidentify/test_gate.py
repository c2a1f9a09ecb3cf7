"""The gate: a copy that is whole and checked or not there, a report without values, and refusals by reason."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import soundfile
from PIL import Image, PngImagePlugin
from tests.record.read.made_dicom import made

from salus.cohorts.sample_patient import write_sample_patient
from salus.commands import deidentify as command
from salus.errors import ConfigError, InputError, MissingExtra
from salus.record.cohort import FILE_NAME, options_of, read_manifest
from salus.record.deidentify import formats, gate
from salus.record.deidentify.gate import Means, deidentify_folder
from salus.record.deidentify.key import Key
from salus.record.deidentify.presidio import build_presidio
from salus.record.deidentify.text import Subject, clean
from salus.record.deidentify.work import Box
from salus.record.read.folder import read_path

NOTE = "Mr. Quimby (MRN 00412977) was seen by Dr. Okonkwo on 2021-03-01. Call 212-555-0148."
SECRETS = ("Quimby", "00412977", "Okonkwo", "2021-03-01", "555-0148", "Doe", "P-1", "Jane")


class Blind:
    def find(self, picture: np.ndarray) -> tuple[Box, ...]:
        return ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    root.mkdir()
    made(root, np.zeros((8, 8), np.uint8), name="Doe_Jane.dcm", StudyDate="20210301")
    (root / "quimby.txt").write_text(NOTE)
    (root / "vitals.csv").write_text("patient_id,name,timestamp,hr [/min],remark\nP-1,Jane Doe,2021-03-01T10:00,72,saw Dr. Okonkwo\n")
    (root / "scan.pdf").write_bytes(b"%PDF-1.4 Quimby")
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", "Jane Doe")
    Image.new("L", (16, 16), 80).save(root / "p.png", pnginfo=about)
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    Image.new("RGB", (16, 16), (9, 99, 9)).save(root / "p.jpg", exif=exif, comment=b"Quimby")
    Image.new("I;16", (16, 16), 4000).save(root / "p.tif", description="Jane Doe")
    (root / "rec.hea").write_text("rec 1 250 4 10:00:00 01/03/2021\nrec.dat 16 200 12 0 0 0 0 II\n# Patient: Jane Doe\n# age: 93\n")
    (root / "rec.dat").write_bytes(bytes(8))
    soundfile.write(root / "voice.wav", np.zeros(2000), 2000)
    soundfile.write(root / "heart.wav", np.sin(np.arange(4000) / 9), 2000)
    (root / "salus-cohort.yaml").write_text("files: {heart.wav: {modality: heart_sound}}\n")
    return root


def test_a_folder_comes_out_without_a_name_and_can_be_read(folder: Path, tmp_path: Path) -> None:
    report = deidentify_folder(folder, tmp_path / "out", tmp_path / "key", means=Means(Blind))
    whole = b"".join(path.read_bytes() + path.name.encode() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert [secret for secret in SECRETS if secret.lower().encode() in whole.lower()] == []
    by_status = {
        status: sum(each.status == status for each in report.files) for status in ("delivered", "failed", "refused", "documentation")
    }
    assert by_status == {"delivered": 8, "failed": 1, "refused": 1, "documentation": 1} and not report.is_complete
    (reason,) = next(each.reasons for each in report.files if each.status == "failed")
    assert "it may hold speech" in reason and "voice" not in reason
    read = read_path(tmp_path / "out")
    assert len(read.patients) == 1, "all files are one patient's, under one new key"
    kinds = {item.modality for item in read.patients[0].items}
    assert {"notes", "heart_sound", "ecg"} <= kinds
    assert 72.0 in {item.number for item in read.patients[0].items}
    assert "90 or older" in (tmp_path / "out").joinpath(next(path for path in (tmp_path / "out").rglob("*.hea"))).read_text()


def test_report_and_mapping_hold_what_they_should(folder: Path, tmp_path: Path) -> None:
    report = deidentify_folder(folder, tmp_path / "out", tmp_path / "key", means=Means(Blind))
    printed = (tmp_path / "out" / gate.REPORT_NAME).read_text()
    assert json.loads(printed)["statuses"]["delivered"] == 8
    assert not [secret for secret in (*SECRETS, "quimby.txt", "scan.pdf") if secret in printed]
    mapping = json.loads(report.mapping.read_text())
    assert set(mapping["files"].values()) >= {"quimby.txt", "Doe_Jane.dcm"} and list(mapping["subjects"].values()) == ["P-1"]
    assert {each.id for each in report.files} <= set(mapping["files"])
    assert (tmp_path / "key").stat().st_mode & 0o077 == report.mapping.stat().st_mode & 0o077 == 0


def test_the_same_key_gives_the_same_bytes_and_another_key_others(folder: Path, tmp_path: Path) -> None:
    for out, key in (("a", "k1"), ("b", "k1"), ("c", "k2")):
        deidentify_folder(folder, tmp_path / out, tmp_path / key, means=Means(Blind))
    listed = {
        out: {path.relative_to(tmp_path / out).as_posix(): path.read_bytes() for path in (tmp_path / out).rglob("*.txt")} for out in "abc"
    }
    assert listed["a"] == listed["b"] and not set(listed["a"]) & set(listed["c"])


def test_a_file_with_a_planted_miss_is_not_delivered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = formats.FORMATS["text"]

    def careless(path: Path, target: Path, work: object) -> object:
        done = note.clean(path, target, work)  # type: ignore[arg-type]
        target.write_text(target.read_text() + " Mr. Quimby")
        return done

    monkeypatch.setitem(formats.FORMATS, "text", formats.Format(note.title, note.ending, note.survey, careless, note.check))  # type: ignore[arg-type]
    report = deidentify_folder(folder, tmp_path / "out", tmp_path / "key", means=Means(Blind))
    (failed,) = [each for each in report.files if each.format == "note"]
    assert failed.status == "failed" and failed.reasons == ("the residual check still finds: name (1)",) and failed.id.startswith("f")
    assert not list((tmp_path / "out").rglob("*.txt"))


@pytest.mark.parametrize(
    ("out", "key", "words"),
    [
        ("in/out", "key", "it lies inside the folder that is read"), ("out", "out/key", "Keep the key apart"), ("out", "in/key", "Keep the key apart"),
        ("in", "key", "it exists"), ("no/out", "key", "Make it first"),
    ],
)  # fmt: skip
def test_places_that_would_leak_are_refused(folder: Path, tmp_path: Path, out: str, key: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        deidentify_folder(folder, tmp_path / out, tmp_path / key, means=Means(Blind))


def test_a_missing_folder_and_a_bad_key_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        deidentify_folder(tmp_path / "nowhere", tmp_path / "out", tmp_path / "key")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder holds no file"):
        deidentify_folder(tmp_path / "empty", tmp_path / "out", tmp_path / "key")
    assert not (tmp_path / "out").exists()
    (tmp_path / "bad").write_text("1234")
    with pytest.raises(ConfigError, match="does not hold 64 hex digits"):
        deidentify_folder(folder, tmp_path / "out", tmp_path / "bad", means=Means(Blind))
    assert not (tmp_path / "out").exists()


def test_killed_half_way_leaves_nothing_that_looks_finished(folder: Path, tmp_path: Path) -> None:
    code = f"""
import time
import warnings
from dataclasses import replace
from pathlib import Path
from salus.record.deidentify import gate
class Slow:
    def find(self, picture):
        print("busy", flush=True); time.sleep(60); return ()
gate.deidentify_folder(Path({str(folder)!r}), Path({str(tmp_path / "out")!r}), Path({str(tmp_path / "key")!r}), means=gate.Means(Slow))
"""
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline() == "busy\n"
    os.kill(running.pid, signal.SIGKILL)
    running.wait(10)
    time.sleep(0.05)
    assert not (tmp_path / "out").exists()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents and path.name != "key"]
    assert all(path.suffix == ".part" for path in left)


def test_the_command_says_what_was_done_and_ends_with_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "deidentify_folder", lambda *args, **rest: deidentify_folder(*args, **{**rest, "means": Means(Blind)}))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args([str(folder), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key")])) == 1
    out = capsys.readouterr().out
    assert "8 of 10 files delivered, 1 patients" in out and "its format cannot be de-identified" in out and "Quimby" not in out


def test_the_sample_patient_passes_whole(tmp_path: Path) -> None:
    write_sample_patient(tmp_path / "in")
    assert deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key", means=Means(Blind)).is_complete
    before, after = (read_path(tmp_path / name).patients for name in ("in", "out"))
    assert len(before) == len(after) == 1 and len(before[0].items) == len(after[0].items)
    numbers = [
        sorted(item.number for item in read[0].items if item.number is not None and item.category == "observation")
        for read in (before, after)
    ]
    assert numbers[0] == numbers[1] and len(numbers[0]) > 100


def test_presidio_finds_what_has_a_check_digit_and_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("presidio_analyzer")

    def refuse(*args: object, **rest: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    text = "card 4111 1111 1111 1111, mail a.b@example.org, phone 617-555-0199, NHS 943 476 5919, potassium 4.1 mmol/L"
    found = {(text[hit.start : hit.end], hit.kind.value) for hit in build_presidio().find(text)}
    assert {("4111 1111 1111 1111", "account"), ("a.b@example.org", "email"), ("617-555-0199", "phone"), ("943 476 5919", "record-number")} <= found
    assert not any("4.1 mmol" in each for each, _ in found)


def test_no_warning_of_a_library_shows_a_value(tmp_path: Path) -> None:
    """Pydicom warns of a value that its kind does not allow, and quotes it."""
    (tmp_path / "in").mkdir()
    with pydicom.config.disable_value_validation():
        made(tmp_path / "in", np.zeros((8, 8), np.uint16), StudyInstanceUID="1.2.QUIMBY.3", AccessionNumber="QUIMBY-ACCESSION-NUMBER-77")
    words = ["deidentify", str(tmp_path / "in"), "--out", str(tmp_path / "one"), "--key", str(tmp_path / "key")]
    code = f"from salus.cli import main; raise SystemExit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "" and "QUIMBY" not in done.stdout
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert deidentify_folder(tmp_path / "in", tmp_path / "two", tmp_path / "key", means=Means(Blind)).is_complete


def test_missing_presidio_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(MissingExtra) as caught:
        build_presidio()
    assert str(caught.value) == "Cannot search with Presidio: an optional package is not installed. Run: pip install 'salus[presidio]'"


@pytest.mark.data
def test_hl7_messages_tell_who_the_patient_is(salus_data: Path) -> None:
    people = [person for path in (salus_data / "fhir_synthea_covid" / "hl7v2").iterdir() for person in formats.survey_hl7(path)]
    assert any(person.key for person in people) and all(person.values for person in people)


def test_a_note_beside_the_pictures_of_one_patient_is_that_patients(tmp_path: Path) -> None:
    for name, patient in (("a", "Quimby^Zelda"), ("b", "Doe^John")):
        (tmp_path / "in" / name).mkdir(parents=True)
        made(tmp_path / "in" / name, np.zeros((8, 8), np.uint16), PatientID=f"MRN-{name}-77", PatientName=patient)
    (tmp_path / "in" / "a" / "n.txt").write_text("seen today: zelda quimby felt well, 2023-05-14\n")
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key", means=Means(Blind))
    (note,) = (tmp_path / "out").rglob("*.txt")
    assert report.is_complete and report.patients == 2 and "zelda" not in note.read_text() and "quimby" not in note.read_text()
    assert len(list(note.parent.glob("*.dcm"))) == 1, "one pseudonym for both"


def test_what_a_wfdb_header_says_of_a_signal_is_searched(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "r.dat").write_bytes(bytes(400))
    (tmp_path / "in" / "r.hea").write_text("r 2 100 100\nr.dat 16 200 16 0 0 0 0 MLII\nr.dat 16 200 16 0 0 0 0 V1 by Dr. Zelda Quimby 617-555-0142\n")
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key", means=Means(Blind))
    (header,) = (tmp_path / "out").rglob("*.hea")
    assert report.is_complete and "MLII" in header.read_text() and "V1 by Dr. [NAME-" in header.read_text()
    assert "Quimby" not in header.read_text() and "617-555" not in header.read_text()


@pytest.mark.parametrize(("text", "kept"), [
    ("DOB: 04/12/1971.", "DOB: 1971."), ("Date of birth: 12 April 1971", "Date of birth: 1971"), ("born on 1971-04-12", "born on 1971"), ("DOB 1931-04-12", None),
])  # fmt: skip
def test_a_date_of_birth_in_a_note_becomes_its_year(text: str, kept: str | None) -> None:
    new = clean(text, Subject(Key(bytes(32)), "p")).text
    assert new == kept if kept else "19" not in new and "[DATE-" in new


def test_one_odd_file_keeps_no_other_from_being_delivered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(path: Path) -> tuple[()]:
        raise NotImplementedError("QUIMBY")

    known = formats.FORMATS["csv"]
    monkeypatch.setitem(formats.FORMATS, "csv", replace(known, survey=odd))
    report = deidentify_folder(folder, tmp_path / "out", tmp_path / "key", means=Means(Blind))
    failed = [each.reasons for each in report.files if each.status == "failed" and each.format == known.title]
    assert failed and all(reasons == ("it cannot be read: NotImplementedError",) for reasons in failed) and list((tmp_path / "out").rglob("*.txt"))


def test_what_was_declared_of_a_file_holds_for_the_copy(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ward.csv").write_text("patient,timestamp,hr\nMRN-7788,2023-05-14T10:00:00,-9\n")
    rule = "{missing: [-9], units: {hr: /min}, zone: Europe/Berlin, clock_offset_s: 37}"
    (tmp_path / "in" / FILE_NAME).write_text(f"licence: CC0-1.0\nmay_train: true\nfiles: {{ward.csv: {rule}}}\n")
    assert deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key", means=Means(Blind)).is_complete
    before, after = read_manifest(tmp_path / "in" / FILE_NAME), read_manifest(tmp_path / "out" / FILE_NAME)
    (copy,) = (tmp_path / "out").rglob("*.csv")
    assert options_of(after, copy.relative_to(tmp_path / "out").as_posix()) == options_of(before, "ward.csv")
    assert after.may_train and after.licence == "CC0-1.0"


def test_what_somebody_else_wrote_in_the_meantime_stays(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(key_file: Path, names: object) -> Path:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
        return key_file

    monkeypatch.setattr(gate, "keep_names", late)
    with pytest.raises(ConfigError, match="in the meantime"):
        deidentify_folder(folder, tmp_path / "out", tmp_path / "key", means=Means(Blind))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"] and not list(tmp_path.glob(".out-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_asked_to_end_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "in").mkdir()
    for each in range(400):
        (tmp_path / "in" / f"{each}.txt").write_text(f"Seen by Dr. Zelda Quimby on 2023-05-14, number {each}. " * 60)
    words = ["deidentify", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--key", str(tmp_path / "key")]
    begin = f"import signal, sys; signal.signal({int(number)}, signal.SIG_DFL); from salus.cli import main; sys.exit(main())"  # nohup ignores SIGHUP
    with subprocess.Popen([sys.executable, "-c", begin, *words], stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and not list(tmp_path.glob(".out-*/*/*.part")):
            time.sleep(0.01)
        run.send_signal(number)
        assert run.wait(60) == 128 + number
    assert not list(tmp_path.glob(".out-*")) and not (tmp_path / "out").exists()
