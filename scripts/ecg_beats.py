"""Kinds of heartbeat by the waveform network with its own head: `python scripts/ecg_beats.py OUT.json`; data from $SALUS_DATA.

`ecg-beat`: fitted on `train` (348 beats), epochs chosen on `val` (76), `test` (76) read once, beside tree ensembles on the same samples.
All beats are one patient's: the intervals are over beats and say nothing about other patients.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from measure_omics import answers_of, mean_accuracy, prepared_of, right_of, trained

from salus import registry
from salus.classifiers import build_classifier
from salus.encode.signal import SignalEncoder
from salus.evaluate.rows import Result, commit, file_hash, tree_hash, write_result
from salus.metrics import bootstrap, paired
from salus.task import Classifier
from salus.tasks.ecg_beat import LEAD, TASK
from salus.train.recipe import EncoderRecipe

EPOCHS = (10, 20, 40)
RECIPE = EncoderRecipe(batch_size=32, lr=2e-3, weight_decay=0.05)
SEEDS = (0, 1, 2)
RIVALS: tuple[Classifier, ...] = ("random_forest", "extra_trees", "logistic_regression")


def network() -> SignalEncoder:
    """Return a fresh network over one beat: one token, 100 samples."""
    return SignalEncoder(width=32, seconds=1, rate_hz=100, leads=(LEAD,))


def main(out: Path) -> None:
    """Measure and write."""
    data = Path(os.environ["SALUS_DATA"])
    task = registry.load("salus.tasks", TASK.name)
    examples = {split: task.read(data, split) for split in ("train", "val", "test")}
    parts = {split: prepared_of(network(), made, "ecg") for split, made in examples.items()}
    answers = {split: answers_of(made) for split, made in examples.items()}
    on_val, on_test, best = Result("val"), Result("test"), (-1.0, 0)
    for epochs in EPOCHS:
        inputs = (parts["train"], parts["val"])
        made = [trained(network, inputs, answers["train"], replace(RECIPE, epochs=epochs), seed) for seed in SEEDS]
        groups = [one.subject_id for one in examples["val"]]
        found = bootstrap(mean_accuracy, np.ones(len(groups)), right_of(made, answers["val"]), groups)
        words = f"waveform network, {epochs} epochs, mean of 3 seeds"
        on_val.add(task.name, "candidate", words, metric="accuracy", found=found, seeds=SEEDS)
        best = max(best, (found.value, -epochs))
    inputs, groups = (parts["train"], parts["test"]), [one.subject_id for one in examples["test"]]
    ones = np.ones(len(groups))
    recipe = replace(RECIPE, epochs=-best[1])
    right = right_of([trained(network, inputs, answers["train"], recipe, seed) for seed in SEEDS], answers["test"])
    found = bootstrap(mean_accuracy, ones, right, groups)
    on_test.add(task.name, "candidate", "waveform network, mean of 3 seeds", metric="accuracy", found=found, seeds=SEEDS)
    tables = [np.stack([one.arrays["samples"].ravel() for one in part]).astype(np.float64) for part in inputs]
    common = (answers["test"] == np.bincount(answers["train"]).argmax()).astype(np.float64)
    found = bootstrap(mean_accuracy, ones, common[:, None], groups)
    on_test.add(task.name, "baseline", "majority", metric="accuracy", found=found, selected_on="none")
    for rival in RIVALS:
        told = [build_classifier(rival, seed).fit(tables[0], answers["train"]) for seed in SEEDS]
        other = np.column_stack([one.classes_[one.predict_proba(tables[1]).argmax(1)] == answers["test"] for one in told]).astype(float)
        on_test.add(task.name, "baseline", rival, metric="accuracy", found=bootstrap(mean_accuracy, ones, other, groups), seeds=SEEDS)
        gap = paired(mean_accuracy, ones, right, other, groups)
        on_test.add(task.name, "candidate", f"waveform network minus {rival}", metric="accuracy_difference", found=gap, seeds=SEEDS)
    rows = [*on_val.rows, *on_test.rows]
    for row in rows:
        print(f"{row.split:5} {row.model:66} {row.metric:20} {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n {row.n}")
    folder = data / task.folders[0]
    tree = {
        "command": f"python scripts/ecg_beats.py {out.name}",
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {folder.name: tree_hash(folder)},
        "split_hashes": {folder.name: file_hash(folder / "split.csv")},
        "rows": [asdict(row) for row in rows],
        "notes": {"patients": 1, "unit of the bootstrap": "beat"},
    }
    write_result(tree, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
