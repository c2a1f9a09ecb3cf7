"""Checks what the language model wrote against the facts that code looked up: verified, mended or withheld.

Takes one line of a draft and the facts that stood in the prompt, numbered from 1; gives a `Statement`. Nothing passes that is
not in a cited fact: every number with its unit, every time, every name, every direction and every other word that carries
meaning. The vocabulary is closed on purpose: a draft that says more than the facts is replaced by the fact, or withheld.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from salus.generate.answer import Statement
from salus.generate.atoms import (
    MASK,
    WORD,
    Atom,
    Reading,
    canonical,
    mentioned,
    named_in,
    names_of,
    phrase_pattern,
    read_sentence,
    says,
)
from salus.reason.facts import Fact, FactKind

MOST_MENDED = 4
"""Cited facts that may together replace one line."""
WITHHELD = "A statement was withheld: it could not be verified against the record."
_CITED = re.compile(r"\[\s*(\d+(?:\s*[,;]\s*\d+)*)\s*\]")
_REFUSAL = re.compile(
    r"(i (do not|don't) know|i (cannot|can't) (tell|say|answer)( that| this)?"
    r"|(the|this) record does not (say|tell|show)( that| this)?"
    r"|not enough information|(it|this|that) (cannot|can't) be (told|said|answered))( (from|in) (the|this) record)?",
    re.I,
)

_BETWEEN = (r";", r"(?<=[^\d])\. ", r", and ", r"\band\b", r",(?!\d)")
"""Marks at which a line that cites several facts at its end falls into one clause for each."""
_ACTIVE: frozenset[FactKind] = frozenset(("active_medicines", "active_conditions"))
_SINGLE: frozenset[FactKind] = frozenset(("latest", "earliest", "highest", "lowest", "measured", "count", "demographic", "measurement"))
"""Kinds with one value and one time, which may stand in any order."""
_OF_SERIES: frozenset[FactKind] = frozenset(
    ("latest", "earliest", "highest", "lowest", "change", "trend", "count", "measured", "out_of_range", "measurement")
)
"""Kinds that are about a series or content, whose name tells what the value is of."""


@dataclass(frozen=True)
class _Verdict:
    is_supported: bool
    facts: tuple[Fact, ...] = ()
    has_claim: bool = True


def verify(line: str, facts: Sequence[Fact], *, asked: frozenset[FactKind], names_subject: bool = False) -> Statement:
    """Return the statement that a line of a draft becomes once it is checked against the facts.

    Args:
        line: what the language model wrote, with citations `[n]`: 1-based numbers of the facts in its prompt.
        facts: the facts in the prompt's order.
        asked: kinds that the question asks for; when exactly one, the cited fact must be of it (`not_recorded` always may).
        names_subject: whether the question leaves open what it is about, so that `fell by 9` says nothing until it says of what.

    Returns:
        `verified`: the line, without citations; `mended`: the text of the one right fact; `withheld`: a sentence that says so,
        with no items. `not_a_claim`: the line only declines to answer. `confidence` is None: the caller fills it in.

    Example:
        >>> from salus.reason.facts import Quantity
        >>> fact = Fact("latest", "creatinine", "creatinine", "Latest creatinine: 2.4 mg/dL at 40 h 30 min after admission.",
        ...             "2.4 mg/dL at 40 h 30 min", ("a1",), (Quantity("2.4", 2.4, "mg/dL"),), ("40 h 30 min",))
        >>> verify("2.4 mg/dL at 40 h 30 min [1]", (fact,), asked=frozenset(("latest",))).verification
        'verified'
        >>> verify("24 mg/dL at 40 h 30 min [1]", (fact,), asked=frozenset(("latest",))).text
        'Latest creatinine: 2.4 mg/dL at 40 h 30 min after admission.'
        >>> verify("The sodium is 140 mmol/L.", (fact,), asked=frozenset()).verification
        'withheld'
    """
    draft = line.strip()
    if _REFUSAL.fullmatch(_CITED.sub("", draft).strip(" .!")):
        return Statement(draft, (), None, "not_a_claim", draft=draft)
    allowed = _of_kind(facts, asked)
    verdict = _check(draft, facts)
    named = {fact for fact in facts if not names_subject or fact.kind not in _OF_SERIES or _names_subject(draft, fact, facts)}
    if verdict.is_supported and all(fact in allowed and fact in named for fact in verdict.facts):
        return _statement(_CITED.sub("", draft), verdict.facts, "verified", draft)
    bare = _CITED.sub("", draft)
    supporting = next((fact for fact in allowed if _is_supported(bare, (fact,))), None) if not verdict.facts else None
    if supporting in named and supporting is not None:
        return _statement(bare, (supporting,), "verified", draft)
    right = _right_facts(draft, verdict.facts, allowed, asked)
    if not right:
        return Statement(WITHHELD, (), None, "withheld", draft=draft)
    return _statement(" ".join(fact.text for fact in right), right, "mended", draft)


def uncited(line: str) -> str:
    """Return a line of a draft without its citations.

    Example:
        >>> uncited("Number of creatinine values: 2. [4]")
        'Number of creatinine values: 2.'
    """
    return _CITED.sub("", line).strip()


def _statement(text: str, facts: Sequence[Fact], verification: str, draft: str) -> Statement:
    return Statement(
        text=re.sub(r"\s+([.,;])", r"\1", " ".join(text.split())),
        item_ids=tuple(dict.fromkeys(item_id for fact in facts for item_id in fact.item_ids)),
        confidence=None,
        verification=verification,  # type: ignore[arg-type]
        short="; ".join(fact.short for fact in facts),
        support=" ".join(fact.text for fact in facts),
        draft=draft,
    )


def _of_kind(facts: Sequence[Fact], asked: frozenset[FactKind]) -> tuple[Fact, ...]:
    """Return the facts that may answer: all, unless the question asks for exactly one kind."""
    if len(asked) != 1:
        return tuple(facts)
    return tuple(fact for fact in facts if fact.kind in asked or fact.kind == "not_recorded")


def _check(draft: str, facts: Sequence[Fact]) -> _Verdict:
    """Return whether each part of a draft is supported by the facts that it cites at its end."""
    cited: list[Fact] = []
    is_supported, position = True, 0
    matches = list(_CITED.finditer(draft))
    for index, match in enumerate(matches):
        numbers = [int(number) for number in re.findall(r"\d+", match[1])]
        found = [facts[number - 1] for number in numbers if 1 <= number <= len(facts)]
        cited.extend(fact for fact in found if fact not in cited)
        segment = draft[position : match.start()]
        position = match.end()
        is_repeated = index > 0 and not segment.strip(" .,;")
        if len(found) < len(numbers) or (not is_repeated and not _is_supported(segment, found)) or is_repeated:
            is_supported = False
    if re.search(r"\w", draft[position:]):
        is_supported = False
    return _Verdict(is_supported and bool(cited), tuple(cited))


def _right_facts(draft: str, cited: Sequence[Fact], allowed: Sequence[Fact], asked: frozenset[FactKind]) -> tuple[Fact, ...]:
    """Return what the draft should have said, or nothing when that is not certain.

    Of the facts of the kind asked for, those about what the draft names (all, if it names nothing): the cited ones; else, when
    one kind is asked for, the only one about the same series as a cited fact, or the only one there is.
    """
    named = [fact for fact in allowed if _names_subject(draft, fact, allowed)]
    own = {name for fact in allowed for name in (fact.subject, *mentioned(fact.text))}  # `losartan potassium` is no potassium
    if not named and mentioned(_CITED.sub(" ", draft)) - own:
        return ()
    pool = named or list(allowed)
    chosen = tuple(fact for fact in cited if fact in pool)
    if chosen:
        return chosen if len(chosen) <= MOST_MENDED else ()
    if len(asked) != 1:
        return ()
    same = [fact for fact in pool if any(fact.series == other.series for other in cited)] or pool
    return (same[0],) if len(same) == 1 else ()


def _names_subject(draft: str, fact: Fact, facts: Sequence[Fact]) -> bool:
    text = _CITED.sub(" ", draft)
    own = fact.subject.casefold()
    for longer in {other.subject for other in facts if own in other.subject.casefold() and own != other.subject.casefold()}:
        text = phrase_pattern(longer).sub(MASK, text)
    return says(text, fact.subject) or fact.subject in mentioned(text)


def _is_supported(segment: str, cited: Sequence[Fact]) -> bool:
    """Return whether all that a segment says stands in the cited fact; of several facts, in one clause for each, in order."""
    if not cited or not segment.strip(" .,;:"):
        return False
    if len(cited) > 1:
        return any(
            len(parts) == len(cited) and all(_is_supported(part, (fact,)) for part, fact in zip(parts, cited, strict=True))
            for parts in (re.split(mark, segment) for mark in _BETWEEN)
        )
    fact = cited[0]
    if fact.kind == "excerpt":
        return _is_quoted(segment, fact)
    names = (*fact.names, fact.subject)
    said, given = read_sentence(segment, names), read_sentence(fact.text, names)
    if not said.is_clean or _is_foreign(segment, fact):
        return False
    of_list = read_sentence(fact.subject, ()).classes if fact.kind in _ACTIVE else frozenset()
    if said.words - given.words - _subject_words(fact) or said.classes - given.classes - of_list:
        return False
    if not _are_given(given.atoms, said.atoms) or not _are_paired(given.atoms, said.atoms):
        return False
    if fact.kind not in _SINGLE and not _is_in_order(given.atoms, said.atoms):
        return False
    return _is_complete(fact, said, given, segment)


def _is_quoted(segment: str, fact: Fact) -> bool:
    quoted = " ".join(segment.strip(" .,;:\"“”'").split()).casefold()
    return len(quoted) > 0 and quoted in " ".join(fact.text.split()).casefold()


def _is_foreign(segment: str, fact: Fact) -> bool:
    """Return whether a segment names a variable that the fact is not about."""
    masked = segment
    for name in sorted((fact.subject, *fact.names), key=len, reverse=True):
        masked = phrase_pattern(name).sub(MASK, masked)
    return bool(set(named_in(masked)) - names_of(fact.subject))


def _subject_words(fact: Fact) -> frozenset[str]:
    """Return the words of the subject's names, aliases included."""
    return frozenset(word.casefold() for name in names_of(fact.subject) for word in WORD.findall(name))


