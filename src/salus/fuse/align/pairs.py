"""Which patients' items belong together: seen together, said by knowledge, or neither.

Takes rows of several modalities with patients, contents and concepts; gives the pairs of a batch and what is right in a search. Two items
of one patient are never negatives of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from salus.fuse.align.knowledge import Knowledge
from salus.fuse.align.losses import Pairs
from salus.fuse.token_sets import TokenSets

Concepts = tuple[frozenset[str], ...]


@dataclass(frozen=True)
class PairSets:
    """Rows in which modalities were seen together."""

    sets: TokenSets
    """Tokens; `groups` are patients; `answers` classes for zero-shot scoring, -1 where unknown."""
    units: Mapping[str, tuple[str, ...]]
    """Modality → (n,) which content a row holds: rows with one note have one unit."""
    concepts: Mapping[str, Concepts]
    """Modality → (n,) concepts of the row, as `knowledge` names them; absent: none."""

    def __len__(self) -> int:
        return len(self.sets)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> PairSets:
        """Return some rows."""
        units = {name: tuple(each[row] for row in rows) for name, each in self.units.items()}
        concepts = {name: tuple(each[row] for row in rows) for name, each in self.concepts.items()}
        return PairSets(self.sets.take(rows), units, concepts)

    def with_both(self, first: str, second: str) -> NDArray[np.int64]:
        """Return the rows that have both modalities."""
        both = self.sets.modalities[first].mask.any(1) & self.sets.modalities[second].mask.any(1)
        return np.flatnonzero(both)


def pairs_of(rows: PairSets, first: str, second: str, *, knowledge: Knowledge | None = None, share: float = 0.0) -> Pairs:
    """Return the pairs of a batch: first modality down, second across.

    Args:
        rows: all have both modalities.
        first: a modality.
        second: another.
        knowledge: relates concepts; None: only what was seen together is positive.
        share: weight of a pair of different patients that knowledge fully relates.
    """
    group = np.array(rows.sets.groups)
    exact = np.eye(len(rows), dtype=bool)
    for name in (first, second):
        unit = np.array(rows.units[name])
        exact |= unit[:, None] == unit[None]
    positive = exact.astype(np.float32)
    if knowledge is not None and share > 0 and first in rows.concepts and second in rows.concepts:
        related = share * knowledge.matrix(rows.concepts[first], rows.concepts[second])
        positive = np.maximum(positive, related)
    ignored = (group[:, None] == group[None]) & ~exact
    positive[ignored] = 0.0
    return Pairs(torch.from_numpy(positive.astype(np.float32)), torch.from_numpy(ignored))


@dataclass(frozen=True)
class Search:
    """One modality searches another: each content once."""

    queries: NDArray[np.int64]
    """(q,) rows, the first of each content."""
    gallery: NDArray[np.int64]
    """(g,) rows, the first of each content."""
    is_right: NDArray[np.bool_]
    """(q, g) whether any patient has both contents."""
    groups: tuple[str, ...]
    """(q,) patient of each query."""


def search_of(rows: PairSets, first: str, second: str) -> Search:
    """Return what is searched when the first modality looks for the second, among rows that have both."""
    kept = rows.with_both(first, second)
    queries, by_query = _contents(rows.units[first], kept)
    gallery, by_item = _contents(rows.units[second], kept)
    group = np.array(rows.sets.groups)[kept]
    is_same = group[:, None] == group[None]
    is_right = (by_query.astype(np.int64) @ is_same @ by_item.T.astype(np.int64)) > 0
    return Search(queries, gallery, is_right, tuple(rows.sets.groups[row] for row in queries))


def _contents(units: Sequence[str], kept: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the first row of each content, and (contents, kept rows) which rows hold it."""
    own = np.array([units[row] for row in kept])
    _, first = np.unique(own, return_index=True)
    first = np.sort(first)
    return kept[first], own[first][:, None] == own[None]
