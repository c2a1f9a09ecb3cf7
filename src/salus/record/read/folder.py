"""Reads a file or a folder: asks every reader, groups items by patient, and reports whatever was not read.

Takes a path and an optional cohort manifest; gives a `ReadReport`. Knows no format: readers come from the registry, by priority.

Whose file is it? The file's own patient key counts first. A file without one takes (1) the key that the manifest gives it; (2)
when all other files of the folder belong to one patient, that patient; (3) the name of its first sub-folder; (4) `unassigned`.
"""

from __future__ import annotations

import gc
import hashlib
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from salus import registry
from salus.errors import Bug, InputError, MissingExtra, SalusError, SeveralPatientsError
from salus.record.cohort import FILE_NAME, Cohort, options_of, read_manifest, rule_of, subject_of, subjects_by_file, table_of
from salus.record.normalise import normalise
from salus.record.patient import Item, Offset, PatientRecord, ReadReport, Skipped
from salus.record.read.declared_clock import with_declared_clock
from salus.record.read.reader import HEAD_BYTES, FileRead, Found, Joined, Reader
from salus.record.read.source import file_sha256

UNASSIGNED = "unassigned"
MOST_NESTED = 32
"""Folders deeper than this below the path are not entered."""
MOST_NAMED = 10
MOST_REASONS = 3
DOCUMENTATION = re.compile(
    r"(?:readme|license|licence|copying|changelog|citation|notice|authors|contributing|sha256sums|md5sums)(?:[._-].*)?"
    r"|(?:source|schema)(?:[._-].*)?\.md|(?:splits?|labels?)(?:[._-].*)?\.(?:csv|tsv|json|txt)",
    re.IGNORECASE,
)
"""Names of files that describe data. A manifest that lists such a file under `files` overrides this."""
_MANIFEST, _DOCUMENTATION = "cohort manifest", "documentation or labels, not evidence"
_DECLARED = "declared in the manifest as labels, splits or documentation, not evidence"
NOT_EVIDENCE = frozenset({_MANIFEST, _DOCUMENTATION, _DECLARED})
"""Reasons why a file was passed over that is no patient's evidence."""


@dataclass
class _Walk:
    """The files of a folder, and what was passed over."""

    root: Path
    files: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def skip(self, path: Path, reason: str) -> None:
        """Note a file that is not read."""
        self.skipped.append(Skipped(shown_path(path), reason))

    def enter(self, folder: Path, depth: int) -> None:
        """Collect the files below a folder in the order of their names; each folder once, so links cannot loop."""
        try:
            about = folder.stat()
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        except OSError as error:
            self.skip(folder, f"cannot be opened: {error.strerror}")
            return
        if (about.st_dev, about.st_ino) in self.seen:
            self.skip(folder, "a link to a folder that is read already")
            return
        self.seen.add((about.st_dev, about.st_ino))
        for entry in entries:
            self.take(entry, depth)

    def take(self, entry: Path, depth: int) -> None:
        """Collect one file, or enter one folder."""
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            self.skip(entry, f"cannot be opened: {error.strerror}")
            return
        if not is_utf8(entry.name):
            self.skip(entry, "its name is not in UTF-8: rename it")
        elif entry.name.startswith("."):
            self.skip(entry, "hidden file or folder")
        elif stat.S_ISDIR(mode) and depth >= MOST_NESTED:
            self.skip(entry, f"nested more than {MOST_NESTED} folders deep")
        elif stat.S_ISDIR(mode):
            self.enter(entry, depth + 1)
        elif stat.S_ISREG(mode):
            self.files.append(entry)
        else:
            self.skip(entry, "not a regular file")


