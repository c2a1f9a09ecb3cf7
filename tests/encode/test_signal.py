"""The signal network: any rate, any leads, padding; and self-supervision, by a linear probe at few labels on signals made here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from salus.encode.encoder import stack
from salus.encode.signal import LEADS, SignalEncoder, aligned
from salus.modalities import ecg
from salus.record.patient import Signal


def wave(rate: float, leads: tuple[str, ...] = ("I", "II", "V1"), seconds: float = 10.0) -> Signal:
    time_s = np.arange(int(seconds * rate)) / rate
    rows = [np.sin(2 * np.pi * (1.1 + 0.3 * place) * time_s) + 0.3 * np.sin(2 * np.pi * 7 * time_s) for place in range(len(leads))]
    return Signal(np.stack(rows).astype(np.float32), leads, ("mV",) * len(leads), rate)


def samples(signal: Signal) -> np.ndarray:
    return aligned(signal, leads=LEADS, rate_hz=100, seconds=10)


@given(st.sampled_from([125.0, 128.0, 180.0, 250.0, 360.0, 500.0, 599.88, 1000.0]))
@settings(max_examples=8)
def test_any_rate_gives_the_same_samples(rate: float) -> None:
    found, expected = samples(wave(rate)), samples(wave(100.0))
    inner = slice(20, 960)  # the ends depend on what lies beyond them
    assert np.nanmax(np.abs(found[:, inner] - expected[:, inner])) < 0.05


@given(st.permutations(["I", "II", "V1"]), st.integers(1, 3))
@settings(max_examples=15)
def test_order_of_leads_changes_nothing_and_an_absent_one_is_missing(order: list[str], kept: int) -> None:
    signal = wave(100.0)
    rows = [signal.leads.index(lead) for lead in order[:kept]]
    found = samples(replace(signal, samples=signal.samples[rows], leads=tuple(order[:kept]), units=("mV",) * kept))
    whole = samples(signal)
    for place, lead in enumerate(LEADS):
        assert np.array_equal(found[place], whole[place], equal_nan=True) if lead in order[:kept] else np.isnan(found[place]).all()


@given(st.integers(1, 400))
@settings(max_examples=15)
def test_missing_samples_after_the_end_change_nothing(more: int) -> None:
    signal = wave(100.0, seconds=6)
    padded = np.concatenate([signal.samples, np.full((3, more), np.nan, np.float32)], axis=1)
    short, long = samples(signal), samples(replace(signal, samples=padded))
    assert np.array_equal(np.isfinite(short), np.isfinite(long))
    np.testing.assert_allclose(short[:, :580], long[:, :580], atol=1e-4)


def test_a_gain_and_an_offset_change_nothing() -> None:
    signal = wave(250.0)
    np.testing.assert_allclose(samples(replace(signal, samples=signal.samples * 7 + 3)), samples(signal), atol=1e-4)


def two_shapes(count: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return (B, 1, 400) noisy trains of pulses, every second one with a wide pulse, and which; height, rate and phase vary."""
    source = np.random.default_rng(seed)
    label = np.arange(count) % 2
    time_s = np.arange(400) / 100
    rows = []
    for kind in label:
        period, phase = source.uniform(0.6, 1.1), source.uniform(0, 1)
        width = 0.022 if kind == 0 else 0.045
        pulse = np.exp(-0.5 * (((time_s + phase) % period - 0.3) / width) ** 2)
        rows.append(source.uniform(0.5, 2) * pulse + source.normal(0, 0.25, 400))
    data = np.stack(rows)[:, None]
    return torch.from_numpy(((data - data.mean(-1, keepdims=True)) / data.std(-1, keepdims=True)).astype(np.float32)), label


def probed(encoder: SignalEncoder, seeds: range) -> np.ndarray:
    """Return the accuracy of a linear probe on 16 labels, for several draws of them, on 400 others."""
    unseen, truth = two_shapes(400, 99)
    encoder.eval()
    with torch.no_grad():
        tests = encoder({"samples": unseen})[0].mean(1).numpy()
        found = []
        for seed in seeds:
            few, label = two_shapes(16, 1000 + seed)
            probe = LogisticRegression(max_iter=500).fit(encoder({"samples": few})[0].mean(1).numpy(), label)
            found.append(probe.score(tests, truth))
    return np.array(found)


@pytest.mark.slow
def test_self_supervision_helps_where_labels_are_few() -> None:
    """Same seed, same probe, ten draws of 16 labels: the lower end of the 95 % interval of the paired difference is above zero."""
    torch.manual_seed(0)
    encoder = SignalEncoder(width=32, seconds=4, rate_hz=100, leads=("II",))
    before = probed(encoder, range(10))
    pretext = encoder.build_pretext()
    unlabelled, _ = two_shapes(600, 7)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *pretext.parameters()], lr=2e-3)
    encoder.train()
    for step in range(90):
        rows = torch.randperm(600, generator=torch.Generator().manual_seed(step))[:64]
        loss = pretext(encoder, {"samples": unlabelled[rows]})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gain = probed(encoder, range(10)) - before
    draws = np.random.default_rng(0).choice(gain, (2000, len(gain))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert low > 0, f"gain {gain.mean():.3f} [{low:.3f}, {high:.3f}] over {before.mean():.3f}"


def test_the_example_is_the_same_in_millivolts_of_another_rate() -> None:
    encoder = SignalEncoder(width=16).eval()
    prepared = encoder.prepare(ecg.example(), {})
    assert prepared is not None and torch.isfinite(encoder(stack([prepared]))[0]).all()
