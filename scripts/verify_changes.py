"""Checks answers to "what changed" against the raw ICU files, without any code of the program that made them.

    python scripts/verify_changes.py ANSWERS.json DATA

ANSWERS.json: a list of `{"subject_id", "statements": [{"text", "item_ids"}], "items": [{"id", "code", "seconds", "value",
"unit"}]}`; DATA: the folder that holds `icu_physionet2012`. Numbers, times and directions are read from the words of each
statement, and compared with the raw text files. The rule of the largest changes is repeated here from its description. Prints
totals; exits 1 if one is wrong.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

TOP = 10
WINDOW_MIN = 48 * 60
VARIABLES: dict[str, tuple[str, str, float, float, float, float, float | None, float | None]] = {
    "ALP": ("alkaline_phosphatase", "alkaline phosphatase", 1, 5000, 104.2, 10, 30, 120),
    "ALT": ("alanine_aminotransferase", "alanine aminotransferase", 1, 20000, 766.9, 77, 10, 40),
    "AST": ("aspartate_aminotransferase", "aspartate aminotransferase", 1, 30000, 1387, 139, 10, 40),
    "Albumin": ("albumin", "albumin", 0.5, 8, 0.4467, 0.1, 3.5, 5.5),
    "BUN": ("blood_urea_nitrogen", "blood urea nitrogen", 1, 300, 10.73, 1, 8, 20),
    "Bilirubin": ("bilirubin", "bilirubin", 0.01, 80, 1.991, 0.2, None, 1.0),
    "Cholesterol": ("total_cholesterol", "total cholesterol", 20, 1000, 20.98, 2, None, 200),
    "Creatinine": ("creatinine", "creatinine", 0.1, 40, 0.6997, 0.1, 0.6, 1.2),
    "DiasABP": ("invasive_diastolic_blood_pressure", "invasive diastolic blood pressure", 5, 250, 16.19, 2, 60, 80),
    "FiO2": ("inspired_oxygen_fraction", "inspired oxygen fraction", 0.2, 1.0, 0.2801, 0.03, None, None),
    "GCS": ("glasgow_coma_score", "Glasgow Coma Score", 3, 15, 5.209, 1, 15, None),
    "Glucose": ("glucose", "glucose", 5, 2000, 79.38, 8, 70, 110),
    "HCO3": ("bicarbonate", "bicarbonate", 1, 70, 3.684, 1, 23, 28),
    "HCT": ("hematocrit", "hematocrit", 5, 80, 5.077, 0.5, 37, 52),
    "HR": ("heart_rate", "heart rate", 10, 300, 20.35, 2, 60, 100),
    "K": ("potassium", "potassium", 1, 15, 0.7447, 0.1, 3.5, 5.0),
    "Lactate": ("lactate", "lactate", 0.05, 40, 2.25, 0.2, 0.5, 1.6),
    "MAP": ("invasive_mean_blood_pressure", "invasive mean blood pressure", 10, 300, 28.94, 3, 70, 100),
    "MechVent": ("mechanical_ventilation", "mechanical ventilation", 0, 1, 1.0, 1, None, None),
    "Mg": ("magnesium", "magnesium", 0.2, 15, 0.4569, 0.1, 1.6, 2.6),
    "NIDiasABP": ("diastolic_blood_pressure", "diastolic blood pressure", 5, 250, 18.11, 2, 60, 80),
    "NIMAP": ("mean_blood_pressure", "mean blood pressure", 10, 300, 18.59, 2, 70, 100),
    "NISysABP": ("systolic_blood_pressure", "systolic blood pressure", 20, 320, 25.79, 3, 90, 120),
    "Na": ("sodium", "sodium", 90, 200, 4.066, 1, 136, 145),
    "PaCO2": ("arterial_carbon_dioxide_pressure", "arterial carbon dioxide pressure", 5, 200, 9.93, 1, 35, 45),
    "PaO2": ("arterial_oxygen_pressure", "arterial oxygen pressure", 10, 800, 128.3, 13, 75, 100),
    "Platelets": ("platelets", "platelet count", 1, 3000, 59.56, 6, 150, 450),
    "RespRate": ("respiratory_rate", "respiratory rate", 1, 100, 7.273, 1, 12, 18),
    "SaO2": ("oxygen_saturation", "oxygen saturation", 20, 100, 3.752, 1, 95, 100),
    "SysABP": ("invasive_systolic_blood_pressure", "invasive systolic blood pressure", 20, 320, 30.32, 3, 90, 120),
    "Temp": ("temperature", "temperature", 25, 45, 1.19, 0.1, 36.5, 37.3),
    "TroponinI": ("troponin_i", "troponin I", 0, 1000, 9.484, 0.9, None, 0.04),
    "TroponinT": ("troponin_t", "troponin T", 0, 100, 1.808, 0.18, None, 0.01),
    "Urine": ("urine_output", "urine output", 0, 7000, 465.0, 50, None, None),
    "WBC": ("white_blood_cells", "white blood cell count", 0.01, 500, 5.277, 0.5, 4, 11),
    "Weight": ("weight", "weight", 20, 400, 8.579, 1, None, None),
    "pH": ("arterial_ph", "arterial pH", 6.5, 8.0, 0.1002, 0.01, 7.35, 7.45),
}
"""Parameter of the challenge → name, words, accepted low and high, spread, least change, reference low and high."""
UP = re.compile(r"\b(rose|risen|rising|rise|increased|increase|went up|climbed)\b", re.I)
DOWN = re.compile(r"\b(fell|fallen|falling|fall|decreased|decrease|went down|dropped|declined)\b", re.I)
SAME = re.compile(r"\b(about the same|unchanged|steady|stable|constant)\b", re.I)
SINGLE = re.compile(r"\b(latest|earliest|highest|lowest)\b", re.I)
TIME = re.compile(r"\b(?:(?P<h>\d+) h(?: (?P<m>\d+) min)?|(?P<only>\d+) min)\b|\b(?:at|from|to) (?P<zero>admission)")
NUMBER = re.compile(r"(?<![\w.–])-?\d+(?:\.\d+)?(?![\w–]|\.\d)")
Point = tuple[int, Decimal]


def read_stay(path: Path) -> dict[str, list[Point]]:
    """Return parameter → (minutes, value) of the plausible values, stable by time."""
    series: dict[str, list[Point]] = {}
    for line in path.read_text().splitlines()[1:]:
        time, parameter, value = line.split(",")
        if parameter not in VARIABLES or Decimal(value) == -1:
            continue
        low, high = VARIABLES[parameter][2:4]
        if low <= float(value) <= high:
            hours, minutes = time.split(":")
            series.setdefault(parameter, []).append((int(hours) * 60 + int(minutes), Decimal(value)))
    return {parameter: sorted(points, key=lambda point: point[0]) for parameter, points in series.items()}


def largest_changes(series: dict[str, list[Point]]) -> list[str]:
    """Return the parameters of the largest changes by |last - first| / spread, ties by name, below `least change` left out."""
    scored = []
    for parameter, points in series.items():
        name, _, _, _, spread, least = VARIABLES[parameter][:6]
        difference = abs(points[-1][1] - points[0][1])
        if len(points) > 1 and difference > 0 and float(difference) >= least - 1e-9:
            scored.append((-float(difference) / spread, name, parameter))
    return [parameter for _, _, parameter in sorted(scored)[:TOP]]


def subject_of(sentence: str) -> str | None:
    """Return the parameter whose words a sentence uses, the longest words first."""
    for parameter in sorted(VARIABLES, key=lambda key: -len(VARIABLES[key][1])):
        if re.search(rf"\b{re.escape(VARIABLES[parameter][1])}\b", sentence, re.I):
            return parameter
    return None


def times_of(sentence: str) -> tuple[list[int], str]:
    """Return the times in minutes after admission, and the sentence without them."""
    times = [
        0 if match["zero"] else int(match["only"]) if match["only"] else int(match["h"]) * 60 + int(match["m"] or 0)
        for match in TIME.finditer(sentence)
    ]
    return times, TIME.sub(" ", sentence)


def check(sentence: str, parameter: str, points: list[Point]) -> dict[str, bool] | None:
    """Return whether values, times and direction of a sentence are those of the raw series; None: no statement of these kinds."""
    times, rest = times_of(sentence)
    by = [Decimal(number) for number in re.findall(r"\bby (-?\d+(?:\.\d+)?)", rest)]
    rest = re.sub(r"\bby -?\d+(?:\.\d+)?", " ", re.sub(re.escape(VARIABLES[parameter][1]), " ", rest, flags=re.I))
    rest = re.sub(r"and \d+ times? more", " ", rest)
    numbers = [Decimal(number) for number in NUMBER.findall(re.sub(r"×10[³⁶]", "", rest))]
    directions = [sign for sign, pattern in ((1, UP), (-1, DOWN), (0, SAME)) if pattern.search(sentence)]
    if directions:
        return check_change(points, numbers, by, times, directions, VARIABLES[parameter][5])
    single = SINGLE.search(sentence)
    if single is None or not numbers:
        return None
    return check_single(points, single[1].lower(), numbers, times, sentence, VARIABLES[parameter][6:8])


def check_change(
    points: list[Point], numbers: list[Decimal], by: list[Decimal], times: list[int], directions: list[int], least: float
) -> dict[str, bool]:
    """Return the verdict on a statement of change: first and last value, difference, both times, direction."""
    (start, first), (end, last) = points[0], points[-1]
    difference = last - first
    sign = 0 if difference == 0 or abs(float(difference)) < least - 1e-9 else 1 if difference > 0 else -1
    is_stated = bool(numbers or by)
    return {
        "values": is_stated and numbers in ([], [first, last]) and by in ([], [abs(difference)]),
        "times": times in ([], [start, end]),
        "direction": directions == [sign],
    }


def check_single(
    points: list[Point],
    kind: str,
    numbers: list[Decimal],
    times: list[int],
    sentence: str,
    limits: tuple[float | None, float | None],
) -> dict[str, bool]:
    """Return the verdict on one value: the value, its time, and above or below its range."""
    pick = {
        "latest": points[-1][1],
        "earliest": points[0][1],
        "highest": max(v for _, v in points),
        "lowest": min(v for _, v in points),
    }
    value = pick[kind]
    when = {"latest": points[-1][0], "earliest": points[0][0]}.get(kind, next(t for t, v in points if v == value))
    is_above = limits[1] is not None and float(value) > limits[1]
    is_below = limits[0] is not None and float(value) < limits[0]
    stated = (re.search(r"\babove\b", sentence) is not None, re.search(r"\bbelow\b", sentence) is not None)
    return {
        "values": numbers == [value],
        "times": times in ([], [when]),
        "direction": stated in ((False, False), (is_above, is_below)),
    }


def sentences(statements: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each sentence with its statement."""
    for statement in statements:
        for sentence in re.split(r"(?<=\.)\s+(?=[A-Z])", statement["text"]):
            yield sentence, statement


