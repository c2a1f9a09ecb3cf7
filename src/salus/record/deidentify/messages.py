r"""De-identifies HL7 v2 messages: only fields that are known to hold no name are written anew, all others go.

Takes a file of messages; gives one without batch framing, in UTF-8 with the usual delimiters. Codes stay, dates move, texts are searched,
numbers of messages, orders and visits are replaced. A message that cannot be read fails the file.

Source: HL7 v2.5.1, chapters 2 (MSH, NTE), 3 (EVN, PID, PV1, AL1), 4 (ORC, RXE, RXO, RXR, RXA), 6 (DG1, PR1), 7 (OBR, OBX, SPM).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from salus.errors import InputError
from salus.record.deidentify.dates import later
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.text import clean, left_over
from salus.record.deidentify.work import Done, Person, Work, in_words
from salus.record.read.hl7v2_message import Message, Segment, read_messages

FIELDS: Mapping[str, Mapping[int, str]] = {
    "EVN": {1: "flag", 2: "time"},
    "PID": {1: "flag", 3: "patient", 7: "birth", 8: "flag", 10: "code", 22: "code", 29: "time", 30: "flag"},
    "PV1": {1: "flag", 2: "flag", 4: "flag", 10: "flag", 14: "flag", 19: "id", 36: "flag", 44: "time", 45: "time"},
    "AL1": {1: "flag", 2: "code", 3: "code", 4: "code", 5: "text", 6: "time"},
    "DG1": {1: "flag", 2: "flag", 3: "code", 4: "text", 5: "time", 6: "flag"},
    "PR1": {1: "flag", 3: "code", 5: "time"},
    "ORC": {1: "flag", 2: "id", 3: "id", 5: "flag", 9: "time"},
    "OBR": {1: "flag", 2: "id", 3: "id", 4: "code", 7: "time", 8: "time", 14: "time", 22: "time", 24: "flag", 25: "flag"},
    "OBX": {1: "flag", 2: "flag", 3: "code", 4: "flag", 5: "value", 6: "code", 7: "text", 8: "flag", 11: "flag", 14: "time", 19: "time"},
    "NTE": {1: "flag", 2: "flag", 3: "text"},
    "SPM": {1: "flag", 4: "code", 17: "time"},
    "RXO": {1: "code", 2: "number", 3: "number", 4: "code"},
    "RXE": {2: "code", 3: "number", 4: "number", 5: "code"},
    "RXR": {1: "code", 2: "code"},
    "RXA": {1: "flag", 2: "flag", 3: "time", 4: "time", 5: "code", 6: "number", 7: "code", 20: "flag", 21: "flag"},
}
"""Segment → field that is written → what it holds. Every other field and segment goes: an address, a doctor, a next of kin."""
STAFF = {"EVN": (5,), "PV1": (7, 8, 9, 17), "ORC": (10, 11, 12), "OBR": (10, 16, 32), "OBX": (16,), "DG1": (16,)}
"""Segment → fields of people who treat the patient (XCN); their names are searched for in texts."""
VALUES = {
    "NM": "number", "SN": "number", "CE": "code", "CWE": "code", "CNE": "code", "CF": "code", "IS": "flag", "ID": "flag",
    "ST": "text", "TX": "text", "FT": "text", "DT": "time", "TS": "time", "DTM": "time",
}  # fmt: skip
"""Type of OBX-5 (OBX-2) → what it holds; of any other type the value goes."""
FLAG = re.compile(r"[A-Za-z0-9]{0,10}", re.ASCII)
CODE = re.compile(r"[A-Za-z0-9._/%\[\]{} -]{0,30}", re.ASCII)
NUMBER = re.compile(r"[<>=]{0,2}\^?[+-]?\d*\.?\d*(?:\^[-+:/]\^?\d*\.?\d*)?", re.ASCII)
TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d{0,6}(?:\.\d+)?)([+-]\d{4})?", re.ASCII)
ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "", "\n": "\\.br\\"}
OLDEST = 89


def survey_hl7(path: Path) -> tuple[Person, ...]:
    """Return whom the PID segments name.

    Raises:
        FormatError: a segment or message is over the reader's limit.

    Source: HL7 v2.5.1 section 3.4.2.
    """
    people = []
    for message in read_messages(path):
        for segment in message.segments:
            if segment.name == "PID":
                people.append(_person(segment))
            written = [segment.components(each) for number in STAFF.get(segment.name, ()) for each in segment.repetitions(number)]
            kin = [segment.components(each) for each in segment.repetitions(2)] if segment.name == "NK1" else []
            names = {" ".join((given, family)) for _, family, given in (each[:3] for each in written if len(each) > 2) if family}
            names |= {" ".join((each[1] if len(each) > 1 else "", each[0])).strip() for each in kin}
            if names - {""}:
                people.append(Person("", {Kind.NAME: frozenset(names - {""})}))
    return tuple(people)


def _person(segment: Segment) -> Person:
    numbers = _numbers(segment)
    born = re.match(r"(\d{4})(\d{2})(\d{2})", segment.raw(7))
    names = [segment.components(each) for number in (5, 6, 9) for each in segment.repetitions(number)]
    places = [part for each in segment.repetitions(11) for part in segment.components(each)[:5]]
    values = {
        Kind.RECORD: frozenset(numbers),
        Kind.NAME: frozenset(" ".join(part for part in name[:3] if part) for name in names) - {""},
        Kind.DATE: frozenset({"-".join(born.groups())} if born else ()),
        Kind.PLACE: frozenset(places) - {""},
        Kind.PHONE: frozenset(segment.components(each)[0] for number in (13, 14) for each in segment.repetitions(number)) - {""},
    }
    return Person(numbers[0] if numbers else "", values)


def _numbers(segment: Segment) -> list[str]:
    found = [segment.components(each)[0] for number in (3, 2, 4, 18, 19) for each in segment.repetitions(number)]
    return list(dict.fromkeys(each for each in found if each))


def deidentify_hl7(path: Path, target: Path, work: Work) -> Done:
    """Write the messages without what says who the patient is.

    Raises:
        InputError: a message cannot be read.
    """
    counts: Counter[tuple[str, str]] = Counter()
    with target.open("w", encoding="utf-8", newline="") as stream:
        for message in _readable(path):
            stream.write("".join(line + "\r" for line in _written(message, work, counts)))
    return Done((target,), counts)


def _readable(path: Path) -> Iterator[Message]:
    for message in read_messages(path):
        if message.refusal:
            raise InputError(f"Cannot de-identify '{path.name}': message {message.number}: {message.refusal}. Send it again.")
        yield message


def _written(message: Message, work: Work, counts: Counter[tuple[str, str]]) -> list[str]:
    """Return the segments of a message as they are delivered."""
    person = next((segment for segment in message.segments if segment.name == "PID"), None)
    numbers = _numbers(person) if person else []
    own = work.of(numbers[0]) if numbers else work
    lines = [_header(message.header, own, counts)]
    for segment in message.segments[1:]:
        kinds = FIELDS.get(segment.name)
        if kinds is None:
            counts["segment", "removed"] += 1
            continue
        fields = [""] * max(kinds)
        for number in range(1, len(segment.parts) + 1):
            if not segment.raw(number):
                continue
            kind = kinds.get(number, "")
            kind = VALUES.get(segment.raw(2), "") if kind == "value" else kind
            made = dict.fromkeys(_field(segment, each, kind, own, counts) for each in segment.repetitions(number))
            new = "~".join(each for each in made if each)
            counts["field", "removed"] += not new
            if number in kinds:
                fields[number - 1] = new
        lines.append("|".join((segment.name, *fields)).rstrip("|"))
    return lines


def _header(header: Segment, work: Work, counts: Counter[tuple[str, str]]) -> str:
    fields = [""] * 18
    fields[6] = _moved(header.raw(7), work, counts)
    fields[8] = "^".join(part if FLAG.fullmatch(part) else "" for part in header.raw(9).split(header.delimiters.component)[:2])
    fields[9] = work.key.code("hl7", header.raw(10))
    fields[10] = header.raw(11) if FLAG.fullmatch(header.raw(11)) else ""
    fields[11] = header.text(12) if NUMBER.fullmatch(header.text(12).replace(".", "")) else ""
    fields[17] = "UNICODE UTF-8"
    counts["header", "replaced"] += 1
    return "MSH|^~\\&|" + "|".join(fields[2:])


def _field(segment: Segment, written: str, kind: str, work: Work, counts: Counter[tuple[str, str]]) -> str:
    """Return one repetition of a field as it is delivered; empty when it goes."""
    whole = "^".join(segment.components(written))
    if kind == "flag":
        return whole if FLAG.fullmatch(whole) else ""
    if kind == "number":
        return whole if NUMBER.fullmatch(whole) else ""
    if kind == "time":
        return _moved(whole.split("^")[0], work, counts)
    if kind == "birth":
        return _born(whole.split("^")[0], counts)
    if kind == "patient":
        counts["record-number", "replaced"] += 1
        return work.pseudonym
    if kind == "id":
        counts["id", "replaced"] += 1
        return work.key.code("hl7", whole.split("^")[0])
    if kind == "code":
        return "^".join(_coded(place, part, work, counts) for place, part in enumerate(segment.components(written)[:6])).rstrip("^")
    return _searched(" ".join(segment.components(written)), work, counts) if kind == "text" else ""


def _coded(place: int, part: str, work: Work, counts: Counter[tuple[str, str]]) -> str:
    """Return one component of a coded element (code, words, system, and once more): words are searched, the others are codes or go."""
    if place % 3 == 1:
        return _searched(part, work, counts)
    is_known = any(True for _ in work.known_recogniser.find(part))
    return part if CODE.fullmatch(part) and not is_known else ""


def _searched(text: str, work: Work, counts: Counter[tuple[str, str]]) -> str:
    cleaned = clean(text, work.person)
    counts.update(cleaned.counts)
    return "".join(ESCAPES.get(char, char) for char in cleaned.text)


def _moved(written: str, work: Work, counts: Counter[tuple[str, str]]) -> str:
    """Return a time moved by the patient's days, as precise as it was; a year alone stays."""
    found = TIME.fullmatch(written)
    if found is None:
        return ""
    year, month, day, rest, zone = found.groups()
    try:
        at = later(date(int(year), int(month or 1), int(day or 1)), work.key.days(work.subject))
    except ValueError:
        return ""
    counts["date", "moved"] += month is not None
    if month is None:
        return year
    return f"{at:%Y%m}" if day is None else f"{at:%Y%m%d}{rest}{zone or ''}"


