"""Splits by patient. Expected sizes follow from the fractions alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import ConfigError
from salus.record.split import assign, check_no_leak

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@given(st.lists(st.text(min_size=1, max_size=8)), st.integers(0, 1000), st.randoms())
def test_order_and_repeats_do_not_matter_and_no_patient_is_lost(subject_ids, seed, random):
    shuffled = subject_ids + subject_ids[:2]
    random.shuffle(shuffled)
    splits = assign(subject_ids, FRACTIONS, seed)
    assert splits == assign(shuffled, FRACTIONS, seed)
    assert set(splits) == set(subject_ids)
    sizes = Counter(splits.values())
    for name, share in FRACTIONS.items():
        assert abs(sizes[name] - share * len(splits)) <= 1.0


def test_hundred_patients_fall_exactly_by_fraction_and_differ_by_seed():
    subject_ids = [str(number) for number in range(100)]
    first, second = assign(subject_ids, FRACTIONS, 0), assign(subject_ids, FRACTIONS, 1)
    assert Counter(first.values()) == {"train": 70, "val": 15, "test": 15}
    assert first != second


@pytest.mark.parametrize("fractions", [{"train": 0.7}, {"train": 1.5, "test": -0.5}, {"train": float("nan")}])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ConfigError, match=r"the fractions must be 0 or more and sum to 1. Mend them in the recipe"):
        assign(["a"], fractions, 0)


def test_leak_is_named_with_at_most_three_keys():
    with pytest.raises(ConfigError) as caught:
        check_no_leak({"train": list("abcde"), "test": list("abcd")})
    assert str(caught.value) == (
        "Cannot use these splits: 4 patients are in more than one of them (a in train and test; b in train and test; "
        "c in train and test; and 1 more). Keep each patient in one split."
    )
    check_no_leak({"train": ["a", "a"], "test": ["b"]})


@given(st.sets(st.text(min_size=1)), st.integers())
def test_assigned_splits_never_leak(subject_ids, seed):
    splits: dict[str, list[str]] = {}
    for key, name in assign(subject_ids, FRACTIONS, seed).items():
        splits.setdefault(name, []).append(key)
    check_no_leak(splits)
