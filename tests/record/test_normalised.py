"""Steps of normalising: their words are the remarks, and undoing gives back what the file holds (pydicom's stored pixels)."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageCms
from pydicom.data import get_testdata_file

from salus.encode.input_key import input_key
from salus.errors import ConfigError
from salus.record.normalise import normalise
from salus.record.normalised import undo_pixels, undo_signal, undo_value, words
from salus.record.patient import Code, Image, Item, Normalisation, ReferenceRange, Signal, Source, Volume
from salus.record.read import csv, image, nifti, sound
from salus.record.read.dicom import READER
from salus.record.read.reader import ReadOptions

GLUCOSE = Code("http://loinc.org", "2339-0", "glucose")
TEMPERATURE = Code("http://loinc.org", "8310-5", "temperature")


def measured(code: Code, value: float, unit: str) -> Item:
    return Item("1", "vitals_labs", code, Source("a", ""), value=value, unit=unit, reference_range=ReferenceRange(value - 1, None, "lab"))


@given(st.floats(1.0, 30.0), st.sampled_from([(GLUCOSE, "mmol/L"), (TEMPERATURE, "[degF]")]))
def test_undoing_gives_back_number_unit_and_range(value: float, what: tuple[Code, str]) -> None:
    before = measured(what[0], value + (80 if what[1] == "[degF]" else 0), what[1])
    (after,) = normalise([before])
    assert len(after.normalised) == 1 and after.unit != before.unit
    assert words(after.normalised[0]) in after.remarks
    back = undo_value(after)
    assert (back.value, back.unit, back.normalised) == (before.value, before.unit, ())
    assert back.reference_range is not None and before.reference_range is not None
    assert math.isclose(back.reference_range.low or 0, before.reference_range.low or 0, rel_tol=1e-6, abs_tol=1e-6)


def test_a_value_in_its_own_unit_has_no_step() -> None:
    (after,) = normalise([measured(GLUCOSE, 99.0, "mg/dL")])
    assert after.normalised == () and undo_value(after) is after


def picture(path: Path) -> tuple[Item, Image]:
    (item,) = [one for one in READER.read(path, ReadOptions()).found[0].items if one.content]
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Image)
    return item, loaded


def test_the_stored_pixels_of_a_ct_come_back() -> None:
    path = Path(str(get_testdata_file("CT_small.dcm")))
    item, image = picture(path)
    assert item.normalised == (Normalisation("rescale", (("slope", 1.0), ("intercept", -1024.0))),)
    assert np.array_equal(undo_pixels(image.pixels, item.normalised), pydicom.dcmread(path).pixel_array)


def test_the_stored_pixels_of_a_mirrored_picture_come_back(tmp_path: Path) -> None:
    source = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    source.PhotometricInterpretation = "MONOCHROME1"
    source.save_as(tmp_path / "mirrored.dcm")
    item, image = picture(tmp_path / "mirrored.dcm")
    assert [one.step for one in item.normalised][-1] == "mirror" and words(item.normalised[-1]) in item.remarks
    assert np.array_equal(undo_pixels(image.pixels, item.normalised), source.pixel_array)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_comes_back(tmp_path: Path, orientation: int) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    (item,) = image.READER.read(tmp_path / "a.png", ReadOptions()).found[0].items
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Image) and not np.array_equal(loaded.pixels, stored)
    assert np.array_equal(undo_pixels(loaded.pixels, item.normalised), stored)


@pytest.mark.parametrize("orientation", [99, 0])
def test_an_odd_orientation_is_none(tmp_path: Path, orientation: object) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.new("L", (4, 3)).save(tmp_path / "a.jpg", exif=exif)
    (item,) = image.READER.read(tmp_path / "a.jpg", ReadOptions()).found[0].items
    assert item.normalised == ()


def test_colours_and_another_rate_are_told_and_cannot_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pillow.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    (item,) = image.READER.read(tmp_path / "a.jpg", ReadOptions()).found[0].items
    assert item.normalised == (Normalisation("colour", (("from", "CMYK"),)),)
    with pytest.raises(ConfigError, match="Cannot undo the step 'colour'"):
        undo_pixels(np.zeros((4, 4)), item.normalised)
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    monkeypatch.setattr("salus.record.read.sound_blocks.MOST_SAMPLES", 4000)
    (sound_item,) = sound.READER.read(tmp_path / "a.wav", ReadOptions()).found[0].items
    assert sound_item.normalised == (Normalisation("resample", (("from_hz", 8000.0), ("to_hz", 4000.0))),)


def test_a_png_of_16_bits_with_a_profile_says_both(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"iCCP", b"own\0\0" + zlib.compress(profile))
    body += chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    (item,) = image.READER.read(tmp_path / "a.png", ReadOptions()).found[0].items
    assert item.normalised == (Normalisation("colour", (("from", "RGB"), ("profile", "own"), ("bits", 16.0))),)
    assert "colours of 16 bits read with 8" in item.remarks and item.content is not None
    assert item.content.load().pixels.shape == (2, 2, 3)  # type: ignore[union-attr]


def test_the_voxels_of_a_scaled_volume_come_back(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    made = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    made.header.set_slope_inter(0.5, -3.0)
    nibabel.save(made, tmp_path / "a.nii")
    (item,) = nifti.READER.read(tmp_path / "a.nii", ReadOptions()).found[0].items
    assert item.content is not None and [one.step for one in item.normalised] == ["rescale"]
    loaded = item.content.load()
    assert isinstance(loaded, Volume)
    stored = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj.get_unscaled())
    assert np.array_equal(undo_pixels(loaded.voxels[0].transpose(2, 1, 0), item.normalised), stored)


def test_a_signal_in_microvolts_comes_back(tmp_path: Path) -> None:
    rows = "".join(f"{place / 250:.3f},{place % 40},{place % 7}\n" for place in range(1000))
    (tmp_path / "a.csv").write_text(f"time (s),II (uV),V1 (mV)\n{rows}")
    (item,) = [each for each in csv.READER.read(tmp_path / "a.csv", ReadOptions()).found[0].items if each.content]
    assert item.content is not None and item.normalised == (Normalisation("lead_unit", (("II", "uV"),)),)
    loaded = item.content.load()
    assert isinstance(loaded, Signal) and loaded.units == ("mV", "mV")
    back = undo_signal(loaded, item.normalised)
    assert back.units == ("uV", "mV") and np.allclose(back.samples[0], np.arange(1000) % 40, atol=1e-3)


@pytest.mark.parametrize("change", ["unit", "settings", "time", "step", "modality"])
def test_whatever_changes_the_input_changes_its_key(change: str) -> None:
    first, second = normalise([measured(GLUCOSE, 5.5, "mmol/L")])[0], measured(TEMPERATURE, 37.0, "Cel")
    same = input_key("vitals_labs", {"imputation": "none"}, [first, second], {"1": 0.0})
    assert same == input_key("vitals_labs", {"imputation": "none"}, [second, first], {"1": 0.0})
    other = {
        "unit": ("vitals_labs", {"imputation": "none"}, [undo_value(first), second], {"1": 0.0}),
        "settings": ("vitals_labs", {"imputation": "train_median"}, [first, second], {"1": 0.0}),
        "time": ("vitals_labs", {"imputation": "none"}, [first, second], {"1": 60.0}),
        "step": ("vitals_labs", {"imputation": "none"}, [Item(**{**vars(first), "normalised": ()}), second], {"1": 0.0}),
        "modality": ("ehr", {"imputation": "none"}, [first, second], {"1": 0.0}),
    }[change]
    assert input_key(*other) != same
