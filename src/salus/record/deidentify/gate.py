"""The gate at intake: a folder in, a de-identified copy out, or nothing.

Takes a folder, a key and an output folder; gives a report with counts and reasons, never values. A file is delivered only when the
check afterwards finds nothing in it. The copy appears whole, by one rename; a run that is killed leaves only files that end in `.part`,
in a hidden folder. What maps new names to old ones stands beside the key, not in the output.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from salus import __version__
from salus.errors import ConfigError, InputError, SalusError
from salus.record.cohort import FILE_NAME, Cohort, declared, manifest_text, options_of, read_manifest, subject_of, subjects_by_file
from salus.record.deidentify.formats import Format, ending_of, format_of
from salus.record.deidentify.identity import joined
from salus.record.deidentify.key import Key, read_key
from salus.record.deidentify.kinds import Kind, Recogniser
from salus.record.deidentify.known import KnownRecogniser
from salus.record.deidentify.mapping import keep_names, mapping_of
from salus.record.deidentify.pixels import build_text_finder
from salus.record.deidentify.work import Done, Person, TextFinder, Work
from salus.record.read.folder import DOCUMENTATION, UNASSIGNED, readers
from salus.record.transcribe import Transcriber

REPORT_NAME = "deidentification.json"
LIMITS = (
    "Recognisers miss things: see docs/deidentification.md for the measured recall. This is no statement that the data are anonymous.",
    "Dates are moved by one number of days for each patient, so intervals and times of day stay; a year alone is kept.",
    "Voxels, faces and voices are not changed. Handwriting is not read.",
)
Status = Literal["delivered", "failed", "refused", "documentation"]


@dataclass(frozen=True)
class Means:
    """What finds identifiers, beside the own recognisers."""

    finder: Callable[[], TextFinder] = build_text_finder
    """Builds what finds text in pictures."""
    more: tuple[Recogniser, ...] = ()
    """Further recognisers of text, such as Presidio's."""
    transcriber: Callable[[], Transcriber] | None = None
    """Builds what hears speech; None: speech is refused."""


@dataclass(frozen=True)
class FileReport:
    """What happened to one file, without its name."""

    id: str
    format: str
    status: Status
    reasons: tuple[str, ...] = ()
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a run did."""

    files: tuple[FileReport, ...]
    patients: int
    mapping: Path
    """Where the names that the new ones stand for are kept, beside the key."""

    @property
    def is_complete(self) -> bool:
        """Whether every file but documentation was delivered."""
        return all(each.status in ("delivered", "documentation") for each in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a tree of counts and reasons."""
        totals: Counter[tuple[str, str]] = Counter()
        for each in self.files:
            totals.update(each.counts)
        return {
            "salus": __version__,
            "patients": self.patients,
            "files": [
                {
                    "id": each.id,
                    "format": each.format,
                    "status": each.status,
                    "reasons": list(each.reasons),
                    "counts": _listed(each.counts),
                    "notices": list(each.notices),
                }
                for each in self.files
            ],
            "totals": _listed(totals),
            "statuses": dict(Counter(each.status for each in self.files)),
            "limits": list(LIMITS),
        }


def _listed(counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [{"kind": kind, "action": action, "count": count} for (kind, action), count in sorted(counts.items()) if count]


@dataclass
class _Run:
    """What the parts of one run share."""

    root: Path
    staging: Path
    key: Key
    cohort: Cohort
    means: Means
    patient: str | None = None
    formats: dict[Path, Format] = field(default_factory=dict)
    people: dict[Path, tuple[Person, ...]] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    known: dict[str, dict[Kind, frozenset[str]]] = field(default_factory=dict)
    given: dict[Path, str] = field(default_factory=dict)
    built: dict[str, KnownRecogniser] = field(default_factory=dict)
    reports: list[FileReport] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)
    declared: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def id_of(self, path: Path) -> str:
        """Return a file's opaque id."""
        made = f"f{self.key.code('file', path.relative_to(self.root).as_posix())}"
        self.mapping[made] = path.relative_to(self.root).as_posix()
        return made

    def note(self, path: Path, known: str, status: Status, reasons: Sequence[str] = ()) -> None:
        """Report a file that is not delivered."""
        self.reports.append(FileReport(self.id_of(path), known, status, tuple(_without_name(each, path) for each in reasons)))


