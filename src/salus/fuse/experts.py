"""Mixture of experts: each modality is handed to the experts that suit it and to who else is there.

`g = softmax(-||P [x_m; e_m; b] - c_e||)` over the experts e, the k nearest alone (Laplace gating), `y_m = x_m + Σ_e g_e E_e(x_m)`,
`h = Σ_m a_m y_m`, with the pattern b in {0, 1}^M of who is there, so that a patient with a modality missing is handed to other experts.
Shapes: x_m, y_m, h (B, H), g (B, M, E). Cost: O(M·E·H²) as written here (each expert sees all), O(M·k·H²) where hardware skips.
Weights: a. `Fused.loss` keeps the experts evenly used. Source: FuseMoE, Han et al. 2024 (arXiv 2402.03226: Laplace gating, missing
indicators); balance as in Shazeer et al. 2017 (arXiv 1701.06538, equation 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import PartsFuser, shares

BALANCE = 0.01
"""Weight of the loss that keeps experts evenly used."""


@dataclass(frozen=True)
class ExpertsConfig(FuserConfig):
    """Settings of the fuser."""

    fused_tokens: int = 4
    """Tokens that the joined vector becomes."""
    experts: int = 4
    """E."""
    chosen: int = 2
    """k."""


class ExpertsFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: ExpertsConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=False)
        count, width = len(config.modalities), config.hidden
        self.chosen = min(config.chosen, config.experts)
        self.norm = nn.LayerNorm(width)
        self.router = nn.Linear(width + 2 * count, 16)
        self.centres = nn.Parameter(torch.randn(config.experts, 16))
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, width))
            for _ in range(config.experts)
        )
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        count = parts.here.shape[1]
        vectors = self.norm(parts.pooled)
        which = torch.eye(count, dtype=vectors.dtype, device=vectors.device).expand(batch_size, -1, -1)
        pattern = parts.here.to(vectors.dtype)[:, None].expand(-1, count, -1)
        place = self.router(torch.cat([vectors, which, pattern], -1))
        scores = -torch.cdist(place, self.centres.expand(batch_size, -1, -1))
        nearest = scores.topk(self.chosen, -1)
        gates = torch.zeros_like(scores).scatter(-1, nearest.indices, nearest.values.softmax(-1)) * parts.here[..., None]
        answers = torch.stack([expert(vectors) for expert in self.experts], -2)
        each = (gates[..., None] * answers).sum(-2) + vectors * parts.here[..., None]
        weights = shares(parts.here, self.score(each)[..., 0])
        fused = self.fused(parts, (weights[..., None] * each).sum(1), weights)
        return replace(fused, loss=BALANCE * _unevenness(gates.sum((0, 1))))


def _unevenness(use: Tensor) -> Tensor:
    """Return the squared coefficient of variation of the experts' use."""
    return use.var(unbiased=False) / use.mean().pow(2).clamp_min(1e-6)


STRATEGY = Strategy("experts", "experts chosen by modality and by who is missing", ExpertsConfig, ExpertsFuser)
