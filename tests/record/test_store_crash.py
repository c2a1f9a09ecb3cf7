"""`scripts/measure_store.py`, small: kill -9 loses nothing that was acknowledged, and what counts losses does find them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_store.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_store", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_kill_9_during_200_random_writes_loses_nothing(script: ModuleType, tmp_path: Path) -> None:
    found = script.kill_during_writes(tmp_path / "crash", writes=200, kills=8)
    assert found["kills"] >= 4 and found["acknowledged"] == 200 and found["wrong_key_refused"]
    assert (found["lost"], found["damaged"], found["other_content"], found["half_written_objects"]) == (0, 0, 0, 0)


def test_a_loss_is_counted(script: ModuleType, tmp_path: Path) -> None:
    script.write(tmp_path, 0, 5)
    assert script.lost_in(tmp_path)["lost"] == 0
    address = script.acknowledged_in(tmp_path)[4]
    next((tmp_path / "store" / "objects").rglob(address)).unlink()
    assert script.lost_in(tmp_path)["lost"] == 1


def test_half_a_file_is_counted(script: ModuleType, tmp_path: Path) -> None:
    script.write(tmp_path, 0, 2)
    path = next((tmp_path / "store" / "objects").rglob(script.acknowledged_in(tmp_path)[1]))
    path.write_bytes(path.read_bytes()[:-1])
    found = script.lost_in(tmp_path)
    assert (found["damaged"], found["half_written_objects"], found["lost"]) == (1, 1, 0)


def test_the_big_file_is_compared_byte_by_byte(script: ModuleType, tmp_path: Path) -> None:
    assert script.big_file(tmp_path, 3_000_001)["is_same"]
