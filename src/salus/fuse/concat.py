"""Early fusion by concatenation: each modality's tokens through a projector into the language model's width, side by side.

Every modality opens with a learned marker token, one for `present` and another for `missing`, so that absence is told and never
looks like zeros; of a modality that joined a trained model, absence gives no token at all, as that model was trained. Cost: linear in
tokens. Source: the soft-prompt route of Lester et al. 2021 (arXiv 2104.08691) with the modality and time embeddings of the usual
multimodal transformer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus.errors import ConfigError
from salus.fuse.fuser import Fused, Present

TIME_FREQUENCIES = 8
"""Sine and cosine pairs of the time embedding, periods from 1 hour to 2^14 hours (683 days)."""


@dataclass(frozen=True)
class ConcatConfig:
    """Settings of the fuser."""

    modalities: Mapping[str, tuple[int, int]]
    """Modality → (encoder width D, most tokens N), in the order of the sequence."""
    width: int
    """The language model's width."""
    hidden: int = 256
    """Width of the projector's hidden layer."""
    token_rms: float = 0.1
    """Root mean square of a token: that of the language model's own embeddings."""
    dropout: float = 0.1
    """Dropout inside the projector."""
    untold: tuple[str, ...] = ()
    """Modalities whose absence gives no token: those that joined a model whose other parts were trained without them."""
    modality_dropout: float = 0.1
    """Chance in training that a whole modality is told as missing."""


def time_features(time_s: Tensor) -> Tensor:
    """Return (…, 2·F + 1) features of times in seconds; unknown time (NaN) has its own flag and no sines.

    Example:
        >>> time_features(torch.tensor([float("nan")]))[0, -1].item()
        1.0
    """
    unknown = torch.isnan(time_s)
    hours = torch.nan_to_num(time_s) / 3600.0
    periods = 2.0 ** torch.arange(0, 2 * TIME_FREQUENCIES, 2, device=time_s.device)
    angle = 2 * math.pi * hours[..., None] / periods
    waves = torch.cat([angle.sin(), angle.cos()], dim=-1) * (~unknown)[..., None]
    return torch.cat([waves, unknown[..., None].float()], dim=-1)


class ConcatFuser(nn.Module):
    """Projects, marks and concatenates; see the module's text."""

    def __init__(self, config: ConcatConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(width),
                    nn.Linear(width, config.hidden),
                    nn.GELU(),
                    nn.Dropout(config.dropout),
                    nn.Linear(config.hidden, config.width),
                )
                for name, (width, _) in config.modalities.items()
            }
        )
        self.time = nn.Linear(2 * TIME_FREQUENCIES + 1, config.width, bias=False)
        self.modality = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width) * 0.3) for name in config.modalities})
        self.present = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width)) for name in config.modalities})
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width)) for name in config.modalities})

    def own_parameters(self, name: str) -> list[nn.Parameter]:
        """Return what only the tokens of one modality pass through; how its absence is told is not part of it."""
        return [*self.project[name].parameters(), self.modality[name], self.present[name]]

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return soft tokens (B, T, D), T = sum over modalities of 1 + N."""
        unknown = sorted(set(present) - set(self.config.modalities))
        if unknown:
            raise ConfigError(
                f"Cannot fuse modality {unknown[0]!r}: this model was built for {', '.join(self.config.modalities)}."
            )
        tokens: list[Tensor] = []
        masks: list[Tensor] = []
        names: list[str] = []
        places: list[int] = []
        for name, (_, budget) in self.config.modalities.items():
            block, mask = self._block(name, present.get(name), batch_size, budget)
            tokens.append(block)
            masks.append(mask)
            names += [name] * (budget + 1)
            places += list(range(-1, budget))
        return Fused(torch.cat(tokens, dim=1), torch.cat(masks, dim=1), tuple(names), tuple(places))

    def _block(self, name: str, present: Present | None, batch_size: int, budget: int) -> tuple[Tensor, Tensor]:
        marker = self._scaled(self.missing[name]).expand(batch_size, 1, -1).clone()
        device = marker.device
        block = torch.zeros(batch_size, budget, self.config.width, device=device)
        mask = torch.zeros(batch_size, budget, dtype=torch.bool, device=device)
        if present is not None:
            rows = present.rows
            here = present.encoded.mask[:, :budget]
            if self.training and self.config.modality_dropout > 0:
                kept = torch.rand(rows.shape[0], device=device) >= self.config.modality_dropout
                rows, here = rows[kept], here[kept]
                values, time_s = present.encoded.values[kept][:, :budget], present.encoded.time_s[kept][:, :budget]
            else:
                values, time_s = present.encoded.values[:, :budget], present.encoded.time_s[:, :budget]
            projected = self.project[name](values) + self.time(time_features(time_s)) + self.modality[name]
            marker = marker.index_put((rows,), self._scaled(self.present[name]).expand(rows.shape[0], 1, -1))
            block = block.index_put((rows,), self._scaled(projected))
            mask = mask.index_put((rows,), here)
        told = torch.full_like(mask[:, :1], name not in self.config.untold)
        if present is not None:
            told = told.index_fill(0, rows, True)
        return torch.cat([marker, block], dim=1), torch.cat([told, mask], dim=1)

    def _scaled(self, tokens: Tensor) -> Tensor:
        rms = tokens.pow(2).mean(dim=-1, keepdim=True).add(1e-6).sqrt()
        return tokens / rms * self.config.token_rms
