"""`salus deidentify PATH --out FOLDER --key FILE`: a de-identified copy of a folder, checked, or the reason why not."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich.console import Console

from salus.commands.deidentified import add_means_arguments, means_of
from salus.record.deidentify.gate import REPORT_NAME, Report, deidentify_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Write a de-identified copy of a folder. A file in which the check still finds something is not delivered."
    parser.add_argument("path", type=Path, help="folder to read; nothing in it is changed")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to make; it must not exist")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="key file, kept apart from both folders; made when absent")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest (default: salus-cohort.yaml in the folder)")
    add_means_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """De-identify; return 0 when every file was delivered, 1 when some were not.

    Raises:
        UserFixable: a path, the key or a missing package.
    """
    report = deidentify_folder(args.path, args.out, args.key, manifest=args.manifest, means=means_of(args))
    show(report, args.out, Console(highlight=False, soft_wrap=True))
    return 0 if report.is_complete else 1


def show(report: Report, out: Path, console: Console) -> None:
    """Print counts and reasons; files by their opaque ids."""
    statuses = Counter(each.status for each in report.files)
    console.print(f"{statuses['delivered']} of {len(report.files) - statuses['documentation']} files delivered, {report.patients} patients")
    totals: Counter[tuple[str, str]] = Counter()
    for each in report.files:
        totals.update(each.counts)
    for (kind, action), count in sorted(totals.items()):
        if count:
            console.print(f"  {kind} {action}: {count}")
    for each in report.files:
        if each.status in ("failed", "refused"):
            console.print(f"  {each.id} {each.status}: {'; '.join(each.reasons)}", markup=False)
    for notice, count in sorted(Counter(notice for each in report.files for notice in each.notices).items()):
        console.print(f"  notice ({count}): {notice}", markup=False)
    console.print(f"Copy: {out}; report: {out / REPORT_NAME}; which id is which file: {report.mapping}", markup=False)
