"""Reader of HL7 v2 messages (ER7): ADT, ORU, ORM, OML, MDM, VXU, RDE and alarms (ORU^R40), single, in batches, or framed by MLLP.

Takes a file; gives items by patient. A segment that is not read is listed with its count, a message with its place and reason. Of what
names the patient only the identifier of PID-3 is kept, as their key. What messages repeat (the person, the visit) is read once.

Source: HL7 v2.3 to v2.5.1, chapters 2, 3, 4, 6 and 7.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.patient import Instant, Item, Skipped, Source, item_id
from salus.record.read.fhir_observation import Draft
from salus.record.read.hl7v2_fields import clock_of, time_of
from salus.record.read.hl7v2_message import Message, Segment, promised_messages, read_messages, starts_message
from salus.record.read.hl7v2_results import Alarm, Order, is_alarm, joined_alarms, map_alarm, map_order
from salus.record.read.hl7v2_segments import CANCELLED_VISITS, MAPPINGS, Circumstances
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty

MESSAGES_LIMIT = 200_000
"""Most messages of one file; a longer feed is split first."""
_FRAME = frozenset({"MSH", "EVN", "ORC", "OBR", "OBX", "NTE", "SFT", "TQ1", "TXA"})
"""Segments that are read for what they say about others."""
_NOBODY = "names no patient (PID-3), and another message of the file does"


@dataclass
class _Patient:
    """What the messages so far gave about one patient."""

    items: list[Item] = field(default_factory=list)
    person: dict[tuple[str, str], Item] = field(default_factory=dict)
    visits: dict[str, Item] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    stays: dict[str, datetime] = field(default_factory=dict)


@dataclass
class _Feed:
    """One file while it is read."""

    path: Path
    sha256: str
    options: ReadOptions
    patients: dict[str | None, _Patient] = field(default_factory=dict)
    authorities: dict[str, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def refuse(self, kind: str, place: str, reason: str) -> None:
        """Note that a message or segment was not read."""
        self.refused.setdefault((kind, reason), []).append(place)

    def item(self, segment: Segment, draft: Draft, remarks: tuple[str, ...] = ()) -> Item:
        """Return a draft as an item of this file."""
        place = segment.place + draft.within
        return Item(
            id=item_id(self.sha256, place),
            modality=modality_of(*draft.keys),
            code=draft.code,
            source=Source(str(self.path), self.sha256, place),
            observed_at=draft.observed_at,
            ended_at=draft.ended_at,
            value=draft.value,
            unit=draft.unit,
            content=draft.content,
            status=draft.status,
            category=draft.category,
            reference_range=draft.reference_range,
            remarks=draft.remarks + remarks,
        )


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the items of every patient in the file.

    Raises:
        FormatError: the file is empty, holds no message, or one over the limits.
        InputError: it cannot be opened, or holds more than `MESSAGES_LIMIT` messages.
    """
    refuse_empty(path)
    feed = _Feed(path, file_sha256(path), options)
    count = 0
    for message in read_messages(path):
        count += 1
        if count > MESSAGES_LIMIT:
            raise InputError(f"Cannot read HL7 v2 '{path.name}': it holds more than {MESSAGES_LIMIT} messages. Split the file.")
        if message.refusal is not None:
            feed.refuse("message", f"message {message.number}", message.refusal)
            continue
        _read_message(message, feed)
    if count == 0:
        raise FormatError(f"Cannot read HL7 v2 '{path.name}': it holds no message (MSH). Export it again.")
    promised = promised_messages(path)
    if promised is not None and promised != count:
        feed.refuse("batch", "its trailer", f"promises {promised} messages (BTS-1), and {count} are there")
    return FileRead(tuple(_found(feed)), tuple(_skipped(feed)))


def _read_message(message: Message, feed: _Feed) -> None:
    """Read one message into the feed."""
    try:
        about = Circumstances(message.kind, clock_of(message.header), feed.options.units)
        subject = _subject(message, feed)
    except FormatError as error:
        feed.refuse("message", f"message {message.number}", str(error))
        return
    patient = feed.patients.setdefault(subject, _Patient())
    lines: list[Segment] | None = None
    orders: list[tuple[Segment | None, list[Segment], Circumstances]] = []
    for segment in message.segments:
        if segment.name == "ORC":
            about, lines = replace(about, order=segment), None
        elif segment.name == "OBR":
            lines = []
            orders.append((segment, lines, about))
        elif segment.name in ("OBX", "NTE"):
            if lines is None:
                lines = []
                orders.append((None, lines, about))
            lines.append(segment)
        elif segment.name in MAPPINGS:
            _read_segment(segment, about, patient, feed, message.remarks)
        elif segment.name not in _FRAME and not segment.is_blank:
            feed.unread[segment.name] += 1
    for request, following, around in orders:
        _read_order(Order(request, tuple(following)), around, patient, feed, message)


