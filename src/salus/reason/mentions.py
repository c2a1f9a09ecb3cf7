"""Which variables a question names, and where: the longest match of whole words, plurals and small typos understood.

Takes any text; gives spans with the keys of declared variables, or of the record's own series. Lexical: no model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from salus.record.variables import Variable, variables

SHORT_ALIAS = 2
"""An alias of at most this many letters (K, Na, BP) counts only as it is written."""
TYPO_LETTERS = 6
TYPO_RATIO = 0.86
_LISTED = re.compile(r"\{v\}(?:(?:\s*,\s*|\s+(?:and|or)\s+|\s*/\s*)(?:the\s+)?\{v\})+")
TOKEN = re.compile(r"[^\W_]+(?:[/'’][^\W_]+)*")


@dataclass(frozen=True)
class Span:
    """Where a question names variables, in letters, and their keys."""

    start: int
    end: int
    keys: tuple[str, ...]


PERSONAL = frozenset(("age",))
"""Keys that are a kind of question as well as a variable."""


@lru_cache(maxsize=8)
def _lexicon(declared: tuple[Variable, ...], own: tuple[tuple[str, str], ...]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return token sequence → keys of the variables that it names, those with the shortest display first."""
    table: dict[tuple[str, ...], dict[str, None]] = {}
    spoken = chain(
        (
            (phrase, variable.name)
            for variable in declared
            for phrase in (variable.display, variable.name.replace("_", " "), *variable.aliases)
        ),
        own,
    )
    for phrase, key in spoken:
        tokens = tuple(TOKEN.findall(phrase))
        if tokens:
            is_short = len(phrase) <= SHORT_ALIAS
            table.setdefault(tokens if is_short else tuple(map(stem, tokens)), {})[key] = None
    displays = {variable.name: variable.display for variable in declared}
    return {tokens: tuple(sorted(keys, key=lambda key: len(displays.get(key, "")))) for tokens, keys in table.items()}


def stem(token: str) -> str:
    """Return a word in small letters without the `s` of a plural or possessive."""
    lower = token.casefold().removesuffix("'s").removesuffix("’s")
    return lower[:-1] if len(lower) > 3 and lower.endswith("s") and not lower.endswith(("ss", "us", "is")) else lower


def mentions(question: str, own: Sequence[tuple[str, str]] = ()) -> tuple[str, ...]:
    """Return the keys of the variables that a question names, in its order.

    The longest match counts; whole words, plurals and small typos are understood.

    Args:
        question: any text.
        own: further (words, key) pairs, such as the record's own series.

    Example:
        >>> mentions("Was the invasive systolic blood pressure ever above 160?")
        ('invasive_systolic_blood_pressure',)
        >>> mentions("creatinin and K?")
        ('creatinine', 'potassium')
    """
    return keys_of(spans_of(question, own))


def spans_of(question: str, own: Sequence[tuple[str, str]] = ()) -> list[Span]:
    """Return where a question names variables; arguments as of `mentions`."""
    table = _lexicon(variables(), tuple(own))
    longest = max(map(len, table), default=0)
    matches = list(TOKEN.finditer(question))
    raw = [match.group() for match in matches]
    vocabulary = _vocabulary(tuple(table))
    stems = [_mended(stem(token), vocabulary) for token in raw]
    found: list[Span] = []
    start = 0
    while start < len(raw):
        for end in range(min(len(raw), start + longest), start, -1):
            keys = table.get(tuple(stems[start:end])) or table.get(tuple(raw[start:end]))
            if keys:
                found.append(Span(matches[start].start(), matches[end - 1].end(), keys))
                start = end
                break
        else:
            start += 1
    return found


def keys_of(spans: Sequence[Span]) -> tuple[str, ...]:
    """Return the keys of all spans, each once, in their order."""
    return tuple(dict.fromkeys(chain.from_iterable(span.keys for span in spans)))


def masked(question: str, spans: Sequence[Span]) -> str:
    """Return the question with `{v}` in place of each variable, or list of variables, that it names."""
    parts, at = [], 0
    for span in spans:
        if not set(span.keys) <= PERSONAL:
            parts += [question[at : span.start], "{v}"]
            at = span.end
    return _LISTED.sub("{v}", "".join((*parts, question[at:])))


@lru_cache(maxsize=8)
def _vocabulary(phrases: tuple[tuple[str, ...], ...]) -> frozenset[str]:
    return frozenset(token for phrase in phrases for token in phrase)


@lru_cache(maxsize=4096)
def _mended(stem: str, vocabulary: frozenset[str]) -> str:
    """Return the word of the vocabulary that a long unknown word misspells, else the word itself."""
    if len(stem) < TYPO_LETTERS or stem in vocabulary or stem in _PLAIN_WORDS:
        return stem
    close = difflib.get_close_matches(stem, [word for word in vocabulary if len(word) >= TYPO_LETTERS - 1], n=1, cutoff=TYPO_RATIO)
    return close[0] if close else stem


_PLAIN = """
medication medicine condition patient problem allergy measured measurement measure recorded record highest lowest
maximum minimum change changed changing trending current currently latest recent anything difference prescribed
prescription diagnosis diagnoses reading rising falling systemic number respiratory reference between creation
operation
"""
_PLAIN_WORDS = frozenset(_PLAIN.split())
