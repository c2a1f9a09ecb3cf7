"""What an encoder is: items of one modality in, vectors on a time line out.

`prepare` runs once per patient without torch state (its result is cached by item and encoder hash); `forward` is the network.
Shapes: B batch, N modality tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salus.record.patient import Item


@dataclass(frozen=True)
class Prepared:
    """Network input of one patient in one modality."""

    arrays: Mapping[str, NDArray[Any]]
    """Fixed shapes, so that patients stack; NaN marks what is missing."""
    item_ids: tuple[tuple[str, ...], ...]
    """For each of the N tokens, the items that it was made from (empty: none, the token is masked)."""
    time_s: NDArray[np.float32]
    """(N,) seconds on the record's clock, NaN where a token has no time."""
    places: tuple[str, ...] = ()
    """For each of the N tokens, where in its item it was made from, in words (plane, slice range in mm, window); empty: the whole item."""


@dataclass(frozen=True)
class Encoded:
    """Vectors of one modality for a batch of patients."""

    values: Tensor
    """(B, N, D) float."""
    mask: Tensor
    """(B, N) bool, True where a token carries evidence."""
    time_s: Tensor
    """(B, N) float32 seconds, NaN where unknown."""


@runtime_checkable
class Encoder(Protocol):
    """An `nn.Module` for one modality."""

    width: int
    """D."""
    tokens: int
    """N, the same for every patient."""

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the network input of one patient, or None when nothing here can be used.

        Args:
            items: items of this modality, any order.
            seconds: item id → seconds on the record's clock, for items that have a time.
        """
        ...

    def __call__(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N) for stacked arrays, each (B, …)."""
        ...


def stack(batch: Sequence[Prepared], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return the arrays of several patients stacked on a new first axis B."""
    return {
        name: torch.from_numpy(np.stack([prepared.arrays[name] for prepared in batch])).to(device) for name in batch[0].arrays
    }


def encode(encoder: Encoder, batch: Sequence[Prepared], device: torch.device | str = "cpu") -> Encoded:
    """Return the vectors of a batch of patients."""
    values, mask = encoder(stack(batch, device))
    time_s = torch.from_numpy(np.stack([prepared.time_s for prepared in batch])).to(device)
    return Encoded(values=values, mask=mask, time_s=time_s)
