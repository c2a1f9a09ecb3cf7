"""Measures alignment: every loss, with and without hard negatives and knowledge, beside a linear baseline and chance, on the same patients.

Takes a recipe and the data folder; gives rows. Every fit is kept as soon as it is done, so a run that is stopped goes on. Choosing uses
folds of `train` and `val`, by patient; `test` is read on demand, for what was chosen and the baseline alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salus.config import refuse_empty, refuse_outside, settings_from
from salus.errors import ConfigError
from salus.evaluate.alignment_sets import BaseModel, joined_rows, kept_pair_sets, kept_prompts, sets_key
from salus.evaluate.alignment_tasks import Progress, alignment_task
from salus.evaluate.rows import file_hash, write_whole
from salus.fuse import align
from salus.fuse.align.aligner import Aligner, AlignerConfig
from salus.fuse.align.fit import AlignBudget, AlignLoss, Pair, fit_aligner
from salus.fuse.align.pairs import PairSets, search_of
from salus.fuse.align.retrieval import Ranked, ranked
from salus.fuse.align.zero_shot import zero_shot

OF_ALIGNER = {"sphere": (1, inf), "hidden": (0, 0), "components": (1, inf), "ridge": (0, inf), "dropout": (0, 0.99), "noise": (0, inf)}
"""Limits; projectors that start where pairs correlate are linear."""
OF_BUDGET = {"steps": (1, inf), "batch_size": (2, inf), "chunk": (1, inf), "lr": (1e-9, inf), "weight_decay": (0, inf)}
FIELDS = ("above", "tied", "best", "right", "gallery")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class AlignTaskRecipe:
    """How one task is measured."""

    aligner: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the projectors."""
    budget: AlignBudget = field(default_factory=AlignBudget)


@dataclass(frozen=True)
class AlignmentRecipe:
    """What is measured."""

    name: str
    seeds: tuple[int, ...]
    tasks: Mapping[str, AlignTaskRecipe]
    folds: int = 5
    hardness: float = 3.0
    """Where hard negatives are used."""
    knowledge_share: float = 0.3
    """Where knowledge is used: weight of its positives."""


@dataclass(frozen=True)
class AlignFit:
    """One thing to fit."""

    task: str
    trained: tuple[Pair, ...]
    """Pairs that are pulled together."""
    searched: tuple[Pair, ...]
    """Pairs that are searched, both ways; binding searches one that was not trained."""
    loss: AlignLoss
    start: str = "correlated"
    is_baseline: bool = False
    """No step is taken: canonical correlations."""
    seed: int = 0
    part: str = "folds"
    """`folds`: out of fold over `train` and `val`; `val`: fitted on `train`; `test`: fitted on both."""

    @property
    def words(self) -> str:
        """How it was fitted."""
        extra = [" random start"] if self.start == "random" else []
        extra += [" hard negatives"] if self.loss.hardness else []
        extra += [" knowledge"] if self.loss.knowledge_share else []
        return "canonical correlations" if self.is_baseline else " +".join([self.loss.kind, *extra])


@dataclass(frozen=True)
class AlignDone:
    """What a fit gave."""

    arrays: Arrays
    """`query>gallery/` and `rows` or a field of `Ranked`; `zero/` `rows`, `probabilities`."""
    seconds: float
    parameters: int

    def found(self, query: str, gallery: str) -> tuple[NDArray[np.int64], Ranked]:
        """Return the rows of the queries, and where their right answers stand."""
        at = f"{query}>{gallery}"
        return self.arrays[f"{at}/rows"], Ranked(*(self.arrays[f"{at}/{name}"] for name in FIELDS))


