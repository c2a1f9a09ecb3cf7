"""Item lines as the language model alone would read them: the ablation that shows what looking facts up by code is worth.

Takes a record and a question; gives lines of raw items of the variables or lists that the question names, nothing computed.
"""

from __future__ import annotations

from salus.reason.retrieve import understood
from salus.reason.series import at, printed_number, with_unit
from salus.record.normalise import is_usable
from salus.record.patient import Item, PatientRecord
from salus.record.timeline import clock
from salus.record.variables import series_key, variable_of

MOST_LINES = 40
CATEGORIES: dict[str, str] = {
    "active_medicines": "medication",
    "active_conditions": "condition",
    "allergies": "allergy",
    "procedures": "procedure",
    "immunizations": "immunization",
}


def raw_lines(record: PatientRecord, question: str) -> tuple[list[str], list[Item]]:
    """Return item lines for a question and the items behind them, oldest first, at most `MOST_LINES`.

    The retrieval by variable is the same as the full route's. Of a longer series only the latest lines are shown: what lay
    earlier is lost to this route.
    """
    seconds = clock(record)
    mentioned, asked = understood(question)
    named = set(mentioned)
    wanted = [item for item in record.items if item.number is not None and is_usable(item) and series_key(item) in named]
    if not wanted:
        categories = {CATEGORIES[kind] for kind in asked.lists}
        wanted = [item for item in record.items if item.category in categories]
    if not wanted:
        wanted = [item for item in record.items if item.category == "demographic"]
    ordered = sorted(wanted, key=lambda item: (seconds.get(item.id, float("-inf")), item.id))[-MOST_LINES:]
    return [line_of(item) for item in ordered], ordered


def line_of(item: Item) -> str:
    """Return one item as a line: what, value, unit, time, status."""
    variable = variable_of(item.code)
    what = variable.display if variable is not None else item.code.display
    value = with_unit(printed_number(item.number), item.unit or "1") if item.number is not None else str(item.value or "")
    status = f" ({item.status})" if item.status else ""
    when = f" {at(item.observed_at)}" if item.observed_at is not None else ""
    return f"{what} {value}{when}{status}".replace("  ", " ").strip()
