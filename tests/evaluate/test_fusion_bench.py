"""The comparison of fusion strategies: what is done is kept, finalists alone see `test`, and gains are shared out fairly."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from salus import cli, metrics, registry
from salus.errors import ConfigError
from salus.evaluate import fusion_fits, fusion_route, fusion_tasks
from salus.evaluate.fusion_bench import Comparison, bench_fusion, shapley
from salus.evaluate.fusion_fits import Bench, Fit, FusionRecipe, TaskRecipe, subsets
from salus.evaluate.fusion_route import OptionReader, RouteBudget, fit_route
from salus.evaluate.fusion_tasks import FusionTask, fusion_task, kept_sets
from salus.fuse.build import build_fuser
from salus.fuse.fit import Budget, fit, fit_members, parted
from salus.fuse.token_sets import Tokens, TokenSets, standardised
from salus.metrics import auroc
from salus.model import build_backbone
from salus.reason import prompt
from salus.reason.tiny_backbone import write_tiny_backbone

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
    asked = tuple("Is the sum above zero?" for _ in range(n))
    return TokenSets(sets, truth.astype(np.int64), tuple(f"{split}-{row}" for row in range(n)), asked)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a made task in the place of the real ones; return which splits were read."""
    read: list[str] = []
    monkeypatch.setattr(metrics, "RESAMPLES", 40)

    def sets(_data: Path, splits: Sequence[str], _progress: object) -> dict[str, TokenSets]:
        read.extend(splits)
        return {split: made(split) for split in splits}

    load = registry.load
    tasks = {
        name: FusionTask(name, name, ("a", "b", "c"), ("no", "yes"), (), sets, (), folds)  # type: ignore[arg-type]
        for name, folds in (("rosmap", 0), ("icu-death", 2))
    }
    monkeypatch.setattr(registry, "load", lambda group, name: tasks[name] if group == fusion_tasks.GROUP else load(group, name))
    return read


def recipe(task: str, *strategies: str) -> FusionRecipe:
    one = TaskRecipe({"hidden": 16}, Budget(epochs=8, batch_size=32, lr=1e-2), ("logistic_regression",), ("haim_boosting",))
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
    tested = {row.model for row in test.rows if row.metric == "auroc" and "train alone" not in row.model and not row.subgroup}
    assert len(tested) == 5 and sum("(rival)" in name for name in tested) == 2, "two strategies, one modality alone, two rivals"
    assert not any("haim" in row.model for row in val.rows), "a slow rival is measured beside the finalists alone"
    assert mended.fitted == 1 + 5 + 3 + 5, "finalists; first and rivals of train alone; the first on subsets, of which one is a finalist"
    best = max((row for row in val.rows if row.metric == "auroc" and row.role == "candidate"), key=lambda row: row.value)
    assert best.model in tested and best.value > 0.85
    assert any(row.metric == "auroc_difference" and row.model.startswith(best.model) for row in test.rows)


