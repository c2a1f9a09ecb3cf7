"""What a question asks for: the model of wordings, the patterns, and how the two agree. Expected kinds are stated by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reason.patient_of_items import course

from salus.cohorts.question_forms import forms, forms_of_no_kind, wordings_sha256
from salus.reason import asked
from salus.reason.asked import AGREED, LIKELY, LIKELY_OF_VARIABLE, SURE, asked_of
from salus.reason.retrieve import LEAST_CERTAINTY, look_up
from salus.reason.wording import NONE, features, kind_probabilities, wording_model

RECORD = course()
LEAST_RIGHT, LEAST_RIGHT_WHERE_SURE = 0.93, 0.95


def test_the_weights_that_ship_know_the_present_wordings() -> None:
    """Run `scripts/fit_wording.py --write` after a change of the wordings."""
    assert wording_model().wordings_sha256 == wordings_sha256()
    assert set(wording_model().labels) == {*forms(), NONE}


def test_wordings_of_val_are_understood() -> None:
    rows = [(form, family) for family, one in forms().items() for form in one.val] + [(form, NONE) for form in forms_of_no_kind("val")]
    found = [kind_probabilities(form) for form, _ in rows]
    guessed = [max(shares, key=lambda label, shares=shares: shares[label]) for shares in found]  # type: ignore[misc]
    right = np.array([guess == label for guess, (_, label) in zip(guessed, rows, strict=True)])
    is_sure = np.array([max(shares.values()) >= SURE for shares in found])
    assert right.mean() >= LEAST_RIGHT
    assert right[is_sure].mean() >= LEAST_RIGHT_WHERE_SURE


def test_probabilities_sum_to_one() -> None:
    assert sum(kind_probabilities("").values()) == pytest.approx(1.0)
    assert sum(kind_probabilities("How low did the {v} get?").values()) == pytest.approx(1.0)


def test_features_have_unit_halves_and_ignore_case() -> None:
    one = features("Peak {v}?")
    assert np.linalg.norm(one) == pytest.approx(2**0.5, rel=1e-5)
    assert np.array_equal(one, features("PEAK {v}?"))


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("What depths did the creatinine sink to?", {"lowest"}),
        ("What number did they start him off with for the potassium?", {"earliest"}),
        ("At what time was the heart rate at its peak?", {"highest"}),
        ("What were the highest and lowest creatinine?", {"highest", "lowest"}),
        ("Why is the creatinine so awkward?", set()),
    ],
)
def test_kinds_of_wordings_that_no_pattern_foresaw(question: str, kinds: set[str]) -> None:
    assert look_up(RECORD, question).asked == kinds


def test_patterns_and_model_in_agreement_leave_no_doubt() -> None:
    found = asked_of("max creatinine?", "max {v}?", names_variable=True)
    assert found.kinds == {"highest"} and found.certainty >= AGREED


def test_where_the_wording_leaves_no_doubt_only_its_kind_is_sought() -> None:
    found = look_up(RECORD, "What was the highest creatinine?")
    assert len(found.facts) > 1 and [fact.kind for fact in found.sought] == ["highest"]
    person = look_up(RECORD, "How old is the patient?")
    assert [fact.subject for fact in person.sought] == ["age"]
    missing = look_up(RECORD, "What was the highest lactate?")
    assert [fact.kind for fact in missing.sought] == ["not_recorded"]


def test_where_it_leaves_doubt_every_kind_is_shown() -> None:
    found = look_up(RECORD, "creatinine?")
    assert found.asked == frozenset() and found.sought == found.facts and len(found.facts) > 3
    assert 0 < LEAST_CERTAINTY < SURE < AGREED


def test_an_unlikely_guess_that_nothing_else_speaks_for_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "Am I dealing with a lady or a gentleman?"
    assert asked_of(words, words, names_variable=False).person == ("sex",)
    for share, person in ((LIKELY - 0.01, ()), (LIKELY + 0.01, ("sex",))):
        monkeypatch.setattr(asked, "kind_probabilities", lambda _masked, share=share: {"sex": share, "age": 0.3, NONE: 0.7 - share})
        assert asked_of("blue or green?", "blue or green?", names_variable=False).person == person
    for share, kinds in ((LIKELY_OF_VARIABLE - 0.01, frozenset()), (LIKELY_OF_VARIABLE + 0.01, frozenset(("latest",)))):
        monkeypatch.setattr(asked, "kind_probabilities", lambda _masked, share=share: {"latest": share, "trend": 0.3, NONE: 0.7 - share})
        assert asked_of("creatinine, say?", "{v}, say?", names_variable=True).kinds == kinds
