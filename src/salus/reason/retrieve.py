"""Which facts a question asks for: words of the question matched with variables, names in the record, and kinds of fact.

Takes a record and any question; gives `Retrieved`: facts, most relevant first. Lexical throughout, so that the same question
always finds the same facts. Similar cases and outside knowledge are not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

from salus.reason import lookup
from salus.reason.asked import SURE, Asked, asked_of, has
from salus.reason.compound import Parts, parts_of
from salus.reason.facts import Fact, FactKind
from salus.reason.lists import WORDS, demographics, excerpts, listed, measurements, named
from salus.reason.matters import changes, matters
from salus.reason.mentions import PERSONAL, TOKEN, Span, keys_of, masked, spans_of, stem
from salus.reason.series import Series, series_of
from salus.record.patient import PatientRecord
from salus.record.variables import variables


@dataclass(frozen=True)
class Retrieved:
    """What was found for a question."""

    facts: tuple[Fact, ...]
    """Most relevant first, at most the budget."""
    asked: frozenset[FactKind]
    """Kinds that the words of the question ask for; empty when they leave it open."""
    subjects: tuple[str, ...]
    """Words for the variables or names that the question mentions, in its order."""
    is_matched: bool
    """False: the question names nothing that is known here, and the facts are the record's most salient ones."""
    certainty: float = 1.0
    """Probability that the question asks for `asked`, from its wording; 1 where that is no matter of wording."""
    owed: tuple[Fact, ...] = ()
    """Facts that the answer may not leave out: those of an overview, and of a question that asks for several things at once."""

    @property
    def sought(self) -> tuple[Fact, ...]:
        """Facts of the kinds and subjects asked for; all, where the wording leaves too much doubt."""
        if not self.asked or not self.subjects or self.certainty < LEAST_CERTAINTY:
            return self.facts
        told = self.asked | {"not_recorded"}
        wanted = (fact for fact in self.facts if fact.kind in told and (fact.kind != "demographic" or fact.subject in self.subjects))
        return _unique((*self.owed, *wanted)) or self.facts

    @property
    def is_overview(self) -> bool:
        """Whether the question asks for the record as a whole: what its facts are is then a rule's choice."""
        return self.is_matched and not self.subjects and bool(self.facts) and self.facts[0].kind != "excerpt"


SUMMARY = (
    r"(what|anything|something)\b.*\b(chang\w*|happen\w*|new)|changes?",
    r"what('s| is| has)? (changed|new|different)",
)
MATTERS = (
    r"matters?|important|summar\w*|overview|concern\w*|worr\w*|stands? out|key (facts|points)|attention",
    r"tell me about (the|this) patient",
)
CONTENT = (
    r"image|x-?ray|radiograph|film|scan|ct|mri?|slice|ecg|ekg|tracing|waveform|lead|rhythm",
    r"heart sounds?|sound|recording|murmur|phonocardiogram|stethoscope|audio|measure(d|ments?) (from|on|by)",
)
NOTE = (r"notes?|reports?|documents?|letters?|says?|said|mention(s|ed)?|written|wrote|narrative|impression|history|why|plan",)
LEAST_CERTAINTY = 0.5
"""Below this the language model is shown every kind of fact, and not only the kinds that the wording seems to ask for."""
MOST_NAMES = 3


def look_up(record: PatientRecord, question: str, *, budget: int = 10) -> Retrieved:
    """Return the facts of a record that a question asks for.

    A variable that is asked for and not in the record gives a `not_recorded` fact. A question that names nothing known gives the
    largest changes and what stands out.

    Args:
        record: cut at the prediction time.
        question: in English, any wording.
        budget: most facts to return.

    Raises:
        InputError: the question asks about an image, signal, sound or note whose file cannot be read.
    """
    series = series_of(record)
    words = question.strip()
    spans = spans_of(words, _record_words(series))
    mentioned, asked = _understood(words, spans)
    names = _named_facts(record, words)
    is_of_names = not asked.certainty >= SURE or {fact.kind for fact in names} & set(asked.lists) or not (asked.lists or asked.person)
    if mentioned and asked.is_of_variable and not (asked.person and set(mentioned) <= PERSONAL):
        found = _of_variables(record, series, words, mentioned, asked, names)
    elif names and is_of_names:
        found = Retrieved(names, frozenset(fact.kind for fact in names), tuple(fact.subject for fact in names), True)
    elif asked.person:
        found = replace(_about_person(record, asked.person), certainty=asked.certainty)
    elif asked.lists:
        lists = tuple(listed(record, kind) for kind in asked.lists)
        notes = excerpts(record, words) if has(words, *NOTE) else ()
        found = Retrieved((*lists, *notes), frozenset(asked.lists), tuple(fact.subject for fact in lists), True, asked.certainty)
    else:
        return _in_general(record, series, words, budget)
    parts = parts_of(words, spans, asked.kinds)
    others = _named_facts(record, masked(words, spans)) if names and parts.count > 1 else ()
    owed = _owed(record, series, parts, asked, found, others)
    kinds = found.asked | {fact.kind for fact in owed} if found.asked else found.asked
    return replace(found, facts=_unique((*owed, *found.facts))[:budget], asked=kinds, owed=owed)