def shown_path(path: Path) -> str:
    r"""Return a path that can be printed: bytes that are no UTF-8 are written as `\xe9`."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_utf8(name: str) -> bool:
    r"""Return whether a file's name is in UTF-8, as the system gave it.

    Example:
        >>> is_utf8("Größe.csv"), is_utf8("Gr\udcf6\udcdfe.csv")
        (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readers() -> tuple[Reader, ...]:
    """Return the installed readers in the order in which they are asked."""
    loaded: list[Reader] = [registry.load("salus.readers", name) for name in registry.names("salus.readers")]
    return tuple(sorted(loaded, key=lambda reader: (reader.priority, reader.name)))


def _reader_of(path: Path, installed: tuple[Reader, ...]) -> Reader | None:
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    return next((reader for reader in installed if reader.recognises(path, head)), None)


def _read_file(path: Path, relative: str, cohort: Cohort, installed: tuple[Reader, ...]) -> FileRead:
    """Return what one file gave; a file that cannot be read gives the reason.

    Raises:
        Bug: a reader failed with an error that it should have explained.
    """
    reader = None
    try:
        if path.stat().st_size == 0:
            return FileRead(skipped=(Skipped(str(path), "empty file"),))
        reader = _reader_of(path, installed)
        if reader is None:
            return FileRead(skipped=(Skipped(str(path), "no reader recognises it"),))
        options = options_of(cohort, relative)
        read = with_declared_clock(reader.read(path, options), options)
        if not read.skipped and not any(part.items for part in read.found):
            return replace(read, skipped=(Skipped(str(path), f"read as {reader.title}: it holds nothing about a patient"),))
        return read
    except (InputError, MissingExtra) as error:
        return FileRead(skipped=(Skipped(str(path), str(error)),))
    except PermissionError as error:
        return FileRead(skipped=(Skipped(str(path), f"cannot be opened: {error.strerror}"),))
    except SalusError:
        raise
    except Exception as error:
        who = f"reader {reader.name!r}" if reader else "a reader"
        raise Bug(f"Cannot read '{path}': {who} failed with {type(error).__name__}. Report it, with the file's format.") from error


def _why_passed_over(relative: str, cohort: Cohort) -> str | None:
    """Return why a file is not evidence by its name or by the manifest, or None."""
    name = relative.rsplit("/", 1)[-1]
    if name == FILE_NAME:
        return _MANIFEST
    table = table_of(cohort, relative)
    if table is not None:
        return None if table.is_evidence else _DECLARED
    if rule_of(cohort, relative) is None and DOCUMENTATION.fullmatch(name):
        return _DOCUMENTATION
    return None


def _without_copies(walk: _Walk) -> list[Path]:
    """Return the files without later copies of the same bytes, which are noted; only files of equal size are compared."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in walk.files:
        by_size[path.stat().st_size].append(path)
    first: dict[str, Path] = {}
    copies: set[Path] = set()
    for size, paths in by_size.items():
        if size == 0 or len(paths) == 1:
            continue
        for path in paths:
            try:
                sha256 = file_sha256(path)
            except InputError:
                continue  # reading it gives the reason
            if sha256 in first:
                copies.add(path)
                walk.skip(path, f"same bytes as '{first[sha256].relative_to(walk.root)}': read once")
            else:
                first[sha256] = path
    return [path for path in walk.files if path not in copies]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the search for reference cycles: items have none, and walking millions of them takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_path(path: Path, *, manifest: Path | None = None) -> ReadReport:
    """Return every patient's record in a file or folder, and what was skipped with the reason.

    Items are sorted by time and id, so the order of files changes nothing. A `salus-cohort.yaml` in the folder is the manifest
    unless another is given.

    Raises:
        InputError: the path does not exist.
        ConfigError: the manifest is wrong.
        Bug: a reader failed with an error that it should have explained.
    """
    if not path.exists():
        raise InputError(f"Cannot read '{path}': no such file or folder. Check the path.")
    walk = _Walk(path if path.is_dir() else path.parent)
    if manifest is None and (walk.root / FILE_NAME).is_file():
        manifest = walk.root / FILE_NAME
    cohort = read_manifest(manifest) if manifest else Cohort()
    installed = readers()
    reads: dict[Path, FileRead] = {}
    if path.is_dir():
        walk.enter(path, 0)
        chosen = []
        for file in walk.files:
            if reason := _why_passed_over(file.relative_to(walk.root).as_posix(), cohort):
                walk.skip(file, reason)
            else:
                chosen.append(file)
        walk.files = chosen
    else:
        walk.files = [path]
    with _collector_paused():
        for file in _without_copies(walk):
            reads[file] = _read_file(file, file.relative_to(walk.root).as_posix(), cohort, installed)
    companions = {companion for read in reads.values() for companion in read.companions}
    kept = {file: read for file, read in reads.items() if file not in companions}
    skipped = [each for each in walk.skipped if Path(each.path) not in companions]
    skipped += [each for read in kept.values() for each in read.skipped]
    by_file = subjects_by_file(cohort, walk.root) if any(rule.subject_table for rule in cohort.files.values()) else {}
    given = {file: subject_of(cohort, file.relative_to(walk.root).as_posix(), by_file) for file in kept}
    joins = [reader.join for reader in installed if reader.join is not None]
    patients = _grouped({file: read.found for file, read in kept.items()}, given, walk.root, joins, skipped)
    return ReadReport(
        patients, tuple(sorted(skipped, key=lambda each: (each.path, each.reason))), tuple(sorted(map(str, companions & set(walk.files))))
    )


def _grouped(
    found: Mapping[Path, tuple[Found, ...]],
    given: Mapping[Path, str | None],
    root: Path,
    joins: Sequence[Callable[[Sequence[Item]], Joined]],
    skipped: list[Skipped],
) -> tuple[PatientRecord, ...]:
    """Return one record per patient, sorted by key; conflicting anchors and repeated parts are added to `skipped`."""
    keyed = {part.subject_id or given[file] for file, parts in found.items() for part in parts} - {None}
    only = next(iter(keyed)) if len(keyed) == 1 else None
    items: dict[str, dict[str, Item]] = defaultdict(dict)
    anchors: dict[str, dict[str, datetime]] = defaultdict(dict)
    for file, parts in found.items():
        below = file.relative_to(root).parts
        for part in parts:
            own = part.subject_id or given[file]
            subject = own or only or (below[0] if len(below) > 1 else UNASSIGNED)
            remark = (
                ()
                if own
                else ("no patient key in the file: taken as the folder's only patient",)
                if only
                else ("no patient key in the file: grouped by its folder",)
            )
            for item in part.items:
                items[subject].setdefault(item.id, replace(item, remarks=(*item.remarks, *remark)) if remark else item)
            for name, at in part.anchors.items():
                if anchors[subject].setdefault(name, at) != at:
                    skipped.append(Skipped(str(file), f"its time of anchor {name!r} differs from another file's, which is kept"))
    records = []
    for subject in sorted(items):
        whole = tuple(items[subject].values())
        for join in joins:
            joined = join(whole)
            whole = joined.items
            skipped.extend(joined.skipped)
        records.append(PatientRecord(subject, _sorted(normalise(whole), anchors[subject]), dict(anchors[subject])))
    return tuple(records)


def merged(subject_id: str, records: Sequence[PatientRecord]) -> PatientRecord:
    """Return one patient's records as one, under a key; of an anchor that two of them time, the first counts.

    Example:
        >>> merged("a", [PatientRecord("a", ()), PatientRecord("b", ())])
        PatientRecord(subject_id='a', items=(), anchors={})
    """
    if len(records) == 1:
        return replace(records[0], subject_id=subject_id)
    anchors = {name: at for record in reversed(records) for name, at in record.anchors.items()}
    items = {item.id: item for record in reversed(records) for item in record.items}
    return PatientRecord(subject_id, _sorted(tuple(items.values()), anchors), anchors)


def _sorted(items: tuple[Item, ...], anchors: Mapping[str, datetime]) -> tuple[Item, ...]:
    """Return the items by time, then id: those without a time, then relative times that no anchor joins, then the calendar."""

    def key(item: Item) -> tuple[int, float, str]:
        time = item.observed_at
        if time is None:
            return (0, 0.0, item.id)
        if not isinstance(time, Offset):
            return (2, time.at.timestamp(), item.id)
        anchor = anchors.get(time.anchor)
        return (1, time.seconds, item.id) if anchor is None else (2, anchor.timestamp() + time.seconds, item.id)

    return tuple(sorted(items, key=key))


def opaque(subject_id: str) -> str:
    """Return a short name for a patient that tells nothing about them, for messages and logs.

    Example:
        >>> opaque("a")
        'p-ca978112'
    """
    return f"p-{hashlib.sha256(subject_id.encode()).hexdigest()[:8]}"


def one_patient(report: ReadReport, subject_id: str | None = None) -> PatientRecord:
    """Return the patient of this key, or the only one.

    Args:
        report: what was read.
        subject_id: the patient's key as `salus inspect` shows it, or the short name that the error message shows.

    Raises:
        SeveralPatientsError: no key is given and several patients are there.
        InputError: nobody has that key, or nothing was read.

    Example:
        >>> one_patient(ReadReport((PatientRecord("a", ()), PatientRecord("b", ())), ()))
        Traceback (most recent call last):
        ...
        salus.errors.SeveralPatientsError: Cannot choose a patient: 2 are there (p-ca978112, p-3e23e816). Name one ...
    """
    records = report.patients
    if not records:
        raise InputError(f"Cannot find a patient: {_why_nothing(report.skipped)}")
    shown = ", ".join(opaque(record.subject_id) for record in records[:MOST_NAMED])
    shown += f", and {len(records) - MOST_NAMED} more" if len(records) > MOST_NAMED else ""
    if subject_id is not None:
        chosen = [record for record in records if subject_id in (record.subject_id, opaque(record.subject_id))]
        if not chosen:
            raise InputError(f"Cannot find that patient: nobody there has the key given. Patients: {shown}. Run 'salus inspect' for keys.")
        return chosen[0]
    if len(records) > 1:
        raise SeveralPatientsError(
            f"Cannot choose a patient: {len(records)} are there ({shown}). Name one with --patient (so, or as 'salus inspect' shows it)."
        )
    return records[0]


def _why_nothing(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return "the path holds no file. Give a folder with one patient's files, or one file."
    reasons = Counter(each.reason for each in skipped).most_common()
    shown = "; ".join(f"{count} × {reason}" for reason, count in reasons[:MOST_REASONS])
    more = f"; and {len(reasons) - MOST_REASONS} further reasons" if len(reasons) > MOST_REASONS else ""
    return f"nothing could be read ({shown}{more}). 'salus inspect' on the path shows which file has which."
