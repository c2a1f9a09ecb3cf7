"""Who the files of a folder name, and which keys are one patient's.

Takes what each file says about people (`Person`), or records and the files behind them; gives the known values of each patient, and the key
that stands for all of a patient's keys. Each file is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from salus.record.deidentify.formats import format_of
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.known import KnownRecogniser
from salus.record.deidentify.work import Person
from salus.record.patient import PatientRecord
from salus.record.read.folder import readers

Values = Mapping[Kind, frozenset[str]]


@dataclass(frozen=True)
class People:
    """The patients of some files."""

    same: Mapping[str, str] = field(default_factory=dict)
    """Any key of a patient → the one that stands for all."""
    known: Mapping[str, Values] = field(default_factory=dict)
    """That key → what the files say about who the patient is, and about everybody who is no patient."""
    others: Values = field(default_factory=dict)
    """What they say about everybody who is no patient."""
    unsearched: frozenset[str] = frozenset()
    """Files whose people could not be found out."""

    def chief(self, subject: str) -> str:
        """Return the key that stands for all of a patient's keys."""
        return self.same.get(subject, subject)

    def recogniser(self, subject: str) -> KnownRecogniser:
        """Return what finds the values by which the files name a patient, and the patient's key.

        Example:
            >>> people = joined([Person("7", {Kind.NAME: frozenset({"Zelda"})}), Person("MRN-4471", {Kind.RECORD: frozenset({"7"})})])
            >>> people.same, sorted((hit.start, hit.end) for hit in people.recogniser("7").find("MRN-4471 is Zelda"))
            ({'7': '7', 'MRN-4471': '7'}, [(0, 8), (12, 17)])
        """
        values = dict(self.known.get(self.chief(subject), self.others))
        _add(values, {Kind.RECORD: frozenset({subject})})
        return KnownRecogniser(values)


def joined(people: Iterable[Person], unsearched: Iterable[str] = ()) -> People:
    """Return the patients: two keys are one patient when a record number of one is a key or number of the other."""
    people = tuple(people)
    parent: dict[str, str] = {}

    def top(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    patients = [person for person in people if person.key]
    for person in patients:
        for alias in person.aliases:
            first, second = sorted((top(person.key), top(alias)))
            parent[second] = first
    chief: dict[str, str] = {}
    for key in sorted({person.key for person in patients}):
        chief.setdefault(top(key), key)
    same = {person.key: chief[top(person.key)] for person in patients}
    others: dict[Kind, frozenset[str]] = {}
    for person in people:
        if not person.key:
            _add(others, person.values)
    known: dict[str, dict[Kind, frozenset[str]]] = {}
    for person in patients:
        mine = known.setdefault(same[person.key], {})
        _add(mine, person.values)
        _add(mine, {Kind.RECORD: person.aliases})
    for mine in known.values():
        _add(mine, others)
    return People(same, known, others, frozenset(unsearched))


def _add(known: dict[Kind, frozenset[str]], values: Values) -> None:
    for kind, each in values.items():
        known[kind] = known.get(kind, frozenset()) | each


def people_of(records: Iterable[PatientRecord]) -> People:
    """Return whom the files behind some records name."""
    people: list[Person] = []
    unsearched: list[str] = []
    installed = readers()
    for name in sorted({file for record in records for item in record.items for file in item.files}):
        path = Path(name)
        if not path.is_file():
            continue
        try:
            found = format_of(path, installed)
            people += found.survey(path) if found else ()
        except Exception:  # whatever an odd file does to a library: its items are known not to have been searched
            unsearched.append(name)
    return joined(people, unsearched)
