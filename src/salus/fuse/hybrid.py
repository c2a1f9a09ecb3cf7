"""Hybrid fusion: the modalities' own tokens, and beside them the tokens of one vector that is joined at the level of features.

Tokens `[t_1; …; t_M; W h]`, with `h` as in `features`: the language model may read each modality, and what their combination says. Heads
see `[h; mean_m x_m]`. Shapes: h (B, H), pooled (B, 2H). Cost: that of both. Weights: as in `features`.
Source: hybrid fusion as in Baltrušaitis et al. 2019 (IEEE TPAMI 41(2), section 6); JMIR 2024;26:e59505, section "Multimodal fusion".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from salus.fuse.features import Joined
from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import PartsFuser


@dataclass(frozen=True)
class HybridConfig(FuserConfig):
    """Settings of the fuser."""

    fused_tokens: int = 2
    """Tokens that the joined vector becomes."""


class HybridFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config, pooled_width=2 * config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=True)
        self.joined = Joined(config)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        joined, weights = self.joined(parts)
        mean = parts.pooled.sum(1) / parts.here.sum(1, keepdim=True).clamp_min(1)
        return self.fused(parts, torch.cat([joined, mean], -1), weights, parts.tokens)


STRATEGY = Strategy("hybrid", "tokens side by side, and joined features", HybridConfig, HybridFuser)
