"""One record as it may be written down for people: without the patient's key, names of files, or identifiers in its texts.

Takes a record, what was skipped, and answers' texts; gives the same with tags. Dates stay, so that answers still fit; pictures stay as they
are, text burned into them too. For what leaves the site, de-identify the files (`salus.record.deidentify.gate`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from salus.record.deidentify.codes import CodeRecogniser
from salus.record.deidentify.identity import people_of
from salus.record.deidentify.key import KEY_BYTES, Key
from salus.record.deidentify.kinds import Recogniser
from salus.record.deidentify.people import NameRecogniser, PlaceRecogniser
from salus.record.deidentify.text import Subject, clean
from salus.record.patient import Content, Item, Loaded, PatientRecord, Skipped, Source

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Shown:
    """What makes one record fit to be written down."""

    pseudonym: str
    known: Subject
    """Finds what the files say about who the patient is."""
    free: Subject
    """Finds that, and what any free text may hold, but dates."""
    names: dict[str, str]
    """Path of a file → the name that is shown."""

    def words(self, text: str) -> str:
        """Return a text of our own making without known identifiers."""
        return clean(self._named(text), self.known, moves_dates=False).text

    def note(self, text: str) -> str:
        """Return free text without identifiers; dates stay, but a known date of birth."""
        return clean(self._named(text), self.free, moves_dates=False).text

    def tree(self, tree: Tree) -> Tree:
        """Return frozen dataclasses and tuples with every string of our own making cleaned."""
        mapped: Tree = _mapped(tree, self.words)
        return mapped

    def record(self, record: PatientRecord) -> PatientRecord:
        """Return the record with its texts, sources and key cleaned."""
        return replace(record, subject_id=self.pseudonym, items=tuple(self._item(item) for item in record.items))

    def skipped(self, skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
        """Return what was not read, under the names that are shown."""
        return tuple(Skipped(self._file(each.path), self.words(_without(each.reason, Path(each.path)))) for each in skipped)

    def _named(self, text: str) -> str:
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text

    def _file(self, path: str) -> str:
        return self.names.setdefault(path, f"file-{len(self.names) + 1}")

    def _source(self, source: Source) -> Source:
        return replace(source, path=self._file(source.path), locator=self.words(source.locator))

    def _item(self, item: Item) -> Item:
        content = item.content
        if content is not None and content.kind == "text":
            content = Content(content.kind, _cleaned(content.load, self.note), content.summary)
        is_free = item.category in ("note", "report")
        value = (self.note if is_free else self.words)(item.value) if isinstance(item.value, str) else item.value
        code = replace(item.code, display=self.words(item.code.display))
        parts = tuple(self._source(part) for part in item.parts)
        return replace(item, source=self._source(item.source), parts=parts, content=content, value=value, code=code)


def _cleaned(load: Callable[[], Loaded], change: Callable[[str], str]) -> Callable[[], Loaded]:
    def loaded() -> Loaded:
        found = load()
        return change(found) if isinstance(found, str) else found

    return loaded


def _mapped(tree: Any, change: Callable[[str], str]) -> Any:
    if isinstance(tree, str):
        return change(tree)
    if isinstance(tree, tuple | list):
        return type(tree)(_mapped(each, change) for each in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{each.name: _mapped(getattr(tree, each.name), change) for each in fields(tree) if each.init})
    return tree


def _without(reason: str, path: Path) -> str:
    return re.sub(re.escape(path.name), "the file", reason)


def shown_of(record: PatientRecord) -> Shown:
    """Return what cleans a record for showing; its replacements hold for this one page, by a key that is thrown away.

    Example:
        >>> shown = shown_of(PatientRecord("MRN-4471", ()))
        >>> shown.words("Patient MRN-4471, creatinine 1.2 mg/dL")[:8], "4471" in shown.words("Patient MRN-4471")
        ('Patient ', False)
    """
    finder = people_of((record,)).recogniser(record.subject_id)
    key = Key(secrets.token_bytes(KEY_BYTES))
    free: tuple[Recogniser, ...] = (finder, CodeRecogniser(), NameRecogniser(), PlaceRecogniser())
    pseudonym = f"p-{key.code('subject', record.subject_id, digits=8)}"
    return Shown(pseudonym, Subject(key, record.subject_id, (finder,)), Subject(key, record.subject_id, free), {})
