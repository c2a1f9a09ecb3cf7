"""The comparison of fusion strategies: what is done is kept, finalists alone see `test`, and gains are shared out fairly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus import cli, metrics, registry
from salus.errors import ConfigError
from salus.evaluate import fusion_bench, fusion_tasks
from salus.evaluate.fusion_bench import Comparison, FusionRecipe, TaskRecipe, bench_fusion, shapley, subsets
from salus.evaluate.fusion_tasks import FusionTask, fusion_task, kept_sets
from salus.fuse.fit import Budget, fit
from salus.fuse.token_sets import Tokens, TokenSets, standardised
from salus.metrics import auroc

pytest.importorskip("sklearn")
SIZES = {"train": 120, "val": 60, "test": 60}


def made(split: str) -> TokenSets:
    """Return patients whose answer is the sign of one number of `a` plus one of `b`; `c` says nothing."""
    source = np.random.default_rng(list(SIZES).index(split))
    n = SIZES[split]
    sets = {}
    for name, tokens in (("a", 2), ("b", 1), ("c", 1)):
        values = source.normal(size=(n, tokens, 4)).astype(np.float32)
        mask = np.ones((n, tokens), bool)
        mask[:, 1:] = source.random((n, tokens - 1)) > 0.5
        sets[name] = Tokens(values * mask[..., None], mask, np.full((n, tokens), np.nan, np.float32))
    truth = sets["a"].values[:, 0, 0] + sets["b"].values[:, 0, 0] > 0
    return TokenSets(sets, truth.astype(np.int64), tuple(f"{split}-{row}" for row in range(n)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a made task in the place of the real ones; return which splits were read."""
    read: list[str] = []
    monkeypatch.setattr(metrics, "RESAMPLES", 40)

    def sets(_task: object, _data: Path, splits: Sequence[str], _progress: object) -> dict[str, TokenSets]:
        read.extend(splits)
        return {split: made(split) for split in splits}

    for name, folds in (("rosmap", 0), ("icu-death", 2)):
        task = FusionTask(name, ("a", "b", "c"), sets, ("no", "yes"), folds)  # type: ignore[arg-type]
        monkeypatch.setitem(fusion_tasks.FUSION_TASKS, name, task)
    return read


def recipe(task: str, *strategies: str) -> FusionRecipe:
    one = TaskRecipe({"hidden": 16}, Budget(epochs=8, batch_size=32, lr=1e-2), ("logistic_regression",))
    return FusionRecipe("made", (0,), strategies, {task: one})


def quiet(_words: str, _share: float) -> None:
    """Say nothing."""


