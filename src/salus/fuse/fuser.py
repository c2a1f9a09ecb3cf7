"""What fusion takes and gives: named token sets in, one token sequence for the language model and one vector for heads out.

Shapes: B batch, M modalities, N tokens of one modality, T tokens of the sequence, D the language model's width. A strategy is one file
with a `STRATEGY`, registered under `salus.fusers`, and one line of a recipe (`fuser: {strategy: gated}`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from salus.encode.encoder import Encoded
from salus.errors import ConfigError

TIME_FREQUENCIES = 8
"""Sine and cosine pairs of the time embedding, periods from 1 hour to 2^14 hours (683 days)."""


@dataclass(frozen=True)
class FuserConfig:
    """Settings that every strategy has."""

    modalities: Mapping[str, tuple[int, int]]
    """Modality → (encoder width D, most tokens N), in the order of the sequence."""
    width: int
    """The language model's width; of a head's alone, any."""
    hidden: int = 256
    """Width of the hidden layers."""
    token_rms: float = 0.1
    """Root mean square of a token: that of the language model's own embeddings."""
    dropout: float = 0.1
    """Dropout inside the projectors."""
    untold: tuple[str, ...] = ()
    """Modalities whose absence gives no token: those that joined a model whose other parts were trained without them."""
    modality_dropout: float = 0.1
    """Chance in training that a whole modality is told as missing."""
    norm_input: bool = True
    """Whether each token is normalised on its own before it is projected. False where its numbers were standardised one by one over the
    patients, as measured values are: their common level is evidence, which the norm would take away."""
    projector_layers: int = 2
    """1: a linear map, for few patients; 2: with one hidden layer."""


@dataclass(frozen=True)
class Present:
    """One modality of a batch in which only some patients have it."""

    rows: Tensor
    """(P,) int64: the patients of the batch that have it."""
    encoded: Encoded
    """For those P patients, in that order."""


@dataclass(frozen=True)
class Fused:
    """What a batch became."""

    tokens: Tensor
    """(B, T, D) for the language model."""
    mask: Tensor
    """(B, T) bool; False tokens are dropped before the language model sees the sequence, never zero-filled."""
    modality: tuple[str, ...]
    """(T,) modality of each position; empty for a token that was made of several."""
    position: tuple[int, ...]
    """(T,) index of the modality's own token; -1 for the marker that says present or missing, and for a token made of several."""
    pooled: Tensor
    """(B, P) one vector of each patient, for heads."""
    parts: Tensor
    """(B, M, H) one vector of each modality before they were joined, in the order of the settings; zero where it is missing."""
    weights: Tensor
    """(B, M) how much each modality counts in `pooled`; not negative, 0 where it is missing, 1 in all where any is there."""
    loss: Tensor | None = None
    """() what the strategy adds to the loss in training; None: nothing."""


class Fuser(Protocol):
    """An `nn.Module` that joins modalities."""

    pooled_width: int
    """P."""

    def __call__(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused; a modality without an entry is missing for every patient."""
        ...

    def build_head(self, options: int) -> nn.Module:
        """Return a fresh head: called with a `Fused`, it gives (B, options) logits."""
        ...

    def own_parameters(self, name: str) -> list[nn.Parameter]:
        """Return what only the tokens of one modality pass through.

        Raises:
            ConfigError: the strategy mixes modalities before that can be said, so a model with it cannot be extended.
        """
        ...


@dataclass(frozen=True)
class Strategy:
    """One way to fuse, as it is registered."""

    name: str
    title: str
    """What it does, in a few words."""
    config: type[FuserConfig]
    build: Callable[[Any], nn.Module]
    """Takes the settings, gives a `Fuser`."""


class PooledHead(nn.Module):
    """A linear head on the fused vector."""

    def __init__(self, width: int, options: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, options)

    def forward(self, fused: Fused) -> Tensor:
        """Return (B, options) logits."""
        return self.linear(self.norm(fused.pooled))  # type: ignore[no-any-return]


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


def refuse_unknown(present: Mapping[str, Present], config: FuserConfig) -> None:
    """Refuse a modality that the fuser was not built for.

    Raises:
        ConfigError: names it.
    """
    unknown = sorted(set(present) - set(config.modalities))
    if unknown:
        raise ConfigError(f"Cannot fuse modality {unknown[0]!r}: this model was built for {', '.join(config.modalities)}.")


def kept_rows(present: Present, chance: float) -> Present:
    """Return a modality without the patients from whom modality dropout takes it.

    Args:
        present: one modality.
        chance: of each patient's loss of it.
    """
    if chance <= 0:
        return present
    kept = torch.rand(present.rows.shape[0], device=present.rows.device) >= chance
    encoded = present.encoded
    return Present(present.rows[kept], Encoded(encoded.values[kept], encoded.mask[kept], encoded.time_s[kept]))


def item_ids(fused: Fused, row: int, by_modality: Mapping[str, Sequence[tuple[str, ...]]]) -> tuple[tuple[str, ...], ...]:
    """Return the items behind each kept token of one patient: none of a marker, all of a token that was made of several modalities."""
    kept = fused.mask[row].tolist()
    every = tuple(dict.fromkeys(item for tokens in by_modality.values() for items in tokens for item in items))
    return tuple(
        by_modality[name][place] if place >= 0 else every if not name else ()
        for name, place, keep in zip(fused.modality, fused.position, kept, strict=True)
        if keep
    )
