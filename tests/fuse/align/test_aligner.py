"""The aligner: unit vectors, masks, strict loading, binding through one modality, and words as classifiers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.fuse.align.rows import WIDTHS, made_rows

from salus.errors import ConfigError, ModelError
from salus.fuse.align.aligner import Aligner, AlignerConfig, load_aligner, save_aligner
from salus.fuse.align.fit import AlignBudget, AlignLoss, bound_pairs, fit_aligner
from salus.fuse.align.pairs import PairSets, search_of
from salus.fuse.align.retrieval import ranked
from salus.fuse.align.zero_shot import filled, prompt_vectors, zero_shot
from salus.fuse.token_sets import Tokens
from salus.metrics import auroc

SEEDS = st.integers(0, 2**20)


def config(**given_: Any) -> AlignerConfig:
    """Return small settings."""
    return AlignerConfig(**{"widths": WIDTHS, "sphere": 6, "components": 5, **given_})


def fitted(rows: PairSets, **given_: Any) -> Aligner:
    """Return an aligner of image and text, fitted for a moment."""
    two = {name: WIDTHS[name] for name in ("image", "text")}
    loss, budget = given_.pop("loss", AlignLoss()), given_.pop("budget", AlignBudget(steps=5))
    return fit_aligner(rows, [("image", "text")], config(**{"widths": two, **given_}), loss=loss, budget=budget, seed=0).aligner


def recall_at_1(aligner: Aligner, rows: PairSets, first: str, second: str) -> float:
    """Return how often the first modality finds the second at once."""
    search = search_of(rows, first, second)
    queries = aligner.embed(first, rows.sets.take(search.queries).modalities[first])
    gallery = aligner.embed(second, rows.sets.take(search.gallery).modalities[second])
    return float(ranked(queries @ gallery.T, search.is_right).recall(1).mean())


@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize("hidden", [0, 8])
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_vectors_have_length_1_and_masked_tokens_no_part(pool: str, hidden: int, seed: int) -> None:
    rows = made_rows(9, seed, missing=0.3)
    aligner = Aligner(config(pool=pool, hidden=hidden, start="random"))
    aligner.fit_inputs(rows.sets)
    one = rows.sets.modalities["image"]
    vectors = aligner.embed("image", one)
    there = one.mask.any(1)
    assert np.linalg.norm(vectors[there], axis=1) == pytest.approx(1, abs=1e-5)
    assert np.isnan(vectors[~there]).all()
    other = replace(one, values=np.where(one.mask[..., None], one.values, 1e3).astype(np.float32))
    np.testing.assert_allclose(aligner.embed("image", other), vectors, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_a_patient_in_a_crowd_is_as_alone_and_order_changes_nothing(seed: int) -> None:
    rows = made_rows(8, seed)
    aligner = fitted(made_rows(20, 0))
    one = rows.sets.modalities["text"]
    whole, order = aligner.embed("text", one), np.random.default_rng(seed).permutation(8)
    moved = rows.sets.take(order).modalities["text"]
    np.testing.assert_allclose(aligner.embed("text", moved), whole[order], atol=1e-6)
    np.testing.assert_allclose(aligner.embed("text", rows.sets.take([3]).modalities["text"]), whole[[3]], atol=1e-6)


def test_embedding_leaves_training_mode_as_it_was() -> None:
    aligner = fitted(made_rows(20, 0))
    aligner.train()
    first, second = (aligner.embed("text", made_rows(4, 1).sets.modalities["text"]) for _ in range(2))
    assert aligner.training and (first == second).all()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("extra", [{}, {"hardness": 2.0}])
@pytest.mark.parametrize("start", ["correlated", "random"])
def test_what_was_seen_together_is_found_among_new_patients(kind: Any, extra: dict[str, float], start: str) -> None:
    rows = made_rows(120, 0, alone=True)
    steps = 60 if start == "correlated" else 500
    loss, budget = AlignLoss(kind, **extra), AlignBudget(steps=steps, lr=1e-2, weight_decay=0.1)
    aligner = fitted(rows.take(range(80)), loss=loss, budget=budget, start=start)
    left = rows.take(range(80, 120))
    assert recall_at_1(aligner, left, "image", "text") > 0.5  # chance 0.025
    assert recall_at_1(aligner, left, "text", "image") > 0.5


def test_attention_and_a_hidden_layer_can_be_fitted_in_chunks() -> None:
    rows = made_rows(60, 0, alone=True, missing=0.1)
    budget = AlignBudget(steps=60, lr=1e-2, weight_decay=0.1, chunk=16, batch_size=40)
    aligner = fitted(rows, budget=budget, pool="attention", hidden=16, start="random")
    query = aligner.projector("text").query
    assert query is not None and bool((query != 0).any())
    assert recall_at_1(aligner, rows, "image", "text") > 0.3


@pytest.mark.parametrize("steps", [0, 40])
def test_a_pair_that_was_never_trained_together_is_bound_by_the_third(steps: int) -> None:
    rows = made_rows(160, 0, alone=True)
    pairs = bound_pairs("text", ["image", "sound"])
    made = fit_aligner(rows.take(range(120)), pairs, config(), loss=AlignLoss(), budget=AlignBudget(steps=steps), seed=0)
    assert recall_at_1(made.aligner, rows.take(range(120, 160)), "image", "sound") > 0.4  # chance 0.025
    assert set(made.losses) == {"text and image", "text and sound"}


def test_two_modalities_start_at_their_canonical_correlations() -> None:
    rows = made_rows(200, 0, alone=True)
    aligner = fitted(rows, budget=AlignBudget(steps=0), ridge=1e-6, components=7)
    tables = []
    for name in ("image", "text"):
        one = rows.sets.modalities[name]
        share = one.mask / one.mask.sum(1, keepdims=True)
        tables.append((one.values * share[..., None]).sum(1).astype(np.float64))
    first, second = (each - each.mean(0) for each in tables)
    bases = [np.linalg.svd(each, full_matrices=False)[0] for each in (first, second)]
    expected = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)  # Björck and Golub 1973: cosines of the principal angles
    projected = []
    for name in ("image", "text"):
        one, projector = rows.sets.modalities[name], aligner.projector(name)
        with torch.no_grad():
            projected.append(projector.project(projector.components(torch.from_numpy(one.values), torch.from_numpy(one.mask))).numpy())
    found = [np.corrcoef(projected[0][:, place], projected[1][:, place])[0, 1] for place in range(3)]
    assert found == pytest.approx(expected[:3], abs=5e-3)


def test_the_same_seed_gives_the_same_aligner() -> None:
    rows = made_rows(40, 0)
    first, second = (fitted(rows).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_cannot_be_fitted_is_refused() -> None:
    rows = made_rows(20, 0)
    with pytest.raises(ConfigError, match="hidden"):
        fitted(rows, hidden=4)
    with pytest.raises(ConfigError, match="0 rows have both"):
        fitted(replace(rows, sets=rows.sets.without(["text"])))
    aligner = fitted(rows)
    with pytest.raises(ConfigError, match="'sound': this aligner has image, text"):
        aligner.embed("sound", rows.sets.modalities["sound"])
    with pytest.raises(ConfigError, match="tokens of width 6, the projector takes 7"):
        aligner.embed("image", rows.sets.modalities["sound"])


def test_saved_and_loaded_it_gives_the_same_vectors(tmp_path: Path) -> None:
    rows = made_rows(20, 0)
    aligner = fitted(rows)
    save_aligner(aligner, tmp_path)
    loaded = load_aligner(tmp_path)
    assert loaded.config == aligner.config and not loaded.training
    for name in ("image", "text"):
        assert (loaded.embed(name, rows.sets.modalities[name]) == aligner.embed(name, rows.sets.modalities[name])).all()


@pytest.mark.parametrize("how", ["is missing", "is not part of this aligner", "has another shape"])
def test_a_tensor_that_does_not_fit_is_refused(tmp_path: Path, how: str) -> None:
    save_aligner(fitted(made_rows(20, 0)), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "projectors.text.mean"
    if how == "is missing":
        del tensors[name]
    elif how == "has another shape":
        tensors[name] = tensors[name][:-1].clone()
    else:
        tensors["projectors.text.more"] = torch.zeros(2)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=how):
        load_aligner(tmp_path)


def test_an_extra_tensor_is_refused_even_where_the_list_names_it(tmp_path: Path) -> None:
    save_aligner(fitted(made_rows(20, 0)), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "other": torch.zeros(1)}, tmp_path / "model.safetensors")
    tree = json.loads((tmp_path / "config.json").read_text())
    tree["tensors"]["other"] = [1]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match="'other' is not part of this aligner"):
        load_aligner(tmp_path)


@pytest.mark.parametrize("broken", ["config", "format", "setting", "weights"])
def test_a_damaged_folder_is_refused(tmp_path: Path, broken: str) -> None:
    save_aligner(fitted(made_rows(20, 0)), tmp_path)
    tree = json.loads((tmp_path / "config.json").read_text())
    if broken == "config":
        (tmp_path / "config.json").write_text("{")
    elif broken == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"no")
    else:
        changed = {**tree, "format": 9} if broken == "format" else {**tree, "aligner": {**tree["aligner"], "widht": 1}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(ConfigError if broken == "setting" else ModelError, match="Cannot"):
        load_aligner(tmp_path)


def prompts(seed: int, templates: int) -> list[Tokens]:
    """Return made prompts of three classes."""
    source = np.random.default_rng(seed)
    shape = (templates, 1)
    return [
        Tokens(source.normal(size=(*shape, WIDTHS["text"])).astype(np.float32), np.ones(shape, bool), np.full(shape, np.nan, np.float32))
        for _ in range(3)
    ]


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS, templates=st.integers(1, 4), scale=st.floats(0.5, 50))
def test_zero_shot_is_a_softmax_over_cosines_with_the_mean_prompt(seed: int, templates: int, scale: float) -> None:
    rows, aligner, asked = made_rows(6, seed, missing=0.2), fitted(made_rows(30, 1)), prompts(seed, templates)
    found = zero_shot(aligner, "image", rows.sets.modalities["image"], text="text", prompts=asked, scale=scale)
    images = aligner.embed("image", rows.sets.modalities["image"]).astype(np.float64)
    for row, image in enumerate(images):
        if np.isnan(image).any():
            assert np.isnan(found[row]).all()
            continue
        cosines = []
        for one in asked:
            mean = np.mean([vector / np.linalg.norm(vector) for vector in aligner.embed("text", one)], axis=0)
            cosines.append(image @ mean / np.linalg.norm(mean) / np.linalg.norm(image))
        weights = np.exp(scale * np.array(cosines))
        assert found[row] == pytest.approx(weights / weights.sum(), abs=1e-4)


def test_one_template_is_its_own_prompt() -> None:
    aligner, asked = fitted(made_rows(30, 1)), prompts(0, 1)
    np.testing.assert_allclose(prompt_vectors(aligner, "text", asked)[0], aligner.embed("text", asked[0])[0], atol=1e-6)


def test_words_tell_classes_apart_that_they_were_aligned_with() -> None:
    rows = made_rows(300, 0, alone=True)
    aligner = fitted(rows.take(range(200)), budget=AlignBudget(steps=0))
    left, text = rows.take(range(200, 300)), rows.sets.modalities["text"]
    answers = rows.sets.answers[:200]
    asked = [Tokens(*(one[:200][answers == each] for one in (text.values, text.mask, text.time_s))) for each in (0, 1)]
    found = zero_shot(aligner, "image", left.sets.modalities["image"], text="text", prompts=asked)
    assert auroc(left.sets.answers.astype(float), found[:, 1]) > 0.8


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"it has no \{\}"):
        filled(["an X-ray"], "pneumonia")
