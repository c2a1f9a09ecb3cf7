"""Sounds: expected samples are those that the test wrote; real ones are compared with SciPy's reader, MP3 with FFmpeg's decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile
from tests.record.read import made_video as made

from salus.errors import FormatError, InputError
from salus.record.patient import Sound
from salus.record.read.reader import ReadOptions
from salus.record.read.sound import READER, blocks
from salus.record.read.sound_av import blocks as av_blocks
from salus.record.read.sound_blocks import MOST_SAMPLES, gathered, shrinking
from salus.record.read.video import READER as CONTAINERS


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


def melody(rate: int, seconds: float = 3.0, channels: int = 1) -> np.ndarray:
    """Return (C, S) of a soft tone, another in each channel."""
    time_s = np.arange(int(rate * seconds)) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * 220 * (channel + 1) * time_s) for channel in range(channels)]).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "format_", "subtype", "media"),
    [("a.mp3", "MP3", "MPEG_LAYER_III", "audio/mpeg"), ("a.ogg", "OGG", "VORBIS", "audio/ogg"), ("a.opus", "OGG", "OPUS", "audio/ogg")],
)
def test_lossy_formats(tmp_path: Path, name: str, format_: str, subtype: str, media: str) -> None:
    path, samples = tmp_path / name, melody(16_000, channels=2)
    soundfile.write(path, samples.T, 16_000, format=format_, subtype=subtype)
    assert READER.recognises(path, path.read_bytes()[:4096])
    (item,) = READER.read(path, ReadOptions(modality="cough")).found[0].items
    assert (item.code.code, item.modality, item.remarks) == (media, "cough", ("lossy compression",))
    assert item.content is not None and item.content.summary.startswith("2 channels, ")
    sound = item.content.load()
    assert isinstance(sound, Sound) and sound.samples.shape[0] == 2
    length_s = sound.samples.shape[1] / sound.sampling_rate_hz
    assert length_s == pytest.approx(3.0, abs=0.15)  # encoders pad to whole frames
    spectrum = np.abs(np.fft.rfft(sound.samples[1]))
    assert np.argmax(spectrum) / length_s == pytest.approx(440, abs=1)


@pytest.mark.parametrize("name", ["a.m4a", "a.aac", "a.mp4", "a.mkv"])
def test_aac(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    path = made.write_sound(tmp_path / name, melody(16_000), 16_000)
    head = path.read_bytes()[:4096]
    reader = next(reader for reader in (READER, CONTAINERS) if reader.recognises(path, head))
    (item,) = reader.read(path, ReadOptions(modality="speech")).found[0].items
    assert item.category == "sound" and item.content is not None and item.content.summary.startswith("mono, 16000 Hz, 3.")
    sound = item.content.load()
    assert isinstance(sound, Sound) and sound.samples.shape[1] / 16_000 == pytest.approx(3.0, abs=0.15)
    spectrum = np.abs(np.fft.rfft(sound.samples[0]))
    assert np.argmax(spectrum) * 16_000 / sound.samples.shape[1] == pytest.approx(220, abs=1)
    assert np.concatenate(list(av_blocks(path)), axis=1).shape == sound.samples.shape
    assert "Doe" not in repr(item)


def test_id3_tags_are_neither_shown_nor_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, melody(16_000).T, 16_000, format="MP3")
    bare = path.read_bytes()
    frame = b"TPE1" + (9).to_bytes(4, "big") + b"\0\0" + b"\x03Jane Doe"
    path.write_bytes(b"ID3\x04\0\0" + bytes([0, 0, 0, len(frame)]) + frame + bare)
    (item,) = READER.read(path, ReadOptions()).found[0].items
    assert "Doe" not in repr(item)
    path.write_bytes(b"ID3\x04\0\0" + bytes([0, 0, 0, len(frame)]) + frame)
    assert "Doe" not in refused(path)


@pytest.mark.parametrize("name", ["a.ogg", "a.m4a", "a.mp3"])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.6])
def test_truncated_lossy_formats(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name == "a.m4a":
        pytest.importorskip("av", reason="the extra 'video' is not installed")
        made.write_sound(path, melody(16_000, 20), 16_000)
    else:
        soundfile.write(path, melody(16_000, 20).T, 16_000)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert refused(path).startswith("Cannot read ")


def test_hours_are_loaded_at_a_lower_rate_and_keep_their_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.record.read.sound_blocks.MOST_SAMPLES", 20_000)
    monkeypatch.setattr("salus.record.read.sound.BLOCK_SAMPLES", 1_500)
    samples = melody(16_000, 2.0)
    soundfile.write(tmp_path / "a.wav", samples.T, 16_000, subtype="FLOAT")
    (item,) = READER.read(tmp_path / "a.wav", ReadOptions(modality="speech")).found[0].items
    assert item.remarks == ("long: loaded at 8000 Hz instead of 16000 Hz, so nothing above 3600 Hz",)
    assert item.content is not None and item.content.summary == "mono, 16000 Hz, 2.0 s"
    sound = item.content.load()
    assert isinstance(sound, Sound) and sound.samples.shape == (1, 16_000) and sound.sampling_rate_hz == 8000
    np.testing.assert_allclose(sound.samples[0, 50:-50], samples[0, ::2][50:-50], atol=0.005)


@pytest.mark.parametrize("sizes", [[1], [7, 3, 90], [400]])
def test_where_blocks_end_changes_nothing(sizes: list[int]) -> None:
    samples, pieces, start = melody(4_000, 1.0, channels=2), [], 0
    while start < samples.shape[1]:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(samples[:, start : start + size])
        start += size
    one, many = gathered([samples], 4000.0, divisor=5), gathered(pieces, 4000.0, divisor=5)
    assert one.samples.shape == (2, 800) and one.sampling_rate_hz == 800
    np.testing.assert_allclose(one.samples, many.samples, atol=1e-6)


def test_eight_hours_fit() -> None:
    for frames, channels in ((8 * 3600 * 44_100, 2), (24 * 3600 * 48_000, 1)):
        assert frames * channels / shrinking(frames, channels) <= MOST_SAMPLES


def test_noise_in_the_bytes_raises_only_typed_errors(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", melody(16_000).T, 16_000)
    soundfile.write(tmp_path / "a.mp3", melody(16_000).T, 16_000)
    source = np.random.default_rng(0)
    for name in ("a.ogg", "a.mp3"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(15):
            data = bytearray(whole)
            for place in source.integers(0, len(data), 20):
                data[place] = source.integers(0, 256)
            (tmp_path / name).write_bytes(data)
            try:
                for found in READER.read(tmp_path / name, ReadOptions()).found:
                    assert found.items[0].content is not None
                    found.items[0].content.load()
            except InputError as error:
                assert str(error).startswith("Cannot read ")


@pytest.mark.data
def test_all_coughs(salus_data: Path) -> None:
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    paths = sorted((salus_data / "cough_covid19/raw").glob("*.mp3"))
    items = [READER.read(path, ReadOptions(modality="cough")).found[0].items[0] for path in paths]
    assert len(items) == 153
    for path, item in list(zip(paths, items, strict=True))[::17]:
        assert item.content is not None
        sound = item.content.load()
        assert isinstance(sound, Sound) and np.isfinite(sound.samples).all()
        other = np.concatenate(list(av_blocks(path)), axis=1)  # FFmpeg's decoder; the two differ in how much padding they cut
        size = min(other.shape[1], sound.samples.shape[1])
        spectra = [np.abs(np.fft.rfft(one[0, :size])) for one in (sound.samples, other)]
        assert np.corrcoef(*spectra)[0, 1] > 0.99
        assert np.concatenate(list(blocks(path)), axis=1).shape == sound.samples.shape


@pytest.mark.data
def test_real_heart_sounds(salus_data: Path) -> None:
    for path in sorted((salus_data / "heart_sounds_cinc2016/wav").glob("*.wav"))[::60]:
        (item,) = READER.read(path, ReadOptions(modality="heart_sound")).found[0].items
        assert item.content is not None
        sound = item.content.load()
        rate, expected = wavfile.read(path)
        assert isinstance(sound, Sound) and sound.sampling_rate_hz == rate == 2000
        np.testing.assert_allclose(sound.samples[0], expected / 32768, atol=1e-6)
