"""Token sets of many patients, as arrays: what frozen encoders gave, kept so that strategies can be compared on the same.

Shapes: n patients, N tokens of a modality, D their width. A patient without a modality has no token of it that counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from salus.encode.encoder import Encoded
from salus.errors import ConfigError
from salus.fuse.fuser import Present

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tokens:
    """One modality of n patients."""

    values: Floats
    """(n, N, D), finite."""
    mask: NDArray[np.bool_]
    """(n, N), True where a token carries evidence."""
    time_s: Floats
    """(n, N), NaN where unknown."""


@dataclass(frozen=True)
class TokenSets:
    """Several modalities of n patients, with the answers."""

    modalities: Mapping[str, Tokens]
    answers: NDArray[np.int64]
    """(n,) index of the right option."""
    groups: tuple[str, ...]
    """(n,) whose each is: the unit of intervals."""
    asked: tuple[str, ...] = ()
    """(n,) words of the question, where each patient has their own; empty: all are asked the same."""
    wanted: Floats | None = None
    """(n, O) shares of the options that a fit aims at, as from a teacher; None: all of the right one."""

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Modality → (D, N), as fusers take it."""
        return {name: (one.values.shape[2], one.values.shape[1]) for name, one in self.modalities.items()}

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> TokenSets:
        """Return some patients."""
        at = np.asarray(rows, np.int64)
        kept = {name: Tokens(one.values[at], one.mask[at], one.time_s[at]) for name, one in self.modalities.items()}
        asked = tuple(self.asked[row] for row in at) if self.asked else ()
        wanted = None if self.wanted is None else self.wanted[at]
        return TokenSets(kept, self.answers[at], tuple(self.groups[row] for row in at), asked, wanted)

    def joined(self, other: TokenSets) -> TokenSets:
        """Return the patients of both, of the same modalities; what is wanted of them is the right options."""
        sets = {}
        for name, one in self.modalities.items():
            more = other.modalities[name]
            values, mask = np.concatenate([one.values, more.values]), np.concatenate([one.mask, more.mask])
            sets[name] = Tokens(values, mask, np.concatenate([one.time_s, more.time_s]))
        answers = np.concatenate([self.answers, other.answers])
        return TokenSets(sets, answers, (*self.groups, *other.groups), (*self.asked, *other.asked))

    def only(self, names: Sequence[str]) -> TokenSets:
        """Return some modalities, in the order of the settings.

        Raises:
            ConfigError: one is not there.
        """
        unknown = sorted(set(names) - set(self.modalities))
        if unknown:
            raise ConfigError(f"Cannot take modality {unknown[0]!r}: there are {', '.join(self.modalities)}.")
        return replace(self, modalities={name: one for name, one in self.modalities.items() if name in names})

    def without(self, names: Sequence[str]) -> TokenSets:
        """Return the same patients with some modalities missing for all of them; the modalities stay declared."""
        blank = {name: replace(one, mask=np.zeros_like(one.mask)) if name in names else one for name, one in self.modalities.items()}
        return replace(self, modalities=blank)

    def flat(self) -> NDArray[np.float64]:
        """Return (n, F) all values side by side, NaN where masked: the table for a forest."""
        parts = [np.where(one.mask[..., None], one.values, np.nan).reshape(len(self), -1) for one in self.modalities.values()]
        return np.concatenate(parts, 1).astype(np.float64)

    def batch(self, rows: NDArray[np.int64], device: torch.device | str = "cpu") -> dict[str, Present]:
        """Return some patients as fusers take them."""
        made = {}
        for name, one in self.modalities.items():
            there = np.flatnonzero(one.mask[rows].any(1))
            if len(there):
                at = rows[there]
                arrays = (torch.from_numpy(each[at]).to(device) for each in (one.values, one.mask, one.time_s))
                made[name] = Present(torch.from_numpy(there).to(device), Encoded(*arrays))
        return made


def standardised(fitted: TokenSets, *others: TokenSets) -> tuple[TokenSets, ...]:
    """Return token sets with each feature of each modality at mean 0 and deviation 1 among the fitted patients' tokens.

    Args:
        fitted: gives means and deviations.
        others: are moved by the same.
    """
    scales = {}
    for name, one in fitted.modalities.items():
        seen = one.values[one.mask]
        spread = seen.std(0) if len(seen) else np.ones(one.values.shape[2], np.float32)
        scales[name] = (seen.mean(0) if len(seen) else 0.0, np.where(spread > 1e-6, spread, 1.0))

    def moved(sets: TokenSets) -> TokenSets:
        changed = {
            name: replace(one, values=(((one.values - scales[name][0]) / scales[name][1]) * one.mask[..., None]).astype(np.float32))
            for name, one in sets.modalities.items()
        }
        return replace(sets, modalities=changed)

    return tuple(moved(sets) for sets in (fitted, *others))
