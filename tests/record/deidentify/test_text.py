"""Free text: dates in many forms move together, identifiers become one tag each, and the check afterwards sees what was left."""

from __future__ import annotations

import time
from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.record.deidentify.codes import CodeRecogniser
from salus.record.deidentify.dates import find_dates, moved
from salus.record.deidentify.key import LEAST_SHIFT_DAYS, MOST_SHIFT_DAYS, Key
from salus.record.deidentify.kinds import Kind, found_by
from salus.record.deidentify.known import KnownRecogniser
from salus.record.deidentify.people import NameRecogniser
from salus.record.deidentify.text import OWN, Subject, clean, left_over

KEY = Key(bytes(range(32)))
DAYS = st.dates(date(1950, 1, 1), date(2026, 1, 1))


@given(DAYS, st.integers(-4000, 4000), st.sampled_from(["%Y-%m-%d", "%m/%d/%Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y", "%Y%m%d"]))
def test_a_moved_date_is_the_calendar_s(at: date, days: int, form: str) -> None:
    text = f"on {at.strftime(form)} again"
    (found,) = find_dates(text)
    assert found.at == at, "the calendar is the witness"
    (again,) = find_dates(f"on {moved(found, days)} again")
    assert again.at == at + timedelta(days=days)


def test_every_shift_is_in_its_range_and_one_for_a_patient() -> None:
    shifts = [KEY.days(f"patient {number}") for number in range(200)]
    assert all(LEAST_SHIFT_DAYS <= -each <= MOST_SHIFT_DAYS for each in shifts)
    assert len(set(shifts)) > 150 and KEY.days("a") == KEY.days("a") != Key(bytes(32)).days("a")


def test_a_value_keeps_one_tag_and_intervals_stay() -> None:
    subject = Subject(KEY, "p")
    text = "Dr. Okonkwo on 2021-03-01. On 2021-03-09 Dr. OKONKWO wrote to b.smith@example.org."
    new = clean(text, subject).text
    first, second = (each.at for each in find_dates(new))
    assert (second - first).days == 8
    assert new.count(new.split("Dr. ")[1].split(" on")[0]) == 2
    assert "okonkwo" not in new.lower() and "@" not in new
    assert clean(text, Subject(KEY, "q")).text != new


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.NAME, "Seen with Prof. Adeyemi-Clarke today", "Adeyemi-Clarke"), (Kind.PLACE, "moved to 4 Privet Lane, Reading", "4 Privet Lane"),
        (Kind.DATE, "since 5 Nov 2019", "5 Nov 2019"), (Kind.AGE, "a 97-year-old man", "97"), (Kind.PHONE, "tel: (212) 555-0148", "(212) 555-0148"),
        (Kind.FAX, "Fax 212-555-0149", "212-555-0149"), (Kind.EMAIL, "write to jo@nhs.example", "jo@nhs.example"), (Kind.SSN, "SSN 219-09-9999", "219-09-9999"),
        (Kind.RECORD, "MRN: 0081723", "0081723"), (Kind.PLAN, "Member ID XK4471920", "XK4471920"), (Kind.ACCOUNT, "account number 4471-2219", "4471-2219"),
        (Kind.LICENCE, "DEA AB1234563", "AB1234563"), (Kind.VEHICLE, "plate KLM 4471", "KLM 4471"), (Kind.DEVICE, "serial no. 77-A41992", "77-A41992"),
        (Kind.URL, "at https://x.example/p/1", "https://x.example/p/1"), (Kind.IP, "from 192.0.2.44", "192.0.2.44"),
        (Kind.BIOMETRIC, "fingerprint FP-00192", "FP-00192"), (Kind.PHOTOGRAPH, "photo in IMG_2231.jpg", "IMG_2231.jpg"), (Kind.OTHER, "accession A20-11931", "A20-11931"),
    ],
)  # fmt: skip
def test_each_kind_of_the_rule_is_found(kind: Kind, text: str, value: str) -> None:
    assert kind in {hit.kind for hit in found_by(OWN, text) if value in text[hit.start : hit.end] or text[hit.start : hit.end] in value}
    assert value not in clean(text, Subject(KEY, "p")).text


@pytest.mark.parametrize(
    "text",
    [
        "BP 120/80, HR 76, SpO2 96% on 2 L, temperature 38.5.", "Crohn disease and Hodgkin lymphoma; Foley catheter; Glasgow Coma Scale 15.",
        "Creatinine 1.3 from 2.1 mg/dL; K 4.4; Hb 10.4 g/dL; INR 1.1", "Carbidopa/levodopa 25/100 three times daily", "stenosis at L4-L5, T2 signal, grade 2/3",
        "in 2019 she was well", "a 89-year-old man", "Will return in May if symptoms worsen",
    ],
)  # fmt: skip
def test_clinical_words_and_numbers_stay(text: str) -> None:
    assert clean(text, Subject(KEY, "p")).text == text


def test_known_values_are_found_however_they_are_written() -> None:
    known = KnownRecogniser({Kind.NAME: frozenset({"Xq^Zyx"}), Kind.RECORD: frozenset({"12-34-56"}), Kind.DATE: frozenset({"1950-03-02"})})
    text = "zyx was here; no 123456; born March 2, 1950"
    assert {(hit.kind, text[hit.start : hit.end]) for hit in known.find(text)} == {
        (Kind.NAME, "zyx"), (Kind.RECORD, "123456"), (Kind.DATE, "March 2, 1950"),
    }  # fmt: skip


def test_the_check_sees_a_miss_and_an_unmoved_date() -> None:
    subject = Subject(KEY, "p")
    text = "Mr. Smith called 212-555-0148 on 2021-03-01."
    good = clean(text, subject).text
    assert left_over(text, good, subject) == Counter()
    assert left_over(text, good + " Mr. Smith", subject)["name"] == 1
    assert left_over(text, "on 2021-03-01.", subject)["date"] == 1


@given(st.text(max_size=300))
def test_any_text_is_taken_and_a_second_cleaning_changes_no_tag(text: str) -> None:
    subject = Subject(KEY, "p")
    assert isinstance(clean(clean(text, subject).text, subject).text, str)
    for recogniser in (CodeRecogniser(), NameRecogniser()):
        assert all(0 <= hit.start < hit.end <= len(text) for hit in recogniser.find(text))


LONG = ("a", "A", "1", "Aa", "中", "a.", "a-", "1.", "1/", "A-", "A'", "Aa-", "de ", "Van ", "id ", "id:", "_", "a@", "[A-", "Via A ", "12 May, ", "Dr. Aa ", "03/04/2021 ")
"""What the patterns could try anew at every place."""


@pytest.mark.parametrize("word", LONG)
def test_time_grows_with_the_length_of_a_text(word: str) -> None:
    text, subject = word * (100_000 // len(word)), Subject(KEY, "p")
    began = time.process_time()
    left_over(text, clean(text, subject).text, subject)
    assert time.process_time() - began < 30, "quadratic time would be minutes"
