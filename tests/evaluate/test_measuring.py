"""What an evaluation measures, on a model with random weights: rows, roles, rivals, and a file that any JSON reader takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_model import tiny_model
from tests.train.tiny_recipe import TASKS, read_deaths, read_questions

from salus import pipeline
from salus.evaluate.baselines import rivals
from salus.evaluate.options import Scored, add_rival, evaluate_options
from salus.evaluate.reading import add_reading, read_one
from salus.evaluate.rows import Result, write_result
from salus.metrics import Interval
from salus.model import SalusModel

NOWHERE = Path("nowhere")


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> SalusModel:
    return tiny_model(tiny_backbone)


def silent(_words: str, _share: float) -> None:
    """Take progress and show nothing."""


def rows(result: Result, metric: str, model: str) -> list[tuple[str, int]]:
    """Return (role, n) of the rows of a metric and a model, without subgroups."""
    return [(one.role, one.n) for one in result.rows if (one.metric, one.model, one.subgroup) == (metric, model, "")]


def test_reading_gives_one_row_a_family_and_metric(model: SalusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 40)
    examples = read_questions(NOWHERE, "test")[:6]
    reads = [read_one(model, example, asks_alone=place % 2 == 0) for place, example in enumerate(examples)]
    assert [one.alone is None for one in reads] == [False, True] * 3
    result = Result("test")
    add_reading(result, reads)
    assert rows(result, "exact_match", "salus") == [("final", 6)] * 2  # the family, and all
    assert rows(result, "exact_match", "language model alone") == [("ablation", 3)] * 2
    assert rows(result, "exact_match_difference", "salus minus language model alone") == [("final", 3)]
    shares = [one.value for one in result.rows if one.metric.startswith("share_of_answers")]
    assert sum(shares) == pytest.approx(1.0)
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in result.rows if one.metric == "exact_match")


def test_confidence_and_citations_are_those_of_the_scored_statement(model: SalusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 40)
    example = read_questions(NOWHERE, "test")[0]
    answer = pipeline.ask(pipeline.open_record(example.record(), model), example.question)
    first = next(one for one in answer.statements if one.is_standing)
    read = read_one(model, example, asks_alone=False)
    assert (read.given, read.verification, read.confidence) == (first.short, first.verification, first.confidence or 0.0)


def test_evidence_is_taken_away_in_the_same_run(model: SalusModel) -> None:
    result = Result("test")
    evaluate_options(model, TASKS["icu-death"], read_deaths(NOWHERE, "test"), result, task_id="icu-death", progress=silent)
    named = {one.model for one in result.rows if one.role == "ablation" and one.metric == "auroc"}
    assert named == {
        "all items shuffled between patients", "series only shuffled", "static fields alone", "text only (no soft tokens)",
        "soft tokens only",
    }  # fmt: skip
    assert any(one.model == "series only shuffled minus static fields alone" for one in result.rows)
    assert rows(result, "auroc", "salus") == [("final", 24)]


def test_a_modality_that_did_not_pass_is_a_candidate(model: SalusModel) -> None:
    result, config = Result("test"), model.config
    model.config = replace(config, evaluations={})
    try:
        evaluate_options(model, TASKS["icu-death"], read_deaths(NOWHERE, "test"), result, task_id="icu-death", progress=silent)
    finally:
        model.config = config
    assert rows(result, "auroc", "salus") == [("candidate", 24)]


def test_no_rival_is_scored_on_rows_that_it_was_fitted_on(model: SalusModel) -> None:
    parts = {split: read_deaths(NOWHERE, split) for split in ("train", "val", "test")}
    task = TASKS["icu-death"]
    on_val = rivals(model, task, train=parts["train"], val=(), test=parts["val"], progress=silent)
    assert set(on_val) == {"gradient boosting, fitted on train", "logistic regression, fitted on train"}
    on_test = rivals(model, task, train=parts["train"], val=parts["val"], test=parts["test"], progress=silent)
    assert set(on_test) == {*on_val, "gradient boosting, fitted on train and val"} and all(len(one) == 24 for one in on_test.values())


def test_patients_without_a_rival_score_are_left_out_of_the_pair() -> None:
    truth = np.array([0.0, 1.0, 0.0, 1.0])
    scored = Scored(truth, np.array([0.1, 0.9, 0.2, 0.8]), ("a", "b", "c", "d"), is_ranked=True)
    result = Result("test")
    add_rival(result, "icu-death", "SAPS-I", np.array([9.0, 4.0, 8.0, np.nan]), scored=scored, selected_on="none")
    rival, gap = result.rows
    assert (rival.value, rival.n, rival.selected_on) == (0.0, 3, "none")
    assert (gap.value, gap.n, gap.metric) == (1.0, 3, "auroc_difference")


def test_a_result_file_holds_null_for_what_was_not_measured(tmp_path: Path) -> None:
    result = Result("test")
    result.add("t", "final", "salus", metric="auroc", found=Interval(float("nan"), float("nan"), float("nan"), 3))
    write_result({"rows": [vars(one) for one in result.rows]}, tmp_path / "results" / "one.json")
    text = (tmp_path / "results" / "one.json").read_text()
    assert "NaN" not in text and json.loads(text)["rows"][0]["value"] is None
