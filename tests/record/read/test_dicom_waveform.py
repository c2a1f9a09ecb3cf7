"""DICOM waveforms written here by PS3.3 C.10.9: channels of several kinds, skew, scale; expected samples are the written numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from salus.errors import FormatError
from salus.record.patient import Item, Signal
from salus.record.read.dicom import READER
from salus.record.read.reader import ReadOptions

HEMODYNAMIC = "1.2.840.10008.5.1.4.1.1.9.2.1"
WAVE = (100 * np.sin(np.arange(400) / 9)).round().astype("<i2")


def coded(value: str, meaning: str, scheme: str = "99TEST") -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def channel(label: str, unit: str, *, skew_samples: int = 0, baseline: float = 0.0) -> Dataset:
    made = Dataset()
    made.ChannelLabel = label
    made.ChannelSourceSequence = [coded("x", label)]
    made.ChannelSensitivity, made.ChannelSensitivityCorrectionFactor, made.ChannelBaseline = "0.5", "2", str(baseline)
    made.ChannelSensitivityUnitsSequence = [coded(unit, unit, "UCUM")]
    made.ChannelSampleSkew, made.WaveformBitsStored = str(skew_samples), 16
    return made


def written(folder: Path, channels: list[Dataset]) -> Path:
    group = Dataset()
    group.WaveformOriginality, group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = "ORIGINAL", len(channels), len(WAVE)
    group.SamplingFrequency, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = "100", 16, "SS"
    group.ChannelDefinitionSequence = channels
    group.WaveformData = np.stack([WAVE] * len(channels), axis=1).tobytes()
    group["WaveformData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = HEMODYNAMIC, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / "a.dcm"
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID, made.Modality, made.PatientID = HEMODYNAMIC, meta.MediaStorageSOPInstanceUID, "HD", "p"
    made.WaveformSequence = [group]
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def read(path: Path) -> dict[str, tuple[Item, Signal]]:
    found = {}
    for item in READER.read(path, ReadOptions()).found[0].items:
        assert item.content is not None
        loaded = item.content.load()
        assert isinstance(loaded, Signal)
        found[item.modality] = (item, loaded)
    return found


def test_a_hemodynamic_group_is_split_by_modality(tmp_path: Path) -> None:
    path = written(tmp_path, [channel("II", "uV"), channel("ABP", "mm[Hg]", baseline=10), channel("Pleth", "1")])
    found = read(path)
    assert {modality: signal.leads for modality, (_, signal) in found.items()} == {
        "ecg": ("II",), "arterial_pressure": ("ABP",), "ppg": ("Pleth",)
    }  # fmt: skip
    np.testing.assert_allclose(found["ecg"][1].samples[0], WAVE / 1000, rtol=1e-6)  # 0.5 × 2 uV, in mV
    np.testing.assert_allclose(found["arterial_pressure"][1].samples[0], WAVE + 10, rtol=1e-6)
    assert len({item.id for item, _ in found.values()}) == 3


def test_a_skewed_channel_is_moved_to_the_common_time(tmp_path: Path) -> None:
    path = written(tmp_path, [channel("ABP", "mm[Hg]"), channel("PAP", "mm[Hg]", skew_samples=3)])
    item, signal = read(path)["arterial_pressure"]
    assert np.isnan(signal.samples[1, :3]).all()
    np.testing.assert_allclose(signal.samples[1, 3:], WAVE[:-3])
    assert "channels that begin later by a stated skew were moved to the common time, to the nearest sample" in item.remarks


def test_one_lead_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="it holds ECG lead II twice"):
        READER.read(written(tmp_path, [channel("II", "uV"), channel("II", "uV")]), ReadOptions())
