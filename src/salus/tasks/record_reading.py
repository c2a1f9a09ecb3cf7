"""Questions about a record whose answers are known by rule: the last potassium, the trend, the active medicines.

Takes ICU stays (by their split), the real Synthea bundles (by theirs) and synthetic bundles made here (split by a seeded hash);
gives examples per question family. Answers come from `salus.cohorts.known_answers`, which shares no code with the lookup that
it tests. No answer needs more than one record. Of each patient only chosen files are read, and only once to build the list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from salus.cohorts.known_answers import BY_SERIES, WHOLE, Known, Series, measured, series_of
from salus.cohorts.one_file import read_one_file
from salus.cohorts.question_forms import REPORTED_AS, forms, question
from salus.cohorts.split_file import in_order_of_hash, read_rows, read_split
from salus.cohorts.synthetic_fhir import read_synthetic, subject_of
from salus.cohorts.variable_names import names_by_series
from salus.record.patient import PatientRecord
from salus.record.read.fhir import READER as FHIR
from salus.record.read.icu2012 import READER as ICU
from salus.record.split import assign
from salus.record.variables import series_key
from salus.task import Example, Split, Task

ICU_FOLDER = "icu_physionet2012"
FHIR_FOLDERS = ("fhir_synthea_r4", "fhir_synthea_covid")
SYNTHETIC_PATIENTS = 1_000
SYNTHETIC_SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
SEED = 0
READ_ICU = {"train": 240, "val": 60, "test": 120}
"""ICU stays that are read per split, the first by hash of their number."""
READ_SYNTHETIC = {"train": 600, "val": 90, "test": 150}
PER_FAMILY = {"train": 600, "val": 60, "test": 120}
"""Most examples per reported family."""
FEW_ANSWERS = {"trend": ("rising", "falling", "steady", "fluctuating"), "out_of_range": ("high", "low", "in range")}


@dataclass(frozen=True)
class Patient:
    """Where one patient's record comes from."""

    subject_id: str
    read: Callable[[], PatientRecord]


def _icu_patients(data: Path, split: Split) -> list[Patient]:
    folder = data / ICU_FOLDER
    mine = [key for key, part in read_split(folder / "split.csv", "RecordID").items() if part == split]
    return [
        Patient(key, partial(read_one_file, ICU, folder / "set-a" / f"{key}.txt", subject_id=key))
        for key in in_order_of_hash(mine, "record-reading")[: READ_ICU[split]]
    ]


def _real_fhir_patients(data: Path, split: Split) -> list[Patient]:
    patients = []
    for name in FHIR_FOLDERS:
        splits = read_split(data / name / "split.csv", "patient_id")
        for row in read_rows(data / name / "patients.csv", ("patient_id", "file")):
            if splits.get(row["patient_id"]) == split:
                read = partial(read_one_file, FHIR, data / name / row["file"], subject_id=row["patient_id"])
                patients.append(Patient(row["patient_id"], read))
    return patients


@cache
def synthetic_splits() -> dict[str, str]:
    """Return the split of every synthetic patient."""
    return assign([subject_of(number) for number in range(SYNTHETIC_PATIENTS)], SYNTHETIC_SHARES, SEED)


def _synthetic_patients(split: Split) -> list[Patient]:
    numbers = [number for number in range(SYNTHETIC_PATIENTS) if synthetic_splits()[subject_of(number)] == split]
    return [Patient(subject_of(number), partial(read_synthetic, number)) for number in numbers[: READ_SYNTHETIC[split]]]


