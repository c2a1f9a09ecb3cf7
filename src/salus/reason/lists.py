"""Facts that are lists (medicines, conditions, allergies, …), describe the person, quote a note, or were measured by rule.

Takes a `PatientRecord` that is already cut at its prediction time; gives `Fact` objects. What is active is decided by status
and end alone. Text of notes is quoted, never interpreted. Only `measurements` and `excerpts` load content.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from salus import registry
from salus.encode.modality import Measurement
from salus.reason.facts import Fact, FactKind, Quantity
from salus.reason.series import at, brief, printed_number, with_unit
from salus.record.claims import UNCLAIMED
from salus.record.normalise import is_usable
from salus.record.patient import Instant, Item, Offset, PatientRecord
from salus.record.timeline import clock
from salus.record.variables import key_of, series_key

ACTIVE = frozenset(("active", "in-progress", "recurrence", "relapse"))
WITHDRAWN = frozenset(("entered-in-error", "refuted", "not-done", "cancelled", "draft"))
AGE_KEYS = ("icu2012:age", "loinc:30525-0", "column:age")
BIRTH_KEY = "loinc:21112-8"
SEX_CODES = frozenset(("loinc:76689-9", "loinc:46098-0", "loinc:72143-1", "loinc:21840-4", "icu2012:gender", "column:sex", "column:gender"))
MOST_LISTED = 12
"""Names that one fact prints; more are counted, and cited, but not named."""
DAYS_A_YEAR = 365.2425
LONGEST_EXCERPT = 300
"""Characters of a sentence that is quoted; the rest is cut at a word, marked by an ellipsis."""

WORDS: dict[FactKind, tuple[str, str]] = {
    "active_medicines": ("medication", "active medicines"),
    "active_conditions": ("condition", "active conditions"),
    "allergies": ("allergy", "allergies"),
    "procedures": ("procedure", "procedures"),
    "immunizations": ("immunization", "immunizations"),
}
"""Kind of list → category of its items, words for people."""


def listed(record: PatientRecord, kind: FactKind) -> Fact:
    """Return the list of one kind, each name once, latest first; an empty list says that none is recorded.

    Medicines, conditions and allergies count while their status is active and no end is known; without a status they are named
    apart. Procedures and immunizations count unless they were not done.

    Raises:
        KeyError: the kind is not a list.
    """
    category, subject = WORDS[kind]
    seconds = clock(record)
    items = sorted((item for item in record.items if item.category == category), key=lambda item: -seconds.get(item.id, -math.inf))
    is_ongoing = kind in ("active_medicines", "active_conditions", "allergies")
    wanted = [item for item in items if (is_active(item) if is_ongoing else item.status not in WITHDRAWN)]
    known = {_name(item).casefold() for item in wanted}
    unclear = [
        item for item in items if is_ongoing and item.status is None and item.ended_at is None and _name(item).casefold() not in known
    ]
    if not wanted and not unclear:
        none = f"no {subject}" if kind != "allergies" else "no allergies"
        return Fact(kind, subject, category, f"{none.capitalize()} are recorded.", "none recorded", ())
    names, apart = _names(wanted), _names(unclear)
    printed = [_dated(wanted, name) for name in names] if not is_ongoing else list(names)
    text = f"{subject.capitalize()} ({len(names)}): {_joined(printed)}." if names else f"No {subject} with a known status are recorded."
    if apart:
        text += f" Status not known: {_joined(apart)}."
    return Fact(
        kind=kind,
        subject=subject,
        series=category,
        text=text,
        short="; ".join((*names, *apart)),
        item_ids=tuple(item.id for item in (*wanted, *unclear)),
        quantities=(Quantity(str(len(names)), len(names), "1"),) if names else (),
        times=tuple(dict.fromkeys(brief(item.observed_at) for item in wanted if item.observed_at)) if not is_ongoing else (),
        names=(*names[:MOST_LISTED], *apart[:MOST_LISTED]),
        salience={"active_conditions": 0.5, "active_medicines": 0.4, "allergies": 0.3}.get(kind, 0.1),
    )


def is_active(item: Item) -> bool:
    """Return whether a medicine, condition or allergy is active: its status says so and no end is known.

    Example:
        >>> from salus.record.patient import Code, Source
        >>> asthma = Item("a", "ehr", Code("s", "1", "Asthma"), Source("f", ""), category="condition", status="active")
        >>> is_active(asthma)
        True
    """
    return item.status in ACTIVE and item.ended_at is None


def named(record: PatientRecord, item_ids: Sequence[str], *, kind: FactKind) -> Fact:
    """Return the fact about one medicine, condition, allergy, procedure or immunization: whether it is active, and since when.

    Args:
        record: the patient's record.
        item_ids: items of one name, at least one.
        kind: the list that they belong to.
    """
    seconds = clock(record)
    by_id = record.by_id()
    items = sorted((by_id[item_id] for item_id in item_ids), key=lambda item: seconds.get(item.id, -math.inf))
    name, ongoing = _name(items[-1]), [item for item in items if is_active(item)]
    since = (ongoing or items)[0]
    if kind in ("procedures", "immunizations"):
        text, short = f"Yes, {name} was recorded {at(items[-1].observed_at)}.", "yes"
        since = items[-1]
    elif ongoing:
        text, short = f"Yes, {name} is active, recorded {at(since.observed_at)}.", "yes"
    elif items[-1].status is None and items[-1].ended_at is None:
        text, short = f"{name} is recorded {at(since.observed_at)}, its status is not known.", "not known"
    else:
        since = items[-1]
        word = items[-1].status if items[-1].status not in ACTIVE else "ended"
        text, short = f"No, {name} is not active: {word}, recorded {at(since.observed_at)}.", "no"
    return Fact(
        kind=kind,
        subject=name,
        series=key_of(items[-1].code),
        text=text,
        short=short,
        item_ids=tuple(item.id for item in items),
        times=(brief(since.observed_at),),
        names=(name,),
    )


def demographics(record: PatientRecord) -> tuple[Fact, ...]:
    """Return age, sex and whatever else describes the person, one fact each.

    Age is stated by the record, or computed from the birth date at the latest calendar time in the record; from a birth year
    alone it is the difference of the years, said as `about`.
    """
    facts = []
    for item in record.items:
        key = key_of(item.code)
        if item.value is None or key == BIRTH_KEY or not is_usable(item):
            continue
        if item.category == "demographic" or key in AGE_KEYS or key in SEX_CODES:
            facts.append(_described(item, key))
    if not any(fact.subject == "age" for fact in facts):
        facts.extend(_age_from_birth(record))
    return tuple(facts)


def _described(item: Item, key: str) -> Fact:
    subject = "age" if key in AGE_KEYS else "sex" if key in SEX_CODES else item.code.display
    number = item.number
    value = with_unit(printed_number(number), item.unit or "1") if number is not None else str(item.value)
    return Fact(
        kind="demographic",
        subject=subject,
        series=series_key(item),
        text=f"{subject[:1].upper()}{subject[1:]}: {value}.",
        short=value,
        item_ids=(item.id,),
        quantities=(Quantity(printed_number(number), number, item.unit or "1"),) if number is not None else (),
        names=() if number is not None else (value,),
    )


def _age_from_birth(record: PatientRecord) -> tuple[Fact, ...]:
    births = [item for item in record.items if key_of(item.code) == BIRTH_KEY and isinstance(item.observed_at, Instant)]
    times = [
        (item.observed_at.at, item.id) for item in record.items if item.category != "demographic" and isinstance(item.observed_at, Instant)
    ]
    if not births or not times:
        return ()
    born = births[0].observed_at
    assert isinstance(born, Instant)
    now, last_id = max(times)
    if born.precision == "year":
        years, about = now.year - born.at.year, "about "
    else:
        years, about = now.year - born.at.year - ((now.month, now.day) < (born.at.month, born.at.day)), ""
        about = "about " if born.precision == "month" and now.month == born.at.month else about
    if years < 0:
        return ()
    value = f"{about}{years} years"
    return (
        Fact(
            kind="demographic",
            subject="age",
            series="age",
            text=f"Age: {value}, at the latest time in the record.",
            short=value,
            item_ids=(births[0].id, last_id),
            quantities=(Quantity(str(years), years, "a"),),
        ),
    )


MEASURED_DIGITS = 3
"""Significant digits of a number that a rule measured from content."""


def measured_by_item(record: PatientRecord) -> dict[str, tuple[Measurement, ...]]:
    """Return item id → the numbers that its modality's plug-in measures from its content by a stated rule; loads the content.

    Raises:
        InputError: the content of an item cannot be read.
    """
    found: dict[str, tuple[Measurement, ...]] = {}
    for item in record.items:
        if item.content is None or item.modality == UNCLAIMED or item.modality not in registry.names("salus.modalities"):
            continue
        measure = registry.load("salus.modalities", item.modality).measure
        if measure is not None:
            found[item.id] = tuple(measure(item))
    return found


def measurements(record: PatientRecord) -> tuple[Fact, ...]:
    """Return facts of the numbers that modality plug-ins measure from content by a stated rule; loads the content.

    Raises:
        InputError: the content of an item cannot be read.
    """
    facts = []
    by_id = record.by_id()
    for item_id, measured in measured_by_item(record).items():
        item = by_id[item_id]
        for found in measured:
            number = float(f"{found.value:.{MEASURED_DIGITS}g}") if abs(found.value) < 10**MEASURED_DIGITS else float(round(found.value))
            value = with_unit(printed_number(number), found.unit)
            facts.append(
                Fact(
                    kind="measurement",
                    subject=found.name,
                    series=item.modality,
                    text=f"{found.name[:1].upper()}{found.name[1:]}: {value}, measured by rule.",
                    short=value,
                    item_ids=(item.id,),
                    quantities=(Quantity(printed_number(number), number, found.unit),),
                    source=found.rule,
                )
            )
    return tuple(facts)


_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])|\n+")
_WORD = re.compile(r"[^\W_]+")
_COMMON_WORDS = """
a an and any are as at be been by did do does for from had has have how in is it its me of on or patient patients show
tell that the there this to was were what when which who with about note notes say says record report
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def excerpts(record: PatientRecord, question: str, *, top: int = 2) -> tuple[Fact, ...]:
    """Return the sentences of notes that best match a question, quoted; loads the text.

    Score: over the words that question and sentence share, the sum of log(1 + sentences / sentences with the word); common
    words do not count. A sentence that shares no word is never returned.

    Raises:
        InputError: a note cannot be read.
    """
    asked = set(_stems(question))
    found: list[tuple[str, Item, set[str]]] = []
    for item in record.items:
        if item.content is not None and item.content.kind == "text":
            text = item.content.load()
        elif item.category in ("note", "report", "transcript") and isinstance(item.value, str):
            text = item.value
        else:
            continue
        if isinstance(text, str):
            found.extend((part.strip(), item, set(_stems(part))) for part in _SENTENCE.split(text) if part.strip())
    having = Counter(word for _, _, words in found for word in words & asked)
    scored = [(sum(math.log1p(len(found) / having[word]) for word in words & asked), part, item) for part, item, words in found]
    best = sorted((row for row in scored if row[0] > 0), key=lambda row: -row[0])[:top]
    return tuple(_excerpt(part, item, score) for score, part, item in best)


