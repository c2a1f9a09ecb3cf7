"""Split files: what is read, and the text of every error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.cohorts.split_file import in_order_of_hash, read_rows, read_split
from salus.errors import InputError


def _write(folder: Path, text: str) -> Path:
    path = folder / "split.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_split_is_read_in_file_order(tmp_path: Path) -> None:
    path = _write(tmp_path, "patient,split\nb,train\na,test\nb,train\n")
    assert list(read_split(path, "patient").items()) == [("b", "train"), ("a", "test")]


def test_a_unit_in_two_splits_is_an_error_that_does_not_name_it(tmp_path: Path) -> None:
    path = _write(tmp_path, "patient,split\nJane Roe,train\nJane Roe,test\n")
    with pytest.raises(InputError) as error:
        read_split(path, "patient")
    assert str(error.value) == f"Cannot use the split in {path}, line 3: the same patient is in two splits. Keep it in one."


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path, "patient,split\na,tuning\n")
    with pytest.raises(InputError) as error:
        read_split(path, "patient")
    assert str(error.value) == f"Cannot read {path}, line 2: split 'tuning' is not train or val or test. Correct the line."


def test_a_missing_column_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path, "patient,part\na,train\n")
    with pytest.raises(InputError) as error:
        read_split(path, "patient")
    assert str(error.value) == f"Cannot read the cohort table {path}: column 'split' is missing. Restore the original file."


def test_a_missing_file_says_where_to_point(tmp_path: Path) -> None:
    path = tmp_path / "cohort" / "split.csv"
    with pytest.raises(InputError) as error:
        read_rows(path, ())
    assert str(error.value) == f"Cannot read the cohort: {path} is not there. Set SALUS_DATA to the folder that holds 'cohort'."


def test_bytes_that_are_not_text_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(b"patient,split\n\xff,train\n")
    with pytest.raises(InputError, match=r"Cannot read the cohort table .*: byte 14 is not UTF-8. Restore the original file."):
        read_rows(path, ())


@given(st.lists(st.text(max_size=5), unique=True), st.randoms())
def test_order_by_hash_does_not_depend_on_the_order_given(keys: list[str], rng: object) -> None:
    shuffled = list(keys)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert in_order_of_hash(keys, "salt") == in_order_of_hash(shuffled, "salt")
