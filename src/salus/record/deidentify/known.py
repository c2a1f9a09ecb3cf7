"""Finds in a text what other files of the same record already say about who the patient is.

Takes values by kind (from a FHIR Patient, DICOM tags, a PID segment or a table); gives hits wherever they are written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property

from salus.record.deidentify.dates import find_dates
from salus.record.deidentify.kinds import Hit, Kind
from salus.record.deidentify.words import COMMON, NOT_A_NAME

LEAST_LETTERS = 3
"""A shorter part of a name counts only within the whole name."""
_TITLES = ("Dr", "Mr", "Mrs", "Ms", "Miss", "Prof", "Doctor", "Professor", "Nurse", "Sister")
TITLES = tuple(f"{title}{mark} " for title in _TITLES for mark in (r"\.", ""))
LEAST_CHARACTERS = 4
"""A shorter number is too common to be searched for."""


class KnownRecogniser:
    """Finds known values: names whole and in parts, numbers however they are punctuated, dates in any form."""

    def __init__(self, values: Mapping[Kind, frozenset[str]]) -> None:
        """Take values by kind, written as in the file that they come from."""
        self.values = values

    @cached_property
    def _patterns(self) -> tuple[tuple[Kind, re.Pattern[str]], ...]:
        patterns = []
        for kind, values in self.values.items():
            choices = sorted({each for value in values for each in _forms(kind, value)}, key=lambda each: (-len(each), each))
            if choices:
                patterns.append((kind, re.compile(rf"(?<![^\W_])(?:{'|'.join(choices)})(?![^\W_])")))
        return tuple(patterns)

    @cached_property
    def _dates(self) -> frozenset[int]:
        return frozenset(found.at.toordinal() for value in self.values.get(Kind.DATE, ()) for found in find_dates(value))

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits.

        Example:
            >>> known = KnownRecogniser({Kind.NAME: frozenset({"Quimby^Zelda"}), Kind.RECORD: frozenset({"00-123-45"})})
            >>> text = "zelda came back; QUIMBY, Z., number 0012345"
            >>> [text[hit.start : hit.end] for hit in known.find(text)]
            ['zelda', 'QUIMBY', '0012345']
            >>> known = KnownRecogniser({Kind.NAME: frozenset({"Ward"})})
            >>> text = "Moved to Ward 7, seen by Dr. Ward."
            >>> [(hit.start, hit.end) for hit in known.find(text)]
            [(29, 33)]
        """
        for kind, pattern in self._patterns:
            for match in pattern.finditer(text):
                yield Hit(*match.span(), kind, "known")
        for found in find_dates(text) if self._dates else ():
            if found.at.toordinal() in self._dates:
                yield Hit(found.start, found.end, Kind.DATE, "known")


def _forms(kind: Kind, value: str) -> Iterable[str]:
    """Yield regular expressions for the ways to write a value."""
    if kind is Kind.DATE:
        return
    if kind is Kind.NAME:
        parts = [part for part in re.split(r"[\s^,=]+", value) if part]
        if len(parts) > 1:
            yield f"(?i:{'[ ^,._-]{1,2}'.join(map(re.escape, parts))})"
            yield f"(?i:{'[ ^,._-]{1,2}'.join(map(re.escape, parts[::-1]))})"
        for part in parts:
            if len(part) < LEAST_LETTERS or part.isdigit():
                continue
            if part.lower().strip(".") in NOT_A_NAME:  # a name such as Ward is one after a title only
                yield f"(?:{'|'.join(f'(?<={title})' for title in TITLES)}){re.escape(part.capitalize())}"
                continue
            lower = part.lower()
            yield f"(?:{re.escape(part.capitalize())}|{re.escape(part.upper())})" if lower in COMMON else f"(?i:{re.escape(part)})"
        return
    plain = re.sub(r"[\W_]", "", value)
    if len(plain) < LEAST_CHARACTERS or plain.lower() in COMMON:
        return
    if any(each.isdigit() for each in plain):
        yield f"(?i:{'[ ._/()-]{0,2}'.join(map(re.escape, plain))})"
    else:
        yield f"(?i:{re.escape(value)})"
