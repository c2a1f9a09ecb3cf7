"""What changed and what matters: facts of a record ranked by two stated rules.

Takes a `PatientRecord` cut at its prediction time; gives facts with their salience, most important first. The rules are in the
docstrings, in full, so that an independent program can repeat them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from salus.reason.facts import Fact, FactKind
from salus.reason.lists import WORDS, is_active, listed, named
from salus.reason.lookup import change, distance_outside, latest
from salus.reason.series import Series, series_of
from salus.record.patient import Item, PatientRecord
from salus.record.timeline import clock

RECENT_S = 24 * 3600.0
NEW_SALIENCE = 1.0
NEW_KINDS: tuple[FactKind, ...] = ("active_medicines", "active_conditions")
LISTS: tuple[FactKind, ...] = ("active_conditions", "active_medicines", "allergies")


def changes(record: PatientRecord, top: int, *, series: Mapping[str, Series] | None = None) -> tuple[Fact, ...]:
    """Return the largest changes, first to last, of the record's variables.

    Rule. For each numeric variable that a modality declares: take the values within the variable's `accepted` limits, in the
    variable's unit, that have a time; order them by time, keeping the record's order within one moment; leave the variable out if
    there are fewer than two. Difference = last − first, of the numbers as printed. Leave it out if |difference| is below the
    variable's `least_change`, or zero. Score = |difference| / `spread`, where `spread` is the standard deviation of that
    difference in
    adult ICU stays (`salus.modalities.vitals_labs`). Order by score, highest first; ties by the variable's name. Keep the first
    `top`.

    Args:
        record: cut at its prediction time.
        top: most facts to return.
        series: the record's series, where the caller has them already.
    """
    series = series_of(record) if series is None else series
    found = [fact for one in series.values() if one.variable and (fact := change(one)) and fact.direction != "unchanged"]
    return tuple(sorted(found, key=lambda fact: (-fact.salience, fact.series))[:top])


def matters(record: PatientRecord, top: int, *, series: Mapping[str, Series] | None = None) -> tuple[Fact, ...]:
    """Return what stands out at the end of the record.

    Rule. Candidates and their scores:
    - the latest value of each numeric series that lies outside its reference range (its item's own, else the variable's):
      distance outside divided by the width of the range; the width of a range with one limit is the absolute value of the limit;
    - each active medicine or condition first recorded in the 24 h before the latest time in the record: 1.0;
    - the list of active conditions 0.5, of active medicines 0.4, of allergies 0.3, where not empty.
    Order by score, highest first; ties by the kind's and the series' names. Keep the first `top`.
    """
    series = series_of(record) if series is None else series
    facts = []
    for one in series.values():
        fact = latest(one) if one.is_numeric else None
        if fact is not None and (distance := distance_outside(one, one.points[-1])) > 0:
            facts.append(replace(fact, salience=distance))
    facts.extend(_new(record))
    facts.extend(fact for kind in LISTS if (fact := listed(record, kind)).item_ids)
    return tuple(sorted(facts, key=lambda fact: (-fact.salience, fact.kind, fact.series))[:top])


def _new(record: PatientRecord) -> list[Fact]:
    """Return the active medicines and conditions that are first recorded in the last 24 h."""
    seconds = clock(record)
    if not seconds:
        return []
    since = max(seconds.values()) - RECENT_S
    facts = []
    for kind in NEW_KINDS:
        by_name: dict[str, list[Item]] = {}
        for item in record.items:
            if item.category == WORDS[kind][0]:
                by_name.setdefault(item.code.display.casefold(), []).append(item)
        for items in by_name.values():
            is_recent = all(seconds.get(item.id, float("-inf")) > since for item in items)
            if is_recent and any(map(is_active, items)):
                facts.append(replace(named(record, [item.id for item in items], kind=kind), salience=NEW_SALIENCE))
    return facts