def deidentify_folder(
    root: Path,
    out: Path,
    key_file: Path,
    *,
    manifest: Path | None = None,
    means: Means | None = None,
    patient: str | None = None,
) -> Report:
    """Write a de-identified copy of a folder, whole or not at all, and return what was done.

    Args:
        root: folder to read; nothing in it is changed.
        out: folder to make; it must not exist.
        key_file: file with the key, outside of both; made when absent.
        manifest: cohort manifest, by default the one in the folder.
        means: what finds identifiers, beside the own recognisers; by default text in pictures is read, and speech is refused.
        patient: whose all files are; None: as the files, the manifest and the folders say.

    Raises:
        InputError: there is no such folder, or no file in it.
        ConfigError: the output exists, lies in the input, or holds the key.
        MissingExtra: a format needs a package that is not installed.
    """
    _refuse_places(root, out, key_file)
    key = read_key(key_file)
    found = manifest or (root / FILE_NAME if (root / FILE_NAME).is_file() else None)
    cohort = read_manifest(found) if found else Cohort()
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-", suffix=".part"))
    try:
        run = _Run(root, staging, key, cohort, means or Means(), patient)
        covered: set[Path] = set()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            _survey(run)
            for path in sorted(run.formats, key=lambda each: (run.formats[each].title != "WFDB record", each)):
                if path not in covered:
                    covered.update(_deliver(path, run))
        covered_ids = {run.id_of(path) for path in covered}
        run.reports = sorted((each for each in run.reports if each.id not in covered_ids), key=lambda each: each.id)
        _write_manifest(run)
        report = Report(tuple(run.reports), len(set(run.same.values())), mapping_of(key_file))
        (staging / f"{REPORT_NAME}.part").write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
        subjects = {key.subject(each): each for each in sorted(set(run.same.values()))}
        keep_names(key_file, {"files": run.mapping, "subjects": subjects})
        for part in sorted(staging.rglob("*.part")):
            part.rename(part.with_suffix(""))
        staging.chmod(0o755)
        _take_name(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return report


def _take_name(staging: Path, out: Path) -> None:
    try:
        staging.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ConfigError(f"Cannot write to '{out}': somebody else has written there in the meantime. Name another folder.") from None
        raise


def _refuse_places(root: Path, out: Path, key_file: Path) -> None:
    if not root.is_dir():
        raise InputError(f"Cannot de-identify '{root}': no such folder. Give a folder.")
    inside, to, key = root.resolve(), out.resolve(), key_file.resolve()
    if out.exists():
        raise ConfigError(f"Cannot write to '{out}': it exists. Name a folder that does not.")
    if not out.parent.is_dir():
        raise ConfigError(f"Cannot write to '{out}': there is no folder '{out.parent}'. Make it first.")
    if to == inside or inside in to.parents:
        raise ConfigError(f"Cannot write to '{out}': it lies inside the folder that is read. Name another place.")
    if to == key or to in key.parents or inside in key.parents:
        raise ConfigError("Cannot use this key file: it lies inside the folder that is read or written. Keep the key apart from the data.")


def _files(root: Path) -> list[Path]:
    """Return the files and links below a folder, and the folders that cannot be opened."""
    found: list[Path] = []

    def closed(error: OSError) -> None:
        found.append(Path(error.filename))

    for folder, folders, names in os.walk(root, onerror=closed):
        found += [Path(folder, name) for name in names]
        found += [Path(folder, name) for name in folders if Path(folder, name).is_symlink()]
    return sorted(found)


def _survey(run: _Run) -> None:
    """Find the format of each file, who is named in it, and which keys mean one patient."""
    installed = readers()
    files = _files(run.root)
    if not files:
        raise InputError(f"Cannot de-identify '{run.root.name}': the folder holds no file. Check the path.")
    for path in files:
        relative = path.relative_to(run.root)
        if path.name == FILE_NAME or (not any(part.startswith(".") for part in relative.parts) and DOCUMENTATION.fullmatch(path.name)):
            run.note(path, "", "documentation", ("documentation or manifest: not copied",))
        elif any(part.startswith(".") for part in relative.parts) or path.is_symlink():
            run.note(path, "", "refused", ("a hidden file or a link: not copied",))
        elif path.is_dir() or not os.access(path, os.R_OK):
            run.note(path, "", "refused", ("it cannot be opened",))
        elif path.stat().st_size == 0:
            run.note(path, "", "refused", ("empty file",))
        elif (known := format_of(path, installed)) is None:
            run.note(path, "", "refused", ("its format cannot be de-identified: not copied",))
        else:
            try:
                run.people[path] = tuple(known.survey(path))
                run.formats[path] = known
            except InputError as error:
                run.note(path, known.title, "failed", (str(error),))
            except SalusError:
                raise
            except Exception as error:
                run.note(path, known.title, "failed", (f"it cannot be read: {type(error).__name__}",))
    people = joined(person for found in run.people.values() for person in found)
    run.same.update(people.same)
    run.known.update({key: dict(values) for key, values in people.known.items()})
    _assign(run)


def _assign(run: _Run) -> None:
    """Say whose each file is, as reading does: its own key, the manifest's, the only patient's, or its folder's."""
    if run.patient is not None:
        every: dict[Kind, frozenset[str]] = {}
        for values in run.known.values():
            for kind, each in values.items():
                every[kind] = every.get(kind, frozenset()) | each
        run.known, run.same = {run.patient: every}, dict.fromkeys((*run.same, run.patient), run.patient)
    by_file = subjects_by_file(run.cohort, run.root) if any(rule.subject_table for rule in run.cohort.files.values()) else {}
    subjects = set(run.same.values())
    only = next(iter(subjects)) if len(subjects) == 1 else None
    of_folder: dict[str, set[str]] = {}
    for path, people in run.people.items():
        keys = {run.same[person.key] for person in people if person.key}
        of_folder.setdefault(path.relative_to(run.root).parts[0], set()).update(keys)
    for path in run.formats:
        relative = path.relative_to(run.root)
        own = next((person.key for person in run.people[path] if person.key), None)
        named = (
            run.patient
            or own
            or subject_of(run.cohort, relative.as_posix(), by_file)
            or only
            or (_only_of(of_folder[relative.parts[0]], relative.parts[0]) if len(relative.parts) > 1 else UNASSIGNED)
        )
        run.given[path] = run.same.setdefault(named, named)
        known = run.known.setdefault(run.given[path], {})
        if not own:
            known[Kind.RECORD] = known.get(Kind.RECORD, frozenset()) | ({named} - {UNASSIGNED})


def _only_of(keys: set[str], folder: str) -> str:
    """Return the one patient whom the files of a sub-folder name, else the folder's own name."""
    return next(iter(keys)) if len(keys) == 1 else folder


def _deliver(path: Path, run: _Run) -> tuple[Path, ...]:
    """De-identify one file into the staging folder, check it, and return what else it covered."""
    known, relative = run.formats[path], path.relative_to(run.root).as_posix()
    made = run.id_of(path)
    means, options = run.means, options_of(run.cohort, relative)
    work = Work(run.key, run.given[path], run.known, run.same, options, means.finder, means.more, means.transcriber, run.built)
    folder = run.staging / work.pseudonym
    folder.mkdir(exist_ok=True)
    target = folder / f"{made}.{ending_of(path, known)}.part"
    done: Done | None = None
    try:
        done = known.clean(path, target, work)
        reasons = tuple(known.check(path, target, work))
    except InputError as error:
        reasons = (str(error),)
    except SalusError:
        raise
    except Exception as error:  # one odd file keeps itself from being delivered, and no other
        reasons = (f"it cannot be de-identified: {type(error).__name__}",)
    if reasons or done is None:
        for part in folder.glob(f"{made}.*"):
            part.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
        run.note(path, known.title, "failed", reasons)
        return done.companions if done else ()
    run.reports.append(FileReport(made, known.title, "delivered", (), done.counts, done.notices))
    _keep_declared(run, path, target)
    return done.companions


def _keep_declared(run: _Run, path: Path, target: Path) -> None:
    """Note what was declared of a file under its new name; texts of the copy are in UTF-8."""
    trees = declared(run.cohort, path.relative_to(run.root).as_posix())
    trees.get("files", {}).pop("encoding", None)
    if any(trees.values()):
        run.declared[target.relative_to(run.staging).as_posix().removesuffix(".part")] = trees


def _write_manifest(run: _Run) -> None:
    """Write the manifest of the copy: what was declared of each file, under its new name."""
    if run.declared:
        (run.staging / f"{FILE_NAME}.part").write_text(manifest_text("de-identified", run.declared, run.cohort), encoding="utf-8")


def _without_name(reason: str, path: Path) -> str:
    """Return a reason without the file's name, which may hold a person's."""
    for name in sorted({str(path), path.name, path.stem}, key=len, reverse=True):
        if len(name) > 2:
            reason = re.sub(rf"'{re.escape(name)}'|(?<!\w){re.escape(name)}(?!\w)", "the file", reason)
    return re.sub(r"\s+", " ", reason).replace("the file the file", "the file").replace("file the file", "the file")
