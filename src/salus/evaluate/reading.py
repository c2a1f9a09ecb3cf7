"""Record-reading: exact match by family through the full route and by the language model alone, citations, deletion, stray numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from salus.evaluate.numbers import stray_numbers
from salus.evaluate.rows import Result
from salus.generate.answer import Answer
from salus.metrics import Floats, accuracy, bootstrap, calibration_error, reliability, risk_coverage
from salus.model import SalusModel
from salus.pipeline import ask, open_record
from salus.reason import prompt
from salus.reason.raw import raw_lines
from salus.task import Example

Progress = Callable[[str, float], None]
ALONE_TOKENS = 90


@dataclass(frozen=True)
class Read:
    """What happened to one question."""

    example: Example
    given: str
    """Short answer of the full route, empty when withheld."""
    confidence: float
    is_right: bool
    cites_answer: bool | None
    """Whether the cited items hold those that contain the answer; None where no item contains it (`none recorded`)."""
    changes_without: bool | None
    """Whether the answer changed or was withheld once the cited items were deleted; None where nothing was cited."""
    stray: tuple[str, ...]
    """Numbers in the answer that are not in the record."""
    alone: str
    """Answer of the language model alone, from raw item lines."""


def read_one(model: SalusModel, example: Example) -> Read:
    """Ask one question in all the ways that are measured."""
    record = example.record()
    opened = open_record(record, model)
    answer = ask(opened, example.question)
    given, cited = short_of(answer), frozenset(item for one in answer.statements for item in one.item_ids)
    right = given == example.answer
    cites = None if not example.item_ids else set(example.item_ids) <= cited
    changes = None
    if cited and given:
        without = replace(record, items=tuple(item for item in record.items if item.id not in cited))
        changes = not without.items or short_of(ask(open_record(without, model), example.question)) != given
    confidence = max((one.confidence or 0.0 for one in answer.statements), default=0.0)
    return Read(example, given, confidence, right, cites, changes, stray_numbers(answer, record), alone_answer(model, example))


def short_of(answer: Answer) -> str:
    """Return the short answer of the first statement that stands, empty when none does."""
    return next((one.short for one in answer.statements if one.verification in {"verified", "mended"}), "")


@torch.inference_mode()
def alone_answer(model: SalusModel, example: Example) -> str:
    """Return what the language model writes from raw item lines, with no facts, no verification and no drafts."""
    record = example.record()
    prepared = model.prepare(record, model.config.interpreted)
    fused = model.fuse([prepared])
    session = model.backbone.session(prompt.prefix(model.frame, fused.tokens[0][fused.mask[0]]))
    lines, _ = raw_lines(record, example.question)
    asked = prompt.words(model.frame, prompt.question_text(example.question, lines))
    written = [line.text for line in session.write(asked, _copies(lines), max_new_tokens=ALONE_TOKENS)]
    return written[0] if written else ""


def _copies(lines: Sequence[str]) -> list[str]:
    """Return drafts that only speed decoding up: the parts of the item lines that an answer may repeat."""
    return [line.split(" ", 1)[-1] for line in lines]


def add_reading(result: Result, reads: Sequence[Read]) -> None:
    """Add rows and curves of record-reading."""
    families = sorted({one.example.family for one in reads})
    for family in [*families, ""]:
        chosen = [one for one in reads if not family or one.example.family == family]
        task = f"record-reading/{family or 'all'}"
        cited = [one for one in chosen if one.cites_answer is not None]
        deleted = [one for one in chosen if one.changes_without is not None]
        _add(result, task, "exact_match", chosen, [one.is_right for one in chosen])
        _add(result, task, "exact_match", chosen, [one.alone == one.example.answer for one in chosen], is_alone=True)
        _add(result, task, "cited_items_contain_answer", cited, [bool(one.cites_answer) for one in cited])
        _add(result, task, "answer_changes_without_cited_items", deleted, [bool(one.changes_without) for one in deleted])
    _add(result, "record-reading/all", "answers_with_stray_number", reads, [bool(one.stray) for one in reads])
    answered = [one for one in reads if one.given]
    truth, confidence = np.array([float(one.is_right) for one in answered]), np.array([one.confidence for one in answered])
    groups = [one.example.subject_id for one in answered]
    error = bootstrap(calibration_error, truth, confidence, groups)
    result.add("record-reading/all", "final", "salus", metric="calibration_error", found=error)
    result.curves["record-reading"] = {"reliability": reliability(truth, confidence), "risk_coverage": risk_coverage(truth, confidence)}
    result.notes["record_reading_misses"] = [
        {"id": one.example.id, "family": one.example.family, "question": one.example.question} for one in reads if not one.is_right
    ][:100]


def _add(result: Result, task: str, metric: str, reads: Sequence[Read], outcomes: Sequence[bool], *, is_alone: bool = False) -> None:
    if outcomes:
        values: Floats = np.array([float(one) for one in outcomes])
        found = bootstrap(accuracy, np.ones(len(values)), values, [one.example.subject_id for one in reads])
        name = "language model alone" if is_alone else "salus"
        result.add(task, "ablation" if is_alone else "final", name, metric=metric, found=found)