def _excerpt(sentence: str, item: Item, score: float) -> Fact:
    quoted = sentence
    if len(sentence) > LONGEST_EXCERPT:
        quoted = f"{sentence[:LONGEST_EXCERPT].rsplit(' ', 1)[0]}…"
    when = f" {at(item.observed_at)}" if item.observed_at else ""
    return Fact(
        kind="excerpt",
        subject=item.code.display or "note",
        series=key_of(item.code),
        text=f"{'Machine transcript' if item.category == 'transcript' else 'Note'}{when}: “{quoted}”",
        short=quoted,
        item_ids=(item.id,),
        times=(brief(item.observed_at),) if item.observed_at else (),
        salience=score / 100,
    )


def _stems(text: str) -> list[str]:
    words = [word.casefold() for word in _WORD.findall(text)]
    return [word.removesuffix("s") if len(word) > 3 else word for word in words if word not in _COMMON]


def _name(item: Item) -> str:
    return item.code.display.strip() or item.code.code


def _names(items: Sequence[Item]) -> tuple[str, ...]:
    unique: dict[str, str] = {}
    for item in items:
        unique.setdefault(_name(item).casefold(), _name(item))
    return tuple(unique.values())


def _dated(items: Sequence[Item], name: str) -> str:
    time = next(item.observed_at for item in items if _name(item) == name)
    if time is None:
        return name
    return f"{name} {at(time) if not isinstance(time, Offset) else f'at {brief(time)}'}"


def _joined(names: Sequence[str]) -> str:
    rest = len(names) - MOST_LISTED
    return "; ".join(names[:MOST_LISTED]) + (f"; and {rest} more" if rest > 0 else "")
