"""Recall and ranks against brute force: several right answers, ties, and chance."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.fuse.align.retrieval import ranked


@settings(deadline=None)
@given(seed=st.integers(0, 2**20), size=st.integers(1, 6), k=st.integers(1, 7))
def test_recall_rank_and_chance_equal_the_mean_over_all_orders(seed: int, size: int, k: int) -> None:
    source = np.random.default_rng(seed)
    scores = source.integers(0, 3, size).astype(float)  # many ties
    right = source.random(size) < 0.4
    found = ranked(scores[None], right[None])
    if not right.any():
        assert found.recall(k)[0] == 0 and found.chance(k)[0] == 0 and np.isnan(found.rank[0])
        return
    hits, ranks, luck = [], [], []
    for order in permutations(range(size)):
        by_score = sorted(range(size), key=lambda item: (-scores[item], order[item]))
        first = next(place for place, item in enumerate(by_score, 1) if right[item])
        hits.append(first <= k)
        ranks.append(first)
        luck.append(any(right[item] for item in order[:k]))
    assert found.recall(k)[0] == pytest.approx(np.mean(hits))
    assert found.rank[0] == pytest.approx(np.mean(ranks))
    assert found.chance(k)[0] == pytest.approx(np.mean(luck))


@given(seed=st.integers(0, 2**20), queries=st.integers(1, 6), size=st.integers(1, 12))
def test_without_ties_rank_is_a_place_in_the_sorted_list(seed: int, queries: int, size: int) -> None:
    source = np.random.default_rng(seed)
    scores = source.permuted(np.tile(np.arange(size, dtype=float), (queries, 1)), axis=1)
    right = source.random((queries, size)) < 0.5
    right[:, 0] = True
    found = ranked(scores, right)
    for row in range(queries):
        order = np.argsort(-scores[row])
        place = next(at for at, item in enumerate(order, 1) if right[row, item])
        assert found.rank[row] == place
        for k in (1, 5, 10):
            assert found.recall(k)[row] == (place <= k)


def test_chance_of_random_scores_is_chance() -> None:
    source = np.random.default_rng(0)
    right = np.tile(np.arange(30) < 2, (4000, 1))
    found = ranked(source.random((4000, 30)), right)
    for k in (1, 5, 10):
        assert found.recall(k).mean() == pytest.approx(found.chance(k).mean(), abs=0.025)
