"""Honest rivals, fitted in the same run on the same rows: the classifiers that a task names, and the majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from salus.classifiers import build_classifier
from salus.encode.encoder import Encoder, Prepared
from salus.metrics import Floats
from salus.model import SalusModel, prepare_modality
from salus.task import Classifier, Example, Task

Progress = Callable[[str, float], None]
SEEDS = (0, 1, 2)
"""A rival's score is the mean over these."""


def table_of(model: SalusModel, name: str, examples: Sequence[Example], progress: Progress) -> NDArray[np.float64]:
    """Return (n, F) summary statistics of examples, NaN for missing."""
    encoder: Encoder = model.encoder(name)
    model.eval()
    found: list[Prepared | None] = []
    for place, example in enumerate(examples):
        found.append(prepare_modality(encoder, name, example.record()))
        progress(f"rivals of {name}: reading", (place + 1) / len(examples))
    named = getattr(encoder, "table_arrays", ())
    width = next(sum(one.arrays[key].size for key in named) for one in found if one is not None)
    table = np.full((len(found), width), np.nan)
    for place, one in enumerate(found):
        if one is not None:
            table[place] = np.concatenate([one.arrays[key].ravel() for key in named])
    return table


def rivals(
    model: SalusModel, task: Task, *, train: Sequence[Example], val: Sequence[Example], test: Sequence[Example], progress: Progress
) -> dict[str, Floats]:
    """Return what each of the task's rivals gives on `test`, from the mean of `SEEDS`.

    Where the task ranks an option, that is its probability; else 1 where the likeliest option is right.

    Args:
        model: its encoder makes the tables of summaries.
        task: names the modality, the positive option and the rivals.
        train: fits every rival.
        val: fits gradient boosting once more, together with `train`; empty: there is no such rival.
        test: is scored; none of it may be in the others, and its answers are only counted.
        progress: called with words and a share of 1.
    """
    name = task.modalities[0]
    fitted = {"train": train, "val": val} if val else {"train": train}
    tables = {split: table_of(model, name, examples, progress) for split, examples in {**fitted, "test": test}.items()}
    seen = np.isfinite(tables["train"]).any(0) & (np.nanstd(tables["train"], axis=0) > 1e-9)
    tables = {split: table[:, seen] for split, table in tables.items()}
    is_ranked = task.metric == "auroc" and task.positive is not None

    def truth_of(examples: Sequence[Example]) -> NDArray[np.int64]:
        return np.array([int(one.answer == task.positive) if is_ranked else one.options.index(one.answer) for one in examples])

    truth = {split: truth_of(examples) for split, examples in fitted.items()}
    wanted = truth_of(test)

    def scores(rival: Classifier, splits: Sequence[str]) -> Floats:
        rows, answers = np.concatenate([tables[split] for split in splits]), np.concatenate([truth[split] for split in splits])
        made = [build_classifier(rival, seed).fit(rows, answers) for seed in SEEDS]
        mean: Floats = np.mean([one.predict_proba(tables["test"]) for one in made], axis=0)
        return mean[:, 1] if is_ranked else (made[0].classes_[mean.argmax(1)] == wanted).astype(np.float64)

    made = {f"{rival.replace('_', ' ')}, fitted on train": scores(rival, ["train"]) for rival in task.rivals}
    if val and "gradient_boosting" in task.rivals:
        made["gradient boosting, fitted on train and val"] = scores("gradient_boosting", list(fitted))
    return made


def majority(train: Sequence[Example], test: Sequence[Example]) -> Floats:
    """Return 1 where the commonest training answer among an example's options is right."""
    counts = Counter(example.answer for example in train)
    return np.array([float(max(example.options, key=lambda option: (counts[option], option)) == example.answer) for example in test])
