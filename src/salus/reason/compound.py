"""Which things a question asks for at once: `highest and lowest heart rate`, `latest creatinine, and is she allergic to anything`.

Takes a question and where it names variables; gives `Parts`. By patterns alone: the fitted model of wordings knows whole questions,
not halves of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from salus.reason.asked import ENDS, STRONG, asked_kinds, asked_lists, asked_person
from salus.reason.facts import FactKind
from salus.reason.mentions import PERSONAL, Span

_MARK = re.compile(r"[,;?]|(?<!\w)(?:and|plus|as well as|also)(?!\w)|&", re.I)


@dataclass(frozen=True)
class Parts:
    """What the parts of a question ask for."""

    pairs: tuple[tuple[FactKind, str], ...]
    """Kind of fact and key of the series, in the order of the question."""
    lists: tuple[FactKind, ...]
    person: tuple[str, ...]
    count: int
    """Parts of the question, at commas and words that join."""


@dataclass(frozen=True)
class _Clause:
    keys: tuple[str, ...]
    kinds: frozenset[FactKind]
    lists: tuple[FactKind, ...]
    person: tuple[str, ...]
    is_joined: bool
    """Whether `and` or the like stands before it, not a comma."""


def parts_of(question: str, spans: Sequence[Span], kinds: frozenset[FactKind] = frozenset()) -> Parts:
    """Return what the parts of a question ask for; a part that leaves the variable or the kind out shares its neighbour's.

    Args:
        question: its words.
        spans: from `spans_of`.
        kinds: what the question as a whole asks for, where its parts do not say; empty: the latest value.

    Example:
        >>> from salus.reason.mentions import spans_of
        >>> words = "highest heart rate, first and last creatinine, and allergies?"
        >>> parts = parts_of(words, spans_of(words))
        >>> parts.pairs, parts.lists
        ((('highest', 'heart_rate'), ('earliest', 'creatinine'), ('latest', 'creatinine')), ('allergies',))
        >>> words = "Latest creatinine and potassium?"
        >>> parts_of(words, spans_of(words)).pairs
        (('latest', 'creatinine'), ('latest', 'potassium'))
    """
    clauses = list(_clauses(question, spans))
    about = [clause for clause in clauses if clause.keys or not (clause.lists or clause.person)]
    pairs: dict[tuple[FactKind, str], None] = {}
    for place, clause in enumerate(about):
        keys = clause.keys or (_shared_keys(about, place) if clause.kinds else ())
        wanted = clause.kinds or next((one.kinds for one in reversed(about[:place]) if one.kinds), frozenset())
        wanted = wanted or next((one.kinds for one in about[place:] if one.kinds), kinds) or frozenset(("latest",))
        pairs.update(((kind, key), None) for key in keys for kind in sorted(wanted))
    beside = [clause for clause in clauses if not clause.keys]
    lists = dict.fromkeys(chain.from_iterable(clause.lists for clause in beside))
    person = dict.fromkeys(chain.from_iterable(clause.person for clause in beside))
    return Parts(tuple(pairs), tuple(lists), tuple(person), len(clauses))


def _shared_keys(clauses: Sequence[_Clause], place: int) -> tuple[str, ...]:
    """Return the variables of the next part, or of the one before, that `and` joins to a part without any."""
    if place + 1 < len(clauses) and clauses[place + 1].is_joined:
        return clauses[place + 1].keys
    return clauses[place - 1].keys if place and clauses[place].is_joined else ()


def _clauses(question: str, spans: Sequence[Span]) -> Iterator[_Clause]:
    """Yield the parts of a question, at commas and words that join; never within the name of a variable."""
    whole = asked_kinds(question)
    inside = [range(span.start, span.end) for span in spans]
    marks = [mark for mark in _MARK.finditer(question) if not any(mark.start() in one for one in inside)]
    starts = [0, *(mark.end() for mark in marks)]
    ends = [*(mark.start() for mark in marks), len(question)]
    joins = ["", *(mark.group() for mark in marks)]
    is_joined = last_is_empty = False
    for start, end, join in zip(starts, ends, joins, strict=True):
        text = question[start:end].strip()
        is_joined = join not in {"", ",", ";", "?"} or (is_joined and last_is_empty)
        last_is_empty = not text
        if text:
            keys = tuple(key for span in spans if start <= span.start < end for key in span.keys if key not in PERSONAL)
            yield _Clause(keys, _plain(asked_kinds(text), whole), asked_lists(text), asked_person(text), is_joined)


def _plain(said: frozenset[FactKind], whole: frozenset[FactKind]) -> frozenset[FactKind]:
    """Return the one kind that a part names; none where its words leave a choice, or where they are the ends of a change."""
    return frozenset() if len(said) > 1 or (whole & STRONG and said <= ENDS) else said
