"""Compares fusion strategies: every strategy, modality alone and rival on the same patients, with equal budgets and several seeds.

Takes a recipe and the data folder; gives one results file and its page. Every fit is kept as soon as it is done, so a run that is stopped
goes on. Choosing uses `val` (or folds of `train` and `val` where that is too small); `test` is read on demand, for the finalists alone: the
two strategies of each task that were best, the best modality alone, and the rivals.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salus import fuse, registry
from salus.classifiers import build_classifier
from salus.errors import MissingExtra
from salus.evaluate.fusion_tasks import FusionTask, Progress, features_key, fusion_task, kept_sets
from salus.evaluate.rows import Result, file_hash
from salus.fuse.fit import Budget, fit
from salus.fuse.token_sets import Tokens, TokenSets, standardised
from salus.metrics import Floats, auroc, bootstrap, calibration_error, paired
from salus.task import Classifier

FOLD_REPEATS = 2
FINALISTS = 2
Modalities = tuple[str, ...]
Probabilities = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class TaskRecipe:
    """How one task is compared."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of every strategy."""
    budget: Budget = field(default_factory=Budget)
    rivals: tuple[str, ...] = ()
    """Classifiers of the features side by side."""


@dataclass(frozen=True)
class FusionRecipe:
    """What is compared."""

    name: str
    seeds: tuple[int, ...]
    strategies: tuple[str, ...]
    tasks: Mapping[str, TaskRecipe]


@dataclass(frozen=True)
class Fit:
    """One thing to fit: a strategy on some modalities, or a rival, with a seed."""

    task: str
    model: str
    """`strategy` or `rival`, a space, and its name."""
    modalities: Modalities
    seed: int
    part: str
    """`val`: fitted on `train`; `folds`: out of fold over `train` and `val`; `test`: fitted on `train` (and on `val` where folds chose)."""

    @property
    def words(self) -> str:
        """What is shown."""
        return f"{self.model}, {' + '.join(self.modalities)}"


@dataclass(frozen=True)
class Done:
    """What a fit gave."""

    answers: dict[str, Any]
    """Subset of the modalities that were shown, joined by ` + ` → (n, O) probabilities; the whole set comes first."""
    parameters: int
    seconds: float


