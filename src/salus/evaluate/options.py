"""Tasks with options: the metric from the model's option probabilities, calibration, subgroups, and ablations of the evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from salus.batch import OptionQuestion, encoded_record, option_logprobs, option_prompt
from salus.evaluate.rows import Result, Role
from salus.metrics import (
    Floats,
    accuracy,
    auroc,
    bootstrap,
    calibration_error,
    ideal_calibration_error,
    paired,
    reliability,
    risk_coverage,
    roc_curve,
)  # fmt: skip
from salus.model import OptionCalibration, SalusModel
from salus.pipeline import option_probabilities
from salus.reason import prompt
from salus.record.patient import Item, PatientRecord
from salus.task import Example, Task

Progress = Callable[[str, float], None]
LEAST_SUBGROUP = 20
"""Smaller subgroups get no row of their own."""
TEXT_ONLY = "text only (no soft tokens)"
SERIES_SHUFFLED = "series only shuffled"
STATIC_ALONE = "static fields alone"
"""In the words and through the encoder, in the same way as with the series."""


@dataclass(frozen=True)
class Scored:
    """Scores of one task."""

    truth: Floats
    """(n,) 1 where the positive option is right, or where the chosen option is right."""
    probability: Floats
    """(n,) calibrated probability of the positive option, or of the chosen one."""
    groups: tuple[str, ...]
    is_ranked: bool
    """True: truth is of the positive option (AUROC); False: of the choice (accuracy)."""


def evaluate_options(
    model: SalusModel, task: Task, examples: Sequence[Example], result: Result, *, task_id: str, progress: Progress
) -> Scored:
    """Score a task with options and add its rows and curves, and what remains without the evidence.

    Args:
        model: scored as shipped; the task's modalities are given to it whether their gate passed or not.
        task: gives metric and positive option.
        examples: those with options.
        result: rows and curves are added.
        task_id: as in the rows.
        progress: called with words and a share of 1.
    """
    records = read_records(examples, progress, task.name)
    scores = option_logprobs(model, [question_of(model, task, e, r) for e, r in zip(examples, records, strict=True)])
    scored = scored_as(task, examples, scores, calibration_of(model, task))
    role: Role = "final" if model.config.interpreted & set(task.modalities) else "candidate"
    add_rows(result, task_id, scored, [dict(example.subgroup) for example in examples], role=role)
    if task.modalities:
        add_ablations(model, task, list(zip(examples, records, strict=True)), scored, result, task_id=task_id)
    return scored


def read_records(examples: Sequence[Example], progress: Progress, words: str) -> list[PatientRecord]:
    """Return the records of examples, read one by one."""
    records = []
    for place, example in enumerate(examples):
        records.append(example.record())
        progress(f"{words}: reading", (place + 1) / len(examples))
    return records


def question_of(
    model: SalusModel,
    task: Task,
    example: Example,
    record: PatientRecord,
    *,
    modalities: frozenset[str] | None = None,
    is_silent: bool = False,
) -> OptionQuestion:
    """Return the prompt of one example.

    Args:
        model: encodes the record.
        task: its modalities are given unless `modalities` says otherwise.
        example: question and options.
        record: the evidence.
        modalities: given as soft tokens; empty: none.
        is_silent: leave the facts out of the words.
    """
    prepared = model.prepare(record, frozenset(task.modalities) if modalities is None else modalities)
    asked = (
        prompt.question_text(example.question, [], example.options)
        if is_silent
        else option_prompt(record, example.question, example.options)
    )
    return OptionQuestion(encoded_record(model, prepared), asked, example.options)


def calibration_of(model: SalusModel, task: Task) -> OptionCalibration | None:
    """Return the calibration that was fitted for a task on `val`, without solved cases beside the question."""
    return next((one for one in model.config.option_calibrations if one.task == task.name and not one.shots), None)


def scored_as(task: Task, examples: Sequence[Example], scores: Sequence[Sequence[float]], calibration: OptionCalibration | None) -> Scored:
    """Return truth and probability: of the positive option where the task ranks one, else of the chosen option."""
    groups = tuple(example.subject_id for example in examples)
    probabilities = [option_probabilities(row_, example.options, calibration) for row_, example in zip(scores, examples, strict=True)]
    if task.metric == "auroc" and task.positive is not None:
        places = [example.options.index(task.positive) for example in examples]
        truth = np.array([float(example.answer == task.positive) for example in examples])
        return Scored(truth, np.array([p[place] for p, place in zip(probabilities, places, strict=True)]), groups, True)
    chosen = [int(np.argmax(p)) for p in probabilities]
    truth = np.array([float(example.options[place] == example.answer) for example, place in zip(examples, chosen, strict=True)])
    return Scored(truth, np.array([p[place] for p, place in zip(probabilities, chosen, strict=True)]), groups, False)


def add_plain(result: Result, task_id: str, name: str, scored: Scored) -> None:
    """Add the one headline row of an ablation."""
    metric, truth, score = _headline(scored)
    found = bootstrap(metric, truth, score, scored.groups)
    result.add(task_id, "ablation", name, metric="auroc" if scored.is_ranked else "accuracy", found=found)


def _headline(scored: Scored) -> tuple[Callable[[Floats, Floats], float], Floats, Floats]:
    return (auroc, scored.truth, scored.probability) if scored.is_ranked else (accuracy, np.ones(len(scored.truth)), scored.truth)


def add_rows(result: Result, task_id: str, scored: Scored, subgroups: Sequence[Mapping[str, str]], *, role: Role) -> None:
    """Add headline, calibration and subgroup rows, and the curves.

    Args:
        result: rows and curves are added.
        task_id: as in the rows.
        scored: truth and probability.
        subgroups: of each example.
        role: `final` where the model answers this question of users, `candidate` where its modality has not passed.
    """
    metric, truth, score = _headline(scored)
    name = "auroc" if scored.is_ranked else "accuracy"
    result.add(task_id, role, "salus", metric=name, found=bootstrap(metric, truth, score, scored.groups))
    error = bootstrap(calibration_error, scored.truth, scored.probability, scored.groups, is_biased=True)
    result.add(task_id, role, "salus", metric="calibration_error", found=error)
    result.add(task_id, "baseline", "perfectly calibrated", metric="calibration_error", found=ideal_calibration_error(scored.probability))
    for key in sorted({key for one in subgroups for key in one}):
        for value in sorted({one.get(key, "") for one in subgroups} - {""}):
            rows = np.array([place for place, one in enumerate(subgroups) if one.get(key) == value])
            if len(rows) >= LEAST_SUBGROUP:
                found = bootstrap(metric, truth[rows], score[rows], [scored.groups[place] for place in rows])
                result.add(task_id, role, "salus", metric=name, found=found, subgroup=f"{key}={value}")
    certainty = np.maximum(scored.probability, 1 - scored.probability) if scored.is_ranked else scored.probability
    right = ((scored.probability >= 0.5) == (scored.truth == 1)).astype(float) if scored.is_ranked else scored.truth
    result.curves[task_id] = {
        **({"roc": roc_curve(scored.truth, scored.probability)} if scored.is_ranked else {}),
        "reliability": reliability(scored.truth, scored.probability),
        "risk_coverage": risk_coverage(right, certainty),
    }


def add_rival(result: Result, task_id: str, name: str, probability: Floats, *, scored: Scored, **details: Any) -> None:
    """Add a baseline's row and the paired difference of the model from it, both on the rows where the rival has a score.

    `details` are `seeds` and `selected_on` of the baseline's row.
    """
    metric, truth, score = _headline(scored)
    known = np.flatnonzero(np.isfinite(probability))
    groups = [scored.groups[row] for row in known]
    label = "auroc" if scored.is_ranked else "accuracy"
    found = bootstrap(metric, truth[known], probability[known], groups)
    result.add(task_id, "baseline", name, metric=label, found=found, **details)
    gap = paired(metric, truth[known], score[known], probability[known], groups)
    result.add(task_id, "final", f"salus minus {name}", metric=f"{label}_difference", found=gap)


def add_ablations(
    model: SalusModel, task: Task, asked: Sequence[tuple[Example, PatientRecord]], scored: Scored, result: Result, *, task_id: str
) -> None:
    """Add what remains when the evidence is taken away or comes from another patient.

    Where one wording is asked of all, another patient's evidence can take the place of a patient's own; where the records hold
    static fields beside what is observed, each part is also taken by itself.
    """
    records = [record for _, record in asked]
    others = list(range(len(records)))
    random.Random(0).shuffle(others)
    variants: dict[str, tuple[Sequence[PatientRecord], Mapping[str, Any]]] = {TEXT_ONLY: (records, {"modalities": frozenset()})}
    if scored.is_ranked:
        variants |= {
            "all items shuffled between patients": ([records[other] for other in others], {}),
            "soft tokens only": (records, {"is_silent": True}),
        }
    if scored.is_ranked and all(_static(record) for record in records):
        mixed = [(*_static(own), *_observed(records[other])) for own, other in zip(records, others, strict=True)]
        variants |= {
            SERIES_SHUFFLED: ([replace(own, items=items) for own, items in zip(records, mixed, strict=True)], {}),
            STATIC_ALONE: ([replace(own, items=tuple(_static(own))) for own in records], {}),
        }
    examples = [example for example, _ in asked]
    given: dict[str, Floats] = {}
    for name, (evidence, how) in variants.items():
        questions = [question_of(model, task, example, record, **how) for example, record in zip(examples, evidence, strict=True)]
        others_scored = scored_as(task, examples, option_logprobs(model, questions), calibration_of(model, task))
        add_plain(result, task_id, name, others_scored)
        given[name] = others_scored.probability
        if scored.is_ranked:
            gap = paired(auroc, scored.truth, scored.probability, given[name], scored.groups)
            result.add(task_id, "ablation", f"salus minus {name}", metric="auroc_difference", found=gap)
    if STATIC_ALONE in given:
        gap = paired(auroc, scored.truth, given[SERIES_SHUFFLED], given[STATIC_ALONE], scored.groups)
        result.add(task_id, "ablation", f"{SERIES_SHUFFLED} minus {STATIC_ALONE}", metric="auroc_difference", found=gap)


def _static(record: PatientRecord) -> list[Item]:
    return [item for item in record.items if item.category == "demographic"]


def _observed(record: PatientRecord) -> list[Item]:
    return [item for item in record.items if item.category != "demographic"]
