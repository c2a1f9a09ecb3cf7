"""Forty-eight hours of intensive care in words, made by code: what a note would say and summary statistics do not.

Takes the measured courses of one stay; gives sentences by body system: of each variable its band (`icu_bands`) at the last, lowest and
highest value, its trend from the first to the second day, how long it was beyond the normal limits, and what was never measured; urine by
body weight, ventilation, and how many organs fail. No outcome and no score of the cohort's outcome table is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus.evaluate.fusion.icu_bands import BANDS, NORMAL, Band
from salus.record.patient import Item, Offset

WINDOW_H = 48.0
DAY_H = 24.0
SYSTEMS = {
    "brain": ("GCS",),
    "heart": ("HR", "SI", "TroponinT", "TroponinI"),
    "pressure": ("SBP", "MAP", "Lactate"),
    "lungs": ("RespRate", "SaO2", "PF", "FiO2", "PaCO2"),
    "acid": ("pH", "HCO3"),
    "kidneys": ("Creatinine", "BUN", "K", "Na"),
    "liver": ("Bilirubin", "AST", "ALT", "ALP", "Albumin"),
    "blood": ("Platelets", "WBC", "HCT", "Temp", "Glucose"),
    "whole": (),
}
"""Body system → its variables. `whole` is the patient: who, how many organs fail."""
SHARES = ((0.0, "never"), (0.1, "briefly"), (0.5, "often"), (1.0, "mostly"))
"""Up to which share of the time since the first value, in words; all of it is `always`."""
AGES = ((40, "under 40"), (60, "40 to 59"), (70, "60 to 69"), (75, "70 to 74"), (80, "75 to 79"), (200, "80 or older"))
"""SAPS II."""
FAILING = {"GCS": -10.0, "MAP": -70.0, "PF": -200.0, "Creatinine": 3.5, "Bilirubin": 6.0, "Platelets": -50.0, "Lactate": 4.0, "pH": -7.25}
"""An organ fails where, on the second day, its highest value is at or above this, or (negative) its median is below this number's size, of
the coma score the best: SOFA's 3 points (of the mean pressure its 1), lactate by the septic shock bundles, pH by APACHE II."""
Hours = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """One variable of one stay, in the order of time."""

    hours: Hours
    values: Hours

    def between(self, start_h: float, end_h: float) -> Hours:
        """Return the values from a time to before another."""
        return self.values[(self.hours >= start_h) & (self.hours < end_h)]


Courses = Mapping[str, Course]


def courses_of(items: Sequence[Item]) -> dict[str, Course]:
    """Return the challenge's numbers of one stay by parameter, inside the 48 hours, in the order of time."""
    found: dict[str, list[tuple[float, float]]] = {}
    for item in items:
        if isinstance(item.observed_at, Offset) and isinstance(item.value, int | float) and item.observed_at.seconds <= WINDOW_H * 3600:
            found.setdefault(_name(item), []).append((item.observed_at.seconds / 3600, float(item.value)))
    made = {}
    for name, pairs in found.items():
        table = np.array(sorted(pairs, key=lambda one: one[0]), np.float64)
        made[name] = Course(table[:, 0], table[:, 1])
    return made


def _name(item: Item) -> str:
    return "Age" if item.code.code == "30525-0" else item.code.code


def measured(band: Band, courses: Courses) -> Course | None:
    """Return a variable's usable values, of several parameters together; at the same minute the preferred one counts."""
    kept: dict[float, float] = {}
    for name in reversed(band.names):
        if name in courses:
            kept |= zip(courses[name].hours.tolist(), courses[name].values.tolist(), strict=True)
    pairs = sorted((hour, value) for hour, value in kept.items() if band.usable[0] <= value <= band.usable[1])
    return Course(np.array([hour for hour, _ in pairs]), np.array([value for _, value in pairs])) if pairs else None


