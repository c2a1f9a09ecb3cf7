"""What commands share that keep or show records without saying whose they are: the arguments, and the records."""

from __future__ import annotations

import argparse
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from salus.record.deidentify.gate import Means
from salus.record.deidentify.identity import people_of
from salus.record.deidentify.key import KEY_BYTES, Key, read_key
from salus.record.deidentify.mapping import keep_names
from salus.record.deidentify.presidio import build_presidio
from salus.record.deidentify.records import deidentified
from salus.record.deidentify.text import OWN, Subject, clean
from salus.record.patient import PatientRecord, ReadReport, Skipped
from salus.record.read.folder import merged
from salus.record.transcribe import Transcriber, transcriber


def add_record_arguments(parser: argparse.ArgumentParser, *, is_default: bool, key: str) -> None:
    """Declare `--deidentify` and `--key` of a command over records.

    Args:
        parser: the command's.
        is_default: whether records lose what says whose they are unless somebody asks that they keep it.
        key: where the key lies by default, in words.
    """
    words = "pseudonyms, moved dates, no identifiers in texts" + (" (the default)" if is_default else "")
    parser.add_argument("--deidentify", action=argparse.BooleanOptionalAction, default=is_default, help=words)
    parser.add_argument("--key", type=Path, metavar="FILE", help=f"key of the pseudonyms, kept apart; made when absent (default: {key})")


def key_beside(key: Path | None, out: Path) -> Path:
    """Return the key file: the one that was given, or one beside what is written."""
    whole = out.resolve()
    return key or whole.with_name(f"{whole.name}.deidentify")


def add_means_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what finds identifiers beside the own recognisers."""
    parser.add_argument("--presidio", action="store_true", help="search free text with Presidio too")
    words = "hear speech and silence all but everyday words; ENGINE: whisper (default) or a plug-in. Without it speech is refused"
    parser.add_argument("--transcribe", nargs="?", const="whisper", metavar="ENGINE", help=words)


def means_of(args: argparse.Namespace) -> Means:
    """Return what finds identifiers, as the arguments say.

    Raises:
        MissingExtra: a package is not installed.
    """
    more = (build_presidio(),) if args.presidio else ()
    engine = None if args.transcribe is None else transcriber(args.transcribe)
    return Means(more=more) if engine is None else Means(more=more, transcriber=partial(_same, engine))


def _same(engine: Transcriber) -> Transcriber:
    return engine


class Keeper:
    """De-identifies records one by one, and keeps which name is which."""

    def __init__(self, key_file: Path | None, root: Path) -> None:
        """Take the key, made when absent (None: one that is thrown away), and the folder that files lie in."""
        self.key_file, self.root = key_file, root
        self.key: Key = Key(secrets.token_bytes(KEY_BYTES)) if key_file is None else read_key(key_file)
        self.left_out: Counter[str] = Counter()
        self.files: dict[str, str] = {}
        self.subjects: dict[str, str] = {}

    def records(self, records: Sequence[PatientRecord], among: Sequence[PatientRecord] | None = None) -> Iterator[PatientRecord]:
        """Yield records without what says whose they are; those of one patient under two keys become one.

        Args:
            records: as they were read.
            among: all that were read with them, whose files say which keys are one patient's; None: the records.
        """
        people = people_of(records if among is None else among)
        of_patient: dict[str, list[PatientRecord]] = {}
        for record in records:
            of_patient.setdefault(people.chief(record.subject_id), []).append(record)
        for chief, parts in of_patient.items():
            found = deidentified(merged(chief, parts), self.key, self.root, people)
            self.left_out.update(found.left_out)
            self.files.update(found.names["files"])
            self.subjects.update(found.names["subjects"])
            yield found.record

    def report(self, report: ReadReport, among: Sequence[PatientRecord] | None = None) -> ReadReport:
        """Return a whole reading so; of what was skipped, how many and why, under opaque names."""
        kept = tuple(self.records(report.patients, among))
        skipped = tuple(self._skipped(each) for each in report.skipped)
        return replace(report, patients=kept, skipped=skipped, companions=())

    def _skipped(self, each: Skipped) -> Skipped:
        path = Path(each.path)
        below = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
        name = f"f{self.key.code('file', below)}"
        self.files[name] = below
        reason = each.reason
        for part in sorted({each.path, path.name, path.stem}, key=len, reverse=True):
            reason = reason.replace(f"'{part}'", "the file").replace(part, "the file") if len(part) > 2 else reason
        return Skipped(name, clean(reason, Subject(self.key, "", OWN), moves_dates=False).text)

    def close(self) -> str:
        """Keep the names, and return what to tell the user."""
        lines = [f"  {count} items left out: {reason}" for reason, count in self.left_out.most_common()]
        if self.key_file is None:
            return "\n".join(["De-identified, by a key that is thrown away.", *lines])
        path = keep_names(self.key_file, {"files": self.files, "subjects": self.subjects})
        return "\n".join([f"De-identified; which name is which: {path}", *lines])
