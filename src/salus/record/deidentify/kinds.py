"""The kinds of identifier, and what a recogniser is.

Takes nothing; gives the 18 kinds of 45 CFR 164.514(b)(2)(i), a `Hit` in a text, and the `Recogniser` role that Presidio can play too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """An identifier of 45 CFR 164.514(b)(2)(i), by its letter there; ages over 89 stand apart from dates."""

    NAME = "name"
    PLACE = "place"
    DATE = "date"
    AGE = "age"
    PHONE = "phone"
    FAX = "fax"
    EMAIL = "email"
    SSN = "ssn"
    RECORD = "record-number"
    PLAN = "plan-number"
    ACCOUNT = "account"
    LICENCE = "licence"
    VEHICLE = "vehicle"
    DEVICE = "device"
    URL = "url"
    IP = "ip"
    BIOMETRIC = "biometric"
    PHOTOGRAPH = "photograph"
    OTHER = "other-id"


@dataclass(frozen=True)
class Hit:
    """A stretch of text that identifies somebody."""

    start: int
    end: int
    kind: Kind
    rule: str
    """Which recogniser and rule found it; never the text itself."""


class Recogniser(Protocol):
    """Finds identifiers in a text."""

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits, which may overlap."""
        ...


def settled(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Return hits that do not overlap, in order: of two that do, the union, of the kind of the longer one (of two as long, not `other-id`).

    Nothing that any recogniser found is left out.

    Example:
        >>> settled([Hit(0, 4, Kind.NAME, "a"), Hit(2, 12, Kind.PHONE, "b"), Hit(20, 22, Kind.AGE, "c")])
        (Hit(start=0, end=12, kind=<Kind.PHONE: 'phone'>, rule='b'), Hit(start=20, end=22, kind=<Kind.AGE: 'age'>, rule='c'))
    """
    kept: list[Hit] = []
    rank = (0, False)
    for hit in sorted(hits, key=lambda each: (each.start, -each.end)):
        if kept and hit.start < kept[-1].end:
            last = kept.pop()
            own = (hit.end - hit.start, hit.kind is not Kind.OTHER)
            chief = hit if own > rank else last
            rank = max(rank, own)
            kept.append(Hit(last.start, max(last.end, hit.end), chief.kind, chief.rule))
        else:
            kept.append(hit)
            rank = (hit.end - hit.start, hit.kind is not Kind.OTHER)
    return tuple(kept)


def found_by(recognisers: Sequence[Recogniser], text: str) -> tuple[Hit, ...]:
    """Return what any of the recognisers found, without overlaps."""
    return settled(hit for recogniser in recognisers for hit in recogniser.find(text))
