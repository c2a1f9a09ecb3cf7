"""What a fact is: something looked up in the record by code, with the items it rests on.

Facts are the only source of numbers in an answer. `salus.reason.lookup` makes them; `salus.generate.ground` checks statements
against them. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FactKind = Literal[
    "latest", "earliest", "highest", "lowest", "change", "trend", "count", "measured", "not_recorded", "out_of_range",
    "active_medicines", "active_conditions", "allergies", "procedures", "immunizations", "demographic", "measurement", "excerpt",
]  # fmt: skip
Direction = Literal["rose", "fell", "unchanged"]


@dataclass(frozen=True)
class Quantity:
    """A number as printed, with its UCUM unit (`1` for none)."""

    printed: str
    value: float
    unit: str


@dataclass(frozen=True)
class Fact:
    """One looked-up fact."""

    kind: FactKind
    subject: str
    """Words for what it is about: `creatinine`."""
    series: str
    """`series_key` of the items, or the category for lists."""
    text: str
    """Full sentence, as code words it; the language model may repeat it, and it replaces a draft that fails its check."""
    short: str
    """Shortest answer, for example `2.4 mg/dL at 40 h 30 min`, `rising`, `yes`."""
    item_ids: tuple[str, ...]
    """Everything that the fact rests on: without these items it would not hold."""
    quantities: tuple[Quantity, ...] = ()
    times: tuple[str, ...] = ()
    """Times as printed in `text`."""
    names: tuple[str, ...] = ()
    """Coded names as printed in `text` (medicines, conditions)."""
    direction: Direction | None = None
    salience: float = 0.0
    """Order of importance by the stated rule; higher first."""
    source: str | None = None
    """Source of a reference range or measuring rule."""
