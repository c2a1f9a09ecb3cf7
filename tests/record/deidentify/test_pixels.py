"""Burned-in text by the real reader of text: found at any depth of pixels, on every frame, and small marks of the side stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from tests.record.read.made_dicom import made

from salus.record.deidentify import dicom, pictures
from salus.record.deidentify.key import Key
from salus.record.deidentify.pixels import build_text_finder, shown
from salus.record.deidentify.work import Box, Work

WORK = Work(Key(bytes(32)), "P-1", finder=build_text_finder)


def written(text: str, at: tuple[int, int], size: tuple[int, int] = (200, 300)) -> np.ndarray:
    picture = Image.new("L", size[::-1], 40)
    ImageDraw.Draw(picture).text(at, text, fill=230, font=ImageFont.load_default(18))
    return np.asarray(picture)


@pytest.mark.slow
def test_text_that_moves_from_frame_to_frame_is_covered(tmp_path: Path) -> None:
    frames = np.stack([written("QUIMBY ZELDA 00412977", (10, 5)), written("02/03/2021 10:15", (120, 170))]).astype(np.uint16) * 12
    path = made(tmp_path, frames[0], NumberOfFrames=2)
    data = pydicom.dcmread(path)
    data.PixelData = frames.tobytes()
    data.save_as(path)
    done = dicom.deidentify_dicom(path, tmp_path / "new.dcm", WORK)
    new = pydicom.dcmread(tmp_path / "new.dcm").pixel_array
    assert done.counts["burned-in-text", "masked"] >= 2 and (new[frames > 1500] < 600).all(), "no bright stroke of a letter is left"
    assert (new == frames).mean() > 0.7
    assert dicom.check_dicom(path, tmp_path / "new.dcm", WORK) == ()


@pytest.mark.slow
def test_a_picture_is_covered_and_checked(tmp_path: Path) -> None:
    pixels = written("Zelda Quimby 1980", (20, 40))
    Image.fromarray(pixels).save(tmp_path / "p.png")
    done = pictures.deidentify_picture(tmp_path / "p.png", tmp_path / "n.png", WORK)
    assert done.counts["burned-in-text", "masked"] >= 1 and np.asarray(Image.open(tmp_path / "n.png")).max() < 100
    assert pictures.check_picture(tmp_path / "p.png", tmp_path / "n.png", WORK) == ()
    assert pictures.check_picture(tmp_path / "p.png", tmp_path / "p.png", WORK) != ()


def test_frames_of_any_depth_are_shown_in_eight_bits() -> None:
    wide = shown(np.arange(10000, dtype=np.uint16).reshape(100, 100))
    assert wide.shape == (100, 100, 3) and wide.dtype == np.uint8 and (wide.min(), wide.max()) == (0, 255)
    assert shown(np.zeros((4, 4), np.int16)).max() == 0 and shown(np.full((4, 4, 4), 9, np.uint8)).shape == (4, 4, 3)


class Second:
    """Reads the lower half of a picture only when the upper half is dark."""

    def find(self, picture: np.ndarray) -> tuple[Box, ...]:
        halves = ((0, 0, 100, 300), (100, 0, 200, 300))
        return next(((box,) for box in halves if (picture[box[0] : box[2]] > 100).any()), ())


def test_text_that_shows_only_when_other_text_is_covered_is_covered_too(tmp_path: Path) -> None:
    pixels = np.full((200, 300), 200, np.uint8)
    pixels[:, :100] = 40
    Image.fromarray(pixels).save(tmp_path / "p.png")
    work = Work(Key(bytes(32)), "P-1", finder=Second)
    assert pictures.deidentify_picture(tmp_path / "p.png", tmp_path / "n.png", work).counts["burned-in-text", "masked"] == 2
    assert not np.asarray(Image.open(tmp_path / "n.png")).any() and pictures.check_picture(tmp_path / "p.png", tmp_path / "n.png", work) == ()
    path = made(tmp_path, pixels.astype(np.uint16))
    assert dicom.deidentify_dicom(path, tmp_path / "new.dcm", work).counts["burned-in-text", "masked"] == 2
    assert dicom.check_dicom(path, tmp_path / "new.dcm", work) == ()
