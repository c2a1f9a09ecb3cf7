"""The sample patient: same seed, same bytes; read by Salus's own readers; clinically coherent by published relations."""

from __future__ import annotations

import csv
import json
import wave
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from salus.cohorts.sample_patient import ADMITTED_AT, SUBJECT_ID, write_sample_patient
from salus.record.cohort import read_manifest
from salus.record.read.csv import READER as CSV
from salus.record.read.fhir import READER as FHIR
from salus.record.read.reader import ReadOptions
from salus.record.variables import series_key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample")
    write_sample_patient(path)
    return path


def labs(folder: Path) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    with (folder / "labs.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["variable"], {})[float(row["time_h"])] = float(row["value"])
    return found


def vitals(folder: Path) -> list[dict[str, str]]:
    with (folder / "vitals.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_same_seed_gives_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_sample_patient(tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_another_seed_moves_the_noise_and_keeps_the_course(folder: Path, tmp_path: Path) -> None:
    write_sample_patient(tmp_path, seed=7)
    assert (tmp_path / "vitals.csv").read_bytes() != (folder / "vitals.csv").read_bytes()
    creatinine = labs(tmp_path)["creatinine"]
    assert creatinine[0.5] < 2 < 3 < creatinine[30] > creatinine[47.5]


@pytest.mark.parametrize("seed", range(5))
def test_mean_pressure_agrees_with_systolic_and_diastolic(tmp_path: Path, seed: int) -> None:
    # Independent formula: mean = diastolic + pulse pressure / 3, printed as whole mmHg.
    write_sample_patient(tmp_path, seed=seed)
    for row in vitals(tmp_path):
        systolic, diastolic, mean = (float(row[f"{name}_bp [mm[Hg]]"]) for name in ("systolic", "diastolic", "mean"))
        assert abs(diastolic + (systolic - diastolic) / 3 - mean) <= 0.5


def test_bicarbonate_agrees_with_henderson_hasselbalch(folder: Path) -> None:
    found = labs(folder)
    for hour, bicarbonate in found["bicarbonate"].items():
        acidity = 6.1 + np.log10(bicarbonate / (0.0307 * found["paco2"][hour]))
        assert acidity == pytest.approx(found["ph"][hour], abs=0.02)


def test_what_was_not_charted_is_an_empty_cell(folder: Path) -> None:
    rows = vitals(folder)
    assert [row["spo2 [%]"] for row in rows[13:15]] == ["", ""]
    assert rows[1]["temperature [Cel]"] == ""
    assert not any(value == "nan" for row in rows for value in row.values())


def test_readers_take_every_value(folder: Path) -> None:
    for name, lines in (("vitals.csv", 49), ("labs.csv", None)):
        read = CSV.read(folder / name, ReadOptions())
        assert read.skipped == ()
        (found,) = read.found
        assert {item.modality for item in found.items} == {"vitals_labs"}
        if lines is None:
            assert len(found.items) == len((folder / name).read_text().splitlines()) - 1
        else:
            assert len([item for item in found.items if series_key(item) == "heart_rate"]) == lines


def test_bundle_states_admission_and_reads_without_loss(folder: Path) -> None:
    read = FHIR.read(folder / "bundle.json", ReadOptions())
    assert read.skipped == ()
    (found,) = read.found
    assert found.subject_id == SUBJECT_ID
    assert found.anchors["admission"] == ADMITTED_AT
    statuses = {item.code.display: item.status for item in found.items if item.category == "medication"}
    assert statuses == {"norepinephrine": "active", "ceftriaxone": "active", "lisinopril": "stopped"}
    assert any(item.category == "allergy" and "penicillin" in item.code.display for item in found.items)


def test_age_is_that_of_the_note(folder: Path) -> None:
    bundle = json.loads((folder / "bundle.json").read_text())
    patient = next(entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Patient")
    born = datetime.fromisoformat(patient["birthDate"]).date()
    on = ADMITTED_AT.date()
    assert on.year - born.year - ((on.month, on.day) < (born.month, born.day)) == 68
    assert "68-year-old" in (folder / "note.txt").read_text()


def test_everything_says_that_it_is_synthetic(folder: Path) -> None:
    assert "SYNTHETIC" in (folder / "note.txt").read_text()
    bundle = json.loads((folder / "bundle.json").read_text())
    assert all(entry["resource"]["meta"]["tag"][0]["code"] == "HTEST" for entry in bundle["entry"])


def test_manifest_says_what_the_sound_is(folder: Path) -> None:
    cohort = read_manifest(folder / "salus-cohort.yaml")
    assert cohort.files["heart_sound.wav"].modality == "heart_sound"


def test_heart_sound_beats_at_its_rate(folder: Path) -> None:
    # Independent of the synthesis: the envelope's autocorrelation between 0.4 and 1.2 s peaks at the beat interval of 92 /min.
    with wave.open(str(folder / "heart_sound.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 2000)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768
    assert len(samples) == 12 * 2000
    envelope = np.abs(samples).reshape(-1, 20).mean(axis=1)  # 100 Hz
    envelope -= envelope.mean()
    correlation = np.correlate(envelope, envelope, "full")[len(envelope) - 1 :]
    beat_s = (40 + int(correlation[40:120].argmax())) / 100
    assert 60 / beat_s == pytest.approx(92, rel=0.04)