def _is_complete(fact: Fact, said: Reading, given: Reading, segment: str) -> bool:
    """Return whether a segment says what the fact is for, not merely words out of it."""
    if ("not" in given.classes) != ("not" in said.classes):
        return False
    if fact.kind in ("latest", "earliest", "highest", "lowest"):
        return _has_value(fact, said)
    if fact.kind == "change":
        return _is_whole_change(fact, said)
    if fact.kind == "trend":
        return bool(said.classes & {"rose", "fell", "same", "fluctuating"})
    if fact.kind == "count":
        return any(atom.kind in ("number", "tally") for atom in said.atoms)
    if fact.kind == "measured":
        return "yes" in said.classes or re.search(r"\b(was|were|has been|have been)\b", segment, re.I) is not None
    if fact.kind == "out_of_range":
        has_tally = any(atom.kind == "tally" for atom in said.atoms)
        return bool(said.classes & {"above", "below", "within"}) and (not has_tally or "outside" in said.classes)
    if fact.names:
        return all(Atom("name", name.casefold()) in said.atoms for name in fact.names)
    if fact.kind in ("demographic", "measurement"):
        return any(atom.kind == "number" for atom in said.atoms)
    return True


def _has_value(fact: Fact, said: Reading) -> bool:
    if fact.quantities:
        return any(atom.kind == "number" and atom.what == canonical(fact.quantities[0].printed) for atom in said.atoms)
    return all(Atom("name", name.casefold()) in said.atoms for name in fact.names)