def cited_items_agree(
    parameter: str, statement: dict[str, Any], items: dict[str, dict[str, Any]], series: dict[str, list[Point]]
) -> bool:
    """Return whether one cited item is of the parameter, and every cited series value is in the raw file at its time."""
    if not any(items[one]["code"] == parameter for one in statement["item_ids"] if one in items):
        return False
    for item_id in statement["item_ids"]:
        item = items.get(item_id)
        if item is None:
            return False
        if item["code"] in series:
            point = (round(item["seconds"] / 60), Decimal(str(item["value"])))
            if not any(time == point[0] and value == point[1] for time, value in series[item["code"]]):
                return False
    return True


def main(answers_path: str, data: str) -> int:
    """Check every answer, print the totals, and return the exit status."""
    folder = Path(data) / "icu_physionet2012" / "set-a"
    totals = dict.fromkeys(("statements", "values", "times", "direction", "items", "not_read"), 0)
    mentioned: list[int] = []
    possible: list[int] = []
    for answer in json.loads(Path(answers_path).read_text(encoding="utf-8")):
        series = read_stay(folder / f"{answer['subject_id']}.txt")
        items = {item["id"]: item for item in answer["items"]}
        said: set[str] = set()
        for sentence, statement in sentences(answer["statements"]):
            parameter = subject_of(sentence)
            if parameter is not None and parameter not in series and re.search(r"\d", sentence):
                totals["statements"] += 1
                print(f"wrong: {parameter} is not in this stay")
                continue
            verdict = check(sentence, parameter, series[parameter]) if parameter in series else None
            if verdict is None or parameter is None:
                totals["not_read"] += 1
                continue
            totals["statements"] += 1
            for name, is_right in verdict.items():
                totals[name] += is_right
            totals["items"] += cited_items_agree(parameter, statement, items, series)
            if any(pattern.search(sentence) for pattern in (UP, DOWN, SAME)):
                said.add(parameter)
            if not all(verdict.values()):
                print(f"wrong: {parameter} {verdict}")
        top = largest_changes(series)
        mentioned.append(len(said & set(top)))
        possible.append(len(top))
    n = totals["statements"]
    for name in ("values", "times", "direction", "items"):
        print(f"{name} correct: {totals[name]} of {n}")
    print(f"sentences that are no such statement: {totals['not_read']}")
    patients = len(mentioned)
    mean, most = (sum(counts) / max(patients, 1) for counts in (mentioned, possible))
    print(f"of the {TOP} largest changes mentioned: {mean:.2f} (of {most:.2f} that there are), n = {patients}")
    return 0 if n and all(totals[name] == n for name in ("values", "times", "direction", "items")) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
