"""The comparison of numbers of cases: who is asked, what is kept, which rows come out; on made-up patients and a tiny model."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_cases import TASK, examples, saved
from tests.tiny_model import tiny_model

from salus import cli, metrics, pipeline, registry
from salus.errors import ConfigError
from salus.evaluate import shots_bench
from salus.evaluate.shots_bench import ShotsRecipe, ShotsTask, bench_shots, questions_of
from salus.in_context import Choice, FusedEmbedder, build_cases, shown_beside
from salus.model import SalusModel
from salus.pipeline import open_record
from salus.task import Example, Split

RECIPE = ShotsRecipe("tiny", 0, (0, 1, 2, 4), ("similar", "random", "random, balanced"), 2, {"made-up": ShotsTask(12)})


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> SalusModel:
    return tiny_model(tiny_backbone)


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the made-up task among the registered ones; a few resamples are enough."""
    monkeypatch.setattr(metrics, "RESAMPLES", 40)
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: TASK if (group, name) == ("salus.tasks", "made-up") else load(group, name))


def quiet(words: str, share: float) -> None:
    """Say nothing."""


def test_cases_come_from_train_questions_from_val_and_test_is_not_read(
    model: SalusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Split] = []

    def spy(data: Path, split: Split) -> list[Example]:
        read.append(split)
        return list(TASK.read(data, split))

    monkeypatch.setattr(registry, "load", lambda group, name: replace(TASK, read=spy))
    result = bench_shots(RECIPE, model, tmp_path, tmp_path / "work", progress=quiet)
    assert read == ["train", "val"]
    assert all((row.split, row.n) == ("val", 12) for row in result.rows)
    assert result.notes["made-up"]["cases"] == 24


def test_rows_and_curves(model: SalusModel, tmp_path: Path) -> None:
    result = bench_shots(RECIPE, model, tmp_path, tmp_path, progress=quiet)
    names = [row.model for row in result.rows]
    assert names[0] == "0 cases" and "1 cases, random, balanced" not in names, "one case cannot be balanced"
    for shots in (1, 2, 4):
        assert f"{shots} cases, random, pairs beside the same cases, minus 0 cases" in names
        assert {f"{shots} cases, similar", f"{shots} cases, random", f"{shots} cases, similar minus random"} <= set(names)
    assert names[-2:] == ["vote of the 8 nearest, no language model", "vote of the 32 nearest, no language model"]
    lines = result.curves["made-up"]["shots"]["lines"]
    assert [row[0] for row in lines["similar"]] == [0, 1, 2, 4] and [row[0] for row in lines["random, balanced"]] == [0, 2, 4]
    by_name = {row.model: row.value for row in result.rows}
    gap = by_name["4 cases, similar"] - by_name["0 cases"]
    assert by_name["4 cases, similar, minus 0 cases"] == pytest.approx(gap)


def test_the_scored_prompt_is_that_of_asking(model: SalusModel, tmp_path: Path) -> None:
    """The score of a question beside its 4 most similar cases is that of the session that `ask_with_cases` opens."""
    index = build_cases(model, TASK, TASK.read(tmp_path, "train"), FusedEmbedder(model), progress=quiet)
    bench = shots_bench.Bench(model, TASK, index, RECIPE, tmp_path, quiet)
    asked = questions_of(TASK.read(tmp_path, "val"), RECIPE.tasks["made-up"], 0)
    bench.asked += shots_bench.asked_of(model, TASK, asked, FusedEmbedder(model))
    scores = bench.scored("similar", 4)
    margins = bench.headline(scores)
    for row in (0, 5):
        one = bench.asked[row].example
        opened = open_record(one.record(), model, interpret=frozenset(TASK.modalities))
        shown = shown_beside(opened, one.question, one.options, cases=index, embedder=FusedEmbedder(model), choice=Choice(4))
        session, _ = shots_bench_session(opened, shown)
        expected = session.option_logprobs(bench.asked[row].pieces[2:], one.options)
        assert scores[row] == pytest.approx(expected, abs=2e-4)
        assert margins[row] == pytest.approx(expected[0] - expected[1], abs=4e-4)


def shots_bench_session(opened: Any, shown: Any) -> Any:
    """Return the session of the pipeline."""
    return pipeline._judge(opened, shown.modalities, shown.turns)


