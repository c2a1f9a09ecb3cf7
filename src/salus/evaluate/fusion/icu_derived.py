"""What is reckoned in intensive care from several measurements, as further courses: pressures, oxygenation, urine, SOFA's points, workload.

Takes the measured courses of one stay; gives one course for each name of `DERIVED` that can be reckoned, in the order of time, for the same
summary statistics as what was measured. No outcome and no score of the cohort's outcome table is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np

from salus.evaluate.fusion.icu_bands import BANDS, Band
from salus.evaluate.fusion.icu_words import DAY_H, WINDOW_H, Course, Courses, Hours, measured, usable_courses, usable_weights

URINE_STEP_H = 6.0
"""KDIGO's shortest span (Kidney Int Suppl 2012, 2:1, table 2)."""
VALUES_STEP_H = 6.0
LABS_STEP_H = 12.0
USABLE_URINE_ML = (0.0, 5000.0)
"""Of one note; more is an error of typing."""
ORGANS = {"lungs": ("PF", min), "blood": ("Platelets", min), "liver": ("Bilirubin", max), "brain": ("GCS", min)}
"""Organ → the variable whose worst value of a day gives SOFA's points. Heart and kidneys have rules of their own."""
DERIVED = (
    "systolic", "diastolic", "mean_pressure", "pulse_pressure", "shock_index", "pf", "sf", "gradient", "urea_creatinine",
    "lactate_albumin", "sodium_bicarbonate", "urine_ml_h", "urine_ml_kg_h", "ventilated_h", "values_6h", "labs_12h",
    *(f"sofa_{organ}" for organ in (*ORGANS, "heart", "kidneys", "all")),
)  # fmt: skip
LABS = frozenset({
    "ALP", "ALT", "AST", "Albumin", "BUN", "Bilirubin", "Creatinine", "Glucose", "HCO3", "HCT", "K", "Lactate", "Mg", "Na", "PaO2",
    "Platelets", "TroponinI", "TroponinT", "WBC", "pH",
})  # fmt: skip
CONSTANT = frozenset({"Age", "8302-2", "Weight"})
"""Who the patient is (8302-2 is height): counted in no workload."""
DRY_AIR_MMHG = 713.0
"""Pressure of the air without water vapour, 760 - 47."""
RESPIRATORY_QUOTIENT = 0.8


def _band(names: tuple[str, ...], usable: tuple[float, float]) -> Band:
    return Band("", names, (), 0, usable, 0.0)


PRESSURES = {
    "systolic": _band(("SysABP", "NISysABP"), (20, 300)),
    "diastolic": _band(("DiasABP", "NIDiasABP"), (10, 200)),
    "mean_pressure": _band(("MAP", "NIMAP"), (15, 250)),
}
"""mmHg; from the artery where it is measured there, else from the cuff."""
OXYGEN = _band(("PaO2",), (20, 700))


def derived_courses(courses: Courses) -> dict[str, Course]:
    """Return what can be reckoned of one stay, by the names of `DERIVED`.

    Args:
        courses: the challenge's parameters, as `courses_of` gives them.

    Example:
        >>> at = np.array([1.0, 30.0])
        >>> made = derived_courses({"HR": Course(at, np.array([80.0, 120.0])), "SysABP": Course(at, np.array([120.0, 80.0]))})
        >>> made["shock_index"].values.round(2).tolist(), "pf" in made
        ([0.67, 1.5], False)
    """
    known = usable_courses(courses)
    pressures = {name: course for name, band in PRESSURES.items() if (course := measured(band, courses)) is not None}
    made = {
        **pressures,
        **dict(_quotients({**known, **pressures}, measured(OXYGEN, courses))),
        **dict(_ventilated(courses)),
        **dict(_urine(courses)),
        **dict(_workload(courses)),
        **dict(_sofa(courses, {**known, **pressures})),
    }
    return {name: made[name] for name in DERIVED if name in made}


def combined(
    one: Course | None,
    other: Course | None,
    rule: Callable[[Hours, Hours], Hours],
    *,
    at_most_h: float,
    usable: tuple[float, float],
) -> Course | None:
    """Return a rule of a value and the last one of another that is not older than some hours, wherever the first was measured.

    Args:
        one: gives the times.
        other: its last value at or before each time.
        rule: of both values.
        at_most_h: how old the other may be.
        usable: a result outside is an error of one of the two and is left out.

    Example:
        >>> at = np.array([1.0, 9.0])
        >>> combined(Course(at, at), Course(at[:1], at[:1]), lambda x, y: x - y, at_most_h=4, usable=(0, 9)).values.tolist()
        [0.0]
    """
    if one is None or other is None:
        return None
    before = np.searchsorted(other.hours, one.hours, side="right") - 1
    there = (before >= 0) & (one.hours - other.hours[before] <= at_most_h)
    hours, values = one.hours[there], rule(one.values[there], other.values[before[there]])
    inside = (values >= usable[0]) & (values <= usable[1])
    return Course(hours[inside], values[inside]) if inside.any() else None


