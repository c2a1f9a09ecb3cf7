"""Lists, the person, notes: what is active by status and end, and who the patient is. Expected words by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.reason.patient_of_items import coded, course, hours, item, note, on

from salus.reason.lists import demographics, excerpts, listed, named
from salus.record.patient import Code, Instant, PatientRecord


def test_active_medicines_once_each_latest_first() -> None:
    fact = listed(course(), "active_medicines")
    assert fact.text == "Active medicines (2): Norepinephrine; Metoprolol 25 MG Oral Tablet."
    assert len(fact.item_ids) == 3
    assert fact.short == "Norepinephrine; Metoprolol 25 MG Oral Tablet"


def test_active_conditions() -> None:
    assert listed(course(), "active_conditions").names == ("Sepsis", "Hypertension")


def test_a_status_that_is_not_known_is_said() -> None:
    record = PatientRecord("p", (coded(1, "medication", "Aspirin", hours(1), status=None), coded(2, "medication", "Insulin", hours(2))))
    assert listed(record, "active_medicines").text == "Active medicines (1): Insulin. Status not known: Aspirin."


def test_an_empty_list_says_so() -> None:
    fact = listed(PatientRecord("p", ()), "allergies")
    assert (fact.text, fact.short, fact.item_ids) == ("No allergies are recorded.", "none recorded", ())


def test_a_long_list_is_cited_in_full_and_named_in_part() -> None:
    record = PatientRecord("p", tuple(coded(n, "condition", f"Condition{chr(97 + n)}", hours(n)) for n in range(15)))
    fact = listed(record, "active_conditions")
    assert fact.text.endswith("; and 3 more.")
    assert (len(fact.item_ids), len(fact.names)) == (15, 12)


def test_procedures_have_dates() -> None:
    assert listed(course(), "procedures").text == "Procedures (1): Appendectomy at 4 h."


@pytest.mark.parametrize(
    ("display", "kind", "text", "short"),
    [
        ("Norepinephrine", "active_medicines", "Yes, Norepinephrine is active, recorded at 36 h after admission.", "yes"),
        ("Aspirin 81 MG", "active_medicines", "No, Aspirin 81 MG is not active: ended, recorded at 1 h after admission.", "no"),
        (
            "Viral sinusitis (disorder)",
            "active_conditions",
            "No, Viral sinusitis (disorder) is not active: resolved, recorded at admission.",
            "no",
        ),
        ("Appendectomy", "procedures", "Yes, Appendectomy was recorded at 4 h after admission.", "yes"),
    ],
)
def test_one_name(display: str, kind: str, text: str, short: str) -> None:
    record = course()
    ids = [one.id for one in record.items if one.code.display == display]
    fact = named(record, ids, kind=kind)  # type: ignore[arg-type]
    assert (fact.text, fact.short) == (text, short)


def test_the_person() -> None:
    assert [fact.text for fact in demographics(course())] == ["Age: 54 years.", "Sex: female."]


@pytest.mark.parametrize(
    ("born", "precision", "expected"),
    [((1965, 1, 1), "year", "about 54 years"), ((1965, 6, 1), "day", "53 years"), ((1965, 3, 4), "day", "54 years")],
)
def test_age_from_birth(born: tuple[int, int, int], precision: str, expected: str) -> None:
    birth = item(
        1,
        Code("http://loinc.org", "21112-8", "Birth date"),
        None,
        Instant(datetime(*born, tzinfo=UTC), precision),  # type: ignore[arg-type]
        category="demographic",
    )
    record = PatientRecord("p", (birth, item(2, Code("local", "x", "x"), 1.0, on("2019-03-04"), "1")))
    (fact,) = demographics(record)
    assert fact.short == expected
    assert "1965" not in fact.text


def test_notes_are_quoted_by_shared_words() -> None:
    record = PatientRecord("p", (note(1, "Chest pain since three days. No fever at night.\nPlan: start antibiotics.", hours(2)),))
    (fact,) = excerpts(record, "Was there any fever?", top=1)
    assert fact.text == "Note at 2 h after admission: “No fever at night.”"
    assert excerpts(record, "And the potassium?") == ()
