"""What solved cases beside a question change: the metric of tasks with options over 0, 1, 2, 4, 8 cases, similar or at random.

Takes a recipe, a model and the data folder; gives rows and curves. Cases come from `train`, questions from `val`, never from `test`. What
is scored is the prompt of `salus.in_context`. Every score is kept as soon as it is done, so a run that is stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from salus import registry
from salus.batch import LanguageExample, encoded_record, fused_batch
from salus.config import refuse_empty, refuse_outside
from salus.errors import ConfigError
from salus.evaluate.rows import Result, write_whole
from salus.evaluate.suite import within_site_auroc
from salus.in_context import FusedEmbedder, build_cases, tensors_hash, turns_of
from salus.metrics import Floats, Metric, accuracy, auroc, bootstrap, paired
from salus.model import SalusModel
from salus.pipeline import option_facts
from salus.reason import prompt
from salus.reason.backbone import Piece, Session
from salus.reason.cases import CaseIndex, Found, Wanted, person_keys
from salus.record.durable import locked
from salus.task import Example, Task

Progress = Callable[[str, float], None]
Way = Literal["similar", "similar, balanced", "random", "random, balanced"]
VOTERS = (8, 32)
"""Nearest cases whose answers vote, without the language model: the rival."""


@dataclass(frozen=True)
class ShotsTask:
    """How one task is asked."""

    questions: int
    """Most questions of `val`, drawn by the seed."""
    evenly: bool = False
    """Whether each answer is drawn equally often, which narrows the interval of a rank metric where one is rare."""


@dataclass(frozen=True)
class ShotsRecipe:
    """What is compared."""

    name: str
    seed: int
    shots: tuple[int, ...]
    """Numbers of cases; 0 is the reference."""
    ways: tuple[Way, ...]
    draws: int
    """Sets of random cases; each question is asked beside one of them."""
    tasks: Mapping[str, ShotsTask]
    model: str = ""
    """Model folder; empty: the base model that ships."""


@dataclass(frozen=True)
class Asked:
    """A question of `val`, ready to be asked beside any cases."""

    example: Example
    pieces: tuple[Piece, ...]
    """From the patient's soft tokens on."""
    query: Floats
    wanted: Wanted


@dataclass
class Bench:
    """Asks, and keeps what was scored."""

    model: SalusModel
    task: Task
    index: CaseIndex
    recipe: ShotsRecipe
    work: Path
    progress: Progress
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read what was scored before by the same model, index and questions."""
        own = [self.recipe.seed, self.recipe.draws, asdict(self.recipe.tasks[self.task.name])]
        made_of = [self.index.fingerprint, tensors_hash(self.model, ""), self.model.backbone.identity, own]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.path = self.work / f"{self.task.name}-{key}.json"
        self.scores = self._kept()

    def _kept(self) -> dict[str, list[list[float]]]:
        return cast(dict[str, list[list[float]]], json.loads(self.path.read_text("utf-8"))) if self.path.exists() else {}

    def _keep(self) -> None:
        """Add to the file what was scored; another bench of the same folder may have added too."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            self.scores = {**self._kept(), **self.scores}
            text = json.dumps(self.scores)
            write_whole(self.path, lambda stream: stream.write(text.encode()))

    def scored(self, way: Way, shots: int) -> list[list[float]]:
        """Return the log-probability of each option of each question."""
        name = f"{way}, {shots}" if shots else "0"
        if name not in self.scores:
            made, kept = [], dict[tuple[int, ...], Session]()
            for row, one in enumerate(self.asked):
                made.append(self._one(one, [each.place for each in self._cases(row, way, shots)], kept))
                self.progress(f"{self.task.name}: {name}", (row + 1) / len(self.asked))
            self.scores[name] = made
            self._keep()
        return self.scores[name]

    def _cases(self, row: int, way: Way, shots: int) -> list[Found]:
        """Return the cases of a question, nearest first; of random ones the larger sets hold the smaller."""
        one = self.asked[row]
        wanted = Wanted(one.wanted.question, one.wanted.options, shots, one.wanted.keys, balanced=way.endswith("balanced"))
        if not shots:
            return []
        if way.startswith("similar"):
            return self.index.nearest(one.query.astype(np.float32), wanted)
        return self.index.drawn(wanted, self.recipe.seed * 1000 + row % self.recipe.draws)

    def _one(self, one: Asked, places: Sequence[int], kept: dict[tuple[int, ...], Session]) -> list[float]:
        """Return one question's scores; cases that are shown beside several questions are read once."""
        key = tuple(places)
        session = kept.get(key)
        if session is None:
            turns = turns_of(self.model, self.index, places[::-1], frozenset(self.task.modalities))
            pieces = [piece for turn in turns for piece in prompt.turn_pieces(self.model.frame, turn)]
            before = [Piece(text=self.model.frame.before_record, is_frame=True), *pieces]
            session = self.model.backbone.session(before, uses_adapter=False)
            if len(kept) < self.recipe.draws:
                kept[key] = session
        return session.option_logprobs(one.pieces, one.example.options)

    def votes(self, most: int) -> Floats:
        """Return the share of the nearest cases that answer as the positive option, or for accuracy whether their majority is right."""
        shares = []
        for one in self.asked:
            wanted = Wanted(one.wanted.question, one.wanted.options, most, one.wanted.keys)
            answers = Counter(self.index.cases[each.place].answer for each in self.index.nearest(one.query.astype(np.float32), wanted))
            if self.is_ranked:
                shares.append(answers[cast(str, self.task.positive)] / answers.total())
            else:
                shares.append(float(max(sorted(answers), key=lambda answer: answers[answer]) == one.example.answer))
        return np.array(shares)

    @property
    def is_ranked(self) -> bool:
        """Whether the metric is the AUROC of the positive option; else it is accuracy."""
        return self.task.metric == "auroc" and self.task.positive is not None

    def headline(self, scores: Sequence[Sequence[float]]) -> Floats:
        """Return of each question the margin of the positive option, or whether the likeliest option is right."""
        values = []
        for one, row in zip(self.asked, scores, strict=True):
            options = list(one.example.options)
            if self.is_ranked:
                place = options.index(cast(str, self.task.positive))
                values.append(row[place] - max(score for at, score in enumerate(row) if at != place))
            else:
                values.append(float(options[int(np.argmax(row))] == one.example.answer))
        return np.array(values)


