"""Compares fusion strategies: every strategy, modality alone and rival on the same patients, with equal budgets and several seeds.

Takes a recipe and the data folder; gives the rows and curves of one results file. Choosing uses `val` (or folds of `train` and `val` where
that is too small); `test` is read on demand, for the finalists alone: the two strategies of each task that were best, with heads, the
better one through the language model, the best modality alone, and the rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salus.evaluate.fusion_checks import refuse_unfit
from salus.evaluate.fusion_fits import Bench, Fit, FusionRecipe, Modalities, subsets
from salus.evaluate.fusion_tasks import FusionTask, Progress, fusion_task
from salus.evaluate.overview import WORDS_OF_ONE
from salus.evaluate.rows import Result
from salus.metrics import Floats, auroc, bootstrap, calibration_error, ideal_calibration_error, paired, reliability

FINALISTS = 2
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the patients from whom a modality is taken, for the curves."""
TRAIN_ALONE = "test of train"


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
        self.part = "folds" if task.folds else "val"
        self.chosen_on = "folds of train and val" if task.folds else "val"
        self.whole = tuple(task.modalities)
        self.fits: list[tuple[str, Modalities]] = [(f"strategy {name}", self.whole) for name in bench.recipe.strategies]
        self.fits += [("strategy concat", (name,)) for name in self.whole]
        if len(self.whole) > 2:
            self.fits += [("strategy concat", tuple(each for each in self.whole if each != name)) for name in self.whole]
        self.fits += [(f"rival {name}", self.whole) for name in self.own.rivals]

    def seeds(self, model: str) -> tuple[int, ...]:
        """Return the seeds of a model."""
        return self.bench.recipe.route_seeds if model.startswith("route") else self.bench.recipe.seeds

    def _words(self, model: str, modalities: Modalities) -> str:
        return words_of(model, modalities, self.whole)

    def wanted(self, fits: Sequence[tuple[str, Modalities]], part: str) -> list[Fit]:
        """Return the fits behind some models."""
        return [Fit(self.task.name, model, modalities, seed, part) for model, modalities in fits for seed in self.seeds(model)]

    def run(self, fits: Sequence[tuple[str, Modalities]], part: str, jobs: int) -> None:
        """Run what is not done of some models."""
        self.bench.run_all(self.wanted(fits, part), f"{self.task.name}, {part}", jobs)

    def scores(self, model: str, modalities: Modalities, part: str, shown: Modalities | None = None) -> NDArray[np.float64]:
        """Return (n, seeds) probabilities of the last option."""
        name = " + ".join(shown or modalities)
        return np.column_stack([self.bench.done(one).answers[name][:, -1] for one in self.wanted([(model, modalities)], part)])

    def truth(self, part: str) -> tuple[Floats, tuple[str, ...]]:
        """Return (n,) 1 where the last option is right, and whose each is."""
        is_test = part.startswith("test")
        sets = self.bench.sets(self.task.name, reads_test=is_test)["pool" if part == "folds" else "test" if is_test else "val"]
        return (sets.answers == len(self.task.options) - 1).astype(np.float64), sets.groups

    def best(self) -> list[tuple[str, Modalities]]:
        """Return the best strategies on what chooses, the best first."""
        return self._ranked([one for one in self.fits if one[1] == self.whole and one[0].startswith("strategy")])[:FINALISTS]

    def alone(self) -> tuple[str, Modalities]:
        """Return the best modality alone on what chooses, by `concat` or by the best strategy."""
        return self._ranked([one for one in [*self.fits, *self._trained(self.best()[0][0])] if len(one[1]) == 1])[0]

    def _ranked(self, fits: Sequence[tuple[str, Modalities]]) -> list[tuple[str, Modalities]]:
        truth, _ = self.truth(self.part)
        return sorted(fits, key=lambda one: -mean_auroc(truth, self.scores(one[0], one[1], self.part)))

    def routes(self) -> list[tuple[str, Modalities]]:
        """Return the best strategies' ways through the language model."""
        if self.own.route is None:
            return []
        return [(model.replace("strategy", "route"), modalities) for model, modalities in self.best()]

    def rows(self, jobs: int) -> Result:
        """Return the rows of everything on what chooses; of the ways through the language model, on `val`."""
        self.run(self.fits, self.part, jobs)
        best, *_ = self.best()
        trained = self._trained(best[0])
        self.run(trained, self.part, jobs)
        routes = self.routes()
        self.run(routes, "val", jobs)
        result, spoken = Result("train+val" if self.part == "folds" else "val"), Result("val")
        self._add(result, self.part, list(dict.fromkeys([*self.fits, *(one for one in trained if len(one[1]) == 1)])))
        self._add(spoken, "val", routes)
        self._gain(result)
        self._missing(result, best[0], self.part)
        result.rows += spoken.rows
        result.notes |= spoken.notes
        result.curves[self.task.name] = {**self._curves(best[0]), "costs": self._costs([*self.fits, *routes])}
        return result

    def finalists(self, jobs: int) -> Result:
        """Return the rows of the finalists on `test`, and the paired differences between the first and the others.

        They are the two best with heads, the better one through the language model (on `val`), the best modality alone and the rivals;
        fitted on `train` alone, the first with its head, the one through the language model, and the rivals.
        """
        rivals = [(f"rival {name}", self.whole) for name in (*self.own.rivals, *self.own.systems)]
        heads, truth_on_val = [*self.best(), self.alone(), *rivals], self.truth("val")[0]
        spoken = sorted(self.routes(), key=lambda one: -mean_auroc(truth_on_val, self.scores(one[0], one[1], "val")))[:1]
        first = heads[0]
        finalists = {"test": [*heads, *spoken], TRAIN_ALONE: [first, *rivals, *spoken]}
        for part, fits in finalists.items():
            self.run(fits, part, jobs)
        self.run(self._trained(first[0]), "test", jobs)
        result = Result("test")
        truth, groups = self.truth("test")
        for part, fits in finalists.items():
            self._add(result, part, fits)
            for one in (first, *spoken):
                others = [first, *rivals] if one in spoken else [each for each in fits if each not in (first, *spoken)]
                for other in others:
                    for metric in ("auroc", "accuracy"):
                        gap = paired(METRICS[metric], truth, self.scores(*one, part), self.scores(*other, part), groups)
                        words = f"{self._words(*one)} minus {self._words(*other)}{_fitted(part)}"
                        about: dict[str, Any] = {"seeds": self.seeds(one[0]), "selected_on": self.chosen_on}
                        result.add(self.task.name, "candidate", words, metric=f"{metric}_difference", found=gap, **about)
        self._missing(result, first[0], "test")
        return result

    def _trained(self, model: str) -> list[tuple[str, Modalities]]:
        """Return a strategy trained on each subset of the modalities."""
        return [(model, shown) for shown in subsets(self.whole) if shown != self.whole]

    def _add(self, result: Result, part: str, fits: Sequence[tuple[str, Modalities]]) -> None:
        truth, groups = self.truth(part)
        for model, modalities in fits:
            scores = self.scores(model, modalities, part)
            role = "baseline" if model.startswith("rival") else "ablation" if modalities != self.whole else "candidate"
            for metric, measure in METRICS.items():
                found = bootstrap(measure, truth, scores, groups, is_biased=metric == "calibration_error")
                details: dict[str, Any] = {"seeds": self.seeds(model), "selected_on": self.chosen_on}
                words = f"{self._words(model, modalities)}{_fitted(part)}"
                result.add(self.task.name, role, words, metric=metric, found=found, **details)  # type: ignore[arg-type]
        ideal = [ideal_calibration_error(one).value for one in self.scores(*fits[0], part).T] if fits else []
        if ideal:
            result.notes[f"{self.task.name}, {part}: calibration error of a perfectly calibrated model of this n"] = round(
                float(np.mean(ideal)), 4
            )

    def _gain(self, result: Result) -> None:
        """Add what all modalities give beyond the best one alone."""
        first, alone, (truth, groups) = self.best()[0], self.alone(), self.truth(self.part)
        for metric in ("auroc", "accuracy"):
            gap = paired(METRICS[metric], truth, self.scores(*first, self.part), self.scores(*alone, self.part), groups)
            words = f"{self._words(*first)} minus {self._words(*alone)}"
            about: dict[str, Any] = {"seeds": self.seeds(first[0]), "selected_on": self.chosen_on}
            result.add(self.task.name, "candidate", words, metric=f"{metric}_difference", found=gap, **about)

    def _missing(self, result: Result, model: str, part: str) -> None:
        """Add what the best strategy makes of every subset without retraining, beside itself trained on that subset, and Shapley values."""
        truth, groups = self.truth(part)
        worth: dict[Modalities, float] = {(): 0.5}
        for shown in subsets(self.whole):
            scores = self.scores(model, self.whole, part, shown)
            worth[shown] = mean_auroc(truth, scores)
            if shown == self.whole:
                continue
            found = bootstrap(mean_auroc, truth, scores, groups)
            words = f"{self._words(model, self.whole)}, shown {' + '.join(shown)} alone"
            about: dict[str, Any] = {"seeds": self.seeds(model), "selected_on": self.chosen_on, "subgroup": f"shown={'+'.join(shown)}"}
            result.add(self.task.name, "ablation", words, metric="auroc", found=found, **about)
            trained = self.scores(model, shown, part)
            gap = paired(mean_auroc, truth, scores, trained, groups)
            words = f"{self._words(model, self.whole)}, shown {' + '.join(shown)} alone, minus trained on it alone"
            result.add(self.task.name, "ablation", words, metric="auroc_difference", found=gap, **about)
        result.notes[f"{self.task.name}: Shapley values of {model} (AUROC, {part})"] = {
            name: round(value, 4) for name, value in shapley(self.whole, worth.__getitem__).items()
        }

    def _curves(self, model: str) -> dict[str, Any]:
        """Return reliability, and AUROC as each modality is taken from more and more patients, without retraining."""
        truth, groups = self.truth(self.part)
        scores = self.scores(model, self.whole, self.part)
        order = np.random.default_rng(0).permutation(len(truth)) / len(truth)
        curves: dict[str, list[list[float]]] = {}
        for name in self.whole:
            without = self.scores(model, self.whole, self.part, tuple(each for each in self.whole if each != name))
            for share in SHARES:
                found = bootstrap(mean_auroc, truth, np.where((order < share)[:, None], without, scores), groups)
                curves.setdefault(f"without {name}", []).append([share, found.value, found.low, found.high])
        return {"reliability": reliability(truth, scores.mean(1)), "missing": curves}

    def _costs(self, fits: Sequence[tuple[str, Modalities]]) -> list[list[Any]]:
        """Return of each model with all modalities: its words, numbers it learns, seconds of the processor and MB of memory a fit."""
        costs = []
        for model, modalities in fits:
            if modalities == self.whole:
                part = "val" if model.startswith("route") else self.part
                done = [self.bench.done(one) for one in self.wanted([(model, modalities)], part)]
                seconds = round(float(np.median([one.seconds for one in done])), 1)
                memory = round(max(one.memory_mb for one in done))
                costs.append([self._words(model, modalities), done[0].parameters, seconds, memory])
        return costs


