"""Cross-modal attention through a few latent tokens, by which alone the modalities meet.

`z <- z + Attention(Q = z, K = V = [t_1; …; t_M])`, then attention among the latents z, for some layers; the language model gets what
they say. Shapes: t_m (B, N_m, H), z (B, L, H), pooled (B, H), the latents' mean. Cost: O(L·ΣN_m·H), linear in the number of
modalities. Weights: the first layer's attention, summed by modality.
Source: Jaegle et al. 2021 (arXiv 2103.03206) and the bottleneck of Nagrani et al. 2021
(arXiv 2107.00135, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from salus.fuse.attention import Block, by_modality, heads_of, laid_out
from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import PartsFuser


@dataclass(frozen=True)
class BottleneckConfig(FuserConfig):
    """Settings of the fuser."""

    latents: int = 4
    """L."""
    layers: int = 2
    heads: int = 4
    """Most heads of an attention."""


class BottleneckFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.latents, keeps_tokens=False, pools=False)
        heads = heads_of(config.hidden, config.heads)
        self.latents = nn.Parameter(torch.randn(config.latents, config.hidden) * 0.3)
        self.reading = nn.ModuleList(Block(config.hidden, heads, config.dropout) for _ in range(config.layers))
        self.meeting = nn.ModuleList(Block(config.hidden, heads, config.dropout) for _ in range(config.layers))

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        tokens, mask, number = laid_out(parts)
        latents = self.latents.expand(batch_size, -1, -1)
        everybody = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        first = None
        for reading, meeting in zip(self.reading, self.meeting, strict=True):
            latents, attention = reading(latents, tokens, mask)
            latents, _ = meeting(latents, latents, everybody)
            first = attention.mean(1) if first is None else first
        assert first is not None
        return self.fused(parts, latents.mean(1), by_modality(first * mask, number, parts.here.shape[1]))


STRATEGY = Strategy("bottleneck", "modalities meet in a few latent tokens", BottleneckConfig, BottleneckFuser)