def questions_of(examples: Sequence[Example], wanted: ShotsTask, seed: int) -> list[Example]:
    """Return some examples with the commonest options, by the seed, in the order of the cohort.

    Raises:
        ConfigError: none has options.
    """
    with_options = [example for example in examples if example.options]
    if not with_options:
        raise ConfigError("Cannot compare numbers of cases: no example of the task has options. Take another task.")
    commonest = Counter(frozenset(one.options) for one in with_options).most_common(1)[0][0]
    alike = [example for example in with_options if frozenset(example.options) == commonest]
    order = list(range(len(alike)))
    random.Random(seed).shuffle(order)
    if wanted.evenly:
        room = dict.fromkeys(commonest, wanted.questions // len(commonest))
        kept = []
        for place in order:
            if room[alike[place].answer]:
                room[alike[place].answer] -= 1
                kept.append(place)
        order = kept
    return [alike[place] for place in sorted(order[: wanted.questions])]


@torch.inference_mode()
def asked_of(model: SalusModel, task: Task, examples: Sequence[Example], embedder: FusedEmbedder) -> list[Asked]:
    """Return questions with what the language model reads of their patients; one with nothing to compare is left out."""
    made = []
    for example in examples:
        record = example.record()
        encoded = encoded_record(model, model.prepare(record, frozenset(task.modalities)))
        query = embedder.embed([encoded])[0]
        if query.any():
            fused = fused_batch(model, [LanguageExample(encoded, (), ())])
            soft: Tensor = fused.tokens[0][fused.mask[0]]
            asked = prompt.question(model.frame, example.question, option_facts(record, example.question), example.options)
            pieces = (Piece(soft=soft), Piece(text=model.frame.after_record, is_frame=True), *asked)
            wanted = Wanted(example.question, example.options, 0, person_keys(record, (example.subject_id,)))
            made.append(Asked(example, pieces, query.astype(np.float64), wanted))
    return made


def add_task(bench: Bench, result: Result) -> None:
    """Add a task's rows: each way and number, its difference from no case, similar from random, and the rivals that only vote.

    Of random cases the AUROC is also given over pairs of patients beside the same cases: a shift that a set of cases gives to all answers
    is then no loss.
    """
    task_id, metric, label = bench.task.name, *_metric(bench)
    groups = tuple(one.example.subject_id for one in bench.asked)
    positive = bench.task.positive
    truth = np.array([float(one.example.answer == positive) for one in bench.asked]) if bench.is_ranked else np.ones(len(groups))
    seeds: dict[str, Any] = {"seeds": (bench.recipe.seed,)}
    none = bench.headline(bench.scored(bench.recipe.ways[0], 0))
    found = bootstrap(metric, truth, none, groups)
    result.add(task_id, "baseline", "0 cases", metric=label, found=found, **seeds)
    curves: dict[str, list[list[float]]] = {way: [[0, found.value, found.low, found.high]] for way in bench.recipe.ways}
    for shots in (number for number in bench.recipe.shots if number):
        values = {way: bench.headline(bench.scored(way, shots)) for way in bench.recipe.ways if _is_own(way, shots)}
        for way, score in values.items():
            found = bootstrap(metric, truth, score, groups)
            curves[way].append([shots, found.value, found.low, found.high])
            result.add(task_id, "candidate", f"{shots} cases, {way}", metric=label, found=found, **seeds)
            gap = paired(metric, truth, score, none, groups)
            result.add(task_id, "candidate", f"{shots} cases, {way}, minus 0 cases", metric=f"{label}_difference", found=gap, **seeds)
            if bench.is_ranked and way.startswith("random"):
                draw = np.arange(len(score)) % bench.recipe.draws
                tables = [np.column_stack([draw, each]) for each in (score, none)]
                words = f"{shots} cases, {way}, pairs beside the same cases"
                found = bootstrap(within_site_auroc, truth, tables[0], groups)
                result.add(task_id, "ablation", words, metric=label, found=found, **seeds)
                gap = paired(within_site_auroc, truth, tables[0], tables[1], groups)
                result.add(task_id, "ablation", f"{words}, minus 0 cases", metric=f"{label}_difference", found=gap, **seeds)
        for kind in ("", ", balanced"):
            if f"similar{kind}" in values and f"random{kind}" in values:
                gap = paired(metric, truth, values[cast(Way, f"similar{kind}")], values[cast(Way, f"random{kind}")], groups)
                words = f"{shots} cases, similar{kind} minus random{kind}"
                result.add(task_id, "candidate", words, metric=f"{label}_difference", found=gap, **seeds)
    for voters in VOTERS:
        words = f"vote of the {voters} nearest, no language model"
        result.add(task_id, "baseline", words, metric=label, found=bootstrap(metric, truth, bench.votes(voters), groups), **seeds)
    shares = {name: bench_share(bench, scores) for name, scores in bench.scores.items()}
    result.curves[task_id] = {"shots": {"metric": label, "lines": curves}}
    counted = Counter(one.example.answer for one in bench.asked)
    result.notes[task_id] = {
        "questions": dict(sorted(counted.items())),
        "cases": len(bench.index),
        "patients of the cases": bench.index.patients,
        "index": bench.index.fingerprint,
        "share of questions that get the answer given most": shares,
    }


def bench_share(bench: Bench, scores: Sequence[Sequence[float]]) -> float:
    """Return how often the option that is chosen most is chosen: 1 means that the patient no longer matters."""
    chosen = Counter(one.example.options[int(np.argmax(row))] for one, row in zip(bench.asked, scores, strict=True))
    return round(chosen.most_common(1)[0][1] / chosen.total(), 3)


def _metric(bench: Bench) -> tuple[Metric, str]:
    return (auroc, "auroc") if bench.is_ranked else (accuracy, "accuracy")


def _is_own(way: Way, shots: int) -> bool:
    """Return whether a way differs from its unbalanced twin: one case cannot be balanced."""
    return shots > 1 or not way.endswith("balanced")


def bench_shots(recipe: ShotsRecipe, model: SalusModel, data: Path, work: Path, *, progress: Progress) -> Result:
    """Ask what is not asked yet, and return the rows.

    Args:
        recipe: what is compared.
        model: asked.
        data: folder of the cohorts.
        work: folder of what is done already.
        progress: called with words and a share of 1.

    Raises:
        ConfigError: a list is empty, a number makes no sense, or a task has no plug-in, no data or no options.
        MissingExtra: FAISS is not installed.
    """
    refuse_empty(recipe, ("shots", "ways", "tasks"), f"recipe {recipe.name!r}")
    refuse_outside(recipe, {"draws": (1, inf)}, f"recipe {recipe.name!r}")
    if min(recipe.shots) < 0 or max(recipe.shots) == 0:
        raise ConfigError(f"Cannot use recipe {recipe.name!r}: shots is {list(recipe.shots)}. Give numbers of cases, such as [0, 1, 2].")
    for name, wanted in recipe.tasks.items():
        registry.load("salus.tasks", name)
        refuse_outside(wanted, {"questions": (2, inf)}, f"tasks.{name}")
    result, embedder = Result("val"), FusedEmbedder(model)
    for name, wanted in recipe.tasks.items():
        task = cast(Task, registry.load("salus.tasks", name))
        index = build_cases(model, task, task.read(data, "train"), embedder, progress=progress)
        bench = Bench(model, task, index, recipe, work, progress)
        bench.asked += asked_of(model, task, questions_of(task.read(data, "val"), wanted, recipe.seed), embedder)
        add_task(bench, result)
    return result
