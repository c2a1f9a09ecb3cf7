"""Hashes: the expected digest is FIPS 180's published example."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.errors import InputError
from salus.record.read import source
from salus.record.read.source import file_sha256, refuse_empty, source_of


def test_digest_of_the_published_example(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert source_of(path, "line 1").locator == "line 1"


@pytest.mark.parametrize("check", [file_sha256, refuse_empty])
def test_absent_file(tmp_path: Path, check: object) -> None:
    with pytest.raises(InputError) as caught:
        check(tmp_path / "none.dcm")  # type: ignore[operator]
    assert str(caught.value) == "Cannot read 'none.dcm': No such file or directory. Check that the file exists and may be read."


def test_a_hash_is_not_kept_past_a_change_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SETTLED_NS", 0)  # every file counts as settled at once
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    before = file_sha256(path)
    read = source.bytes_sha256
    monkeypatch.setattr(source, "bytes_sha256", lambda _path: pytest.fail("hashed again, though nothing changed"))
    assert file_sha256(path) == before
    monkeypatch.setattr(source, "bytes_sha256", read)
    path.write_bytes(b"abd")
    assert file_sha256(path) != before