class AlignBench:
    """Runs fits and keeps them."""

    def __init__(self, recipe: AlignmentRecipe, data: Path, work: Path, *, model: BaseModel, progress: Progress) -> None:
        self.recipe, self.data, self.work, self.model, self.progress = recipe, data, work, model, progress
        self.fitted = 0
        folder = Path(align.__path__[0])
        sources = [*sorted(folder.glob("*.py")), folder / "knowledge.yaml", Path(__file__), folder.parent / "token_sets.py"]
        self.code = hashlib.sha256("".join(map(file_hash, sources)).encode()).hexdigest()
        """Other code, other fits."""
        self._keys: dict[str, str] = {}
        self._rows: dict[str, dict[str, PairSets]] = {}

    def rows(self, name: str, *, reads_test: bool = False) -> dict[str, PairSets]:
        """Return a task's rows; `pool` is `train` and `val`, and `test` is not read before somebody asks for it."""
        folder = self.work / "features"
        if name not in self._rows:
            found = kept_pair_sets(name, self.data, folder, ("train", "val"), model=self.model, progress=self.progress)
            self._rows[name] = {"pool": joined_rows(found["train"], found["val"]), **dict(found.items())}
        if reads_test and "test" not in self._rows[name]:
            self._rows[name] |= dict(kept_pair_sets(name, self.data, folder, ("test",), model=self.model, progress=self.progress).items())
        return self._rows[name]

    def scored_rows(self, name: str, part: str) -> PairSets:
        """Return the rows that a part scores."""
        return self.rows(name, reads_test=part == "test")["pool" if part == "folds" else part]

    def done(self, wanted: AlignFit) -> AlignDone:
        """Return what a fit gave, from the folder where it was kept before; else run it."""
        if wanted.task not in self._keys:
            self._keys[wanted.task] = sets_key(wanted.task, self.data, self.model)
        made_of = [asdict(wanted), asdict(self.recipe.tasks[wanted.task]), self.recipe.folds, self._keys[wanted.task], self.code]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:20]
        path = self.work / "fits" / f"{key}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as found:
                about = json.loads(str(found["about"]))
                return AlignDone({name: found[name] for name in found.files if name != "about"}, about["seconds"], about["parameters"])
        began = time.process_time()
        arrays, parameters = self._run(wanted)
        made = AlignDone(arrays, time.process_time() - began, parameters)
        self.fitted += 1
        about = np.array(json.dumps({"seconds": made.seconds, "parameters": parameters, **asdict(wanted)}))
        write_whole(path, lambda stream: np.savez_compressed(stream, about=about, **arrays))  # type: ignore[arg-type]
        return made

    def _run(self, wanted: AlignFit) -> tuple[Arrays, int]:
        every = self.rows(wanted.task, reads_test=wanted.part == "test")
        if wanted.part != "folds":
            return self._scored(wanted, every["pool" if wanted.part == "test" else "train"], every[wanted.part])
        pool, collected, parameters = every["pool"], list[Arrays](), 0
        for fitted, left in folds_by_group(pool.sets.groups, self.recipe.folds):
            arrays, parameters = self._scored(wanted, pool.take(fitted), pool.take(left))
            collected.append({name: left[one] if name.endswith("rows") else one for name, one in arrays.items()})
        return {name: np.concatenate([each[name] for each in collected]) for name in collected[0]}, parameters

    def _scored(self, wanted: AlignFit, fitted: PairSets, scored: PairSets) -> tuple[Arrays, int]:
        own, task = self.recipe.tasks[wanted.task], alignment_task(wanted.task)
        names = list(dict.fromkeys(name for pair in wanted.trained for name in pair))
        widths = {name: fitted.sets.modalities[name].values.shape[2] for name in names}
        config = settings_from(AlignerConfig, {**own.aligner, "widths": widths, "start": wanted.start}, "aligner")
        budget = replace(own.budget, steps=0) if wanted.is_baseline else own.budget
        made = fit_aligner(fitted, wanted.trained, config, loss=wanted.loss, budget=budget, seed=wanted.seed)
        arrays: Arrays = {}
        for first, second in wanted.searched:
            for query, gallery in ((first, second), (second, first)):
                rows, found = searched(made.aligner, scored, query, gallery)
                arrays |= {f"{query}>{gallery}/{name}": getattr(found, name) for name in FIELDS}
                arrays[f"{query}>{gallery}/rows"] = rows
        words = task.zero_shot
        if words is not None and {words.modality, words.text} <= set(names):
            tokens = scored.sets.modalities[words.modality]
            prompts = kept_prompts(words, self.work / "features")
            asked: dict[str, Any] = {"text": words.text, "prompts": prompts, "scale": made.scale}
            arrays["zero/probabilities"] = zero_shot(made.aligner, words.modality, tokens, **asked)
            arrays["zero/rows"] = np.arange(len(scored))
        return arrays, sum(one.numel() for one in made.aligner.parameters())


