"""Which kind of fact the wording of a question asks for: a linear model over its words and letters.

Takes a question with the names of its variables masked; gives a probability for each kind. Fitted by `scripts/fit_wording.py` on the
`train` wordings of record-reading; the weights ship beside this file. Needs NumPy only, and about a fifth of a millisecond.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import as_file, files
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 13
"""Of each of the two kinds of feature, words and letters."""
MASK = "vv"
"""Stands for the name of a variable."""
NONE = "none"
"""Label of a wording that asks for no kind that is known here."""
_WORD = re.compile(r"[a-z']+|\?")


@dataclass(frozen=True)
class WordingModel:
    """Weights of the linear model."""

    labels: tuple[str, ...]
    weights: NDArray[np.float32]
    """(2 × BUCKETS, labels)."""
    intercept: NDArray[np.float32]
    """(labels,)."""
    wordings_sha256: str
    """Of the wordings that it was fitted on."""


def features(wording: str) -> NDArray[np.float32]:
    """Return (2 × BUCKETS,) hashed features: words and pairs of words; runs of 3 to 5 letters within a word.

    Counts enter as 1 + log; each half has unit length.
    """
    lower = wording.replace("{v}", MASK).lower().replace("’", "'")
    both = np.zeros(2 * BUCKETS, dtype=np.float32)
    for start, grams in ((0, _word_grams(lower)), (BUCKETS, _letter_grams(lower))):
        for bucket, count in Counter(crc32(gram.encode()) % BUCKETS for gram in grams).items():
            both[start + bucket] = 1.0 + math.log(count)
        half = both[start : start + BUCKETS]
        half /= max(float(np.linalg.norm(half)), 1e-9)
    return both


def _word_grams(lower: str) -> Iterator[str]:
    words = _WORD.findall(lower)
    yield from words
    yield from map(" ".join, pairwise(words))


def _letter_grams(lower: str) -> Iterator[str]:
    for word in lower.split():
        padded = f" {word} "
        for length in (3, 4, 5):
            yield from (padded[at : at + length] for at in range(max(1, len(padded) - length + 1)))


@cache
def wording_model() -> WordingModel:
    """Return the fitted model that ships."""
    with as_file(files(__package__).joinpath("wording.npz")) as path, np.load(path, allow_pickle=False) as kept:
        scale = kept["scale"].astype(np.float32)
        return WordingModel(
            tuple(str(label) for label in kept["labels"]),
            kept["weights"].astype(np.float32) * scale,
            kept["intercept"].astype(np.float32),
            str(kept["wordings_sha256"]),
        )


@lru_cache(maxsize=1024)
def kind_probabilities(masked: str) -> Mapping[str, float]:
    """Return a probability for each label of the model.

    Args:
        masked: the question, `{v}` in place of each variable's name.

    Example:
        >>> found = kind_probabilities("How far down did the {v} go?")
        >>> max(found, key=found.get)
        'lowest'
    """
    model = wording_model()
    scores = (features(masked) @ model.weights + model.intercept).astype(np.float64)
    shares = np.exp(scores - scores.max())
    return dict(zip(model.labels, (shares / shares.sum()).tolist(), strict=True))
