"""Which facts a question finds. Expected kinds and subjects are stated by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reason.patient_of_items import course

from salus.reason.asked import asked_kinds
from salus.reason.mentions import mentions
from salus.reason.retrieve import look_up

RECORD = course()


@pytest.mark.parametrize(
    ("question", "kind", "subject"),
    [
        ("What is the latest creatinine?", "latest", "creatinine"),
        ("current K", "latest", "potassium"),
        ("Pulse now?", "latest", "heart rate"),
        ("creatinin on admission", "earliest", "creatinine"),
        ("max HR?", "highest", "heart rate"),
        ("What was the nadir of the potassium?", "lowest", "potassium"),
        ("How much did the creatinine change from first to last?", "change", "creatinine"),
        ("Is the creatinine rising?", "trend", "creatinine"),
        ("How many sodium values are there?", "count", "sodium"),
        ("Was the temperature measured?", "measured", "temperature"),
        ("Is the latest creatinine normal?", "out_of_range", "creatinine"),
        ("When was the heart rate highest?", "highest", "heart rate"),
        ("When was the creatinine last checked?", "latest", "creatinine"),
    ],
)
def test_kind_and_variable(question: str, kind: str, subject: str) -> None:
    found = look_up(RECORD, question)
    assert found.is_matched
    assert found.asked == frozenset((kind,))
    assert (found.facts[0].kind, found.facts[0].subject) == (kind, subject)
    assert found.subjects == (subject,)


@pytest.mark.parametrize(
    ("question", "kind", "first"),
    [
        ("Which medicines is the patient taking?", "active_medicines", "Active medicines (2): Norepinephrine"),
        ("problem list?", "active_conditions", "Active conditions (2): Sepsis; Hypertension."),
        ("Any allergies?", "allergies", "No allergies are recorded."),
        ("Is the patient on metoprolol?", "active_medicines", "Yes, Metoprolol 25 MG Oral Tablet is active"),
        ("naproxen?", "active_medicines", "No, Naproxen sodium 220 MG Oral Tablet is not active: stopped"),
        ("How old is the patient?", "demographic", "Age: 54 years."),
        ("male or female?", "demographic", "Sex: female."),
        ("What changed?", "change", "Creatinine rose by 1.3 mg/dL"),
    ],
)
def test_lists_names_and_the_person(question: str, kind: str, first: str) -> None:
    found = look_up(RECORD, question)
    assert found.asked == frozenset((kind,))
    assert found.facts[0].text.startswith(first)


def test_what_changed_and_what_matters_gives_both() -> None:
    kinds = [fact.kind for fact in look_up(RECORD, "What changed, what matters?").facts]
    assert {"change", "latest"} <= set(kinds)


def test_a_variable_that_is_not_there_is_said() -> None:
    found = look_up(RECORD, "What is the lactate?")
    assert [fact.text for fact in found.facts] == ["No lactate is recorded."]
    assert look_up(RECORD, "Was lactate measured?").facts[0].short == "no"


def test_two_variables_share_the_budget() -> None:
    found = look_up(RECORD, "latest creatinine and potassium", budget=4)
    assert [(fact.kind, fact.subject) for fact in found.facts[:2]] == [("latest", "creatinine"), ("latest", "potassium")]
    assert len(found.facts) == 4


def test_a_trend_of_too_few_values_is_answered_by_the_change() -> None:
    found = look_up(RECORD, "potassium trend?")
    assert found.asked == frozenset(("change",))
    assert found.facts[0].kind == "change"


def test_a_note_is_quoted() -> None:
    found = look_up(RECORD, "What does the note say about chest pain?")
    assert found.facts[0].text == "Note at 2 h after admission: “Chest pain since three days.”"


def test_no_match_gives_the_most_salient_facts() -> None:
    found = look_up(RECORD, "Who won the cup?", budget=3)
    assert not found.is_matched
    assert [fact.subject for fact in found.facts][:2] == ["creatinine", "creatinine"]


@pytest.mark.parametrize(
    ("question", "owed"),
    [
        ("What is the highest and lowest heart rate?", ["Highest heart rate", "Lowest heart rate"]),
        ("Latest creatinine and potassium?", ["Latest creatinine", "Latest potassium"]),
        ("creatinine, sodium?", ["Latest creatinine", "Latest sodium"]),
        ("highest heart rate and lowest sodium", ["Highest heart rate", "Lowest sodium"]),
        ("latest lactate and creatinine", ["No lactate is recorded", "Latest creatinine"]),
        ("age and sex?", ["Age", "Sex"]),
        ("Any allergies, and which medicines is she on?", ["No allergies", "Active medicines"]),
        ("latest potassium and any allergies?", ["Latest potassium", "No allergies"]),
        ("How old is she and is she on metoprolol?", ["Age", "Yes, Metoprolol"]),
        ("Is the creatinine rising or falling?", []),
        ("How much did the creatinine change between first and last?", []),
        ("Any drug allergies?", []),
        ("Looking over all the values, which sodium is the smallest?", []),
        ("max HR?", []),
    ],
)
def test_a_question_that_asks_several_things_is_owed_each(question: str, owed: list[str]) -> None:
    found = look_up(RECORD, question)
    assert [fact.text.startswith(start) for fact, start in zip(found.owed, owed, strict=True)] == [True] * len(owed)
    assert set(found.owed) <= set(found.sought)


@pytest.mark.parametrize(
    ("question", "kind", "subject"),
    [
        ("To calculate the eGFR I need the age.", "demographic", "age"),
        ("The Hb range depends on it: man or woman?", "demographic", "sex"),
        ("I need the patient's sex to work out creatinine clearance.", "demographic", "sex"),
        ("How high did the creatinine of this old man go?", "highest", "creatinine"),
        ("latest potassium and any allergies?", "latest", "potassium"),
        ("I need to know how old the last creatinine is.", "latest", "creatinine"),
    ],
)
def test_a_variable_may_be_named_in_passing(question: str, kind: str, subject: str) -> None:
    first = look_up(RECORD, question).sought[0]
    assert (first.kind, first.subject) == (kind, subject)


def test_a_long_name_of_the_record_is_one_name() -> None:
    assert look_up(RECORD, "How often was the Creatinine [Mass/volume] in Serum or Plasma measured?").subjects == ("creatinine",)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("invasive systolic blood pressure", ("invasive_systolic_blood_pressure",)),
        ("systolic blood pressure", ("systolic_blood_pressure",)),
        ("haemoglobin A1c or haemoglobin?", ("hemoglobin_a1c", "hemoglobin")),
        ("25 mg of what?", ()),
        ("Mg", ("magnesium",)),
        ("platelets?", ("platelets",)),
        ("bilirubn", ("bilirubin",)),
        ("Is the patient taking anything?", ()),
    ],
)
def test_mentions(question: str, expected: tuple[str, ...]) -> None:
    assert mentions(question) == expected


def test_last_hours_are_no_latest_value() -> None:
    assert asked_kinds("in the last 24 hours") == frozenset()
    assert asked_kinds("last heart rate") == frozenset(("latest",))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_question_finds_something(question: str) -> None:
    found = look_up(RECORD, question, budget=5)
    assert 0 < len(found.facts) <= 5