def _quotients(known: Courses, oxygen: Course | None) -> Iterator[tuple[str, Course]]:
    """Yield what is reckoned of two variables or three.

    Shock index: Allgower and Burri 1967 (Dtsch Med Wochenschr 92:1947). PaO2/FiO2 of SOFA; SaO2/FiO2: Rice et al. 2007 (Chest 132:410).
    Alveolar-arterial gradient: the alveolar gas equation (West, Respiratory Physiology, chapter 5). Lactate over albumin: Shin et al. 2018
    (Shock 50:545). Sodium less bicarbonate is the anion gap without chloride, which the challenge does not have.
    """
    get = known.get
    alveolar = combined(
        get("PaCO2"),
        get("FiO2"),
        lambda carbon, inspired: inspired * DRY_AIR_MMHG - carbon / RESPIRATORY_QUOTIENT,
        at_most_h=8,
        usable=(-100, 760),
    )
    found = {
        "pulse_pressure": combined(get("systolic"), get("diastolic"), np.subtract, at_most_h=0.1, usable=(0, 200)),
        "shock_index": get("SI"),
        "pf": get("PF"),
        "sf": combined(get("SaO2"), get("FiO2"), np.divide, at_most_h=8, usable=(30, 500)),
        "gradient": combined(oxygen, alveolar, lambda arterial, air: air - arterial, at_most_h=2, usable=(-50, 700)),
        "urea_creatinine": combined(get("BUN"), get("Creatinine"), np.divide, at_most_h=1, usable=(1, 200)),
        "lactate_albumin": combined(get("Lactate"), get("Albumin"), np.divide, at_most_h=WINDOW_H, usable=(0, 50)),
        "sodium_bicarbonate": combined(get("Na"), get("HCO3"), np.subtract, at_most_h=3, usable=(50, 180)),
    }
    yield from ((name, course) for name, course in found.items() if course is not None)


def _ventilated(courses: Courses) -> Iterator[tuple[str, Course]]:
    """Yield the hours since the first mark of ventilation, at each mark."""
    marks = courses.get("MechVent")
    on = np.empty(0) if marks is None else marks.hours[marks.values > 0]
    if len(on):
        yield "ventilated_h", Course(on, on - on[0])


def _urine(courses: Courses) -> Iterator[tuple[str, Course]]:
    """Yield urine by the hour and, where the weight is known, by kg, over each six hours in which any was noted (KDIGO)."""
    urine = courses.get("Urine")
    if urine is None:
        return
    starts = np.arange(0, WINDOW_H, URINE_STEP_H)
    spans = [np.clip(_within(urine, start, start + URINE_STEP_H), *USABLE_URINE_ML) for start in starts]
    noted = np.array([len(span) > 0 for span in spans])
    hourly = np.array([span.sum() / URINE_STEP_H for span in spans])[noted]
    if not len(hourly):
        return
    ends = starts[noted] + URINE_STEP_H
    yield "urine_ml_h", Course(ends, hourly)
    weights = usable_weights(courses)
    if len(weights):
        yield "urine_ml_kg_h", Course(ends, hourly / float(np.median(weights)))


def _within(course: Course, start_h: float, end_h: float) -> Hours:
    """Return the values from a time to before another; the last span takes in the window's end."""
    return course.between(start_h, WINDOW_H + 1 if end_h >= WINDOW_H else end_h)


def _workload(courses: Courses) -> Iterator[tuple[str, Course]]:
    """Yield how many values, and how many of the laboratory, each span has: what is measured often is watched for a reason.

    Source: Agniel et al. 2018 (BMJ 361:k1479): whether and when a test is done tells of survival beside its result.
    """
    spans = {"values_6h": (VALUES_STEP_H, courses.keys() - CONSTANT), "labs_12h": (LABS_STEP_H, courses.keys() & LABS)}
    for name, (step_h, kept) in spans.items():
        starts = np.arange(0, WINDOW_H, step_h)
        counts = np.array([sum(len(_within(courses[key], start, start + step_h)) for key in kept) for start in starts], np.float64)
        if counts.any():
            yield name, Course(starts + step_h, counts)


def _sofa(courses: Courses, known: Courses) -> Iterator[tuple[str, Course]]:
    """Yield SOFA's points of each organ on the first and second day, as far as they can be told, and their sum (all).

    The heart has 1 point at most and the lungs count whether ventilated or not: the challenge has no doses of drugs, and ventilation only
    as marks. Source: Vincent et al. 1996 (Intensive Care Med 22:707, table 3).
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for start in (0.0, DAY_H):
        day = dict(_sofa_of_day(courses, known, start))
        if day:
            day["all"] = sum(day.values())
        for organ, one in day.items():
            points.setdefault(organ, []).append((start + DAY_H, one))
    for organ, pairs in points.items():
        table = np.array(pairs, np.float64)
        yield f"sofa_{organ}", Course(table[:, 0], table[:, 1])


def _sofa_of_day(courses: Courses, known: Courses, start_h: float) -> Iterator[tuple[str, float]]:
    def of_day(course: Course | None) -> Hours:
        return np.empty(0) if course is None else _within(course, start_h, start_h + DAY_H)

    for organ, (key, worst) in ORGANS.items():
        values = of_day(known.get(key))
        if len(values):
            yield organ, sofa_points(key, worst(values))
    values = of_day(known.get("mean_pressure"))
    if len(values):
        yield "heart", float(values.min() < 70)  # mmHg
    creatinine, urine = of_day(known.get("Creatinine")), of_day(courses.get("Urine"))
    kidneys = [sofa_points("Creatinine", creatinine.max())] if len(creatinine) else []
    if len(urine):
        volume = float(np.clip(urine, *USABLE_URINE_ML).sum())
        kidneys.append(4.0 if volume < 200 else 3.0 if volume < 500 else 0.0)  # mL a day
    if kidneys:
        yield "kidneys", max(kidneys)


def sofa_points(key: str, value: float) -> float:
    """Return SOFA's points of one value: how many of the limits of `BANDS`, which are SOFA's for these, lie between it and normal.

    Args:
        key: `PF`, `Platelets`, `Bilirubin`, `GCS` or `Creatinine`.
        value: in the unit of `BANDS`.

    Example:
        >>> sofa_points("PF", 199.0), sofa_points("Creatinine", 1.1), sofa_points("GCS", 5.0)
        (3.0, 0.0, 4.0)
    """
    band = BANDS[key]
    return float(abs(bisect_right(band.limits, value) - band.normal))
