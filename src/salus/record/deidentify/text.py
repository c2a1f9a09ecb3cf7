"""Free text without what identifies: found identifiers become tags, dates move, old ages are pooled.

Takes text, recognisers, what is known about the patients, and the key; gives the text and what was done. One value of one patient
always becomes the same tag, so that who did what stays readable.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from salus.record.deidentify.codes import CodeRecogniser, DateRecogniser
from salus.record.deidentify.dates import Dated, find_dates, later, moved
from salus.record.deidentify.key import Key
from salus.record.deidentify.kinds import Hit, Kind, Recogniser, found_by
from salus.record.deidentify.people import NameRecogniser, PlaceRecogniser

TAG = re.compile(r"\[[A-Z][A-Z-]+-[0-9A-F]{6}\]|\b90 or older\b")
"""What stands in the place of an identifier."""
BORN = re.compile(r"(?:\bDOB|\bD\.O\.B\.?|\bdate of birth|\bbirth ?da(?:te|y)|\bborn(?: on)?)[\s:=,(]{0,4}\Z", re.IGNORECASE)
"""What stands before a date of birth."""
OLDEST = 89
OWN: tuple[Recogniser, ...] = (CodeRecogniser(), DateRecogniser(), NameRecogniser(), PlaceRecogniser())
"""The recognisers that ship; others may stand beside them."""


@dataclass(frozen=True)
class Subject:
    """Whose text it is: what keeps replacements consistent."""

    key: Key
    subject: str
    recognisers: tuple[Recogniser, ...] = OWN

    @property
    def days(self) -> int:
        """By how many days this patient's dates move."""
        return self.key.days(self.subject)

    def tag(self, kind: Kind, value: str) -> str:
        """Return what stands for a value, the same for the same value of the same patient."""
        plain = re.sub(r"[\W_]+", " ", value).strip().casefold()
        return f"[{kind.value.upper()}-{self.key.code(f'{self.subject}/{kind.value}', plain, digits=6).upper()}]"


@dataclass(frozen=True)
class Cleaned:
    """Text without what identifies, and what was done."""

    text: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, action) → how often."""


def clean(text: str, subject: Subject, *, moves_dates: bool = True) -> Cleaned:
    """Return a text in which every found identifier is replaced.

    Args:
        text: any length.
        subject: whose it is, and what finds identifiers.
        moves_dates: whether a found date moves; else it gets a tag as anything found.

    Example:
        >>> subject = Subject(Key(bytes(32)), "p")
        >>> clean("Mr. Okonkwo, a 93-year-old, BP 120/80. Call 617-555-0199.", subject).text
        'Mr. [NAME-08883C], a 90 or older-year-old, BP 120/80. Call [PHONE-E0E13E].'
    """
    kept = bytearray(len(text))
    for match in TAG.finditer(text):
        kept[match.start() : match.end()] = bytes([1]) * len(match[0])
    pieces: list[str] = []
    counts: Counter[tuple[str, str]] = Counter()
    position = 0
    dates = {(found.start, found.end): found for found in find_dates(text)} if moves_dates else {}
    for hit in found_by(subject.recognisers, text):
        if any(kept[hit.start : hit.end]):
            continue
        new, action = replacement(text, hit, subject, dates)
        pieces += [text[position : hit.start], new]
        counts[hit.kind.value, action] += 1
        position = hit.end
    return Cleaned("".join(pieces) + text[position:], counts)


def replacement(text: str, hit: Hit, subject: Subject, dates: dict[tuple[int, int], Dated]) -> tuple[str, str]:
    """Return what stands for a hit, and the action in a word."""
    if hit.kind is Kind.DATE and (hit.start, hit.end) in dates:
        found = dates[hit.start, hit.end]
        if BORN.search(text, max(0, hit.start - 30), hit.start):
            year = re.search(r"(?:18|19|20)\d\d", text[hit.start : hit.end])
            is_young = year is not None and datetime.now(UTC).year - int(year[0]) <= OLDEST
            if year is not None and is_young:
                return year[0], "year kept"
            return subject.tag(hit.kind, text[hit.start : hit.end]), "replaced"
        return moved(found, subject.days), "shifted"
    if hit.kind is Kind.AGE:
        return "90 or older", "pooled"
    return subject.tag(hit.kind, text[hit.start : hit.end]), "replaced"


def left_over(original: str, cleaned: str, subject: Subject) -> Counter[str]:
    """Return what the recognisers still find in a cleaned text, by kind; a date that is the original's, moved, is none.

    Args:
        original: the text as it was.
        cleaned: the text as it would be delivered.
        subject: as it was cleaned with.
    """
    blank = TAG.sub(lambda match: " ~ ", cleaned)
    moved_to = [later(found.at, subject.days) for found in find_dates(original)]
    was, months = {at.toordinal() for at in moved_to}, {(at.year, at.month) for at in moved_to}
    left: Counter[str] = Counter()
    for hit in found_by(subject.recognisers, blank):
        inside = list(find_dates(blank[hit.start : hit.end])) if hit.kind is Kind.DATE else []
        if inside and all(_is_among(found, was, months) for found in inside):
            continue
        left[hit.kind.value] += 1
    return left


def _is_among(found: Dated, days: set[int], months: set[tuple[int, int]]) -> bool:
    if found.form in ("month_year", "slashed_month"):
        return (found.at.year, found.at.month) in months
    return found.at.toordinal() in days
