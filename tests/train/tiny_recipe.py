"""A recipe that trains every stage in seconds: made-up patients whose creatinine decides the answer, random language model.

Run as a program it trains once, so that a test can kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.tiny_model import ENCODERS, LORA, QUESTION, patient

from salus import registry
from salus.config import settings_from
from salus.record.patient import PatientRecord
from salus.task import Example, Split, Task
from salus.train.recipe import Recipe
from salus.train.run import Place, train

FIRST = {"train": 0, "val": 100, "test": 200}
COUNTS = {"train": 40, "val": 24, "test": 24}


def highest(record: PatientRecord) -> float:
    """Return the highest creatinine, mg/dL."""
    return max(item.number for item in record.items if item.code.code == "Creatinine" and item.number is not None)


def read_deaths(data: Path, split: Split) -> Sequence[Example]:
    """Return one question with options for each patient: yes where the creatinine was above 3 mg/dL."""
    numbers = range(FIRST[split], FIRST[split] + COUNTS[split])
    return [
        Example(f"death/{n}", f"patient-{n}", partial(patient, n), QUESTION, ("yes", "no"), "yes" if highest(patient(n)) > 3 else "no")
        for n in numbers
    ]


def read_questions(data: Path, split: Split) -> Sequence[Example]:
    """Return one open question for each patient."""
    found = []
    for n in range(FIRST[split], FIRST[split] + COUNTS[split]):
        high = max((i for i in patient(n).items if i.code.code == "Creatinine"), key=lambda i: (i.number or 0, -len(i.id)))
        found.append(
            Example(f"reading/{n}", f"patient-{n}", partial(patient, n), "How many creatinine values are there?", (),
                    str(sum(i.code.code == "Creatinine" for i in patient(n).items)), family="count", item_ids=(high.id,))
        )  # fmt: skip
    return found


TASKS = {
    "icu-death": Task("icu-death", "made-up deaths", ("vitals_labs",), "auroc", read_deaths, (), "CC0-1.0", True, "yes", 0.6,
                      rivals=("gradient_boosting", "logistic_regression")),
    "record-reading": Task("record-reading", "made-up questions", (), "exact_match", read_questions, (), "CC0-1.0", True),
}  # fmt: skip


def with_tiny_tasks(load: Any) -> Any:
    """Return `registry.load` with the made-up tasks in the place of two that need data."""
    return lambda group, name: TASKS[name] if group == "salus.tasks" and name in TASKS else load(group, name)


def tiny_recipe(backbone: Path, **changes: Any) -> Recipe:
    """Return the recipe."""
    tree = {
        "name": "tiny", "version": "0", "seed": 0, "backbone": str(backbone),
        "encoders": {
            "vitals_labs": {"settings": ENCODERS["vitals_labs"], "task": "icu-death", "records_from": ["icu-death"], "pretext_epochs": 1,
                            "epochs": 2, "batch_size": 16},
            "notes": {"settings": ENCODERS["notes"], "records_from": ["icu-death"], "pretext_epochs": 1},
        },
        "fuser": {"hidden": 16},
        "projector": {"steps": 6, "lr": 0.003, "tasks": {"icu-death": 1.0}, "batch_size": 4, "checkpoint_every": 2,
                      "teacher_weight": 0.5},
        "own_projectors": {"vitals_labs": {"steps": 2, "lr": 0.003, "tasks": {"icu-death": 1.0}, "batch_size": 4, "mixtures": 8}},
        "lora": LORA,
        "language": {"steps": 10, "lr": 0.003, "batch_size": 4, "checkpoint_every": 3,
                     "tasks": {"icu-death": 0.5, "record-reading": 0.2, "record-reading-alone": 0.15, "overview": 0.15}},
        "examples": dict.fromkeys(("icu-death", "record-reading", "record-reading-alone", "overview"), 16),
        "calibration_examples": 12,
    }  # fmt: skip
    return settings_from(Recipe, {**tree, **changes}, "tiny")


def main() -> None:
    """Train: BACKBONE WORK; say when each stage goes on, so that somebody can stop it there."""
    backbone, work = map(Path, sys.argv[1:3])
    registry.load = with_tiny_tasks(registry.load)
    train(tiny_recipe(backbone), Place(work, work, work / "model"), progress=lambda words, _: print(words, flush=True))


if __name__ == "__main__":
    main()
