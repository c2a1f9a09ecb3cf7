"""Gated fusion: for each patient and each feature a gate says how much of which modality passes.

`h_m = tanh(W_m x_m)`, `z = softmax_m(U [x_1; …; x_M; b])`, `h = Σ_m z_m ⊙ h_m` over the modalities that are there: the gates of one depend
on all, and sum to 1. Shapes: x_m, h_m, z_m, h (B, H). Cost: O(M²·H²) for the gates, the rest linear in M. Weights: the gates' mean over
the features. Source: gated multimodal units, Arevalo et al. 2017 (arXiv 1702.01992, equations 1-5), with a softmax for more than two
modalities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import PartsFuser


@dataclass(frozen=True)
class GatedConfig(FuserConfig):
    """Settings of the fuser."""

    fused_tokens: int = 4
    """Tokens that the joined vector becomes."""


class GatedFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: GatedConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=False)
        count, width = len(config.modalities), config.hidden
        self.norm = nn.LayerNorm(width)
        self.absent = nn.Parameter(torch.randn(count, width) * 0.3)
        self.value = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.gate = nn.Linear(count * width + count, count * width)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        filled = self.norm(torch.where(parts.here[..., None], parts.pooled, self.absent))
        values = torch.stack([value(filled[:, at]).tanh() for at, value in enumerate(self.value)], 1)
        scores = self.gate(torch.cat([filled.flatten(1), parts.here.to(filled.dtype)], -1)).view_as(values)
        gates = scores.masked_fill(~parts.here[..., None], float("-inf")).softmax(1)
        gates = torch.nan_to_num(gates) * parts.here[..., None]
        return self.fused(parts, (gates * values).sum(1), gates.mean(-1))


STRATEGY = Strategy("gated", "gates for each patient and feature", GatedConfig, GatedFuser)
