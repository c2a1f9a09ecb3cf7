"""Takes a sentence apart into what can be checked: numbers with units, times, ranges, tallies, names, words that claim.

Takes text, of a draft or of a fact, and the names that it may hold; gives a `Reading`. Numbers inside names (`vitamin B12`,
`Aspirin 81 MG`) are part of the name. What no rule understands makes the reading unclean, and so never counts as checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial

from salus.record.variables import variables
from salus.units import words as unit_words

_NUMBER_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "once": 1, "twice": 2, "thrice": 3,
}  # fmt: skip
_CLASSES: dict[str, str] = {
    "rose": "rise rises rose risen rising increase increases increased increasing up upward upwards climbed climbing climbs grew "
    "gained higher",
    "fell": "fall falls fell fallen falling decrease decreases decreased decreasing drop drops dropped dropping down downward "
    "downwards declined declining declines lost lower",
    "same": "same unchanged steady stable stayed constant",
    "fluctuating": "fluctuating fluctuated fluctuates fluctuate varied varying",
    "latest": "latest last current currently now newest final recent recently",
    "earliest": "earliest first initial initially baseline",
    "highest": "highest maximum max peak peaked greatest largest",
    "lowest": "lowest minimum min nadir smallest",
    "above": "above high elevated exceeds",
    "below": "below low under",
    "within": "within normal in-range",
    "outside": "outside abnormal out-of-range",
    "not": "no not none never without neither nor cannot isn't wasn't aren't weren't didn't doesn't hasn't don't absent unrecorded",
    "yes": "yes",
    "active": "active taking takes",
    "unknown": "unknown unclear",
}
"""Words that claim something, by what they claim; the facts' own words are among them."""
_CLASS_OF = {word: name for name, listed in _CLASSES.items() for word in listed.split()}
_NEUTRAL_WORDS = """
a an the of in on at to from by is was were are be been has had have and with as it its this that there for per
patient patient's patients record records recorded value values level levels measured measurement measurements measure
reading readings result results time times after before admission about ago between then when while also which shows
showed show number count counted total noted reference range change changed changes trend trending overall difference
he she they his her their found documented observed approximately going been during over more since reached came
stands day days hours hour minutes minute h min utc
"""
_NEUTRAL = frozenset(_NEUTRAL_WORDS.split())
"""Words that claim nothing by themselves."""

_TIME = re.compile(
    r"(?<![\w./])(?:(?P<date>\d{4}-\d\d(?:-\d\d)?(?: \d\d:\d\d(?: UTC(?:[+-]\d\d:\d\d)?)?)?)"
    r"|(?P<hours>\d+(?:\.\d+)?) ?(?:h|hrs?|hours?)\b(?:,? (?:and )?(?P<rest>\d+) ?(?:min|mins|minutes?)\b)?"
    r"|(?P<minutes>\d+) ?(?:min|mins|minutes?)\b)(?P<side> before| after)?(?: admission)?",
    re.I,
)
_AT_ADMISSION = re.compile(r"\b(?:at|on|from|to) admission\b|(?<=from )admission\b", re.I)
_RANGE = re.compile(
    r"(?P<low>-?\d+(?:\.\d+)?) ?[–-] ?(?P<high>\d+(?:\.\d+)?)"
    r"|\brange(?: is| of)? (?P<side>up to|from) (?P<limit>-?\d+(?:\.\d+)?)",
    re.I,
)
_IN_RANGE = re.compile(r"\bin range\b", re.I)
_TALLY = re.compile(
    r"\b(?P<part>\d+) of (?P<whole>\d+)\b|\b(?P<times>\d+) (?=times?\b|values\b|measurements\b|readings\b|results\b)"
    r"|\bvalues: (?P<count>\d+)",
    re.I,
)
_NUMBER = re.compile(r"(?<![\w.,])(?P<sign>[-−+]?)(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\w]|[.,]\d|/\d)")
WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W\d_]+)*")
_POWER = re.compile(r"×10[⁰¹²³⁴-⁹]+")
"""Part of a unit that is left when the range before it has been taken."""
MASK = "\x00"
SHORT_NAME = 2
"""A name of at most this many letters (Na, BP) counts only as it is written."""


