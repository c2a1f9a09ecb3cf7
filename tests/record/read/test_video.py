"""Videos: expected frames, times and gaps are those that the test wrote with PyAV's encoders."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.record.read import made_video as made

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.patient import Clip, Item
from salus.record.read import video
from salus.record.read.reader import ReadOptions
from salus.record.read.video import READER

pytest.importorskip("av", reason="the extra 'video' is not installed")

TENTHS = [index / 10 for index in range(20)]
LOSSY = 12
"""Grey levels that the encoders may be off by."""


def item_of(path: Path, modality: str | None = None) -> Item:
    assert READER.recognises(path, path.read_bytes()[:4096])
    (found,) = READER.read(path, ReadOptions(modality=modality)).found
    (item,) = found.items
    assert found.subject_id is None
    return item


def clip_of(item: Item) -> Clip:
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Clip)
    return loaded


@pytest.mark.parametrize(
    ("name", "codec", "media"),
    [
        ("a.mp4", "libx264", "video/mp4"),
        ("a.mov", "mpeg4", "video/quicktime"),
        ("a.mkv", "libx264", "video/x-matroska"),
        ("a.webm", "libvpx-vp9", "video/webm"),
        ("a.avi", "mpeg4", "video/x-msvideo"),
    ],
)
def test_frames_and_times(tmp_path: Path, name: str, codec: str, media: str) -> None:
    item = item_of(made.write_video(tmp_path / name, codec, times_s=TENTHS))
    assert (item.code.code, item.category, item.modality) == (media, "video", "unclaimed")
    assert item.content is not None and item.content.summary == "20 frames, 48 × 64, colour, 10 Hz, 2.0 s"
    clip = clip_of(item)
    assert clip.frames.shape == (20, 48, 64, 3) and clip.frames.dtype == np.uint8 and clip.is_present.all()
    np.testing.assert_allclose(clip.time_s, TENTHS, atol=0.002)
    assert clip.frame_rate_hz == pytest.approx(10, rel=1e-3)
    for index in (0, 7, 19):
        assert np.abs(clip.frames[index].astype(float) - made.picture(index)).mean() < LOSSY
    assert "kind of video not stated: declare it in the manifest" in item.remarks


def test_grey_frames_are_exact(tmp_path: Path) -> None:
    item = item_of(made.write_video(tmp_path / "a.mkv", "ffv1", times_s=TENTHS, pixel_format="gray"), "lung_ultrasound")
    clip = clip_of(item)
    assert clip.frames.shape == (20, 48, 64) and item.modality == "lung_ultrasound"
    np.testing.assert_array_equal(clip.frames[3], made.picture(3)[..., 0])
    assert item.remarks == ("pixel spacing is not stated: no distance can be measured",)


def test_gaps_are_missing_frames(tmp_path: Path) -> None:
    times = [index / 10 for index in range(20) if index not in (7, 8, 9)]
    item = item_of(made.write_video(tmp_path / "a.mp4", "libx264", times_s=times))
    assert "3 of 20 frames of the grid are missing" in item.remarks
    assert "variable frame rate: steps of 100 to 400 ms, placed on an even grid" in item.remarks
    clip = clip_of(item)
    assert np.flatnonzero(~clip.is_present).tolist() == [7, 8, 9] and not clip.frames[8].any()
    assert np.abs(clip.frames[10].astype(float) - made.picture(7)).mean() < LOSSY


def test_frames_that_jitter_keep_their_own_times(tmp_path: Path) -> None:
    times = [index / 10 + (0.03 if index % 3 == 1 else 0.0) for index in range(20)]
    clip = clip_of(item_of(made.write_video(tmp_path / "a.mkv", "libx264", times_s=times)))
    np.testing.assert_allclose(clip.time_s[clip.is_present][:6], times[:6], atol=0.002)


def test_large_and_fast_clips_are_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.write_video(tmp_path / "a.mkv", "mpeg4", times_s=TENTHS, size=(400, 1024))
    assert "scaled down to 200 × 512" in item_of(path).remarks
    monkeypatch.setattr(video, "MOST_BYTES", 8 * 200 * 512 * 3)
    item = item_of(path)
    assert "one in 3 frames is loaded: 3.33 Hz" in item.remarks
    clip = clip_of(item)
    assert clip.frames.shape == (7, 200, 512, 3) and clip.is_present.all()
    np.testing.assert_allclose(clip.time_s, np.arange(7) * 0.3, atol=0.002)


def test_quarter_turn_of_the_track_is_applied(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / "a.mp4", "libx264", times_s=TENTHS)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2: 40 bytes of a version 0 header stand before the matrix
    clockwise = [0, 1, 0, -1, 0, 0, 48, 0, 0]
    for place, value in enumerate(clockwise):
        scale = 30 if place % 3 == 2 else 16
        data[matrix + 4 * place : matrix + 4 * place + 4] = (value << scale).to_bytes(4, "big", signed=True)
    data[matrix + 32 : matrix + 36] = (1 << 30).to_bytes(4, "big")
    path.write_bytes(data)
    item = item_of(path)
    assert item.content is not None and "64 × 48" in item.content.summary
    first = clip_of(item).frames[0].astype(float).mean(-1)
    assert first.shape == (64, 48)
    assert first[:15, -10:].mean() > 240 and first[:15, :10].mean() < 80  # the bright corner went from top left to top right


def test_the_title_of_the_container_is_shown_nowhere(tmp_path: Path) -> None:
    item = item_of(made.write_video(tmp_path / "a.mp4", "libx264", times_s=TENTHS))
    assert "Doe" not in repr(item)


def test_damaged_middle_is_missing(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / "a.avi", "mjpeg", times_s=TENTHS, pixel_format="yuvj420p")
    data = bytearray(path.read_bytes())
    sizes = {at: int.from_bytes(data[at + 4 : at + 8], "little") for at in range(len(data) - 8) if data[at : at + 4] == b"00dc"}
    at, size = [(at, size) for at, size in sizes.items() if size > 100][9]  # others are empty, or entries of the index
    data[at + 8 : at + 8 + size] = bytes(size)
    path.write_bytes(data)
    clip = clip_of(item_of(path))
    assert np.flatnonzero(~clip.is_present).tolist() == [9] and not clip.frames[9].any()


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9")])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6])
def test_truncated(tmp_path: Path, name: str, codec: str, share: float) -> None:
    path = made.write_video(tmp_path / name, codec, times_s=[index / 10 for index in range(60)], size=(96, 128))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FormatError, match=r"^Cannot read "):
        READER.read(path, ReadOptions())


def test_garbage_raises_only_typed_errors(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / "a.mp4", "libx264", times_s=TENTHS)
    whole, source = path.read_bytes(), np.random.default_rng(0)
    for trial in range(25):
        data = bytearray(whole)
        for place in source.integers(0, len(data), 30):
            data[place] = source.integers(0, 256)
        path = tmp_path / f"{trial}.mp4"
        path.write_bytes(data)
        try:
            for found in READER.read(path, ReadOptions()).found:
                clip_of(found.items[0])
        except InputError as error:
            assert "Doe" not in str(error)


def test_container_without_a_picture_is_a_sound(tmp_path: Path) -> None:
    sound = made.write_sound(tmp_path / "a.mp4", np.zeros((1, 16000), np.float32), 16000)
    (item,) = READER.read(sound, ReadOptions(modality="speech")).found[0].items
    assert item.category == "sound" and item.code.code == "audio/mp4"


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.write_video(tmp_path / "a.mp4", "libx264", times_s=TENTHS)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra) as caught:
        READER.read(path, ReadOptions())
    assert str(caught.value) == "Cannot read 'a.mp4': an optional package is not installed. Run: pip install 'salus[video]'"


@pytest.mark.data
def test_all_lung_ultrasound_clips(salus_data: Path) -> None:
    paths = sorted((salus_data / "lus_video_covid_blues/lus_videos").glob("*.mp4"))
    items = [item_of(path, "lung_ultrasound") for path in paths]
    assert len(items) == 89
    assert all(item.content is not None and "350 × 350, colour, 25 Hz" in item.content.summary for item in items)
    for item in items[::30]:
        assert clip_of(item).is_present.all()
