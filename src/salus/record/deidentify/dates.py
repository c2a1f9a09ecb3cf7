"""Dates in a text, and the same dates some days later or earlier, written in the same way.

Takes text; gives places of dates of which more than the year is known. A year alone is no identifier (45 CFR 164.514(b)(2)(i)(C)).
Which of `03/04/2021` is the month is not known: a text in which any date proves the day to come first is read so throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_MONTH = r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
_FLAGS = re.IGNORECASE
_YEAR = r"(?P<year>(?:1[89]|20|21)\d\d|'?\d\d)"
_PATTERNS = {
    "iso": re.compile(r"(?<![\d.])(?P<year>(?:1[89]|20|21)\d\d)(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})(?!\d)"),
    "numeric": re.compile(r"(?<![\d./-])(?P<first>\d{1,2})(?P<mark>[-/.])(?P<second>\d{1,2})(?P=mark)(?P<year>(?:1[89]|20|21)\d\d|\d\d)(?![\d/])(?!\.\d)"),
    "named": re.compile(rf"(?<!\w)(?P<day>\d{{1,2}})(?P<th>st|nd|rd|th)?(?P<mark>[ .-]{{1,2}}(?:of )?){_MONTH}(?P<tail>\.?,?[ -])(?P<year>(?:1[89]|20|21)\d\d|\d\d)(?!\d)", _FLAGS),
    "american": re.compile(rf"\b{_MONTH}(?P<mark>\.? )(?P<day>\d{{1,2}})(?P<th>st|nd|rd|th)?(?P<tail>,? ){_YEAR}(?!\d)", _FLAGS),
    "day_month": re.compile(rf"(?<!\w)(?P<day>\d{{1,2}})(?P<th>st|nd|rd|th)?(?P<mark> (?:of )?){_MONTH}\b(?!\.?,? '?\d)", _FLAGS),
    "month_day": re.compile(rf"\b{_MONTH}(?P<mark>\.? )(?P<day>\d{{1,2}})(?P<th>st|nd|rd|th)?\b(?![\d-])", _FLAGS),
    "month_year": re.compile(rf"\b{_MONTH}(?P<mark>\.?,? (?:of )?)(?P<year>(?:1[89]|20|21)\d\d)\b", _FLAGS),
    "slashed_month": re.compile(r"(?<![\d/.-])(?P<month>0?[1-9]|1[0-2])(?P<mark>/)(?P<year>(?:19|20)\d\d)(?![\d/])"),
    "compact": re.compile(r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?!\d)"),
}  # fmt: skip
_LOOSE = {"day_month", "month_day"}
"""Forms in which `may` or `march` could be a word: they count only with a capital letter."""


@dataclass(frozen=True)
class Dated:
    """A date in a text."""

    start: int
    end: int
    at: date
    """Missing days and months are 1; a missing year is 2000."""
    form: str
    match: re.Match[str]
    is_day_first: bool = False


def _month_number(text: str) -> int:
    if text.isdigit():
        return int(text)
    return next(number for number, name in enumerate(MONTHS, 1) if name.startswith(text.lower()[:3]))


def _year_number(text: str) -> int:
    year = int(text.lstrip("'"))
    if year >= 100:
        return year
    return 2000 + year if year <= (datetime.now(UTC).year % 100) else 1900 + year


def is_day_first(text: str) -> bool:
    """Return whether some date of the text can only be read with the day before the month.

    Example:
        >>> is_day_first("03/04/2021 and 25/04/2021"), is_day_first("03/04/2021"), is_day_first("25.04.2021")
        (True, False, True)
    """
    for match in _PATTERNS["numeric"].finditer(text):
        first, second = int(match["first"]), int(match["second"])
        if 12 < first <= 31 and second <= 12:
            return True
        if first <= 12 < second <= 31:
            return False
    return bool(re.search(r"(?<![\d.])\d{1,2}\.\d{1,2}\.(?:19|20)\d\d", text))


def find_dates(text: str) -> Iterator[Dated]:
    """Yield the dates of a text in order, the fullest form of each place.

    Example:
        >>> [(each.at.isoformat(), each.form) for each in find_dates("Seen 3/14/2021, again on 2 May 2021; BP 120/80, T2, 10/20")]
        [('2021-03-14', 'numeric'), ('2021-05-02', 'named')]
    """
    day_first = is_day_first(text)
    found: list[Dated] = []
    taken = bytearray(len(text))
    for form, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            if any(taken[match.start() : match.end()]):
                continue
            if form in _LOOSE and not match["month"][0].isupper():
                continue
            if (at := _date_of(match, form, day_first)) is not None:
                found.append(Dated(match.start(), match.end(), at, form, match, day_first))
                taken[match.start() : match.end()] = bytes([1]) * len(match[0])
    yield from sorted(found, key=lambda each: each.start)


def _date_of(match: re.Match[str], form: str, day_first: bool) -> date | None:
    groups = match.groupdict()
    if form == "numeric":
        first, second = int(groups["first"]), int(groups["second"])
        month, day = (second, first) if day_first else (first, second)
        if month > 12:
            month, day = day, month
    else:
        month, day = _month_number(groups["month"]), int(groups.get("day") or 1)
    year = _year_number(groups["year"]) if groups.get("year") else 2000
    try:
        return date(year, month, day)
    except ValueError:
        return None


def moved(found: Dated, days: int) -> str:
    """Return the date some days later, written as it stood.

    A month with its year loses nothing; a day and month without a year is moved as in a leap year.

    Example:
        >>> text = "03/14/21, 2 May 2021, March 5th, 2021-01-01, Dec 2020"
        >>> [moved(each, -31) for each in find_dates(text)]
        ['02/11/21', '1 Apr 2021', 'February 3rd', '2020-12-01', 'Oct 2020']
    """
    at, groups = later(found.at, days), found.match.groupdict()
    text = found.match.group(0)
    parts: dict[str, str] = {}
    for name, span in ((name, found.match.span(name)) for name, value in groups.items() if value is not None):
        old = text[span[0] - found.start : span[1] - found.start]
        parts[name] = _written(name, old, at, _numeric_order(found))
    pieces, position = [], found.start
    for name, (start, end) in sorted(((n, found.match.span(n)) for n in parts), key=lambda pair: pair[1]):
        pieces += [text[position - found.start : start - found.start], parts[name]]
        position = end
    return "".join(pieces) + text[position - found.start :]


def later(at: date, days: int) -> date:
    """Return a date some days later; one before the calendar begins is its first day."""
    try:
        return at + timedelta(days=days)
    except OverflowError:
        return date(1, 1, 1)


def _numeric_order(found: Dated) -> tuple[str, str]:
    if found.form != "numeric":
        return ("month", "day")
    first = int(found.match["first"])
    is_first_day = first == found.at.day and (found.is_day_first or first > 12)
    return ("day", "month") if is_first_day else ("month", "day")


def _written(name: str, old: str, at: date, order: tuple[str, str]) -> str:
    if name in ("first", "second"):
        name = order[0] if name == "first" else order[1]
    if name == "year":
        mark = "'" if old.startswith("'") else ""
        return f"{at.year:04d}" if len(old) == 4 else f"{mark}{at.year % 100:02d}"
    if name == "th":
        return "th" if 11 <= at.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(at.day % 10, "th")
    if name == "day":
        return f"{at.day:02d}" if old.startswith("0") or (len(old) == 2 and not old.isalpha()) else str(at.day)
    if name == "month" and old.isdigit():
        return f"{at.month:02d}" if len(old) == 2 else str(at.month)
    if name == "month":
        word = MONTHS[at.month - 1]
        word = word if len(old) > 4 or (old.lower() in MONTHS and old.lower() != "may") else word[:3]
        return word.upper() if old.isupper() else word.capitalize() if old[0].isupper() else word
    return old
