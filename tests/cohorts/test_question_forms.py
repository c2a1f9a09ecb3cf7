"""Question forms: enough of them, and none shared between splits."""

from __future__ import annotations

from collections import Counter

import pytest

from salus.cohorts.known_answers import BY_SERIES, WHOLE
from salus.cohorts.question_forms import REPORTED_AS, forms
from salus.task import SPLITS

FEWEST = {"train": 12, "val": 3, "test": 4}


def _plain(form: str) -> str:
    return " ".join("".join(letter if letter.isalnum() else " " for letter in form.lower()).split())


def test_no_form_is_shared_between_splits_or_families() -> None:
    counts = Counter(_plain(form) for one in forms().values() for split in SPLITS for form in one.of(split))
    assert [form for form, n in counts.items() if n > 1] == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_reported_family_has_enough_forms(split: str) -> None:
    counts: Counter[str] = Counter()
    for family, one in forms().items():
        counts[REPORTED_AS.get(family, family)] += len(one.of(split))  # type: ignore[arg-type]
    assert {family: n for family, n in counts.items() if n < FEWEST[split]} == {}
    assert len(counts) == 14


@pytest.mark.parametrize("family", sorted(forms()))
def test_the_variable_is_named_exactly_where_the_family_needs_one(family: str) -> None:
    wanted = 0 if family in WHOLE else 1
    assert {form.count("{v}") for split in SPLITS for form in forms()[family].of(split)} == {wanted}


def test_every_family_with_an_answer_has_forms() -> None:
    assert set(forms()) == {*BY_SERIES, *WHOLE, "measured"}
