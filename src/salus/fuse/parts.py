"""What most strategies begin with: each modality's tokens in one width, and one vector of each modality.

Takes present modalities; gives the tokens (B, N, H) of each with their mask, and a vector of each modality (B, M, H): their masked mean,
to which attention adds what single tokens stand out with. Where a strategy must put something in the place of a missing modality, it is a
learned vector, never zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus.encode.encoder import Encoded
from salus.errors import ConfigError
from salus.fuse.fuser import TIME_FREQUENCIES, Fused, FuserConfig, PooledHead, Present, kept_rows, refuse_unknown, time_features

QUERIES = 4
"""Learned queries that read the tokens of one modality."""


@dataclass(frozen=True)
class Parts:
    """The modalities of a batch in one width."""

    tokens: Mapping[str, Tensor]
    """Modality → (B, N, H); zeros where masked."""
    masks: Mapping[str, Tensor]
    """Modality → (B, N) bool."""
    pooled: Tensor
    """(B, M, H) one vector of each modality; zeros where it is missing."""
    here: Tensor
    """(B, M) bool, whether it is there."""


class TokenPool(nn.Module):
    """One vector of a modality's tokens: their mean, and what learned queries find in single ones.

    `v = mean_n(t_n) + W [Σ_n a_1n t_n; …; Σ_n a_Qn t_n]` with `a_q = softmax_n(u_q · tanh(t_n))` over the tokens that count; in a mean
    alone one telling token of forty is lost. Source: Ilse et al. 2018 (arXiv 1802.04712, equation 8).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries, self.mix = nn.Linear(width, QUERIES, bias=False), nn.Linear(QUERIES * width, width, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (B, H) of tokens (B, N, H); zeros for a patient without any."""
        scores = self.queries(tokens.tanh()).masked_fill(~mask[..., None], float("-inf"))
        scores = torch.where(mask.any(1)[:, None, None], scores, torch.zeros_like(scores)).softmax(1) * mask[..., None]
        found = torch.einsum("bnq,bnh->bqh", scores, tokens).flatten(1)
        return self.mix(found) + tokens.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)  # type: ignore[no-any-return]


def projector(config: FuserConfig, own: int, out: int) -> nn.Sequential:
    """Return a network from tokens (…, own) to (…, out), by the settings.

    Raises:
        ConfigError: `projector_layers` is neither 1 nor 2.
    """
    if config.projector_layers not in {1, 2}:
        raise ConfigError(f"Cannot build the projector: projector_layers is {config.projector_layers}. Use 1 or 2.")
    norm = nn.LayerNorm(own) if config.norm_input else nn.Identity()
    if config.projector_layers == 1:
        return nn.Sequential(norm, nn.Linear(own, out), nn.Dropout(config.dropout))
    return nn.Sequential(norm, nn.Linear(own, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, out))


class Projectors(nn.Module):
    """One projector a modality; see the module's text."""

    def __init__(self, config: FuserConfig, width: int, *, pools: bool) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.project = nn.ModuleDict({name: projector(config, own, width) for name, (own, _) in config.modalities.items()})
        self.pools = nn.ModuleDict({name: TokenPool(width) for name, (_, budget) in config.modalities.items() if pools and budget > 1})
        self.time = nn.Linear(2 * TIME_FREQUENCIES + 1, width, bias=False)
        self.modality = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.3) for name in config.modalities})

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Parts:
        """Return the modalities of a batch; in training, modality dropout takes some away."""
        refuse_unknown(present, self.config)
        tokens, masks, pooled, here = {}, {}, [], []
        for name, (_, budget) in self.config.modalities.items():
            like = self.modality[name]
            block = like.new_zeros(batch_size, budget, self.width)
            mask = torch.zeros(batch_size, budget, dtype=torch.bool, device=like.device)
            if name in present:
                kept = kept_rows(present[name], self.config.modality_dropout if self.training else 0.0)
                there = kept.encoded.mask[:, :budget]
                block = block.index_put((kept.rows,), self._projected(name, kept.encoded, budget) * there[..., None])
                mask = mask.index_put((kept.rows,), there)
            tokens[name], masks[name] = block, mask
            pooled.append(self.pools[name](block, mask) if name in self.pools else block.sum(1) / mask.sum(1, keepdim=True).clamp_min(1))
            here.append(mask.any(1))
        return Parts(tokens, masks, torch.stack(pooled, 1), torch.stack(here, 1))

    def _projected(self, name: str, encoded: Encoded, budget: int) -> Tensor:
        values: Tensor = self.project[name](encoded.values[:, :budget])
        timed: Tensor = values + self.time(time_features(encoded.time_s[:, :budget])) + self.modality[name]
        return timed