class Bench:
    """Runs fits, keeps them, and makes the rows."""

    def __init__(self, recipe: FusionRecipe, data: Path, work: Path, progress: Progress) -> None:
        self.recipe, self.data, self.work, self.progress = recipe, data, work, progress
        self.fitted = 0
        sources = sorted(Path(fuse.__path__[0]).glob("*.py"))
        self.code = hashlib.sha256("".join(map(file_hash, sources)).encode()).hexdigest()
        """Of the strategies: other code, other fits."""
        self._keys: dict[str, str] = {}
        self._sets: dict[str, dict[str, TokenSets]] = {}

    def sets(self, name: str, *, reads_test: bool = False) -> dict[str, TokenSets]:
        """Return a task's token sets; `pool` is `train` and `val`, and `test` is not read before somebody asks for it."""
        folder = self.work / "features"
        if name not in self._sets:
            found = kept_sets(name, self.data, folder, ("train", "val"), self.progress)
            self._sets[name] = {"pool": joined(found["train"], found["val"]), **dict(found.items())}
        if reads_test and "test" not in self._sets[name]:
            self._sets[name] |= dict(kept_sets(name, self.data, folder, ("test",), self.progress).items())
        return self._sets[name]

    def _features(self, name: str) -> str:
        if name not in self._keys:
            self._keys[name] = features_key(name, self.data)
        return self._keys[name]

    def done(self, wanted: Fit) -> Done:
        """Return what a fit gave, from the folder where it was kept before; else run it."""
        settings = asdict(self.recipe.tasks[wanted.task])
        made_of = [asdict(wanted), settings, self._features(wanted.task), self.code]
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:20]
        path = self.work / "fits" / f"{key}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as found:
                about = json.loads(str(found["about"]))
                answers = {name: found[f"answers/{place}"] for place, name in enumerate(about["shown"])}
                return Done(answers, about["parameters"], about["seconds"])
        began = time.perf_counter()
        answers, parameters = self._run(wanted)
        made = Done(answers, parameters, time.perf_counter() - began)
        self.fitted += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"shown": list(answers), "parameters": parameters, "seconds": made.seconds, **asdict(wanted)}
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as stream:
            arrays = {f"answers/{at}": one for at, one in enumerate(answers.values())}
            np.savez_compressed(stream, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        part.replace(path)
        return made

    def _run(self, wanted: Fit) -> tuple[Probabilities, int]:
        sets = self.sets(wanted.task, reads_test=wanted.part == "test")
        if wanted.part == "folds":
            return self._out_of_fold(wanted, sets["pool"])
        task = fusion_task(wanted.task)
        return self._scored(wanted, sets["pool" if task.folds and wanted.part == "test" else "train"], sets[wanted.part])

    def _out_of_fold(self, wanted: Fit, pool: TokenSets) -> tuple[Probabilities, int]:
        try:
            from sklearn.model_selection import StratifiedKFold
        except ImportError:
            raise MissingExtra("compare strategies by folds", "train") from None
        task = fusion_task(wanted.task)
        answers: Probabilities = {}
        parameters = 0
        for repeat in range(FOLD_REPEATS):
            folds = StratifiedKFold(task.folds, shuffle=True, random_state=100 * wanted.seed + repeat)
            for rows, left in folds.split(np.zeros(len(pool)), pool.answers):
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
            classifier: Classifier = name  # type: ignore[assignment]
            tables = fitted.flat(), scored.flat()
            varied = np.isfinite(tables[0]).any(0)
            model = build_classifier(classifier, wanted.seed).fit(tables[0][:, varied], fitted.answers)
            return {whole: model.predict_proba(tables[1][:, varied])}, 0
        own = self.recipe.tasks[wanted.task]
        fitted, scored = standardised(fitted, scored)
        made = fit(fitted, {**own.settings, "strategy": name}, own.budget, options=options, seed=wanted.seed)
        answers = {whole: made.probabilities(scored)}
        for shown in subsets(wanted.modalities):
            if shown != wanted.modalities:
                hidden = [each for each in wanted.modalities if each not in shown]
                answers[" + ".join(shown)] = made.probabilities(scored.without(hidden))
        return answers, made.parameters


def subsets(names: Modalities) -> Iterator[Modalities]:
    """Yield the subsets that are not empty, small ones first, in the order of the names.

    Example:
        >>> list(subsets(("a", "b")))
        [('a',), ('b',), ('a', 'b')]
    """
    return chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1))


def joined(first: TokenSets, second: TokenSets) -> TokenSets:
    """Return the patients of both."""
    sets = {}
    for name, one in first.modalities.items():
        other = second.modalities[name]
        values, mask = np.concatenate([one.values, other.values]), np.concatenate([one.mask, other.mask])
        sets[name] = Tokens(values, mask, np.concatenate([one.time_s, other.time_s]))
    return TokenSets(sets, np.concatenate([first.answers, second.answers]), (*first.groups, *second.groups))


def shapley(names: Modalities, worth: Callable[[Modalities], float]) -> dict[str, float]:
    """Return the Shapley value of each modality: its mean gain over all orders in which they may join.

    Args:
        names: the modalities.
        worth: of a subset, the empty one too.

    Source: Shapley 1953; for modalities, Soenksen et al. 2022 (npj Digital Medicine 5:149).

    Example:
        >>> shapley(("a", "b"), lambda shown: {(): 0.5, ("a",): 0.7, ("b",): 0.6, ("a", "b"): 0.8}[shown])
        {'a': 0.2, 'b': 0.1}
    """
    values = {}
    for name in names:
        others = tuple(each for each in names if each != name)
        total = 0.0
        for shown in chain([()], subsets(others)):
            with_it = tuple(each for each in names if each == name or each in shown)
            total += (worth(with_it) - worth(shown)) / (len(names) * comb(len(others), len(shown)))
        values[name] = round(total, 10)
    return values