def _owed(
    record: PatientRecord, series: Mapping[str, Series], parts: Parts, asked: Asked, found: Retrieved, names: Sequence[Fact]
) -> tuple[Fact, ...]:
    """Return the facts that the answer to several questions at once may not leave out; none where one thing is asked."""
    absent = {fact.series: fact for fact in found.facts if fact.kind == "not_recorded"}
    of_series: list[Fact | None] = []
    for kind, key in parts.pairs:
        if key in series and kind in _MAKERS:
            of_series.append(_MAKERS[kind](series[key]) or (lookup.change(series[key]) if kind == "trend" else None))
        else:
            of_series.append(absent.get(key))
    lists = (listed(record, kind) for kind in parts.lists if kind in asked.lists)
    subjects = [subject for subject in parts.person if subject in asked.person]
    person = _about_person(record, subjects).facts[: len(subjects)]
    owed = _unique((*of_series, *lists, *person, *names))
    return owed if len(owed) > 1 else ()


def _of_variables(
    record: PatientRecord, series: Mapping[str, Series], question: str, mentioned: Sequence[str], asked: Asked, names: Sequence[Fact]
) -> Retrieved:
    """Return facts for a question that names variables, and of the lists that it asks for beside."""
    facts, subjects = _about_variables(record, series, mentioned, asked.kinds)
    quoted = excerpts(record, question) if has(question, *NOTE) or all(fact.kind == "not_recorded" for fact in facts) else ()
    facts = (*quoted, *facts) if has(question, *NOTE) else (*facts, *quoted)
    if asked.lists:
        lists = tuple(listed(record, kind) for kind in asked.lists)
        facts, subjects = (*facts[:1], *lists, *facts[1:]), (*subjects, *(fact.subject for fact in lists))
    told = _answerable(asked.kinds | set(asked.lists), facts)
    told = told | {fact.kind for fact in names} if told else told
    return Retrieved((*names, *facts), told, subjects, True, asked.certainty)


def understood(question: str, own: Sequence[tuple[str, str]] = ()) -> tuple[tuple[str, ...], Asked]:
    """Return the keys of the variables that a question names, and what it asks for.

    Args:
        question: any text.
        own: further (words, key) pairs, as in `mentions`.
    """
    return _understood(question, spans_of(question, own))


def _understood(question: str, spans: Sequence[Span]) -> tuple[tuple[str, ...], Asked]:
    mentioned = keys_of(spans)
    return mentioned, asked_of(question, masked(question, spans), names_variable=bool(set(mentioned) - PERSONAL))


def _answerable(kinds: frozenset[FactKind], facts: Sequence[Fact]) -> frozenset[FactKind]:
    """Return the kinds asked for that the facts can answer; a trend of too few values is answered by the change."""
    made = {fact.kind for fact in facts}
    if "not_recorded" in made:
        return kinds
    if "trend" in kinds and "trend" not in made:
        kinds = kinds - {"trend"} | {"change"}
    return kinds & made


def _record_words(series: Mapping[str, Series]) -> tuple[tuple[str, str], ...]:
    """Return the words that the record itself has for its series, and all words of those whose key carries a unit."""
    own: dict[tuple[str, str], None] = {}
    for key, one in series.items():
        for spoken in dict.fromkeys((one.subject, *(point.item.code.display for point in one.points))):
            display = re.sub(r"\[[^]]*\]|\([^)]*\)", " ", spoken)
            phrases = [spoken, spoken.split("[")[0], display, display.split(" by ")[0]]
            if one.variable is None:
                phrases.append(phrases[-1].split(" in ")[0])
            own.update(((phrase.strip(), key), None) for phrase in phrases if phrase.strip())
        if one.variable is not None and key != one.variable.name:
            own.update(dict.fromkeys((alias, key) for alias in one.variable.aliases))
    return tuple(own)


_MAKERS: Mapping[FactKind, Callable[[Series], Fact | None]] = {
    "latest": lookup.latest, "change": lookup.change, "trend": lookup.trend, "out_of_range": lookup.out_of_range,
    "highest": lookup.highest, "lowest": lookup.lowest, "earliest": lookup.earliest, "count": lookup.count, "measured": lookup.measured,
}  # fmt: skip
"""Kind → function, in the order in which a question without a kind wants them."""


