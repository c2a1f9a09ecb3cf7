"""`salus store put|get|verify|forget`: keeps patients' files sealed, in a folder or an object store, and gives them back."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from salus.commands.deidentified import add_means_arguments, means_of
from salus.errors import ConfigError, InputError
from salus.record.cohort import FILE_NAME, Cohort, read_manifest
from salus.record.deidentify.gate import REPORT_NAME, deidentify_folder
from salus.record.deidentify.key import read_key
from salus.record.deidentify.mapping import drop_names
from salus.record.intake import StoredList, folder_tag, get_files, patients_of_files, put_files
from salus.record.keys import KeyRing
from salus.record.patient import Skipped
from salus.record.read.folder import NOT_EVIDENCE, UNASSIGNED
from salus.record.sealed import opaque
from salus.record.store import Store, refuse_inside

SHOWN = 20
"""Files that were not stored, and problems, of which each is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Keep patients' files sealed by a key for each patient, in a folder or an object store, and give them back."
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    put = actions.add_parser("put", help="store files; again after a crash, it goes on")
    put.add_argument("path", type=Path, help="file or folder")
    put.add_argument("--patient", metavar="ID", help="all files are this patient's (default: as the files or the manifest say)")
    put.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest (default: salus-cohort.yaml in the folder)")
    add_means_arguments(put)
    put.add_argument("--no-deidentify", action="store_true", help="store files as they are, with all that tells who the patient is")
    get = actions.add_parser("get", help="write stored files below a folder, each whole and checked")
    get.add_argument("out", type=Path, help="folder to write to")
    get.add_argument("--patient", metavar="ID", help="this patient's files only")
    actions.add_parser("verify", help="read every object and name what is damaged or missing")
    forget = actions.add_parser("forget", help="erase a patient: delete the key, then the objects")
    forget.add_argument("patient", metavar="ID", help="the patient's id, as it was stored")
    for action in actions.choices.values():
        action.add_argument("--store", required=True, metavar="URL", help="folder, or a URL such as s3://bucket/prefix")
        action.add_argument("--keys", required=True, type=Path, metavar="FILE", help="key ring, outside the store (put makes a new one)")
        action.add_argument("--master", type=Path, metavar="FILE", help="its master key, best on another disk (default: KEYS.master)")
        action.add_argument("--list", type=Path, metavar="FILE", help="what came from where (default: KEYS.list.jsonl)")
        action.add_argument("--key", type=Path, metavar="FILE", help="key of the new names of patients (default: KEYS.deidentify)")


def run(args: argparse.Namespace) -> int:
    """Run one action; return 0, or 1 when `verify` found something, or `put` left a file out.

    Raises:
        StoreError: the store or the key ring cannot give or take something.
        ConfigError: a file of keys lies inside the store or is open to others.
    """
    listed: Path = args.list or args.keys.with_name(args.keys.name + ".list.jsonl")
    master: Path | None = args.master
    key: Path = args.key or args.keys.with_name(args.keys.name + ".deidentify")
    for path in (args.keys, listed, key, *([master] if master else [])):
        refuse_inside(args.store, path)
    is_new = args.action == "put" and not args.keys.exists()
    if args.action != "put" and not listed.exists() and args.action != "forget":
        raise ConfigError(f"Cannot use list '{listed.name}': no such file. Name the list that 'salus store put' wrote with --list.")
    store = Store(args.store, KeyRing(args.keys, master, may_make=args.action == "put"))
    console, done = Console(highlight=False, soft_wrap=True), StoredList(listed)
    if is_new:
        paths = f"{store.keys.path} and {store.keys.master_path}"
        console.print(f"New key ring: {paths}. Without both nothing can be read: copy them, apart from the store.", markup=False)
    if args.action == "put":
        return _put(args, store, done, key=key, console=console)
    if args.action == "verify":
        return _verify(store, done, console)
    ids = None if args.patient is None else _stored_as(args.patient, key)
    if args.action == "forget":
        return _forget(store, done, ids or (), key=key, console=console)
    wanted = [one for one in done.lines.values() if ids is None or one.subject_id in ids]
    if not wanted:
        raise ConfigError(f"Cannot get files: '{listed.name}' lists none of that patient. Check the id.")
    console.print(f"{sum(1 for _ in get_files(store, wanted, args.out))} files written to {args.out}", markup=False)
    return 0


def _stored_as(patient: str, key: Path) -> tuple[str, ...]:
    """Return the ids under which a patient may be stored: the one that was given, and the one that stands for it."""
    return (patient, read_key(key).subject(patient)) if key.exists() else (patient,)


def _forget(store: Store, done: StoredList, ids: Sequence[str], *, key: Path, console: Console) -> int:
    """Erase a patient, as they are and under the id that stands for them."""
    known = [each for each in ids if store.keys.knows(store.keys.tag_of(each))]
    if not known:
        raise InputError("Cannot erase that patient: the key ring holds no key of this id. Give the id under which it was stored.")
    count = 0
    for each in known:
        count += store.forget(each)
        names = {Path(one.path).name.split(".")[0] for one in done.lines.values() if one.subject_id == each}
        drop_names(key, each, names)
        done.drop(each)
    console.print(f"Erased: the key, and {count} objects. Copies of the key ring made before still hold the key: renew them.")
    return 0