def searched(aligner: Aligner, rows: PairSets, query: str, gallery: str) -> tuple[NDArray[np.int64], Ranked]:
    """Return the rows of the queries of one modality, and where the right answers in another stand."""
    search = search_of(rows, query, gallery)
    first = aligner.embed(query, rows.sets.take(search.queries).modalities[query])
    second = aligner.embed(gallery, rows.sets.take(search.gallery).modalities[gallery])
    return search.queries, ranked(first @ second.T, search.is_right)


def folds_by_group(groups: Sequence[str], folds: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (fitted, left out) rows of each fold; a patient is in one fold, the same folds for every seed and loss.

    Raises:
        ConfigError: there are more folds than patients.

    Example:
        >>> [left.tolist() for _, left in folds_by_group(["a", "b", "a"], 2)]
        [[0, 2], [1]]
    """
    names = np.random.default_rng(0).permutation(np.unique(groups))
    if folds > len(names):
        raise ConfigError(f"Cannot make {folds} folds of {len(names)} patients. Set folds to {len(names)} at most.")
    made = []
    for part in np.array_split(names, folds):
        is_left = np.isin(groups, part)
        made.append((np.flatnonzero(~is_left), np.flatnonzero(is_left)))
    return made


def setups_of(task_name: str) -> list[tuple[str, tuple[Pair, ...], tuple[Pair, ...]]]:
    """Return what is trained and searched on a task: (words, trained pairs, searched pairs).

    Example:
        >>> [words for words, _, _ in setups_of("omics")][1]
        'bound by gene_expression'
    """
    task = alignment_task(task_name)
    made: list[tuple[str, tuple[Pair, ...], tuple[Pair, ...]]] = [("", task.pairs, task.pairs)]
    for anchor in task.anchors:
        left = [name for name in task.anchors if name != anchor]
        made.append((f"bound by {anchor}", tuple((anchor, name) for name in left), ((left[0], left[1]),)))
    return made


def refuse_unfit(recipe: AlignmentRecipe) -> None:
    """Refuse a recipe that could not be run to its end, before the first fit.

    Raises:
        ConfigError: a list is empty, a task or setting is unknown, or a number makes no sense.
    """
    refuse_empty(recipe, ("seeds", "tasks"), f"recipe {recipe.name!r}")
    refuse_outside(recipe, {"folds": (2, inf), "hardness": (0, inf), "knowledge_share": (0, 1)}, f"recipe {recipe.name!r}")
    for name, own in recipe.tasks.items():
        where = f"tasks.{name}"
        task = alignment_task(name)
        if taken := {"widths", "start"} & set(own.aligner):
            raise ConfigError(f"Cannot use {where}.aligner: {sorted(taken)[0]!r} is what is compared. Leave it out.")
        config = settings_from(AlignerConfig, {**own.aligner, "widths": dict.fromkeys(task.modalities, 1)}, f"{where}.aligner")
        refuse_outside(config, OF_ALIGNER, f"{where}.aligner")
        refuse_outside(own.budget, OF_BUDGET, f"{where}.budget")


def one_thread() -> None:
    """Use one thread: networks this small are slower with more."""
    torch.set_num_threads(1)
