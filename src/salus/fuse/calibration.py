"""Turns scores of options into logits that mean what they say, on patients who had no part in the fit before.

Takes scores and right answers; gives a slope and a bias of each option.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

STEPS = 100
PENALTY = 1e-3


def calibrated(scores: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Return a slope () and a bias (O,) for scores (n, O), fitted on patients who had no part in the fit before.

    For two options this is Platt scaling. Source: Guo et al. 2017 (arXiv 1706.04599, section 4.2, with one slope).

    Args:
        scores: (n, O).
        answers: (n,) index of the right option, or (n, O) shares of the options.
    """
    log_slope, bias = torch.zeros((), requires_grad=True), torch.zeros(scores.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([log_slope, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = functional.cross_entropy(scores * log_slope.exp() + bias, answers)
        whole = found + PENALTY * (log_slope.pow(2) + bias.pow(2).sum())
        whole.backward()  # type: ignore[no-untyped-call]
        return whole

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return log_slope.detach().exp(), bias.detach()