def quotient(over: Course | None, under: Course | None, band: Band, *, at_most_h: float) -> Course | None:
    """Return a value over the last one of another that is not older than some hours, wherever the first was measured."""
    if over is None or under is None:
        return None
    before = np.searchsorted(under.hours, over.hours, side="right") - 1
    there = (before >= 0) & (over.hours - under.hours[before] <= at_most_h)
    made = Course(over.hours[there], over.values[there] / under.values[before[there]])
    inside = (made.values >= band.usable[0]) & (made.values <= band.usable[1])
    return Course(made.hours[inside], made.values[inside]) if inside.any() else None


def usable_courses(courses: Courses) -> dict[str, Course]:
    """Return the course of each variable of `BANDS` that was measured, with the two quotients."""
    made = {key: measured(band, courses) for key, band in BANDS.items() if band.names}
    oxygen = Band("arterial oxygen", ("PaO2",), (), 0, (20, 700), 0.0)
    made["PF"] = quotient(measured(oxygen, courses), made["FiO2"], BANDS["PF"], at_most_h=8.0)
    made["SI"] = quotient(made["HR"], made["SBP"], BANDS["SI"], at_most_h=2.0)
    return {key: course for key, course in made.items() if course is not None}


def share_beyond(course: Course, is_beyond: NDArray[np.bool_]) -> float:
    """Return the share of the time from the first value to the end of the window that values spent beyond; each holds until the next.

    Example:
        >>> round(share_beyond(Course(np.array([0.0, 12.0, 24.0]), np.zeros(3)), np.array([False, True, False])), 2)
        0.25
    """
    lasted = np.diff(np.append(course.hours, max(WINDOW_H, course.hours[-1] + 1e-6)))
    return float((lasted * is_beyond).sum() / lasted.sum())


def share_word(share: float) -> str:
    """Return a share of the time in words.

    Example:
        >>> share_word(0.0), share_word(0.3), share_word(1.0)
        ('never', 'often', 'always')
    """
    if share > 1 - 1e-9:
        return "always"
    return next(word for limit, word in SHARES if share <= limit)


def trend(course: Course, step: float) -> str | None:
    """Return where the mean went from the first day to the second; None where a day has no value.

    Example:
        >>> trend(Course(np.array([1.0, 30.0]), np.array([1.0, 1.4])), 0.3)
        'rising'
    """
    first, second = course.between(0, DAY_H), course.between(DAY_H, WINDOW_H + 1)
    if not len(first) or not len(second):
        return None
    change = float(second.mean() - first.mean())
    if abs(change) < step:
        return "steady"
    return f"{'' if abs(change) < 3 * step else 'steeply '}{'rising' if change > 0 else 'falling'}"


def clauses_of(band: Band, course: Course | None) -> Iterator[str]:
    """Yield what is said of one variable."""
    if course is None:
        yield "never measured"
        return
    values = course.values
    yield f"last {band.word(values[-1])}"
    yield f"lowest {band.word(values.min())}"
    yield f"highest {band.word(values.max())}"
    late = course.between(DAY_H, WINDOW_H + 1)
    if len(late):
        yield f"second day {band.word(float(np.median(late)))}"
    else:
        yield "not measured on the second day"
    moved = trend(course, band.step)
    if moved:
        yield moved
    sides = np.array([band.beyond(value) for value in values])
    for side, name in ((-1, "low"), (1, "high")):
        if 0 <= band.normal + side <= len(band.limits):
            yield f"{share_word(share_beyond(course, sides == side))} {name}"
    if sides[-1] == 0 and (sides != 0).any():
        yield "recovered"


def usable_weights(courses: Courses) -> list[float]:
    """Return the weights (kg) that are no errors of typing, in the order of time."""
    weighed = courses.get("Weight")
    return [] if weighed is None else [one for one in weighed.values.tolist() if 25 <= one <= 300]