class PartsFuser(nn.Module):
    """Base of the strategies that begin with `Projectors`: their settings, markers, tokens and heads.

    `pools` is False for those that join tokens themselves and take no vector of a modality.
    """

    def __init__(self, config: FuserConfig, *, pooled_width: int, fused_tokens: int, keeps_tokens: bool, pools: bool = True) -> None:
        super().__init__()
        self.config, self.pooled_width, self.fused_tokens = config, pooled_width, fused_tokens
        self.projectors = Projectors(config, config.hidden, pools=pools)
        self.to_tokens = nn.Linear(pooled_width, fused_tokens * config.width) if fused_tokens else None
        self.own = nn.Linear(config.hidden, config.width) if keeps_tokens else None
        self.present = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width)) for name in config.modalities})
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.randn(config.width)) for name in config.modalities})

    def build_head(self, options: int) -> nn.Module:
        """Return a fresh linear head on the fused vector."""
        return PooledHead(self.pooled_width, options)

    def own_parameters(self, name: str) -> list[nn.Parameter]:
        """Refuse: these strategies mix modalities."""
        raise ConfigError(f"Cannot train what belongs to {name!r} alone: this strategy mixes modalities. Use strategy 'concat'.")

    def fused(self, parts: Parts, pooled: Tensor, weights: Tensor, tokens: Mapping[str, Tensor] | None = None) -> Fused:
        """Return the whole: a marker for each modality, its tokens where the strategy keeps them, and the tokens made of the joined vector.

        Args:
            parts: from `Projectors`.
            pooled: (B, P).
            weights: (B, M).
            tokens: modality → (B, N, H); None: the joined tokens alone.
        """
        blocks, masks, names, places = [], [], list[str](), list[int]()
        batch_size = pooled.shape[0]
        for number, (name, (_, budget)) in enumerate(self.config.modalities.items()):
            here = parts.here[:, number]
            blocks.append(torch.where(here[:, None], self.present[name], self.missing[name])[:, None])
            masks.append((here | (name not in self.config.untold))[:, None])
            names.append(name)
            places.append(-1)
            if tokens is not None and self.own is not None:
                blocks.append(self.own(tokens[name]))
                masks.append(parts.masks[name])
                names += [name] * budget
                places += list(range(budget))
        if self.to_tokens is not None:
            blocks.append(self.to_tokens(pooled).view(batch_size, self.fused_tokens, self.config.width))
            masks.append(parts.here.any(1, keepdim=True).expand(-1, self.fused_tokens))
            names += [""] * self.fused_tokens
            places += [-1] * self.fused_tokens
        joined = scaled(torch.cat(blocks, 1), self.config.token_rms)
        return Fused(joined, torch.cat(masks, 1), tuple(names), tuple(places), pooled, parts.pooled, weights)


def scaled(tokens: Tensor, rms: float) -> Tensor:
    """Return tokens (…, D) with one root mean square.

    Example:
        >>> scaled(torch.tensor([3.0, -4.0]), 0.1).pow(2).mean().sqrt().item().__round__(3)
        0.1
    """
    own = tokens.pow(2).mean(dim=-1, keepdim=True).add(1e-6).sqrt()
    return tokens / own * rms


def shares(here: Tensor, scores: Tensor | None = None) -> Tensor:
    """Return (B, M) weights of the modalities that are there, 1 in all; by scores, or equal ones.

    Example:
        >>> shares(torch.tensor([[True, True, False], [False, False, False]])).tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    scores = torch.zeros(here.shape, device=here.device) if scores is None else scores
    raised = scores.masked_fill(~here, float("-inf")).softmax(-1)
    return torch.nan_to_num(raised) * here
