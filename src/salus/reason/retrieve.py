"""Which facts a question asks for: words of the question matched with variables, names in the record, and kinds of fact.

Takes a record and any question; gives `Retrieved`: facts, most relevant first. Lexical throughout, so that the same question
always finds the same facts. Similar cases and outside knowledge are not here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, zip_longest

from salus.reason import lookup
from salus.reason.asked import Asked, asked_of, has
from salus.reason.facts import Fact, FactKind
from salus.reason.lists import WORDS, demographics, excerpts, listed, measurements, named
from salus.reason.matters import changes, matters
from salus.reason.series import Series, series_of
from salus.record.patient import PatientRecord
from salus.record.variables import Variable, variables


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

    @property
    def sought(self) -> tuple[Fact, ...]:
        """Facts of the kinds and subjects asked for; all, where the wording leaves too much doubt."""
        if not self.asked or not self.subjects or self.certainty < LEAST_CERTAINTY:
            return self.facts
        told = self.asked | {"not_recorded"}
        wanted = (fact for fact in self.facts if fact.kind in told and (fact.kind != "demographic" or fact.subject in self.subjects))
        return tuple(wanted) or self.facts

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
SHORT_ALIAS = 2
"""An alias of at most this many letters (K, Na, BP) counts only as it is written."""
TYPO_LETTERS = 6
TYPO_RATIO = 0.86
_LISTED = re.compile(r"\{v\}(?:(?:\s*,\s*|\s+(?:and|or)\s+|\s*/\s*)(?:the\s+)?\{v\})+")
_TOKEN = re.compile(r"[^\W_]+(?:[/'’][^\W_]+)*")


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
    mentioned, asked = understood(words, _record_words(series))
    lists_asked, kinds = asked.lists, asked.kinds
    names = _named_facts(record, words)
    if mentioned and not (asked.person and set(mentioned) <= _PERSONAL):
        facts, subjects = _about_variables(record, series, mentioned, kinds)
        quoted = excerpts(record, words) if has(words, *NOTE) or all(fact.kind == "not_recorded" for fact in facts) else ()
        facts = (*quoted, *facts) if has(words, *NOTE) else (*facts, *quoted)
        if lists_asked:
            lists = tuple(listed(record, kind) for kind in lists_asked)
            facts, subjects = (*facts[:1], *lists, *facts[1:]), (*subjects, *(fact.subject for fact in lists))
        told = _answerable(kinds | set(lists_asked), facts)
        told = told | {fact.kind for fact in names} if told else told
        return Retrieved((*names, *facts)[:budget], told, subjects, True, asked.certainty)
    if names:
        return Retrieved(names[:budget], frozenset(fact.kind for fact in names), tuple(fact.subject for fact in names), True)
    if asked.person:
        return replace(_about_person(record, asked.person, budget), certainty=asked.certainty)
    if lists_asked:
        lists = tuple(listed(record, kind) for kind in lists_asked)
        notes = excerpts(record, words) if has(words, *NOTE) else ()
        return Retrieved((*lists, *notes)[:budget], frozenset(lists_asked), tuple(fact.subject for fact in lists), True, asked.certainty)
    return _in_general(record, series, words, budget)


def understood(question: str, own: Sequence[tuple[str, str]] = ()) -> tuple[tuple[str, ...], Asked]:
    """Return the keys of the variables that a question names, and what it asks for.

    Args:
        question: any text.
        own: further (words, key) pairs, as in `mentions`.
    """
    spans = _spans(question, own)
    mentioned = _keys(spans)
    return mentioned, asked_of(question, _masked(question, spans), names_variable=bool(set(mentioned) - _PERSONAL))


def _answerable(kinds: frozenset[FactKind], facts: Sequence[Fact]) -> frozenset[FactKind]:
    """Return the kinds asked for that the facts can answer; a trend of too few values is answered by the change."""
    made = {fact.kind for fact in facts}
    if "not_recorded" in made:
        return kinds
    if "trend" in kinds and "trend" not in made:
        kinds = kinds - {"trend"} | {"change"}
    return kinds & made


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
        tokens = tuple(_TOKEN.findall(phrase))
        if tokens:
            is_short = len(phrase) <= SHORT_ALIAS
            table.setdefault(tokens if is_short else tuple(map(_stem, tokens)), {})[key] = None
    displays = {variable.name: variable.display for variable in declared}
    return {tokens: tuple(sorted(keys, key=lambda key: len(displays.get(key, "")))) for tokens, keys in table.items()}


def _stem(token: str) -> str:
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
    return _keys(_spans(question, own))


@dataclass(frozen=True)
class _Span:
    """Where a question names variables, in letters, and their keys."""

    start: int
    end: int
    keys: tuple[str, ...]


_PERSONAL = frozenset(("age",))
"""Keys that are a kind of question as well as a variable."""


def _spans(question: str, own: Sequence[tuple[str, str]]) -> list[_Span]:
    table = _lexicon(variables(), tuple(own))
    longest = max(map(len, table), default=0)
    matches = list(_TOKEN.finditer(question))
    raw = [match.group() for match in matches]
    vocabulary = _vocabulary(tuple(table))
    stems = [_mended(_stem(token), vocabulary) for token in raw]
    found: list[_Span] = []
    start = 0
    while start < len(raw):
        for end in range(min(len(raw), start + longest), start, -1):
            keys = table.get(tuple(stems[start:end])) or table.get(tuple(raw[start:end]))
            if keys:
                found.append(_Span(matches[start].start(), matches[end - 1].end(), keys))
                start = end
                break
        else:
            start += 1
    return found


def _keys(spans: Sequence[_Span]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(span.keys for span in spans)))


def _masked(question: str, spans: Sequence[_Span]) -> str:
    """Return the question with `{v}` in place of each variable, or list of variables, that it names."""
    parts, at = [], 0
    for span in spans:
        if not set(span.keys) <= _PERSONAL:
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


def _record_words(series: Mapping[str, Series]) -> tuple[tuple[str, str], ...]:
    """Return words of series that no modality declares, and of those whose key carries a unit."""
    own: dict[tuple[str, str], None] = {}
    for key, one in series.items():
        if one.variable is None:
            display = re.sub(r"\[[^]]*\]|\([^)]*\)", " ", one.subject)
            for phrase in (one.subject, display, display.split(" by ")[0].split(" in ")[0]):
                if phrase.strip():
                    own[phrase.strip(), key] = None
        elif key != one.variable.name:
            own.update(dict.fromkeys((phrase, key) for phrase in (one.subject, *one.variable.aliases)))
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
    asked = {_stem(token) for token in _TOKEN.findall(question)}
    kind_of = {category: kind for kind, (category, _) in WORDS.items()}
    groups: dict[tuple[str, str], list[str]] = {}
    for item in record.items:
        kind = kind_of.get(item.category)
        if kind is None:
            continue
        tokens = [_stem(token) for token in _TOKEN.findall(item.code.display)]
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


def _about_person(record: PatientRecord, person: Sequence[str], budget: int) -> Retrieved:
    facts = demographics(record)
    wanted = [fact for subject in person for fact in facts if fact.subject == subject]
    missing = [lookup.not_recorded(subject, subject) for subject in person if all(fact.subject != subject for fact in wanted)]
    rest = [fact for fact in facts if fact not in wanted]
    return Retrieved((*wanted, *missing, *rest)[:budget], frozenset(("demographic",)), tuple(person), True)


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
    return Retrieved(facts, asked, (), is_matched)


def _unique(facts: Iterable[Fact | None]) -> tuple[Fact, ...]:
    return tuple(dict.fromkeys(fact for fact in facts if fact is not None))
