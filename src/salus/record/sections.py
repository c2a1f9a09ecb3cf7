"""Sections of clinical notes and reports, by their headings in eight languages.

Takes a text; gives its sections in order, each with LOINC's code and its place, so that a citation can point into one. A heading is
known by the lists of `section_heads.yaml` and by how it stands; nothing is guessed from what a paragraph says. Nesting is left out.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from salus.record.patient import Code

FEWEST_HEADS = 2
"""One heading alone is as likely a sentence's beginning: such a text stays whole."""
MOST_SECTIONS = 200
_MARKS = re.compile(r"^[\s#*•\-–>_【\[(]*(?:\d{1,2}[.)]\s*|[IVX]{1,4}[.)]\s*|[一二三四五六七八九十][、.]\s*)?")
_LONGEST_HEAD = 48
_EDGES = " \t*_#】])."


@dataclass(frozen=True)
class Section:
    """A part of a text, from one heading to the next."""

    code: Code | None
    """None before the first heading."""
    start: int
    end: int
    """Characters of the text: `text[start:end]`, the heading included."""


@cache
def _heads() -> dict[str, Code]:
    rows = yaml.safe_load(files(__package__).joinpath("section_heads.yaml").read_text("utf-8"))
    heads: dict[str, Code] = {}
    for row in rows:
        code = Code("http://loinc.org", row["code"], row["display"])
        for head in row["heads"]:
            heads[_plain(head)] = code
    return heads


def _plain(words: str) -> str:
    """Return words in lower case, without accents and with single blanks."""
    letters = unicodedata.normalize("NFD", words.casefold().replace("ß", "ss"))
    return " ".join("".join(each for each in letters if not unicodedata.combining(each)).split())


def head_of(line: str, *, stands_free: bool) -> Code | None:
    """Return the section that a line opens, or None.

    A heading is followed by a colon, whatever its case; or it stands alone on its line in capitals, in brackets, after `#`, or with a
    blank line before it and a capital first.

    Args:
        line: one line of the text.
        stands_free: whether the line before it is blank, or it is the first.

    Example:
        >>> head_of("IMPRESSION: no change", stands_free=False).display, head_of("Beurteilung", stands_free=True).display
        ('impression', 'impression')
        >>> head_of("The plan: rest", stands_free=True) is None, head_of("plan", stands_free=True) is None
        (True, True)
    """
    found = _MARKS.match(line)
    rest = line[found.end() if found else 0 :]
    before_colon = re.match(rf"[^:：\n]{{1,{_LONGEST_HEAD}}}(?=[:：])", rest)
    if before_colon is not None:
        return _heads().get(_plain(before_colon[0].strip(_EDGES)))
    words = rest.strip(_EDGES)
    if not words or len(rest) > _LONGEST_HEAD:
        return None
    is_marked = line.lstrip().startswith(("#", "**", "【", "["))
    starts_high = words[0].isupper() or not words[0].isascii()
    return _heads().get(_plain(words)) if words.isupper() or is_marked or (stands_free and starts_high) else None


def sections_of(text: str) -> tuple[Section, ...]:
    r"""Return the sections of a text; a text with fewer than `FEWEST_HEADS` headings is one section without a code.

    Example:
        >>> text = "FINDINGS: clear lungs.\nIMPRESSION: normal."
        >>> [(each.code.display, text[each.start : each.end]) for each in sections_of(text)]
        [('findings', 'FINDINGS: clear lungs.\n'), ('impression', 'IMPRESSION: normal.')]
    """
    opened: list[tuple[int, Code]] = []
    place, is_free = 0, True
    for line in text.splitlines(keepends=True):
        code = head_of(line.rstrip("\r\n"), stands_free=is_free)
        if code is not None and len(opened) < MOST_SECTIONS:
            opened.append((place, code))
        is_free = not line.strip()
        place += len(line)
    if len(opened) < FEWEST_HEADS:
        return (Section(None, 0, len(text)),)
    ends = [start for start, _ in opened[1:]] + [len(text)]
    before = (Section(None, 0, opened[0][0]),) if text[: opened[0][0]].strip() else ()
    return (*before, *(Section(code, start, end) for (start, code), end in zip(opened, ends, strict=True)))
