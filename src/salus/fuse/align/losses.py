"""Losses that pull pairs of two modalities together: CLIP's and SigLIP's, with several positives, masked pairs and hard negatives.

Takes unit vectors of B patients in two modalities, (B, D) each, and which pairs belong together; gives one number. Text is a modality like
the others. Pairs that are neither positive nor negative (two items of one patient) are left out of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

LossName = Literal["clip", "siglip"]
MOST_SCALE = 100.0
"""Largest factor on the cosine (CLIP, section 2.5)."""


@dataclass(frozen=True)
class Pairs:
    """Which pairs of a batch belong together."""

    positive: Tensor
    """(B, B) float, 1 for a pair that was seen together, between 0 and 1 for one that knowledge says belongs, 0 for the others."""
    ignored: Tensor
    """(B, B) bool, pairs that count neither way; never a positive one."""


def paired(count: int) -> Pairs:
    """Return the pairs of a batch in which row i belongs to column i alone.

    Example:
        >>> paired(2).positive.tolist(), paired(2).ignored.any().item()
        ([[1.0, 0.0], [0.0, 1.0]], False)
    """
    return Pairs(torch.eye(count), torch.zeros(count, count, dtype=torch.bool))


def hard_weights(scores: Tensor, is_negative: Tensor, hardness: float) -> Tensor:
    """Return (B, B) weights of the negatives, mean 1 in each row, higher for those that look like positives.

    w_ij = exp(hardness · s_ij) / mean over the row's negatives; 1 for what is not negative. No gradient passes through them.

    Args:
        scores: (B, B) cosines.
        is_negative: (B, B) bool.
        hardness: 0 weighs all alike.

    Source: Robinson et al. 2021, arXiv 2010.04592, equation 4 with the importance weights of section 4 (β is `hardness`; τ⁺ = 0, since
    known false negatives are masked).
    """
    if hardness <= 0:
        return torch.ones_like(scores)
    raw = (hardness * scores.detach()).masked_fill(~is_negative, -torch.inf)
    count = is_negative.sum(1, keepdim=True)
    weights = functional.softmax(raw, 1).nan_to_num(0.0) * count
    return torch.where(is_negative, weights, 1.0)


def clip_loss(scores: Tensor, scale: Tensor, pairs: Pairs, *, hardness: float = 0.0) -> Tensor:
    """Return the symmetric cross-entropy of finding the positives among all that is not ignored.

    With one positive a row this is InfoNCE; with several, the target is their weights over their sum. A row without a positive is left out.

    Args:
        scores: (B, B) cosines, first modality down, second across.
        scale: () factor on the cosines, 1 / temperature.
        pairs: which belong together.
        hardness: see `hard_weights`.

    Source: Radford et al. 2021 (CLIP), arXiv 2103.00020, figure 3; van den Oord et al. 2018, arXiv 1807.03748, equation 4; several
    positives as in Khosla et al. 2020, arXiv 2004.11362, equation 2.
    """
    down = _one_way(scores, scale, pairs, hardness)
    across = _one_way(scores.T, scale, Pairs(pairs.positive.T, pairs.ignored.T), hardness)
    return (down + across) / 2


def _one_way(scores: Tensor, scale: Tensor, pairs: Pairs, hardness: float) -> Tensor:
    is_negative = (pairs.positive <= 0) & ~pairs.ignored
    logits = scale * scores + hard_weights(scores, is_negative, hardness).clamp_min(1e-12).log()
    logprobs = functional.log_softmax(logits.masked_fill(pairs.ignored, -torch.inf), 1).masked_fill(pairs.ignored, 0.0)
    total = pairs.positive.sum(1)
    has_any = total > 0
    if not bool(has_any.any()):
        return (scores * 0.0).sum()
    target = pairs.positive[has_any] / total[has_any, None]
    return -(target * logprobs[has_any]).sum(1).mean()


def sigmoid_loss(scores: Tensor, scale: Tensor, bias: Tensor, pairs: Pairs, *, hardness: float = 0.0) -> Tensor:
    """Return the binary cross-entropy of every pair that is not ignored, summed over pairs and divided by B.

    Args:
        scores: (B, B) cosines.
        scale: () factor on the cosines.
        bias: () added, so that the many negatives do not dominate at the start.
        pairs: which belong together; a weight between 0 and 1 is a soft label.
        hardness: see `hard_weights`; by rows and by columns, averaged.

    Source: Zhai et al. 2023 (SigLIP), arXiv 2303.15343, equation 1 and algorithm 1.
    """
    is_negative = (pairs.positive <= 0) & ~pairs.ignored
    logits = scale * scores + bias
    each = functional.binary_cross_entropy_with_logits(logits, pairs.positive.to(logits.dtype), reduction="none")
    weights = (hard_weights(scores, is_negative, hardness) + hard_weights(scores.T, is_negative.T, hardness).T) / 2
    return (each * weights * ~pairs.ignored).sum() / len(scores)


class PairLoss(nn.Module):
    """One of the two losses, with its learned temperature (and bias)."""

    def __init__(self, kind: LossName, *, hardness: float = 0.0, temperature: float | None = None) -> None:
        """Start from the paper's temperature.

        Args:
            kind: `clip` or `siglip`.
            hardness: of negatives.
            temperature: start; None: 0.07 (CLIP) or 0.1 (SigLIP).
        """
        super().__init__()
        self.kind, self.hardness = kind, hardness
        start = temperature or (0.07 if kind == "clip" else 0.1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / start)))
        self.bias = nn.Parameter(torch.tensor(-10.0 if kind == "siglip" else 0.0), requires_grad=kind == "siglip")

    @property
    def scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.log_scale.exp().clamp(max=MOST_SCALE)

    def forward(self, first: Tensor, second: Tensor, pairs: Pairs) -> Tensor:
        """Return the loss of unit vectors (B, D) of two modalities."""
        scores = first @ second.T
        if self.kind == "clip":
            return clip_loss(scores, self.scale, pairs, hardness=self.hardness)
        return sigmoid_loss(scores, self.scale, self.bias, pairs, hardness=self.hardness)
