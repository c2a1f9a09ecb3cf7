"""Drawings: scales by independent arithmetic, gaps where samples are missing, well-formed and accessible SVG."""

from __future__ import annotations

import base64
import io
import re
from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from salus.generate.draw import Curve, TimeAxis, TimelineMark, TrendPoint, nice_ticks, time_ticks, timeline, trend, xy_plot
from salus.generate.draw_content import STANDARD_LEADS, ecg, image, sound, trace_path, waveforms, windowed
from salus.record.patient import Image, Signal, Sound

SVG = "{http://www.w3.org/2000/svg}"
LEADS = tuple(lead for row in STANDARD_LEADS for lead in row)
AXIS = TimeAxis(0, 48 * 3600)


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") and root.findtext(f"{SVG}desc")
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def twelve_leads(seconds: float = 10.0, rate: float = 500.0) -> np.ndarray:
    time_s = np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(2 * np.pi * time_s) for _ in LEADS]).astype(np.float32)


def test_standard_ecg_has_every_lead_and_a_rhythm_strip() -> None:
    root = parsed(ecg(Signal(twelve_leads(), LEADS, ("mV",) * 12, 500.0), name="ECG") or "")
    assert sorted(texts(root)) == sorted((*LEADS, "II"))
    assert root.get("width") == "265mm"  # 12 mm calibration, 10 s x 25 mm/s, 3 mm margin


def test_ecg_is_drawn_at_25_mm_per_second_and_10_mm_per_millivolt() -> None:
    # One lead, a step from 0 to 1 mV at 1 s: it must lie 25 mm from the start and be 10 mm high.
    samples = np.zeros((1, 1000), dtype=np.float32)
    samples[0, 500:] = 1.0
    drawn = ecg(Signal(samples, ("II",), ("mV",), 500.0), name="ECG") or ""
    trace = max(re.findall(r' d="(M[^"]+)" stroke="#17222e" stroke-width=".28"', drawn), key=len)
    places = [tuple(float(number) for number in pair.split()) for pair in trace[1:].split("L")]
    low, high = max(y for _, y in places), min(y for _, y in places)
    step_x = next(x for x, y in places if y < low - 5)
    assert low - high == pytest.approx(10.0, abs=0.02)
    assert step_x - places[0][0] == pytest.approx(25.0, abs=0.06)


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1000.0), ("V", 0.001)])
def test_ecg_units_give_the_same_drawing(unit: str, factor: float) -> None:
    signal = twelve_leads().astype(np.float64)
    in_mv = ecg(Signal(signal, LEADS, ("mV",) * 12, 500.0), name="ECG")
    assert ecg(Signal(signal * factor, LEADS, (unit,) * 12, 500.0), name="ECG") == in_mv


def test_a_signal_that_is_not_in_volts_is_no_ecg() -> None:
    assert ecg(Signal(twelve_leads(), LEADS, ("mm[Hg]",) * 12, 500.0), name="ECG") is None


def test_fewer_leads_are_stacked_and_the_length_is_said() -> None:
    root = parsed(ecg(Signal(twelve_leads(4.0)[:2], ("I", "II"), ("mV",) * 2, 500.0), name="ECG") or "")
    assert texts(root) == ["I", "II"]
    assert "2 leads, first 4 s" in (root.findtext(f"{SVG}desc") or "")


def test_flat_and_wholly_missing_leads_are_drawn() -> None:
    samples = np.zeros((2, 500), dtype=np.float32)
    samples[1] = np.nan
    for draw in (ecg, waveforms):
        drawn = draw(Signal(samples, ("I", "II"), ("mV", "mV"), 500.0), name="trace") or ""
        parsed(drawn)
        assert "nan" not in drawn.lower().replace("no sample", "")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=60))
