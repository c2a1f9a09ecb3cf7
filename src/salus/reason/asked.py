"""What a question asks for: kinds of fact about a series, lists, or who the patient is.

Two voices: patterns that know many phrases exactly, and the fitted model of `salus.reason.wording`, which knows wordings that nobody
foresaw and says how sure it is. Where the model is sure it decides; where it is not, what either names is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from salus.reason.facts import FactKind
from salus.reason.wording import NONE, kind_probabilities

SURE = 0.6
"""From this probability on the model of wordings decides alone; chosen on `val` wordings."""
LIKELY = 0.5
"""Where neither a variable nor a pattern speaks for it, what the model guesses with less than this is not asked."""
LIKELY_OF_VARIABLE = 0.4
"""The same where the question names a variable: a model that knows all authors of wordings but one is right in every second guess of
0.35 to 0.45 for the wordings of that one, in every fourth below (`design/LOG.md`); the language model then chooses among all kinds."""
AGREED = 0.95
"""Least certainty where patterns and model name the same one thing: of 80 such wordings of `val` all were right."""
KINDS: dict[FactKind, tuple[str, ...]] = {
    "out_of_range": (
        r"out of (the )?(normal |reference )?range",
        r"in(side)? (the |its )?(normal |reference )?range",
        r"within (the |its )?(normal|reference|range)",
        r"outside (the |its |of )|abnormal|normal|reference range|too (high|low)",
        r"(is|are|was|were)\b.*\b(high|low|elevated|raised|decreased)(?! (point|value))",
    ),
    "highest": (r"highest|max(imum|imal)?|peak(ed)?|greatest|largest|top|worst|how high",),
    "lowest": (r"lowest|min(imum|imal)?|nadir|smallest|least|bottom|worst|how low|trough",),
    "change": (
        r"chang(e|es|ed|ing)|differen(ce|t)|delta|by how much|how far|moved between|since admission",
        r"how much (did|has|have|does|is|was)|compared? (with|to)|compare|versus",
    ),
    "trend": (
        r"trend(s|ing)?|over time|course of|going|heading|direction|trajectory|evol(ve|ved|ution)",
        r"rising or|falling or|up or down",
        r"(is|are|was|were|has|have)\b.*\b(rising|falling|increasing|decreasing|climbing|dropping|improving|worsening|stable|steady)",
    ),
    "count": (r"how many|how often|how frequently|number of|counts?(?=\W*$)|count (the|all|every)",),
    "measured": (
        r"^(was|were|is|are|has|have|did|do|does)\b.*\b(measured?|checked?|recorded|taken|tested|available|documented|exist|done)",
        r"^(is|are) there|^do we have|^any|(does|do)\b.*\bcontain|^[\w /-]+ (measured|recorded|checked)(?=\W*$)",
        r"any\b.*(recorded|on file|available|values?|results?|measurements?)",
        r"(whether|if) .*\b(was|were|is|are|has been)\b.*\b(measured|checked|recorded)",
    ),
    "earliest": (r"first|initial(ly)?|earliest|baseline|(on|at) admission|oldest|opening|at the (start|beginning)|starting",),
    "latest": (
        r"last(?! (\d+ )?(hours?|days?|h|night|weeks?)\b)|latest|newest|most recent(ly)?|recent|final",
        r"current(ly)?|now|up-to-date|at the moment|at present|today",
    ),
}
"""Kind of fact about a series → patterns that ask for it. Where several match, `_resolved` says which stand."""

LIST_KINDS: dict[FactKind, tuple[str, ...]] = {
    "active_medicines": (
        r"medicines?|medications?|medicaments?|meds?|drugs?|prescri(bed|ptions?)",
        r"pills?|tablets?|taking|treatments?|therap(y|ies)",
    ),
    "active_conditions": (
        r"conditions?|problems?|diagnos(is|es|ed)|dx|diseases?|illness(es)?|comorbidit(y|ies)",
        r"history|suffer(s|ing)? from",
    ),
    "allergies": (r"allerg(y|ies|ic|en|ens)|intoleranc(e|es)|hypersensitivit(y|ies)",),
    "procedures": (r"procedures?|operations?|surger(y|ies)|operated|interventions?",),
    "immunizations": (r"immuni[sz]ations?|vaccin(e|es|ated|ation|ations)|shots?|jabs?|immuni[sz]ed",),
}
PERSON: dict[str, tuple[str, ...]] = {
    "age": (r"age|how old|years old|old is",),
    "sex": (r"sex|gender|male|female|man|woman",),
    "type of intensive care unit": (r"(type|kind) of (icu|intensive care|unit)|icu type|which (icu|unit|ward)|what unit",),
}
_MERGED: Mapping[str, str] = {"when_highest": "highest", "when_latest": "latest"}
"""Labels of the model that ask for the time of a fact: the fact is the same."""
_AND = r"and|also|plus|as well as|both"
_JOINED = rf"{_AND}|or|versus|vs"


@dataclass(frozen=True)
class Asked:
    """What a question asks for."""

    kinds: frozenset[FactKind]
    """Kinds of fact about a series."""
    lists: tuple[FactKind, ...]
    person: tuple[str, ...]
    """Subjects of facts about who the patient is."""
    certainty: float
    """Probability that the question asks for these, 0 to 1."""
    is_of_variable: bool = True
    """Whether it asks about the variable that it names; False where that is named in passing."""


def asked_of(question: str, masked: str, *, names_variable: bool) -> Asked:
    """Return what a question asks for.

    Args:
        question: its words.
        masked: the same with `{v}` in place of each variable that it names.
        names_variable: whether it names one; without one it can only ask for lists, the person, or nothing known.

    Example:
        >>> asked_of("How far down did the K go?", "How far down did the {v} go?", names_variable=True).kinds
        frozenset({'lowest'})
        >>> asked_of("To calculate the eGFR I need the age.", "To calculate the {v} I need the age.", names_variable=True).person
        ('age',)
    """
    by_pattern = _by_pattern(question)
    names_variable = names_variable and not _is_in_passing(question, masked, by_pattern)
    shares = _feasible(kind_probabilities(masked), names_variable=names_variable)
    top = max(shares, key=lambda label: shares[label])
    wanted: frozenset[str] = by_pattern
    is_guess = top not in by_pattern and shares[top] < (LIKELY_OF_VARIABLE if names_variable else LIKELY)
    if top != NONE and not is_guess:
        is_compound = top in by_pattern and len(by_pattern) > 1 and has(question, _JOINED)
        is_sure = shares[top] >= SURE and not is_compound
        wanted = frozenset((top,)) if is_sure else by_pattern | {top}
    own = [label for label in wanted if label in shares]
    certainty = sum(shares[label] for label in own) if own else shares[NONE]
    certainty = max(certainty, AGREED) if by_pattern == {top} else certainty
    kinds: frozenset[FactKind] = frozenset(kind for kind in KINDS if kind in wanted)
    lists = tuple(kind for kind in LIST_KINDS if kind in wanted)
    return Asked(kinds, lists, tuple(subject for subject in PERSON if subject in wanted), min(certainty, 1.0), names_variable)


def _is_in_passing(question: str, masked: str, by_pattern: frozenset[str]) -> bool:
    """Return whether a question that names a variable asks for a list or the person: `the Hb range depends on it: man or woman?`."""
    as_said, about = kind_probabilities(question), kind_probabilities(masked)
    top = max(as_said, key=lambda label: as_said[label])
    is_beside = top in by_pattern and top not in KINDS and as_said[top] >= SURE and top == max(about, key=lambda label: about[label])
    return is_beside and not (by_pattern & frozenset(KINDS) and has(question, _AND))


def _by_pattern(question: str) -> frozenset[str]:
    return frozenset((*asked_kinds(question), *asked_lists(question), *asked_person(question)))


def _feasible(probabilities: Mapping[str, float], *, names_variable: bool) -> dict[str, float]:
    """Return probabilities of what can be asked, labels of one fact added up."""
    shares: dict[str, float] = {}
    for label, share in probabilities.items():
        kind = _MERGED.get(label, label)
        if kind == NONE or (kind in KINDS if names_variable else kind not in KINDS):
            shares[kind] = shares.get(kind, 0.0) + share
    total = sum(shares.values())
    return {kind: share / total for kind, share in shares.items()}


def asked_lists(question: str) -> tuple[FactKind, ...]:
    """Return the lists that the words of a question ask for.

    Example:
        >>> asked_lists("Which medicines is she on?")
        ('active_medicines',)
        >>> asked_lists("Any allergic history to drugs?"), asked_lists("Drugs and allergies?")
        (('allergies',), ('active_medicines', 'allergies'))
    """
    lists = tuple(kind for kind, patterns in LIST_KINDS.items() if has(question, *patterns))
    is_allergy = "allergies" in lists and not has(question, _AND)
    return ("allergies",) if is_allergy else lists  # `drug allergies` and `allergic history` ask for no medicines or conditions


def asked_person(question: str) -> tuple[str, ...]:
    """Return what the words of a question ask about who the patient is.

    Example:
        >>> asked_person("Age and sex?")
        ('age', 'sex')
    """
    return tuple(subject for subject, patterns in PERSON.items() if has(question, *patterns))


def asked_kinds(question: str) -> frozenset[FactKind]:
    """Return the kinds of fact about a series that the words of a question ask for.

    Example:
        >>> sorted(asked_kinds("When was the last creatinine?")), sorted(asked_kinds("creatinine?"))
        (['latest'], [])
        >>> sorted(asked_kinds("How much did it change from first to last?"))
        ['change']
    """
    return _resolved(frozenset(kind for kind, patterns in KINDS.items() if has(question, *patterns)), question)


STRONG: frozenset[FactKind] = frozenset(("change", "trend", "count", "out_of_range"))
ENDS: frozenset[FactKind] = frozenset(("latest", "earliest", "measured"))


def _resolved(kinds: frozenset[FactKind], question: str) -> frozenset[FactKind]:
    """Drop kinds whose words only qualify another: the `last` of `change from first to last`, the `latest` of `is it normal`."""
    if "trend" in kinds and ("change" not in kinds or has(question, "trend")):
        kinds = kinds - {"change", "out_of_range"}
    if "change" in kinds:
        kinds = kinds - {"trend", "out_of_range", "highest", "lowest", "count"}
    if kinds & STRONG:
        kinds = kinds - ENDS
    if kinds & {"highest", "lowest"}:
        kinds = kinds - {"latest", "measured", "out_of_range"} - ({"earliest"} if len(kinds) > 2 else set())
    if "count" in kinds:
        kinds = frozenset(("count",))
    if "earliest" in kinds and "latest" in kinds and not has(question, "and"):
        kinds = kinds - {"latest"}
    if kinds & {"latest", "earliest"} and "measured" in kinds:
        kinds = kinds - {"measured"}
    return kinds


def has(text: str, *patterns: str) -> bool:
    """Return whether one of the patterns matches a text as whole words, in any case."""
    return any(_whole(pattern).search(text) for pattern in patterns)


@lru_cache(maxsize=256)
def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.I)