def _read_segment(segment: Segment, about: Circumstances, patient: _Patient, feed: _Feed, remarks: tuple[str, ...]) -> None:
    if segment.name == "PV1" and segment.is_blank:
        return
    try:
        drafts = MAPPINGS[segment.name](segment, about)
    except InputError as error:
        feed.refuse(segment.name, segment.place, str(error))
        return
    for draft in drafts:
        item = feed.item(segment, draft, remarks)
        if segment.name == "PID":
            patient.person.setdefault((item.code.code, str(item.value or item.observed_at)), item)
        elif segment.name == "PV1":
            _note_visit(segment, item, about, patient)
        else:
            patient.items.append(item)


def _note_visit(pv1: Segment, item: Item, about: Circumstances, patient: _Patient) -> None:
    """Keep the latest word on a visit; the end that an earlier message stated stays, unless it is taken back."""
    key = pv1.text(19) or f"{item.value} {item.observed_at}"
    if about.event in CANCELLED_VISITS:
        patient.visits.pop(key, None)
        patient.stays.pop(key, None)
        return
    before = patient.visits.get(key)
    if before is not None:
        taken_back = about.event == "A13"
        item = replace(
            item,
            observed_at=item.observed_at or before.observed_at,
            ended_at=item.ended_at if taken_back else item.ended_at or before.ended_at,
            status=item.status if item.status and (taken_back or before.status != "finished") else before.status,
        )
    patient.visits[key] = item
    start = item.observed_at
    if item.value == "inpatient" and isinstance(start, Instant) and start.precision in ("minute", "second"):
        patient.stays[key] = start.at


def _read_order(order: Order, about: Circumstances, patient: _Patient, feed: _Feed, message: Message) -> None:
    if is_alarm(about, order):
        try:
            patient.alarms.append(map_alarm(order, about))
        except InputError as error:
            feed.refuse("alarm", f"message {message.number}", str(error))
        return
    results = map_order(order, about)
    sent_at = _time_in(message.header, 7, about) if any(draft.observed_at is None for _, draft in results.placed) else None
    issued = None if order.request is None else _time_in(order.request, 22, about)
    for segment, draft in results.placed:
        if draft.observed_at is None and sent_at is not None:
            draft = replace(draft, observed_at=sent_at, remarks=(*draft.remarks, "the time is when the message was sent"))
        patient.items.append(replace(feed.item(segment, draft, message.remarks), recorded_at=issued))
    for segment, reason in results.refused:
        feed.refuse(segment.name, segment.place, reason)


def _time_in(segment: Segment, field: int, about: Circumstances) -> Instant | None:
    """Return a time beside the results (MSH-7: sent; OBR-22: reported, or its status changed); None where it is none."""
    try:
        return time_of(segment.text(field), about.clock)
    except FormatError:
        return None


def _subject(message: Message, feed: _Feed) -> str | None:
    """Return the patient's key: of the identifiers in PID-3 the medical record number, else the first.

    Raises:
        FormatError: two systems gave one number to, for all that is known, two people; or two patients are in one message.
    """
    persons = [segment for segment in message.segments if segment.name == "PID"]
    if len(persons) > 1:
        raise FormatError(f"holds {len(persons)} patients (PID); a message about several at once is not read")
    if not persons:
        return None
    pid = persons[0]
    identifiers = [pid.components(each) for each in (*pid.repetitions(3), *pid.repetitions(2), *pid.repetitions(4))]
    identifiers = [(*each, "", "", "", "")[:5] for each in identifiers if each and each[0]]
    if not identifiers:
        return None
    chosen = next((each for each in identifiers if each[4].upper() in ("MR", "MRN", "PI")), identifiers[0])
    key, authority = chosen[0], chosen[3]
    # CAUTION: one number from two issuers is two people; read as one, the record would hold another person's results.
    if feed.authorities.setdefault(key, authority) != authority:
        raise FormatError("its patient has the number of another message's, from another issuer (PID-3.4)")
    return key


def _found(feed: _Feed) -> list[Found]:
    named = [key for key in feed.patients if key is not None]
    found = []
    for subject, patient in feed.patients.items():
        if subject is None and len(named) > 1 and _holds_something(patient):
            feed.refuse("message", "one or more", _NOBODY)
            continue
        alarms = [feed.item(segment, draft) for segment, draft in joined_alarms(patient.alarms)]
        items = (*patient.person.values(), *patient.visits.values(), *patient.items, *alarms)
        starts = list(patient.stays.values())
        if items or subject is not None:
            found.append(Found(subject, items, {"admission": starts[0]} if len(starts) == 1 else {}))
    return found


def _holds_something(patient: _Patient) -> bool:
    return bool(patient.items or patient.person or patient.visits or patient.alarms)


def _skipped(feed: _Feed) -> list[Skipped]:
    lines = []
    for (kind, reason), places in feed.refused.items():
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        lines.append(f"{kind} at {places[0]}: {reason}{more}")
    lines += [f"{count} {name}: this segment is not read" for name, count in sorted(feed.unread.items())]
    return [Skipped(str(feed.path), line) for line in lines]


READER = Reader(
    name="hl7v2",
    title="HL7 v2 message",
    recognises=lambda _path, head: starts_message(head),
    read=read,
    priority=30,
)
