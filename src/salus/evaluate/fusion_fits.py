"""The fits of the comparison of fusion strategies: each is run once, in as many processes as are wanted, and kept.

Takes a recipe and the data folder; gives probabilities. Every fit is kept as soon as it is done, by data, code and settings, so a run that
is stopped goes on. What chooses is `val`, or folds of `train` and `val` where that is too small.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salus import classifiers, fuse
from salus.classifiers import out_of_fold
from salus.errors import MissingExtra
from salus.evaluate import fusion_rivals, fusion_route, mogonet
from salus.evaluate.fusion_rivals import rival
from salus.evaluate.fusion_route import OptionReader, RouteBudget, fit_route
from salus.evaluate.fusion_tasks import Progress, features_key, fusion_task, kept_sets
from salus.evaluate.rows import file_hash
from salus.fuse.fit import Budget, fit_members
from salus.fuse.token_sets import TokenSets, standardised
from salus.model import build_backbone
from salus.task import Classifier

FOLD_REPEATS = 1
Modalities = tuple[str, ...]
Probabilities = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class TaskRecipe:
    """How one task is compared."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of every strategy."""
    budget: Budget = field(default_factory=Budget)
    rivals: tuple[str, ...] = ()
    """Classifiers of the features side by side, and others (`salus.evaluate.fusion_rivals`)."""
    systems: tuple[str, ...] = ()
    """Rivals that are slow, and measured where the finalists are alone."""
    teacher: Classifier | None = None
    """A classifier of the features side by side whose out-of-fold probabilities every strategy learns from, beside the answers."""
    teacher_weight: float = 0.7
    """Its share in what is wanted."""
    route: RouteBudget | None = None
    """Of the finalists' way through the language model; None: heads alone are compared."""


@dataclass(frozen=True)
class FusionRecipe:
    """What is compared."""

    name: str
    seeds: tuple[int, ...]
    strategies: tuple[str, ...]
    tasks: Mapping[str, TaskRecipe]
    backbone: str = "embedded"
    """The language model of the route: `embedded`, a folder or a hub id."""
    route_seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Fit:
    """One thing to fit: a strategy on some modalities, its route through the language model, or a rival, with a seed."""

    task: str
    model: str
    """`strategy`, `route` or `rival`, a space, and its name."""
    modalities: Modalities
    seed: int
    part: str
    """`val`: fitted on `train`; `folds`: out of fold over `train` and `val`; `test`: fitted on `train` and `val`;
    `test of train`: scored on `test`, fitted on `train` alone."""


@dataclass(frozen=True)
class Done:
    """What a fit gave."""

    answers: dict[str, Any]
    """Subset of the modalities that were shown, joined by ` + ` → (n, O) probabilities; the whole set comes first."""
    parameters: int
    seconds: float
    """Of the processor."""
    memory_mb: float = 0.0
    """That the fit took on top of what the process held before, at its peak; 0 where the system does not say."""


