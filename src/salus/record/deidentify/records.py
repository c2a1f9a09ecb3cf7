"""One record as it may be kept or handed on: under a pseudonym, with moved times, without identifiers in its texts.

Takes a record in any format that was read, and a key; gives the record and what had to be left out. The same key gives the same pseudonym
and the same shift as for files (`salus.record.deidentify.gate`). Covers what a table can hold: pictures, sounds and signals stay behind
their items as they are, so this is no way to copy files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from salus.record.deidentify.key import Key
from salus.record.deidentify.shown import known_of
from salus.record.deidentify.text import OWN, Subject, clean, left_over
from salus.record.patient import Code, Content, Instant, Item, Loaded, ObservedTime, PatientRecord, Plane, Source
from salus.record.timeline import BIRTH_DATE

AGE = "30525-0"
"""LOINC of an age in years."""
OLDEST = 89
"""An age above counts as an identifier (45 CFR 164.514(b)(2)(i)(C))."""


@dataclass(frozen=True)
class Deidentified:
    """A record without what says whose it is."""

    record: PatientRecord
    names: Mapping[str, Mapping[str, str]]
    """`files` and `subjects` → new name → old one, for `salus.record.deidentify.mapping`."""
    left_out: Counter[str]
    """Reason → items that are not in the record."""


def deidentified(record: PatientRecord, key: Key, root: Path) -> Deidentified:
    """Return a record that does not say whose it is.

    Args:
        record: as it was read.
        key: decides every replacement.
        root: folder that names of files are given below.

    Example:
        >>> found = deidentified(PatientRecord("MRN-4471", ()), Key(bytes(32)), Path("."))
        >>> found.record.subject_id, found.names["subjects"]
        ('p8c4dc12170a5', {'p8c4dc12170a5': 'MRN-4471'})
    """
    worker = _Worker(record, key, root)
    items = tuple(new for item in record.items if (new := worker.item(item)) is not None)
    anchors = {name: at + worker.shift for name, at in record.anchors.items()}
    pseudonym = key.subject(record.subject_id)
    names = {"files": worker.files, "subjects": {pseudonym: record.subject_id}}
    return Deidentified(replace(record, subject_id=pseudonym, items=items, anchors=anchors), names, worker.left_out)


class _Worker:
    """What the items of one record share."""

    def __init__(self, record: PatientRecord, key: Key, root: Path) -> None:
        finder = known_of(record)
        self.key, self.root = key, root
        self.free = Subject(key, record.subject_id, (finder, *OWN))
        self.known = Subject(key, record.subject_id, (finder,))
        self.shift = timedelta(days=key.days(record.subject_id))
        self.files: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        times = [item.observed_at.at for item in record.items if isinstance(item.observed_at, Instant)]
        self.last = max((at for at in times if at.tzinfo is not None), default=datetime(1, 1, 1, tzinfo=UTC))

    def item(self, item: Item) -> Item | None:
        """Return an item that may stay, or None."""
        if item.code.code == BIRTH_DATE and isinstance(item.observed_at, Instant) and self._is_old(item.observed_at):
            self.left_out["birth year of somebody who may be over 89"] += 1
            return None
        if item.code.code == AGE and item.number is not None and item.number > OLDEST:
            self.left_out["age over 89"] += 1
            return None
        content = item.content
        if content is not None and content.kind == "text":
            text = self._clean(content.load())
            if text is None:
                self.left_out["the residual check still finds an identifier in its text"] += 1
                return None
            content = Content("text", partial(str, text), content.summary)
        value = item.value
        if isinstance(value, str):
            value = self._clean(value)
            if value is None:
                self.left_out["the residual check still finds an identifier in its value"] += 1
                return None
        return replace(
            item,
            id=self.key.code("item", item.id),
            code=Code(item.code.system, item.code.code, clean(item.code.display, self.known).text),
            source=self._source(item.source),
            parts=tuple(self._source(part) for part in item.parts),
            observed_at=self._moved(item.observed_at),
            ended_at=self._moved(item.ended_at),
            recorded_at=self._moved(item.recorded_at),
            value=value,
            content=content,
            plane=self._plane(item.plane),
        )

    def _is_old(self, birth: Instant) -> bool:
        return self.last.year - birth.at.year > OLDEST

    def _clean(self, loaded: Loaded | str) -> str | None:
        text = str(loaded)
        new = clean(text, self.free).text
        return None if sum(left_over(text, new, self.free).values()) else new

    def _source(self, source: Source) -> Source:
        path = Path(source.path)
        below = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
        name = f"f{self.key.code('file', below)}"
        self.files[name] = below
        return Source(name, self.key.code("sha256", source.sha256, digits=64), clean(source.locator, self.known).text)

    def _moved(self, at: ObservedTime | None) -> ObservedTime | None:
        if not isinstance(at, Instant):
            return at
        later = at.at + self.shift
        if at.precision == "year":
            later = later.replace(month=1, day=1)
        return replace(at, at=later.replace(day=1) if at.precision == "month" else later)

    def _plane(self, plane: Plane | None) -> Plane | None:
        if plane is None:
            return None
        frame = self.key.uid(plane.frame_of_reference_uid) if plane.frame_of_reference_uid else ""
        return replace(plane, series_uid=self.key.uid(plane.series_uid), frame_of_reference_uid=frame)
