"""What is fitted on `val` after training: option calibration, the gate that lets a modality be interpreted, statement confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from salus.batch import OptionQuestion, encoded_record, option_logprobs, option_prompt
from salus.metrics import Interval, accuracy, auroc, bootstrap, fit_logistic, fit_temperature, platt_targets
from salus.model import ModalityEvaluation, OptionCalibration, SalusModel, StatementCalibration
from salus.pipeline import ask, calibration_features, open_record
from salus.task import Example, Task

Progress = Callable[[str, float], None]
LEAST_CONFIDENCE = 0.5
"""A statement that is more likely wrong than right is withheld."""


@dataclass(frozen=True)
class TaskOnVal:
    """What `val` gave for one task with options."""

    interval: Interval
    metric: str
    calibration: OptionCalibration | None


def val_questions(model: SalusModel, task: Task, examples: Sequence[Example], *, progress: Progress) -> list[OptionQuestion]:
    """Return the encoded questions of a task; encoders are frozen after their stage, so these serve every later stage."""
    questions = []
    for place, example in enumerate(examples):
        record = example.record()
        prepared = model.prepare(record, frozenset(task.modalities))
        asked = option_prompt(record, example.question, example.options)
        questions.append(OptionQuestion(encoded_record(model, prepared), asked, example.options))
        progress(f"{task.name}: reading val", (place + 1) / len(examples))
    return questions


def calibrate_options(model: SalusModel, task: Task, examples: Sequence[Example], questions: Sequence[OptionQuestion]) -> TaskOnVal:
    """Return the metric on `val` and, for a question with two options and one fixed wording, its Platt scaling."""
    scores = option_logprobs(model, questions)
    groups = [example.subject_id for example in examples]
    if task.metric != "auroc" or task.positive is None:
        chosen = [example.options[int(np.argmax(row))] for example, row in zip(examples, scores, strict=True)]
        right = np.array([float(one == example.answer) for one, example in zip(chosen, examples, strict=True)])
        return TaskOnVal(bootstrap(accuracy, np.ones(len(right)), right, groups), "accuracy", _many_options(task, examples, scores))
    margins = np.array([option_margin(row, example.options, task.positive) for example, row in zip(examples, scores, strict=True)])
    truth = np.array([float(example.answer == task.positive) for example in examples])
    if truth.min() == truth.max():  # one class only: nothing to rank, nothing to fit
        return TaskOnVal(Interval(float("nan"), float("nan"), float("nan"), len(truth)), "auroc", None)
    intercept, slope = fit_logistic(margins[:, None], truth)
    first = examples[0]
    calibration = OptionCalibration(
        task.name, first.question, first.options, task.positive, task.modalities, float(slope), float(intercept), len(truth)
    )
    return TaskOnVal(bootstrap(auroc, truth, margins, groups), "auroc", calibration)


def _many_options(task: Task, examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> OptionCalibration | None:
    """Return the calibration of a question in one wording with more than two options; None where the task has several, or no bar."""
    first = examples[0]
    is_one = all((one.question, one.options) == (first.question, first.options) for one in examples)
    if not is_one or len(first.options) < 3 or task.pass_above is None:
        return None
    answers = np.array([first.options.index(one.answer) for one in examples])
    slope, biases = fit_temperature(np.asarray(scores, np.float64), answers)
    return OptionCalibration(
        task.name, first.question, first.options, "", task.modalities, slope, 0.0, len(answers), tuple(float(one) for one in biases)
    )


def option_margin(logprobs: Sequence[float], options: Sequence[str], positive: str) -> float:
    """Return log P(positive) − log P(the other option)."""
    place = list(options).index(positive)
    return logprobs[place] - logprobs[1 - place]


def gate(task: Task, found: TaskOnVal) -> dict[str, ModalityEvaluation]:
    """Return what the task says of its modalities: passed when the lower end of the interval on `val` is above the task's bar.

    A task that sets no bar, or whose `val` holds one class only, says nothing.
    """
    if task.pass_above is None or not math.isfinite(found.interval.low):
        return {}
    interval = found.interval
    return {
        name: ModalityEvaluation(
            task.name, found.metric, "val", interval.value, interval.low, interval.high, interval.n, task.pass_above,
            bool(interval.low > task.pass_above),
        )
        for name in task.modalities
    }  # fmt: skip


def calibrate_statements(model: SalusModel, examples: Sequence[Example], *, progress: Progress) -> StatementCalibration | None:
    """Return the logistic model of a statement's being right, fitted on record-reading questions of `val`; None if none stands."""
    features, right = [], []
    for place, example in enumerate(examples):
        opened = open_record(example.record(), model)
        for statement in ask(opened, example.question).statements:
            if statement.verification in ("verified", "mended"):  # what code added has no score of the model
                features.append(calibration_features(statement))
                right.append(float(statement.short == example.answer))
        progress("record-reading: calibrating statements", (place + 1) / len(examples))
    if not features:
        return None
    truth = np.array(right)
    intercept, logprob, mended, certainty = fit_logistic(np.array(features), platt_targets(truth))
    return StatementCalibration(float(intercept), float(logprob), float(mended), float(certainty), LEAST_CONFIDENCE, len(truth))
