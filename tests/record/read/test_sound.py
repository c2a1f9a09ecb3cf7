"""WAV and FLAC: expected samples are those that the test wrote; real ones are compared with SciPy's reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from salus.errors import FormatError
from salus.record.patient import Sound
from salus.record.read.reader import ReadOptions
from salus.record.read.sound import READER


def tone(path: Path, seconds: float = 1.0, channels: int = 1) -> np.ndarray:
    samples = 0.5 * np.sin(np.arange(int(2000 * seconds)) / 10)
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), 2000, subtype="PCM_16")
    return samples


@pytest.mark.parametrize(("name", "media"), [("a.wav", "audio/wav"), ("a.flac", "audio/flac")])
def test_samples_and_rate(tmp_path: Path, name: str, media: str) -> None:
    path = tmp_path / name
    samples = tone(path, channels=2)
    assert READER.recognises(path, path.read_bytes()[:64])
    (item,) = READER.read(path, ReadOptions()).found[0].items
    assert item.content is not None and item.content.summary == "2 channels, 2000 Hz, 1.0 s"
    sound = item.content.load()
    assert isinstance(sound, Sound) and sound.sampling_rate_hz == 2000.0
    np.testing.assert_allclose(sound.samples, np.stack([samples, samples]), atol=1 / 32768)
    assert (item.modality, item.code.code) == ("unclaimed", media)
    assert "kind of sound not stated: declare it in the manifest" in item.remarks


def test_declared_modality_is_taken(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    (item,) = READER.read(tmp_path / "a.wav", ReadOptions(modality="heart_sound")).found[0].items
    assert item.modality == "heart_sound" and not item.remarks


def refused(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        READER.read(path, ReadOptions())
    return str(caught.value)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert refused(tmp_path / "a.wav") == "Cannot read 'a.wav': the file is empty (0 bytes). Export or copy it again."


def test_no_samples(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", seconds=0)
    assert refused(tmp_path / "a.wav") == "Cannot read the sound 'a.wav': it holds no samples. Record or export it again."


def test_truncated_wav(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    tone(path)
    path.write_bytes(path.read_bytes()[:2044])
    assert refused(path) == (
        "Cannot read the sound 'a.wav': it is truncated (4044 bytes are promised, 2044 are there). Copy it again."
    )


def test_truncated_flac(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    tone(path, seconds=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refused(path) == (
        "Cannot read the sound 'a.flac': it is truncated, damaged or of an unknown encoding. Copy or export it again."
    )


def test_low_rate_is_remarked(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100) + 0.1, 100)
    (item,) = READER.read(tmp_path / "a.wav", ReadOptions()).found[0].items
    assert any("holds no audible sound" in remark for remark in item.remarks)


@pytest.mark.data
def test_real_heart_sounds(salus_data: Path) -> None:
    for path in sorted((salus_data / "heart_sounds_cinc2016/wav").glob("*.wav"))[::60]:
        (item,) = READER.read(path, ReadOptions(modality="heart_sound")).found[0].items
        assert item.content is not None
        sound = item.content.load()
        rate, expected = wavfile.read(path)
        assert isinstance(sound, Sound) and sound.sampling_rate_hz == rate == 2000
        np.testing.assert_allclose(sound.samples[0], expected / 32768, atol=1e-6)
