"""Measures the omics encoders with their own heads: `python scripts/measure_omics.py OUT.json`; data from $SALUS_DATA.

`dna-splice`: the sequence network, fitted on `train`, beside tree ensembles on the same letters, and what its self-supervised stage
gives a linear probe with few labels (on `val`). `rosmap`: each omic alone through the set network, and the three side by side, fitted on
the official training part, beside a random forest on the same values. Settings were chosen on `val`, and for `rosmap` by five folds of the
official training part (design/LOG.md). The language model takes no part in these figures.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from salus import registry
from salus.classifiers import build_classifier
from salus.encode.encoder import Encoder, Prepared, encode
from salus.encode.profile import ProfileEncoder
from salus.encode.sequence import SequenceEncoder
from salus.evaluate.rows import Result, commit, file_hash, tree_hash, write_result
from salus.metrics import Floats, auroc, bootstrap, paired
from salus.task import Classifier, Example, Task
from salus.train.encoder_stage import fit_normaliser, head_probabilities, pretrain, supervise
from salus.train.recipe import EncoderRecipe

SPLICE = EncoderRecipe(epochs=25, batch_size=64, lr=3e-3, weight_decay=8.0)
SPLICE_PRETEXT = EncoderRecipe(pretext_epochs=20, batch_size=64, lr=2e-3, weight_decay=0.01)
PROFILE = EncoderRecipe(epochs=40, batch_size=32, lr=2e-3, weight_decay=4.0)
SPLICE_SEEDS, SEEDS = (0, 1, 2), (0, 1, 2, 3, 4)
LABELLED = (30, 100, 300)
PROBES = 20
"""Draws of the labelled sequences for the linear probe."""


class SideBySide(nn.Module):
    """Several encoders as one: token k is their k-th tokens side by side (early fusion by concatenation)."""

    def __init__(self, parts: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: part for name, part in parts.items() if isinstance(part, nn.Module)})
        first = next(iter(parts.values()))
        self.width, self.tokens, self.pooled_tokens = sum(part.width for part in parts.values()), first.tokens, first.tokens

    def fit(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Let each part learn its normalisation."""
        for name, part in self.parts.items():
            part.fit({"profile": arrays[name]})  # type: ignore[operator]

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, K, sum of D) and mask (B, K)."""
        made = [part({"profile": arrays[name]}) for name, part in self.parts.items()]
        return torch.cat([values for values, _ in made], -1), torch.stack([mask for _, mask in made]).any(0)


def quiet(_words: str, _share: float) -> None:
    """Say nothing."""


def answers_of(examples: Sequence[Example]) -> NDArray[np.int64]:
    """Return (n,) index of the right option."""
    return np.array([example.options.index(example.answer) for example in examples])


def prepared_of(encoder: Encoder, examples: Sequence[Example], modality: str) -> list[Prepared]:
    """Return the network inputs of one modality."""
    made = [encoder.prepare([item for item in one.record().items if item.modality == modality], {}) for one in examples]
    return [one for one in made if one is not None]


Inputs = tuple[Sequence[Prepared], Sequence[Prepared]]


def trained(make: Callable[[], Any], inputs: Inputs, answers: NDArray[np.int64], recipe: EncoderRecipe, seed: int) -> Floats:
    """Return (n, options) probabilities for the second inputs of a network fitted on the first."""
    torch.manual_seed(seed)
    encoder = make()
    fit_normaliser(encoder, inputs[0])
    heads = supervise(encoder, inputs[0], answers, recipe, seed=seed, progress=quiet)
    return head_probabilities(encoder, heads, inputs[1])


def mean_accuracy(truth: Floats, right: Floats) -> float:
    """Return the mean over columns of (n, k) marks of right answers."""
    return float(right.mean())


def right_of(runs: Sequence[Floats], answers: NDArray[np.int64]) -> Floats:
    """Return (n, k) 1 where run k chose the right option."""
    return np.column_stack([(run.argmax(1) == answers).astype(np.float64) for run in runs])


def splice(task: Task, data: Path, split: str) -> Result:
    """Return the rows of the splice sites on one split."""
    fitted, scored = task.read(data, "train"), task.read(data, split)  # type: ignore[arg-type]
    encoder = SequenceEncoder(length=60)
    inputs = (prepared_of(encoder, fitted, "dna"), prepared_of(encoder, scored, "dna"))
    answers, truth = answers_of(fitted), answers_of(scored)
    groups = [one.subject_id for one in scored]
    result, ones = Result(split), np.ones(len(truth))
    runs = [trained(lambda: SequenceEncoder(length=60), inputs, answers, SPLICE, seed) for seed in SPLICE_SEEDS]
    right = right_of(runs, truth)
    found = bootstrap(mean_accuracy, ones, right, groups)
    result.add(task.name, "candidate", "sequence network, mean of 3 seeds", metric="accuracy", found=found, seeds=SPLICE_SEEDS)
    for place, option in enumerate(scored[0].options):
        rows = np.flatnonzero(truth == place)
        found = bootstrap(mean_accuracy, ones[rows], right[rows], [groups[row] for row in rows])
        name = "sequence network, mean of 3 seeds"
        result.add(task.name, "candidate", name, metric="sensitivity", found=found, subgroup=f"site={option}", seeds=SPLICE_SEEDS)
    tables = [np.nan_to_num(np.stack([one.arrays["letters"].ravel() for one in part])) for part in inputs]
    rivals: tuple[Classifier, ...] = ("extra_trees", "gradient_boosting", "logistic_regression")
    for rival in rivals:
        made = [build_classifier(rival, seed).fit(tables[0], answers).predict_proba(tables[1]) for seed in SPLICE_SEEDS]
        other = right_of(made, truth)
        found = bootstrap(mean_accuracy, ones, other, groups)
        result.add(task.name, "baseline", rival, metric="accuracy", found=found, seeds=SPLICE_SEEDS)
        gap = paired(mean_accuracy, ones, right, other, groups)
        result.add(task.name, "candidate", f"sequence network minus {rival}", metric="accuracy_difference", found=gap, seeds=SPLICE_SEEDS)
    return result


def probe(task: Task, data: Path) -> Result:
    """Return how a linear probe with few labels does on `val` with and without the self-supervised stage, same seed."""
    fitted, scored = task.read(data, "train"), task.read(data, "val")
    inputs = [prepared_of(SequenceEncoder(length=60), part, "dna") for part in (fitted, scored)]
    answers, truth = answers_of(fitted), answers_of(scored)
    groups, ones = [one.subject_id for one in scored], np.ones(len(scored))
    tokens = {}
    for name in ("without", "with"):
        torch.manual_seed(0)
        encoder = SequenceEncoder(length=60)
        if name == "with":
            pretrain(encoder, inputs[0], SPLICE_PRETEXT, seed=0, progress=quiet)
        encoder.eval()
        with torch.no_grad():
            made = [encode(encoder, part).values.flatten(1).numpy() for part in inputs]
        tokens[name] = [(one - made[0].mean(0)) / made[0].std(0) for one in made]
    result = Result("val")
    for labelled in LABELLED:
        right = {name: np.zeros((len(truth), PROBES)) for name in tokens}
        for draw in range(PROBES):
            rows = np.random.default_rng(draw).permutation(len(answers))[:labelled]
            for name, (train, val) in tokens.items():
                told = LogisticRegression(C=0.01, max_iter=2000).fit(train[rows], answers[rows]).predict(val)
                right[name][:, draw] = told == truth
        for name, marks in right.items():
            words = f"linear probe, {labelled} labels, {name} self-supervision"
            result.add(task.name, "ablation", words, metric="accuracy", found=bootstrap(mean_accuracy, ones, marks, groups), seeds=(0,))
        gap = paired(mean_accuracy, ones, right["with"], right["without"], groups)
        words = f"linear probe, {labelled} labels, with minus without self-supervision"
        result.add(task.name, "ablation", words, metric="accuracy_difference", found=gap, seeds=(0,))
    return result


def mean_auroc(truth: Floats, scores: Floats) -> float:
    """Return the mean AUROC of the columns of (n, k) scores."""
    return float(np.mean([auroc(truth, one) for one in scores.T]))


def rosmap(task: Task, data: Path) -> Result:
    """Return the rows of the three omics, alone and side by side, on the official test part."""
    fitted, scored = [*task.read(data, "train"), *task.read(data, "val")], task.read(data, "test")
    answers, truth = answers_of(fitted), answers_of(scored)
    groups, ones, result = [one.subject_id for one in scored], np.ones(len(scored)), Result("test")
    whole: list[list[Prepared]] = [[], []]
    runs: dict[str, list[Floats]] = {}
    forests: dict[str, list[Floats]] = {}
    columns: list[list[NDArray[np.float64]]] = [[], []]
    parts = {name: [prepared_of(ProfileEncoder(), part, name) for part in (fitted, scored)] for name in task.modalities}
    for name, part in parts.items():
        runs[name] = [trained(ProfileEncoder, (part[0], part[1]), answers, PROFILE, seed) for seed in SEEDS]
        tables = [np.stack([one.arrays["profile"] for one in each]).astype(np.float64) for each in part]
        known = np.isfinite(tables[0]).all(0)
        tables = [table[:, known] for table in tables]
        forests[name] = [build_classifier("random_forest", seed).fit(tables[0], answers).predict_proba(tables[1]) for seed in SEEDS]
        for column, table in zip(columns, tables, strict=True):
            column.append(table)
    for place, made in enumerate(whole):
        for row in range(len(parts[task.modalities[0]][place])):
            each = {name: parts[name][place][row] for name in task.modalities}
            first = each[task.modalities[0]]
            made.append(Prepared({name: one.arrays["profile"] for name, one in each.items()}, first.item_ids, first.time_s))
    runs["all three"] = [
        trained(lambda: SideBySide({name: ProfileEncoder() for name in task.modalities}), (whole[0], whole[1]), answers, PROFILE, seed)
        for seed in SEEDS
    ]
    joined = [np.hstack(column) for column in columns]
    forests["all three"] = [build_classifier("random_forest", seed).fit(joined[0], answers).predict_proba(joined[1]) for seed in SEEDS]
    for name in runs:
        marks = {"set network": runs[name], "random forest": forests[name]}
        for model, made in marks.items():
            role = "candidate" if model == "set network" else "baseline"
            words = f"{model}, {name}, mean of 5 seeds"
            found = bootstrap(mean_accuracy, ones, right_of(made, truth), groups)
            result.add(task.name, role, words, metric="accuracy", found=found, seeds=SEEDS)  # type: ignore[arg-type]
            scores = np.column_stack([one[:, 1] for one in made])
            found = bootstrap(mean_auroc, truth.astype(np.float64), scores, groups)
            result.add(task.name, role, words, metric="auroc", found=found, seeds=SEEDS)  # type: ignore[arg-type]
        gap = paired(mean_accuracy, ones, right_of(runs[name], truth), right_of(forests[name], truth), groups)
        result.add(task.name, "candidate", f"set network minus random forest, {name}", metric="accuracy_difference", found=gap, seeds=SEEDS)
    return result


def main(out: Path) -> None:
    """Measure and write."""
    data = Path(os.environ["SALUS_DATA"])
    tasks = {name: registry.load("salus.tasks", name) for name in ("dna-splice", "rosmap")}
    results = [splice(tasks["dna-splice"], data, "val"), probe(tasks["dna-splice"], data), splice(tasks["dna-splice"], data, "test")]
    results.append(rosmap(tasks["rosmap"], data))
    rows = [row for result in results for row in result.rows]
    for row in rows:
        interval = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n {row.n}"
        print(f"{row.task:10} {row.split:5} {row.model:60} {row.metric:20} {interval} {row.subgroup}")
    folders = [data / task.folders[0] for task in tasks.values()]
    tree = {
        "command": f"python scripts/measure_omics.py {out.name}",
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {folder.name: tree_hash(folder) for folder in folders},
        "split_hashes": {folder.name: file_hash(folder / "split.csv") for folder in folders},
        "rows": [asdict(row) for row in rows],
    }
    write_result(tree, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
