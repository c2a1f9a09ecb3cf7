"""Early fusion of features: one vector of each modality, side by side, through one small network.

`h = MLP([x_1; …; x_M; b])` with the mean x_m of a modality's tokens (a learned vector where it is missing) and b in {0, 1}^M, which says
who is there. Shapes: x_m (B, H), h (B, H). Cost: linear in the number of modalities, O(M·H²). Weights: the share of each modality in the
first layer's sum, by its norm. Source: early fusion as in Baltrušaitis et al. 2019 (IEEE TPAMI 41(2), section 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import Parts, PartsFuser, shares


@dataclass(frozen=True)
class FeaturesConfig(FuserConfig):
    """Settings of the fuser."""

    fused_tokens: int = 4
    """Tokens that the joined vector becomes."""


class Joined(nn.Module):
    """The small network on the modalities side by side."""

    def __init__(self, config: FuserConfig) -> None:
        super().__init__()
        count, width = len(config.modalities), config.hidden
        self.absent = nn.Parameter(torch.randn(count, width) * 0.3)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))
        self.first = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(count))
        self.pattern = nn.Linear(count, width)
        self.second = nn.Sequential(nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, width))

    def forward(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """Return (B, H), and the share (B, M) of each modality in the first layer."""
        filled = torch.where(parts.here[..., None], parts.pooled, self.absent)
        each = torch.stack([first(norm(filled[:, at])) for at, (first, norm) in enumerate(zip(self.first, self.norms, strict=True))], 1)
        joined = self.second(each.sum(1) + self.pattern(parts.here.to(filled.dtype)))
        return joined, shares(parts.here, each.norm(dim=-1).clamp_min(1e-6).log())


class FeaturesFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=False)
        self.joined = Joined(config)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        return self.fused(parts, *self.joined(parts))


STRATEGY = Strategy("features", "features side by side, through one network", FeaturesConfig, FeaturesFuser)
