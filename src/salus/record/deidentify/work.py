"""What a format needs to de-identify one file, and what it says it did.

Takes nothing itself; `folder` fills a `Work` for each file and hands it to the functions of the format. Holds no values of patients in
what is reported: counts and reasons only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from salus.record.deidentify.key import Key
from salus.record.deidentify.kinds import Kind, Recogniser
from salus.record.deidentify.known import KnownRecogniser
from salus.record.deidentify.text import OWN, Subject
from salus.record.read.reader import ReadOptions
from salus.record.transcribe import Transcriber

Box = tuple[int, int, int, int]
"""Top, left, bottom, right of a stretch of text, in pixels; bottom and right are outside."""


class TextFinder(Protocol):
    """Finds written text in a picture."""

    def find(self, picture: NDArray[np.uint8]) -> Sequence[Box]:
        """Return the boxes of readable text in an (H, W, 3) picture."""
        ...


@dataclass(frozen=True)
class Person:
    """What a file says about who somebody is."""

    key: str
    """The patient's key in the file's own format; empty for somebody who is no patient of the folder."""
    values: Mapping[Kind, frozenset[str]] = field(default_factory=dict)

    @property
    def aliases(self) -> frozenset[str]:
        """Everything that names the same person in another file: the key and the record numbers."""
        return frozenset((self.key, *self.values.get(Kind.RECORD, frozenset()))) - {""}


@dataclass(frozen=True)
class Work:
    """One file's de-identification."""

    key: Key
    subject: str
    """The patient's key, one for all files of the patient."""
    known: Mapping[str, Mapping[Kind, frozenset[str]]] = field(default_factory=dict)
    """Patient's key → what the files say about who they are."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Any key of a patient → the one that stands for all."""
    options: ReadOptions = field(default_factory=ReadOptions)
    finder: Callable[[], TextFinder] | None = None
    """Builds the finder of burned-in text; raises `MissingExtra` where it is not installed."""
    more: tuple[Recogniser, ...] = ()
    """Recognisers beside the own ones, such as Presidio."""
    transcriber: Callable[[], Transcriber] | None = None
    """Builds what hears speech; None: speech is refused."""
    built: dict[str, KnownRecogniser] = field(default_factory=dict, compare=False)
    """Patient's key → their recogniser, built once for all files with the same `known`."""
    new_stem: str = ""
    """Name of the new file without its ending."""

    def of(self, subject: str) -> Work:
        """Return the same work for a patient by any of their keys."""
        return replace(self, subject=self.same.get(subject, subject))

    @property
    def person(self) -> Subject:
        """Whose text it is, with the recognisers for it."""
        return Subject(self.key, self.subject, (self.known_recogniser, *self.more, *OWN))

    @property
    def known_recogniser(self) -> KnownRecogniser:
        """Return what finds this patient's known identifiers."""
        if self.subject not in self.built:
            self.built[self.subject] = KnownRecogniser(self.known.get(self.subject, {}))
        return self.built[self.subject]

    @property
    def pseudonym(self) -> str:
        """The patient's new key."""
        return self.key.subject(self.subject)


@dataclass(frozen=True)
class Done:
    """What was done to a file."""

    files: tuple[Path, ...]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, action) → how often."""
    notices: tuple[str, ...] = ()
    """What a person should look at, without values."""
    companions: tuple[Path, ...] = ()
    """Other files that were de-identified as part of this one."""


def in_words(left: Counter[str]) -> tuple[str, ...]:
    """Return what a check still found, as reasons without values.

    Example:
        >>> in_words(Counter({"name": 2}))
        ('the residual check still finds: name (2)',)
    """
    found = sorted((kind, count) for kind, count in left.items() if count)
    return ("the residual check still finds: " + ", ".join(f"{kind} ({count})" for kind, count in found),) if found else ()
