"""A small made-up patient for the tests of facts."""

from __future__ import annotations

from datetime import datetime

from salus.record.normalise import normalise
from salus.record.patient import Code, Content, Instant, Item, ObservedTime, Offset, PatientRecord, ReferenceRange, Source, item_id

SHA = "0" * 64


def hours(h: float) -> Offset:
    return Offset(h * 3600, "admission")


def on(text: str) -> Instant:
    return Instant(datetime.fromisoformat(f"{text}T00:00:00+00:00"), "day")


def item(number: int, code: Code, value: float | str | None, time: ObservedTime | None, unit: str | None = None, **rest: object) -> Item:
    return Item(
        item_id(SHA, f"line {number}"), "vitals_labs", code, Source("f", SHA, f"line {number}"), time, value=value, unit=unit, **rest
    )  # type: ignore[arg-type]


def icu(parameter: str, unit: str, *points: tuple[float, float]) -> list[tuple[Code, float, ObservedTime, str]]:
    return [(Code("physionet2012", parameter, parameter), value, hours(h), unit) for h, value in points]


def record_of(rows: list[tuple[Code, float, ObservedTime, str]], *more: Item) -> PatientRecord:
    items = [item(number, code, value, time, unit) for number, (code, value, time, unit) in enumerate(rows)]
    return PatientRecord("p", normalise((*items, *more)))


def coded(number: int, category: str, display: str, time: ObservedTime | None, *, status: str | None = "active", **rest: object) -> Item:
    return item(number, Code("http://snomed.info/sct", str(number), display), None, time, category=category, status=status, **rest)


def note(number: int, text: str, time: ObservedTime | None) -> Item:
    return item(number, Code("http://loinc.org", "34117-2", "note"), None, time, content=Content("text", lambda: text), category="note")


def course() -> PatientRecord:
    """Return an ICU course with rising creatinine, falling potassium, a steady sodium and a dirty temperature."""
    rows = [
        *icu("Creatinine", "mg/dL", (2, 1.1), (20, 1.9), (40.5, 2.4)),
        *icu("K", "meq/L", (3, 5.0), (41, 4.1)),
        *icu("Na", "meq/L", (3, 140.0), (20, 140.0), (41, 140.0)),
        *icu("Temp", "Cel", (1, -17.8), (2, 37.0), (40, 38.6)),
        *icu("HR", "/min", (0, 80.0), (10, 112.0), (20, 112.0), (30, 95.0)),
    ]
    person = (
        item(100, Code("http://loinc.org", "30525-0", "age"), 54.0, hours(0), "a", category="demographic"),
        item(101, Code("http://loinc.org", "76689-9", "sex"), "female", hours(0), category="demographic"),
        coded(102, "condition", "Hypertension", hours(0)),
        coded(103, "condition", "Sepsis", hours(30)),
        coded(104, "condition", "Viral sinusitis (disorder)", hours(0), status="resolved"),
        coded(105, "medication", "Metoprolol 25 MG Oral Tablet", hours(1)),
        coded(106, "medication", "Metoprolol 25 MG Oral Tablet", hours(35)),
        coded(107, "medication", "Norepinephrine", hours(36)),
        coded(108, "medication", "Naproxen sodium 220 MG Oral Tablet", hours(1), status="stopped"),
        coded(109, "medication", "Aspirin 81 MG", hours(1), ended_at=hours(5)),
        coded(110, "procedure", "Appendectomy", hours(4), status="completed"),
        note(111, "Chest pain since three days. No fever at night. Plan: start antibiotics.", hours(2)),
    )
    return record_of(rows, *person)


def with_range(low: float, high: float) -> PatientRecord:
    return PatientRecord(
        "p",
        (
            item(
                1,
                Code("http://loinc.org", "2160-0", "Creatinine"),
                1.3,
                on("2019-03-04"),
                "mg/dL",
                reference_range=ReferenceRange(low, high, "this laboratory"),
            ),
        ),
    )