def _about_variables(
    record: PatientRecord, series: Mapping[str, Series], mentioned: Sequence[str], kinds: frozenset[FactKind]
) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Return the facts of the variables that a question names, interleaved, those of the kinds asked for first."""
    described = {fact.series: fact for fact in demographics(record)}
    displays = {variable.name: variable.display for variable in variables()}
    present = [key for key in mentioned if key in series or key in described]
    if present and len(mentioned) > 1:
        # one name for several variables (`blood pressure`) asks for those that there are
        shared = [key for key in mentioned if key not in present and not _is_alone(key, mentioned, displays)]
        mentioned = [key for key in mentioned if key not in shared]
    rows: list[tuple[Fact, ...]] = []
    for key in mentioned:
        if key in series:
            wanted = kinds | {"change"} if "trend" in kinds and len(series[key].timed) < lookup.LEAST_FOR_TREND else kinds
            order = sorted(_MAKERS, key=lambda kind, wanted=wanted: kind not in wanted)  # type: ignore[misc]
            rows.append(tuple(fact for kind in order if (fact := _MAKERS[kind](series[key])) is not None))
        elif key in described:
            rows.append((described[key],))
        else:
            rows.append((lookup.not_recorded(displays.get(key, key), key, is_yes_no="measured" in kinds),))
    interleaved = tuple(fact for layer in zip_longest(*rows) for fact in layer if fact is not None)
    return interleaved, tuple(row[0].subject for row in rows)


def _is_alone(key: str, mentioned: Sequence[str], displays: Mapping[str, str]) -> bool:
    """Return whether no other mentioned variable shares a name with this one."""
    by_name = {variable.name: variable for variable in variables()}
    if key not in by_name:
        return True
    mine = {alias.casefold() for alias in by_name[key].aliases}
    others = (by_name[other] for other in mentioned if other != key and other in by_name)
    return not any(mine & {alias.casefold() for alias in other.aliases} for other in others)


def _named_facts(record: PatientRecord, question: str) -> tuple[Fact, ...]:
    """Return facts about the medicines, conditions and the like whose name, or its first word, the question uses."""
    asked = {stem(token) for token in TOKEN.findall(question)}
    kind_of = {category: kind for kind, (category, _) in WORDS.items()}
    groups: dict[tuple[str, str], list[str]] = {}
    for item in record.items:
        kind = kind_of.get(item.category)
        if kind is None:
            continue
        tokens = [stem(token) for token in TOKEN.findall(item.code.display)]
        significant = [token for token in tokens if token.isalpha() and len(token) > 4 and token not in _UNSPECIFIC]
        if significant and (significant[0] in asked or (len(significant) > 1 and set(significant[:2]) <= asked)):
            groups.setdefault((kind, item.code.display.casefold()), []).append(item.id)
    facts = (named(record, item_ids, kind=kind) for (kind, _), item_ids in groups.items())  # type: ignore[arg-type]
    return tuple(facts)[: MOST_NAMES * 2]


_VAGUE = """
acute chronic history suspected primary allergic allergy disorder finding situation oral tablet solution injection
capsule product patient medication medicine condition problem measurement active current other total blood heart level
localized viral sodium potassium calcium magnesium chloride glucose lactate normal extended release hydrochloride
administration assessment evaluation encounter seasonal adult vaccine
"""
_UNSPECIFIC = frozenset(_VAGUE.split())


def _about_person(record: PatientRecord, person: Sequence[str]) -> Retrieved:
    facts = demographics(record)
    wanted = [fact for subject in person for fact in facts if fact.subject == subject]
    missing = [lookup.not_recorded(subject, subject) for subject in person if all(fact.subject != subject for fact in wanted)]
    rest = [fact for fact in facts if fact not in wanted]
    return Retrieved((*wanted, *missing, *rest), frozenset(("demographic",)), tuple(person), True)


def _in_general(record: PatientRecord, series: Mapping[str, Series], question: str, budget: int) -> Retrieved:
    """Return facts for a question about no variable: content, notes, what changed, what matters, or the most salient ones."""
    is_change, is_matter = has(question, *SUMMARY), has(question, *MATTERS)
    measured_facts = measurements(record) if has(question, *CONTENT) else ()
    quoted = excerpts(record, question) if has(question, *NOTE) or not (is_change or is_matter or measured_facts) else ()
    changed = changes(record, budget, series=series)
    standing = matters(record, budget, series=series)
    if is_change and not is_matter:
        general: tuple[Fact, ...] = (*changed, *standing)
    else:
        general = _unique(chain.from_iterable(zip_longest(changed, standing)))
    facts = _unique((*measured_facts, *quoted) if measured_facts else (*quoted, *general))[:budget]
    asked: frozenset[FactKind] = frozenset()
    if measured_facts:
        asked = frozenset(("measurement",))
    elif is_change and not is_matter and changed:
        asked = frozenset(("change",))
    is_matched = is_change or is_matter or bool(measured_facts) or bool(quoted)
    found = Retrieved(facts, asked, (), is_matched)
    return replace(found, owed=tuple(fact for fact in facts if fact.kind in asked or not asked)) if found.is_overview else found


def _unique(facts: Iterable[Fact | None]) -> tuple[Fact, ...]:
    return tuple(dict.fromkeys(fact for fact in facts if fact is not None))
