"""ECG facts: against expert beats (MIT-BIH), a recorder's own intervals (DICOM), and signals made with known waves and noise."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import wfdb as library

from salus.encode.modality import Measurement
from salus.modalities import ecg
from salus.record.patient import Item, Signal
from salus.record.read.dicom import READER as DICOM
from salus.record.read.reader import ReadOptions
from salus.record.read.wfdb import READER as WFDB

RATE = 500.0
BEATS = set("NLRBAaJSVrFejnE/fQ?")
LEADS = ("I", "II", "V4", "V5", "V6")


def beat_train(seconds: float = 20.0, rr_s: float = 0.8, noise: float = 0.005, seed: int = 0, t_at_s: float = 0.28) -> np.ndarray:
    """Return P (−160 ms), QRS and T (+280 ms) as Gaussians, mV; the T wave ends (2 sigma) 380 ms after R."""
    time_s = np.arange(int(seconds * RATE)) / RATE
    phase = time_s % rr_s - 0.3

    def bump(at: float, width: float, height: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((phase - at) / width) ** 2)

    qrs = bump(-0.028, 0.010, -0.12) + bump(0, 0.011, 1.0) + bump(0.030, 0.010, -0.25)
    waves = bump(-0.16, 0.022, 0.12) + qrs + bump(t_at_s, 0.045, 0.3)
    return waves + np.random.default_rng(seed).normal(0, noise, len(time_s))


def several(gain: Sequence[float] = (0.7, 1.0, 1.2, 1.1, 0.9)) -> Signal:
    rows = np.stack([factor * beat_train(seed=place) for place, factor in enumerate(gain)]).astype(np.float32)
    return Signal(rows, LEADS, ("mV",) * len(LEADS), RATE)


def measured(signal: Signal) -> Sequence[Measurement]:
    example = ecg.example()[0]
    assert example.content is not None
    return ecg.measure(replace(example, content=replace(example.content, load=lambda: signal)))


def named(found: Sequence[Measurement]) -> dict[str, Measurement]:
    return {part.name: part for part in found}


def test_intervals_of_made_beats() -> None:
    """P begins 60 ms before its peak (about 2.5 sigma), QRS 50 ms before R and ends 50 ms after, T ends near 380 ms: within 35 ms."""
    found = named(measured(several()))
    assert found["PR interval"].value == pytest.approx(165, abs=35)
    assert found["QRS duration"].value == pytest.approx(100, abs=35)
    qt = found["QT interval"].value
    assert qt == pytest.approx(430, abs=35)
    assert found["QTc after Bazett"].value == pytest.approx(qt / np.sqrt(0.8), rel=1e-3)
    assert found["QTc after Fridericia"].value == pytest.approx(qt / 0.8 ** (1 / 3), rel=1e-3)
    assert "neurokit2" in found["QT interval"].rule and "no caliper" in found["QT interval"].rule
    assert (found["mean RR interval"].value, found["standard deviation of RR intervals"].value) == pytest.approx((800, 0), abs=2)
    assert found["R amplitude of lead V4"].value == pytest.approx(1.2, abs=0.05)


def test_leads_that_do_not_agree_give_no_interval() -> None:
    signal = several()
    # another place of the T wave in every lead: nobody knows which is right
    rows = np.stack([beat_train(t_at_s=0.2 + 0.05 * place, seed=place) for place in range(5)]).astype(np.float32)
    found = named(measured(replace(signal, samples=rows)))
    assert "QT interval" not in found and "QTc after Bazett" not in found


def test_too_few_good_leads_say_so() -> None:
    signal = several()
    found = named(measured(replace(signal, samples=signal.samples[:2], leads=LEADS[:2], units=("mV",) * 2)))
    assert found["leads fit for PR, QRS and QT"].value == 2
    assert "PR, QRS and QT are not given: 2 leads of I, II" in found["leads fit for PR, QRS and QT"].rule


def test_without_the_library_the_reason_is_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "neurokit2":
            raise ImportError
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    found = named(measured(several()))
    assert "pip install 'salus[signals]'" in found["leads fit for PR, QRS and QT"].rule and "QT interval" not in found
    assert found["heart rate from R peaks"].value == pytest.approx(75, abs=0.5)


@pytest.mark.parametrize("spoilt", ["hum", "wander", "rail", "missing", "flat", "noise"])
def test_each_fault_lowers_the_quality(spoilt: str) -> None:
    clean = beat_train()
    time_s = np.arange(len(clean)) / RATE
    bad = clean.copy()
    if spoilt == "hum":
        bad += 0.4 * np.sin(2 * np.pi * 50 * time_s)
    elif spoilt == "wander":
        bad += 2.0 * np.sin(2 * np.pi * 0.2 * time_s)
    elif spoilt == "rail":
        bad = np.where(time_s < 10, np.maximum(clean, 0.3) * 0 + 1.2, clean)
    elif spoilt == "missing":
        bad[: len(bad) // 2] = np.nan
    elif spoilt == "flat":
        bad[: len(bad) // 2] = 0.1
    else:
        bad = np.random.default_rng(0).normal(0, 1, len(clean))
    good, poor = (ecg.quality_of(row.astype(np.float32), RATE).index for row in (clean, bad))
    assert good == 1.0 and poor <= 0.75


def test_the_best_lead_is_taken_for_the_rhythm() -> None:
    signal = several()
    rows = signal.samples.copy()
    rows[1] = np.random.default_rng(0).normal(0, 1, rows.shape[1])  # lead II is noise
    found = measured(replace(signal, samples=rows))
    assert "lead I after" in found[0].rule and found[0].value == pytest.approx(75, abs=0.5)


@pytest.mark.data
def test_every_beat_of_record_100(salus_data: Path) -> None:
    """Whole record, tolerance 150 ms (ANSI/AAMI EC57): sensitivity and positive predictive value against the 2,273 annotated beats."""
    path = salus_data / "ecg_wfdb_samples" / "100.hea"
    signal = signal_of(WFDB.read(path, ReadOptions()).found[0].items[0])
    marks = library.rdann(str(path.with_suffix("")), "atr")
    beats = np.array([at for at, symbol in zip(marks.sample, marks.symbol, strict=True) if symbol in BEATS])
    peaks = ecg.r_peaks(signal.samples[0], 360.0)
    near = 0.150 * 360
    found = [np.abs(peaks - beat).min() <= near for beat in beats]
    right = [np.abs(beats - peak).min() <= near for peak in peaks]
    assert len(beats) == 2273 and np.mean(found) >= 0.999 and np.mean(right) >= 0.999


@pytest.mark.data
def test_intervals_beside_the_recorders_own(salus_data: Path) -> None:
    """The DICOM file states what the electrocardiograph measured: RR 982, PR 161, QRS 75, QT 368 ms."""
    (path,) = (salus_data / "dicom_samples").rglob("waveform_ecg.dcm")
    own = {
        part.ConceptNameCodeSequence[0].CodeMeaning: float(part.NumericValue)
        for part in pydicom.dcmread(path).WaveformAnnotationSequence
        if "NumericValue" in part
    }
    found = named(ecg.measure(DICOM.read(path, ReadOptions()).found[0].items[0]))
    assert found["mean RR interval"].value == pytest.approx(own["RR Interval"], abs=2)
    assert found["PR interval"].value == pytest.approx(own["PR Interval"], abs=35)
    assert found["QRS duration"].value == pytest.approx(own["QRS Duration"], abs=35)
    assert found["QT interval"].value == pytest.approx(own["QT Interval"], abs=35)


@pytest.mark.data
def test_an_infarction_whose_leads_disagree_gets_no_interval(salus_data: Path) -> None:
    found = named(ecg.measure(WFDB.read(salus_data / "ecg_wfdb_samples/s0010_re.hea", ReadOptions()).found[0].items[0]))
    assert "QT interval" not in found and "leads fit for PR, QRS and QT" in found


def signal_of(item: Item) -> Signal:
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Signal)
    return loaded