def _born(written: str, counts: Counter[tuple[str, str]]) -> str:
    """Return the year of birth; empty when the patient may be over 89."""
    found = re.match(r"\d{4}", written)
    counts["date", "year kept"] += found is not None
    return found[0] if found and date.today().year - int(found[0]) <= OLDEST else ""  # noqa: DTZ011  (a year)


def check_hl7(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why messages may not be delivered: a field is not what it should be, or an identifier is left in a text."""
    left: Counter[str] = Counter()
    pairs = zip(_readable(path), _readable(target), strict=True)
    for old, new in pairs:
        person = next((segment for segment in old.segments if segment.name == "PID"), None)
        numbers = _numbers(person) if person else []
        own = work.of(numbers[0]) if numbers else work
        for segment in new.segments[1:]:
            kinds = FIELDS.get(segment.name, {})
            left["field"] += sum(bool(part) and number not in kinds for number, part in enumerate(segment.parts, start=1))
            if segment.name == "PID":
                left["record-number"] += segment.raw(3) not in ("", own.pseudonym)
                left["birth date"] += len(segment.raw(7)) > 4
        left["header"] += any(new.header.raw(number) for number in (3, 4, 5, 6, 8))
        texts = [_texts(each) for each in (old, new)]
        left.update(left_over(texts[0], texts[1], own.person))
    return in_words(left)


def _texts(message: Message) -> str:
    """Return what fields of codes and texts hold, for the search of what is left."""
    found = []
    for segment in message.segments[1:]:
        for number, kind in FIELDS.get(segment.name, {}).items():
            kind = VALUES.get(segment.raw(2), "") if kind == "value" else kind
            if kind == "text":
                found += [" ".join(segment.components(each)) for each in segment.repetitions(number)]
            elif kind == "code":
                found += [part for each in segment.repetitions(number) for part in segment.components(each)[1:6:3]]
    return "\n".join(found)
