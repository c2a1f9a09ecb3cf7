"""Measures a model on its tasks and writes one self-contained result file and one page.

Order: options tasks in batches; free answers; record-reading and `what changed` one question at a time through the pipeline, spread
over worker processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from salus import registry
from salus.cohorts.free_answer import normalised
from salus.evaluate.baselines import majority, rivals, severity
from salus.evaluate.options import Scored, add_plain, add_rival, evaluate_options
from salus.evaluate.reading import Read, add_reading, read_one
from salus.evaluate.rows import Result
from salus.metrics import Interval, accuracy, auroc, bootstrap
from salus.model import SalusModel, load_model
from salus.pipeline import ask, open_record
from salus.reason import prompt
from salus.record.patient import PatientRecord
from salus.record.timeline import clock
from salus.task import Example, Split, Task

Progress = Callable[[str, float], None]
WHAT_CHANGED = "What changed, what matters?"
WHAT_CHANGED_PATIENTS = 50
FREE_TOKENS = 24


@dataclass(frozen=True)
class Suite:
    """What to measure."""

    tasks: tuple[str, ...]
    split: Split
    data: Path
    workers: int
    most: int | None = None
    """Most examples per task, for a quick look; None: all."""


def evaluate(folder: Path, suite: Suite, *, progress: Progress) -> tuple[Result, list[dict[str, Any]]]:
    """Return rows and curves of a model folder, and its `what changed` answers for the independent verifier."""
    result = Result(suite.split)
    changes: list[dict[str, Any]] = []
    model = load_model(folder)
    for name in suite.tasks:
        task = cast(Task, registry.load("salus.tasks", name))
        examples = spaced(task.read(suite.data, suite.split), suite.most)
        if task.name == "record-reading":
            reads = list(_spread(_read_chunk, folder, examples, suite.workers, progress, "record-reading"))
            add_reading(result, reads)
        else:
            _one_task(model, task, examples, suite, result, progress)
        if task.name == "icu-death":
            asked = examples[:WHAT_CHANGED_PATIENTS]
            changes = list(_spread(_changes_chunk, folder, asked, suite.workers, progress, "what changed"))
    return result, changes


def spaced(examples: Sequence[Example], most: int | None) -> list[Example]:
    """Return at most `most` examples, evenly spaced, so that every family and class is among them."""
    step = max(1, len(examples) // most) if most else 1
    return list(examples)[::step][:most]


def _one_task(model: SalusModel, task: Task, examples: Sequence[Example], suite: Suite, result: Result, progress: Progress) -> None:
    closed = [example for example in examples if example.options]
    open_ = [example for example in examples if not example.options]
    train = spaced([example for example in task.read(suite.data, "train") if example.options], suite.most)
    if closed:
        scored = evaluate_options(model, task, closed, result, progress=progress)
        if not scored.is_ranked:
            task_id = f"{task.name}/closed" if open_ else task.name
            add_plain(
                result,
                task_id,
                "majority",
                Scored(majority(train, closed), scored.probability, scored.groups, False),
                role="baseline",
            )
        elif task.name in {"icu-death", "heart-sound"}:
            val = spaced(task.read(suite.data, "val"), suite.most)
            for name, score in rivals(model, task, train=train, val=val, test=closed, progress=progress).items():
                add_rival(result, task.name, name, score, scored=scored)
            if task.name == "icu-death":
                add_rival(result, task.name, "SAPS-I", severity(suite.data, closed), scored=scored)
            else:
                _within_sites(result, task, closed, scored)
    if open_:
        _free(model, task, open_, train=list(task.read(suite.data, "train")), result=result, progress=progress)


def _within_sites(result: Result, task: Task, examples: Sequence[Example], scored: Scored) -> None:
    """Add the AUROC over pairs from one collection site: the site follows the label, so the plain AUROC flatters."""
    sites = np.array([site_number(example.subgroup.get("subset", "")) for example in examples])

    def within(truth: np.ndarray[Any, Any], both: np.ndarray[Any, Any]) -> float:
        site, score = np.floor(both), both - np.floor(both)
        parts = [
            (auroc(truth[site == one], score[site == one]), (truth[site == one] == 1).sum() * (truth[site == one] == 0).sum())
            for one in np.unique(site)
        ]
        known = [(value, pairs) for value, pairs in parts if np.isfinite(value)]
        return float(sum(value * pairs for value, pairs in known) / max(sum(pairs for _, pairs in known), 1))

    both = sites + np.clip(scored.probability, 0, 1 - 1e-9)
    found = bootstrap(within, scored.truth, both, scored.groups)
    result.add(task.name, "final", "salus", metric="auroc_within_site", found=found)


def site_number(word: str) -> float:
    """Return a whole number for a site's letter.

    Example:
        >>> site_number("b")
        98.0
    """
    return float(sum(ord(letter) for letter in word))


@torch.inference_mode()
def _free(
    model: SalusModel, task: Task, examples: Sequence[Example], *, train: Sequence[Example], result: Result, progress: Progress
) -> None:
    """Score open questions by normalised exact match of the greedy answer, with and without the image."""
    common = max(
        (normalised(example.answer) for example in train if not example.options),
        key=[normalised(e.answer) for e in train if not e.options].count,
    )
    outcomes: dict[str, list[bool]] = {"salus": [], "text only (no soft tokens)": [], "majority": []}
    for place, example in enumerate(examples):
        record = example.record()
        for name, modalities in (("salus", frozenset(task.modalities)), ("text only (no soft tokens)", frozenset[str]())):
            fused = model.fuse([model.prepare(record, modalities)])
            session = model.backbone.session(prompt.prefix(model.frame, fused.tokens[0][fused.mask[0]]))
            asked = prompt.words(model.frame, prompt.question_text(example.question, []))
            lines = [line.text for line in session.write(asked, [], max_new_tokens=FREE_TOKENS)]
            outcomes[name].append(normalised(lines[0] if lines else "") == normalised(example.answer))
        outcomes["majority"].append(normalised(example.answer) == common)
        progress(f"{task.name}/open", (place + 1) / len(examples))
    for name, right in outcomes.items():
        values = np.array([float(one) for one in right])
        found = bootstrap(accuracy, np.ones(len(values)), values, [example.subject_id for example in examples])
        role = {"salus": "final", "majority": "baseline"}.get(name, "ablation")
        result.add(f"{task.name}/open", role, name, metric="exact_match", found=found)  # type: ignore[arg-type]


def _spread(
    work: Callable[[Sequence[Example]], list[Any]], folder: Path, examples: Sequence[Example], workers: int, progress: Progress, words: str
) -> Iterator[Any]:
    """Yield results of `work` over chunks of examples, in order, from worker processes with one thread each."""
    chunks = [examples[start : start + 10] for start in range(0, len(examples), 10)]
    with ProcessPoolExecutor(
        workers, initializer=_open_worker, initargs=(folder,), mp_context=torch.multiprocessing.get_context("spawn")
    ) as pool:
        done = 0
        for found in pool.map(work, chunks):
            done += len(found)
            progress(words, done / len(examples))
            yield from found


_worker: dict[str, SalusModel] = {}


def _open_worker(folder: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    _worker["model"] = load_model(folder)


def _read_chunk(examples: Sequence[Example]) -> list[Read]:
    return [read_one(_worker["model"], example) for example in examples]


def _changes_chunk(examples: Sequence[Example]) -> list[dict[str, Any]]:
    return [changes_of(_worker["model"], example.record()) for example in examples]


def changes_of(model: SalusModel, record: PatientRecord) -> dict[str, Any]:
    """Return the answer to `what changed, what matters` in the form that `scripts/verify_changes.py` reads."""
    answer = ask(open_record(record, model), WHAT_CHANGED)
    seconds = clock(record)
    standing = [one for one in answer.statements if one.verification in {"verified", "mended"}]
    return {
        "subject_id": record.subject_id,
        "statements": [{"text": one.text, "item_ids": list(one.item_ids)} for one in standing],
        "items": [
            {"id": item.id, "code": item.code.code, "seconds": seconds.get(item.id), "value": item.value, "unit": item.unit}
            for item in record.items
        ],
    }


def interval_of(found: Interval) -> str:
    """Return an interval as people read it.

    Example:
        >>> interval_of(Interval(0.5, 0.4, 0.6, 10))
        '0.500 [0.400, 0.600], n = 10'
    """
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}], n = {found.n}"