def _fitted(part: str) -> str:
    return ", fitted on train alone" if part == TRAIN_ALONE else ""


def words_of(model: str, modalities: Modalities, whole: Modalities) -> str:
    """Return a model in words; modalities are named where they are not all.

    Example:
        >>> words_of("route cross_attention", ("image", "note"), ("image", "note"))
        'cross attention through the language model'
        >>> words_of("strategy concat", ("note",), ("image", "note")), words_of("strategy concat", ("a", "b"), ("a", "b", "c"))
        ('concat: note alone', 'concat, a + b')
    """
    kind, _, name = model.partition(" ")
    if kind == "strategy" and len(modalities) == 1 and modalities != whole:
        return f"{name.replace('_', ' ')}: {modalities[0]}{WORDS_OF_ONE}"
    how = {"rival": " (rival)", "route": " through the language model"}.get(kind, "")
    return f"{name.replace('_', ' ')}{how}" + ("" if modalities == whole else f", {' + '.join(modalities)}")


def bench_fusion(
    recipe: FusionRecipe, data: Path, work: Path, *, reads_test: bool, progress: Progress, jobs: int = 1
) -> tuple[Bench, list[Result]]:
    """Run what is not done yet, and return the rows.

    Args:
        recipe: what is compared.
        data: folder of the cohorts.
        work: folder of what is done already.
        reads_test: whether the finalists are measured on `test`.
        progress: called with words and a share of 1.
        jobs: processes that fit at once, one thread each.

    Raises:
        ConfigError: the recipe could not be run to its end (`salus.evaluate.fusion_checks`).
        MissingExtra: scikit-learn is not installed.
    """
    refuse_unfit(recipe, reads_test=reads_test)
    torch.set_num_threads(1)  # small networks: more threads are slower
    bench = Bench(recipe, data, work, progress)
    results = []
    for name in recipe.tasks:
        comparison = Comparison(bench, fusion_task(name))
        made = [comparison.rows(jobs), *([comparison.finalists(jobs)] if reads_test and comparison.task.has_test else [])]
        hours = sum(each for (task, _), each in bench.hours.items() if task == name)
        made[-1].notes[f"{name}: processor hours of its fits"] = round(hours, 2)
        results += made
    return bench, results
