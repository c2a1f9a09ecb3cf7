"""Result files are whole or not there, also where two processes write one at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO

import pytest

from salus.evaluate.rows import write_result, write_whole


def test_two_that_write_one_file_at_once_do_not_meet(tmp_path: Path) -> None:
    path, both = tmp_path / "new" / "x.json", threading.Barrier(2)

    def write(letter: bytes) -> None:
        def slowly(stream: IO[bytes]) -> None:
            for _ in range(50):
                both.wait(10)
                stream.write(letter)

        write_whole(path, slowly)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert path.read_bytes() in (b"a" * 50, b"b" * 50) and [one.name for one in path.parent.iterdir()] == ["x.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_result({"value": float("nan")}, path)

    def fail(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_text() == '{\n "value": null\n}\n' and list(tmp_path.iterdir()) == [path]
