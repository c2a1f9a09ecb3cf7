"""Molecular profiles as sets: tokens from any features in any order, one for each of K member networks.

Takes `Profile` content; gives K tokens. A feature is found by the hash of its identifier, so no list of names ships; those that vary
most over the training patients are kept, each as levels between quantiles. Self-supervised by telling hidden values from the others.
Shapes: B batch, H buckets, F kept features, L levels, K members, N = K tokens, D width.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.encode.member import MemberLinear
from salus.record.patient import Item, Profile

SOFT_LIMIT = 3.0
LEAST_MEASURED = 0.2
"""A feature that a smaller share of the training patients has is not kept."""


def bucket_of(feature: str, buckets: int) -> int:
    """Return the bucket of an identifier; the version after its dot does not count.

    Example:
        >>> bucket_of("ENSG00000161896.6", 1 << 14) == bucket_of("ENSG00000161896.7", 1 << 14)
        True
    """
    return zlib.crc32(feature.partition(".")[0].encode()) % buckets


def spread_out(profile: Profile, buckets: int) -> NDArray[np.float32]:
    """Return (H,) values by bucket, NaN where none; of two features in one bucket the mean.

    Source: feature hashing, Weinberger et al. 2009, arXiv 0902.2206.
    """
    total, count = np.zeros(buckets), np.zeros(buckets)
    places = np.array([bucket_of(name, buckets) for name in profile.features])
    known = np.isfinite(profile.values)
    np.add.at(total, places[known], profile.values[known])
    np.add.at(count, places[known], 1.0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


class ProfileEncoder(nn.Module):
    """K small networks over a sum of features, one token each.

    Source: deep sets (Zaheer et al. 2017, arXiv 1703.06114, theorem 2): a sum over the members of a set, then a network. Values enter by
    a piecewise linear encoding over quantiles (Gorishniy et al. 2022, arXiv 2203.05556, section 3.2).
    """

    edges: Tensor
    mean: Tensor
    spread: Tensor
    kept: Tensor

    def __init__(
        self,
        *,
        features: int = 256,
        levels: int = 2,
        buckets: int = 1 << 14,
        members: int = 8,
        hidden: int = 64,
        width: int = 32,
        hidden_share: float = 0.3,
        dropout: float = 0.5,
    ) -> None:
        """Build from settings.

        Args:
            features: F, most features that are kept.
            levels: L, stretches between quantiles of the training patients that each value is spread over.
            buckets: H.
            members: K.
            hidden: units of each member's first layer.
            width: D.
            hidden_share: share of features hidden in training; this is also how what a missing one means is learned.
            dropout: on hidden units; half of it on the token.
        """
        super().__init__()
        self.width, self.tokens, self.pooled_tokens = width, members, members
        self.buckets, self.hidden_share, self.dropout = buckets, hidden_share, dropout
        self.register_buffer("kept", torch.full((features,), -1))
        self.register_buffer("edges", torch.arange(levels + 1.0)[:, None].repeat(1, features))
        self.register_buffer("mean", torch.zeros(levels * features))
        self.register_buffer("spread", torch.ones(levels * features))
        self.missing = nn.Parameter(torch.zeros(levels * features))
        self.first = MemberLinear(members, levels * features, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.second = MemberLinear(members, hidden, width)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the values of the latest profile that has any, or None."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "profile" else None
            if isinstance(loaded, Profile) and np.isfinite(loaded.values).any():
                time_s = np.full(self.tokens, seconds.get(item.id, np.nan), dtype=np.float32)
                return Prepared({"profile": spread_out(loaded, self.buckets)}, ((item.id,),) * self.tokens, time_s)
        return None

    def fit(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Choose the features that vary most among training patients, and learn quantiles, and mean and spread of each level."""
        table = torch.from_numpy(arrays["profile"])
        known = torch.isfinite(table)
        mean = table.nanmean(0).nan_to_num(0.0)
        variance = torch.where(known, table - mean, 0.0).square().sum(0) / known.sum(0).clamp_min(1)
        usable = torch.where(known.float().mean(0) >= LEAST_MEASURED, variance, -1.0)
        chosen = usable.topk(min(len(self.kept), self.buckets)).indices
        chosen = chosen[usable[chosen] >= 0].sort().values
        self.kept.fill_(-1)
        self.kept[: len(chosen)] = chosen
        if len(chosen):
            quantiles = np.nanquantile(arrays["profile"][:, chosen.numpy()], np.linspace(0, 1, len(self.edges)), axis=0)
            self.edges[:, : len(chosen)] = torch.from_numpy(quantiles)
        made = self._levels(table)
        self.mean.copy_(made.nanmean(0).nan_to_num(0.0))
        spread = (made - self.mean).square().nanmean(0).nan_to_num(0.0).sqrt()
        self.spread.copy_(torch.where(spread > 0, spread, 1.0))

    def _levels(self, table: Tensor) -> Tensor:
        """Return (B, L · F) how far each value has come through each stretch, 0 to 1, NaN where it is missing; level by level."""
        low, high = self.edges[:-1], self.edges[1:]  # (L, F)
        beyond = table[:, None, self.kept.clamp_min(0)] - low
        through = (beyond / (high - low).clamp_min(1e-9)).clamp(0, 1)
        return torch.where(self.edges[0] == self.edges[-1], beyond, through).flatten(1)  # one value in training has no stretches

    def standardised(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return (B, L · F) levels in spreads from the mean, NaN where a kept feature is missing, 0 where none is kept."""
        z = SOFT_LIMIT * torch.tanh((self._levels(arrays["profile"]) - self.mean) / self.spread / SOFT_LIMIT)
        kept: Tensor = torch.where(self.is_kept, z, 0.0)
        return kept

    @property
    def is_kept(self) -> Tensor:
        """(L · F,) bool: whether a feature is kept in that place."""
        return (self.kept >= 0).repeat(len(self.edges) - 1)

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return HiddenValues(self.width, len(self.mean))

    def forward(self, arrays: Mapping[str, Tensor], hide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return values (B, K, D) and mask (B, K), False where no kept feature is measured (none at all, before `fit`).

        Args:
            arrays: `profile` (B, H).
            hide: (B, L · F) bool, levels to hide (self-supervised training); in training others are hidden by chance.
        """
        z, is_kept = self.standardised(arrays), self.is_kept
        seen = torch.isfinite(z) & is_kept if bool(is_kept.any()) else torch.isfinite(arrays["profile"])
        values = z.expand(self.first.weight.shape[0], -1, -1)
        unseen = torch.isnan(values) if hide is None else torch.isnan(values) | hide
        if self.training and hide is None:
            unseen = unseen | (torch.rand_like(values) < self.hidden_share)
        values = torch.where(unseen & is_kept, self.missing, values)
        inner = functional.dropout(functional.gelu(self.norm(self.first(values))), self.dropout, self.training)
        tokens = functional.dropout(functional.gelu(self.second(inner)), self.dropout / 2, self.training)
        return tokens.transpose(0, 1), seen.any(1, keepdim=True).expand(-1, self.tokens)


class HiddenValues(nn.Module):
    """Self-supervised stage: hide features of a profile, and tell their levels from the tokens of the others.

    Source: masked autoencoding of tables as in VIME (Yoon et al. 2020, NeurIPS, section 4.1).
    """

    def __init__(self, width: int, levels: int, *, hidden_share: float = 0.3) -> None:
        super().__init__()
        self.tell = nn.Linear(width, levels)
        self.hidden_share = hidden_share

    def forward(self, encoder: ProfileEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch: squared error of the hidden values, in spreads."""
        z = encoder.standardised(arrays)
        known = torch.isfinite(z) & encoder.is_kept
        features = torch.rand(len(z), len(encoder.kept), device=z.device) < self.hidden_share
        hide = known & features.repeat(1, z.shape[1] // features.shape[1])  # all levels of a feature: one would tell the other
        values, _ = encoder(arrays, hide)
        error = (self.tell(values) - z.nan_to_num(0.0)[:, None]).square().mean(1)
        loss: Tensor = (error * hide).sum() / hide.sum().clamp_min(1)
        return loss
