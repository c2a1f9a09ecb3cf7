"""EDF, EDF+ and BDF: files written by the edfio library and read back; EDF+D is cut by hand from such a file, record by record."""

from __future__ import annotations

import datetime
from pathlib import Path

import edfio
import numpy as np
import pyedflib
import pytest

from salus.errors import FormatError, InputError
from salus.record.patient import Instant, Item, Signal
from salus.record.read.edf import READER
from salus.record.read.edf_annotations import marks_of
from salus.record.read.folder import read_path
from salus.record.read.reader import FileRead, ReadOptions

NAME = "Surname_Forename"


def wave(rate: int, seconds: int = 6, hz: float = 3.0) -> np.ndarray:
    return 40 * np.sin(2 * np.pi * hz * np.arange(rate * seconds) / rate)


def channel(label: str, rate: int, unit: str = "uV", cls: type = edfio.EdfSignal) -> object:
    return cls(wave(rate), rate, label=label, physical_dimension=unit, physical_range=(-100, 100))


def written(folder: Path, *, annotated: bool = True) -> Path:
    channels = [channel("EEG Fpz-Cz", 100), channel("EEG Pz-Oz", 100), channel("EMG submental", 10), channel("ECG II", 200, "mV")]
    patient = edfio.Patient(code="key-7", sex="F", birthdate=datetime.date(1951, 8, 2), name=NAME)
    recording = edfio.Recording(startdate=datetime.date(2002, 3, 2), hospital_administration_code="adm-1")
    marks = [edfio.EdfAnnotation(1.5, None, "lights off"), edfio.EdfAnnotation(4, 1.0, "Sleep stage W")] if annotated else None
    edf = edfio.Edf(
        channels, patient=patient, recording=recording, starttime=datetime.time(23, 59, 30), data_record_duration=1, annotations=marks
    )
    path = folder / "a.edf"
    edf.write(path)
    return path


def read(path: Path, options: ReadOptions | None = None) -> FileRead:
    assert READER.recognises(path, path.read_bytes()[:4096])
    return READER.read(path, options or ReadOptions())


def by_leads(read: FileRead) -> dict[tuple[str, ...], tuple[Item, Signal]]:
    found = {}
    for item in read.found[0].items:
        if item.category == "waveform":
            assert item.content is not None
            loaded = item.content.load()
            assert isinstance(loaded, Signal)
            found[loaded.leads] = (item, loaded)
    return found


def test_one_item_for_each_rate_and_modality(tmp_path: Path) -> None:
    path = written(tmp_path)
    signals = by_leads(read(path))
    eeg, signal = signals["EEG Fpz-Cz", "EEG Pz-Oz"]
    assert (eeg.modality, signal.units, signal.sampling_rate_hz) == ("eeg", ("uV", "uV"), 100.0)
    np.testing.assert_allclose(signal.samples[0], wave(100), atol=200 / 65535)
    assert eeg.content is not None and eeg.content.summary == "2 channels (EEG Fpz-Cz, EEG Pz-Oz), 100 Hz, 6 s, annotated"
    assert signal.annotations == ((1.5, "lights off"), (4.0, "Sleep stage W"))
    emg, ecg = signals["EMG submental",][1], signals["II",]
    assert (emg.sampling_rate_hz, emg.samples.shape) == (10.0, (1, 60))
    assert (ecg[0].modality, ecg[1].units, ecg[1].sampling_rate_hz) == ("ecg", ("mV",), 200.0)
    with pyedflib.EdfReader(str(path)) as other:  # a second library reads the same numbers
        np.testing.assert_allclose(signals["II",][1].samples[0], other.readSignal(3), atol=1e-4)


def test_the_start_has_no_zone_and_the_patient_no_name(tmp_path: Path) -> None:
    result = read(written(tmp_path))
    (found,) = result.found
    at = found.items[0].observed_at
    assert isinstance(at, Instant) and at.at.isoformat() == "2002-03-02T23:59:30+00:00" and not at.zone_is_stated
    assert found.subject_id == "key-7"
    assert [item.value for item in found.items if item.category == "demographic"] == ["female"]
    assert "Surname" not in repr(result) and "1951" not in repr(result)


