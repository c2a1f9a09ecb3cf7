"""What a question may call a measured series: display names and common aliases, each with one meaning.

Takes a record; gives the names of every series in it, and of declared variables that are not in it. A name that could mean two
series is never used: a question must have one answer.
"""

from __future__ import annotations

import re
from functools import cache

from salus.record.patient import PatientRecord
from salus.record.variables import series_key, variables

NOT_NAMES = frozenset(
    (
        "weigh",
        "tall",
        "stature",
        "ventilated",
        "ventilator",
        "intubated",
        "consciousness",
        "years old",
        "acidity",
        "kidney function",
        "fever",
    )
)
"""Aliases that help to recognise a question, but are no noun for the variable."""
NOT_ASKED = frozenset(("age", "height", "mechanical_ventilation"))
"""Variables that are not asked about: descriptors, and one that is only ever recorded as 1."""


def plain_display(display: str) -> str:
    """Return a code's display as people say it: without LOINC's axes.

    Example:
        >>> plain_display("Potassium [Moles/volume] in Serum or Plasma"), plain_display("Body Weight")
        ('Potassium', 'Body Weight')
    """
    return re.split(r" \[", display)[0].strip()


@cache
def _declared() -> dict[str, tuple[str, ...]]:
    return {variable.name: (variable.display, *variable.aliases) for variable in variables()}


def names_by_series(record: PatientRecord) -> dict[str, tuple[str, ...]]:
    """Return, for each series of the record and each declared variable, the names that mean it alone.

    Args:
        record: the record; its own displays count as names too.

    Returns:
        Series key → names, at least one each; series without an unambiguous name are absent.
    """
    codes = {item.code: item for item in record.items if item.category == "observation" and item.number is not None}
    own = dict(_declared())
    for code, item in codes.items():
        key = series_key(item)
        own[key] = (*own.get(key, ()), plain_display(code.display))
    meanings: dict[str, set[str]] = {}
    for key, names in own.items():
        for name in names:
            meanings.setdefault(name.lower(), set()).add(key)
    clear = {
        key: tuple(dict.fromkeys(name for name in names if len(meanings[name.lower()]) == 1 and name.lower() not in NOT_NAMES))
        for key, names in own.items()
        if key not in NOT_ASKED
    }
    return {key: names for key, names in clear.items() if names}
