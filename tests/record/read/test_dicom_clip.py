"""Cine in DICOM files: frames compared with pydicom's own decoding, times with the header's arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundMultiFrameImageStorage, XRayAngiographicImageStorage
from tests.record.read.made_dicom import made

from salus.errors import FormatError
from salus.record.patient import Clip, Item
from salus.record.read import dicom_clip
from salus.record.read.dicom import READER
from salus.record.read.reader import ReadOptions

FRAMES = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6)


def cine(folder: Path, pixels: np.ndarray = FRAMES, **elements: object) -> Path:
    given = {"sop_class": UltrasoundMultiFrameImageStorage, "Modality": "US", "NumberOfFrames": len(pixels), **elements}
    return made(folder, pixels, Rows=pixels.shape[1], Columns=pixels.shape[2], **given)


def clip_of(path: Path) -> tuple[Item, Clip]:
    item = next(item for item in READER.read(path, ReadOptions()).found[0].items if item.content is not None)
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Clip)
    return item, loaded


def test_frames_and_times(tmp_path: Path) -> None:
    item, clip = clip_of(cine(tmp_path, FrameTime=40.0))
    assert (item.modality, item.category, item.code.code) == ("ultrasound_clip", "video", "US")
    assert item.content is not None and item.content.summary == "5 frames, 4 × 6, ultrasound clip, 25 Hz, 0.2 s"
    np.testing.assert_array_equal(clip.frames, FRAMES)
    np.testing.assert_allclose(clip.time_s, np.arange(5) * 0.04)
    assert clip.is_present.all() and clip.value_range == (0.0, 255.0)


def test_times_of_a_vector_and_of_a_rate(tmp_path: Path) -> None:
    item, clip = clip_of(cine(tmp_path, FrameTimeVector=[0, 10, 10, 50, 10]))
    np.testing.assert_allclose(clip.time_s, [0, 0.01, 0.02, 0.07, 0.08])
    assert "variable frame rate: steps of 10 to 50 ms" in item.remarks
    assert clip_of(cine(tmp_path, name="b.dcm", CineRate=50))[1].frame_rate_hz == pytest.approx(50)


def test_times_that_are_not_stated(tmp_path: Path) -> None:
    item, clip = clip_of(cine(tmp_path))
    assert "the times of the frames are not stated" in item.remarks and np.isnan(clip.time_s).all()


def test_low_is_bright_in_monochrome1(tmp_path: Path) -> None:
    np.testing.assert_array_equal(clip_of(cine(tmp_path, PhotometricInterpretation="MONOCHROME1"))[1].frames, 255 - FRAMES)


def test_angiogram_of_16_bits(tmp_path: Path) -> None:
    pixels = (np.arange(3 * 4 * 6, dtype=np.uint16) * 40).reshape(3, 4, 6)
    item, clip = clip_of(cine(tmp_path, pixels, sop_class=XRayAngiographicImageStorage, Modality="XA", FrameTime=100))
    np.testing.assert_array_equal(clip.frames, pixels)
    assert clip.value_range == (0.0, 71 * 40.0) and clip.frames.dtype == np.float32 and item.code.display == "angiogram clip"


def test_stacks_stay_images(tmp_path: Path) -> None:
    path = cine(tmp_path, sop_class=SecondaryCaptureImageStorage, Modality="RTDOSE")
    assert all(item.category != "video" for item in READER.read(path, ReadOptions()).found[0].items)
    assert clip_of(cine(tmp_path, name="b.dcm", sop_class=SecondaryCaptureImageStorage, Modality="OT"))[0].modality == "unclaimed"


def test_long_clips_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_clip, "MOST_BYTES", 3 * 24)
    item, clip = clip_of(cine(tmp_path, FrameTime=40.0))
    np.testing.assert_array_equal(clip.frames, FRAMES[::2])
    np.testing.assert_allclose(clip.time_s, [0, 0.08, 0.16])
    assert "one in 2 frames is loaded" in item.remarks


def test_truncated(tmp_path: Path) -> None:
    path = cine(tmp_path, FrameTime=40.0)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FormatError, match="the file is truncated"):
        READER.read(path, ReadOptions())


@pytest.mark.data
def test_real_multi_frame_files(salus_data: Path) -> None:
    item, clip = clip_of(salus_data / "dicom_samples/examples_ybr_color.dcm")
    assert item.modality == "ultrasound_clip" and clip.frames.shape == (30, 240, 320, 3) and clip.is_present.all()
    assert clip.frame_rate_hz == pytest.approx(1000 / 33.333, rel=1e-4)
    expected = pydicom.dcmread(salus_data / "dicom_samples/examples_ybr_color.dcm").pixel_array
    stored = pydicom.pixels.convert_color_space(expected[:2], "YBR_FULL_422", "RGB") if expected.shape[-1] == 3 else expected
    assert min(np.abs(clip.frames[:2].astype(int) - other.astype(int)).mean() for other in (expected[:2], stored)) < 1.0
    for name in ("SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm"):
        _, pair = clip_of(salus_data / "dicom_samples" / name)
        assert pair.frames.shape == (2, 100, 100, 3) and pair.frames[0].mean() != pair.frames[1].mean()
