"""Measurements of sounds and clips by rule: expected numbers come from closed formulas, or from how the test made the content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from salus.encode.clip_quality import clip_quality
from salus.encode.modality import Measurement
from salus.encode.sound_quality import band_end, quality, tone_burst
from salus.modalities import cough, lung_sound, lung_ultrasound, speech, ultrasound_clip
from salus.record.patient import Clip, Item, Loaded, Sound
from salus.record.read.folder import read_path
from salus.record.read.sound import load_sound


def holding(loaded: Loaded, example: Item) -> Item:
    assert example.content is not None
    return replace(example, content=replace(example.content, load=lambda: loaded))


def value(found: Sequence[Measurement], name: str) -> float:
    return next(part.value for part in found if part.name == name)


def test_quality_of_a_made_sound() -> None:
    rate = 8000.0
    time_s = np.arange(32_000) / rate
    samples = (0.25 * np.sin(2 * np.pi * 500 * time_s) + 0.1).astype(np.float32)
    samples[16_000:24_000] = 0.1  # one of four seconds is silent, but for the offset
    samples[:320] = 1.0
    found = quality(Sound(np.stack([samples, samples]), rate))
    assert value(found, "duration of the recording") == 4.0 and value(found, "number of channels") == 2.0
    assert value(found, "share of clipped samples") == pytest.approx(1.0)
    assert value(found, "share of silence") == pytest.approx(25.0, abs=2.0)
    assert value(found, "constant offset of the sound") == pytest.approx(10.9, abs=0.01)  # 0.99 x 0.1 + 0.01 x 1, in %
    pure = Sound(0.5 * np.sin(2 * np.pi * 500 * time_s)[None].astype(np.float32), rate)
    assert value(quality(pure), "loudness of the recording") == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert value(quality(pure), "upper end of the band") == pytest.approx(500, abs=rate / 512)


def test_level_of_a_sound_above_its_noise() -> None:
    rate, source = 8000.0, np.random.default_rng(0)
    noise = source.normal(0, 0.001, 80_000)
    noise[20_000:40_000] *= 100  # 40 dB louder, for a quarter of the time
    assert value(quality(Sound(noise[None].astype(np.float32), rate)), "loud parts above the quiet ones") == pytest.approx(40, abs=1)


def test_band_of_white_noise_is_all_of_it() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    assert band_end(noise, 8000.0) == pytest.approx(0.99 * 4000, abs=30)


def test_silence_and_shortness_are_measured_without_failing() -> None:
    silent = Sound(np.zeros((1, 8000), np.float32), 8000.0)
    assert value(quality(silent), "share of silence") == 100.0
    for modality in (cough, lung_sound, speech):
        for size in (0, 1, 5):
            modality.measure(holding(Sound(np.zeros((1, size), np.float32), 8000.0), modality.example()[0]))


@pytest.mark.parametrize("starts", [(), (1.0,), (0.4, 0.9, 1.4, 2.2)])
def test_bursts_are_counted(starts: tuple[float, ...]) -> None:
    found = cough.measure(holding(tone_burst(16_000.0, starts, length_s=0.3, total_s=3.0), cough.example()[0]))
    assert value(found, "bursts of sound") == len(starts)


def test_median_frequency_halves_the_power() -> None:
    time_s = np.arange(40_000) / 4000
    low, high = np.sin(2 * np.pi * 200 * time_s), 0.5 * np.sin(2 * np.pi * 800 * time_s)
    for tones, expected in ((low + high, 200), (0.2 * low + high, 800)):
        found = lung_sound.measure(holding(Sound(0.5 * tones[None].astype(np.float32), 4000.0), lung_sound.example()[0]))
        assert value(found, "median frequency of the lung sound") == pytest.approx(expected, abs=8)


@pytest.mark.parametrize("modality", [lung_ultrasound, ultrasound_clip])
def test_clip_is_measured(modality: object) -> None:
    frames = np.zeros((10, 4, 4, 3), np.uint8)
    frames[5:] = 255
    clip = Clip(frames, np.arange(10) / 20, np.arange(10) != 7)
    found = modality.MODALITY.measure(holding(clip, modality.example()[0]))  # type: ignore[attr-defined]
    assert value(found, "duration of the clip") == pytest.approx(0.5) and value(found, "frame rate of the clip") == pytest.approx(20)
    assert value(found, "share of frames that are missing") == 10.0
    assert value(found, "mean brightness of the clip") == pytest.approx(100 * 4 / 9)
    assert value(found, "motion between frames") == pytest.approx(100 / 7)  # one of the seven pairs that are both there


def test_clip_without_times_has_no_rate() -> None:
    names = [one.name for one in clip_quality(Clip(np.zeros((3, 2, 2), np.uint8), np.full(3, np.nan), np.ones(3, np.bool_)))]
    assert "frame rate of the clip" not in names and "motion between frames" in names


@pytest.mark.data
def test_real_coughs_are_measured(salus_data: Path) -> None:
    paths = sorted((salus_data / "cough_covid19/raw").glob("*.mp3"))[::15]
    found = [cough.measure(holding(load_sound(path), cough.example()[0])) for path in paths]
    counts = [value(parts, "bursts of sound") for parts in found]
    assert np.mean(np.array(counts) >= 1) > 0.7 and max(counts) <= 40
    assert all(value(parts, "upper end of the band") <= 24_000 for parts in found)


@pytest.mark.data
def test_coughs_take_their_modality_from_a_manifest(salus_data: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").symlink_to(salus_data / "cough_covid19/raw")
    manifest = tmp_path / "salus-cohort.yaml"
    manifest.write_text('{licence: CC0-1.0, files: {"raw/*.mp3": {modality: cough, subject_pattern: "raw/(.+)[.]mp3"}}}')
    report = read_path(tmp_path)
    assert len(report.patients) == 153 and {item.modality for record in report.patients for item in record.items} == {"cough"}
    labels = {row["filename"]: row for row in json.loads((salus_data / "cough_covid19/metadata.json").read_text("utf-8"))}
    assert {Path(item.source.path).name for record in report.patients for item in record.items} == set(labels)