def _put(args: argparse.Namespace, store: Store, done: StoredList, *, key: Path, console: Console) -> int:
    if args.no_deidentify:
        subjects, refused = patients_of_files(args.path, patient=args.patient, manifest=args.manifest)
        root = args.path if args.path.is_dir() else args.path.parent
        manifest = args.manifest or root / FILE_NAME
        cohort = read_manifest(manifest) if manifest.is_file() else Cohort()
        about = [each for each in refused if each.reason in NOT_EVIDENCE]
        _say_documentation(len(about), console)
        left_out = [each for each in refused if each not in about]
        return _put_files(store, done, (root, folder_tag(root), cohort), subjects, left_out=left_out, console=console)
    with _deidentified(args, key, console) as (copy, left_out):
        patient = None if args.patient is None else read_key(key).subject(args.patient)
        subjects, refused = patients_of_files(copy, patient=patient)
        nobody = read_key(key).subject(UNASSIGNED)
        refused = tuple(each for each in refused if each.reason not in NOT_EVIDENCE)
        manifest = copy / FILE_NAME
        cohort = read_manifest(manifest) if manifest.is_file() else Cohort()
        left_out += [Skipped(Path(path).name, "nothing says whose it is") for path, owner in subjects.items() if owner == nobody]
        subjects = {path: owner for path, owner in subjects.items() if owner != nobody}
        tag = folder_tag(args.path if args.path.is_dir() else args.path.parent)
        status = _put_files(store, done, (copy, tag, cohort), subjects, left_out=(*left_out, *refused), console=console)
    names = key.with_name(f"{key.name}.map.json")
    console.print(f"De-identified; the report: {_report_of(key)}; which new name is which: {names}", markup=False)
    if left_out:
        console.print("What this program cannot de-identify is stored with --no-deidentify, as it is.")
    return status


def _report_of(key: Path) -> Path:
    return key.with_name(f"{key.name}.report.json")


@contextmanager
def _deidentified(args: argparse.Namespace, key: Path, console: Console) -> Iterator[tuple[Path, list[Skipped]]]:
    """Yield a de-identified copy that is there while the context is open, and what is not in it; the report is kept beside the key.

    The copy lies in a folder for its owner alone, below TMPDIR, and needs as much space as the files.
    """
    if not args.path.exists():
        raise InputError(f"Cannot read '{args.path.name}': no such file or folder. Check the path.")
    box = Path(tempfile.mkdtemp(prefix="salus-put-"))
    try:
        root = args.path
        if not root.is_dir():
            root = box / "one"
            root.mkdir()
            shutil.copyfile(args.path, root / args.path.name)
        key.parent.mkdir(parents=True, exist_ok=True)
        report = deidentify_folder(root, box / "copy", key, manifest=args.manifest, means=means_of(args), patient=args.patient)
        shutil.move(box / "copy" / REPORT_NAME, _report_of(key))
        kept_out = [each for each in report.files if each.status in ("failed", "refused")]
        _say_documentation(sum(each.status == "documentation" for each in report.files), console)
        yield box / "copy", [Skipped(each.id, "; ".join(each.reasons)) for each in kept_out]
    finally:
        shutil.rmtree(box, ignore_errors=True)


def _say_documentation(count: int, console: Console) -> None:
    if count:
        console.print(f"{count} files of documentation, labels or a manifest hold no evidence of a patient and are not stored")


def _put_files(
    store: Store,
    done: StoredList,
    place: tuple[Path, str, Cohort],
    subjects: Mapping[str, str],
    *,
    left_out: Sequence[Skipped],
    console: Console,
) -> int:
    """Store the files of a folder, (where it is, whose tag they get, what is declared about them)."""
    root, tag, cohort = place
    left_out, stored = list(left_out), 0
    for one in put_files(store, root, subjects, done, folder=tag, cohort=cohort):
        if isinstance(one, Skipped):
            left_out.append(one)
        else:
            stored += 1
    console.print(f"{stored} files of {len(set(subjects.values()))} patients stored; {len(left_out)} not stored", markup=False)
    for each in left_out[:SHOWN]:
        shown = Path(each.path).relative_to(root) if Path(each.path).is_relative_to(root) else Path(each.path)
        console.print(f"  not stored: {shown}: {each.reason}", markup=False)
    if len(left_out) > SHOWN:
        console.print(f"  and {len(left_out) - SHOWN} more; 'salus inspect' names them")
    return 1 if left_out else 0


def _verify(store: Store, done: StoredList, console: Console) -> int:
    found = store.verify()
    missing = [one for one in done.lines.values() if not store.has(one.subject_id, one.address)]
    console.print(f"{found.objects} objects, {found.content_bytes} bytes of content read and checked; {found.cleared} leftovers cleared")
    for problem in found.problems[:SHOWN]:
        console.print(f"  {problem.kind}: {problem.place}: {problem.why}", markup=False)
    for one in missing[:SHOWN]:
        console.print(f"  missing: object {opaque(one.address)} of patient {store.keys.tag_of(one.subject_id)[:12]}", markup=False)
    kinds = Counter(problem.kind for problem in found.problems)
    if missing:
        kinds["missing"] = len(missing)  # type: ignore[index]
    console.print(", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "Everything that is listed is there, and whole.")
    return 1 if kinds else 0
