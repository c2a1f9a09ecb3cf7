"""The rows of the alignment bench: recall at 1, 5 and 10 and median rank both ways, chance, and words as classifiers.

Takes a bench; gives results. Intervals are bootstraps over the patients of the queries, of the mean over seeds; the gallery stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.evaluate.alignment_bench import AlignBench, AlignDone, AlignFit, AlignmentRecipe, one_thread, refuse_unfit, setups_of
from salus.evaluate.alignment_sets import BaseModel
from salus.evaluate.alignment_tasks import Progress, alignment_task
from salus.evaluate.rows import Result, Role
from salus.fuse.align.fit import AlignLoss
from salus.fuse.align.retrieval import Ranked
from salus.metrics import Floats, auroc, bootstrap

PLACES = (1, 5, 10)
CHOSEN_ON = "folds of train and val"


def mean_of(_truth: Floats, scores: Floats) -> float:
    """Return the mean of (n,) means over seeds, or of (n, seeds)."""
    return float(np.mean(scores))


def median_of(_truth: Floats, scores: Floats) -> float:
    """Return the median of (n, seeds)."""
    return float(np.median(scores))


def mean_column_auroc(truth: Floats, scores: Floats) -> float:
    """Return the mean AUROC of the columns of (n, seeds) probabilities."""
    return float(np.mean([auroc(truth, one) for one in scores.T]))


class AlignmentRows:
    """The rows of one task."""

    def __init__(self, bench: AlignBench, name: str) -> None:
        self.bench, self.task = bench, alignment_task(name)

    def fits(self, setup: tuple[str, tuple[Any, ...], tuple[Any, ...]]) -> list[AlignFit]:
        """Return what is fitted with one set of pairs: the losses with what may be added to them, and the linear baseline; seed 0."""
        words, trained, found = setup
        hard = self.bench.recipe.hardness
        known = (0.0, self.bench.recipe.knowledge_share) if self.task.has_knowledge else (0.0,)
        hards = (0.0,) if words.startswith("bound") else (0.0, hard)
        made = [
            AlignFit(self.task.name, trained, found, AlignLoss(kind, one, share))
            for kind in ("clip", "siglip")
            for one in hards
            for share in known
        ]
        if words.startswith("bound"):
            return [*made, AlignFit(self.task.name, trained, found, AlignLoss(), is_baseline=True)]
        made.append(AlignFit(self.task.name, trained, found, AlignLoss(), start="random"))
        return [*made, *(AlignFit(self.task.name, (pair,), (pair,), AlignLoss(), is_baseline=True) for pair in trained)]

    def done(self, fit: AlignFit) -> list[AlignDone]:
        """Return what a fit gave for each seed; the baseline has no seed."""
        seeds = (0,) if fit.is_baseline else self.bench.recipe.seeds
        made = []
        for place, seed in enumerate(seeds):
            made.append(self.bench.done(replace(fit, seed=seed)))
            self.bench.progress(f"{self.task.name}: {fit.words}, {fit.part}", (place + 1) / len(seeds))
        return made

    def worth(self, fit: AlignFit) -> float:
        """Return the mean recall at 10 of all searches: what a loss is chosen by."""
        both = [pair for first, second in fit.searched for pair in ((first, second), (second, first))]
        return float(np.mean([one.found(*pair)[1].recall(10).mean() for one in self.done(fit) for pair in both]))

    def chosen(self, fits: Sequence[AlignFit]) -> AlignFit:
        """Return the best loss from the start in closed form; the simpler of two alike."""
        return max((one for one in fits if not one.is_baseline and one.start == "correlated"), key=lambda one: round(self.worth(one), 3))

    def rows(self) -> Result:
        """Return all rows out of fold, and those of what was chosen on `val`."""
        result = Result("train+val")
        late = Result("val")
        for setup in setups_of(self.task.name):
            fits = self.fits(setup)
            best = self.chosen(fits)
            self._chance(result, setup, fits[0])
            for fit in fits:
                self._add(result, fit, setup[0], "baseline" if fit.is_baseline else "final" if fit == best else "candidate")
            if setup[0].startswith("bound"):
                continue
            self._words_rows(result, fits)
            self._chance(late, setup, replace(best, part="val"))
            for fit in (best, *(one for one in fits if one.is_baseline)):
                self._add(late, replace(fit, part="val"), setup[0], "baseline" if fit.is_baseline else "final")
            self._words_rows(late, [replace(best, part="val")])
            cost = {fit.words: np.median([one.seconds for one in self.done(fit)]) for fit in fits if not fit.is_baseline}
            result.notes[f"{self.task.name}: CPU seconds of a fit (all folds)"] = {name: round(float(one), 1) for name, one in cost.items()}
            result.notes[f"{self.task.name}: chosen"] = best.words
        for pair in self.task.others:
            self._add(result, AlignFit(self.task.name, (pair,), (pair,), AlignLoss()), "", "ablation")
        result.rows += late.rows
        return result

    def finalists(self) -> Result:
        """Return the rows of what was chosen, and of the baseline, on `test`."""
        result = Result("test")
        for setup in setups_of(self.task.name):
            fits = self.fits(setup)
            kept = [self.chosen(fits), *(one for one in fits if one.is_baseline)]
            self._chance(result, setup, replace(fits[0], part="test"))
            for fit in kept:
                self._add(result, replace(fit, part="test"), setup[0], "baseline" if fit.is_baseline else "final")
            if not setup[0]:
                self._words_rows(result, [replace(kept[0], part="test")])
        return result

    def _groups(self, fit: AlignFit, rows: NDArray[np.int64]) -> tuple[str, ...]:
        every = self.bench.scored_rows(self.task.name, fit.part).sets.groups
        return tuple(every[row] for row in rows)

    def _chance(self, result: Result, setup: tuple[str, tuple[Any, ...], tuple[Any, ...]], fit: AlignFit) -> None:
        done = self.done(fit)[0]
        for first, second in setup[2]:
            for query, gallery in ((first, second), (second, first)):
                rows, found = done.found(query, gallery)
                for place in PLACES:
                    level = found.chance(place)
                    interval = bootstrap(mean_of, level, level[:, None], self._groups(fit, rows))
                    words = _model("chance", query, gallery, setup[0])
                    result.add(self.name, "baseline", words, metric=f"recall_at_{place}", found=interval)

    @property
    def name(self) -> str:
        """The task's name in the results."""
        return f"alignment-{self.task.name}"

    def _add(self, result: Result, fit: AlignFit, words: str, role: Role) -> None:
        done = self.done(fit)
        about: dict[str, Any] = {"seeds": (0,) if fit.is_baseline else self.bench.recipe.seeds, "selected_on": CHOSEN_ON}
        for first, second in fit.searched:
            for query, gallery in ((first, second), (second, first)):
                rows = done[0].found(query, gallery)[0]
                found: list[Ranked] = [one.found(query, gallery)[1] for one in done]
                groups, truth, model = self._groups(fit, rows), np.zeros(len(rows)), _model(fit.words, query, gallery, words)
                for place in PLACES:
                    hits = np.mean([one.recall(place) for one in found], axis=0)  # of the seeds
                    gain = hits - found[0].chance(place)
                    result.add(self.name, role, model, metric=f"recall_at_{place}", found=bootstrap(mean_of, truth, hits, groups), **about)
                    more = bootstrap(mean_of, truth, gain, groups)
                    result.add(self.name, role, f"{model}, minus chance", metric=f"recall_at_{place}_difference", found=more, **about)
                ranks = np.column_stack([one.rank for one in found])
                result.add(self.name, role, model, metric="median_rank", found=bootstrap(median_of, truth, ranks, groups), **about)

    def _words_rows(self, result: Result, fits: Sequence[AlignFit]) -> None:
        """Add what prompts alone tell apart: AUROC of the last of two classes, or accuracy of more."""
        words = self.task.zero_shot
        if words is None:
            return
        best = self.chosen(fits)
        for fit in fits:
            done = self.done(fit)
            rows = done[0].arrays["zero/rows"]
            answers = self.bench.scored_rows(self.task.name, fit.part).sets.answers[rows]
            kept = np.flatnonzero((answers >= 0) & np.isfinite(done[0].arrays["zero/probabilities"]).all(1))
            tables = [one.arrays["zero/probabilities"][kept] for one in done]
            groups, truth = self._groups(fit, rows[kept]), answers[kept].astype(np.float64)
            if len(words.classes) == 2:
                metric, interval = "auroc", bootstrap(mean_column_auroc, truth, np.column_stack([one[:, 1] for one in tables]), groups)
            else:
                hits = np.column_stack([one.argmax(1) == truth for one in tables]).astype(np.float64)
                metric, interval = "accuracy", bootstrap(mean_of, truth, hits, groups)
            role: Role = "baseline" if fit.is_baseline else "final" if fit == best else "candidate"
            model = f"zero-shot, {fit.words}: {' or '.join(words.classes)} by {words.modality}"
            seeds = (0,) if fit.is_baseline else self.bench.recipe.seeds
            result.add(self.name, role, model, metric=f"zero_shot_{metric}", found=interval, seeds=seeds, selected_on=CHOSEN_ON)


def _model(how: str, query: str, gallery: str, words: str) -> str:
    return f"{how}{f', {words}' if words else ''}: {query.replace('_', ' ')} to {gallery.replace('_', ' ')}"


def bench_alignment(
    recipe: AlignmentRecipe, data: Path, work: Path, *, model: BaseModel, reads_test: bool, progress: Progress
) -> tuple[AlignBench, list[Result]]:
    """Run what is not done yet, and return the rows.

    Args:
        recipe: what is measured.
        data: folder of the cohorts.
        work: folder of what is done already.
        model: whose frozen encoders are used.
        reads_test: whether what was chosen is measured on `test`.
        progress: called with words and a share of 1.

    Raises:
        ConfigError: a task or setting is unknown, or a number makes no sense.
        ModelError: the weights of the sentence network are not on this machine.
    """
    one_thread()
    refuse_unfit(recipe)
    bench = AlignBench(recipe, data, work, model=model, progress=progress)
    results = []
    for name in recipe.tasks:
        rows = AlignmentRows(bench, name)
        results += [rows.rows(), *([rows.finalists()] if reads_test else [])]
    return bench, results
