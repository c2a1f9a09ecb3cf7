"""Arrays of many files: expected ones are made by reading each file alone; what the cache must notice is done to real bytes on disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import wfdb

from salus.errors import InputError
from salus.record import ingest as module
from salus.record.cache import ArrayCache, Entry
from salus.record.ingest import Ingested, Preparation, ingest, version_of
from salus.record.patient import Item, Signal, Sound
from salus.record.read.reader import ReadOptions


def samples_of(item: Item) -> Mapping[str, Any] | None:
    loaded = item.content.load() if item.content else None
    return {"samples": loaded.samples} if isinstance(loaded, Sound | Signal) else None


SAMPLES = Preparation("samples", samples_of)




@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.record.read.source.SETTLED_NS", 0)


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.wav" for number in range(40)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.full(800, number / 100), 2000, subtype="FLOAT")
    time.sleep(0.03)  # longer than a tick of the clock that stamps files
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path / "cache" / "arrays.sqlite")


def values(made: list[Ingested]) -> list[float]:
    return [round(float(array["samples"].mean()), 4) for one in made for array in one.arrays.values()]


@pytest.mark.parametrize("workers", [1, 2])
def test_arrays_come_in_the_order_of_the_paths_and_once_more_from_the_cache(sounds: list[Path], cache: ArrayCache, workers: int) -> None:
    sounds[7].write_bytes(b"RIFF")
    first = list(ingest(sounds, SAMPLES, cache=cache, workers=workers))
    assert [one.path for one in first] == sounds and not any(one.is_from_cache for one in first)
    assert values(first) == [number / 100 for number in range(40) if number != 7]
    assert first[7].reason.startswith("Cannot read the sound '7.wav'") or first[7].reason == "no reader recognises it"
    again = list(ingest(sounds, SAMPLES, cache=cache, workers=workers))
    assert [one.is_from_cache for one in again] == [number != 7 for number in range(40)]
    assert values(again) == values(first) and [one.remarks for one in again] == [one.remarks for one in first]
    for one, other in zip(first, again, strict=True):
        assert one.arrays.keys() == other.arrays.keys()
        assert all(np.array_equal(one.arrays[key]["samples"], other.arrays[key]["samples"]) for key in one.arrays)


def test_a_file_changed_in_place_under_its_old_time_is_read_again(sounds: list[Path], cache: ArrayCache) -> None:
    list(ingest(sounds[:1], SAMPLES, cache=cache))
    assert next(ingest(sounds[:1], SAMPLES, cache=cache)).is_from_cache
    about = sounds[0].stat()
    body = bytearray(sounds[0].read_bytes())
    body[-3200:] = np.full(800, 0.5, "<f4").tobytes()
    with sounds[0].open("r+b") as stream:
        stream.write(body)
    os.utime(sounds[0], ns=(about.st_atime_ns, about.st_mtime_ns))
    assert sounds[0].stat().st_mtime_ns == about.st_mtime_ns and sounds[0].stat().st_size == about.st_size
    (again,) = ingest(sounds[:1], SAMPLES, cache=cache)
    assert not again.is_from_cache and values([again]) == [0.5]


def test_strict_hashes_what_the_stamp_would_let_pass(sounds: list[Path], cache: ArrayCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.record.cache.stamp_of", lambda _path: (1, 1, 1, 1))  # a file system whose times never change
    list(ingest(sounds[:1], SAMPLES, cache=cache))
    soundfile.write(sounds[0], np.full(800, 0.5), 2000, subtype="FLOAT")
    (trusting,) = ingest(sounds[:1], SAMPLES, cache=cache)
    (strict,) = ingest(sounds[:1], SAMPLES, cache=cache, is_strict=True)
    assert trusting.is_from_cache and not strict.is_from_cache and values([strict]) == [0.5]


def test_a_moved_file_is_known_by_its_bytes(sounds: list[Path], cache: ArrayCache, tmp_path: Path) -> None:
    list(ingest(sounds[:1], SAMPLES, cache=cache))
    (moved,) = ingest([sounds[0].rename(tmp_path / "elsewhere.wav")], SAMPLES, cache=cache)
    assert moved.is_from_cache


def test_a_file_that_changes_while_it_is_read_is_not_kept(sounds: list[Path], cache: ArrayCache) -> None:
    def changing(item: Item) -> Mapping[str, Any] | None:
        made = samples_of(item)
        soundfile.write(item.source.path, np.full(800, 0.5), 2000, subtype="FLOAT")
        return made

    (first,) = ingest(sounds[:1], Preparation("samples", changing), cache=cache)
    (again,) = ingest(sounds[:1], Preparation("samples", changing), cache=cache)
    assert values([first, again]) == [0.0, 0.5] and not again.is_from_cache


def test_other_options_settings_or_code_are_other_arrays(sounds: list[Path], cache: ArrayCache) -> None:
    list(ingest(sounds[:1], SAMPLES, cache=cache))
    (declared,) = ingest(sounds[:1], SAMPLES, cache=cache, options=lambda _path: ReadOptions(modality="heart_sound"))
    (otherwise,) = ingest(sounds[:1], Preparation("samples", samples_of, "2"), cache=cache)
    assert not declared.is_from_cache and not otherwise.is_from_cache
    assert version_of(SAMPLES) == version_of(Preparation("samples", samples_of)) != version_of(Preparation("samples", samples_of, "2"))


def write_record(folder: Path, value: float) -> Path:
    signal = np.full((500, 1), value)
    signal[::2] += 1
    wfdb.wrsamp("a", fs=250, units=["mV"], sig_name=["II"], p_signal=signal, fmt=["16"], write_dir=str(folder))
    time.sleep(0.03)
    return folder / "a.hea"


def test_a_changed_companion_is_noticed(cache: ArrayCache, tmp_path: Path) -> None:
    header = write_record(tmp_path, 0.0)
    (first,) = ingest([header], SAMPLES, cache=cache)
    assert next(iter(ingest([header], SAMPLES, cache=cache))).is_from_cache and first.companions == (tmp_path / "a.dat",)
    signal = tmp_path / "a.dat"
    signal.write_bytes(signal.read_bytes()[::-1])
    time.sleep(0.03)
    assert not next(iter(ingest([header], SAMPLES, cache=cache))).is_from_cache


def test_an_annotation_file_that_comes_later_is_noticed(cache: ArrayCache, tmp_path: Path) -> None:
    header = write_record(tmp_path, 0.0)
    list(ingest([header], SAMPLES, cache=cache))
    wfdb.wrann("a", "atr", np.array([100]), symbol=["N"], write_dir=str(tmp_path))
    (again,) = ingest([header], SAMPLES, cache=cache)
    assert not again.is_from_cache and "annotations from annotator 'atr'" in again.remarks


def test_a_damaged_entry_is_made_again_with_a_remark(sounds: list[Path], cache: ArrayCache) -> None:
    list(ingest(sounds[:2], SAMPLES, cache=cache))
    with sqlite3.connect(cache.path) as database:
        (body,) = database.execute("SELECT body FROM entry WHERE number = 1").fetchone()
        database.execute("UPDATE entry SET body = ? WHERE number = 1", (body[:100] + b"\x01" + body[101:],))
    made = list(ingest(sounds[:2], SAMPLES, cache=cache))
    assert [one.is_from_cache for one in made] == [False, True] and values(made) == [0.0, 0.01]
    assert cache.remarks == ["an entry of the cache was damaged: it is made again"]
    assert all(one.is_from_cache for one in ingest(sounds[:2], SAMPLES, cache=cache))


def test_a_damaged_cache_file_is_made_again_with_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "arrays.sqlite"
    path.write_bytes(b"this is no database" * 100)
    cache = ArrayCache(path)
    assert cache.remarks == ["the cache file was damaged: it is made again"] and cache.get("a") is None


def test_the_oldest_entries_go_when_the_bound_is_reached(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "arrays.sqlite", most_bytes=1 << 20)
    for number in range(40):
        cache.put({str(number): Entry({"a": np.full(16_384, number, np.float32)}, {})})
    held = [number for number in range(40) if cache.get(str(number))]
    assert 5 < len(held) < 20 and held == list(range(40 - len(held), 40))
    assert cache.path.stat().st_size < 3 << 20


def test_a_cache_of_another_format_is_refused(tmp_path: Path) -> None:
    ArrayCache(tmp_path / "arrays.sqlite").close()
    with sqlite3.connect(tmp_path / "arrays.sqlite") as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(InputError, match=r"Cannot use the cache 'arrays.sqlite': its format is 9, not 1. Delete it; it is made again."):
        ArrayCache(tmp_path / "arrays.sqlite")


WRITER = """
import sys, numpy as np
from pathlib import Path
from salus.record.cache import ArrayCache, Entry
cache = ArrayCache(Path(sys.argv[1]))
for number in range(100):
    cache.put({f"{sys.argv[2]}-{number}": Entry({"a": np.full(1000, number)}, {}), "shared": Entry({"a": np.full(1000, number)}, {})})
    assert len(set(cache.get("shared").arrays["a"].tolist())) == 1
"""


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "arrays.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ab"]
    assert [one.wait(timeout=60) for one in running] == [0, 0]
    cache = ArrayCache(path)
    for name in "ab":
        for number in range(100):
            entry = cache.get(f"{name}-{number}")
            assert entry is not None and (entry.arrays["a"] == number).all()


def test_files_are_held_a_few_at_a_time(sounds: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = module.read_arrays
    monkeypatch.setattr(module, "read_arrays", lambda path, *rest: (read.append(path), whole(path, *rest))[1])
    next(iter(ingest(sounds, SAMPLES)))
    assert len(read) == module.CHUNK
