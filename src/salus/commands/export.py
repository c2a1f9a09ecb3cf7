"""`salus export PATH --format meds --out FOLDER`: a patient's or a cohort's record in a format that others read.

Takes whatever `inspect` reads; writes a MEDS dataset, and says what it could not hold. Needs no model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from salus.commands.deidentified import Keeper, add_record_arguments, key_beside
from salus.record.patient import ReadReport
from salus.record.read.folder import one_patient, read_path
from salus.record.read.meds import read_splits
from salus.record.write.meds import Written, subject_number, write_meds

FORMATS = ("meds",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Write what a file or folder holds as a dataset in the format of others."
    parser.add_argument("path", type=Path, help="file or folder, as for inspect")
    parser.add_argument("--format", choices=FORMATS, default="meds", help="meds: a dataset of the Medical Event Data Standard")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new or empty folder")
    parser.add_argument("--patient", metavar="ID", help="write this patient only")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest (default: salus-cohort.yaml in the folder)")
    parser.add_argument("--with-text", action="store_true", help="write the words of notes and reports too; they may name the patient")
    add_record_arguments(parser, is_default=True, key="FOLDER.deidentify beside the output")


def run(args: argparse.Namespace) -> int:
    """Write the dataset; return 0.

    Raises:
        InputError: the path does not exist, or nobody there has the patient's key.
        ConfigError: the manifest is wrong, or the folder is not empty.
        MissingExtra: what the format needs is not installed.
    """
    report = read_path(args.path, manifest=args.manifest)
    among = report.patients
    if args.patient is not None:
        report = ReadReport((one_patient(report, args.patient),), report.skipped, report.companions)
    splits = read_splits(args.path) if args.path.is_dir() else {}
    keys = {record.subject_id for record in report.patients}
    kept = {key: split for key, split in splits.items() if key in keys}
    if not args.deidentify:
        written = write_meds(report.patients, args.out, name=args.path.name, splits=kept, with_text=args.with_text)
        sys.stdout.write(summary(written, report) + "\n")
        return 0
    keeper = Keeper(key_beside(args.key, args.out), args.path if args.path.is_dir() else args.path.parent)
    kept = {keeper.key.subject(key): split for key, split in kept.items()}
    written = write_meds(keeper.records(report.patients, among), args.out, name="de-identified", splits=kept, with_text=args.with_text)
    keeper.subjects.update({str(subject_number(new)): old for new, old in keeper.subjects.items()})
    sys.stdout.write(f"{summary(written, report)}\n{keeper.close()}\n")
    return 0


def summary(written: Written, report: ReadReport) -> str:
    """Return what was written and what was not, a line each."""
    lines = [f"Wrote {written.events} events of {written.subjects} patients."]
    lines += [f"  {count} items left out: {reason}" for reason, count in written.left_out.most_common()]
    lines += [
        f"  {count} times are after {anchor}, whose calendar time is not known: written from 2000-01-01 on, and marked in 'time_anchor'"
        for anchor, count in written.relative.most_common()
    ]
    if report.skipped:
        lines.append(f"  {len(report.skipped)} files or parts were not read; 'salus inspect' says which and why")
    return "\n".join(lines)
