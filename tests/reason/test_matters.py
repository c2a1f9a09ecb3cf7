"""The two rankings, against the rule worked out by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.reason.patient_of_items import course

from salus.reason.matters import changes, matters


def test_changes_by_difference_over_spread() -> None:
    found = changes(course(), 10)
    # creatinine 1.3 / 0.6997, temperature 1.6 / 1.19, potassium 0.9 / 0.7447, heart rate 15 / 20.35; sodium does not change
    assert [(fact.series, round(fact.salience, 3)) for fact in found] == [
        ("creatinine", 1.858),
        ("temperature", 1.345),
        ("potassium", 1.209),
        ("heart_rate", 0.737),
    ]
    assert [fact.series for fact in changes(course(), 2)] == ["creatinine", "temperature"]


def test_matters_by_distance_outside_and_what_is_new() -> None:
    found = matters(course(), 10)
    # temperature (38.6 - 37.3) / 0.8 = 1.625; creatinine 1.2 / 0.6 = 2; new in the last 24 h: sepsis, norepinephrine
    assert [(fact.subject, round(fact.salience, 3)) for fact in found] == [
        ("creatinine", 2.0),
        ("temperature", 1.625),
        ("Sepsis", 1.0),
        ("Norepinephrine", 1.0),
        ("active conditions", 0.5),
        ("active medicines", 0.4),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_items_does_not_matter(seed: int) -> None:
    record = course()
    items = list(record.items)
    random.Random(seed).shuffle(items)
    shuffled = replace(record, items=tuple(items))
    assert [fact.text for fact in changes(shuffled, 10)] == [fact.text for fact in changes(record, 10)]
    assert [fact.text for fact in matters(shuffled, 10)] == [fact.text for fact in matters(record, 10)]
