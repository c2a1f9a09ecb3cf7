"""One file, one record: subject, options, and the text of both refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.cohorts.one_file import read_one_file
from salus.errors import InputError
from salus.record.read.reader import FileRead, Found, Reader


def _reader(*found: Found) -> Reader:
    return Reader("x", "test format", lambda path, head: True, lambda path, options: FileRead(found))


def test_the_cohorts_key_comes_before_the_files() -> None:
    reader = _reader(Found("from-file", ()))
    assert read_one_file(reader, Path("a")).subject_id == "from-file"
    assert read_one_file(reader, Path("a"), subject_id="from-cohort").subject_id == "from-cohort"


def test_two_patients_are_refused() -> None:
    with pytest.raises(InputError) as error:
        read_one_file(_reader(Found("a", ()), Found("b", ())), Path("f.txt"))
    assert str(error.value) == "Cannot make one record of f.txt: it holds 2 patients (test format), not one. Restore the file."


def test_a_file_without_a_patient_needs_a_key() -> None:
    with pytest.raises(InputError) as error:
        read_one_file(_reader(Found(None, ())), Path("f.png"))
    assert str(error.value) == "Cannot make a record of f.png: the file names no patient. Give the patient's key with it."
