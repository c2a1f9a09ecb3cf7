"""What fusion gives: one token sequence for the language model, each token with its modality and items.

Shapes: B batch, T sequence tokens, D the language model's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from salus.encode.encoder import Encoded


@dataclass(frozen=True)
class Present:
    """One modality of a batch in which only some patients have it."""

    rows: Tensor
    """(P,) int64: the patients of the batch that have it."""
    encoded: Encoded
    """For those P patients, in that order."""


@dataclass(frozen=True)
class Fused:
    """Soft tokens of a batch."""

    tokens: Tensor
    """(B, T, D)."""
    mask: Tensor
    """(B, T) bool; False tokens are dropped before the language model sees the sequence, never zero-filled."""
    modality: tuple[str, ...]
    """(T,) modality of each position."""
    position: tuple[int, ...]
    """(T,) index of the modality's own token; -1 for the marker that says present or missing."""


class Fuser(Protocol):
    """An `nn.Module` that joins modalities."""

    def __call__(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the soft tokens; a modality without an entry is missing for every patient."""
        ...


def item_ids(fused: Fused, row: int, by_modality: Mapping[str, Sequence[tuple[str, ...]]]) -> tuple[tuple[str, ...], ...]:
    """Return the items behind each kept token of one patient (empty for markers)."""
    kept = fused.mask[row].tolist()
    return tuple(
        by_modality[name][place] if place >= 0 else ()
        for name, place, keep in zip(fused.modality, fused.position, kept, strict=True)
        if keep
    )
