"""Measures a model on its tasks and writes one self-contained result file and one page.

Order: options tasks in batches; free answers; record-reading and `what changed` one question at a time through the pipeline, spread
over worker processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from salus import registry
from salus.cohorts.free_answer import normalised
from salus.evaluate.baselines import SEEDS, majority, rivals
from salus.evaluate.options import TEXT_ONLY, Scored, add_rival, evaluate_options
from salus.evaluate.reading import Read, add_reading, read_one
from salus.evaluate.rows import Result, Role
from salus.metrics import Floats, accuracy, auroc, bootstrap
from salus.model import SalusModel, load_model
from salus.pipeline import ask, open_record
from salus.reason import prompt
from salus.record.patient import PatientRecord
from salus.record.timeline import clock
from salus.task import Example, Split, Task

Progress = Callable[[str, float], None]
Save = Callable[[Result, Sequence[Mapping[str, Any]]], None]
WHAT_CHANGED = "what-changed"
OVERVIEW = "What changed, what matters?"
WHAT_CHANGED_PATIENTS = 50
FREE_TOKENS = 16
FREE_ROLES: dict[str, Role] = {"salus": "candidate", TEXT_ONLY: "ablation", "majority": "baseline"}
"""The product gives no free answer about an image yet, so none is final."""
ALONE_EVERY = 4
"""One in so many record-reading questions is also put to the language model alone, which is the slowest part."""


@dataclass(frozen=True)
class Suite:
    """What to measure."""

    tasks: tuple[str, ...]
    """Names of task plug-ins, and `what-changed`."""
    split: Split
    data: Path
    workers: int
    most: int | None = None
    """Most examples per task, for a quick look; None: all."""


def evaluate(folder: Path, suite: Suite, *, save: Save, progress: Progress) -> None:
    """Measure a model folder, task by task.

    Args:
        folder: of the model.
        suite: what to measure.
        save: called after every task with all rows and curves so far, and the `what changed` answers for the independent verifier.
        progress: called with words and a share of 1.
    """
    result = Result(suite.split)
    changes: list[dict[str, Any]] = []
    model = load_model(folder)
    for name in suite.tasks:
        task = task_of(name)
        examples = spaced(task.read(suite.data, suite.split), suite.most)
        if name == WHAT_CHANGED:
            changes = list(_spread(_changes_chunk, folder, examples[:WHAT_CHANGED_PATIENTS], suite.workers, progress, name))
            add_verifications(result, changes)
        elif any(example.item_ids and not example.options for example in examples):  # the task knows where its answers stand
            add_reading(result, list(_spread(_read_chunk, folder, examples, suite.workers, progress, name)))
        else:
            _one_task(model, task, examples, suite, result, progress)
        save(result, changes)


def task_of(name: str) -> Task:
    """Return the task of a name; `what-changed` asks the patients of `icu-death` another question."""
    return cast(Task, registry.load("salus.tasks", "icu-death" if name == WHAT_CHANGED else name))


def add_verifications(result: Result, changes: Sequence[Mapping[str, Any]]) -> None:
    """Add how many statements of the overviews the model wrote itself, so that code does not take credit for the model."""
    kinds = [(change["subject_id"], one["verification"]) for change in changes for one in change["statements"]]
    for kind in ("verified", "mended", "added"):
        values = np.array([float(one == kind) for _, one in kinds])
        found = bootstrap(accuracy, np.ones(len(values)), values, [subject for subject, _ in kinds])
        result.add(WHAT_CHANGED, "final", "salus", metric=f"share_of_statements_{kind}", found=found)


def spaced(examples: Sequence[Example], most: int | None) -> list[Example]:
    """Return at most `most` examples, evenly spaced, so that every family and class is among them.

    Example:
        >>> spaced([0, 1, 2, 3, 4], 3)
        [0, 1, 3]
    """
    kept = len(examples) if most is None else min(most, len(examples))
    return [examples[place * len(examples) // kept] for place in range(kept)]


def _one_task(model: SalusModel, task: Task, examples: Sequence[Example], suite: Suite, result: Result, progress: Progress) -> None:
    closed = [example for example in examples if example.options]
    open_ = [example for example in examples if not example.options]
    train = [example for example in task.read(suite.data, "train") if example.options]
    if closed:
        task_id = f"{task.name}/closed" if open_ else task.name
        scored = evaluate_options(model, task, closed, result, task_id=task_id, progress=progress)
        if task.rivals:
            _add_rivals(result, task, closed, scored, _rivals(model, task, closed, suite, progress))
        else:
            common = np.zeros(len(closed)) if scored.is_ranked else majority(train, closed)
            add_rival(result, task_id, "majority", common, scored=scored, seeds=(), selected_on="none")
        if task.severity is not None:
            name, published = task.severity
            stated = np.array(published(suite.data, closed), dtype=np.float64)
            add_rival(result, task_id, name, stated, scored=scored, seeds=(), selected_on="none")
    if open_:
        _free(model, task, open_, train=list(task.read(suite.data, "train")), result=result, progress=progress)


def _rivals(model: SalusModel, task: Task, examples: Sequence[Example], suite: Suite, progress: Progress) -> dict[str, Floats]:
    """Return the scores of the rivals, none of them on rows that it was fitted on."""
    if suite.split == "train":
        return {}
    val = task.read(suite.data, "val") if suite.split == "test" else ()
    return rivals(model, task, train=task.read(suite.data, "train"), val=val, test=examples, progress=progress)


def _add_rivals(result: Result, task: Task, examples: Sequence[Example], scored: Scored, scores: Mapping[str, Floats]) -> None:
    """Add rivals; also within sites, where these follow the label and the plain AUROC flatters."""
    for name, score in scores.items():
        add_rival(result, task.name, name, score, scored=scored, seeds=SEEDS)
    if task.site is not None:
        sites = np.array([site_number(example.subgroup.get(task.site, "")) for example in examples])
        for name, score in {"salus": scored.probability, **scores}.items():
            found = bootstrap(within_site_auroc, scored.truth, np.column_stack([sites, score]), scored.groups)
            result.add(task.name, "final" if name == "salus" else "baseline", name, metric="auroc_within_site", found=found)


def within_site_auroc(truth: Floats, table: Floats) -> float:
    """Return the AUROC over pairs from one site.

    Args:
        truth: (n,) 0 or 1.
        table: (n, 1 + k) site, then the scores of k models; the mean over the models is returned.

    Example:
        >>> within_site_auroc(np.array([0.0, 1.0, 0.0, 1.0]), np.array([[1, 0.8], [1, 0.9], [2, 0.1], [2, 0.2]]))
        1.0
    """
    won, pairs = 0.0, 0.0
    for site in np.unique(table[:, 0]):
        rows = table[:, 0] == site
        weight = float((truth[rows] == 1).sum() * (truth[rows] == 0).sum())
        if weight:
            won += weight * float(np.mean([auroc(truth[rows], one) for one in table[rows, 1:].T]))
            pairs += weight
    return won / pairs if pairs else float("nan")


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
    """Score open questions by normalised exact match of the frozen model's greedy answer, with and without the image."""
    common = max(
        (normalised(example.answer) for example in train if not example.options),
        key=[normalised(e.answer) for e in train if not e.options].count,
    )
    outcomes: dict[str, list[bool]] = {name: [] for name in FREE_ROLES}
    for place, example in enumerate(examples):
        record = example.record()
        for name, modalities in (("salus", frozenset(task.modalities)), (TEXT_ONLY, frozenset[str]())):
            fused = model.fuse([model.prepare(record, modalities)])
            session = model.session(fused, uses_adapter=False)
            asked = prompt.words(model.frame, prompt.question_text(example.question, []))
            line = next(session.write(asked, [], max_new_tokens=FREE_TOKENS), None)
            outcomes[name].append(line is not None and normalised(line.text) == normalised(example.answer))
        outcomes["majority"].append(normalised(example.answer) == common)
        progress(f"{task.name}/open", (place + 1) / len(examples))
    for name, right in outcomes.items():
        values = np.array([float(one) for one in right])
        found = bootstrap(accuracy, np.ones(len(values)), values, [example.subject_id for example in examples])
        result.add(f"{task.name}/open", FREE_ROLES[name], name, metric="exact_match", found=found)


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
    return [read_one(_worker["model"], one, asks_alone=place % ALONE_EVERY == 0) for place, one in enumerate(examples)]


def _changes_chunk(examples: Sequence[Example]) -> list[dict[str, Any]]:
    return [changes_of(_worker["model"], example.record()) for example in examples]


def changes_of(model: SalusModel, record: PatientRecord) -> dict[str, Any]:
    """Return the answer to `what changed, what matters` in the form that `scripts/verify_changes.py` reads."""
    answer = ask(open_record(record, model), OVERVIEW)
    seconds = clock(record)
    standing = [one for one in answer.statements if one.is_standing]
    return {
        "subject_id": record.subject_id,
        "statements": [{"text": one.text, "item_ids": list(one.item_ids), "verification": one.verification} for one in standing],
        "items": [
            {"id": item.id, "code": item.code.code, "seconds": seconds.get(item.id), "value": item.value, "unit": item.unit}
            for item in record.items
        ],
    }