def test_plain_edf_is_keyed_by_a_hash_of_its_patient_field(tmp_path: Path) -> None:
    path = written(tmp_path, annotated=False)
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"Surname, Forename 1951".ljust(80) + content[88:192] + b" " * 44 + content[236:])
    (found,) = read(path).found
    assert found.subject_id is not None and found.subject_id.startswith("edf-") and "urname" not in repr(found)


def test_a_withheld_date_is_no_date(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    edfio.Edf([channel("EEG Cz", 100)]).write(path)  # without a start, the library writes 01.01.85 00.00.00
    item = read(path).found[0].items[0]
    assert item.observed_at is None and "the date is withheld in the file: its time is not used" in item.remarks


def test_bdf_has_24_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.bdf"
    edfio.Bdf([channel("Fp1", 256, cls=edfio.BdfSignal), channel("Status", 256, "", cls=edfio.BdfSignal)]).write(path)
    result = read(path)
    signals = by_leads(result)
    np.testing.assert_allclose(signals["Fp1",][1].samples[0], wave(256), atol=1e-4)  # 24 bits over 200 uV
    assert signals["Fp1",][0].modality == "eeg"
    assert "channel Status states no unit: read as a pure number" in signals["Status",][0].remarks


def discontinuous(folder: Path, onsets: list[bytes]) -> Path:
    """Cut a continuous file: mark it EDF+D and give each record the onset named."""
    path = written(folder)
    content = bytearray(path.read_bytes())
    content[192:197] = b"EDF+D"
    header = int(content[184:192])
    samples = [int(content[256 + 5 * 216 + 8 * place :][:8]) for place in range(5)]
    size = 2 * sum(samples)
    for record, onset in enumerate(onsets):
        start = header + record * size + 2 * sum(samples[:-1])
        content[start : start + 2 * samples[-1]] = (onset + b"\x14\x14\0").ljust(2 * samples[-1], b"\0")
    path.write_bytes(bytes(content))
    return path


def test_gaps_of_a_discontinuous_file_are_missing(tmp_path: Path) -> None:
    path = discontinuous(tmp_path, [b"+0", b"+1", b"+2", b"+5.5", b"+6.5", b"+7.5"])
    item, signal = by_leads(read(path))["EEG Fpz-Cz", "EEG Pz-Oz"]
    assert signal.samples.shape == (2, 850)
    assert np.isnan(signal.samples[0, 300:550]).all() and np.isfinite(np.delete(signal.samples[0], slice(300, 550))).all()
    np.testing.assert_allclose(signal.samples[0, 550:], wave(100)[300:], atol=200 / 65535)
    assert "discontinuous recording: 1 gap between records, given as missing samples" in item.remarks
    assert "lead EEG Fpz-Cz has no samples for 2.5 s of 8.5 s (longest gap 2.5 s)" in item.remarks


@pytest.mark.parametrize(
    ("onsets", "message"),
    [
        ([b"+0", b"+1", b"+0.5", b"+3", b"+4", b"+5"], "data record 3 begins before the one before it ends"),
        ([b"+0", b"+1", b"", b"+3", b"+4", b"+5"], "data record 3 states no time"),
        ([b"+0", b"+1", b"+2", b"+3", b"+4", b"+999999999999"], "samples of one channel"),
    ],
)
def test_records_out_of_time_are_refused(tmp_path: Path, onsets: list[bytes], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(discontinuous(tmp_path, onsets))
    assert message in str(caught.value)


def test_a_channel_stored_upside_down_is_turned_back(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    at = 256 + 5 * (16 + 80 + 8)
    content[at : at + 8], content[at + 40 : at + 48] = b"100     ", b"-100    "
    path.write_bytes(bytes(content))
    item, signal = by_leads(read(path))["EEG Fpz-Cz", "EEG Pz-Oz"]
    np.testing.assert_allclose(signal.samples[0], -wave(100), atol=200 / 65535)
    assert "channel EEG Fpz-Cz is stored upside down (physical minimum above maximum) and was turned back" in item.remarks


def test_unknown_units_are_skipped_with_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    at = 256 + 5 * (16 + 80)
    content[at : at + 8] = b"uV?     "
    path.write_bytes(bytes(content))
    result = read(path)
    assert [skipped.reason for skipped in result.skipped] == [
        "Cannot read 'a.edf': lead EEG Fpz-Cz is in 'uV?', not a UCUM unit. Declare units.EEG Fpz-Cz for this file, or drop the lead."
    ]
    assert ("EEG Pz-Oz",) in by_leads(result)
    assert ("EEG Fpz-Cz", "EEG Pz-Oz") in by_leads(read(path, ReadOptions(units={"EEG Fpz-Cz": "uV"})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-10], "bytes of data are promised"),
        (lambda content: content[:300], "the header ends early"),
        (lambda content: content[:244] + b"0       " + content[252:], "a data record has no duration"),
        (lambda content: content[:236] + b"many    " + content[244:], "number of data records is not a number"),
        (lambda content: content[:252] + b"9999" + content[256:], "number of channels is not a number from 1"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: object, message: str) -> None:
    path = written(tmp_path)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(FormatError, match=r"Cannot read 'a.edf' as EDF or BDF") as caught:
        READER.read(path, ReadOptions())
    assert message in str(caught.value)


def test_any_damage_is_an_input_error(tmp_path: Path) -> None:
    content = written(tmp_path).read_bytes()
    source = np.random.default_rng(0)
    path = tmp_path / "b.edf"
    for _ in range(300):
        broken = bytearray(content)
        for at in source.integers(8, 1600, 5):
            broken[at] = source.integers(0, 256)
        path.write_bytes(bytes(broken))
        try:
            for item in READER.read(path, ReadOptions()).found[0].items:
                if item.content is not None:
                    item.content.load()
        except InputError as error:
            assert "Surname" not in str(error)


def test_lists_that_break_the_format_give_no_annotation() -> None:
    assert marks_of(b"abc\x14text\x14\0+1e5\x14x\x14\0+\x14y\x14\0+2.5\x15\x14z\x14\0") == [(2.5, "z")]


def test_a_large_file_is_mapped_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, annotated=False)
    content = bytearray(path.read_bytes())
    header, size = int(content[184:192]), (len(content) - int(content[184:192])) // 6
    content[236:244] = b"140000  "
    with path.open("wb") as stream:
        stream.write(content)
        stream.truncate(header + 140_000 * size)  # 120 MB of holes
    item = read(path).found[0].items[0]
    assert any(remark.startswith("more than 25,000,000 samples: not searched") for remark in item.remarks)


@pytest.mark.data
def test_the_real_file_of_annotations_alone(salus_data: Path) -> None:
    """The expected count and the first texts are those that pyedflib reads."""
    path = salus_data / "ecg_wfdb_samples/test_edfann.edf"
    (item,) = [item for item in read(path).found[0].items if item.content is not None]
    assert item.content is not None and item.category == "report"
    lines = str(item.content.load()).splitlines()
    with pyedflib.EdfReader(str(path)) as other:
        onsets, _, texts = other.readAnnotations()
    expected = [(float(at), text) for at, text in zip(onsets, texts, strict=True) if text]
    assert len(lines) == len(expected) and lines[0].startswith("0 s: Sleep stage W")
    assert item.observed_at is None and "the date is withheld in the file: its time is not used" in item.remarks


@pytest.mark.data
def test_a_folder_reads_it_beside_the_other_records(salus_data: Path) -> None:
    report = read_path(salus_data / "ecg_wfdb_samples")
    assert not any(skipped.path.endswith(".edf") for skipped in report.skipped)
