"""Inputs that fuzzing once found to crash, hang or leak, judged again; and a short fuzzing of every reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz_readers.py"
FOUND = Path(__file__).parent / "found"


def test_found_inputs_are_read_or_refused_now() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--replay", str(FOUND)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(list(FOUND.glob("*/*/READ"))) > 0


def test_found_inputs_are_small() -> None:
    assert [path.name for path in FOUND.rglob("*") if path.is_file() and path.stat().st_size > 20_000] == []


@pytest.mark.slow
@pytest.mark.data
def test_twenty_seconds_of_fuzzing_find_nothing(salus_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "fuzzing.json"
    command = [sys.executable, str(SCRIPT), str(salus_data), str(out), "--seconds", "20", "--jobs", "1", "--box", str(tmp_path / "box")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(one["inputs"] > 0 for one in json.loads(out.read_text())["readers"])
