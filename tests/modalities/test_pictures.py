"""What is measured of pictures: orderings that must hold, numbers worked out by hand; and that none of it is interpreted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation
from scipy.ndimage import gaussian_filter
from tests.record.read.made_dicom import made

import salus
from salus import registry
from salus.encode.picture import quality, sharpness
from salus.encode.stained import stained_regions
from salus.record.patient import Content, Image
from salus.record.read.dicom import READER
from salus.record.read.image import READER as PICTURE_READER
from salus.record.read.reader import ReadOptions

SHOWN_ONLY = ("volume", "pathology_slide", "microscopy", "ultrasound", "mammogram", "retina", "skin_photograph")


def test_blur_lowers_sharpness_and_exposure_does_not_change_it() -> None:
    picture = np.random.default_rng(0).uniform(0, 100, (60, 60))
    values = [sharpness(gaussian_filter(picture, width)) for width in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values, reverse=True)
    assert sharpness(2 * picture + 30) == pytest.approx(sharpness(picture))
    assert sharpness(np.full((5, 5), 7.0)) == 0.0


def test_quality_by_hand() -> None:
    pixels = np.zeros((4, 10, 3), np.float32)
    pixels[:, 5:] = 255.0
    found = {one.name: one.value for one in quality(Image(pixels, "1", (0.5, 0.2)))}
    assert found["height of the picture"] == 2.0 and found["width of the picture"] == 2.0
    assert found["mean brightness of the picture"] == pytest.approx(50.0)
    assert (found["share of black pixels"], found["share of white pixels"]) == (50.0, 50.0)


def test_stained_regions_are_counted_and_small_ones_are_not() -> None:
    pixels = np.full((200, 200, 3), 220.0)
    for row, side in ((10, 30), (100, 40), (180, 5)):
        pixels[row : row + side, 50 : 50 + side] = (120, 60, 160)
    areas = stained_regions(pixels)
    assert len(areas) == 2 and areas[0] == pytest.approx(1600, rel=0.1) and areas[1] == pytest.approx(900, rel=0.1)


def test_mammogram_names_side_and_view(tmp_path: Path) -> None:
    path = made(
        tmp_path, np.zeros((4, 4), np.uint16), sop_class=DigitalMammographyXRayImageStorageForPresentation, Modality="MG",
        ImageLaterality="L", ViewPosition="MLO",
    )  # fmt: skip
    item = READER.read(path, ReadOptions()).found[0].items[0]
    assert item.modality == "mammogram" and item.content is not None
    assert item.content.summary == "4 × 4, mammogram, left, MLO"


@pytest.mark.parametrize(("kind", "modality"), [("US", "ultrasound"), ("OP", "retina"), ("XC", "skin_photograph"), ("GM", "microscopy")])
def test_dicom_kinds_have_their_modality(tmp_path: Path, kind: str, modality: str) -> None:
    path = made(tmp_path, np.zeros((4, 4), np.uint8), Modality=kind)
    assert READER.read(path, ReadOptions()).found[0].items[0].modality == modality


def test_place_and_camera_of_a_photograph_are_never_kept(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0132] = "SecretCamera", "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[29] = "2026:01:02"
    Pillow.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / "a.jpg", exif=exif, comment=b"Doe")
    assert b"SecretCamera" in (tmp_path / "a.jpg").read_bytes()
    (item,) = PICTURE_READER.read(tmp_path / "a.jpg", ReadOptions(modality="skin_photograph")).found[0].items
    assert item.observed_at is None and all(word not in repr(item) for word in ("SecretCamera", "2026", "Doe"))


@pytest.mark.parametrize("name", SHOWN_ONLY)
def test_a_picture_without_content_or_contrast_is_no_error(name: str) -> None:
    modality = registry.load("salus.modalities", name)
    (item,) = modality.example()
    assert modality.measure(replace(item, content=None)) == ()
    for shape in ((0, 0), (6, 6), (6, 6, 3)):
        blank = replace(item, content=Content("image", lambda shape=shape: Image(np.zeros(shape, np.float32), "1")))
        assert all(np.isfinite(one.value) for one in modality.measure(blank))


def test_no_shipped_model_interprets_them() -> None:
    configs = list((Path(salus.__file__).parent / "models").rglob("config.json"))
    assert configs
    for path in configs:
        config = json.loads(path.read_text("utf-8"))
        assert not set(SHOWN_ONLY) & (set(config["encoders"]) | set(config["evaluations"]))
