"""PNG and JPEG: expected pixels are those that the test wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from salus.errors import FormatError
from salus.record.patient import Image
from salus.record.read.image import READER, load_image
from salus.record.read.reader import ReadOptions


def loaded(path: Path) -> Image:
    content = READER.read(path, ReadOptions()).found[0].items[0].content
    assert content is not None
    image = content.load()
    assert isinstance(image, Image)
    return image


def test_grey_png_keeps_its_values(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    path = tmp_path / "a.png"
    Pillow.fromarray(pixels).save(path)
    assert READER.recognises(path, path.read_bytes()[:64])
    assert np.array_equal(loaded(path).pixels, pixels)
    (item,) = READER.read(path, ReadOptions()).found[0].items
    assert item.modality == "unclaimed" and "kind of image not stated: declare it in the manifest" in item.remarks
    assert item.content is not None and item.content.summary == "3 × 4, grey"


def test_declared_modality_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Pillow.new("RGBA", (2, 2)).save(path)
    (item,) = READER.read(path, ReadOptions(modality="radiograph")).found[0].items
    assert item.modality == "radiograph"
    assert item.remarks == ("transparency dropped", "pixel spacing is not stated: no distance can be measured")


def test_16_bit_png_keeps_its_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Pillow.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(path)
    assert loaded(path).pixels.tolist() == [[0.0, 65535.0]]


def test_exif_orientation_turns_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture = Pillow.fromarray(np.repeat(np.array([[0, 255]], dtype=np.uint8), 8, axis=1).repeat(8, axis=0))
    exif = Pillow.Exif()
    exif[0x0112] = 6  # stored row 0 is the right side: show turned by 90 degrees clockwise
    picture.save(path, exif=exif)
    pixels = loaded(path).pixels
    assert pixels.shape == (16, 8) and pixels[0].mean() < 10 and pixels[-1].mean() > 245
    (item,) = READER.read(path, ReadOptions()).found[0].items
    assert item.content is not None and item.content.summary.startswith("16 × 8")
    assert "turned upright as its EXIF orientation states" in item.remarks


def refused(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        READER.read(path, ReadOptions())
    return str(caught.value)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert refused(tmp_path / "a.png") == "Cannot read 'a.png': the file is empty (0 bytes). Export or copy it again."


@pytest.mark.parametrize(("suffix", "keep"), [("png", 0.5), ("jpg", 0.5), ("png", 0.01)])
def test_truncated_file(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert refused(path) == f"Cannot read the image 'a.{suffix}': it is truncated or damaged. Export it again."


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Pillow.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    assert refused(path) == "Cannot read the image 'a.png': more than 1000 pixels are not read. Store a smaller one."


def test_other_formats_are_not_recognised() -> None:
    assert not READER.recognises(Path("a.png"), b"GIF89a")


@pytest.mark.data
@pytest.mark.parametrize(("folder", "least"), [("vqa_rad/images", 300), ("cxr_covid_chestxray/images", 300)])
def test_real_images_are_read(salus_data: Path, folder: str, least: int) -> None:
    files = sorted((salus_data / folder).iterdir())
    results = [READER.read(path, ReadOptions(modality="radiograph")) for path in files]
    assert len(results) >= least and all(result.found and not result.skipped for result in results)
    for result in results[::60]:
        content = result.found[0].items[0].content
        assert content is not None
        image = content.load()
        assert isinstance(image, Image) and np.isfinite(image.pixels).all() and np.ptp(image.pixels) > 0


def test_a_picture_larger_than_memory_is_refused_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_given: object) -> None:
        raise MemoryError

    Pillow.new("RGB", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr("salus.record.read.image.in_srgb", too_large)
    with pytest.raises(FormatError, match="20 × 30 pixels are more than memory holds"):
        load_image(tmp_path / "a.png")
