"""Made rows for the tests of alignment: an image and a text say the same few numbers, patients have several rows."""

from __future__ import annotations

import numpy as np

from salus.fuse.align.pairs import PairSets
from salus.fuse.token_sets import Tokens, TokenSets

WIDTHS = {"image": 7, "text": 5, "sound": 6}


def made_rows(count: int, seed: int, *, missing: float = 0.0, alone: bool = False) -> PairSets:
    """Return rows whose modalities are noisy views of one hidden vector of a content.

    Args:
        count: rows.
        seed: of everything but the views themselves.
        missing: chance that a row lacks a modality.
        alone: each row is a patient and a content of its own.
    """
    source, views = np.random.default_rng(seed), np.random.default_rng(7)
    contents = np.arange(count) if alone else source.integers(0, max(1, count // 2), count)
    hidden = source.normal(size=(count, 4))[contents]
    groups = tuple(f"p{one if alone else one // 2}" for one in contents)
    sets, units = {}, {}
    for name, width in WIDTHS.items():
        tokens = 2
        seen = hidden @ views.normal(size=(4, width))
        values = (seen[:, None] + 0.1 * source.normal(size=(count, tokens, width))).astype(np.float32)
        mask = np.ones((count, tokens), bool)
        mask[:, 1] = source.random(count) < 0.5
        mask[source.random(count) < missing] = False
        sets[name] = Tokens(values, mask, np.full((count, tokens), np.nan, np.float32))
        units[name] = tuple(f"{name}{one}" for one in (contents if name == "text" else np.arange(count)))
    answers = (hidden[:, 0] > 0).astype(np.int64)
    return PairSets(TokenSets(sets, answers, groups), units, {})
