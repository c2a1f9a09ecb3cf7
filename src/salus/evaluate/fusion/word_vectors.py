"""Sentences made by code, as one dense token for each topic: clauses that patients have together lie close together.

Takes sentences by topic; gives `Tokens`. The space is fitted on the words of `train` alone and sees no answer. Clauses of all topics share
it, so that a token says how a body system is in the same terms as every other token.

Source: latent semantic analysis (Deerwester et al., J Am Soc Inf Sci 1990, 41:391), on centred counts, without weights of rare words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus.fuse.token_sets import Tokens

Told = Mapping[str, Sequence[str]]
"""Topic → sentences `subject: clause, clause`."""
Words = tuple[str, str, str]


@dataclass(frozen=True)
class WordVectors:
    """Where each clause lies."""

    topics: tuple[str, ...]
    places: Mapping[Words, int]
    """(topic, subject, clause) → row of `vectors`; a clause that is not here is left out."""
    mean: NDArray[np.float64]
    """(V,) share of the patients of whom it is said."""
    vectors: NDArray[np.float64]
    """(V, K)."""

    def tokens(self, told: Sequence[Told]) -> Tokens:
        """Return one token for each topic: K numbers of where its clauses lie, and which topic it is."""
        said = _table(told, self.places) - self.mean
        topic_of = np.array([self.topics.index(topic) for topic, _, _ in self.places])
        values = np.zeros((len(told), len(self.topics), self.vectors.shape[1] + len(self.topics)), np.float32)
        for place in range(len(self.topics)):
            own = topic_of == place
            values[:, place, : self.vectors.shape[1]] = said[:, own] @ self.vectors[own]
            values[:, place, self.vectors.shape[1] + place] = 1.0
        mask = np.ones(values.shape[:2], bool)
        return Tokens(values, mask, np.full(mask.shape, np.nan, np.float32))


def words_of(told: Told) -> Iterator[Words]:
    """Yield every clause with its topic and subject.

    Example:
        >>> list(words_of({"heart": ["heart rate: last normal, rising"]}))
        [('heart', 'heart rate', 'last normal'), ('heart', 'heart rate', 'rising')]
    """
    for topic, lines in told.items():
        for line in lines:
            subject, _, rest = line.partition(": ")
            yield from ((topic, subject, clause) for clause in rest.split(", "))


def fit_word_vectors(told: Sequence[Told], *, width: int, least: int) -> WordVectors:
    """Return where clauses lie: the first right singular vectors of the centred table patients x clauses.

    Args:
        told: of the training patients.
        width: K.
        least: patients of whom a clause must be said; a rarer one is left out.
    """
    counted = Counter(words for one in told for words in set(words_of(one)))
    places = {words: place for place, words in enumerate(sorted(words for words, count in counted.items() if count >= least))}
    table = _table(told, places)
    mean = table.mean(0)
    _, vectors = np.linalg.eigh((table - mean).T @ (table - mean))
    vectors = vectors[:, ::-1][:, :width]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    return WordVectors(tuple(told[0]), places, mean, vectors * signs)


def _table(told: Sequence[Told], places: Mapping[Words, int]) -> NDArray[np.float64]:
    said = np.zeros((len(told), len(places)))
    for row, one in enumerate(told):
        said[row, [places[words] for words in words_of(one) if words in places]] = 1.0
    return said
