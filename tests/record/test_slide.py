"""Whole slides: expected pixels are those that the test wrote; the threshold is checked against a search over all of them."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.record.made_slide import TISSUE, picture, write_dicom, write_tiff

from salus.errors import FormatError
from salus.record.patient import Item, Slide
from salus.record.read.folder import read_path
from salus.record.slide import otsu, overview, tiles, tissue_of


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pyramid of `made_slide`."""
    path = tmp_path_factory.mktemp("slides") / "a.tif"
    write_tiff(path)
    return path


def item_in(path: Path) -> Item:
    (record,) = read_path(path).patients
    (item,) = [item for item in record.items if item.content is not None]
    return item


def loaded(path: Path) -> Slide:
    content = item_in(path).content
    assert content is not None and content.kind == "slide"
    slide = content.load()
    assert isinstance(slide, Slide)
    return slide


@pytest.mark.parametrize("bigtiff", [False, True])
def test_pyramid_is_one_slide(tmp_path: Path, bigtiff: bool) -> None:
    finest = write_tiff(tmp_path / "a.tif", bigtiff=bigtiff)
    item = item_in(tmp_path / "a.tif")
    assert item.modality == "pathology_slide" and item.content is not None
    assert item.content.summary == "1024 × 1536, 3 levels, 0.5 µm a pixel, whole slide"
    slide = loaded(tmp_path / "a.tif")
    assert slide.levels == ((1024, 1536), (512, 768), (256, 384)) and slide.spacing_mm == (0.0005, 0.0005)
    for level, step in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(slide.region(level, 20, 40, (100, 60)), finest[::step, ::step][20:120, 40:100])
    beside = slide.region(0, 1000, 1500, (100, 100))
    np.testing.assert_array_equal(beside[:24, :36], finest[1000:, 1500:])
    assert (beside[24:] == 255).all() and (beside[:, 36:] == 255).all()


def test_dicom_levels_are_one_slide_and_its_label_is_never_read(tmp_path: Path) -> None:
    finest = write_dicom(tmp_path / "s")
    report = read_path(tmp_path / "s")
    (item,) = report.patients[0].items
    assert item.modality == "pathology_slide" and item.content is not None and report.patients[0].subject_id == "P-1"
    assert item.content.summary == "1024 × 1536, 2 levels, 0.5 µm a pixel, 20× objective, whole slide"
    assert [Path(one).name for one in report.companions] == ["level-1.dcm"]
    assert [(Path(one.path).name, one.reason) for one in report.skipped] == [
        ("label.dcm", "a picture beside a whole slide (label), which may show a name: never read")
    ]
    slide = item.content.load()
    assert isinstance(slide, Slide)
    close = np.abs(slide.region(0, 300, 500, (64, 64)).astype(int) - finest[300:364, 500:564])
    assert close.mean() < 3  # JPEG


def test_tissue_is_found_where_it_is(pyramid: Path) -> None:
    slide = loaded(pyramid)
    small = overview(slide, 384)
    assert small.pixels.shape == (256, 384, 3) and small.spacing_mm == (0.002, 0.002)
    truth = np.zeros((1024, 1536), bool)
    truth[TISSUE] = True
    assert (tissue_of(small) == truth[::4, ::4]).mean() > 0.99
    glass = replace(slide, levels=((200, 200),), region=lambda _level, _row, _column, size: np.full((*size, 3), 240, np.uint8))
    assert not tissue_of(overview(glass)).any()


def test_tiles_hold_tissue_and_do_not_overlap(pyramid: Path) -> None:
    slide = loaded(pyramid)
    found = list(tiles(slide, side=128))
    inside = {(row, column) for row in range(256, 768, 128) for column in range(384, 1152, 128)}
    assert {(tile.row, tile.column) for tile in found} == inside and all(tile.tissue > 0.9 for tile in found)
    coarse = list(tiles(slide, side=64, level=1))
    assert {(2 * tile.row, 2 * tile.column) for tile in coarse} == inside
    assert len(list(tiles(slide, side=128, least_tissue=0.0))) == (1024 // 128) * (1536 // 128)


def test_otsu_has_the_least_variance_within_the_classes() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(np.concatenate([rng.normal(0.1, 0.05, 3000), rng.normal(0.6, 0.1, 1000)]), 0, 1)

    def within(threshold: float) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return len(low) * low.var() + len(high) * high.var() if len(low) and len(high) else np.inf

    best = min(within(threshold) for threshold in np.arange(1, 256) / 256)
    assert within(otsu(values)) <= best * 1.001


def test_a_huge_slide_costs_little_memory(tmp_path: Path) -> None:
    asked = []

    def region(level: int, row: int, column: int, size: tuple[int, int]) -> np.ndarray:
        asked.append(size[0] * size[1])
        return np.full((*size, 3), 200, np.uint8)

    tall = Slide(((200_000, 100_000), (8_000, 4_000)), region)
    tracemalloc.start()
    assert overview(tall).pixels.shape == (1024, 512, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(asked) <= 513 * 4_000 and peak < 60_000_000
    with pytest.raises(FormatError, match="Cannot show the slide: its smallest usable level has 200000 × 100000 pixels"):
        overview(Slide(((200_000, 100_000),), region))


def test_a_region_that_is_too_large_is_refused(pyramid: Path) -> None:
    with pytest.raises(FormatError, match=r"Cannot read a region of 100000 × 100000 pixels: at most 67108864 are read. Ask for less."):
        loaded(pyramid).region(0, 0, 0, (100_000, 100_000))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated_slide_raises_typed_errors_only(pyramid: Path, tmp_path: Path, keep: float) -> None:
    content = pyramid.read_bytes()
    (tmp_path / "b.tif").write_bytes(content[: int(keep * len(content))])
    report = read_path(tmp_path / "b.tif")
    for item in (item for record in report.patients for item in record.items):
        assert item.content is not None
        try:
            slide = item.content.load()
            assert isinstance(slide, Slide)
            slide.region(0, 0, 0, (1024, 1536))
        except FormatError as error:
            assert "b.tif" in str(error)
    assert report.patients or report.skipped


def test_written_picture_has_the_tissue_that_is_claimed() -> None:
    assert picture()[TISSUE].shape == (512, 768, 3)