def _draw(options: Sequence[str], *salt: str) -> str:
    """Return one of the options, fixed by the salt."""
    digest = hashlib.sha256(":".join(salt).encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def _about_series(series: Mapping[str, Series], family: str, subject_id: str) -> tuple[str, Known] | None:
    """Return a series and the answer about it; None when the family can be asked about none.

    Series stand in an order fixed by hash; where answers are a few words, the first with a drawn answer is taken, so that no
    answer is rare.
    """
    wanted = _draw(FEW_ANSWERS[family], subject_id, family) if family in FEW_ANSWERS else None
    first: tuple[str, Known] | None = None
    for key in in_order_of_hash(sorted(series), f"{subject_id}:{family}"):
        known = BY_SERIES[family](series[key])
        if known is not None and wanted in (None, known.answer):
            return key, known
        if known is not None and first is None:
            first = key, known
    return first


def _about_presence(
    record: PatientRecord, series: Mapping[str, Series], names: Sequence[str], subject_id: str
) -> tuple[str, Known] | None:
    """Return a variable and whether it was measured: half the time one of which the record holds nothing."""
    present = {series_key(item) for item in {item.code: item for item in record.items}.values()}
    pool = {"yes": sorted(series), "no": [key for key in names if key not in present]}
    keys = pool[_draw(("yes", "no"), subject_id, "measured")]
    if not series or not keys:
        return None
    key = _draw(keys, subject_id, "measured", "series")
    known = measured(series.get(key))
    return None if known is None else (key, known)


def _answers(record: PatientRecord, names: Mapping[str, object], subject_id: str) -> dict[str, tuple[str, Known]]:
    """Return, by family of forms, the series asked about (empty for the whole record) and the answer."""
    series = {one.key: one for one in series_of(record) if one.key in names}
    chosen = {family: _about_series(series, family, subject_id) for family in BY_SERIES}
    chosen["measured"] = _about_presence(record, series, sorted(names), subject_id)
    for family, rule in WHOLE.items():
        known = rule(record)
        chosen[family] = None if known is None else ("", known)
    return {family: found for family, found in chosen.items() if found is not None}


def _examples_of(patient: Patient, split: Split) -> Iterator[Example]:
    """Yield at most one example per family of forms for one patient."""
    record = patient.read()
    names = names_by_series(record)
    for family, (key, known) in _answers(record, names, patient.subject_id).items():
        name = _draw(names[key], patient.subject_id, family, "name") if key else ""
        form = _draw(forms()[family].of(split), patient.subject_id, family, "form")
        yield Example(
            id=f"record-reading/{family}/{patient.subject_id}",
            subject_id=patient.subject_id,
            record=patient.read,
            question=question(form, name),
            options=(),
            answer=known.answer,
            family=REPORTED_AS.get(family, family),
            item_ids=known.item_ids,
        )


def _capped(examples: Sequence[Example], most: int) -> list[Example]:
    """Return at most `most` examples of each family, chosen by hash, sorted by id."""
    families: dict[str, dict[str, Example]] = {}
    for example in examples:
        families.setdefault(example.family, {})[example.id] = example
    return [
        by_id[key]
        for _, by_id in sorted(families.items())
        for key in sorted(in_order_of_hash(sorted(by_id), "record-reading")[:most])
    ]


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return the questions of a split, sorted by family and id.

    Args:
        data: folder that holds `icu_physionet2012/`, `fhir_synthea_r4/` and `fhir_synthea_covid/`.
        split: `train`, `val` or `test`; by patient, and by question form.

    Returns:
        At most `PER_FAMILY[split]` examples per family. `item_ids` are the items that contain the answer; none for an answer
        that says that something is not there.

    Raises:
        InputError: a cohort's file is missing or cannot be read.
    """
    patients = [*_icu_patients(data, split), *_real_fhir_patients(data, split), *_synthetic_patients(split)]
    examples = [example for patient in patients for example in _examples_of(patient, split)]
    return tuple(_capped(examples, PER_FAMILY[split]))


TASK = Task(
    name="record-reading",
    title="Questions about a record with known answers",
    modalities=("vitals_labs", "ehr"),
    metric="exact_match",
    read=read,
    folders=(ICU_FOLDER, *FHIR_FOLDERS),
    licence="ODC-By 1.0 (ICU stays), Apache-2.0 (Synthea), made here (synthetic)",
    may_shape_shipped_weights=True,
)
