"""Reader of FHIR R4: a JSON Bundle of any type, a single resource, a list of them, or NDJSON.

Takes a file; gives items by patient, and an admission anchor where the file holds exactly one stay. A resource that cannot be
read is reported by type, place and reason, and the rest is read. Of what names the patient only the logical id is kept.

Source: HL7 FHIR R4 (4.0.1), https://hl7.org/fhir/R4/; references by 2.29.4.1 and 2.3.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.patient import Instant, Item, ObservedTime, Skipped, Source, item_id
from salus.record.read.fhir_documents import Surroundings
from salus.record.read.fhir_fields import Fields, fields, reference_keys, text
from salus.record.read.fhir_observation import Draft, Mapped
from salus.record.read.fhir_recorded import recorded_at
from salus.record.read.fhir_resources import INPATIENT, MAPPINGS, SUPPORTING, encounter_class, map_patient
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty

JSON_LIMIT_BYTES = 512 << 20
"""Largest single JSON document that is loaded; NDJSON has no limit but that of a line."""
LINE_LIMIT_BYTES = 64 << 20
"""Longest line of NDJSON."""
BUNDLE_DEPTH = 3
"""How deep bundles may lie in bundles."""
_NDJSON_NAMES = frozenset({".ndjson", ".jsonl"})
_SUBJECT = ("subject", "patient")


@dataclass(frozen=True)
class Entry:
    """One resource of the file, or the reason why there is none."""

    locator: str
    resource: Fields = field(default_factory=dict)
    full_url: str | None = None
    refusal: str | None = None
    deleted: str | None = None
    """`Type/id` that this entry of a history deletes."""

    @property
    def kind(self) -> str:
        """Return the resource type, or words for an unusable one: a file may write anything there."""
        stated = self.resource.get("resourceType")
        return stated if isinstance(stated, str) and re.fullmatch(r"[A-Za-z]{1,40}", stated) else "resource without a type"

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys under which references find this resource."""
        keys = (*(reference_keys(self.full_url) if self.full_url else ()), self.literal)
        return tuple(key for key in keys if key)

    @property
    def literal(self) -> str:
        """Return `Type/id`; empty for a resource without an id."""
        own = self.resource.get("id")
        return f"{self.kind}/{own}" if isinstance(own, str) and own else ""


@dataclass(frozen=True)
class Index:
    """What references in the file may lead to."""

    patients: Mapping[str, str | None]
    """fullUrl and `Patient/id` → the patient's key (None: the only patient, who has no id)."""
    subjects: frozenset[str | None]
    supporting: Mapping[str, Fields]


