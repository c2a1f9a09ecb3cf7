"""From a folder of files to the store, and back: whose file each is, and a list of what came from where.

Takes a path, a `Store` and a list file; gives addresses and what was not stored, with the reason. A file of several patients is refused:
it could not be erased with one of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from salus.errors import ConfigError, InputError, StoreError
from salus.record.cohort import FILE_NAME, Cohort, declared, manifest_text
from salus.record.durable import create_once, fsync_folder, move_into_place
from salus.record.patient import Skipped
from salus.record.read.folder import UNASSIGNED, is_utf8, read_path, shown_path
from salus.record.sealed import opaque
from salus.record.store import Store


@dataclass(frozen=True)
class Stored:
    """One line of the list: a file, and where it is now."""

    path: str
    """Below the folder that was stored, with `/`."""
    subject_id: str
    address: str
    folder: str = ""
    """Which folder that was, from `folder_tag`: two folders may hold files of one name."""
    declared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the folder's manifest declared about the file, as `salus.record.cohort.declared` gives it."""


def folder_tag(root: Path) -> str:
    """Return 12 hex digits that stand for a folder, without its name."""
    return hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:12]


class StoredList:
    """The list of what came from where: one JSON object a line, on the disk after each file.

    CAUTION: it names patients and their files. Keep it as the keys are kept.
    """

    def __init__(self, path: Path) -> None:
        """Open a list, or make one, for its owner alone.

        Raises:
            ConfigError: it is not such a list. A last line that a crash cut short is dropped.
        """
        self.path = path
        create_once(path, b"")
        whole, self.lines = 0, dict[tuple[str, str], Stored]()
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    one = Stored(**json.loads(line))
                except (ValueError, TypeError):
                    raise ConfigError(f"Cannot use list '{path.name}': line {number} is not one that 'salus store put' wrote.") from None
                whole += len(line)
                self.lines[one.folder, one.path] = one
        if whole < path.stat().st_size:
            os.truncate(path, whole)

    def add(self, one: Stored) -> None:
        """Note a stored file, on the disk before this returns."""
        if self.lines.get((one.folder, one.path)) == one:
            return
        with self.path.open("ab") as stream:
            stream.write(_line(one))
            stream.flush()
            os.fsync(stream.fileno())
        self.lines[one.folder, one.path] = one

    def drop(self, subject_id: str) -> None:
        """Take a patient's lines out; the file is replaced at once."""
        self.lines = {place: one for place, one in self.lines.items() if one.subject_id != subject_id}
        number, name = tempfile.mkstemp(dir=self.path.parent, prefix=".new-")
        with os.fdopen(number, "wb") as stream:
            stream.writelines(_line(one) for one in self.lines.values())
            stream.flush()
            os.fsync(number)
        move_into_place(Path(name), self.path)


def _line(one: Stored) -> bytes:
    return (json.dumps(asdict(one), ensure_ascii=False) + "\n").encode()


def patients_of_files(
    path: Path, *, patient: str | None = None, manifest: Path | None = None
) -> tuple[dict[str, str], tuple[Skipped, ...]]:
    """Return whose each file is, by its path below the folder, and the files of which that cannot be said.

    Args:
        path: a file, or a folder.
        patient: all files are this patient's, also those that no reader knows; None: as the files and the cohort manifest say.
        manifest: cohort manifest.

    Raises:
        InputError: there is no such path.
        ConfigError: the manifest is wrong.
    """
    root = path if path.is_dir() else path.parent
    if patient is not None:
        files = [file for file in _regular_files(path) if file != root / FILE_NAME]
        odd = [file for file in files if not is_utf8(str(file))]
        refused = tuple(Skipped(shown_path(file), "its name is not in UTF-8: rename it") for file in odd)
        return {file.relative_to(root).as_posix(): patient for file in files if file not in odd}, refused
    return _as_read(path, root, manifest)


def _as_read(path: Path, root: Path, manifest: Path | None) -> tuple[dict[str, str], tuple[Skipped, ...]]:
    report = read_path(path, manifest=manifest)
    subjects: dict[str, set[str]] = defaultdict(set)
    for record in report.patients:
        for item in record.items:
            for file in item.files:
                subjects[file].add(record.subject_id)
    read = tuple(subjects)
    for companion in report.companions:
        beside = [file for file in read if Path(file).parent == Path(companion).parent]
        same = [file for file in beside if Path(file).with_suffix("") == Path(companion).with_suffix("")]
        subjects[companion] = set().union(*(subjects[file] for file in same or beside))  # segments have names of their own
    known, refused = dict[str, str](), [each for each in report.skipped if each.path not in subjects]
    for file, owners in sorted(subjects.items()):
        if len(owners) == 1 and UNASSIGNED not in owners:
            known[Path(file).relative_to(root).as_posix()] = owners.pop()
        else:
            why = f"it holds {len(owners)} patients: split it, one file a patient" if len(owners) > 1 else "nothing says whose it is"
            refused.append(Skipped(file, why))
    return known, tuple(refused)


