"""TIFF pages: expected pixels are those that the test wrote with tifffile, an independent writer, or with Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageCms

from salus.errors import FormatError, InputError
from salus.record.patient import Image, Item, Normalisation
from salus.record.read.reader import FileRead, ReadOptions
from salus.record.read.tiff import READER


def read(path: Path) -> FileRead:
    assert READER.recognises(path, path.read_bytes()[:64])
    return READER.read(path, ReadOptions())


def items_of(path: Path) -> tuple[Item, ...]:
    return read(path).found[0].items


def loaded(item: Item) -> Image:
    assert item.content is not None
    image = item.content.load()
    assert isinstance(image, Image)
    return image


def noise(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 250 if dtype == np.uint8 else 60_000, shape).astype(dtype)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}, {"compression": "zlib"}, {"tile": (64, 64), "compression": "zlib"}])
def test_grey_keeps_its_depth(tmp_path: Path, byteorder: str, dtype: type, layout: dict[str, object]) -> None:
    pixels = noise((70, 90), dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder, **layout)
    (item,) = items_of(tmp_path / "a.tif")
    np.testing.assert_array_equal(loaded(item).pixels, pixels.astype(np.float32))
    assert item.content is not None and item.content.summary == "70 × 90, grey" and item.modality == "unclaimed"


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_read_where_pillow_does_it_right(tmp_path: Path, dtype: type) -> None:
    pixels = noise((70, 90), dtype)
    for name, options in (
        ("le.tif", {"compression": "zlib"}),
        ("be.tif", {"byteorder": ">"}),
        ("both.tif", {"byteorder": ">", "compression": "zlib"}),
    ):
        tifffile.imwrite(tmp_path / name, pixels, **options)
    for name in ("le.tif", "be.tif"):
        np.testing.assert_array_equal(loaded(items_of(tmp_path / name)[0]).pixels, pixels.astype(np.float32))
    with pytest.raises(FormatError, match="compressed 32-bit values in big-endian order"):
        read(tmp_path / "both.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour(tmp_path: Path, planar: str) -> None:
    pixels = noise((40, 50, 3), np.uint8)
    stored = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(loaded(items_of(tmp_path / "a.tif")[0]).pixels, pixels)


def test_colours_of_16_bits_are_read_with_8_and_that_is_said(tmp_path: Path) -> None:
    pixels = noise((40, 50, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    (item,) = items_of(tmp_path / "a.tif")
    np.testing.assert_array_equal(loaded(item).pixels, pixels // 256)
    assert "colours of 16 bits read with 8" in item.remarks
    assert item.normalised == (Normalisation("colour", (("from", "RGB"), ("bits", 16.0))),)


def test_palette(tmp_path: Path) -> None:
    picture = Pillow.fromarray(noise((20, 30), np.uint8) % 4, mode="P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(loaded(items_of(tmp_path / "a.tif")[0]).pixels, np.asarray(picture.convert("RGB")))


def test_every_page_is_an_image_and_the_rest_is_reported(tmp_path: Path) -> None:
    pages = noise((20, 12, 14), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    result = read(tmp_path / "a.tif")
    items = result.found[0].items
    assert len(items) == 16 and len({item.id for item in items}) == 16
    assert [one.reason for one in result.skipped] == ["4 of its 20 pages: only the first 16 are read"]
    for page, item in enumerate(items):
        np.testing.assert_array_equal(loaded(item).pixels, pages[page])


def test_ome_names_channels_and_sizes(tmp_path: Path) -> None:
    metadata = {
        "axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }  # fmt: skip
    pixels = noise((2, 30, 40), np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata=metadata)
    first, second = items_of(tmp_path / "a.ome.tif")
    assert first.content is not None and first.content.summary == "30 × 40, grey, channel 1 (DAPI), page 1 of 2"
    assert second.content is not None and second.content.summary == "30 × 40, grey, channel 2 (GFP), page 2 of 2"
    assert loaded(second).spacing_mm == pytest.approx((0.0005, 0.00025))
    np.testing.assert_array_equal(loaded(second).pixels, pixels[1])


def test_a_printers_resolution_is_no_spacing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 20), np.uint8), resolution=(300, 300), resolutionunit="INCH")
    (item,) = items_of(tmp_path / "a.tif")
    assert loaded(item).spacing_mm is None and any(remark.startswith("pixel spacing is not stated") for remark in item.remarks)


def test_own_colour_profile_is_brought_to_srgb(tmp_path: Path) -> None:
    """Lab values of sRGB red are converted by LittleCMS; the XYZ-based profile here is sRGB itself, so nothing may change."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = noise((8, 8, 3), np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.tif", icc_profile=srgb)
    (item,) = items_of(tmp_path / "a.tif")
    assert "colours converted from the file's own profile to sRGB" in item.remarks
    assert np.abs(loaded(item).pixels - pixels).max() <= 1
    Pillow.fromarray(pixels).save(tmp_path / "b.tif", icc_profile=b"no profile at all")
    assert "its colour profile cannot be used: colours as stored" in items_of(tmp_path / "b.tif")[0].remarks


def test_more_pixels_than_are_safe(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((60, 60), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as stream:
        for name in ("ImageWidth", "ImageLength"):
            stream.pages[0].tags[name].overwrite(60_000)
    with pytest.raises(FormatError, match=r"pixels are not read. Store a smaller one, or a pyramid"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_truncated_file(tmp_path: Path, keep: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((64, 64), np.uint8), compression="zlib")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FormatError, match=r"Cannot read the image 'b.tif'"):
        read(tmp_path / "b.tif")


@given(st.integers(0, 2**32 - 1))
def test_damaged_files_raise_typed_errors_only(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("tiff", numbered=True)
    tifffile.imwrite(folder / "a.tif", noise((2, 20, 20), np.uint8), photometric="minisblack")
    rng, content = np.random.default_rng(seed), bytearray((folder / "a.tif").read_bytes())
    for _ in range(int(rng.integers(1, 30))):
        content[int(rng.integers(4, len(content)))] = int(rng.integers(0, 256))
    (folder / "b.tif").write_bytes(content)
    try:
        for item in READER.read(folder / "b.tif", ReadOptions()).found[0].items:
            assert item.content is not None and item.content.load() is not None
    except InputError as error:
        assert "b.tif" in str(error)
