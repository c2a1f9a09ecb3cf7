"""What a reader of a file format is.

A reader looks at the first bytes, says whether the file is its own, and gives items by patient. One file per format;
registered under `salus.readers`. The folder walk in `salus.record.read.folder` calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from salus.record.patient import Item, Skipped

HEAD_BYTES = 4096
"""How much of a file a reader may look at to recognise it."""


@dataclass(frozen=True)
class Found:
    """Items of one patient in one file."""

    subject_id: str | None
    """The file's own patient key; None when the format holds none (the folder or manifest decides)."""
    items: tuple[Item, ...]
    anchors: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class FileRead:
    """What one file gave."""

    found: tuple[Found, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    """Parts that were not read (an unknown resource type, a bad row), and why."""
    companions: tuple[Path, ...] = ()
    """Other files that were read as part of this one (`100.dat` of `100.hea`): neither read again nor called skipped."""


@dataclass(frozen=True)
class Joined:
    """Items of one patient after those of several files were joined."""

    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()
    """Files that add nothing, such as a second copy of a slice, and why."""


@dataclass(frozen=True)
class ReadOptions:
    """What the user or the cohort manifest declares about a file."""

    units: Mapping[str, str] = field(default_factory=dict)
    """UCUM unit by column or lead, where the format itself states none."""
    modality: str | None = None
    """Modality of content whose format does not say (a PNG)."""
    documentation_columns: frozenset[str] = frozenset()
    """Columns that are labels, splits or documentation: never read as evidence."""
    anchor: str = "admission"
    """Anchor of relative times."""
    missing: frozenset[float] = frozenset()
    """Numbers that mean "not measured" in a table, such as -99."""
    encoding: str | None = None
    """Character set of a text that has no byte-order mark; None: UTF-8."""
    zone: str | None = None
    """IANA zone of times that state none; applied after reading, by the folder walk."""
    clock_offset_s: float = 0.0
    """Seconds by which the clock of the device that wrote the file was behind; added after reading, by the folder walk."""


@dataclass(frozen=True)
class Reader:
    """A file format."""

    name: str
    title: str
    """Words for people: `DICOM`, `WFDB record`."""
    recognises: Callable[[Path, bytes], bool]
    """Path and the first `HEAD_BYTES` bytes; decides by content, and by name only where content cannot tell."""
    read: Callable[[Path, ReadOptions], FileRead]
    """Raises `InputError` (or a subclass) when the file cannot be read; never anything else."""
    priority: int = 50
    """Lower is asked first; formats with a firm magic number come before text formats."""
    join: Callable[[Sequence[Item]], Joined] | None = None
    """Joins what belongs together across files, such as the slices of a volume, among all items of one patient; None: nothing does."""