@dataclass(frozen=True)
class Atom:
    """One thing in a sentence that can be checked."""

    kind: str
    """`number`, `time`, `range`, `tally` or `name`."""
    what: str
    """Canonical form; equal things have equal forms."""
    unit: str | None = None
    """Words of the unit after a number; None: none is written."""
    role: str = ""
    """`from`, `to` or `by`, where that word stands before a number."""


@dataclass(frozen=True)
class Reading:
    """What a sentence says, taken apart."""

    atoms: tuple[Atom, ...]
    words: frozenset[str]
    """Words that are neither neutral nor of a class, in lower case."""
    classes: frozenset[str]
    is_clean: bool
    """False when a digit is left that no rule understands (`12/80`)."""


@lru_cache(maxsize=1024)
def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """Return the pattern of a phrase as whole words; a phrase of one or two letters counts only as it is written."""
    flags = 0 if len(phrase) <= SHORT_NAME else re.I
    return re.compile(rf"(?<![\w]){re.escape(phrase)}(?![\w])", flags)


def says(text: str, phrase: str) -> bool:
    """Return whether a text holds a phrase as whole words."""
    return bool(phrase) and phrase_pattern(phrase).search(text) is not None


@lru_cache(maxsize=1)
def spoken_names() -> tuple[tuple[str, str], ...]:
    """Return (words, display) of every declared variable, longest words first."""
    pairs = {(phrase, one.display) for one in variables() for phrase in (one.display, *one.aliases)}
    return tuple(sorted(pairs, key=lambda pair: (-len(pair[0]), pair)))


@lru_cache(maxsize=2)
def _any_name(*, with_digits: bool) -> re.Pattern[str]:
    """Return the pattern of every name of a variable (those with digits only, if wanted), the longest first."""
    names = dict.fromkeys(phrase for phrase, _ in spoken_names() if not with_digits or re.search(r"\d", phrase))
    parts = (re.escape(name) if len(name) <= SHORT_NAME else f"(?i:{re.escape(name)})" for name in names)
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts) or '(?!)'})(?!\w)")


@lru_cache(maxsize=1)
def _displays() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for phrase, display in spoken_names():
        found.setdefault(phrase.casefold(), set()).add(display)
    return {phrase: frozenset(displays) for phrase, displays in found.items()}


def named_in(text: str) -> tuple[str, ...]:
    """Return the names of variables that a text uses, in lower case, each word counted for the longest name only."""
    return tuple(match[0].casefold() for match in _any_name(with_digits=False).finditer(text))


def mentioned(text: str) -> frozenset[str]:
    """Return the displays of the variables that a text names."""
    return frozenset(display for name in named_in(text) for display in _displays()[name])


@lru_cache(maxsize=512)
def names_of(subject: str) -> frozenset[str]:
    """Return every name of the variable with this display, in lower case; the subject itself is one."""
    return frozenset({subject.casefold(), *(name for name, displays in _displays().items() if subject in displays)})