def mean_auroc(truth: Floats, scores: Floats) -> float:
    """Return the mean AUROC of the columns of (n, k) scores."""
    return float(np.mean([auroc(truth, one) for one in scores.T]))


def mean_accuracy(truth: Floats, scores: Floats) -> float:
    """Return the mean accuracy of the columns of (n, k) probabilities of 1."""
    return float(np.mean((scores > 0.5) == (truth[:, None] > 0.5)))


def mean_calibration(truth: Floats, scores: Floats) -> float:
    """Return the mean calibration error of the columns of (n, k) probabilities of 1."""
    return float(np.mean([calibration_error(truth, one) for one in scores.T]))


METRICS = {"auroc": mean_auroc, "accuracy": mean_accuracy, "calibration_error": mean_calibration}


class Comparison:
    """The rows of one task."""

    def __init__(self, bench: Bench, task: FusionTask) -> None:
        self.bench, self.task = bench, task
        self.own = bench.recipe.tasks[task.name]
        self.seeds = bench.recipe.seeds
        self.part = "folds" if task.folds else "val"
        self.whole = tuple(task.modalities)
        self.fits: list[tuple[str, Modalities]] = [(f"strategy {name}", self.whole) for name in bench.recipe.strategies]
        self.fits += [("strategy concat", (name,)) for name in self.whole]
        if len(self.whole) > 2:
            self.fits += [("strategy concat", tuple(each for each in self.whole if each != name)) for name in self.whole]
        self.fits += [(f"rival {name}", self.whole) for name in self.own.rivals]

    def scores(self, model: str, modalities: Modalities, part: str, shown: Modalities | None = None) -> NDArray[np.float64]:
        """Return (n, seeds) probabilities of the last option."""
        wanted = " + ".join(shown or modalities)
        columns = []
        for place, seed in enumerate(self.seeds):
            done = self.bench.done(Fit(self.task.name, model, modalities, seed, part))
            columns.append(done.answers[wanted][:, -1])
            self.bench.progress(f"{self.task.name}: {model}, {len(modalities)} modalities, {part}", (place + 1) / len(self.seeds))
        return np.column_stack(columns)

    def truth(self, part: str) -> tuple[Floats, tuple[str, ...]]:
        """Return (n,) 1 where the last option is right, and whose each is."""
        sets = self.bench.sets(self.task.name, reads_test=part == "test")["pool" if part == "folds" else part]
        return (sets.answers == len(self.task.options) - 1).astype(np.float64), sets.groups

    def chosen(self) -> list[tuple[str, Modalities]]:
        """Return the finalists: the best strategies, the best modality alone, and the rivals."""
        truth, _ = self.truth(self.part)
        ranked = sorted(self.fits, key=lambda one: -mean_auroc(truth, self.scores(one[0], one[1], self.part)))
        best = [one for one in ranked if one[1] == self.whole and one[0].startswith("strategy")][:FINALISTS]
        alone = [one for one in ranked if len(one[1]) == 1][:1]
        return [*best, *alone, *(one for one in self.fits if one[0].startswith("rival"))]

    def rows(self) -> Result:
        """Return the rows of everything on the part that chooses."""
        result = self._rows("val", self.part, self.fits)
        self._missing(result, self.chosen()[0][0])
        return result

    def finalists(self) -> Result:
        """Return the rows of the finalists on `test`."""
        chosen = self.chosen()
        test = self._rows("test", "test", chosen)
        first, *others = chosen
        truth, groups = self.truth("test")
        for other in others:
            for metric in ("auroc", "accuracy"):
                pair = [self.scores(model, modalities, "test") for model, modalities in (first, other)]
                gap = paired(METRICS[metric], truth, pair[0], pair[1], groups)
                words = f"{words_of(*first)} minus {words_of(*other)}"
                test.add(self.task.name, "candidate", words, metric=f"{metric}_difference", found=gap, seeds=self.seeds)
        return test

    def _rows(self, split: str, part: str, fits: Sequence[tuple[str, Modalities]]) -> Result:
        result, (truth, groups) = Result(split), self.truth(part)
        for model, modalities in fits:
            scores = self.scores(model, modalities, part)
            role = "baseline" if model.startswith("rival") else "ablation" if modalities != self.whole else "candidate"
            selected = "folds of train and val" if self.part == "folds" else "val"
            for metric, measure in METRICS.items():
                found = bootstrap(measure, truth, scores, groups)
                details: dict[str, Any] = {"seeds": self.seeds, "selected_on": selected}
                result.add(self.task.name, role, words_of(model, modalities), metric=metric, found=found, **details)  # type: ignore[arg-type]
        cost: dict[str, list[float]] = {}
        for model, modalities in fits:
            if modalities == self.whole:
                done = [self.bench.done(Fit(self.task.name, model, modalities, seed, part)) for seed in self.seeds]
                cost[model] = [done[0].parameters, round(float(np.median([one.seconds for one in done])), 1)]
        result.notes[f"{self.task.name}, {split}: parameters, seconds a fit"] = cost
        return result

    def _missing(self, result: Result, model: str) -> None:
        """Add what the best strategy makes of every subset without retraining, beside itself trained on that subset, and Shapley values."""
        truth, groups = self.truth(self.part)
        worth: dict[Modalities, float] = {(): 0.5}
        for shown in subsets(self.whole):
            scores = self.scores(model, self.whole, self.part, shown)
            worth[shown] = mean_auroc(truth, scores)
            if shown == self.whole:
                continue
            found = bootstrap(mean_auroc, truth, scores, groups)
            words = f"{words_of(model, self.whole)}, shown {' + '.join(shown)} alone"
            about: dict[str, Any] = {"seeds": self.seeds, "subgroup": f"shown={'+'.join(shown)}"}
            result.add(self.task.name, "ablation", words, metric="auroc", found=found, **about)
            trained = self.scores(model, shown, self.part)
            gap = paired(mean_auroc, truth, scores, trained, groups)
            words = f"{words_of(model, self.whole)}, shown {' + '.join(shown)} alone, minus trained on it alone"
            result.add(self.task.name, "ablation", words, metric="auroc_difference", found=gap, **about)
        result.notes[f"{self.task.name}: Shapley values of {model} (AUROC, {self.part})"] = {
            name: round(value, 4) for name, value in shapley(self.whole, worth.__getitem__).items()
        }


def words_of(model: str, modalities: Modalities) -> str:
    """Return a model in words."""
    kind, _, name = model.partition(" ")
    return f"{name.replace('_', ' ')}{' (rival)' if kind == 'rival' else ''}, {' + '.join(modalities)}"


def bench_fusion(recipe: FusionRecipe, data: Path, work: Path, *, reads_test: bool, progress: Progress) -> tuple[Bench, list[Result]]:
    """Run what is not done yet, and return the rows.

    Args:
        recipe: what is compared.
        data: folder of the cohorts.
        work: folder of what is done already.
        reads_test: whether the finalists are measured on `test`.
        progress: called with words and a share of 1.

    Raises:
        ConfigError: a task or strategy has no plug-in.
        MissingExtra: scikit-learn is not installed.
    """
    for name in recipe.strategies:
        registry.load("salus.fusers", name)
    torch.set_num_threads(1)  # small networks: more threads are slower
    bench = Bench(recipe, data, work, progress)
    results = []
    for name in recipe.tasks:
        comparison = Comparison(bench, fusion_task(name))
        results += [comparison.rows(), *([comparison.finalists()] if reads_test else [])]
    return bench, results
