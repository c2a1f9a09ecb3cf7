"""Honest rivals, fitted in the same run on the same rows: boosting, forests, logistic regression, majority, severity score."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.encode.encoder import Encoder, Prepared
from salus.errors import MissingExtra
from salus.metrics import Floats
from salus.model import SalusModel, prepare_modality
from salus.task import Example, Task

Progress = Callable[[str, float], None]


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
    """Return the probability of the positive option on `test` from each rival.

    Args:
        model: its encoder makes the tables of summaries.
        task: names the modality and the positive option.
        train: fits every rival.
        val: fits one further rival together with `train`; empty: there is no such rival.
        test: is scored; none of it may be in the others.
        progress: called with words and a share of 1.
    """
    try:
        from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier  # (extra)
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline, make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingExtra("fit the rivals of an evaluation", "evaluate") from None
    name = task.modalities[0]
    fitted = {"train": train, "val": val} if val else {"train": train}
    tables = {split: table_of(model, name, examples, progress) for split, examples in {**fitted, "test": test}.items()}
    seen = np.isfinite(tables["train"]).any(0) & (np.nanstd(tables["train"], axis=0) > 1e-9)
    tables = {split: table[:, seen] for split, table in tables.items()}
    truth = {split: np.array([float(example.answer == task.positive) for example in examples]) for split, examples in fitted.items()}
    both = np.concatenate([tables[split] for split in fitted]), np.concatenate(list(truth.values()))

    def boosting(seed: int) -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            learning_rate=0.04,
            max_iter=160,
            max_leaf_nodes=12,
            min_samples_leaf=20,
            l2_regularization=5.0,
            max_features=0.2,
            random_state=seed,
        )

    def forest(seed: int) -> Pipeline:
        return make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(500, min_samples_leaf=2, random_state=seed))

    def extra(seed: int) -> Pipeline:
        return make_pipeline(SimpleImputer(strategy="median"), ExtraTreesClassifier(500, min_samples_leaf=2, random_state=seed))

    def mean(build: Callable[[int], object], rows: NDArray[np.float64], answers: Floats) -> Floats:
        return np.mean([build(seed).fit(rows, answers).predict_proba(tables["test"])[:, 1] for seed in range(3)], axis=0)  # type: ignore[attr-defined,no-any-return]

    if task.name == "heart-sound":
        return {
            "random forest on spectral summaries": mean(forest, tables["train"], truth["train"]),
            "extra trees on spectral summaries": mean(extra, tables["train"], truth["train"]),
        }
    regression = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(C=0.001, max_iter=500)
    )
    made = {
        "gradient boosting, fitted on train": mean(boosting, tables["train"], truth["train"]),
        "logistic regression, fitted on train": regression.fit(tables["train"], truth["train"]).predict_proba(tables["test"])[:, 1],
    }
    return made | ({"gradient boosting, fitted on train and val": mean(boosting, *both)} if val else {})


def severity(data: Path, test: Sequence[Example]) -> Floats:
    """Return SAPS-I of the ICU test patients (a score, not fitted here; NaN where the cohort has none)."""
    with (data / "icu_physionet2012" / "Outcomes-a.txt").open(encoding="utf-8", newline="") as stream:
        by_id = {line["RecordID"]: float(line["SAPS-I"]) for line in csv.DictReader(stream)}
    scores = np.array([by_id[example.subject_id] for example in test])
    return np.where(scores < 0, np.nan, scores)


def majority(train: Sequence[Example], test: Sequence[Example]) -> Floats:
    """Return 1 where the commonest training answer among an example's options is right."""
    counts = Counter(example.answer for example in train)
    return np.array([float(max(example.options, key=lambda option: (counts[option], option)) == example.answer) for example in test])
