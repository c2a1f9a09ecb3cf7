"""Are the numbers of an answer in the record? An audit that shares no code with the facts or their verification.

Takes an answer and the record; gives the numbers that can neither be read off an item nor computed from two items of one kind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from salus.generate.answer import Answer
from salus.record.patient import Instant, Item, Offset, PatientRecord
from salus.record.variables import series_key, variable_of

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_POWER = re.compile(r"×10[⁰¹²³⁴⁵⁶⁷⁸⁹]+|10\*\d+|[⁰¹²³⁴⁵⁶⁷⁸⁹]")
PLACES = 6
MOST_DIGITS, PRINTED_DIGITS = 8, 6
"""A source's number of more significant digits than the first (a simulation's 85.29215894…) may also appear rounded to the second."""


def stray_numbers(answer: Answer, record: PatientRecord) -> tuple[str, ...]:
    """Return the numbers in an answer's standing statements that the record does not hold."""
    allowed = allowed_numbers(record)
    names = sorted({item.code.display for item in record.items} | {_display(item) for item in record.items}, key=len, reverse=True)
    stray: list[str] = []
    for statement in answer.statements:
        if not statement.is_standing:
            continue
        text = re.sub(r"\[\d+(?:, ?\d+)*\]", " ", statement.text)
        for name in names:
            text = text.replace(name, " ").replace(name[:1].upper() + name[1:], " ")
        stray += [found for found in _NUMBER.findall(_POWER.sub(" ", text)) if round(float(found), PLACES) not in allowed]
    return tuple(stray)


def allowed_numbers(record: PatientRecord) -> set[float]:
    """Return every number that can be read off the record, or is a difference, count, age or share of its items."""
    allowed: set[float] = set()
    series: dict[str, list[float]] = defaultdict(list)
    for item in record.items:
        allowed |= set(_of_item(item))
        if item.number is not None:
            series[series_key(item)] += _printable(item.number)
    for values in series.values():
        allowed |= {float(count) for count in range(len(values) + 1)}
        distinct = sorted(set(values))
        allowed |= {round(abs(a - b), PLACES) for a in distinct for b in distinct}
    years = {item.observed_at.at.year for item in record.items if isinstance(item.observed_at, Instant)}
    allowed |= {float(abs(a - b) - less) for a in years for b in years for less in (0, 1)}
    allowed |= {float(count) for count in range(sum(item.category != "observation" for item in record.items) + 1)}
    return allowed


def _printable(number: float) -> tuple[float, ...]:
    """Return the ways in which a number of the record may stand in an answer: as it is, or rounded where it is noise of a conversion."""
    digits = repr(number).split("e")[0].replace(".", "").strip("-0")
    return (number, float(f"{number:.{PRINTED_DIGITS}g}")) if len(digits) > MOST_DIGITS else (number,)


def _of_item(item: Item) -> Iterator[float]:
    if item.number is not None:
        yield from (round(number, PLACES) for number in _printable(item.number))
    texts = [item.code.display, item.code.code, str(item.value) if isinstance(item.value, str) else ""]
    if item.content is not None and item.content.kind == "text":
        texts.append(str(item.content.load()))
    for text in texts:
        yield from (round(float(found), PLACES) for found in _NUMBER.findall(text))
    variable = variable_of(item.code)
    for limits in (item.reference_range, variable.reference if variable else None):
        if limits is not None:
            yield from (round(limit, PLACES) for limit in (limits.low, limits.high) if limit is not None)
    for time in (item.observed_at, item.ended_at):
        if isinstance(time, Offset):
            minutes = round(time.seconds / 60)
            yield from (float(minutes // 60), float(minutes % 60), float(minutes))
        elif time is not None:
            at = time.at
            zone = at.utcoffset()
            hours = abs(zone.total_seconds()) / 3600 if zone is not None else 0.0
            yield from map(float, (at.year, at.month, at.day, at.hour, at.minute, at.second, int(hours), round(hours % 1 * 60)))


def _display(item: Item) -> str:
    variable = variable_of(item.code)
    return variable.display if variable is not None else item.code.display
