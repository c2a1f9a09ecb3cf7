"""Plain classifiers on band summaries of coughs: `python scripts/cough_baseline.py OUT.json`; data from $SALUS_DATA.

A sanity check, not a result about COVID-19: labels follow the recording channel, so the AUROC within one source stands beside the plain
one, and so does that of the source alone. The classifier is chosen on `val`; `test` is scored once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from salus import registry
from salus.classifiers import build_classifier
from salus.encode.sound_summary import summarise_sound
from salus.evaluate.rows import Result, Row, commit, file_hash, tree_hash, write_result
from salus.evaluate.suite import site_number, within_site_auroc
from salus.metrics import Floats, auroc, bootstrap
from salus.record.patient import Sound
from salus.task import Classifier, Example

CANDIDATES: tuple[Classifier, ...] = ("logistic_regression", "random_forest", "extra_trees", "gradient_boosting")


def table_of(examples: Sequence[Example]) -> Floats:
    """Return (n, 34 · 48) band summaries of the first channel; NaN where a cough is shorter than 2 s."""
    rows = []
    for example in examples:
        (item,) = example.record().items
        sound = item.content.load() if item.content else None
        assert isinstance(sound, Sound)
        rows.append(summarise_sound(sound.samples[0], sound.sampling_rate_hz).ravel())
    return np.array(rows, dtype=np.float64)


def main(out: Path) -> None:
    """Fit on train, choose on val, score test once, write."""
    data = Path(os.environ["SALUS_DATA"])
    task = registry.load("salus.tasks", "cough")
    splits = {split: task.read(data, split) for split in ("train", "val", "test")}
    tables = {split: table_of(examples) for split, examples in splits.items()}
    known = np.isfinite(tables["train"]).any(axis=0)
    tables = {split: np.where(np.isfinite(table), table, np.nan)[:, known] for split, table in tables.items()}
    truth = {split: np.array([float(one.answer == task.positive) for one in examples]) for split, examples in splits.items()}
    sites = {split: np.array([site_number(one.subgroup["source"]) for one in examples]) for split, examples in splits.items()}
    fitted = {name: build_classifier(name, 0).fit(tables["train"], truth["train"]) for name in CANDIDATES}
    rows: list[Row] = []
    chosen, best = CANDIDATES[0], -1.0
    on_val = Result("val")
    for name, classifier in fitted.items():
        groups = [one.subject_id for one in splits["val"]]
        found = bootstrap(auroc, truth["val"], classifier.predict_proba(tables["val"])[:, 1], groups)
        on_val.add(task.name, "candidate", name, metric="auroc", found=found)
        if found.value > best:
            chosen, best = name, found.value
    on_test = Result("test")
    groups = [one.subject_id for one in splits["test"]]
    score = fitted[chosen].predict_proba(tables["test"])[:, 1]
    on_test.add(task.name, "baseline", chosen, metric="auroc", found=bootstrap(auroc, truth["test"], score, groups))
    both = bootstrap(within_site_auroc, truth["test"], np.column_stack([sites["test"], score]), groups)
    on_test.add(task.name, "baseline", chosen, metric="auroc_within_site", found=both)
    means = {site: truth["train"][sites["train"] == site].mean() for site in set(sites["train"])}
    alone = np.array([means[site] for site in sites["test"]])
    found = bootstrap(auroc, truth["test"], alone, groups)
    on_test.add(task.name, "baseline", "source alone", metric="auroc", found=found, selected_on="none")
    for source in sorted({one.subgroup["source"] for one in splits["test"]}):
        at = np.flatnonzero(sites["test"] == site_number(source))
        found = bootstrap(auroc, truth["test"][at], score[at], [groups[place] for place in at])
        on_test.add(task.name, "baseline", chosen, metric="auroc", found=found, subgroup=f"source={source}")
    rows = [*on_val.rows, *on_test.rows]
    for row in rows:
        print(f"{row.split:5} {row.model:20} {row.metric:18} {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n {row.n} {row.subgroup}")
    folder = data / task.folders[0]
    tree = {
        "command": f"python scripts/cough_baseline.py {out.name}",
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {folder.name: tree_hash(folder)},
        "split_hashes": {folder.name: file_hash(folder / "split.csv")},
        "rows": [asdict(row) for row in rows],
        "notes": {"coughs without a summary (under 2 s)": {s: int(np.isnan(t).all(axis=1).sum()) for s, t in tables.items()}},
    }
    write_result(tree, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
