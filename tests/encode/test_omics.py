"""Sequences and profiles as tokens: order, padding, missing features and strangers change nothing that they should not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from salus.encode.encoder import Prepared, encode
from salus.encode.profile import ProfileEncoder
from salus.encode.sequence import SequenceEncoder
from salus.record.patient import Code, Content, Item, Profile, Sequences, Source
from salus.train.encoder_stage import fit_normaliser, pretrain, supervise
from salus.train.recipe import EncoderRecipe

QUIET = lambda _words, _share: None  # noqa: E731


def item_of(loaded: Sequences | Profile, key: str = "a") -> Item:
    kind = "sequence" if isinstance(loaded, Sequences) else "profile"
    content = Content("sequence" if kind == "sequence" else "profile", partial(lambda one: one, loaded))
    return Item(key, kind, Code("", "", ""), Source("", ""), content=content)


def prepared(encoder: SequenceEncoder | ProfileEncoder, loaded: Sequences | Profile) -> Prepared:
    found = encoder.prepare([item_of(loaded)], {})
    assert found is not None
    return found


def values(encoder: SequenceEncoder | ProfileEncoder, batch: list[Prepared]) -> np.ndarray:
    encoder.eval()
    with torch.no_grad():
        return encode(encoder, batch).values.numpy()


def profile(order: np.ndarray, numbers: np.ndarray) -> Profile:
    return Profile(tuple(f"cg{place:08}" for place in order), numbers.astype(np.float32), "illumina-methylation", "1")


@pytest.mark.parametrize("alphabet", ["dna", "rna", "protein"])
def test_a_sequence_alone_or_in_a_batch_is_the_same(alphabet: str) -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(alphabet=alphabet, windows=3, length=16)
    letters = {"dna": "ACGTN" * 8, "rna": "ACGUN" * 8, "protein": "MKVLX" * 8}[alphabet]
    one = prepared(encoder, Sequences((letters,), alphabet))  # type: ignore[arg-type]
    other = prepared(encoder, Sequences((letters[:9],), alphabet))  # type: ignore[arg-type]
    np.testing.assert_allclose(values(encoder, [one])[0], values(encoder, [other, one])[1], atol=1e-6)
    with torch.no_grad():
        mask = encode(encoder, [other]).mask[0]
    assert mask.tolist() == [True] * encoder.members + [False] * (2 * encoder.members)
    assert [bool(ids) for ids in other.item_ids] == mask.tolist()


def test_a_letter_that_may_be_several_lies_between_them() -> None:
    encoder = SequenceEncoder(length=10)
    arrays = [prepared(encoder, Sequences((f"ACGTA{letter}CGTA",), "dna")).arrays["letters"] for letter in "ACGTN"]
    np.testing.assert_allclose(arrays[4], np.mean(arrays[:4], axis=0), atol=1e-6)


def test_other_alphabets_and_short_sequences_give_nothing() -> None:
    encoder = SequenceEncoder()
    assert encoder.prepare([item_of(Sequences(("MKVLAWDERT",), "protein"))], {}) is None
    assert encoder.prepare([item_of(Sequences(("ACGT",), "dna"))], {}) is None


def test_order_of_features_and_unknown_ones_change_nothing() -> None:
    source = np.random.default_rng(0)
    table = source.normal(size=(40, 30))
    encoder = ProfileEncoder(features=64)
    batch = [prepared(encoder, profile(np.arange(30), row)) for row in table]
    fit_normaliser(encoder, batch)
    order = source.permutation(30)
    permuted = prepared(encoder, profile(order, table[0][order]))
    extended = prepared(encoder, profile(np.append(np.arange(30), 99), np.append(table[0], 5.0)))
    expected = values(encoder, batch[:1])
    np.testing.assert_array_equal(values(encoder, [permuted]), expected)
    np.testing.assert_array_equal(values(encoder, [extended]), expected)


def test_a_missing_feature_is_the_same_as_one_that_is_not_listed() -> None:
    table = np.random.default_rng(1).normal(size=(40, 30))
    encoder = ProfileEncoder(features=64)
    fit_normaliser(encoder, [prepared(encoder, profile(np.arange(30), row)) for row in table])
    with_gap = table[0].copy()
    with_gap[3] = np.nan
    listed = prepared(encoder, profile(np.arange(30), with_gap))
    left_out = prepared(encoder, profile(np.delete(np.arange(30), 3), np.delete(table[0], 3)))
    np.testing.assert_array_equal(values(encoder, [listed]), values(encoder, [left_out]))
    assert encoder.prepare([item_of(profile(np.arange(3), np.full(3, np.nan)))], {}) is None


def hit_rate(with_pretext: bool, data: tuple[list[Prepared], np.ndarray], labelled: int, seed: int) -> np.ndarray:
    """Return which of the last sequences a linear probe on frozen tokens gets right, fitted on the first `labelled`."""
    from sklearn.linear_model import LogisticRegression

    batch, answers = data
    torch.manual_seed(seed)
    encoder = SequenceEncoder(length=60)
    if with_pretext:
        pretrain(encoder, batch, EncoderRecipe(pretext_epochs=12, batch_size=64, lr=3e-3, weight_decay=0.1), seed=seed, progress=QUIET)
    tokens = values(encoder, batch).reshape(len(batch), -1)
    tokens = (tokens - tokens.mean(0)) / tokens.std(0)
    probe = LogisticRegression(C=0.01, max_iter=2000).fit(tokens[:labelled], answers[:labelled])
    found: np.ndarray = probe.predict(tokens[-len(batch) // 2 :]) == answers[-len(batch) // 2 :]
    return found


def test_training_of_a_sequence_network_learns_a_motif() -> None:
    source = np.random.default_rng(0)
    rows, answers = [], source.integers(0, 2, 160)
    encoder = SequenceEncoder(length=20, members=2)
    for answer in answers:
        letters = source.choice(list("ACGT"), 20)
        letters[9:11] = list("GT") if answer else list("CA")
        rows.append(prepared(encoder, Sequences(("".join(letters),), "dna")))
    recipe = EncoderRecipe(epochs=12, batch_size=32, lr=3e-3, weight_decay=1.0)
    heads = supervise(encoder, rows[:120], answers[:120].astype(np.int64), recipe, seed=0, progress=QUIET)
    with torch.no_grad():
        told = heads(torch.from_numpy(values(encoder, rows[120:])), torch.ones(40, encoder.tokens, dtype=torch.bool)).mean(0).argmax(1)
    assert float((told.numpy() == answers[120:]).mean()) > 0.95


@pytest.mark.data
def test_splice_windows_are_read_whole(salus_data: Path) -> None:
    from salus.tasks.dna_splice import TASK

    counts = {split: len(TASK.read(salus_data, split)) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert counts == {"train": 2334, "val": 369, "test": 487}  # as SOURCE.md of the cohort says
    groups = [{one.subject_id for one in TASK.read(salus_data, split)} for split in ("train", "val", "test")]  # type: ignore[arg-type]
    assert sum(map(len, groups)) == len(set.union(*groups))


@pytest.mark.data
def test_rosmap_is_read_whole(salus_data: Path) -> None:
    from salus.tasks.rosmap import TASK

    counts = {split: len(TASK.read(salus_data, split)) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert counts == {"train": 194, "val": 51, "test": 106}
    record = TASK.read(salus_data, "test")[0].record()
    assert [item.modality for item in record.items] == list(TASK.modalities)
    loaded = [item.content.load() for item in record.items if item.content is not None]
    assert [len(one.features) for one in loaded if isinstance(one, Profile)] == [200, 200, 200]
