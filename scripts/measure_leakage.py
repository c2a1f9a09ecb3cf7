"""Measures what a note tells of its label beside its findings: `python scripts/measure_leakage.py OUT.json`. Data come from $SALUS_DATA.

`cxr-covid`, `train` and `val` alone, out of five folds that keep a patient group together. A logistic regression over hashed words reads
each note before and after `without_label`, and its length alone; another is told only whether there is a note. Near 0.5 after removal:
nothing is left; far above it: findings, style or source still tell the label. The words that weigh most are listed, to find missed ones.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from salus.cohorts.split_file import read_rows, read_split
from salus.evaluate.alignment_texts import cleaned_note
from salus.evaluate.fusion import leakage
from salus.evaluate.fusion.cxr import COLUMNS, FOLDER, TASK
from salus.evaluate.fusion.leakage import hashed_words, without_label
from salus.evaluate.rows import Result, commit, file_hash, tree_hash, write_result
from salus.metrics import auroc, bootstrap, paired

SEED = 0
FOLDS = 5
SHOWN = 40
"""Words listed of each kind."""
RAREST = 4
"""Notes that hold a word that is listed, at least."""
HOW = "nothing: set beforehand"
Floats = NDArray[np.float64]


def classifier() -> LogisticRegression:
    """Return the reader of words, with settings that were set beforehand."""
    return LogisticRegression(C=1.0, max_iter=2000)


def out_of_fold(features: Floats, answers: NDArray[np.int64], groups: Sequence[str]) -> Floats:
    """Return (n,) probabilities of COVID-19, each from a fit that saw nothing of the patient's group."""
    made = np.zeros(len(answers))
    for rows, left in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED).split(features, answers, groups):
        made[left] = classifier().fit(features[rows], answers[rows]).predict_proba(features[left])[:, 1]
    return made


def telling_words(notes: Sequence[str], answers: NDArray[np.int64]) -> dict[str, list[tuple[str, float]]]:
    """Return the words that weigh most for either answer, with their coefficients, fitted on all notes."""
    counted = CountVectorizer(binary=True, min_df=RAREST)
    weights = classifier().fit(counted.fit_transform(notes), answers).coef_[0]
    order, words = np.argsort(weights), counted.get_feature_names_out()
    ends = {TASK.options[0]: order[:SHOWN], TASK.options[1]: order[::-1][:SHOWN]}
    return {option: [(str(words[one]), round(float(weights[one]), 2)) for one in places] for option, places in ends.items()}


def main(out: Path) -> None:
    """Read, remove, score, write."""
    data = Path(os.environ["SALUS_DATA"])
    splits = read_split(data / FOLDER / "split.csv", "patient_group")
    table = read_rows(data / FOLDER / "metadata.csv", COLUMNS)
    rows = [row for row in table if splits.get(row["patient_group"]) in ("train", "val")]
    answers = np.array([int("COVID-19" in row["finding"]) for row in rows], np.int64)
    groups = [row["patient_group"] for row in rows]
    notes = [cleaned_note(row["clinical_notes"]) for row in rows]
    has_note = [place for place, note in enumerate(notes) if note]
    told, whose = answers[has_note], [groups[place] for place in has_note]
    before = [notes[place] for place in has_note]
    after = [without_label(note) for note in before]
    result, truth = Result("train and val, out of fold"), told.astype(float)
    ways = {
        "words of the note as published": hashed_words(before),
        "words of the note without its label": hashed_words(after),
        "length of the note without its label": np.log1p([[len(note)] for note in after]),
    }
    made = {words: out_of_fold(features, told, whose) for words, features in ways.items()}
    for words, scores in made.items():
        found = bootstrap(auroc, truth, scores, whose, seed=SEED)
        result.add(TASK.name, "ablation", words, metric="auroc", found=found, seeds=(SEED,), selected_on=HOW)
    first, second = list(made)[:2]
    lost = paired(auroc, truth, made[first], made[second], whose, seed=SEED)
    result.add(TASK.name, "ablation", "as published less without its label", metric="auroc difference", found=lost, selected_on=HOW)
    there = out_of_fold(np.array([[float(bool(note))] for note in notes]), answers, groups)
    found = bootstrap(auroc, answers.astype(float), there, groups, seed=SEED)
    result.add(TASK.name, "ablation", "whether there is a note", metric="auroc", found=found, selected_on=HOW)
    tree = {
        "command": f"python scripts/measure_leakage.py {out}", "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {FOLDER: tree_hash(data / FOLDER)}, "split_hashes": {FOLDER: file_hash(data / FOLDER / "split.csv")},
        "code_hashes": {"leakage.py": file_hash(Path(str(leakage.__file__)))},
        "rows": [asdict(row) for row in result.rows],
        "notes": {
            "images": len(rows), "with a note": len(has_note), "groups": len(set(groups)), "COVID-19": int(answers.sum()),
            "notes with nothing left": sum(not note for note in after), "telling words": telling_words(after, told),
        },
    }  # fmt: skip
    write_result(tree, out)
    for row in result.rows:
        print(f"{row.model}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n {row.n}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