class Bench:
    """Runs fits, keeps them, and makes the rows."""

    def __init__(self, recipe: FusionRecipe, data: Path, work: Path, progress: Progress) -> None:
        self.recipe, self.data, self.work, self.progress = recipe, data, work, progress
        self.fitted = 0
        self.hours: dict[tuple[str, Path], float] = {}
        """Of the processor, by task and kept fit."""
        sources = sorted(Path(fuse.__path__[0]).glob("*.py"))
        self.code = hashlib.sha256("".join(map(file_hash, sources)).encode()).hexdigest()
        """Of the strategies: other code, other fits."""
        self._reader: dict[tuple[str, ...], OptionReader] = {}
        self._keys: dict[str, str] = {}
        self._sets: dict[str, dict[str, TokenSets]] = {}

    def sets(self, name: str, *, reads_test: bool = False) -> dict[str, TokenSets]:
        """Return a task's token sets; `pool` is `train` and `val`, and `test` is not read before somebody asks for it."""
        folder = self.work / "features"
        if name not in self._sets:
            found = kept_sets(name, self.data, folder, ("train", "val"), self.progress)
            self._sets[name] = {"pool": found["train"].joined(found["val"]), **dict(found.items())}
        if reads_test and "test" not in self._sets[name]:
            self._sets[name] |= dict(kept_sets(name, self.data, folder, ("test",), self.progress).items())
        return self._sets[name]

    def _features(self, name: str) -> str:
        if name not in self._keys:
            self._keys[name] = features_key(name, self.data)
        return self._keys[name]

    def _path(self, wanted: Fit) -> Path:
        own = asdict(self.recipe.tasks[wanted.task])
        route, _ = own.pop("route"), own.pop("systems")
        made_of: list[Any] = [asdict(wanted), self._features(wanted.task)]
        kind, _, name = wanted.model.partition(" ")
        if kind != "rival":
            made_of += [{**own, "rivals": ()}, self.code]
        elif name in fusion_rivals.SYSTEMS:
            made_of += [file_hash(Path(str(one.__file__))) for one in (fusion_rivals, mogonet)]
        if kind == "route":
            made_of += [route, self.recipe.backbone, file_hash(Path(fusion_route.__file__))]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:20]
        return self.work / "fits" / f"{key}.npz"

    def done(self, wanted: Fit) -> Done:
        """Return what a fit gave, from the folder where it was kept before; else run it."""
        path = self._path(wanted)
        if not path.exists():
            self.run(wanted)
            self.fitted += 1
        with np.load(path, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            answers = {name: found[f"answers/{place}"] for place, name in enumerate(about["shown"])}
            self.hours[wanted.task, path] = about["seconds"] / 3600
            return Done(answers, about["parameters"], about["seconds"], about.get("memory_mb", 0.0))

    def run(self, wanted: Fit) -> None:
        """Run a fit and keep what it gave, whole or not at all."""
        began, held = time.process_time(), _memory_anew()
        answers, parameters = self._run(wanted)
        memory_mb = max(0.0, _memory_mb("VmHWM") - held)
        path = self._path(wanted)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"shown": list(answers), "parameters": parameters, "seconds": time.process_time() - began, "memory_mb": memory_mb}
        about |= asdict(wanted)
        part = path.with_name(f".{path.name}.{multiprocessing.current_process().pid}.part")
        with part.open("wb") as stream:
            arrays = {f"answers/{at}": one for at, one in enumerate(answers.values())}
            np.savez_compressed(stream, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        part.replace(path)

    def run_all(self, wanted: Sequence[Fit], words: str, jobs: int) -> None:
        """Run the fits that are not done yet, in some processes at once."""
        left = [one for one in dict.fromkeys(wanted) if not self._path(one).exists()]
        if jobs == 1 or len(left) < 2:
            for place, one in enumerate(left):
                self.progress(f"{words}: fit {place + 1} of {len(left)}", place / len(left))
                self.done(one)
            return
        for name in {one.task for one in left}:  # made once, here, and read by all
            self.sets(name, reads_test=any(one.part.startswith("test") for one in left if one.task == name))
        apart = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=apart, initializer=_prepare, initargs=(self.recipe, self.data, self.work)) as pool:
            running = [pool.submit(_run_apart, one) for one in left]
            try:
                for place, future in enumerate(as_completed(running), start=1):
                    future.result()
                    self.fitted += 1
                    self.progress(f"{words}: fit {place} of {len(left)}", place / len(left))
            except BaseException:  # stopped, or a fit failed: leave nothing running
                pool.shutdown(wait=False, cancel_futures=True)
                for child in multiprocessing.active_children():
                    child.terminate()
                raise

    def _run(self, wanted: Fit) -> tuple[Probabilities, int]:
        is_test = wanted.part.startswith("test")
        sets = self.sets(wanted.task, reads_test=is_test)
        if wanted.part == "folds":
            return self._out_of_fold(wanted, sets["pool"])
        return self._scored(wanted, sets["pool" if wanted.part == "test" else "train"], sets["test" if is_test else "val"])

    def _out_of_fold(self, wanted: Fit, pool: TokenSets) -> tuple[Probabilities, int]:
        try:
            from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
        except ImportError:
            raise MissingExtra("compare strategies by folds", "train") from None
        task = fusion_task(wanted.task)
        answers: Probabilities = {}
        parameters = 0
        for repeat in range(FOLD_REPEATS):
            alone = len(set(pool.groups)) == len(pool)
            kind = StratifiedKFold if alone else StratifiedGroupKFold
            folds = kind(task.folds, shuffle=True, random_state=100 * wanted.seed + repeat)
            for rows, left in folds.split(np.zeros(len(pool)), pool.answers, None if alone else pool.groups):
                made, parameters = self._scored(wanted, pool.take(rows), pool.take(left))
                for name, one in made.items():
                    whole = answers.setdefault(name, np.zeros((len(pool), one.shape[1])))
                    whole[left] += one / FOLD_REPEATS
        return answers, parameters

    def _scored(self, wanted: Fit, fitted: TokenSets, scored: TokenSets) -> tuple[Probabilities, int]:
        kind, _, name = wanted.model.partition(" ")
        options = len(fusion_task(wanted.task).options)
        fitted, scored = fitted.only(wanted.modalities), scored.only(wanted.modalities)
        whole = " + ".join(wanted.modalities)
        if kind == "rival":
            return {whole: rival(name, fitted, scored, wanted.seed)}, 0
        own = self.recipe.tasks[wanted.task]
        fitted, scored = standardised(self._taught(wanted.task, fitted), scored)
        if kind == "route":
            assert own.route is not None
            reader = self._read_by(fusion_task(wanted.task).options)
            routed = fit_route(reader, fitted, {**own.settings, "strategy": name}, own.budget, own.route, seed=wanted.seed)
            return {whole: routed.probabilities(scored)}, routed.parameters
        made = fit_members(fitted, {**own.settings, "strategy": name}, own.budget, options=options, seed=wanted.seed)
        answers = {whole: made.probabilities(scored)}
        for shown in subsets(wanted.modalities):
            if shown != wanted.modalities:
                hidden = [each for each in wanted.modalities if each not in shown]
                answers[" + ".join(shown)] = made.probabilities(scored.without(hidden))
        return answers, made.parameters

    def _taught(self, name: str, fitted: TokenSets) -> TokenSets:
        """Return patients to fit on with what their task's teacher says of them; it is asked once, and its answers are kept."""
        own, options = self.recipe.tasks[name], len(fusion_task(name).options)
        if own.teacher is None:
            return fitted
        made_of = [self._features(name), own.teacher, *fitted.modalities, *fitted.groups, file_hash(Path(str(classifiers.__file__)))]
        path = self.work / "teachers" / f"{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]}.npy"
        if not path.exists():
            said = out_of_fold(fitted.flat(), fitted.answers, own.teacher, seed=0, groups=fitted.groups, runs=1)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{multiprocessing.current_process().pid}.part")
            with part.open("wb") as stream:
                np.save(stream, said)
            part.replace(path)
        right = np.eye(options)[fitted.answers]
        mixed = own.teacher_weight * np.load(path, allow_pickle=False) + (1 - own.teacher_weight) * right
        return replace(fitted, wanted=mixed.astype(np.float32))

    def _read_by(self, options: tuple[str, ...]) -> OptionReader:
        if options not in self._reader:
            self._reader[options] = OptionReader(build_backbone(self.recipe.backbone), options)
        return self._reader[options]


def _memory_anew() -> float:
    """Let the peak of this process's memory begin anew, and return what it holds now, MB; 0 where the system cannot.

    Source: proc(5), `/proc/pid/clear_refs`, value 5.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return math.inf
    return _memory_mb("VmRSS")


def _memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


_APART: list[Bench] = []
"""The bench of a process that runs fits for another."""


def _quiet(_words: str, _share: float) -> None:
    """Say nothing: the process that started this one shows how far all are."""


def _prepare(recipe: FusionRecipe, data: Path, work: Path) -> None:
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _APART.append(Bench(recipe, data, work, _quiet))


def _end_with(parent: Any) -> None:
    """End this process as soon as the one that started it has ended, however it did."""
    parent.join()
    os._exit(1)


def _run_apart(wanted: Fit) -> None:
    _APART[0].run(wanted)


def subsets(names: Modalities) -> Iterator[Modalities]:
    """Yield the subsets that are not empty, small ones first, in the order of the names.

    Example:
        >>> list(subsets(("a", "b")))
        [('a',), ('b',), ('a', 'b')]
    """
    return chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1))
