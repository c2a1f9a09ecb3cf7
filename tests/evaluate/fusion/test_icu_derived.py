"""What is reckoned of several measurements: by hand from the published formulas, by SOFA's table, and nothing from after its time."""

from __future__ import annotations

import numpy as np
import pytest

from salus.evaluate.fusion.icu_derived import DERIVED, LABS, combined, derived_courses, sofa_points
from salus.evaluate.fusion.icu_words import Course


def course(*pairs: tuple[float, float]) -> Course:
    """Return a course of (hour, value)."""
    return Course(np.array([hour for hour, _ in pairs], float), np.array([value for _, value in pairs], float))


def pairs(found: Course) -> list[tuple[float, float]]:
    """Return (hour, value), rounded."""
    return [(round(hour, 2), round(value, 2)) for hour, value in zip(found.hours.tolist(), found.values.tolist(), strict=True)]


def test_pressures_come_from_the_artery_where_it_is_measured() -> None:
    made = derived_courses({
        "NISysABP": course((1, 120), (2, 118)), "SysABP": course((2, 100), (3, 400)), "NIDiasABP": course((1, 70)),
        "DiasABP": course((2, 60)), "NIMAP": course((4, 65)),
    })  # fmt: skip
    assert pairs(made["systolic"]) == [(1, 120), (2, 100)], "400 mmHg is an error"
    assert pairs(made["pulse_pressure"]) == [(1, 50), (2, 40)]
    assert pairs(made["mean_pressure"]) == [(4, 65)]


def test_oxygenation_by_the_published_formulas() -> None:
    made = derived_courses({
        "PaO2": course((5, 80)), "PaCO2": course((5, 40)), "FiO2": course((1, 0.5)), "SaO2": course((5, 95)),
    })  # fmt: skip
    assert pairs(made["pf"]) == [(5, 160)] and pairs(made["sf"]) == [(5, 190)]
    assert pairs(made["gradient"]) == [(5, 226.5)], "0.5 * 713 - 40 / 0.8 - 80"


def test_quotients_need_both_values_near_in_time() -> None:
    made = derived_courses({
        "BUN": course((3, 40), (20, 40)), "Creatinine": course((3, 2)), "Na": course((3, 140)), "HCO3": course((3, 24)),
    })  # fmt: skip
    assert pairs(made["urea_creatinine"]) == [(3, 20)] and pairs(made["sodium_bicarbonate"]) == [(3, 116)]
    assert combined(course((1, 1)), None, np.divide, at_most_h=1, usable=(0, 9)) is None
    assert combined(course((1, 1)), course((2, 1)), np.divide, at_most_h=1, usable=(0, 9)) is None, "the other comes later"
    assert combined(course((1, 99)), course((1, 1)), np.divide, at_most_h=1, usable=(0, 9)) is None, "not usable"


def test_urine_by_six_hours_and_by_weight() -> None:
    made = derived_courses({"Urine": course((1, 100), (5.9, 200), (6, 60), (48, 12)), "Weight": course((0, -1), (1, 50))})
    assert pairs(made["urine_ml_h"]) == [(6, 50), (12, 10), (48, 2)]
    assert pairs(made["urine_ml_kg_h"]) == [(6, 1), (12, 0.2), (48, 0.04)]
    assert "urine_ml_kg_h" not in derived_courses({"Urine": course((1, 100))})


def test_ventilation_and_workload() -> None:
    made = derived_courses({
        "MechVent": course((2, 1), (8, 1)), "K": course((2, 4), (14, 4)), "Age": course((0, 70)), "Weight": course((0, 80)),
    })  # fmt: skip
    assert pairs(made["ventilated_h"]) == [(2, 0), (8, 6)]
    assert pairs(made["values_6h"])[:3] == [(6, 2), (12, 1), (18, 1)] and len(made["values_6h"].hours) == 8
    assert pairs(made["labs_12h"]) == [(12, 1), (24, 1), (36, 0), (48, 0)]
    assert "MechVent" not in LABS and derived_courses({"Age": course((0, 70))}) == {}, "who somebody is is no work"


# Vincent et al. 1996, table 3; each row begins at the value that no longer has the row's higher neighbour's points.
TABLE = {
    "PF": [(400, 0), (399, 1), (299, 2), (199, 3), (99, 4)],
    "Platelets": [(150, 0), (149, 1), (99, 2), (49, 3), (19, 4)],
    "Bilirubin": [(1.1, 0), (1.2, 1), (2.0, 2), (6.0, 3), (12.0, 4)],
    "GCS": [(15, 0), (14, 1), (12, 2), (9, 3), (5, 4)],
    "Creatinine": [(1.1, 0), (1.2, 1), (2.0, 2), (3.5, 3), (5.0, 4)],
}


@pytest.mark.parametrize(("key", "value", "points"), [(key, *row) for key, rows in TABLE.items() for row in rows])
def test_points_by_the_table_of_sofa(key: str, value: float, points: float) -> None:
    assert sofa_points(key, value) == points


def test_sofa_takes_the_worst_value_of_each_day() -> None:
    made = derived_courses({
        "GCS": course((1, 15), (20, 8), (30, 15)), "Platelets": course((3, 120)), "MAP": course((2, 80), (3, 60), (26, 75)),
        "Creatinine": course((4, 1.0), (40, 2.5)), "Urine": course((5, 900), (25, 100)), "Bilirubin": course((47, 7)),
    })  # fmt: skip
    assert pairs(made["sofa_brain"]) == [(24, 3), (48, 0)]
    assert pairs(made["sofa_blood"]) == [(24, 1)] and pairs(made["sofa_liver"]) == [(48, 3)]
    assert pairs(made["sofa_heart"]) == [(24, 1), (48, 0)]
    assert pairs(made["sofa_kidneys"]) == [(24, 0), (48, 4)], "under 200 mL is worse than the creatinine's 2 points"
    assert pairs(made["sofa_all"]) == [(24, 5), (48, 7)] and "sofa_lungs" not in made


def test_courses_are_named_in_order_and_lie_inside_the_window() -> None:
    source = np.random.default_rng(0)
    names = ("HR", "SysABP", "DiasABP", "MAP", "PaO2", "PaCO2", "FiO2", "SaO2", "BUN", "Creatinine", "Lactate", "Albumin", "Na",
             "HCO3", "Urine", "Weight", "MechVent", "Platelets", "Bilirubin", "GCS")  # fmt: skip
    level = {"FiO2": 0.5, "Albumin": 3.0, "MechVent": 1.0, "GCS": 12.0, "Creatinine": 1.5, "Lactate": 3.0, "Na": 140.0, "PaO2": 90.0}
    made = derived_courses({name: Course(np.sort(source.uniform(0, 48, 30)), np.full(30, level.get(name, 50.0))) for name in names})
    assert tuple(made) == DERIVED
    for found in made.values():
        assert np.isfinite(found.values).all() and (np.diff(found.hours) >= 0).all() and found.hours.min() >= 0 and found.hours.max() <= 48
