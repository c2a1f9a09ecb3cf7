"""Contact sheets: which frames, their times, missing ones named, and the size of what goes into a page."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Picture

from salus.generate.draw_clip import clip_words, contact_sheet
from salus.record.patient import Clip


def clip(frames: int = 50, *, rate_hz: float = 25.0, side: int = 300) -> Clip:
    noise = np.random.default_rng(0).integers(0, 256, (frames, side, side), dtype=np.uint8)
    return Clip(noise, np.arange(frames) / rate_hz, np.ones(frames, np.bool_))


def labels(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def sheet_of(svg: str) -> Picture.Image:
    encoded = re.search(r"data:image/jpeg;base64,([^\"]+)", svg)
    assert encoded is not None
    return Picture.open(io.BytesIO(base64.b64decode(encoded[1])))


def test_twelve_frames_from_first_to_last_with_their_times() -> None:
    said = labels(contact_sheet(clip(), name="ultrasound"))
    assert len(said) == 12 and said[0] == "frame 1, 0.00 s" and said[-1] == "frame 50, 1.96 s"
    assert clip_words(clip()) == "12 of 50 frames, reduced, lossy; 25 frames a second"


def test_missing_frames_are_named_not_drawn() -> None:
    content = clip(4)
    content.is_present[2] = False
    svg = contact_sheet(content, name="ultrasound")
    assert labels(svg).count("missing frame") == 1
    assert "1 of 4 frames are missing" in svg


def test_frames_keep_their_values_and_places() -> None:
    content = clip(6)
    for index in range(6):
        content.frames[index] = 40 * index
    pixels = np.asarray(sheet_of(contact_sheet(content, name="ramp")).convert("L"), float)
    assert pixels.shape == (484, 904)  # two rows of four frames of 220, 22 below each, 8 between
    corners = [(242 * (k // 4), 228 * (k % 4)) for k in range(6)]
    means = [pixels[top + 10 : top + 210, left + 10 : left + 210].mean() for top, left in corners]
    assert means == pytest.approx([0, 40, 80, 120, 160, 200], abs=2)


def test_a_sheet_stays_small_even_of_noise() -> None:
    assert len(contact_sheet(clip(), name="noise")) < 500_000


def test_without_times_and_with_other_ranges() -> None:
    content = Clip(np.full((2, 8, 8), 1000.0, np.float32), np.full(2, np.nan), np.ones(2, np.bool_), (0.0, 2000.0))
    assert labels(contact_sheet(content, name="a")) == ["frame 1", "frame 2"]
    assert "times of the frames not stated" in clip_words(content)
    assert np.asarray(sheet_of(contact_sheet(content, name="a")), float)[10:200, 10:200].mean() == pytest.approx(128, abs=2)
