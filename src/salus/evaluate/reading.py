"""Record-reading: exact match by family through the full route and by the language model alone, citations, deletion, stray numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from salus.evaluate.numbers import stray_numbers
from salus.evaluate.rows import Result
from salus.generate.answer import Answer, Statement
from salus.metrics import Floats, accuracy, bootstrap, calibration_error, paired, reliability, risk_coverage
from salus.model import SalusModel
from salus.pipeline import ask, open_record
from salus.reason import prompt
from salus.reason.raw import MOST_LINES, raw_lines
from salus.task import Example

ALONE_TOKENS = 90
CITATION = re.compile(r"( \[\d+\])+$")


@dataclass(frozen=True)
class Read:
    """What happened to one question."""

    example: Example
    given: str
    """Short answer of the full route, empty when withheld."""
    confidence: float
    is_right: bool
    cites_answer: bool | None
    """Whether the items that the short answer cites hold those that contain it; None where no item does (`none recorded`)."""
    changes_without: bool | None
    """Whether the answer changed or was withheld once the cited items were deleted; None where nothing was cited."""
    stray: tuple[str, ...]
    """Numbers in the answer that are not in the record."""
    alone: str | None
    """Answer of the language model alone, from raw item lines; None where it was not asked."""
    alone_saw_all: bool
    """Whether the raw item lines held all items of the variable, and not only the latest."""
    verification: str
    """Of the statement that gives the short answer; empty when none does."""


def read_one(model: SalusModel, example: Example, *, asks_alone: bool = True) -> Read:
    """Ask one question in all the ways that are measured; the slowest, the language model alone, may be left out."""
    record = example.record()
    opened = open_record(record, model)
    answer = ask(opened, example.question)
    first = _first(answer)
    given, cited = short_of(answer), frozenset(first.item_ids if first is not None else ())
    right = given == example.answer
    cites = None if not example.item_ids else set(example.item_ids) <= cited
    changes = None
    if cited and given:
        without = replace(record, items=tuple(item for item in record.items if item.id not in cited))
        changes = not without.items or short_of(ask(open_record(without, model), example.question)) != given
    alone, saw_all = alone_answer(model, example) if asks_alone else (None, False)
    confidence, verification = (first.confidence or 0.0, first.verification) if first is not None else (0.0, "")
    return Read(example, given, confidence, right, cites, changes, stray_numbers(answer, record), alone, saw_all, verification)


def _first(answer: Answer) -> Statement | None:
    return next((one for one in answer.statements if one.is_standing), None)


def short_of(answer: Answer) -> str:
    """Return the short answer of the first statement that stands, empty when none does."""
    first = _first(answer)
    return first.short if first is not None else ""


@torch.inference_mode()
def alone_answer(model: SalusModel, example: Example) -> tuple[str, bool]:
    """Return what the language model writes from raw item lines, its citation left out, and whether it saw all of the items.

    No facts, no verification, no drafts.
    """
    record = example.record()
    prepared = model.prepare(record, model.config.interpreted_in_writing)
    fused = model.fuse([prepared])
    session = model.session(fused)
    lines, shown = raw_lines(record, example.question)
    asked = prompt.words(model.frame, prompt.question_text(example.question, lines))
    written = next(session.write(asked, [], max_new_tokens=ALONE_TOKENS), None)
    return CITATION.sub("", written.text) if written is not None else "", len(shown) < MOST_LINES


def add_reading(result: Result, reads: Sequence[Read]) -> None:
    """Add rows and curves of record-reading."""
    families = sorted({one.example.family for one in reads})
    for family in [*families, ""]:
        chosen = [one for one in reads if not family or one.example.family == family]
        task = f"record-reading/{family or 'all'}"
        cited = [one for one in chosen if one.cites_answer is not None]
        deleted = [one for one in chosen if one.changes_without is not None]
        _add(result, task, "exact_match", chosen, [one.is_right for one in chosen])
        alone = [one for one in chosen if one.alone is not None]
        _add(result, task, "exact_match", alone, [_alone_right(one) for one in alone], is_alone=True)
        _add(result, task, "cited_items_contain_answer", cited, [bool(one.cites_answer) for one in cited])
        _add(result, task, "answer_changes_without_cited_items", deleted, [bool(one.changes_without) for one in deleted])
    both = [one for one in reads if one.alone is not None]
    _gap(result, both)
    whole = [one for one in both if one.alone_saw_all]
    _add(result, "record-reading/all", "exact_match_where_all_items_were_shown", whole, [_alone_right(one) for one in whole], is_alone=True)
    _add(result, "record-reading/all", "exact_match_where_all_items_were_shown", whole, [one.is_right for one in whole])
    _add(result, "record-reading/all", "answers_with_stray_number", reads, [bool(one.stray) for one in reads])
    for kind in ("verified", "mended", ""):
        share = [one.verification == kind for one in reads]
        _add(result, "record-reading/all", f"share_of_answers_{kind or 'withheld'}", reads, share)
    result.notes["record_reading_stray_numbers"] = [
        {"id": one.example.id, "question": one.example.question, "numbers": list(one.stray)} for one in reads if one.stray
    ]
    answered = [one for one in reads if one.given]
    if not answered:
        return
    truth, confidence = np.array([float(one.is_right) for one in answered]), np.array([one.confidence for one in answered])
    groups = [one.example.subject_id for one in answered]
    error = bootstrap(calibration_error, truth, confidence, groups, is_biased=True)
    result.add("record-reading/all", "final", "salus", metric="calibration_error", found=error)
    result.curves["record-reading/all"] = {"reliability": reliability(truth, confidence), "risk_coverage": risk_coverage(truth, confidence)}
    result.notes["record_reading_misses"] = [
        {"id": one.example.id, "family": one.example.family, "question": one.example.question} for one in reads if not one.is_right
    ][:100]


def _alone_right(read: Read) -> bool:
    return read.alone == read.example.answer


def _gap(result: Result, reads: Sequence[Read]) -> None:
    """Add the paired difference of the full route from the language model alone, on the questions that both were asked."""
    if reads:
        own, alone = np.array([[float(one.is_right), float(_alone_right(one))] for one in reads]).T
        found = paired(accuracy, np.ones(len(reads)), own, alone, [one.example.subject_id for one in reads])
        result.add("record-reading/all", "final", "salus minus language model alone", metric="exact_match_difference", found=found)


def _add(result: Result, task: str, metric: str, reads: Sequence[Read], outcomes: Sequence[bool], *, is_alone: bool = False) -> None:
    if outcomes:
        values: Floats = np.array([float(one) for one in outcomes])
        found = bootstrap(accuracy, np.ones(len(values)), values, [one.example.subject_id for one in reads])
        name = "language model alone" if is_alone else "salus"
        result.add(task, "ablation" if is_alone else "final", name, metric=metric, found=found)
