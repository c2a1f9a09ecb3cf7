"""Measurements by rule: expected numbers come from expert annotations, closed formulas, or signals made with a known rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb as library
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.encode.modality import Measurement
from salus.modalities import ct_mr_slice, ecg, heart_sound, radiograph
from salus.record.patient import Image, Item, Loaded, Signal, Sound
from salus.record.read.reader import ReadOptions
from salus.record.read.sound import load_sound
from salus.record.read.wfdb import READER

BEATS = set("NLRBAaJSVrFejnE/fQ?")
"""Beat symbols of PhysioNet's annotation codes; others mark rhythm or noise."""


def holding(loaded: Loaded, example: Item) -> Item:
    assert example.content is not None
    return replace(example, content=replace(example.content, load=lambda: loaded))


def value(found: Sequence[Measurement], name: str) -> float:
    return next(part.value for part in found if part.name == name)


def pulses(rate_per_min: float, seconds: float = 20.0, hz: float = 250.0, gap: tuple[int, int] | None = None) -> Signal:
    time_s = np.arange(int(seconds * hz)) / hz
    lead = np.exp(-0.5 * ((time_s % (60 / rate_per_min) - 0.2) / 0.012) ** 2).astype(np.float32)
    if gap:
        lead[gap[0] : gap[1]] = np.nan
    return Signal(lead[None], ("II",), ("mV",), hz)


@settings(max_examples=25, deadline=None)
@given(st.floats(min_value=35, max_value=180))
def test_heart_rate_of_a_regular_ecg(rate: float) -> None:
    found = ecg.measure(holding(pulses(rate), ecg.example()[0]))
    assert value(found, "heart rate from R peaks") == pytest.approx(rate, abs=1.0)
    assert value(found, "RR irregularity") < 2.0


def test_gap_does_not_count_as_an_interval() -> None:
    found = ecg.measure(holding(pulses(60, gap=(1000, 2500)), ecg.example()[0]))
    assert value(found, "heart rate from R peaks") == pytest.approx(60, abs=1.0)
    assert value(found, "share of the ECG that is missing or flat") == pytest.approx(30.0)


def test_flat_lead_gives_no_rate_and_says_so() -> None:
    flat = Signal(np.zeros((1, 5000), dtype=np.float32), ("II",), ("mV",), 250.0)
    found = ecg.measure(holding(flat, ecg.example()[0]))
    assert value(found, "share of the ECG that is missing or flat") == 100.0
    assert all("rate" not in part.name for part in found)


def test_flat_lead_ii_gives_way_to_another_lead() -> None:
    beats = pulses(80).samples
    both = Signal(np.concatenate([np.zeros_like(beats), beats]), ("II", "V5"), ("mV", "mV"), 250.0)
    found = ecg.measure(holding(both, ecg.example()[0]))
    assert value(found, "heart rate from R peaks") == pytest.approx(80, abs=1.0)
    assert "lead V5" in found[0].rule and "Pan & Tompkins" in found[0].rule


def test_median_beat_gives_no_rate() -> None:
    found = ecg.measure(holding(pulses(60, seconds=1.2), ecg.example()[0]))
    assert all("rate" not in part.name for part in found)
    assert value(found, "peak-to-peak range of lead II") == pytest.approx(1.0, abs=0.01)


@pytest.mark.data
def test_r_peaks_against_the_reference_beats_of_record_100(salus_data: Path) -> None:
    path = salus_data / "ecg_wfdb_samples" / "100.hea"
    item = READER.read(path, ReadOptions()).found[0].items[0]
    assert item.content is not None
    signal = item.content.load()
    assert isinstance(signal, Signal)
    marks = library.rdann(str(path.with_suffix("")), "atr")
    beats = np.array([at for at, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol in BEATS])
    minutes = 300 * 360
    peaks = ecg.r_peaks(signal.samples[0, :minutes], 360.0)
    early = beats[beats < minutes]
    near = 0.150 * 360  # the tolerance of ANSI/AAMI EC57
    assert np.mean([np.abs(peaks - beat).min() <= near for beat in early]) > 0.99
    assert np.mean([np.abs(early - peak).min() <= near for peak in peaks]) > 0.99
    rate = 60 * 360 * (len(beats) - 1) / (beats[-1] - beats[0])
    assert value(ecg.measure(item), "heart rate from R peaks") == pytest.approx(rate, abs=2.0)


