"""A stay in words: every band at its published limits, every trend, times beyond a limit, urine, ventilation, failing organs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salus import registry
from salus.evaluate.fusion.icu_bands import BANDS, DEGREES, NORMAL
from salus.evaluate.fusion.icu_words import (
    SYSTEMS,
    Course,
    clauses_of,
    courses_of,
    failing_organs,
    measured,
    quotient,
    sentences_of,
    share_beyond,
    share_word,
    trend,
    urine_clauses,
    usable_courses,
    ventilation_clauses,
)
from salus.record.patient import Code, Item, Offset, Source


def course(*pairs: tuple[float, float]) -> Course:
    """Return a course of (hour, value)."""
    return Course(np.array([hour for hour, _ in pairs], float), np.array([value for _, value in pairs], float))


# Points of the published tables: NEWS2 (heart and breathing rate, systolic pressure, temperature, saturation), SOFA (coma score, oxygen,
# creatinine, bilirubin, platelets), SAPS II and SIRS (white cells), APACHE II (pH, potassium), Sepsis-3 (lactate).
PUBLISHED = [
    ("HR", [(40, "moderately low"), (50, "mildly low"), (51, NORMAL), (90, NORMAL), (91, "mildly high"), (111, "moderately high")]),
    ("HR", [(130, "moderately high"), (131, "severely high")]),
    ("SBP", [(90, "severely low"), (100, "moderately low"), (110, "mildly low"), (111, NORMAL), (220, "mildly high")]),
    ("Temp", [(35.0, "moderately low"), (36.0, "mildly low"), (38.0, NORMAL), (39.0, "mildly high"), (39.1, "moderately high")]),
    ("RespRate", [(8, "moderately low"), (11, "mildly low"), (12, NORMAL), (20, NORMAL), (21, "mildly high"), (25, "moderately high")]),
    ("SaO2", [(91, "severely low"), (93, "moderately low"), (95, "mildly low"), (96, NORMAL)]),
    ("GCS", [(3, "extremely low"), (5, "extremely low"), (9, "severely low"), (12, "moderately low"), (14, "mildly low"), (15, NORMAL)]),
    ("PF", [(99, "extremely low"), (199, "severely low"), (299, "moderately low"), (399, "mildly low"), (400, NORMAL)]),
    ("Creatinine", [(1.1, NORMAL), (1.2, "mildly high"), (2.0, "moderately high"), (3.5, "severely high"), (5.0, "extremely high")]),
    ("Bilirubin", [(1.1, NORMAL), (1.9, "mildly high"), (5.9, "moderately high"), (11.9, "severely high"), (12, "extremely high")]),
    ("Platelets", [(150, NORMAL), (149, "mildly low"), (99, "moderately low"), (49, "severely low"), (19, "extremely low")]),
    ("WBC", [(0.9, "moderately low"), (3.9, "mildly low"), (12, NORMAL), (12.1, "mildly high"), (20, "moderately high")]),
    ("pH", [(7.14, "severely low"), (7.24, "moderately low"), (7.32, "mildly low"), (7.49, NORMAL), (7.6, "moderately high")]),
    ("K", [(2.4, "severely low"), (3.4, "mildly low"), (5.4, NORMAL), (5.9, "mildly high"), (7.0, "severely high")]),
    ("MAP", [(64, "moderately low"), (69, "mildly low"), (70, NORMAL), (109, NORMAL), (110, "mildly high"), (130, "moderately high")]),
    ("BUN", [(19, NORMAL), (20, "mildly high"), (28, "moderately high"), (84, "extremely high")]),
    ("Lactate", [(1.9, NORMAL), (2.0, "mildly high"), (4.0, "moderately high")]),
]


@pytest.mark.parametrize(("key", "values"), PUBLISHED)
def test_a_value_stands_in_its_published_band(key: str, values: list[tuple[float, str]]) -> None:
    assert [BANDS[key].word(value) for value, _ in values] == [word for _, word in values]


@pytest.mark.parametrize("key", sorted(BANDS))
def test_every_part_of_every_variable_has_its_own_word_and_order(key: str) -> None:
    band = BANDS[key]
    assert list(band.limits) == sorted(set(band.limits))
    assert max(band.normal, len(band.limits) - band.normal) <= len(DEGREES)
    assert band.usable[0] < band.limits[0] and band.limits[-1] <= band.usable[1]
    points = [band.limits[0] - 1e-6, *band.limits]
    assert len({band.word(point) for point in points}) == len(points)
    assert [band.beyond(point) for point in points] == [int(np.sign(place - band.normal)) for place in range(len(points))]


@pytest.mark.parametrize(
    ("second", "word"),
    [(1.0, "steady"), (1.29, "steady"), (1.31, "rising"), (1.91, "steeply rising"), (0.69, "falling"), (0.09, "steeply falling")],
)
def test_a_trend_is_told_from_its_step_on(second: float, word: str) -> None:
    assert trend(course((0, 0.5), (20, 1.5), (30, second)), 0.3) == word  # the first day's mean is 1.0


def test_a_day_without_a_value_has_no_trend() -> None:
    assert trend(course((1, 2.0)), 0.3) is None and trend(course((25, 2.0)), 0.3) is None


def test_time_beyond_counts_until_the_next_value_and_to_the_end() -> None:
    made = course((8, 60), (10, 80), (44, 60))
    assert share_beyond(made, made.values < 70) == pytest.approx((2 + 4) / 40)
    assert [share_word(share) for share in (0, 0.05, 0.1, 0.11, 0.5, 0.51, 1.0)] == [
        "never", "briefly", "briefly", "often", "often", "mostly", "always",
    ]  # fmt: skip


def test_clauses_say_band_trend_time_and_recovery() -> None:
    said = list(clauses_of(BANDS["MAP"], course((0, 60), (1, 80), (40, 90))))
    assert said == [
        "last normal", "lowest moderately low", "highest normal", "second day normal", "steeply rising",
        "briefly low", "never high", "recovered",
    ]  # fmt: skip
    assert list(clauses_of(BANDS["MAP"], None)) == ["never measured"]
    assert "not measured on the second day" in list(clauses_of(BANDS["MAP"], course((0, 60))))


def test_a_variable_takes_the_invasive_value_at_the_same_minute_and_leaves_out_errors() -> None:
    made = measured(BANDS["MAP"], {"MAP": course((1, 70), (2, 0)), "NIMAP": course((1, 90), (3, 95))})
    assert made is not None and made.hours.tolist() == [1, 3] and made.values.tolist() == [70, 95]
    assert measured(BANDS["pH"], {"pH": course((1, 735))}) is None


def test_a_quotient_takes_the_last_value_that_is_not_too_old() -> None:
    made = quotient(course((1, 80), (5, 90), (30, 100)), course((4, 0.5)), BANDS["PF"], at_most_h=8)
    assert made is not None and made.hours.tolist() == [5] and made.values.tolist() == [180]
    assert quotient(course((1, 80)), course((4, 0.5)), BANDS["PF"], at_most_h=8) is None
    known = usable_courses({"PaO2": course((5, 90)), "FiO2": course((4, 0.6)), "HR": course((1, 120)), "SysABP": course((1, 80))})
    assert known["PF"].values.tolist() == [150] and known["SI"].values.tolist() == [1.5]


def test_urine_is_by_weight_where_it_is_known_and_by_volume_always() -> None:
    urine = course(*[(hour, 20.0) for hour in range(48)])
    said = list(urine_clauses({"Urine": urine, "Weight": course((0, 80), (40, 90))}))
    # 20 mL an hour over the median of 80 and 90 kg is 0.235 mL/kg/h; 480 mL on the last day; 90 kg are 12.5 % above 80
    assert said == [
        "last day under 500 mL", "last 24 hours under 0.3 mL/kg/h", "last 12 hours under 0.3 mL/kg/h", "last 6 hours under 0.3 mL/kg/h",
        "steady", "fluid overload above 10 percent",
    ]  # fmt: skip
    assert list(urine_clauses({"Urine": course((1, 1000), (30, 400))})) == ["last day under 500 mL", "falling by half"]
    assert list(urine_clauses({})) == ["never measured"]


def test_ventilation_says_how_long_and_whether_still() -> None:
    assert list(ventilation_clauses({})) == ["never ventilated"]
    assert list(ventilation_clauses({"MechVent": course((1, 1), (10, 1))})) == [
        "ventilated", "over under 12 hours", "ventilated at the start", "weaned",
    ]  # fmt: skip
    assert list(ventilation_clauses({"MechVent": course((8, 1), (47, 1))}))[2:] == ["intubated later", "still ventilated"]


def test_organs_fail_by_the_second_day_alone() -> None:
    known = usable_courses({
        "Creatinine": course((1, 9.0), (30, 3.4)),
        "Bilirubin": course((30, 6.0)),
        "GCS": course((30, 5), (40, 12)),
        "Lactate": course((30, 4.5)),
        "MAP": course((30, 60), (31, 65), (32, 90)),
    })
    assert failing_organs(known) == ["MAP", "Bilirubin", "Lactate"]


def _item(name: str, value: float | str, hour: float) -> Item:
    code, time = Code("physionet2012", name, name), Offset(hour * 3600, "admission")
    return Item(f"{name}{hour}", "vitals_labs", code, Source("a", ""), observed_at=time, value=value)


def test_courses_hold_numbers_of_the_window_in_order() -> None:
    made = courses_of([_item("HR", 90.0, 5), _item("HR", 80.0, 1), _item("HR", 70.0, 49), _item("ICUType", "medical ICU", 0)])
    assert list(made) == ["HR"] and made["HR"].hours.tolist() == [1, 5] and made["HR"].values.tolist() == [80, 90]


def test_a_stay_without_a_value_has_every_sentence() -> None:
    told = sentences_of({})
    assert list(told) == list(SYSTEMS)
    assert told["brain"] == ("coma score: never measured",)
    assert told["whole"] == ("patient: 0 organs failing, under 1 values far from normal at last, under 14 variables measured",)


@pytest.mark.data
def test_real_stays_have_words_that_hold_no_outcome(salus_data: Path) -> None:
    examples = registry.load("salus.tasks", "icu-death").read(salus_data, "val")[:20]
    told = [sentences_of(courses_of(one.record().items)) for one in examples]
    assert all("heart rate: last" in " ".join(one["heart"]) for one in told)
    said = " ".join(line for one in told for lines in one.values() for line in lines)
    assert not any(word in said.lower() for word in ("saps", "sofa", "surviv", "died", "death", "stay"))
    assert told == [sentences_of(courses_of(one.record().items)) for one in examples]