def _is_whole_change(fact: Fact, said: Reading) -> bool:
    """Return whether both ends are given in their order, or the difference with its direction."""
    first, last = (canonical(quantity.printed) for quantity in fact.quantities[:2])
    difference = canonical(fact.quantities[2].printed) if len(fact.quantities) > 2 else None
    numbers = [atom for atom in said.atoms if atom.kind == "number"]
    direction = {"rose": "rose", "fell": "fell", "unchanged": "same"}[fact.direction or "unchanged"]
    by = [atom for atom in numbers if atom.role == "by"]
    ends = [atom.what for atom in numbers if atom.role != "by"]
    if any(atom.what != difference for atom in by) or any(atom.role == "from" and atom.what != first for atom in numbers):
        return False
    if any(atom.role == "to" and atom.what != last for atom in numbers):
        return False
    if not ends:
        return bool(by) and direction in said.classes
    if ends == [first, last]:
        return direction in said.classes or not said.classes & {"rose", "fell", "same"}
    return False


def _are_given(given: Sequence[Atom], said: Sequence[Atom]) -> bool:
    """Return whether each thing said is among the things given, no more often, and each number has its unit.

    A number may lack its unit when a later number of the sentence has one (`from 1.1 to 2.4 mg/dL`).
    """
    left = Counter((atom.kind, atom.what) for atom in given)
    for index, atom in enumerate(said):
        matches = [other for other in given if _agree(atom, other) and left[other.kind, other.what] > 0]
        if not matches:
            return False
        left[matches[0].kind, matches[0].what] -= 1
        has_later_unit = any(later.kind == "number" and later.unit for later in said[index + 1 :])
        if atom.kind == "number" and atom.unit is None and not has_later_unit and all(other.unit for other in matches):
            return False
    return True


def _is_in_order(given: Sequence[Atom], said: Sequence[Atom]) -> bool:
    """Return whether the things said stand in the order of the things given (a difference, `by 1.3`, may stand anywhere)."""
    remaining = iter([atom for atom in given if atom.role != "by"])
    return all(any(_agree(atom, other) for other in remaining) for atom in said if atom.role != "by")


def _agree(said: Atom, given: Atom) -> bool:
    if said.kind == "time" and given.kind == "time":
        return said.what == given.what or (said.what.startswith("date ") and given.what.startswith(f"{said.what} "))
    if said.kind == "number" and given.kind == "tally":
        return said.unit is None and given.what == said.what
    if said.kind != given.kind or said.what != given.what:
        return False
    return said.unit is None or said.unit == (given.unit or "")


def _are_paired(given: Sequence[Atom], said: Sequence[Atom]) -> bool:
    """Return whether a time right after a number is the time that follows that number in the fact."""
    pairs = [(one, two) for one, two in pairwise(given) if one.kind == "number" and two.kind == "time"]
    return not pairs or all(
        any(_agree(one, first) and _agree(two, second) for first, second in pairs)
        for one, two in pairwise(said)
        if one.kind == "number" and two.kind == "time" and one.role != "by"
    )
