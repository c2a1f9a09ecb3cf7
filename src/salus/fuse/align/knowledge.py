"""What is known to belong together: one concept, one anatomy, or a symptom or sign of a disease.

Takes texts or codes; gives concepts and how much two sets of them are related. The table `knowledge.yaml` holds terms by concept and
relations with a public source each; it is small on purpose and decides no diagnosis: it only says which pairs of different patients
should not be pushed apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray

from salus.errors import Bug

KINDS = ("anatomy", "code", "disease", "sign", "symptom")
RELATED = 0.5
"""How much a symptom or sign and its disease are related; one concept is 1."""
_CLAUSE = re.compile(r"[.;:!?\n]|\bbut\b|\bhowever\b")
_NEGATION = re.compile(r"\b(no|not|without|denied|denies|negative for|absence of|absent|neither|nor|never|ruled out|free of)\b")


@dataclass(frozen=True)
class Relation:
    """A symptom or sign of a disease."""

    finding: str
    disease: str
    source: str
    """Address of a public page that says so."""
    note: str
    """What it says, in a few own words."""


@dataclass(frozen=True)
class Knowledge:
    """Terms and relations."""

    terms: Mapping[str, tuple[str, ...]]
    """Concept (`kind:name`) → words that name it."""
    relations: tuple[Relation, ...]

    def concepts_of(self, text: str) -> frozenset[str]:
        """Return the concepts that a text names and does not deny: a negation counts for the rest of its clause.

        Example:
            >>> sorted(knowledge().concepts_of("Fever and dry cough. No dyspnoea."))
            ['symptom:cough', 'symptom:fever']
        """
        found = set()
        for clause in _CLAUSE.split(text.lower()):
            denied = _NEGATION.search(clause)
            told = clause[: denied.start()] if denied else clause
            found |= {concept for concept, pattern in _patterns(self).items() if pattern.search(told)}
        return frozenset(found)

    def matrix(self, first: Sequence[frozenset[str]], second: Sequence[frozenset[str]]) -> NDArray[np.float32]:
        """Return (n, m) how much two sets of concepts are related, 0 to 1.

        The share of their concepts that both have (Jaccard), or `RELATED` if one holds a finding of a disease that the other holds,
        whichever is more.

        Args:
            first: n sets.
            second: m sets.
        """
        names = sorted({name for each in (*first, *second) for name in each})
        if not names:
            return np.zeros((len(first), len(second)), np.float32)
        place = {name: at for at, name in enumerate(names)}
        tables = []
        for sets in (first, second):
            table = np.zeros((len(sets), len(names)), np.float32)
            for row, each in enumerate(sets):
                table[row, [place[name] for name in each]] = 1.0
            tables.append(table)
        both = tables[0] @ tables[1].T
        either = tables[0].sum(1)[:, None] + tables[1].sum(1)[None] - both
        shared = both / np.maximum(either, 1.0)
        link = np.zeros((len(names), len(names)), np.float32)
        for one in self.relations:
            if one.finding in place and one.disease in place:
                link[place[one.finding], place[one.disease]] = link[place[one.disease], place[one.finding]] = 1.0
        linked = (tables[0] @ link @ tables[1].T) > 0
        return np.asarray(np.maximum(shared, RELATED * linked), np.float32)


@cache
def knowledge() -> Knowledge:
    """Return the table that ships.

    Raises:
        Bug: a concept has no known kind, or a relation has no source or an unknown concept.
    """
    tree = yaml.safe_load(files("salus.fuse.align").joinpath("knowledge.yaml").read_text(encoding="utf-8"))
    made = Knowledge({name: tuple(words) for name, words in tree["terms"].items()}, tuple(Relation(**row) for row in tree["relations"]))
    for name in made.terms:
        if name.partition(":")[0] not in KINDS:
            raise Bug(f"Cannot use knowledge.yaml: concept {name!r} has no known kind. Kinds: {', '.join(KINDS)}.")
    for row in made.relations:
        if {row.finding, row.disease} - set(made.terms) or not row.source.startswith("https://"):
            raise Bug(f"Cannot use knowledge.yaml: relation {row.finding!r}, {row.disease!r} has no source or an unknown concept.")
    return made


_COMPILED: dict[int, dict[str, re.Pattern[str]]] = {}


def _patterns(table: Knowledge) -> dict[str, re.Pattern[str]]:
    if id(table) not in _COMPILED:
        _COMPILED[id(table)] = {
            concept: re.compile(r"\b(" + "|".join(re.escape(word) for word in words) + r")\b") for concept, words in table.terms.items()
        }
    return _COMPILED[id(table)]