@dataclass
class Tally:
    """Refusals, grouped, so that a thousand alike make one line."""

    path: Path
    lines: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)

    def refuse(self, kind: str, locator: str, reason: str) -> None:
        """Note that a resource, or part of one, was not read."""
        first, count = self.lines.get((kind, reason), (locator, 0))
        self.lines[kind, reason] = (first, count + 1)

    def skipped(self) -> tuple[Skipped, ...]:
        """Return one line for each kind of refusal."""
        lines = [
            f"{kind} at {first}: {reason}" + (f" (and {count - 1} more)" if count > 1 else "")
            for (kind, reason), (first, count) in self.lines.items()
        ]
        lines += [f"{count} {kind}: this resource type is not read" for kind, count in sorted(self.unread.items())]
        return tuple(Skipped(str(self.path), line) for line in lines)


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file is JSON that names a FHIR resource type in its first bytes."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith((b"{", b"[")):
        return False
    return b'"resourceType"' in head or (path.suffix.lower() == ".json" and b'"fullUrl"' in head)


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the items of every patient in the file.

    Raises:
        FormatError: the file is empty, or is not JSON; the message gives line and column.
        InputError: one JSON document is larger than `JSON_LIMIT_BYTES`, or the file cannot be opened.
    """
    refuse_empty(path)
    entries = _entries_of(path)
    index = _index(entries)
    tally = Tally(path)
    sha256 = file_sha256(path)
    around = Surroundings(path.parent, index.supporting)
    items: dict[str | None, list[Item]] = {subject: [] for subject in index.subjects}
    stays: dict[str | None, list[datetime]] = {}
    companions: dict[Path, None] = {}
    for entry, mapped, subject, recorded in _read_entries(entries(), index, around, tally):
        made = (_item(draft, entry, path, sha256, recorded) for draft in mapped.drafts)
        items.setdefault(subject, []).extend(made)
        companions.update(dict.fromkeys(mapped.companions))
        admitted = _admitted_at(entry, mapped)
        if admitted is not None:
            stays.setdefault(subject, []).append(admitted)
    found = tuple(
        Found(subject, tuple(each), {"admission": stays[subject][0]} if len(stays.get(subject, ())) == 1 else {})
        for subject, each in items.items()
        if each or subject in index.subjects
    )
    skipped = tally.skipped()
    if not found:
        skipped = (Skipped(str(path), "holds no patient, and nothing that is read about one"), *skipped)
    return FileRead(found, skipped, tuple(companions))


def _read_entries(
    entries: Iterator[Entry], index: Index, around: Surroundings, tally: Tally
) -> Iterator[tuple[Entry, Mapped, str | None, ObservedTime | None]]:
    """Yield each readable resource with what it gave, whom it is about and when it was recorded; note the others."""
    seen: set[str] = set()
    for entry in entries:
        if entry.deleted is not None:
            seen.add(entry.deleted)
        if entry.refusal is not None:
            tally.refuse("entry", entry.locator, entry.refusal)
            continue
        kind = entry.kind
        if kind in SUPPORTING:
            continue
        if kind not in MAPPINGS:
            tally.unread[kind] = tally.unread.get(kind, 0) + 1
            continue
        if entry.literal in seen:
            tally.refuse(kind, entry.locator, "an entry before it has the same id; only the first is read")
            continue
        seen.update({entry.literal} - {""})
        try:
            if text(entry.resource, "status") in ("entered-in-error", "cancelled"):
                raise FormatError(f"status is {entry.resource['status']}")
            subject = _subject(entry, index)
            mapped = MAPPINGS[kind](entry.resource, around)
            recorded = recorded_at(entry.resource)
        except InputError as error:
            tally.refuse(kind, entry.locator, str(error))
            continue
        for place, reason in mapped.refusals:
            tally.refuse(kind, entry.locator + place, reason)
        yield entry, mapped, subject, recorded


def _subject(entry: Entry, index: Index) -> str | None:
    """Return the key of the patient that a resource is about.

    Raises:
        FormatError: it is about nobody, about something else, or about somebody who is not in the file.
    """
    if MAPPINGS[entry.kind] is map_patient:
        known = [index.patients[key] for key in entry.keys if key in index.patients]
        if known:
            return known[0]
        if len(index.subjects) == 1 and None in index.subjects:
            return None
        raise FormatError("has no id, and the file holds other patients")
    name = next((name for name in _SUBJECT if entry.resource.get(name) is not None), None)
    reference = text(fields(entry.resource, name), "reference") if name else None
    if reference is None:
        if len(index.subjects) == 1:
            return next(iter(index.subjects))
        raise FormatError("does not say which patient it is about")
    keys = reference_keys(reference)
    for key in keys:
        if key in index.patients:
            return index.patients[key]
    literal = re.fullmatch(r"Patient/([A-Za-z0-9.-]{1,64})", keys[-1])
    if literal and not index.subjects:
        return literal[1]  # a bulk export keeps its patients in another file
    if literal or keys[-1].startswith(("urn:", "Patient?")):
        raise FormatError("its reference to a Patient leads to nothing in this file")
    raise FormatError("is not about a patient")


def _index(entries: Callable[[], Iterator[Entry]]) -> Index:
    """Return what references may lead to, in one pass over the file."""
    patients: dict[str, str | None] = {}
    subjects: dict[str | None, None] = {}
    supporting: dict[str, Fields] = {}
    for entry in entries():
        if entry.kind in SUPPORTING:
            supporting.update(dict.fromkeys(entry.keys, entry.resource))
        if entry.kind == "Patient":
            own = entry.resource.get("id")
            subject = own if isinstance(own, str) else re.split("[/:]", entry.full_url or "")[-1]
            subjects[subject or None] = None
            patients.update(dict.fromkeys(entry.keys, subject or None))
    if len(subjects) > 1:
        subjects.pop(None, None)
    return Index(patients, frozenset(subjects), supporting)


def _item(draft: Draft, entry: Entry, path: Path, sha256: str, recorded: ObservedTime | None) -> Item:
    locator = entry.locator + draft.within
    return Item(
        id=item_id(sha256, locator),
        modality=modality_of(*draft.keys),
        code=draft.code,
        source=Source(str(path), sha256, locator),
        observed_at=draft.observed_at,
        ended_at=draft.ended_at,
        value=draft.value,
        unit=draft.unit,
        content=draft.content,
        status=draft.status,
        category=draft.category,
        reference_range=draft.reference_range,
        remarks=draft.remarks,
        recorded_at=recorded,
    )


def _admitted_at(entry: Entry, mapped: Mapped) -> datetime | None:
    """Return the start of a stay that took place, when it is known to the minute."""
    if entry.kind != "Encounter" or encounter_class(entry.resource) not in INPATIENT or entry.resource.get("status") == "planned":
        return None
    start = mapped.drafts[0].observed_at
    return start.at if isinstance(start, Instant) and start.precision in ("minute", "second") else None


def _entries_of(path: Path) -> Callable[[], Iterator[Entry]]:
    """Return a function that goes through the file's resources; NDJSON is streamed at each call."""
    if _is_ndjson(path):
        return lambda: _ndjson_entries(path)
    size = path.stat().st_size
    if size > JSON_LIMIT_BYTES:
        raise InputError(
            f"Cannot read FHIR '{path.name}': one JSON document of {size} bytes is over the limit of {JSON_LIMIT_BYTES} bytes. "
            "Export it as NDJSON, or as one bundle for each patient."
        )
    try:
        document = _parse(path.read_bytes())
    except FormatError as error:
        raise FormatError(f"Cannot read FHIR '{path.name}': {error}. It may be truncated: export or copy it again.") from None
    if isinstance(document, list):
        entries = [each for index, part in enumerate(document) for each in _expand(part, f"[{index}]")]
    else:
        entries = list(_expand(document, ""))
    return lambda: iter(entries)


def _parse(raw: bytes) -> object:
    """Return parsed JSON.

    Raises:
        FormatError: with line and column, and without what stands there.
    """
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        wrong = error.msg.split(":")[0].split("'\\")[0]
        raise FormatError(f"not valid JSON at line {error.lineno}, column {error.colno} ({wrong})") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 text at byte {error.start}") from None
    except RecursionError:
        raise FormatError("JSON that is nested too deeply") from None
    except ValueError:  # a whole number of more digits than Python converts
        raise FormatError("JSON with a number that is too long") from None


def _is_ndjson(path: Path) -> bool:
    if path.suffix.lower() in _NDJSON_NAMES:
        return True
    try:
        with path.open("rb") as stream:
            first = stream.readline(LINE_LIMIT_BYTES).removeprefix(b"\xef\xbb\xbf").strip()
            if not (first.startswith(b"{") and first.endswith(b"}")):
                return False
            following = next((line for line in iter(lambda: stream.readline(4096), b"") if line.strip()), b"")
    except OSError as error:
        raise InputError(f"Cannot read FHIR '{path.name}': {error.strerror}. Check that it may be read.") from error
    return following.lstrip().startswith(b"{")


def _ndjson_entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as stream:
        lines = iter(lambda: stream.readline(LINE_LIMIT_BYTES), b"")
        for count, line in enumerate(lines, start=1):
            locator = f"line {count}"
            if len(line) == LINE_LIMIT_BYTES and not line.endswith(b"\n"):
                for rest in lines:  # throw the rest of the long line away
                    if rest.endswith(b"\n"):
                        break
                yield Entry(locator, refusal=f"longer than {LINE_LIMIT_BYTES} bytes")
                continue
            if not line.strip():
                continue
            try:
                resource = _parse(line.removeprefix(b"\xef\xbb\xbf").strip())
            except FormatError as error:
                yield Entry(locator, refusal=re.sub(r"line 1, ", "", str(error)))
                continue
            yield from _expand(resource, locator)


def _expand(resource: object, locator: str, *, depth: int = 0, full_url: str | None = None) -> Iterator[Entry]:
    """Yield a resource, or the entries of a bundle."""
    place = locator or "resource"
    if not isinstance(resource, dict):
        yield Entry(place, refusal="not a JSON object")
        return
    if resource.get("resourceType") != "Bundle":
        yield Entry(place, resource, full_url)
        return
    if depth >= BUNDLE_DEPTH:
        yield Entry(place, refusal=f"a bundle more than {BUNDLE_DEPTH} bundles deep")
        return
    parts = resource.get("entry", [])
    if not isinstance(parts, list):
        yield Entry(place, refusal="a bundle whose entry is not a list")
        return
    prefix = f"{locator}." if locator else ""
    for index, part in enumerate(parts):
        here = f"{prefix}entry[{index}]"
        if not isinstance(part, dict) or part.get("resource") is None:
            yield Entry(here, refusal="holds no resource", deleted=_deleted(part))
            continue
        url = part.get("fullUrl")
        yield from _expand(part["resource"], f"{here}.resource", depth=depth + 1, full_url=url if isinstance(url, str) else None)


def _deleted(part: object) -> str | None:
    request = part.get("request") if isinstance(part, dict) else None
    if not isinstance(request, dict) or request.get("method") != "DELETE" or not isinstance(request.get("url"), str):
        return None
    return reference_keys(request["url"])[-1]


READER = Reader(name="fhir", title="FHIR R4", recognises=recognises, read=read, priority=30)
