"""The record-reading question set: splits, sizes, answers that two independent rules agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from salus.cohorts.split_file import read_split
from salus.cohorts.variable_names import names_by_series
from salus.reason import lists, lookup
from salus.reason.series import series_of
from salus.record.patient import PatientRecord
from salus.task import SPLITS, Example, Split
from salus.tasks import record_reading

FAMILIES = {
    "latest", "earliest", "highest", "lowest", "change", "trend", "count", "measured", "out_of_range", "when",
    "active_medicines", "active_conditions", "allergies", "demographics",
}  # fmt: skip
LOOKED_UP = {
    "latest": lookup.latest,
    "earliest": lookup.earliest,
    "highest": lookup.highest,
    "lowest": lookup.lowest,
    "change": lookup.change,
    "trend": lookup.trend,
    "count": lookup.count,
    "measured": lookup.measured,
    "out_of_range": lookup.out_of_range,
    "when_highest": lookup.highest,
    "when_latest": lookup.latest,
}


@pytest.fixture(scope="module")
def examples(salus_data: Path) -> dict[Split, Sequence[Example]]:
    return {split: record_reading.read(salus_data, split) for split in SPLITS}


def test_synthetic_patients_are_split_70_15_15() -> None:
    assert Counter(record_reading.synthetic_splits().values()) == {"train": 700, "val": 150, "test": 150}


@pytest.mark.data
@pytest.mark.slow
def test_every_family_has_its_number_in_every_split(examples: dict[Split, Sequence[Example]]) -> None:
    for split, own in examples.items():
        assert Counter(example.family for example in own) == dict.fromkeys(FAMILIES, record_reading.PER_FAMILY[split])


@pytest.mark.data
@pytest.mark.slow
def test_no_subject_is_in_two_splits_and_ids_are_unique(examples: dict[Split, Sequence[Example]]) -> None:
    where: dict[str, set[str]] = {}
    for split, own in examples.items():
        assert len({example.id for example in own}) == len(own)
        for example in own:
            where.setdefault(example.subject_id, set()).add(split)
    assert [subject for subject, splits in where.items() if len(splits) > 1] == []


@pytest.mark.data
@pytest.mark.slow
def test_stays_keep_their_own_split(examples: dict[Split, Sequence[Example]], salus_data: Path) -> None:
    published = read_split(salus_data / "icu_physionet2012" / "split.csv", "RecordID")
    for split, own in examples.items():
        assert {published.get(example.subject_id, split) for example in own} == {split}


@pytest.mark.data
@pytest.mark.slow
def test_a_yes_or_no_family_and_the_rare_answers_are_balanced(examples: dict[Split, Sequence[Example]]) -> None:
    for family in ("measured", "out_of_range", "trend"):
        answers = Counter(example.answer for example in examples["test"] if example.family == family)
        assert min(answers.values()) >= 12, answers


@pytest.mark.data
@pytest.mark.slow
def test_reading_again_gives_the_same_examples_and_the_items_exist(
    examples: dict[Split, Sequence[Example]], salus_data: Path
) -> None:
    again = record_reading.read(salus_data, "val")
    assert [(e.id, e.question, e.answer, e.item_ids) for e in again] == [
        (e.id, e.question, e.answer, e.item_ids) for e in examples["val"]
    ]
    for example in again[::20]:
        assert set(example.item_ids) <= set(example.record().by_id())


def _looked_up(record: PatientRecord, family: str, key: str) -> tuple[str | None, set[str]]:
    if family in LOOKED_UP:
        series = series_of(record).get(key)
        fact = LOOKED_UP[family](series) if series else lookup.not_recorded("it", key, is_yes_no=True)
    elif family in ("age", "sex"):
        fact = next((fact for fact in lists.demographics(record) if fact.subject == family), None)
    else:
        fact = lists.listed(record, family)  # type: ignore[arg-type]
    return (fact.short, set(fact.item_ids)) if fact else (None, set())


@pytest.mark.data
def test_the_lookup_gives_the_known_answers_and_cites_their_items(salus_data: Path) -> None:
    # Two rules that share no code; only how numbers, units and times are printed.
    patients = [
        *record_reading._icu_patients(salus_data, "test")[:40],
        *record_reading._real_fhir_patients(salus_data, "test"),
        *record_reading._synthetic_patients("test")[:40],
    ]
    for patient in patients:
        record = patient.read()
        for family, (key, known) in record_reading._answers(record, names_by_series(record), patient.subject_id).items():
            short, cited = _looked_up(record, family, key)
            assert (family, short) == (family, known.answer)
            assert set(known.item_ids) <= cited
