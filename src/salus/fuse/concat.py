"""Early fusion by concatenation: each modality's tokens through a projector into the language model's width, side by side.

`[s_1; x_11; …; x_1N; s_2; …]` with `x_mn = P_m v_mn + T φ(t_mn) + e_m`: tokens v of the encoder, times t, an embedding e of each
modality; all at one root mean square. Every modality opens with a learned marker token s, one for `present` and another for `missing`, so
that absence is told and never looks like zeros; of a modality that joined a trained model, absence gives no token at all, as that model
was trained. Heads see the mean of each modality's tokens, side by side. Shapes: v (B, N, D_m), sequence (B, Σ(1 + N), D), pooled
(B, M·D). Cost: linear in tokens, O(ΣN·(D_m + D)·H). Weights: equal ones over who is there, since nothing is weighed here.
Source: the soft-prompt route of Lester et al. 2021 (arXiv 2104.08691) with the modality and time embeddings of the usual
multimodal transformer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus.fuse.fuser import TIME_FREQUENCIES, Fused, FuserConfig, PooledHead, Present, Strategy, kept_rows, refuse_unknown, time_features
from salus.fuse.parts import projector, scaled, shares


@dataclass(frozen=True)
class ConcatConfig(FuserConfig):
    """Settings of the fuser."""


class ConcatFuser(nn.Module):
    """Projects, marks and concatenates; see the module's text."""

    def __init__(self, config: ConcatConfig) -> None:
        super().__init__()
        self.config, self.pooled_width = config, config.width * len(config.modalities)
        self.project = nn.ModuleDict({name: projector(config, own, config.width) for name, (own, _) in config.modalities.items()})
        self.time = nn.Linear(2 * TIME_FREQUENCIES + 1, config.width, bias=False)
        self.modality = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width) * 0.3) for name in config.modalities})
        self.present = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width)) for name in config.modalities})
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width)) for name in config.modalities})

    def own_parameters(self, name: str) -> list[nn.Parameter]:
        """Return what only the tokens of one modality pass through; how its absence is told is not part of it."""
        return [*self.project[name].parameters(), self.modality[name], self.present[name]]

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return soft tokens (B, T, D), T = sum over modalities of 1 + N."""
        refuse_unknown(present, self.config)
        tokens: list[Tensor] = []
        masks: list[Tensor] = []
        parts: list[Tensor] = []
        names: list[str] = []
        places: list[int] = []
        for name, (_, budget) in self.config.modalities.items():
            block, mask = self._block(name, present.get(name), batch_size, budget)
            tokens.append(block)
            masks.append(mask)
            names += [name] * (budget + 1)
            places += list(range(-1, budget))
            here = mask[:, 1:, None]
            parts.append((block[:, 1:] * here).sum(1) / here.sum(1).clamp_min(1))
        by_modality = torch.stack(parts, 1)
        weights = shares(torch.stack([mask[:, 1:].any(1) for mask in masks], 1))
        return Fused(torch.cat(tokens, 1), torch.cat(masks, 1), tuple(names), tuple(places), by_modality.flatten(1), by_modality, weights)

    def build_head(self, options: int) -> nn.Module:
        """Return a fresh linear head on the modalities' means side by side."""
        return PooledHead(self.pooled_width, options)

    def _block(self, name: str, present: Present | None, batch_size: int, budget: int) -> tuple[Tensor, Tensor]:
        marker = self._scaled(self.missing[name]).expand(batch_size, 1, -1).clone()
        device = marker.device
        block = torch.zeros(batch_size, budget, self.config.width, device=device)
        mask = torch.zeros(batch_size, budget, dtype=torch.bool, device=device)
        told = torch.full_like(mask[:, :1], name not in self.config.untold)
        if present is not None:
            kept = kept_rows(present, self.config.modality_dropout if self.training else 0.0)
            rows, encoded = kept.rows, kept.encoded
            projected = self.project[name](encoded.values[:, :budget]) + self.time(time_features(encoded.time_s[:, :budget]))
            marker = marker.index_put((rows,), self._scaled(self.present[name]).expand(rows.shape[0], 1, -1))
            block = block.index_put((rows,), self._scaled(projected + self.modality[name]))
            mask = mask.index_put((rows,), encoded.mask[:, :budget])
            told = told.index_fill(0, rows, True)
        return torch.cat([marker, block], dim=1), torch.cat([told, mask], dim=1)

    def _scaled(self, tokens: Tensor) -> Tensor:
        return scaled(tokens, self.config.token_rms)


STRATEGY = Strategy("concat", "tokens side by side", ConcatConfig, ConcatFuser)