def urine_clauses(courses: Courses) -> Iterator[str]:
    """Yield the urine of the last 24, 12 and 6 hours, by weight where it is known, else by volume.

    Limits: KDIGO 0.5 and 0.3 mL/kg/h; SOFA and SAPS II 200, 500 and 1,000 mL a day.
    """
    urine = courses.get("Urine")
    if urine is None:
        yield "never measured"
        return
    weights = usable_weights(courses)
    for hours in (24, 12, 6):
        volume = float(np.clip(urine.between(WINDOW_H - hours, WINDOW_H + 1), 0, 5000).sum())
        if hours == 24:
            yield f"last day {_below(volume, (200, 500, 1000, 2000, 3500))} mL"
        if weights:
            yield f"last {hours} hours {_below(volume / hours / float(np.median(weights)), (0.1, 0.3, 0.5, 1.0, 2.0))} mL/kg/h"
    first = float(np.clip(urine.between(0, DAY_H), 0, 5000).sum())
    second = float(np.clip(urine.between(DAY_H, WINDOW_H + 1), 0, 5000).sum())
    if first > 0:
        yield "falling by half" if second < first / 2 else "doubled" if second > 2 * first else "steady"
    if len(weights) > 1 and weights[-1] > 1.05 * weights[0]:
        yield f"fluid overload {'above 10' if weights[-1] > 1.1 * weights[0] else '5 to 10'} percent"


def _below(value: float, limits: Sequence[float]) -> str:
    return next((f"under {limit:g}" for limit in limits if value < limit), f"at least {limits[-1]:g}")


def ventilation_clauses(courses: Courses) -> Iterator[str]:
    """Yield whether, how long and until when the patient was ventilated; a mark within 6 hours of the end is `still`."""
    marks = courses.get("MechVent")
    if marks is None:
        yield "never ventilated"
        return
    on = marks.hours[marks.values > 0]
    if not len(on):
        yield "never ventilated"
        return
    yield "ventilated"
    yield f"over {_below(float(on[-1] - on[0]), (6, 12, 24, 36, 44))} hours"
    yield "ventilated at the start" if on[0] < 6 else "intubated later"
    yield "still ventilated" if on[-1] >= WINDOW_H - 6 else "ventilated within a day" if on[-1] >= DAY_H else "weaned"


def failing_organs(known: Courses) -> list[str]:
    """Return which organs fail on the second day by `FAILING`."""
    failing = []
    for key, limit in FAILING.items():
        late = known[key].between(DAY_H, WINDOW_H + 1) if key in known else np.empty(0)
        if len(late) and (late.max() >= limit if limit > 0 else (late.max() if key == "GCS" else np.median(late)) < -limit):
            failing.append(key)
    return failing


def _whole(courses: Courses, known: Courses) -> Iterator[str]:
    if "Age" in courses:
        yield f"age {next(word for limit, word in AGES if courses['Age'].values[0] < limit)}"
    failing = failing_organs(known)
    yield f"{min(len(failing), 5)} organs failing"
    yield from (f"failing {BANDS[key].words}" for key in failing)
    far = [key for key, course in known.items() if BANDS[key].word(course.values[-1]) not in (NORMAL, "mildly low", "mildly high")]
    yield f"{_below(len(far), (1, 2, 4, 6, 9, 12))} values far from normal at last"
    yield f"{_below(len(known), (14, 18, 22, 25))} variables measured"


def sentences_of(courses: Courses) -> dict[str, tuple[str, ...]]:
    """Return the stay in words: body system → its sentences, each `subject: clause, clause`.

    Args:
        courses: the challenge's parameters, as `courses_of` gives them.

    Example:
        >>> told = sentences_of({"Lactate": Course(np.array([2.0, 40.0]), np.array([1.0, 5.0]))})
        >>> told["pressure"][2]
        'lactate: last moderately high, lowest normal, highest moderately high, second day moderately high, steeply rising, often high'
    """
    known = usable_courses(courses)
    told = {}
    for system, keys in SYSTEMS.items():
        lines = [(BANDS[key].words, clauses_of(BANDS[key], known.get(key))) for key in keys]
        if system == "kidneys":
            lines.append(("urine", urine_clauses(courses)))
        if system == "lungs":
            lines.append(("ventilation", ventilation_clauses(courses)))
        if system == "whole":
            lines.append(("patient", _whole(courses, known)))
        told[system] = tuple(f"{subject}: {', '.join(clauses)}" for subject, clauses in lines)
    return told