def test_what_is_done_is_kept_and_test_is_read_by_finalists_alone(asked: list[str], tmp_path: Path) -> None:
    wanted = recipe("rosmap", "concat", "gated", "tensor")
    first, (val,) = bench_fusion(wanted, tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    again, _ = bench_fusion(wanted, tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    assert first.fitted > 0 and again.fitted == 0 and {row.split for row in val.rows} == {"val"} and "test" not in asked
    next((tmp_path / "work" / "fits").iterdir()).unlink()
    mended, (_, test) = bench_fusion(wanted, tmp_path, tmp_path / "work", reads_test=True, progress=quiet)
    tested = {row.model for row in test.rows if row.metric == "auroc"}
    assert len(tested) == 4 and sum("(rival)" in name for name in tested) == 1, "two strategies, one modality alone, one rival"
    assert mended.fitted == 1 + 4
    best = max((row for row in val.rows if row.metric == "auroc" and row.role == "candidate"), key=lambda row: row.value)
    assert best.model in tested and best.value > 0.85
    assert any(row.metric == "auroc_difference" and row.model.startswith(best.model) for row in test.rows)


def test_folds_cover_every_patient_once(asked: list[str], tmp_path: Path) -> None:
    bench, (val,) = bench_fusion(recipe("icu-death", "concat"), tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    rows = {row.model: row for row in val.rows if row.metric == "auroc" and not row.subgroup}
    assert rows["concat, a + b + c"].n == SIZES["train"] + SIZES["val"] and rows["concat, a + b + c"].value > 0.8
    assert rows["concat, c"].value < 0.65 < rows["concat, a"].value
    values = val.notes["icu-death: Shapley values of strategy concat (AUROC, folds)"]
    assert abs(values["c"]) < 0.05 < min(values["a"], values["b"])
    assert sum(values.values()) == pytest.approx(rows["concat, a + b + c"].value - 0.5, abs=1e-3)
    assert Comparison(bench, fusion_task("icu-death")).part == "folds"


def test_the_command_writes_results_and_page(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("name: x\nseeds: [0]\nstrategies: [concat]\ntasks: {rosmap: {budget: {epochs: 1}, rivals: []}}\n")
    (tmp_path / "multiomics_rosmap").mkdir()
    out = tmp_path / "out" / "fusion.json"
    words = ["--data", str(tmp_path), "--work", str(tmp_path / "w"), "--out", str(out)]
    assert cli.main(["bench", "fusion", str(file), *words]) == 0
    tree = json.loads(out.read_text())
    assert {"command", "commit", "recipe_hash", "rows", "notes"} <= set(tree) and out.with_suffix(".html").read_text().startswith("<!")
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 60 for row in tree["rows"] if row["metric"] == "auroc")
    assert cli.main(["bench", "fusion", str(file), "strategies=[sum]", *words]) == 1 and "Cannot load 'sum'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"Cannot compare fusion on 'x': there are rosmap, icu-death"):
        fusion_task("x")


def test_standardising_uses_the_fitted_patients_alone() -> None:
    one, other = standardised(made("train"), made("val"))
    seen = one.modalities["a"].values[one.modalities["a"].mask]
    assert np.allclose(seen.mean(0), 0, atol=1e-4) and np.allclose(seen.std(0), 1, atol=1e-3)
    assert not np.allclose(other.modalities["a"].values.mean((0, 1)), 0, atol=1e-6)


@pytest.mark.parametrize("name", registry.names("salus.fusers"))
def test_every_strategy_learns_from_two_modalities(name: str) -> None:
    fitted, scored = standardised(made("train"), made("test"))
    found = fit(fitted, {"strategy": name, "hidden": 16}, Budget(epochs=15, batch_size=16, lr=1e-2), options=2, seed=0)
    both = auroc(scored.answers.astype(float), found.probabilities(scored)[:, 1])
    alone = auroc(scored.answers.astype(float), found.probabilities(scored.without(["b"]))[:, 1])
    assert both > 0.75 and both > alone > 0.55, "without retraining, b missing"
    twice = [fit(fitted, {"strategy": name, "hidden": 16}, Budget(epochs=1), options=2, seed=3).probabilities(scored) for _ in "ab"]
    assert np.array_equal(*twice), "deterministic by seed"


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_shapley_values_sum_to_the_gain(worths: list[float]) -> None:
    names = ("a", "b", "c")
    table = dict(zip([(), *subsets(names)], worths, strict=True))
    values = shapley(names, table.__getitem__)
    assert sum(values.values()) == pytest.approx(table[names] - table[()], abs=1e-6)


@pytest.mark.data
def test_the_real_tasks_have_no_label_in_their_features(salus_data: Path, tmp_path: Path) -> None:
    sets = kept_sets("rosmap", salus_data, tmp_path, ("train", "val"), quiet)
    assert [len(one) for one in sets.values()] == [194, 51]
    assert sets["train"].widths == dict.fromkeys(fusion_task("rosmap").modalities, (200, 1))
    truth = (sets["train"].answers == 1).astype(float)
    for one in sets["train"].modalities.values():
        marks = np.array([abs(auroc(truth, column.astype(float)) - 0.5) for column in one.values[:, 0].T])
        assert marks.max() < 0.35, "no single feature tells the answer"
    assert fusion_bench.joined(sets["train"], sets["val"]).groups == sets["train"].groups + sets["val"].groups
