"""Reads a cohort's `split.csv` and other small tables.

Takes a CSV file whose rows name a unit (patient, image, recording) and a split; gives the units of one split in file order.
A unit in two splits is an error. Leaves out what a unit is: the task knows.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from salus.errors import InputError
from salus.task import SPLITS, Split


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV table that must hold the named columns.

    Args:
        path: the table, UTF-8.
        columns: names that the header must hold.

    Returns:
        One mapping of column name to text per row, in file order.

    Raises:
        InputError: the file is not there, is not UTF-8, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"Cannot read the cohort table {path}: column {missing[0]!r} is missing. Restore the original file."
                )
            return list(reader)
    except FileNotFoundError:
        raise InputError(
            f"Cannot read the cohort: {path} is not there. Set SALUS_DATA to the folder that holds {path.parent.name!r}."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"Cannot read the cohort table {path}: byte {error.start} is not UTF-8. Restore the original file."
        ) from None


def read_split(path: Path, key: str) -> dict[str, Split]:
    """Return the split of every unit of a cohort.

    Args:
        path: `split.csv` with the columns `key` and `split`.
        key: column that names the unit (patient, image or recording) that must stay in one split.

    Returns:
        Unit → `train`, `val` or `test`, in file order.

    Raises:
        InputError: the file cannot be read, a split has another name, or one unit is in two splits.
    """
    splits: dict[str, Split] = {}
    for number, row in enumerate(read_rows(path, (key, "split")), start=2):
        split = next((name for name in SPLITS if name == row["split"]), None)
        if split is None:
            raise InputError(
                f"Cannot read {path}, line {number}: split {row['split']!r} is not {' or '.join(SPLITS)}. Correct the line."
            )
        if splits.setdefault(row[key], split) != split:
            raise InputError(f"Cannot use the split in {path}, line {number}: the same {key} is in two splits. Keep it in one.")
    return splits


def in_order_of_hash(keys: Sequence[str], salt: str) -> list[str]:
    """Return the keys in an order that is fixed, and unrelated to their own order.

    SHA-256 of salt and key, so that the first n keys are a sample that does not change with the platform or the Python version.

    Example:
        >>> in_order_of_hash(["a", "b", "c"], "x") == in_order_of_hash(["c", "b", "a"], "x")
        True
    """
    return sorted(keys, key=lambda key: hashlib.sha256(f"{salt}:{key}".encode()).hexdigest())