def test_missing_samples_break_the_line_and_are_never_drawn(values: list[float | None]) -> None:
    samples = np.array([np.nan if value is None else value for value in values])
    path = trace_path(samples, float, place_y=float)
    present = np.isfinite(samples)
    stretches = int(present[0]) + int((present[1:] & ~present[:-1]).sum())
    assert path.count("M") == stretches
    drawn = {round(float(point.split()[0])) for point in re.split("[ML]", path.replace("h0.01", "")) if point}
    assert drawn == set(np.flatnonzero(present).tolist())


def test_a_long_trace_keeps_its_extremes() -> None:
    samples = np.random.default_rng(0).normal(0, 1, 50_000)
    samples[12_345], samples[40_000] = 9.0, -9.0
    path = trace_path(samples, float, place_y=float)
    heights = [float(point.split()[1]) for point in path[1:].split("L")]
    assert max(heights) == 9.0 and min(heights) == -9.0
    assert len(heights) <= 1500


def test_window_follows_the_dicom_linear_function() -> None:
    # DICOM PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, clipped.
    values = np.linspace(-500, 500, 101)
    expected = np.clip(((values - 39.5) / 399 + 0.5) * 255, 0, 255)
    assert np.abs(windowed(values[None], 40, width=400)[0] - expected).max() <= 0.5


def inner_png(svg: str) -> np.ndarray:
    encoded = re.search(r'href="data:image/png;base64,([^"]+)"', svg)
    assert encoded
    return np.asarray(Picture.open(io.BytesIO(base64.b64decode(encoded[1]))))


def test_image_has_letters_at_the_right_edges_and_a_bar_of_true_length() -> None:
    pixels = np.linspace(-1000, 1000, 100 * 200, dtype=np.float32).reshape(100, 200)
    drawn = image(Image(pixels, "[hnsf'U]", (2.0, 1.0), "L\\P", (40.0, 400.0)), name="CT slice")
    root = parsed(drawn)
    width, height = (float(root.get(side, "").removesuffix("px")) for side in ("width", "height"))
    assert width == pytest.approx(height)  # 200 columns of 1 mm, 100 rows of 2 mm
    places = {element.text: float(element.get("x", 0)) for element in root.iter(f"{SVG}text")}
    assert places["L"] > width / 2 > places["R"]
    assert {"A", "P", "50 mm"} <= set(places)  # at most a quarter of 200 mm
    bar = re.search(r"M14 [\d.]+v-8v4H([\d.]+)v", drawn)
    assert bar and (float(bar[1]) - 14) / width * 200 == pytest.approx(50, abs=0.1)
    assert (inner_png(drawn) == windowed(pixels, 40, width=400)).all()


def test_image_without_spacing_has_no_bar_and_says_so() -> None:
    root = parsed(image(Image(np.ones((8, 8), dtype=np.float32), "1"), name="PNG"))
    assert texts(root) == []
    assert "pixel spacing not stated, so no scale bar, orientation not stated" in (root.findtext(f"{SVG}desc") or "")


def test_colour_and_not_finite_images_are_drawn() -> None:
    parsed(image(Image(np.full((4, 4, 3), 255.0, dtype=np.float32), "1"), name="photo"))
    parsed(image(Image(np.full((4, 4), np.nan, dtype=np.float32), "1"), name="empty"))


def test_spectrogram_is_darkest_at_the_tone() -> None:
    rate, tone_hz = 2000.0, 125.0
    samples = np.sin(2 * np.pi * tone_hz * np.arange(8000) / rate).astype(np.float32)[None]
    drawn = sound(Sound(samples, rate), name="tone")
    parsed(drawn)
    pixels = inner_png(drawn)[..., 0].astype(float).mean(axis=1)[::-1]  # low frequency first
    assert pixels.argmin() / (len(pixels) - 1) * 500 == pytest.approx(tone_hz, abs=5)


@pytest.mark.parametrize("samples", [np.zeros((1, 4000)), np.zeros((1, 5)), np.full((1, 4000), np.nan)])
def test_silent_short_and_missing_sounds_are_drawn(samples: np.ndarray) -> None:
    assert "nan" not in sound(Sound(samples.astype(np.float32), 2000.0), name="sound").lower()


