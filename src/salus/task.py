"""What a task is: questions about patients with known answers, for training and evaluation.

Task plug-ins (`salus/tasks/`, entry points `salus.tasks`) read a cohort and give examples; nobody imports them. One form for
training and evaluation: what is asked in training is what is asked in serving. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from salus.record.patient import PatientRecord

Split = Literal["train", "val", "test"]
Classifier = Literal["gradient_boosting", "logistic_regression", "random_forest", "extra_trees"]
"""Of plain tables; `salus.classifiers` builds them."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Example:
    """One question about one patient, with its answer."""

    id: str
    subject_id: str
    """Bootstrap and leakage unit: patient, or image or recording where no patient is known."""
    record: Callable[[], PatientRecord]
    """Reads the record when needed, already cut to what the question may use."""
    question: str
    options: tuple[str, ...]
    """Declared options; empty for an open question."""
    answer: str
    """One of `options`, or the exact short answer."""
    family: str = ""
    """Question family; the task id in results is `<task>/<family>` when set."""
    subgroup: Mapping[str, str] = field(default_factory=dict)
    """Such as `{"sex": "female", "age_band": "65-79"}`, where known."""
    item_ids: tuple[str, ...] = ()
    """Items that contain the answer, where the task knows them."""


@dataclass(frozen=True)
class Task:
    """A family of questions over one cohort."""

    name: str
    """Task id of results: `icu-death`."""
    title: str
    modalities: tuple[str, ...]
    """Modalities whose interpretation this task evaluates."""
    metric: Literal["auroc", "accuracy", "exact_match"]
    read: Callable[[Path, Split], Sequence[Example]]
    """Data folder (holding the cohort's own folder) and split → examples; in a stable order."""
    folders: tuple[str, ...]
    """Names of its cohorts' folders below the data folder; empty when the task makes its own patients."""
    licence: str
    may_shape_shipped_weights: bool
    positive: str | None = None
    """The option whose probability is ranked, for `auroc`."""
    pass_above: float | None = None
    """A modality is interpreted when the lower end of the 95 % interval on `val` is above this; None: never by this task."""
    rivals: tuple[Classifier, ...] = ()
    """Fitted in the run of an evaluation, on the tables of the task's first modality."""
    severity: tuple[str, Callable[[Path, Sequence[Example]], Sequence[float]]] | None = None
    """Name of a published score, and data folder and examples → its values (NaN where unknown); never evidence, only a rival."""
    site: str | None = None
    """Subgroup that follows the label, such as the place of recording: the AUROC is then also given over pairs within one."""
