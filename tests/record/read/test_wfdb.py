"""WFDB: expected numbers are those that the test wrote, or what the wfdb library reads."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb as library

from salus.errors import InputError
from salus.record.patient import Item, Signal
from salus.record.read.folder import read_path
from salus.record.read.leads import gap_remarks
from salus.record.read.reader import FileRead, ReadOptions
from salus.record.read.wfdb import READER

RATE = 100


def written(folder: Path, signal: np.ndarray, leads: list[str], units: list[str], comments: list[str] | None = None) -> Path:
    """Write a record from (S, C) physical values."""
    layout = {"units": units, "sig_name": leads, "fmt": ["16"] * len(leads), "comments": comments or []}
    library.wrsamp("rec", fs=RATE, p_signal=signal, write_dir=str(folder), **layout)
    return folder / "rec.hea"


def wave(seconds: float = 10.0, leads: int = 1) -> np.ndarray:
    return np.sin(np.arange(int(seconds * RATE)) / 7)[:, None].repeat(leads, axis=1)


def read(path: Path, options: ReadOptions | None = None) -> FileRead:
    return READER.read(path, options or ReadOptions())


def items(path: Path) -> tuple[Item, ...]:
    return read(path).found[0].items


def signal_of(item: Item) -> Signal:
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Signal)
    return loaded


def test_channels_are_grouped_by_the_modality_that_claims_them(tmp_path: Path) -> None:
    path = written(tmp_path, wave(leads=3), ["ii", "ICP", "avr"], ["uV", "mmHg", "mV"])
    assert READER.recognises(path, path.read_bytes())
    ecg, other = items(path)
    signal = signal_of(ecg)
    assert (ecg.modality, signal.leads, signal.units, signal.sampling_rate_hz) == ("ecg", ("II", "aVR"), ("mV", "mV"), 100.0)
    np.testing.assert_allclose(signal.samples, np.stack([wave()[:, 0] / 1000, wave()[:, 0]]), atol=1e-3)
    assert (other.modality, signal_of(other).leads, signal_of(other).units) == ("unclaimed", ("ICP",), ("mm[Hg]",))
    assert read(path).companions == (tmp_path / "rec.dat",)
    assert ecg.content is not None and ecg.content.summary == "2 leads (II, aVR), 100 Hz, 10 s"


def test_a_folder_names_the_files_that_were_read_as_part_of_another(tmp_path: Path) -> None:
    written(tmp_path, wave(), ["II"], ["mV"])
    report = read_path(tmp_path)
    assert report.companions == (str(tmp_path / "rec.dat"),) and report.skipped == ()


def test_declared_modality_takes_all_channels(tmp_path: Path) -> None:
    path = written(tmp_path, wave(leads=2), ["II", "ABP"], ["mV", "mmHg"])
    (item,) = read(path, ReadOptions(modality="ecg")).found[0].items
    assert item.modality == "ecg" and signal_of(item).leads == ("II", "ABP")


def test_another_signal_is_another_item(tmp_path: Path) -> None:
    first = items(written(tmp_path, wave(), ["II"], ["mV"]))[0].id
    assert items(written(tmp_path, wave(), ["II"], ["mV"]))[0].id == first
    header = (tmp_path / "rec.hea").read_bytes()
    samples = bytearray((tmp_path / "rec.dat").read_bytes())
    samples[100] ^= 1
    (tmp_path / "rec.dat").write_bytes(samples)
    (tmp_path / "rec.hea").write_bytes(header)
    assert items(tmp_path / "rec.hea")[0].id != first


def test_missing_runs_and_flat_leads_are_remarked(tmp_path: Path) -> None:
    signal = wave(leads=2)
    signal[200:350, 0] = np.nan
    signal[400:420, 0] = np.nan
    signal[100:600, 1] = 0.25
    (item,) = items(written(tmp_path, signal, ["I", "II"], ["mV", "mV"]))
    assert "lead I has no samples for 1.7 s of 10.0 s (longest gap 1.5 s)" in item.remarks
    assert "lead II is flat for 5.0 s of 10.0 s" in item.remarks
    assert int(np.isnan(signal_of(item).samples[0]).sum()) == 170


def test_short_plateaus_are_not_flat() -> None:
    assert gap_remarks(np.repeat(np.arange(10, dtype=np.float32), 19)[None], ("I",), 10.0) == ()


@pytest.mark.parametrize(
    "comments",
    [["age: 81", "sex: female", "on holiday"], ["81 F 1085 1629 x1", "on holiday"], ["<age>: 81 <sex>: F", "on holiday"]],
)
def test_age_and_sex_leave_the_comments(tmp_path: Path, comments: list[str]) -> None:
    _, age, sex, note = items(written(tmp_path, wave(), ["II"], ["mV"], comments))
    assert (age.value, age.unit, sex.value, note.category, note.modality) == (81.0, "a", "female", "note", "notes")
    assert note.content is not None
    text = str(note.content.load())
    assert text.endswith("on holiday") and "81" not in text and "emale" not in text


def test_ages_that_differ_are_left_in_the_note(tmp_path: Path) -> None:
    _, note = items(written(tmp_path, wave(), ["II"], ["mV"], ["age: 81", "father's age: 90"]))
    assert note.content is not None and "81" in str(note.content.load())


def test_annotations_of_the_most_trusted_annotator(tmp_path: Path) -> None:
    path = written(tmp_path, wave(), ["II"], ["mV"])
    for extension, sample in (("qrs", 300), ("atr", 200)):
        library.wrann("rec", extension, np.array([100, sample]), symbol=["N", "V"], fs=RATE, write_dir=str(tmp_path))
    (item,) = items(path)
    assert signal_of(item).annotations == ((1.0, "N"), (2.0, "V"))
    assert "annotations from annotator 'atr'; also present, not used: qrs" in item.remarks
    assert {file.name for file in read(path).companions} == {"rec.dat", "rec.atr", "rec.qrs"}


def refused(path: Path, options: ReadOptions | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(path, options)
    return str(caught.value)


def test_header_without_its_signal(tmp_path: Path) -> None:
    path = written(tmp_path, wave(), ["II"], ["mV"])
    (tmp_path / "rec.dat").unlink()
    assert refused(path) == "Cannot read WFDB record 'rec.hea': its signal file 'rec.dat' is not beside it. Add that file."


def test_signal_in_another_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rec.hea"
    path.write_text("rec 1 100 10\n../secret.dat 16 200 16 0 0 0 0 II\n")
    assert refused(path) == (
        "Cannot read WFDB file 'rec.hea': it is truncated or damaged (HeaderSyntaxError). Copy the record again."
    )


def test_truncated_signal(tmp_path: Path) -> None:
    path = written(tmp_path, wave(), ["II"], ["mV"])
    (tmp_path / "rec.dat").write_bytes((tmp_path / "rec.dat").read_bytes()[:700])
    message = refused(path)
    assert message.startswith("Cannot read WFDB file 'rec.hea': it is truncated or damaged (")
    assert message.endswith("Copy the record again.")


def test_empty_header(tmp_path: Path) -> None:
    path = tmp_path / "rec.hea"
    path.touch()
    assert READER.recognises(path, b"")
    assert refused(path) == "Cannot read 'rec.hea': the file is empty (0 bytes). Export or copy it again."


def test_unknown_unit_and_its_declaration(tmp_path: Path) -> None:
    path = written(tmp_path, wave(), ["V3"], ["mV"])
    path.write_text(path.read_text().replace("/mV", "/uV?"))
    assert refused(path) == (
        "Cannot read 'rec.hea': lead V3 is in 'uV?', not a UCUM unit. Declare units.V3 for this file, or drop the lead."
    )
    (found,) = read(path, ReadOptions(units={"V3": "uV"})).found
    assert signal_of(found.items[0]).units == ("mV",)


def test_other_text_is_not_recognised() -> None:
    assert not READER.recognises(Path("notes.hea"), b"The patient was seen today.")
    assert not READER.recognises(Path("100.txt"), b"100 2 360 650000")


def test_three_gigabytes_in_bounded_memory(tmp_path: Path) -> None:
    samples = 1_500_000_000
    path = tmp_path / "big.hea"
    path.write_text(f"big 1 1000 {samples}\nbig.dat 16 200/mV 16 0 0 0 0 II\n")
    with (tmp_path / "big.dat").open("wb") as stream:
        stream.truncate(2 * samples)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (item,) = items(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert "larger than 50 MiB: not searched for gaps or flat stretches" in item.remarks


@pytest.mark.data
def test_every_real_record_is_read(salus_data: Path) -> None:
    headers = sorted((salus_data / "ecg_wfdb_samples").rglob("*.hea"))
    assert len(headers) == 9
    for path in headers:
        for item in items(path):
            if item.category == "waveform":
                signal = signal_of(item)
                assert signal.samples.shape[0] == len(signal.leads) == len(signal.units)


@pytest.mark.data
def test_record_100_agrees_with_the_library(salus_data: Path) -> None:
    path = salus_data / "ecg_wfdb_samples" / "100.hea"
    ecg, age, sex, _ = items(path)
    signal = signal_of(ecg)
    expected = library.rdrecord(str(path.with_suffix(""))).p_signal
    np.testing.assert_allclose(signal.samples.T, expected, atol=1e-5)
    assert signal.leads == ("MLII", "V5") and len(signal.annotations) == 2274
    assert (age.value, sex.value) == (69.0, "male")  # MIT-BIH directory: record 100, male, age 69


@pytest.mark.data
def test_segments_are_joined(salus_data: Path) -> None:
    path = salus_data / "ecg_wfdb_samples" / "multi-segment" / "041s" / "041s.hea"
    ecg = items(path)[0]
    assert signal_of(ecg).samples.shape == (3, 2000)
    assert "2 segments read as one record" in ecg.remarks
    assert {file.name for file in read(path).companions} == {"041s01.hea", "041s02.hea", "041s01.dat", "041s02.dat"}


@pytest.mark.data
def test_missing_segment_is_named(salus_data: Path, tmp_path: Path) -> None:
    for path in (salus_data / "ecg_wfdb_samples" / "multi-segment" / "041s").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / "041s02.dat").unlink()
    assert "its signal file '041s02.dat' is not beside it. Add that file." in refused(tmp_path / "041s.hea")


def test_a_frame_of_millions_of_samples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.hea").write_text("a 2 100 10\na.dat 2x42949162 200 16 0 0 0 0 I\na.dat 212 200 16 0 0 0 0 II\n")
    (tmp_path / "a.dat").write_bytes(bytes(64))
    with pytest.raises(InputError, match="more than 10,000 samples in a frame"):
        READER.read(tmp_path / "a.hea", ReadOptions())