def test_trend_tells_range_by_shape_and_breaks_where_nothing_was_measured() -> None:
    hours = (0, 1, 2, 3, 20, 21)
    points = [TrendPoint(3600.0 * hour, 100.0 + hour, f"at {hour}", f"p{hour}", hour == 3) for hour in hours]
    drawn = trend(points, title="heart rate", unit="/min", axis=AXIS, reference=(60.0, 102.0))
    root = parsed(drawn)
    assert drawn.count("l4 4l-4 4l-4-4Z") == 3  # 103, 120 and 121 lie above 102
    assert drawn.count('r="7"') == 1
    assert {f"p{hour}" for hour in hours} == {group.get("id") for group in root.iter(f"{SVG}g") if group.get("id")}
    line = re.search(r'd="(M[^"]+)" stroke="#1d5c96" stroke-width="1.2"', drawn)
    assert line and line[1].count("M") == 2
    assert "last 121 /min" in texts(root)
    assert "6 measurements, 3 outside the reference range" in (root.findtext(f"{SVG}desc") or "")


def test_trend_of_one_value_is_drawn() -> None:
    parsed(trend([TrendPoint(0, 0.0, "zero")], title="lactate", unit=None, axis=TimeAxis(0, 0), reference=None))


def test_timeline_counts_what_came_before_and_draws_what_lasts() -> None:
    marks = [
        TimelineMark(-9e6, -8e6, "bronchitis, ended", "m1"),
        TimelineMark(-9e6, None, "hypertension", "m2", is_open=True),
        TimelineMark(6 * 3600, None, "moment", "m3", is_cited=True),
    ]
    drawn = timeline([("conditions", marks)], axis=AXIS, cut_s=24 * 3600.0)
    root = parsed(drawn)
    assert "◂ 1 earlier" in texts(root) and "nothing later was used" in texts(root)
    assert 'id="m1"' not in drawn and 'id="m2"' in drawn and 'id="m3"' in drawn


def test_calendar_axis_is_labelled_by_year() -> None:
    labels, name = time_ticks(TimeAxis(0, 20 * 31_557_600.0, origin=datetime(2000, 1, 1, tzinfo=UTC)))
    assert (labels[0][1], labels[-1][1], name) == ("2000", "2020", "date")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert len(ticks) <= 6
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


def test_curves_are_told_apart_without_colour() -> None:
    curves = [Curve("model", [(0, 0), (1, 1)]), Curve("rival", [(0, 0), (0.5, 1)])]
    drawn = xy_plot(curves, title="ROC", labels=("fpr", "tpr"), diagonal="chance")
    root = parsed(drawn)
    assert {"model", "rival", "fpr", "tpr"} <= set(texts(root))
    assert "stroke-dasharray" in drawn
    assert "broken diagonal is chance" in (root.findtext(f"{SVG}desc") or "")


def test_words_are_escaped() -> None:
    nasty = '<script>alert("x")</script>'
    for drawn in (
        trend([TrendPoint(0, 1.0, nasty, 'a"b')], title=nasty, unit=None, axis=AXIS, reference=None),
        timeline([(nasty, [TimelineMark(0, None, nasty)])], axis=AXIS),
        xy_plot([Curve(nasty, [(0, 0)])], title=nasty, labels=(nasty, nasty)),
        image(Image(np.ones((2, 2), dtype=np.float32), "1"), name=nasty),
    ):
        assert "<script" not in drawn
        parsed(drawn)


def test_an_electrode_offset_does_not_push_a_lead_off_the_paper() -> None:
    signal = twelve_leads()
    shifted = ecg(Signal(signal + np.float32(8.0), LEADS, ("mV",) * 12, 500.0), name="ECG") or ""
    root = parsed(shifted)
    height = float(root.get("height", "").removesuffix("mm"))
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ (-?[\d.]+)", shifted)]
    assert min(heights) >= 0 and max(heights) <= height
