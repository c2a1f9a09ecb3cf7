"""Limb leads: made from two vectors by Einthoven's and Goldberger's formulas, then swapped as electrodes swap them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.record.patient import Signal
from salus.record.read.leads import FLAT_S, flat_mask
from salus.record.read.limb_leads import limb_remarks
from salus.record.read.reader import ReadOptions
from salus.record.read.wfdb import READER

NAMES = ("I", "II", "III", "aVR", "aVL", "aVF")


def six(i: np.ndarray, ii: np.ndarray) -> np.ndarray:
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2])


def beats(height: float, delay_s: float = 0.0) -> np.ndarray:
    phase = np.arange(5000) / 500 % 0.9 - delay_s
    return height * (np.exp(-(((phase - 0.3) / 0.012) ** 2)) + 0.2 * np.exp(-(((phase - 0.55) / 0.05) ** 2)))


def signal(rows: np.ndarray, leads: tuple[str, ...] = NAMES) -> Signal:
    return Signal(rows.astype(np.float32), leads, ("mV",) * len(leads), 500.0)


RIGHT = six(beats(0.6), beats(1.0, 0.004))


def test_leads_that_fit_are_not_remarked() -> None:
    assert limb_remarks(signal(RIGHT + np.random.default_rng(0).normal(0, 0.005, RIGHT.shape))) == ()
    assert limb_remarks(signal(RIGHT[:2], NAMES[:2])) == ()


@pytest.mark.parametrize(("lead", "words"), [(3, "aVR = −(I + II) / 2"), (4, "aVL = (I − III) / 2"), (5, "aVF = (II + III) / 2")])
def test_a_lead_upside_down_is_named(lead: int, words: str) -> None:
    rows = RIGHT.copy()
    rows[lead] *= -1
    assert limb_remarks(signal(rows)) == (f"lead {NAMES[lead]} is upside down: turned over, it fits {words}",)


@given(st.permutations(range(6)))
def test_two_swapped_labels_never_pass(order: list[int]) -> None:
    remarks = limb_remarks(signal(RIGHT[list(order)]))
    assert (remarks == ()) == (order == list(range(6)))


def test_swapped_arm_electrodes_are_suspected_from_v6() -> None:
    """RA and LA swapped: I turns over, II and III change places; V6 stays. Sums still hold, so only V6 tells."""
    i, ii = RIGHT[0], RIGHT[1]
    swapped = np.concatenate([six(-i, ii - i), i[None]])
    (remark,) = limb_remarks(signal(swapped, (*NAMES, "V6")))
    assert remark.startswith("lead I runs against V6 (correlation -0.99") or remark.startswith("lead I runs against V6 (correlation -1.00")
    assert limb_remarks(signal(np.concatenate([RIGHT, i[None]]), (*NAMES, "V6"))) == ()


def test_right_leg_on_right_arm_flattens_lead_two() -> None:
    noise = np.random.default_rng(0).normal(0, 0.002, 5000)
    rows = six(-beats(1.0), noise)
    assert limb_remarks(signal(rows)) == ("lead II is nearly flat beside I and III: suspect right-arm and right-leg electrodes swapped",)


def test_missing_samples_are_left_out() -> None:
    rows = RIGHT.copy()
    rows[2, 1000:] = np.nan
    assert limb_remarks(signal(rows)) == ()
    rows[:, 20:] = np.nan
    assert limb_remarks(signal(rows)) == ()


@pytest.mark.data
def test_the_real_twelve_leads_fit(salus_data: Path) -> None:
    item = READER.read(salus_data / "ecg_wfdb_samples/s0010_re.hea", ReadOptions()).found[0].items[0]
    assert not any("upside down" in remark or "limb leads" in remark for remark in item.remarks)


RUNS = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([0.0, 1.0, float("nan")])), min_size=1, max_size=12)


@given(RUNS, st.sampled_from([1.0, 2.0, 3.0]))
def test_flat_stretches_are_those_of_a_plain_search(runs: list[tuple[int, float]], rate: float) -> None:
    row = np.array([value for length, value in runs for _ in range(length)], np.float32)
    wanted = np.zeros(len(row), np.bool_)
    for start in range(len(row)):
        for end in range(start + 1, len(row) + 1):
            if end - start >= FLAT_S * rate and (row[start:end] == row[start]).all():
                wanted[start:end] = True
    assert (flat_mask(row, rate) == wanted).all()
