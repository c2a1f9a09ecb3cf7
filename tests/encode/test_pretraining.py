"""Self-supervision helps where labels are few: a linear probe with and without it, same seed, on data that are made here.

Real data of each family are measured by `scripts/measure_pretraining.py`; sequences, signals and volumes stand in their own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from tests.encode.test_omics import item_of
from torch import Tensor

from salus.encode.audio import SoundEncoder
from salus.encode.encoder import Prepared, stack
from salus.encode.events import EventEncoder
from salus.encode.profile import ProfileEncoder
from salus.encode.sound_summary import N_FEATURES, N_ROWS
from salus.record.patient import Code, Item, Profile, Source

LABELLED, DRAWS, UNLABELLED, ASKED = 16, 10, 400, 300
Batch = tuple[dict[str, Tensor], NDArray[np.int64]]


def from_few_causes(count: int, features: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (n, F) noisy values that four hidden causes drive, one of which differs between two kinds, and the kinds."""
    source, loadings = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(4, features))
    kinds = np.arange(count) % 2
    causes = source.normal(size=(count, 4))
    causes[:, 0] = np.where(kinds == 1, 1.2, -1.2) + 0.5 * source.normal(size=count)
    return (0.35 * causes @ loadings + source.normal(size=(count, features)) * 2.5).astype(np.float32), kinds


def sounds(_encoder: Any, count: int, seed: int) -> Batch:
    values, kinds = from_few_causes(count, N_ROWS * N_FEATURES, seed)
    return {"table": torch.from_numpy(values.reshape(count, 1, N_ROWS, N_FEATURES))}, kinds


def profiles(encoder: Any, count: int, seed: int) -> Batch:
    values, kinds = from_few_causes(count, 300, seed)
    names = tuple(f"ENSG{number:011d}" for number in range(300))
    made = [encoder.prepare([item_of(Profile(names, row, "ensembl", "1"))], {}) for row in values]
    return stack(made), kinds


def visits(encoder: Any, count: int, seed: int) -> Batch:
    """Return patients of two kinds, each with six events out of the forty that are common in that kind, and two of any."""
    source, kinds = np.random.default_rng(seed), np.arange(count) % 2
    made: list[Prepared] = []
    for kind in kinds:
        numbers = [*(40 * kind + source.integers(0, 40, 6)), *source.integers(0, 80, 2)]
        items = [
            Item(f"{place}", "ehr", Code("x", str(number), f"finding{number}"), Source("", ""), category="condition")
            for place, number in enumerate(numbers)
        ]
        prepared = encoder.prepare(items, {})
        assert prepared is not None
        made.append(prepared)
    return stack(made), kinds


def features(encoder: Any, arrays: Mapping[str, Tensor]) -> NDArray[np.float32]:
    with torch.no_grad():
        values, mask = encoder(arrays)
    if encoder.pooled_tokens:
        return values.flatten(1).numpy()  # type: ignore[no-any-return]
    weight = mask.to(values.dtype)[..., None]
    return ((values * weight).sum(1) / weight.sum(1)).numpy()  # type: ignore[no-any-return]


def probed(encoder: Any, make: Callable[[Any, int, int], Batch]) -> NDArray[np.float64]:
    """Return the accuracy of a linear probe for several draws of labels."""
    encoder.eval()
    arrays, truth = make(encoder, ASKED, 99)
    asked, found = features(encoder, arrays), []
    for draw in range(DRAWS):
        few, kinds = make(encoder, LABELLED, 1000 + draw)
        found.append(LogisticRegression(C=0.1, max_iter=2000).fit(features(encoder, few), kinds).score(asked, truth))
    return np.array(found)


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any, int, int], Batch], int]] = {
    "audio": (lambda: SoundEncoder(members=4, hidden=64, width=32), sounds, 120),
    "profile": (lambda: ProfileEncoder(features=512, members=4, hidden=64, width=32), profiles, 200),
    "events": (lambda: EventEncoder(width=32, tokens=8, buckets=512), visits, 150),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", CASES)
def test_self_supervision_helps_where_labels_are_few(family: str) -> None:
    """The lower end of the 95 % interval of the paired difference, over draws of the labels, is above zero."""
    build, make, steps = CASES[family]
    torch.manual_seed(0)
    encoder = build()
    unlabelled, _ = make(encoder, UNLABELLED, 7)
    if hasattr(encoder, "fit"):
        encoder.fit({name: values.numpy() for name, values in unlabelled.items()})
    before = probed(encoder, make)
    pretext = encoder.build_pretext()
    optimiser = torch.optim.AdamW([*encoder.parameters(), *pretext.parameters()], lr=2e-3)
    encoder.train()
    for _ in range(steps):
        rows = torch.randperm(UNLABELLED)[:64]
        loss = pretext(encoder, {name: values[rows] for name, values in unlabelled.items()})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    gain = probed(encoder, make) - before
    low, high = np.percentile(np.random.default_rng(0).choice(gain, (2000, DRAWS)).mean(axis=1), [2.5, 97.5])
    assert low > 0, f"gain {gain.mean():.3f} [{low:.3f}, {high:.3f}] over {before.mean():.3f}"
