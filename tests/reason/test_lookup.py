"""Facts of one series. Expected values are computed by hand, or by scipy for Kendall's tau."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from tests.reason.patient_of_items import course, icu, item, on, record_of, with_range

from salus.reason import lookup
from salus.reason.series import Series, printed_number, series_of
from salus.record.patient import Code, PatientRecord


def series(key: str) -> Series:
    return series_of(course())[key]


def test_series_leave_out_the_person_and_implausible_values() -> None:
    found = series_of(course())
    assert sorted(found) == ["creatinine", "heart_rate", "potassium", "sodium", "temperature"]
    assert [point.printed for point in found["temperature"].points] == ["37", "38.6"]


def test_series_are_in_order_of_time_whatever_the_order_of_items() -> None:
    record = record_of(icu("HR", "/min", (5, 90.0), (1, 80.0), (3, 85.0)))
    assert [point.value for point in series_of(record)["heart_rate"].points] == [80.0, 85.0, 90.0]


def test_values_of_one_undeclared_code_in_two_units_are_two_series() -> None:
    code = Code("local", "x1", "Something")
    record = PatientRecord("p", (item(1, code, 1.0, on("2019-01-01"), "mg"), item(2, code, 2.0, on("2019-01-02"), "g")))
    assert sorted(series_of(record)) == ["local:x1 [g]", "local:x1 [mg]"]


@pytest.mark.parametrize(
    ("make", "text", "short", "n_items"),
    [
        (
            lookup.latest,
            "Latest creatinine: 2.4 mg/dL at 40 h 30 min after admission (above the reference range).",
            "2.4 mg/dL at 40 h 30 min",
            1,
        ),
        (lookup.earliest, "Earliest creatinine: 1.1 mg/dL at 2 h after admission.", "1.1 mg/dL at 2 h", 1),
        (
            lookup.change,
            "Creatinine rose by 1.3 mg/dL, from 1.1 mg/dL at 2 h to 2.4 mg/dL at 40 h 30 min after admission (above the reference range).",
            "rose by 1.3 mg/dL",
            2,
        ),
        (lookup.trend, "Trend of creatinine: rising, over 3 values from 2 h to 40 h 30 min after admission.", "rising", 3),
        (lookup.count, "Number of creatinine values: 3.", "3", 3),
        (lookup.measured, "Yes, creatinine was measured 3 times, last at 40 h 30 min after admission.", "yes", 3),
        (
            lookup.out_of_range,
            "Latest creatinine, 2.4 mg/dL at 40 h 30 min after admission, is above the reference range 0.6–1.2 mg/dL. "
            "2 of 3 values were outside.",
            "high",
            3,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_words_of_a_fact(make: object, text: str, short: str, n_items: int) -> None:
    fact = make(series("creatinine"))  # type: ignore[operator]
    assert (fact.text, fact.short, len(fact.item_ids)) == (text, short, n_items)


def test_a_range_names_its_source() -> None:
    fact = lookup.out_of_range(series("creatinine"))
    assert fact
    assert fact.source == "MSD Manual Consumer Version, table Blood Tests (adults, both sexes)"


def test_a_range_of_the_record_takes_precedence() -> None:
    fact = lookup.out_of_range(series_of(with_range(0.5, 1.4))["creatinine"])
    assert fact
    assert (fact.short, fact.source) == ("in range", "this laboratory")
    assert fact.text == "Latest creatinine, 1.3 mg/dL on 2019-03-04, is within the reference range 0.5–1.4 mg/dL."


def test_the_highest_cites_every_tied_item() -> None:
    fact = lookup.highest(series("heart_rate"))
    assert fact
    assert fact.text == "Highest heart rate: 112 /min at 10 h after admission, and 1 time more (above the reference range)."
    assert len(fact.item_ids) == 2
    assert fact.short == "112 /min at 10 h"


def test_no_change_and_direction() -> None:
    same = lookup.change(series("sodium"))
    fell = lookup.change(series("potassium"))
    assert same
    assert fell
    assert (same.direction, same.short) == ("unchanged", "about the same, from 140 mmol/L to 140 mmol/L")
    assert same.text == "Sodium stayed about the same, from 140 mmol/L at 3 h to 140 mmol/L at 41 h after admission."
    assert (fell.direction, fell.short, fell.quantities[2].printed) == ("fell", "fell by 0.9 mmol/L", "0.9")


def test_one_value_gives_no_change_and_two_give_no_trend() -> None:
    one = series_of(with_range(0.5, 1.4))["creatinine"]
    assert lookup.change(one) is None
    assert lookup.trend(series("potassium")) is None


def test_words_are_a_series_without_arithmetic() -> None:
    code = Code("http://loinc.org", "72166-2", "Tobacco smoking status")
    one = series_of(PatientRecord("p", (item(1, code, "Never smoker", on("2019-03-04")),)))["loinc:72166-2"]
    facts = lookup.facts_of(one)
    assert [fact.kind for fact in facts] == ["latest", "earliest", "count", "measured"]
    assert facts[0].text == "Latest Tobacco smoking status: Never smoker on 2019-03-04."


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((80, 90, 100, 110), "rising"),
        ((110, 100, 90, 80), "falling"),
        ((80, 80, 80, 80), "steady"),
        ((60, 120, 60, 120, 60, 120), "fluctuating"),
    ],
)
def test_trends(values: tuple[int, ...], expected: str) -> None:
    record = record_of(icu("HR", "/min", *((float(hour), float(value)) for hour, value in enumerate(values))))
    fact = lookup.trend(series_of(record)["heart_rate"])
    assert fact
    assert fact.short == expected


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=2, max_size=30))
def test_tau_is_that_of_scipy(points: list[tuple[int, int]]) -> None:
    times, values = zip(*points, strict=True)
    expected = kendalltau(times, values, variant="b").statistic
    assert lookup.kendall_tau(times, values) == pytest.approx(0.0 if expected != expected else expected, abs=1e-9)


@given(st.decimals(min_value=0, max_value=99999, places=2, allow_nan=False))
def test_numbers_are_printed_as_they_were_written(number: object) -> None:
    printed = printed_number(float(str(number)))
    assert float(printed) == float(str(number))
    assert len(printed) <= len(str(number))


@given(st.lists(st.integers(300, 2000), min_size=2, max_size=12))
def test_the_difference_is_exact(tenths: list[int]) -> None:
    record = record_of(icu("HR", "/min", *((float(hour), tenth / 10) for hour, tenth in enumerate(tenths))))
    fact = lookup.change(series_of(record)["heart_rate"])
    assert fact
    if fact.direction != "unchanged":
        assert round(float(fact.quantities[2].printed) * 10) == abs(tenths[-1] - tenths[0])


def test_distance_in_widths_of_the_range() -> None:
    one = series("creatinine")
    assert lookup.distance_outside(one, one.points[-1]) == pytest.approx((2.4 - 1.2) / 0.6)
    gcs = series_of(record_of(icu("GCS", "{score}", (1, 3.0))))["glasgow_coma_score"]
    assert lookup.distance_outside(gcs, gcs.points[-1]) == pytest.approx(12 / 15)


def test_nothing_recorded() -> None:
    assert lookup.not_recorded("lactate", "lactate").short == "not recorded"
    assert lookup.not_recorded("lactate", "lactate", is_yes_no=True).short == "no"
