"""Measures the store: kill -9 during random writes, then verify; speed; peak memory with a file far larger than memory allowed.

Run as `python scripts/measure_store.py results/store.json --folder FOLDER [--writes 200] [--gigabytes 10]`. FOLDER is made and removed; the
big file itself is never on the disk, only its sealed form. What each part does is also run, small, by `tests/record/test_store_crash.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salus.errors import DamagedError, WrongKeyError
from salus.record.keys import KeyRing
from salus.record.store import Store

PATIENTS = 7
MOST_WAIT_S = 0.08
"""From an acknowledged write to the kill at most: about one large write."""
BLOCK = 1 << 20


class Numbered:
    """A stream of any length whose blocks all differ; costs next to no memory or time."""

    def __init__(self, length: int) -> None:
        self.left, self.at, self.block = length, 0, random.Random(0).randbytes(BLOCK)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        size = min(size, self.left, BLOCK)
        self.left -= size
        self.at += 1
        return (self.at.to_bytes(8, "big") + self.block)[:size]


def content_of(number: int) -> bytes:
    """Return the content of one random write: two of three up to 4 MiB, so that they take a while; the others of any smaller size."""
    source = random.Random(number)
    return source.randbytes(source.randrange(1 << 22) if number % 3 else source.randrange(1 << source.randrange(0, 21)))


def patient_of(number: int) -> str:
    """Return whose write it is."""
    return f"patient-{number % PATIENTS}"


def write(folder: Path, first: int, last: int) -> None:
    """Store the contents of these numbers, and note each once `put` has returned."""
    store = Store(str(folder / "store"), KeyRing(folder / "keys", may_make=True))
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for number in range(first, last):
        (folder / "content").write_bytes(content_of(number))
        with (folder / "content").open("rb") as stream:
            address = store.put(patient_of(number), stream)
        os.write(acknowledged, f"{number} {address}\n".encode())


def acknowledged_in(folder: Path) -> dict[int, str]:
    """Return the addresses that were acknowledged, by number."""
    path = folder / "acknowledged"
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return {int(number): address for number, address in (line.split() for line in lines)}


def kill_during_writes(folder: Path, writes: int, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill a writer with signal 9 at random moments, start it again where it was, and count what was lost at the end."""
    source, killed = random.Random(seed), 0
    folder.mkdir(parents=True)
    while len(done := acknowledged_in(folder)) < writes:
        words = [sys.executable, __file__, "--write", str(folder), str(max(done, default=-1) + 1), str(writes)]
        writer = subprocess.Popen(words)
        if killed < kills:
            before = len(done)
            while len(acknowledged_in(folder)) == before and writer.poll() is None:
                time.sleep(0.002)
            time.sleep(source.uniform(0, MOST_WAIT_S))
            if writer.poll() is None:
                writer.send_signal(signal.SIGKILL)
                killed += 1
        if writer.wait() not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the writer ended with status {writer.returncode}")
    return {"writes": writes, "kills": killed, "left_over_parts": len(list((folder / "store/incoming").iterdir())), **lost_in(folder)}


def lost_in(folder: Path) -> dict[str, Any]:
    """Read back everything that was acknowledged and compare it with what was written; then try another key ring."""
    store, done = Store(str(folder / "store"), KeyRing(folder / "keys")), acknowledged_in(folder)
    lost, other, damaged = 0, 0, 0
    for number, address in done.items():
        if not store.has(patient_of(number), address):
            lost += 1
            continue
        try:
            with store.open(patient_of(number), address) as stream:
                other += stream.read() != content_of(number)
        except DamagedError:
            damaged += 1
    found = store.verify()
    try:
        Store(str(folder / "store"), KeyRing(folder / "other-keys", may_make=True))
        is_refused = False
    except WrongKeyError:
        is_refused = True
    return {
        "acknowledged": len(done), "lost": lost, "other_content": other, "damaged": damaged, "objects": found.objects,
        "half_written_objects": len(found.problems), "wrong_key_refused": is_refused,
    }  # fmt: skip


def big_file(folder: Path, length: int) -> dict[str, Any]:
    """Store and read back one stream of this many bytes; peak memory is of this whole process."""
    store = Store(str(folder / "store"), KeyRing(folder / "keys", may_make=True))
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    address = store.put("patient", Numbered(length))
    put_s = time.perf_counter() - started
    started, same, source = time.perf_counter(), True, Numbered(length)
    with store.open("patient", address) as stream:
        while expected := source.read(BLOCK):
            held = b""
            while len(held) < len(expected) and (part := stream.read(len(expected) - len(held))):
                held += part
            same = same and held == expected
        same = same and stream.read() == b""
    get_s, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "bytes": length, "is_same": same, "put_mb_s": round(length / put_s / 1e6), "get_mb_s": round(length / get_s / 1e6),
        "peak_memory_mb": round(peak), "memory_before_mb": round(before_mb),
    }  # fmt: skip


def measured(folder: Path, writes: int, gigabytes: float) -> Mapping[str, Any]:
    """Return all results; the big file in a process of its own."""
    crash = kill_during_writes(folder / "crash", writes, kills=max(1, writes // 5))
    words = [sys.executable, __file__, "--big", str(folder / "big"), str(int(gigabytes * 1e9))]
    big = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return {"kill_9": crash, "big_file": big, "python": platform.python_version(), "cores": os.cpu_count()}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("results/store.json"))
    parser.add_argument("--folder", type=Path, default=Path("runs/store"))
    parser.add_argument("--writes", type=int, default=200)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--write", nargs=3, metavar=("FOLDER", "FIRST", "LAST"), help="be the writer that is killed")
    parser.add_argument("--big", nargs=2, metavar=("FOLDER", "BYTES"), help="be the process of the big file")
    args = parser.parse_args()
    if args.write:
        write(Path(args.write[0]), int(args.write[1]), int(args.write[2]))
    elif args.big:
        Path(args.big[0]).mkdir(parents=True, exist_ok=True)
        print(json.dumps(big_file(Path(args.big[0]), int(args.big[1]))))
    else:
        try:
            tree = measured(args.folder, args.writes, args.gigabytes)
        finally:
            shutil.rmtree(args.folder, ignore_errors=True)
        args.out.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(tree, indent=1))


if __name__ == "__main__":
    main()
