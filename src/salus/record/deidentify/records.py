"""One record as it may be kept or handed on: under a pseudonym, with moved times, without identifiers in its texts.

Takes a record in any format that was read, and a key; gives the record and what had to be left out. The same key gives the same pseudonym
and the same shift as for files (`salus.record.deidentify.gate`). Covers what a table can hold: pictures, sounds and signals stay behind
their items as they are, so this is no way to copy files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from salus.record.deidentify.identity import People, people_of
from salus.record.deidentify.key import Key
from salus.record.deidentify.text import OWN, Subject, clean, left_over
from salus.record.patient import Code, Content, Instant, Item, Loaded, ObservedTime, PatientRecord, Plane, Source
from salus.record.timeline import BIRTH_DATE

AGES = frozenset({"30525-0", "21612-7", "29553-5", "397669002"})
"""LOINC and SNOMED CT codes of an age."""
YEARS = {"mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25}
"""Years of the units of an age but the year."""
FIRST_YEAR = 11
"""A time before cannot be moved into the past by ten years."""
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


def deidentified(record: PatientRecord, key: Key, root: Path, people: People | None = None) -> Deidentified:
    """Return a record that does not say whose it is.

    Args:
        record: as it was read.
        key: decides every replacement.
        root: folder that names of files are given below.
        people: whom the files of all records name, from `people_of`; by default those behind this record.

    Example:
        >>> found = deidentified(PatientRecord("MRN-4471", ()), Key(bytes(32)), Path("."))
        >>> found.record.subject_id, found.names["subjects"]
        ('p8c4dc12170a5', {'p8c4dc12170a5': 'MRN-4471'})
    """
    people = people_of((record,)) if people is None else people
    worker = _Worker(record, key, root, people)
    items = tuple(new for item in record.items if (new := worker.item(item)) is not None)
    anchors = {name: at + worker.shift for name, at in record.anchors.items() if at.year > FIRST_YEAR}
    chief = people.chief(record.subject_id)
    pseudonym = key.subject(chief)
    names = {"files": worker.files, "subjects": {pseudonym: chief}}
    return Deidentified(replace(record, subject_id=pseudonym, items=items, anchors=anchors), names, worker.left_out)


def _years(item: Item) -> float:
    """Return an age in years, the greatest that its words may mean."""
    if isinstance(item.value, str):
        return max((float(number) for number in re.findall(r"\d+(?:\.\d+)?", item.value)), default=0.0) + (">" in item.value)
    return (item.number or 0.0) * YEARS.get(item.unit or "a", 1.0)


class _Worker:
    """What the items of one record share."""

    def __init__(self, record: PatientRecord, key: Key, root: Path, people: People) -> None:
        finder, chief = people.recogniser(record.subject_id), people.chief(record.subject_id)
        self.key, self.root, self.unsearched = key, root, people.unsearched
        self.free = Subject(key, chief, (finder, *OWN))
        self.known = Subject(key, chief, (finder,))
        self.shift = timedelta(days=key.days(chief))
        self.files: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        dated = [item for item in record.items if item.code.code != BIRTH_DATE]
        times = [at.at for item in dated for at in (item.observed_at, item.ended_at, item.recorded_at) if isinstance(at, Instant)]
        self.last = max((*times, *record.anchors.values()), default=datetime.now(UTC))

    def item(self, item: Item) -> Item | None:
        """Return an item that may stay, or None."""
        try:
            return self._changed(item)
        except OverflowError:
            self.left_out["a time that cannot be moved"] += 1
            return None

    def _changed(self, item: Item) -> Item | None:
        if item.code.code == BIRTH_DATE and isinstance(item.observed_at, Instant) and self._is_old(item.observed_at):
            self.left_out["birth year of somebody who may be over 89"] += 1
            return None
        if (item.code.code in AGES or item.code.code.lower() == "age") and _years(item) > OLDEST:
            self.left_out["age over 89"] += 1
            return None
        if self.unsearched.intersection(item.files):
            self.left_out["nobody can say whom the file that it is from names"] += 1
            return None
        code = self._code(item.code)
        if code is None:
            self.left_out["the residual check still finds an identifier in the words of its code"] += 1
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
            code=code,
            unit=None if item.unit is None else clean(item.unit, self.known).text,
            status=None if item.status is None else clean(item.status, self.known).text,
            remarks=tuple(clean(remark, self.free).text.replace(item.id, self.key.code("item", item.id)) for remark in item.remarks),
            source=self._source(item.source),
            parts=tuple(self._source(part) for part in item.parts),
            observed_at=self._moved(item.observed_at),
            ended_at=self._moved(item.ended_at),
            recorded_at=self._moved(item.recorded_at),
            value=value,
            content=content,
            plane=self._plane(item.plane),
        )

    def _code(self, code: Code) -> Code | None:
        """Return a code without identifiers; what has no system is free text, in its code too."""
        display = self._clean(code.display)
        if display is None:
            return None
        own = display.lower() if not code.system or code.code.lower() == code.display.lower() else clean(code.code, self.known).text
        return Code(clean(code.system, self.known).text, own, display)

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