def read_sentence(text: str, names: Sequence[str]) -> Reading:
    """Take a sentence apart: names first (they may hold numbers), then times, ranges, tallies, numbers, words."""
    atoms: list[tuple[int, Atom]] = []

    def take(pattern: re.Pattern[str], make: Callable[[re.Match[str]], Iterable[Atom]], source: str) -> str:
        def replaced(match: re.Match[str]) -> str:
            atoms.extend((match.start(), atom) for atom in make(match))
            return MASK * len(match[0])

        return pattern.sub(replaced, source)

    rest = text.replace("−", "-").replace("’", "'")
    rest = _IN_RANGE.sub("within ", rest)
    rest = re.sub(r"[^\W\d_]+", lambda word: str(_NUMBER_WORDS.get(word[0].casefold(), word[0])).rjust(len(word[0])), rest)
    for name in sorted(set(names), key=len, reverse=True):
        rest = take(phrase_pattern(name.replace("’", "'")), partial(_name_atom, name), rest)
    rest = _any_name(with_digits=True).sub(lambda match: MASK * len(match[0]), rest)
    rest = take(_AT_ADMISSION, lambda match: (Atom("time", "offset 0"),), rest)
    rest = take(_TIME, lambda match: (Atom("time", _canonical_time(match)),), rest)
    rest = take(_TALLY, _tallies, rest)
    rest = take(_RANGE, _ranges, rest)
    rest = _take_numbers(rest, atoms)
    rest = _POWER.sub(" ", rest)
    is_clean = re.search(r"(?<![^\W\d_])\d", rest) is None
    spoken = [word.casefold() for word in WORD.findall(rest)]
    classes = frozenset(_CLASS_OF[word] for word in spoken if word in _CLASS_OF)
    meant = frozenset(word for word in spoken if word not in _CLASS_OF and word not in _NEUTRAL)
    ordered = sorted(atoms, key=lambda pair: pair[0])
    return Reading(tuple(atom for _, atom in ordered), meant, classes, is_clean)


_OTHER_UNITS = """
mg/L g/L µmol/L umol/L mEq/L mmol nmol/L ug/L mcg/L kPa mm[Hg] bpm Cel °F °C F C lb g mg mL/h L K/uL /µL percent beats/min
breaths/min ms mV
"""


@lru_cache(maxsize=1)
def _units() -> tuple[str, ...]:
    """Return every unit in words that a declared variable has, and a few that a draft may confuse with them; longest first."""
    known = {unit_words(one.unit) for one in variables()}
    others = _OTHER_UNITS.split()
    return tuple(sorted({*known, *others} - {""}, key=len, reverse=True))


def _take_numbers(text: str, atoms: list[tuple[int, Atom]]) -> str:
    """Move the numbers of a text, with the unit and the word before each, to the atoms."""
    pieces, position = [], 0
    for match in _NUMBER.finditer(text):
        if match.start() < position:
            continue
        tail = text[match.end() :]
        unit = next((u for u in _units() if re.match(rf" ?{re.escape(u)}(?![\w/])", tail)), None)
        end = match.end() + (re.match(rf" ?{re.escape(unit)}", tail).end() if unit else 0)  # type: ignore[union-attr]
        before = re.search(r"\b(from|to|by)\s*$", text[position : match.start()], re.I)
        what = canonical(f"{match['sign'].replace('+', '')}{match['number']}")
        atoms.append((match.start(), Atom("number", what, unit, before[1].casefold() if before else "")))
        pieces.append(text[position : match.start()])
        pieces.append(MASK * (end - match.start()))
        position = end
    return "".join((*pieces, text[position:]))


def canonical(number: str) -> str:
    """Return one form for equal numbers.

    Example:
        >>> canonical("2.40"), canonical("-0.0"), canonical("1,200")
        ('2.4', '0', '1200')
    """
    value = Decimal(number.replace(",", ""))
    return format(value.normalize() + 0, "f") if value else "0"


def _canonical_time(match: re.Match[str]) -> str:
    if match["date"]:
        return f"date {match['date']}"
    minutes = Decimal(match["hours"] or 0) * 60 + Decimal(match["rest"] or 0) + Decimal(match["minutes"] or 0)
    sign = "-" if (match["side"] or "").strip().casefold() == "before" and minutes else ""
    return f"offset {sign}{canonical(str(minutes))}"


def _name_atom(name: str, match: re.Match[str]) -> tuple[Atom, ...]:
    return (Atom("name", name.casefold()),)


def _ranges(match: re.Match[str]) -> tuple[Atom, ...]:
    if match["side"]:
        return (Atom("range", f"{match['side'].casefold()} {canonical(match['limit'])}"),)
    return (Atom("range", f"{canonical(match['low'])} to {canonical(match['high'])}"),)


def _tallies(match: re.Match[str]) -> tuple[Atom, ...]:
    if match["whole"]:
        return (Atom("tally", f"{canonical(match['part'])} of {canonical(match['whole'])}"),)
    return (Atom("tally", canonical(match["times"] or match["count"])),)