def test_hounsfield_bands_of_a_known_slice() -> None:
    pixels = np.array([[-3024, -1000, -950, -100], [40, 60, 500, 1000]], dtype=np.float32)
    found = ct_mr_slice.measure(holding(Image(pixels, "[hnsf'U]"), ct_mr_slice.example()[0]))
    kept = pixels[pixels >= -1024]
    assert value(found, "mean CT number of the slice") == pytest.approx(float(kept.mean()))
    assert value(found, "lowest CT number of the slice") == -1000
    shares = {part.name: part.value for part in found if part.name.startswith("share")}
    assert shares == pytest.approx(
        {
            "share of pixels in the air band": 200 / 7,
            "share of pixels in the fat band": 100 / 7,
            "share of pixels in the soft tissue and fluid band": 200 / 7,
            "share of pixels in the bone or dense band": 200 / 7,
        }
    )
    assert {part.unit for part in found} == {"[hnsf'U]", "%"} and all("padding" in part.rule for part in found)


def test_mr_has_intensity_only() -> None:
    found = ct_mr_slice.measure(holding(Image(np.ones((2, 2), dtype=np.float32), "1"), ct_mr_slice.example()[0]))
    assert [part.name for part in found] == [
        "mean intensity of the slice",
        "lowest intensity of the slice",
        "highest intensity of the slice",
    ]


def test_radiograph_has_intensity_only() -> None:
    found = radiograph.measure(holding(Image(np.array([[0, 100]], dtype=np.float32), "1"), radiograph.example()[0]))
    assert [part.value for part in found] == [50.0, 0.0, 100.0]


@settings(max_examples=15, deadline=None)
@given(st.floats(min_value=50, max_value=150))
def test_heart_rate_of_two_tones(rate: float) -> None:
    time_s = np.arange(16_000) / 2000
    phase_s = time_s % (60 / rate)
    loud = np.exp(-0.5 * ((phase_s - 0.05) / 0.015) ** 2) + 0.6 * np.exp(
        -0.5 * ((phase_s - 0.05 - 0.35 * 60 / rate) / 0.012) ** 2
    )
    noise = np.random.default_rng(0).normal(0, 0.01, len(time_s))
    sound = Sound((0.5 * loud * np.sin(2 * np.pi * 60 * time_s) + noise)[None].astype(np.float32), 2000.0)
    found = heart_sound.measure(holding(sound, heart_sound.example()[0]))
    # the lag is known to 10 ms, half a step on either side
    assert value(found, "estimated heart rate from the sound") == pytest.approx(rate, abs=rate**2 / 60 * 0.01)


def test_noise_has_no_heart_rate() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 20_000)).astype(np.float32)
    found = heart_sound.measure(holding(Sound(noise, 2000.0), heart_sound.example()[0]))
    assert value(found, "periodicity of the sound") < heart_sound.LEAST_PERIODICITY
    assert all("heart rate" not in part.name for part in found)


def test_clipping_and_duration() -> None:
    samples = np.zeros((1, 4000), dtype=np.float32)
    samples[0, :1000] = 1.0
    found = heart_sound.measure(holding(Sound(samples, 2000.0), heart_sound.example()[0]))
    assert (value(found, "duration of the recording"), value(found, "share of clipped samples")) == (2.0, 25.0)


@pytest.mark.data
def test_most_real_heart_sounds_have_a_plausible_rate(salus_data: Path) -> None:
    files = sorted((salus_data / "heart_sounds_cinc2016/wav").glob("*.wav"))[::10]
    found = [heart_sound.measure(holding(load_sound(path), heart_sound.example()[0])) for path in files]
    rates = [part.value for parts in found for part in parts if part.name.startswith("estimated heart rate")]
    assert len(rates) >= len(files) // 3 and all(40 <= rate <= 200 for rate in rates)
