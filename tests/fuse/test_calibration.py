"""Scores become logits that mean what they say."""

from __future__ import annotations

import pytest
import torch

from salus.fuse.calibration import calibrated


def test_calibration_mends_scores_that_are_too_sure() -> None:
    source = torch.Generator().manual_seed(0)
    truth = torch.rand(4000, generator=source)
    answers = (torch.rand(4000, generator=source) < truth).long()
    logits = torch.stack([torch.zeros(4000), 3 * torch.logit(truth.clamp(0.01, 0.99)) + 1.5], -1)
    slope, bias = calibrated(logits, answers)
    assert float(slope) == pytest.approx(1 / 3, abs=0.05)
    assert float(bias[1] - bias[0]) == pytest.approx(-0.5, abs=0.15), "1.5 too much, at a third of the slope"


def test_calibration_aims_at_shares_as_at_answers() -> None:
    source = torch.Generator().manual_seed(1)
    scores, answers = torch.randn(50, 3, generator=source), torch.randint(0, 3, (50,), generator=source)
    told, shared = calibrated(scores, answers), calibrated(scores, torch.nn.functional.one_hot(answers, 3).float())
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(told, shared, strict=True))