def _regular_files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise InputError(f"Cannot read '{path.name}': no such file or folder. Check the path.")
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def put_files(
    store: Store, root: Path, subjects: Mapping[str, str], done: StoredList, *, folder: str | None = None, cohort: Cohort | None = None
) -> Iterator[Stored | Skipped]:
    """Store files one by one and yield each as it is acknowledged, or why it was not stored; run again, it ends what was cut short.

    Args:
        store: where to.
        root: the folder that the paths are below.
        subjects: path → patient's id, as `patients_of_files` gives.
        done: the list that each stored file is added to.
        folder: `folder_tag` of the folder that the files came from, where `root` is a copy of it.
        cohort: what the folder's manifest declares, kept with each file.

    Raises:
        StoreError: the store cannot take more.
    """
    tag = folder_tag(root) if folder is None else folder
    erased = {subject_id for subject_id in set(subjects.values()) if store.keys.is_erased(store.keys.tag_of(subject_id))}
    for relative, subject_id in subjects.items():
        if subject_id in erased:
            yield Skipped(str(root / relative), "its patient was erased; new data of this patient needs a new id")
            continue
        try:
            address = _put_file(store, root / relative, subject_id)
        except InputError as error:
            yield Skipped(str(root / relative), str(error))
            continue
        one = Stored(relative, subject_id, address, tag, declared(cohort or Cohort(), relative))
        done.add(one)
        yield one


def _places(wanted: Sequence[Stored]) -> Iterator[tuple[PurePosixPath, Stored]]:
    """Yield where each file goes; what two folders hold alike comes once."""
    first: dict[str, Stored] = {}
    for one in wanted:
        first.setdefault(one.path, one)
    apart = {one.folder for one in wanted if first[one.path].address != one.address}
    done: set[PurePosixPath] = set()
    for one in wanted:
        place = PurePosixPath(f"from-{one.folder or 'before'}", one.path) if one.folder in apart else PurePosixPath(one.path)
        if place not in done:
            done.add(place)
            yield place, one


def _put_file(store: Store, path: Path, subject_id: str) -> str:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be opened: {error.strerror}") from None
    with stream:
        return store.put(subject_id, stream)


def get_files(store: Store, wanted: Sequence[Stored], out: Path) -> Iterator[Path]:
    """Write stored files below a folder and yield each; a file appears whole and checked, or not at all.

    Where two folders that were stored hold different files of one name, all files of the later one go into a folder of their own. A
    manifest is written beside them: whose each file is, and what was declared about it.

    Raises:
        StoreError: an object cannot be read, or a file of that name, or a manifest, is there already.
        ConfigError: a path of the list leads out of the folder.
    """
    places = list(_places(wanted))
    manifest = out / FILE_NAME
    if manifest.exists():
        raise StoreError(f"Cannot write files to '{out}': it holds a manifest. Name an empty folder.")
    for relative, one in places:
        if relative.is_absolute() or ".." in relative.parts:
            raise ConfigError(
                "Cannot write a file of the list: its path leads out of the folder. Use the list that 'salus store put' wrote."
            )
        final = out / relative
        if final.exists():
            raise StoreError(f"Cannot write object {opaque(one.address)}: a file of that name is there. Name an empty folder.")
        final.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=final.parent, prefix=".new-")
        try:
            with os.fdopen(number, "wb") as stream, store.open(one.subject_id, one.address) as content:
                shutil.copyfileobj(content, stream, 1 << 20)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(final)
        finally:
            Path(name).unlink(missing_ok=True)
        fsync_folder(final.parent)
        yield final
    rules = {str(relative): _with_subject(one) for relative, one in places}
    create_once(manifest, manifest_text("from a store", rules).encode())


def _with_subject(one: Stored) -> dict[str, Mapping[str, Any]]:
    return {**one.declared, "files": {"subject": one.subject_id, **one.declared.get("files", {})}}
