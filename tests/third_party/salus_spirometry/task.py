"""Airflow obstruction of made-up patients: FEV1/FVC below 0.70 after a bronchodilator.

Makes its own patients, the same ones every time; reads no folder. Source of the rule: GOLD Report 2024, chapter 2.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from salus.record.patient import PatientRecord
from salus.task import Example, Split, Task
from salus_spirometry.modality import NAME, items_of_test

QUESTION = "Does this patient have airflow obstruction?"
COUNTS: dict[Split, int] = {"train": 200, "val": 60, "test": 60}
THRESHOLD = 0.70


def volumes(split: Split, number: int) -> tuple[float, float]:
    """Return FEV1 and FVC of one made-up patient, litres; every second one is drawn from an obstructed population.

    Example:
        >>> volumes("train", 0) == volumes("train", 0)
        True
    """
    draw = random.Random(f"spirometry {split} {number}")
    fvc_l = min(max(draw.gauss(3.8, 0.8), 1.5), 6.5)
    ratio = draw.gauss(0.56, 0.07) if number % 2 else draw.gauss(0.80, 0.04)
    return round(fvc_l * min(max(ratio, 0.25), 0.95), 2), round(fvc_l, 2)


def make_record(split: Split, number: int) -> PatientRecord:
    """Return the record of one made-up patient: one test, one hour after admission."""
    subject_id = f"{split}-{number}"
    return PatientRecord(subject_id, items_of_test(*volumes(split, number), name=f"{subject_id}.csv"))


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per made-up patient of a split.

    Args:
        data: not read.
        split: which patients.
    """
    examples = []
    for number in range(COUNTS[split]):
        fev1_l, fvc_l = volumes(split, number)
        record = make_record(split, number)
        examples.append(
            Example(
                id=f"spirometry-obstruction/{record.subject_id}",
                subject_id=record.subject_id,
                record=partial(make_record, split, number),
                question=QUESTION,
                options=("no", "yes"),
                answer="yes" if fev1_l / fvc_l < THRESHOLD else "no",
                item_ids=tuple(item.id for item in record.items),
            )
        )
    return tuple(examples)


TASK = Task(
    name="spirometry-obstruction",
    title="Airflow obstruction from spirometry (made-up patients)",
    modalities=(NAME,),
    metric="auroc",
    read=read,
    folders=(),
    licence="CC0-1.0",
    may_shape_shipped_weights=True,
    positive="yes",
    pass_above=0.7,
)
