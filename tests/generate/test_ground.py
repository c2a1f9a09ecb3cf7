"""Grounding: what may pass as verified, what is mended, what is withheld. The verdicts are stated by hand, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.generate.ground import WITHHELD, verify
from salus.reason.facts import Fact, FactKind, Quantity

CREATININE = Fact(
    "change",
    "creatinine",
    "creatinine",
    "Creatinine rose by 1.3 mg/dL, from 1.1 mg/dL at 2 h to 2.4 mg/dL at 40 h 30 min after admission (above the reference range).",
    "rose by 1.3 mg/dL",
    ("c1", "c2"),
    (Quantity("1.1", 1.1, "mg/dL"), Quantity("2.4", 2.4, "mg/dL"), Quantity("1.3", 1.3, "mg/dL")),
    ("2 h", "40 h 30 min"),
    direction="rose",
)
POTASSIUM = Fact(
    "change",
    "potassium",
    "potassium",
    "Potassium fell by 0.9 mmol/L, from 5 mmol/L at 3 h to 4.1 mmol/L at 41 h after admission.",
    "fell by 0.9 mmol/L",
    ("k1", "k2"),
    (Quantity("5", 5.0, "mmol/L"), Quantity("4.1", 4.1, "mmol/L"), Quantity("0.9", 0.9, "mmol/L")),
    ("3 h", "41 h"),
    direction="fell",
)
LATEST = Fact(
    "latest",
    "creatinine",
    "creatinine",
    "Latest creatinine: 2.4 mg/dL at 40 h 30 min after admission (above the reference range).",
    "2.4 mg/dL at 40 h 30 min",
    ("c2",),
    (Quantity("2.4", 2.4, "mg/dL"),),
    ("40 h 30 min",),
)
RANGE = Fact(
    "out_of_range",
    "creatinine",
    "creatinine",
    "Latest creatinine, 2.4 mg/dL at 40 h 30 min after admission, is above the reference range 0.6–1.2 mg/dL. 1 of 2 values were outside.",
    "high",
    ("c1", "c2"),
    (Quantity("2.4", 2.4, "mg/dL"), Quantity("0.6", 0.6, "mg/dL"), Quantity("1.2", 1.2, "mg/dL")),
    ("40 h 30 min",),
)
COUNT = Fact("count", "creatinine", "creatinine", "Number of creatinine values: 2.", "2", ("c1", "c2"), (Quantity("2", 2, "1"),))
TREND = Fact(
    "trend",
    "heart rate",
    "heart_rate",
    "Trend of heart rate: falling, over 68 values from 1 h 11 min to 47 h 11 min after admission.",
    "falling",
    ("h1", "h2"),
    (Quantity("68", 68, "1"),),
    ("1 h 11 min", "47 h 11 min"),
    direction="fell",
)
ABSENT = Fact("not_recorded", "lactate", "lactate", "No lactate is recorded.", "not recorded", ())
MEDICINES = Fact(
    "active_medicines",
    "active medicines",
    "medication",
    "Active medicines (2): Metoprolol 25 MG; Vitamin B12 1000 MCG.",
    "Metoprolol 25 MG; Vitamin B12 1000 MCG",
    ("m1", "m2"),
    (Quantity("2", 2, "1"),),
    names=("Metoprolol 25 MG", "Vitamin B12 1000 MCG"),
)
DATED = Fact(
    "latest",
    "hemoglobin A1c",
    "hemoglobin_a1c",
    "Latest hemoglobin A1c: 6.1 % at 2019-03-04 10:15 UTC.",
    "6.1 % at 2019-03-04 10:15 UTC",
    ("a1",),
    (Quantity("6.1", 6.1, "%"),),
    ("2019-03-04 10:15 UTC",),
)
TROPONIN = Fact(
    "latest",
    "troponin T",
    "troponin_t",
    "Latest troponin T: 0.22 µg/L at 5 h after admission.",
    "0.22 µg/L at 5 h",
    ("t1",),
    (Quantity("0.22", 0.22, "ug/L"),),
    ("5 h",),
)
NEGATIVE = Fact(
    "latest",
    "bone density T-score",
    "bone_density_t_score",
    "Latest bone density T-score: -1.5 on 2018-01-02.",
    "-1.5 on 2018-01-02",
    ("b1",),
    (Quantity("-1.5", -1.5, "{T-score}"),),
    ("2018-01-02",),
)
NOTE = Fact(
    "excerpt", "note", "note", "Note on 2019-03-04: “Chest pain since 3 days, no fever.”", "Chest pain since 3 days, no fever.", ("n1",)
)
FACTS = (CREATININE, POTASSIUM, LATEST, RANGE, COUNT, TREND, ABSENT, MEDICINES, DATED, TROPONIN, NEGATIVE, NOTE)
N = {fact.text: number for number, fact in enumerate(FACTS, 1)}
ANY: frozenset[FactKind] = frozenset()


def cite(words: str, *facts: Fact) -> str:
    return f"{words} [{', '.join(str(N[fact.text]) for fact in facts)}]"


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.kind}-{fact.subject}")
def test_a_fact_repeated_in_full_is_verified(fact: Fact) -> None:
    statement = verify(cite(fact.text, fact), FACTS, asked=ANY)
    assert (statement.verification, statement.item_ids, statement.short) == ("verified", fact.item_ids, fact.short)
    assert statement.support == fact.text
    assert "[" not in statement.text
    assert statement.confidence is None


@pytest.mark.parametrize("fact", [f for f in FACTS if f.kind != "count"], ids=lambda fact: f"{fact.kind}-{fact.subject}")
def test_the_short_answer_is_verified_when_cited(fact: Fact) -> None:
    assert verify(cite(fact.short, fact), FACTS, asked=frozenset((fact.kind,))).verification == "verified"


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("Creatinine rose from 1.1 to 2.4 mg/dL", CREATININE),
        ("Creatinine increased from 1.1 mg/dL at 2 h to 2.4 mg/dL at 40.5 hours", CREATININE),
        ("The creatinine has risen by 1.3 mg/dL.", CREATININE),
        ("K fell by 0.9 mmol/L", POTASSIUM),
        ("At 40 h 30 min the patient's creatinine was 2.4 mg/dL", LATEST),
        ("creatinine 2.40 mg/dL", LATEST),
        ("The last creatinine is high: 2.4 mg/dL", LATEST),
        ("Two creatinine values", COUNT),
        ("The heart rate is falling", TREND),
        ("HR going down", TREND),
        ("Lactate was not measured", ABSENT),
        ("no", ABSENT),
        ("The patient is taking Metoprolol 25 MG and Vitamin B12 1000 MCG", MEDICINES),
        ("HbA1c 6.1 % on 2019-03-04", DATED),
        ("TroponinT 0.22 µg/L", TROPONIN),
        ("T-score −1.5", NEGATIVE),
        ("Chest pain since 3 days", NOTE),
    ],
)
def test_other_words_for_the_same_thing_are_verified(line: str, fact: Fact) -> None:
    statement = verify(cite(line, fact), FACTS, asked=ANY)
    assert (statement.verification, statement.item_ids) == ("verified", fact.item_ids)


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("Creatinine rose from 1.1 to 24 mg/dL", CREATININE),  # missing decimal point
        ("Creatinine rose from 2.4 to 1.1 mg/dL", CREATININE),  # swapped
        ("Creatinine rose to 1.1 mg/dL", CREATININE),  # the wrong end
        ("Creatinine rose from 1.1 mg/dL at 40 h 30 min to 2.4 mg/dL at 2 h", CREATININE),  # swapped times
        ("At 40 h 30 min creatinine was 1.1 mg/dL and at 2 h 2.4 mg/dL", CREATININE),  # swapped times, other order
        ("Creatinine fell from 1.1 to 2.4 mg/dL", CREATININE),  # wrong direction
        ("Creatinine fell by 1.3 mg/dL", CREATININE),
        ("Creatinine rose by -1.3 mg/dL", CREATININE),  # wrong sign
        ("Creatinine rose by 1.3 mmol/L", CREATININE),  # wrong unit
        ("Creatinine rose by 1.3 mg/L", CREATININE),
        ("Creatinine rose by 1.3", CREATININE),  # no unit
        ("Creatinine rose by 1.3 mg/dL, doubled", CREATININE),  # a claim that no fact makes
        ("Creatinine rose by 1.3 mg/dL due to sepsis", CREATININE),
        ("Creatinine rose threefold", CREATININE),
        ("Creatinine did not rise by 1.3 mg/dL", CREATININE),  # negation
        ("Creatinine rose by one mg/dL", CREATININE),  # number word
        ("Creatinine rose by 0.9 mg/dL", CREATININE),  # another fact's number
        ("Potassium rose by 1.3 mg/dL", CREATININE),  # another fact's subject
        ("Latest creatinine: 1.2 mg/dL", RANGE),  # a limit of the range as the value
        ("Latest creatinine: 2.4 mg/dL, below the reference range", RANGE),
        ("Latest creatinine is within the reference range: 2 of 2 values", RANGE),
        ("Latest creatinine is above the reference range 0.6–1.4 mg/dL", RANGE),
        ("Latest creatinine: 2.4 mg/dL at 40 h 31 min", LATEST),
        ("Highest creatinine: 2.4 mg/dL", LATEST),  # true of another kind, not of this fact
        ("Creatinine 12/80 mg/dL", LATEST),
        ("2,4 mg/dL", LATEST),
        ("2.4mg/dL", LATEST),
        ("Creatinine was measured three times", COUNT),
        ("The heart rate is rising", TREND),
        ("The heart rate is steady", TREND),
        ("Lactate is recorded", ABSENT),
        ("yes", ABSENT),
        ("Metoprolol 50 MG; Vitamin B12 1000 MCG", MEDICINES),  # wrong dose
        ("Metoprolol 25 MG", MEDICINES),  # incomplete list
        ("Metoprolol 25 MG; Vitamin B12 1000 MCG; Aspirin", MEDICINES),
        ("Vitamin B6 1000 MCG; Metoprolol 25 MG", MEDICINES),
        ("The patient takes no Metoprolol 25 MG; Vitamin B12 1000 MCG", MEDICINES),
        ("HbA1c 6.1 % on 2019-04-03", DATED),  # wrong date
        ("HbA1c 6.1 mmol/L on 2019-03-04", DATED),
        ("Troponin T 0.22 µg/L at 6 h", TROPONIN),
        ("Troponin I 0.22 µg/L", TROPONIN),
        ("T-score 1.5", NEGATIVE),
        ("Chest pain since 4 days", NOTE),
        ("Fever", CREATININE),
    ],
)
def test_what_is_wrong_never_passes(line: str, fact: Fact) -> None:
    statement = verify(cite(line, fact), FACTS, asked=ANY)
    assert statement.verification in ("mended", "withheld")
    assert statement.text.rstrip(".") != line
    assert statement.draft == cite(line, fact)
    if statement.verification == "mended":
        assert statement.text == statement.support
        assert statement.text in N


def test_a_mended_line_is_the_cited_fact() -> None:
    statement = verify(cite("Creatinine rose from 1.1 to 24 mg/dL", CREATININE), FACTS, asked=ANY)
    assert (statement.text, statement.item_ids, statement.short) == (CREATININE.text, CREATININE.item_ids, CREATININE.short)


def test_a_substance_inside_a_miswritten_name_is_no_other_subject() -> None:
    name = "losartan potassium 25 MG"
    fact = replace(MEDICINES, text=f"Active medicines (1): {name}.", short=name, names=(name,))
    statement = verify("loseartan potassium 25 MG [1]", (fact,), asked=frozenset(("active_medicines",)))
    assert (statement.verification, statement.text) == ("mended", fact.text)
    assert verify("Potassium 4.1 mmol/L [1]", (MEDICINES,), asked=ANY).verification == "withheld"


def test_where_the_subject_is_open_a_line_has_to_name_it() -> None:
    bare, full = cite("fell by 0.9 mmol/L", POTASSIUM), cite("potassium fell by 0.9 mmol/L", POTASSIUM)
    assert verify(bare, FACTS, asked=ANY).verification == "verified"
    statement = verify(bare, FACTS, asked=ANY, names_subject=True)
    assert (statement.verification, statement.text) == ("mended", POTASSIUM.text)
    assert verify(full, FACTS, asked=ANY, names_subject=True).verification == "verified"
    assert verify("fell by 0.9 mmol/L", FACTS, asked=ANY, names_subject=True).verification != "verified"
    assert verify(cite("Chest pain since 3 days, no fever.", NOTE), FACTS, asked=ANY, names_subject=True).verification == "verified"


def test_withheld_says_so_and_cites_nothing() -> None:
    statement = verify("The sodium is 140 mmol/L", FACTS, asked=ANY)
    assert (statement.text, statement.item_ids, statement.short) == (WITHHELD, (), "")
    assert WITHHELD == "A statement was withheld: it could not be verified against the record."


def test_numbers_swapped_between_two_cited_facts_do_not_pass() -> None:
    line = cite("Creatinine fell by 0.9 mmol/L and potassium rose by 1.3 mg/dL", CREATININE, POTASSIUM)
    statement = verify(line, FACTS, asked=ANY)
    assert statement.verification == "mended"
    assert statement.text == f"{CREATININE.text} {POTASSIUM.text}"


def test_each_segment_is_checked_against_its_own_citation() -> None:
    good = "Creatinine rose by 1.3 mg/dL [1] and potassium fell by 0.9 mmol/L [2]"
    swapped = "Creatinine rose by 1.3 mg/dL [2] and potassium fell by 0.9 mmol/L [1]"
    assert verify(good, FACTS, asked=ANY).verification == "verified"
    assert verify(good, FACTS, asked=ANY).item_ids == ("c1", "c2", "k1", "k2")
    assert verify(swapped, FACTS, asked=ANY).verification != "verified"


def test_words_after_the_last_citation_are_a_claim_too() -> None:
    assert verify("Creatinine rose by 1.3 mg/dL [1] because of heart failure", FACTS, asked=ANY).verification == "mended"


@pytest.mark.parametrize("number", ["0", "13", "99"])
def test_a_citation_of_no_fact_does_not_pass_with_wrong_numbers(number: str) -> None:
    assert verify(f"Creatinine rose by 7 mg/dL [{number}]", FACTS, asked=ANY).verification == "withheld"


def test_without_citation_the_supporting_fact_is_found() -> None:
    statement = verify("Potassium fell by 0.9 mmol/L", FACTS, asked=ANY)
    assert (statement.verification, statement.item_ids) == ("verified", POTASSIUM.item_ids)


def test_the_kind_asked_for_decides() -> None:
    statement = verify(cite(CREATININE.text, CREATININE), FACTS, asked=frozenset(("latest",)))
    assert (statement.verification, statement.text) == ("mended", LATEST.text)
    absent = verify(cite(ABSENT.text, ABSENT), FACTS, asked=frozenset(("latest",)))
    assert absent.verification == "verified"


@pytest.mark.parametrize("line", ["I do not know.", "The record does not say.", "I cannot tell from this record."])
def test_declining_is_no_claim(line: str) -> None:
    assert verify(line, FACTS, asked=ANY).verification == "not_a_claim"


@pytest.mark.parametrize("line", ["I do not think the creatinine is normal", "", "[1]", "Nothing to worry about [1]"])
def test_hedges_and_empty_lines_do_not_pass(line: str) -> None:
    assert verify(line, FACTS, asked=ANY).verification in ("withheld", "mended")


@given(st.integers(0, 10**6), st.integers(0, 4), st.sampled_from(["mg/dL", "mmol/L", "g/dL", "%", ""]))
def test_no_other_number_is_ever_verified(mantissa: int, decimals: int, unit: str) -> None:
    number = f"{mantissa / 10**decimals:.{decimals}f}"
    statement = verify(cite(f"Latest creatinine: {number} {unit}", LATEST), FACTS, asked=ANY)
    is_right = float(number) == 2.4 and unit == "mg/dL"
    assert (statement.verification == "verified") is is_right


@given(st.text(max_size=60))
def test_any_text_gives_a_statement_and_nothing_false(line: str) -> None:
    statement = verify(line, FACTS, asked=ANY)
    assert statement.verification in ("verified", "mended", "withheld", "not_a_claim")
    if statement.verification == "withheld":
        assert statement.item_ids == ()
