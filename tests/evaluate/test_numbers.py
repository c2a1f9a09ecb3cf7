"""The audit of numbers finds what is not in the record, and nothing else. The numbers of the made-up patient are in `course`."""

from __future__ import annotations

import pytest
from tests.reason.patient_of_items import course, icu, record_of

from salus.evaluate.numbers import stray_numbers
from salus.generate.answer import Answer, Disclosure, Statement

LONG = record_of(icu("Weight", "kg", (1, 85.29215894), (30, 79.53842211)))


def answer(text: str, *, is_standing: bool = True) -> Answer:
    statement = Statement(text, (), None, "verified" if is_standing else "withheld")
    return Answer("?", "p", None, (statement,), (), (), None, (), Disclosure("", "", "", ""), {})


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("Latest creatinine: 2.4 mg/dL at 40 h 30 min.", ()),
        ("Creatinine rose by 1.3 mg/dL, from 1.1 mg/dL to 2.4 mg/dL [1].", ()),
        ("Latest creatinine: 2.7 mg/dL at 40 h 30 min.", ("2.7",)),
        ("Creatinine rose by 1.4 mg/dL.", ("1.4",)),
        ("3 values of 140 mmol/L.", ()),
        ("Metoprolol 25 MG Oral Tablet", ()),
        ("Metoprolol 625 MG Oral Tablet", ("625",)),
    ],
)
def test_numbers_of_an_answer(text: str, stray: tuple[str, ...]) -> None:
    assert stray_numbers(answer(text), course()) == stray


def test_a_long_number_may_stand_rounded_to_six_digits_and_no_fewer() -> None:
    """By hand: 85.29215894 and 79.53842211 print as 85.2922 and 79.5384, their difference as 5.7538."""
    assert stray_numbers(answer("Weight fell by 5.7538 kg, from 85.2922 kg to 79.5384 kg."), LONG) == ()
    assert stray_numbers(answer("Weight 85.292 kg."), LONG) == ("85.292",)
    short = record_of([*icu("Weight", "kg", (1, 85.292151)), *icu("HR", "/min", (1, 80.0))])
    assert stray_numbers(answer("Weight 85.2922 kg."), short) == ("85.2922",)


def test_what_is_withheld_is_not_audited() -> None:
    assert stray_numbers(answer("999", is_standing=False), course()) == ()