def test_folds_cover_every_patient_once(asked: list[str], tmp_path: Path) -> None:
    bench, (val,) = bench_fusion(recipe("icu-death", "concat"), tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    rows = {row.model: row for row in val.rows if row.metric == "auroc" and not row.subgroup}
    assert rows["concat"].n == SIZES["train"] + SIZES["val"] and rows["concat"].value > 0.8
    assert rows["concat: c alone"].value < 0.65 < rows["concat: a alone"].value
    values = val.notes["icu-death: Shapley values of strategy concat (AUROC, folds)"]
    assert abs(values["c"]) < 0.05 < min(values["a"], values["b"])
    assert sum(values.values()) == pytest.approx(rows["concat"].value - 0.5, abs=1e-3)
    assert Comparison(bench, fusion_task("icu-death")).part == "folds"
    assert {(row.split, row.selected_on) for row in val.rows} == {("train+val", "folds of train and val")}


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
    assert cli.main(["bench", "fusion", str(file), "--tasks", "rosmap", *words]) == 0 and "0 fits were run" in capsys.readouterr().out
    assert cli.main(["bench", "fusion", str(file), "--tasks", "rosmap,icu", *words]) == 1
    assert "Cannot compare on icu: the recipe has rosmap." in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"Cannot compare fusion on 'x': there are .*rosmap"):
        fusion_task("x")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a language model of a few thousand random weights."""
    folder = tmp_path_factory.mktemp("backbone")
    write_tiny_backbone(folder)
    return folder


def test_the_best_two_go_through_the_language_model(asked: list[str], tmp_path: Path, backbone: Path) -> None:
    one = replace(recipe("rosmap", "concat", "gated", "late"), backbone=str(backbone), route_seeds=(3,))
    one = replace(one, tasks={"rosmap": replace(one.tasks["rosmap"], route=RouteBudget(steps=4, batch_size=8))})
    bench, (val,) = bench_fusion(one, tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    routed = [row for row in val.rows if "through the language model" in row.model and row.metric == "auroc"]
    best = sorted((row for row in val.rows if row.metric == "auroc" and row.role == "candidate"), key=lambda row: -row.value)
    heads = [row.model for row in best if "language model" not in row.model][:2]
    assert [row.model.replace(" through the language model", "") for row in routed] == heads and {row.seeds for row in routed} == {(3,)}
    costs = {words: parameters for words, parameters, _, _ in val.curves["rosmap"]["costs"]}
    assert all(0 <= memory < 4000 for *_, memory in val.curves["rosmap"]["costs"]), "of the fit alone, MB"
    assert set(heads) < set(costs) and all(costs[row.model] > 0 for row in routed)
    again, _ = bench_fusion(one, tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    assert bench.fitted > 0 and again.fitted == 0
    other = replace(one, tasks={"rosmap": replace(one.tasks["rosmap"], route=RouteBudget(steps=5, batch_size=8))})
    changed, _ = bench_fusion(other, tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    assert changed.fitted == 2, "another route, the same heads"


def test_a_fuser_learns_to_speak_to_a_frozen_language_model(backbone: Path) -> None:
    reader = OptionReader(build_backbone(str(backbone)), ("no", "yes"))
    before = reader.backbone.fingerprint()
    fitted, scored = standardised(made("train"), made("test"))
    settings = {"strategy": "gated", "hidden": 16}
    routed = fit_route(reader, fitted, settings, Budget(epochs=8, batch_size=16, lr=1e-2), RouteBudget(60, 16, 5e-3), seed=0)
    found = routed.probabilities(scored)
    assert auroc(scored.answers.astype(float), found[:, 1]) > 0.75 and np.allclose(found.sum(1), 1)
    assert reader.backbone.fingerprint() == before, "the language model is as it was"
    fused = routed.fuser(scored.batch(np.arange(5)), 5)
    last = routed.fuser(scored.batch(np.arange(4, 5)), 1)
    together, alone = reader.logits(fused, scored.asked[:5]), reader.logits(last, scored.asked[:1])
    assert torch.allclose(together[4:], alone, atol=1e-3), "who else is in the batch, and how long they are, changes nothing"
    with pytest.raises(ConfigError, match="Cannot ask the language model: 0 of 120 patients have a question"):
        fit_route(reader, replace(fitted, asked=()), settings, Budget(epochs=1), RouteBudget(1), seed=0)
    with pytest.raises(ConfigError, match="Cannot ask with options yes, yes: two begin with one token"):
        OptionReader(reader.backbone, ("yes", "yes"))


@pytest.mark.parametrize(("strategy", "linear_share"), [("concat", 0.0), ("late", 0.7), ("gated", 0.0), ("experts", 0.0)])
def test_what_speaks_learns_and_what_the_heads_read_stays(strategy: str, linear_share: float, backbone: Path) -> None:
    reader = OptionReader(build_backbone(str(backbone)), ("no", "yes"))
    fitted, scored = standardised(made("train"), made("test"))
    settings = {"strategy": strategy, "hidden": 16, "token_rms": reader.backbone.token_rms()}
    budget, route = Budget(epochs=4, batch_size=32, lr=1e-2, members=2, linear_share=linear_share), RouteBudget(80, 16, 1e-2)
    routed = fit_route(reader, fitted, settings, budget, route, seed=0)
    training, _ = parted(fitted, fusion_route.CALIBRATION_SHARE, 0)
    heads = fit_members(training, settings, budget, options=2, seed=0, width=reader.backbone.width)
    some = scored.batch(np.arange(5))
    for spoken, own in zip(routed.fuser.fusers, heads.members, strict=True):
        assert torch.equal(spoken(some, 5).pooled, own.fused(scored.take(range(5))).pooled)
    fused = routed.fuser(some, 5)
    own = heads.members[0].fused(scored.take(range(5)))
    assert fused.tokens.shape[1] == own.tokens.shape[1] + fusion_route.SUMMARY_TOKENS == fused.mask.shape[1] == len(fused.modality)
    agreement = spearmanr(routed.probabilities(scored)[:, 1], heads.probabilities(scored)[:, 1]).statistic
    assert agreement > 0.9, "the language model says what the heads say"


def test_the_reader_scores_options_as_a_session_does(backbone: Path) -> None:
    reader = OptionReader(build_backbone(str(backbone)), ("no", "yes"))
    scored = standardised(made("train"), made("test"))[1].take([3, 7])
    torch.manual_seed(0)
    fused = build_fuser({"strategy": "concat"}, scored.widths, reader.backbone.width).eval()(scored.batch(np.arange(2)), 2)
    with torch.no_grad():
        found = reader.logits(fused, scored.asked)
    for row in range(2):
        session = reader.backbone.session(prompt.prefix(reader.frame, fused.tokens[row][fused.mask[row]]))
        words = prompt.words(reader.frame, prompt.question_text(scored.asked[row], [], reader.options))
        wanted = session.option_logprobs(words, reader.options)
        if all(len(reader.backbone.ids(option)) == 1 for option in reader.options):
            assert float(found[row, 1] - found[row, 0]) == pytest.approx(wanted[1] - wanted[0], abs=2e-3)
    assert len(wanted) == 2


def test_members_answer_as_one() -> None:
    fitted, scored = standardised(made("train"), made("test"))
    settings = {"strategy": "concat", "hidden": 16}
    three = fit_members(fitted, settings, Budget(epochs=2, members=3), options=2, seed=1)
    alone = [fit(fitted, settings, Budget(epochs=2), options=2, seed=seed) for seed in (3, 4, 5)]
    assert np.allclose(three.probabilities(scored), np.mean([one.probabilities(scored) for one in alone], 0))
    assert three.parameters == sum(one.parameters for one in alone)


@pytest.mark.parametrize("strategy", ["concat", "late"])
def test_a_fit_aims_at_what_is_wanted(strategy: str) -> None:
    """A teacher that always says three of four is copied, whatever the answers are."""
    sets = replace(made("train"), wanted=np.tile(np.array([0.25, 0.75], np.float32), (SIZES["train"], 1)))
    assert sets.take([3, 1]).wanted is not None and len(sets.take([3, 1])) == 2
    taught = fit(sets, {"strategy": strategy, "hidden": 8}, Budget(epochs=30, lr=1e-2, held_out=0.0), options=2, seed=0)
    assert taught.probabilities(sets)[:, 1] == pytest.approx(0.75, abs=0.05)


def test_a_teacher_is_asked_once(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe("rosmap", "concat")
    wanted = replace(wanted, tasks={"rosmap": replace(wanted.tasks["rosmap"], teacher="logistic_regression")})
    counted: list[int] = []

    def teacher(features: np.ndarray, answers: np.ndarray, name: str, **_about: object) -> np.ndarray:
        counted.append(features.shape[1])
        return np.eye(2)[1 - answers] * 0.8 + 0.1  # a teacher that is always wrong

    monkeypatch.setattr(fusion_fits, "out_of_fold", teacher)
    _, (val,) = bench_fusion(wanted, tmp_path, tmp_path / "work", reads_test=False, progress=quiet)
    assert sorted(counted) == [4, 4, 8, 8, 12, 12, 16], "once for each subset of the modalities"
    rows = {row.model: row.value for row in val.rows if row.metric == "auroc" and not row.subgroup}
    assert rows["concat"] < 0.3 < 0.8 < rows["logistic regression (rival)"], "a rival has no teacher"


def test_questions_follow_their_patients() -> None:
    sets = replace(made("val"), asked=tuple(str(row) for row in range(60)))
    assert sets.take([5, 2]).asked == ("5", "2") and sets.joined(sets).asked[60] == "0" and len(sets.joined(sets)) == 120


def test_standardising_uses_the_fitted_patients_alone() -> None:
    one, other = standardised(made("train"), made("val"))
    seen = one.modalities["a"].values[one.modalities["a"].mask]
    assert np.allclose(seen.mean(0), 0, atol=1e-4) and np.allclose(seen.std(0), 1, atol=1e-3)
    assert not np.allclose(other.modalities["a"].values.mean((0, 1)), 0, atol=1e-6)


@pytest.mark.parametrize("name", registry.names("salus.fusers"))
def test_every_strategy_learns_from_two_modalities(name: str) -> None:
    fitted, scored = standardised(made("train"), made("test"))
    found = fit(fitted, {"strategy": name, "hidden": 16}, Budget(epochs=25, batch_size=16, lr=1e-2), options=2, seed=0)
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
    assert sets["train"].joined(sets["val"]).groups == sets["train"].groups + sets["val"].groups
    assert len(sets["train"].asked) == 194 and len(set(sets["train"].asked)) == 1, "all are asked the same"


@pytest.mark.data
def test_two_processes_give_what_one_gives(salus_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 10)
    one = TaskRecipe({"hidden": 8}, Budget(epochs=1), ("logistic_regression",))
    wanted = FusionRecipe("made", (0,), ("concat", "late"), {"rosmap": one})
    alone, (first,) = bench_fusion(wanted, salus_data, tmp_path / "one", reads_test=False, progress=quiet)
    apart, (other,) = bench_fusion(wanted, salus_data, tmp_path / "two", reads_test=False, progress=quiet, jobs=2)
    assert alone.fitted == apart.fitted > 5 and first.rows == other.rows


@pytest.mark.data
def test_a_run_that_is_stopped_leaves_no_process(salus_data: Path, tmp_path: Path) -> None:
    """Forty fits wait; when the first is done the run is stopped, and no other begins."""
    wanted = FusionRecipe("made", (0,), ("concat",), {"rosmap": TaskRecipe({"hidden": 8}, Budget(epochs=1))})
    bench = Bench(wanted, salus_data, tmp_path, quiet)
    fits = [Fit("rosmap", "strategy concat", fusion_task("rosmap").modalities, seed, "folds") for seed in range(40)]

    def stop(words: str, _share: float) -> None:
        if "fit 1 of" in words:
            raise KeyboardInterrupt

    bench.progress = stop
    with pytest.raises(KeyboardInterrupt):
        bench.run_all(fits, "made", 2)
    end = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < end:  # not join: the pool's own thread waits for them too
        time.sleep(0.05)
    assert not multiprocessing.active_children()
    assert 1 <= len(list((tmp_path / "fits").glob("*.npz"))) < len(fits)


KILLED = """
import sys
from pathlib import Path
from salus.evaluate.fusion_bench import bench_fusion
from salus.evaluate.fusion_fits import FusionRecipe, TaskRecipe
from salus.fuse.fit import Budget

if __name__ == "__main__":
    wanted = FusionRecipe("made", tuple(range(40)), ("concat",), {"rosmap": TaskRecipe({"hidden": 8}, Budget(epochs=1))})
    bench_fusion(wanted, Path(sys.argv[1]), Path(sys.argv[2]), reads_test=False, progress=lambda *_: None, jobs=2)
"""


@pytest.mark.data
def test_a_run_that_is_killed_leaves_no_process(salus_data: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    ran = subprocess.Popen([sys.executable, str(script), str(salus_data), str(tmp_path / "work")])
    end = time.monotonic() + 120
    while not list((tmp_path / "work" / "fits").glob("*.npz")) and time.monotonic() < end:
        time.sleep(0.05)
    children = children_of(ran.pid)
    assert len(children) >= 2
    ran.kill()
    ran.wait()
    end = time.monotonic() + 10
    while any(Path(f"/proc/{one}/fd").is_dir() and not is_gone(one) for one in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert [one for one in children if not is_gone(one)] == []


def children_of(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, or waits only to be reaped."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