def test_what_was_scored_is_kept(model: SalusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench_shots(RECIPE, model, tmp_path, tmp_path, progress=quiet)
    monkeypatch.setattr(shots_bench.Bench, "_one", lambda *_: pytest.fail("it had been kept"))
    again = bench_shots(replace(RECIPE, ways=("similar", "random")), model, tmp_path, tmp_path, progress=quiet)
    assert [row for row in first.rows if "balanced" not in row.model] == again.rows
    kept = json.loads(next(tmp_path.glob("made-up-*.json")).read_text())
    balanced = {f"random, balanced, {number}" for number in (2, 4)}
    assert set(kept) == {"0", *(f"{way}, {number}" for way in ("similar", "random") for number in (1, 2, 4)), *balanced}


def test_two_benches_of_one_folder_keep_each_others_scores(model: SalusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = build_cases(model, TASK, TASK.read(tmp_path, "train"), FusedEmbedder(model), progress=quiet)
    one, other = (shots_bench.Bench(model, TASK, index, RECIPE, tmp_path, quiet) for _ in range(2))
    monkeypatch.setattr(shots_bench.Bench, "_one", lambda *_: [0.0, -1.0])
    for bench in (one, other):
        bench.asked += shots_bench.asked_of(model, TASK, TASK.read(tmp_path, "val")[:2], FusedEmbedder(model))
    one.scored("similar", 1)
    other.scored("similar", 2)
    assert set(json.loads(one.path.read_text())) == {"similar, 1", "similar, 2"}


def test_questions_are_drawn_by_the_seed_and_evenly_where_asked() -> None:
    pool = examples(0, 40)
    drawn = questions_of(pool, ShotsTask(12, evenly=True), 1)
    assert Counter(one.answer for one in drawn) == {"yes": 6, "no": 6} and drawn == questions_of(pool, ShotsTask(12, evenly=True), 1)
    assert drawn != questions_of(pool, ShotsTask(12, evenly=True), 2)
    assert len(questions_of(pool, ShotsTask(99), 1)) == 40
    others = [replace(pool[0], options=("left", "right")), replace(pool[1], options=())]
    assert questions_of([*pool, *others], ShotsTask(99), 1) == pool
    with pytest.raises(ConfigError, match="no example of the task has options"):
        questions_of([others[1]], ShotsTask(9), 1)


def test_accuracy_and_votes_by_hand(model: SalusModel, tmp_path: Path) -> None:
    task = replace(TASK, metric="exact_match", positive=None)
    index = build_cases(model, task, TASK.read(tmp_path, "train"), FusedEmbedder(model), progress=quiet)
    bench = shots_bench.Bench(model, task, index, RECIPE, tmp_path, quiet)
    bench.asked += shots_bench.asked_of(model, task, TASK.read(tmp_path, "val")[:3], FusedEmbedder(model))
    assert [one.example.answer for one in bench.asked] == ["yes", "no", "no"]
    assert bench.headline([[-1.0, -2.0], [-1.0, -2.0], [-2.0, -1.0]]).tolist() == [1.0, 0.0, 1.0]
    assert bench.votes(24).tolist() == [0.0, 1.0, 1.0], "18 of 24 cases say no"
    ranked = replace(bench, task=TASK)
    assert ranked.votes(24).tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"shots": ()}, "Cannot use recipe 'tiny': shots is empty. Give at least one."),
        ({"shots": (0,)}, "Cannot use recipe 'tiny': shots is [0]. Give numbers of cases, such as [0, 1, 2]."),
        ({"ways": ()}, "Cannot use recipe 'tiny': ways is empty. Give at least one."),
        ({"tasks": {}}, "Cannot use recipe 'tiny': tasks is empty. Give at least one."),
        ({"draws": 0}, "Cannot use recipe 'tiny': draws is 0. Give 1 or more."),
        ({"tasks": {"made-up": ShotsTask(0)}}, "Cannot use tasks.made-up: questions is 0. Give 2 or more."),
        ({"tasks": {"x": ShotsTask(9)}}, "Cannot load 'x' from salus.tasks: no plug-in has that name. Installed: "),
    ],
)
def test_what_could_not_be_run_is_refused(model: SalusModel, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as found:
        bench_shots(replace(RECIPE, **changed), model, tmp_path, tmp_path, progress=quiet)
    assert str(found.value).startswith(words)


def test_the_command_writes_results_and_a_page(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tiny_backbone, tmp_path / "model")
    recipe = tmp_path / "shots.yaml"
    told = "name: x\nseed: 0\nshots: [0, 2]\nways: [similar, random]\ndraws: 2\ntasks: {made-up: {questions: 8}}\nmodel: model\n"
    recipe.write_text(told)
    assert cli.main(["bench", "shots", str(recipe), "--data", str(tmp_path)]) == 0
    tree = json.loads((tmp_path / "results" / "in-context.json").read_text())
    assert tree["rows"] and tree["curves"]["made-up"]["shots"]["metric"] == "auroc"
    page = (tmp_path / "results" / "in-context.html").read_text()
    assert "Solved cases, made-up" in page and "solved cases before the question<" in page
    capsys.readouterr()
    assert cli.main(["bench", "shots", str(recipe), "--data", str(tmp_path), "--test"]) == 1
    assert capsys.readouterr().err == "salus: Cannot compare numbers of cases on test: nothing here is final. Leave --test out.\n"
