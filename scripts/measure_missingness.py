"""Measures how accuracy falls as evidence goes missing: `python scripts/measure_missingness.py OUT.json [MODEL]`.

In-hospital death (`icu-death`), `val` alone. A share of each patient's measured variables, of all single measurements, or of the
patients' whole modality is left out at random; the shipped encoder reads what is left, and a logistic regression over its pooled
tokens, fitted on whole `train` patients, scores it. A patient of whom nothing is left gets the share of deaths in `train`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from salus import registry
from salus.commands.loading import load_named_model
from salus.encode.encoder import Encoder, Prepared, stack
from salus.evaluate.page import render_page
from salus.evaluate.rows import Result, write_result
from salus.metrics import auroc, bootstrap
from salus.model import SalusModel, prepare_modality
from salus.record.patient import PatientRecord
from salus.record.variables import series_key
from salus.task import Example

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SEED = 0
STRENGTH = 0.01
"""Inverse of the L2 penalty, set beforehand."""
MODALITY = "vitals_labs"
Dropped = Callable[[PatientRecord, float, np.random.Generator], PatientRecord]


@dataclass(frozen=True)
class Probe:
    """The shipped encoder with a logistic regression over its pooled tokens."""

    encoder: Encoder
    head: LogisticRegression
    prior: float

    def scores(self, records: Sequence[PatientRecord]) -> NDArray[np.float64]:
        """Return (n,) probabilities of death."""
        prepared = [prepare_modality(self.encoder, MODALITY, record) for record in records]
        out = np.full(len(records), self.prior)
        rows = [row for row, one in enumerate(prepared) if one is not None]
        if rows:
            out[rows] = self.head.predict_proba(vectors(self.encoder, [prepared[row] for row in rows]))[:, 1]
        return out


@torch.inference_mode()
def vectors(encoder: Encoder, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return (n, N · D) pooled tokens."""
    parts = [encoder(stack(prepared[start : start + 256]))[0].flatten(1).numpy() for start in range(0, len(prepared), 256)]
    return np.concatenate(parts)


def without(record: PatientRecord, keep: Callable[[int], bool]) -> PatientRecord:
    """Return the record without those measurements, by place; who the patient is stays."""
    items = record.items
    return replace(record, items=tuple(one for place, one in enumerate(items) if one.category == "demographic" or keep(place)))


def drop_variables(record: PatientRecord, share: float, rng: np.random.Generator) -> PatientRecord:
    """Leave out this share of the measured variables, whole."""
    keys = sorted({series_key(item) for item in record.items if item.category != "demographic"})
    gone = {keys[place] for place in rng.permutation(len(keys))[: round(share * len(keys))]}
    return without(record, lambda place: series_key(record.items[place]) not in gone)


def drop_measurements(record: PatientRecord, share: float, rng: np.random.Generator) -> PatientRecord:
    """Leave out each single measurement with this chance."""
    stays = rng.random(len(record.items)) >= share
    return without(record, lambda place: bool(stays[place]))


def drop_modality(record: PatientRecord, share: float, rng: np.random.Generator) -> PatientRecord:
    """Leave out the whole modality with this chance."""
    is_gone = rng.random() < share
    return without(record, lambda _place: not is_gone)


WAYS: dict[str, Dropped] = {
    "variables of each patient": drop_variables,
    "single measurements": drop_measurements,
    "whole modality of a patient": drop_modality,
}


def fitted(model: SalusModel, examples: Sequence[Example]) -> Probe:
    """Return the probe, fitted on whole patients."""
    encoder = model.encoder(MODALITY)
    pairs = [(prepare_modality(encoder, MODALITY, example.record()), example.answer == "yes") for example in examples]
    known = [(one, died) for one, died in pairs if one is not None]
    head = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2000))
    head.fit(vectors(encoder, [one for one, _ in known]), [died for _, died in known])
    return Probe(encoder, head, float(np.mean([died for _, died in pairs])))


def main(out: Path, model_name: str | None) -> None:
    """Fit, leave out, score and write."""
    data = Path(os.environ["SALUS_DATA"])
    task = registry.load("salus.tasks", "icu-death")
    model = load_named_model(model_name, None)
    probe = fitted(model, task.read(data, "train"))
    examples = task.read(data, "val")
    records = [example.record() for example in examples]
    truth = np.array([float(example.answer == task.positive) for example in examples])
    groups = tuple(example.subject_id for example in examples)
    result = Result("val")
    curves: dict[str, list[list[float]]] = {}
    for words, drop in WAYS.items():
        rng = np.random.default_rng(SEED)
        for share in SHARES:
            found = bootstrap(auroc, truth, probe.scores([drop(record, share, rng) for record in records]), groups)
            curves.setdefault(words, []).append([share, found.value, found.low, found.high])
            name = f"probe of the shipped encoder, {share:.0%} missing: {words}"
            result.add(task.name, "ablation", name, metric="auroc", found=found, seeds=(SEED,), selected_on="nothing: set beforehand")
            print(f"{name}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], n = {found.n}", flush=True)
        result.curves[task.name] = {"missing": curves}
        tree = result.to_json(model, data, task.folders)
        tree = {**tree, "command": f"python scripts/measure_missingness.py {out}"}
        write_result(tree, out)  # after each way, so that a run cut short keeps what it measured
        out.with_suffix(".html").write_text(render_page(tree), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
