"""`salus index PATH --out cohort.parquet`: one row for each item of every patient, for queries without reading the files again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from rich.console import Console

from salus.commands.deidentified import Keeper, add_record_arguments, key_beside
from salus.errors import InputError
from salus.record.cohort import FILE_NAME
from salus.record.index import FolderRecord, read_by_folder, write_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Write the cohort index: one row for each item of every patient, in Parquet."
    parser.add_argument("path", type=Path, help="folder; if it holds sub-folders alone, each is read by itself, in little memory")
    parser.add_argument("--out", type=Path, default=Path("cohort.parquet"), metavar="FILE", help="index to write (default: cohort.parquet)")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest (default: salus-cohort.yaml in the folder)")
    add_record_arguments(parser, is_default=False, key="OUT.deidentify beside the index")


def run(args: argparse.Namespace) -> int:
    """Write the index; return 0.

    Raises:
        InputError: the path does not exist, or holds nothing about a patient.
        ConfigError: the manifest is wrong.
    """
    if not args.path.exists():
        raise InputError(f"Cannot read '{args.path}': no such file or folder. Check the path.")
    root = args.path if args.path.is_dir() else args.path.parent
    beside = root / FILE_NAME
    skipped: list[int] = []
    records = read_by_folder(args.path, manifest=args.manifest or (beside if beside.is_file() else None), skipped=skipped)
    keeper = Keeper(key_beside(args.key, args.out), root) if args.deidentify else None
    if keeper is not None:
        records = _without_identity(records, keeper)
    found = write_index(records, args.out, root)
    if not found.items:
        args.out.unlink()
        raise InputError(f"Cannot index '{args.path}': nothing there is about a patient. 'salus inspect' says which file has which reason.")
    Console(highlight=False, soft_wrap=True).print(
        f"{found.patients} patients, {found.items} items, {sum(skipped)} skipped ('salus inspect' says why): {args.out}", markup=False
    )
    if keeper is not None:
        Console(highlight=False, soft_wrap=True).print(keeper.close(), markup=False)
    return 0


def _without_identity(records: Iterator[FolderRecord], keeper: Keeper) -> Iterator[FolderRecord]:
    """Yield the records of each folder under pseudonyms; a folder's patients are known together."""
    for _folder, found in groupby(records, key=lambda one: one.folder):
        yield from (FolderRecord("", record) for record in keeper.records([one.record for one in found]))
