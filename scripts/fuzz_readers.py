"""Fuzzes every registered reader: `python scripts/fuzz_readers.py SALUS_DATA results/fuzzing.json --seconds 3600`.

Takes real files (and the made sample patient) as seeds; gives per reader the inputs tried, what was found, and the seconds. A reader may
give a result or raise `InputError` or `MissingExtra`; its lazy content is loaded too. Anything else, more memory or time than allowed, or
a planted identifier in a message or remark, is a finding, kept as a small file. Inputs that reach new lines of the readers become seeds.
`--replay FOLDER` judges kept files again instead.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pydicom

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_mutations import MARKER, damaged, is_text
from fuzz_seeds import write_made_seeds

from salus.cohorts.sample_patient import write_sample_patient
from salus.errors import InputError, MissingExtra
from salus.record import claims, variables
from salus.record.read import reader as contract
from salus.record.read.folder import readers
from salus.record.read.reader import FileRead, Reader, ReadOptions

MOST_SECONDS = 10.0
"""For one input, content included; a slower one is judged once more alone before it counts as a hang."""
MOST_MEMORY = 2 << 30
"""Bytes of address space above what the empty process has."""
MOST_SEED_BYTES = 600_000
SEEDS_PER_KIND = 4
"""Per folder and ending of the seed files: the smallest, and some at random."""
MOST_SEEDS = 40
MOST_KEPT_BYTES = 20_000
BUSY = 6
"""How much slower than alone a busy machine may be."""
MINIMISE_SECONDS = 5.0
REPEATED = re.compile(rf"is in '{MARKER}', not a UCUM unit|(?<=gene as the file annotates it, not assessed here: ){MARKER}")
"""What a message repeats by design, in one word: a unit that is none, the symbol of a gene."""
TRACED_EVERY = 3
"""One input of so many is watched for lines that no earlier one reached."""

Files = Mapping[str, bytes]
"""Name → bytes; the first is the file that is read, the others stand beside it."""


@dataclass
class Tally:
    """What fuzzing one reader gave."""

    reader: str
    seeds: int
    inputs: int = 0
    read: int = 0
    refused: int = 0
    corpus: int = 0
    """Inputs that reached lines no earlier one did, and became seeds."""
    seconds: float = 0.0
    slowest_s: float = 0.0
    findings: dict[str, int] = field(default_factory=dict)
    """What went wrong → how many inputs."""


def judge(reader: Reader, path: Path) -> str:
    """Return `read`, `refused`, or what is wrong in words that name the kind and the place but not the input."""
    try:
        with path.open("rb") as stream:
            reader.recognises(path, stream.read(contract.HEAD_BYTES))
        read = reader.read(path, ReadOptions())
        said = list(_said(read))
        items = [item for part in read.found for item in part.items]
        for item in items:
            if item.content is not None:
                try:
                    item.content.load()
                except (InputError, MissingExtra) as error:
                    said.append(str(error))
        if reader.join is not None:
            said += [each.reason for each in reader.join(items).skipped]
        verdict = "read"
    except (InputError, MissingExtra) as error:
        said, verdict = [str(error)], "refused"
    except Exception as error:  # that is what is looked for
        return _place_of(error)
    leaks = [text for text in said if MARKER in REPEATED.sub("", text.replace(path.name, ""))]
    return f"identifier in a message: {re.sub(r'[0-9]+', '0', leaks[0].replace(MARKER, '(it)'))[:120]}" if leaks else verdict


def _said(read: FileRead) -> Iterator[str]:
    yield from (each.reason for each in read.skipped)
    for part in read.found:
        for item in part.items:
            yield from item.remarks


def _place_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "salus" in Path(frame.filename).parts]
    last = own[-1] if own else frames[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.name}"


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, used + MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write(files: Files, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder / next(iter(files))


def _covering(seen: set[tuple[int, int]], fresh: list[bool]) -> Callable[[FrameType, str, Any], Any]:
    """Return a trace function that notes lines of the readers not seen before."""
    root = str(Path(contract.__file__).parents[1])

    def lines(frame: FrameType, event: str, _arg: Any) -> Any:
        key = (id(frame.f_code), frame.f_lineno)
        if event == "line" and key not in seen:
            seen.add(key)
            fresh[0] = True
        return lines

    def calls(frame: FrameType, _event: str, _arg: Any) -> Any:
        return lines if frame.f_code.co_filename.startswith(root) else None

    return calls


def _work(reader: Reader, seeds: list[Files], box: Path, beat: Any, number: int) -> None:
    """Damage and judge until killed or out of time; `beat` tells the parent how far it is."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries print warnings about damaged files
    _limit()
    gc.freeze()
    rng = random.Random(number)
    corpus, seen, fresh = list(seeds), set[tuple[int, int]](), [False]
    current, started = box / f"current-{reader.name}", time.monotonic()
    while time.monotonic() - started < beat.left:
        files = dict(rng.choice(corpus[-200:] if rng.random() < 0.3 else corpus))
        target = rng.choice([*files, next(iter(files))])
        other = rng.choice(corpus)
        files[target] = damaged(rng, files[target], next(iter(other.values())))
        path = _write(files, current)
        fresh[0], beat.since = False, time.monotonic()
        if beat.inputs % TRACED_EVERY == 0:  # watching lines makes an input several times slower
            sys.settrace(_covering(seen, fresh))
        verdict = judge(reader, path)
        sys.settrace(None)
        beat.slowest = max(beat.slowest, time.monotonic() - beat.since)
        beat.since, beat.inputs = 0.0, beat.inputs + 1
        beat.read, beat.refused = beat.read + (verdict == "read"), beat.refused + (verdict == "refused")
        if verdict not in ("read", "refused"):
            _keep(reader, files, verdict, box)
        elif fresh[0]:
            corpus.append(files)
            beat.corpus += 1
    os._exit(0)  # a fork of a process with threads has nothing of its own to tidy up


def _keep(reader: Reader, files: Files, verdict: str, box: Path) -> None:
    """Note a finding; its first input is made smaller and stored."""
    folder = box / "found" / reader.name / hashlib.sha256(verdict.encode()).hexdigest()[:8]
    if not folder.exists():
        _write(_minimised(reader, files, verdict, box) if "Error" in verdict else files, folder)
        (folder / "READ").write_text(next(iter(files)))
        (folder / "VERDICT").write_text(verdict)
    with (box / f"findings-{reader.name}.txt").open("a") as stream:
        stream.write(verdict + "\n")


def _minimised(reader: Reader, files: Files, verdict: str, box: Path) -> Files:
    """Return the finding with as much cut away as keeps its verdict (delta debugging by halves, for a few seconds)."""
    best, until, place = dict(files), time.monotonic() + MINIMISE_SECONDS, box / f"smaller-{reader.name}"
    for name in files:
        step = max(1, len(best[name]) // 2)
        while step >= 1 and time.monotonic() < until:
            at, is_smaller = 0, False
            while at < len(best[name]) and time.monotonic() < until:
                less = {**best, name: best[name][:at] + best[name][at + step :]}
                if judge(reader, _write(less, place)) == verdict:
                    best, is_smaller = less, True
                else:
                    at += step
            step = step if is_smaller and step > 1 else step // 2
    return best


class _Beat(ctypes.Structure):
    """Shared with a worker: when the current input began (0: between two), seconds left, and counts."""

    _fields_ = [(name, ctypes.c_double) for name in ("since", "left", "slowest", "inputs", "read", "refused", "corpus")]


def fuzz(reader: Reader, seeds: list[Files], seconds: float, box: Path) -> Tally:
    """Return what this many seconds of fuzzing gave; a worker that dies or hangs is a finding, and another one goes on."""
    tally, started, number = Tally(reader.name, len(seeds)), time.monotonic(), 0
    context = multiprocessing.get_context("fork")
    beat = context.Value(_Beat, lock=False)
    while (left := seconds - (time.monotonic() - started)) > 0.5:
        beat.left, beat.since = left, 0.0
        worker = context.Process(target=_work, args=(reader, seeds, box, beat, number), daemon=True)
        worker.start()
        verdict = _watched(worker, beat)
        if verdict and (verdict != "hang" or not _finishes(reader, box)):
            current = box / f"current-{reader.name}"
            _keep(reader, {path.name: path.read_bytes() for path in _in_order(current, seeds)}, verdict, box)
        number += 1
    tally.inputs, tally.read, tally.refused, tally.corpus = int(beat.inputs), int(beat.read), int(beat.refused), int(beat.corpus)
    tally.seconds, tally.slowest_s = round(time.monotonic() - started, 1), round(beat.slowest, 2)
    log = box / f"findings-{reader.name}.txt"
    for line in log.read_text().splitlines() if log.exists() else ():
        tally.findings[line] = tally.findings.get(line, 0) + 1
    return tally


def _in_order(folder: Path, seeds: list[Files]) -> list[Path]:
    """Return the files of an input, the one that is read first."""
    mains = {next(iter(files)) for files in seeds}
    return sorted(folder.iterdir(), key=lambda path: (path.name not in mains, path.name))


def _watched(worker: Any, beat: Any) -> str:
    """Return why a worker ended: empty at its time, `hang`, or its signal."""
    while worker.is_alive():
        worker.join(0.2)
        since = beat.since  # asked once: the worker sets it to 0 between two inputs
        if since and time.monotonic() - since > MOST_SECONDS and worker.is_alive():
            worker.kill()
            worker.join()
            return "hang"
    code = worker.exitcode
    return "" if code == 0 else f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _finishes(reader: Reader, box: Path) -> bool:
    """Return whether the input that looked like a hang ends within twice the time when judged alone (the machine may be busy)."""
    path = next(iter(_in_order(box / f"current-{reader.name}", [])))
    return _verdict_alone(reader, path, 2 * MOST_SECONDS) != "hang"


def _verdict_alone(reader: Reader, path: Path, seconds: float) -> str:
    """Return the verdict on one input within some seconds of the processor: the machine may be busy, so the clock allows more."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def alone() -> None:
        _limit()
        used = math.ceil(time.process_time() + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (used, used + 5))
        queue.put(judge(reader, path))

    worker = context.Process(target=alone, daemon=True)
    worker.start()
    worker.join(BUSY * seconds)
    if worker.is_alive() or worker.exitcode == -signal.SIGXCPU:
        worker.kill()
        return "hang"
    return str(queue.get()) if worker.exitcode == 0 else f"died with {worker.exitcode}"


def seeds_of(data: Path | None, installed: tuple[Reader, ...], rng: random.Random) -> dict[str, list[Files]]:
    """Return for each reader real and made files of its format, with an identifier planted where the format has a place for one."""
    made = Path(tempfile.mkdtemp())
    write_sample_patient(made)
    write_made_seeds(made / "formats")
    kinds: dict[tuple[str, str, str], list[Path]] = defaultdict(list)
    for root in filter(None, (made, data)):
        for path in sorted(root.rglob("*")):
            if path.is_file() and 0 < path.stat().st_size <= MOST_SEED_BYTES:
                with path.open("rb") as stream:
                    head = stream.read(contract.HEAD_BYTES)
                reader = next((one for one in installed if one.recognises(path, head)), None)
                if reader is not None:
                    kinds[reader.name, str(path.parent), path.suffix].append(path)
    seeds: dict[str, list[Files]] = defaultdict(list)
    for (name, _, _), paths in sorted(kinds.items()):
        paths.sort(key=lambda path: path.stat().st_size)
        reader = next(one for one in installed if one.name == name)
        for path in {*paths[:SEEDS_PER_KIND], *rng.sample(paths, min(SEEDS_PER_KIND, len(paths)))}:
            if len(seeds[name]) < MOST_SEEDS:
                seeds[name].append(_seed(reader, path))
    shutil.rmtree(made)
    return dict(seeds)


def _seed(reader: Reader, path: Path) -> Files:
    try:
        companions = reader.read(path, ReadOptions()).companions
    except (InputError, MissingExtra):
        companions = ()
    beside = {each.name: each.read_bytes() for each in companions if each.is_file() and each.stat().st_size <= MOST_SEED_BYTES}
    return {path.name: _planted(path), **beside}


def _planted(path: Path) -> bytes:
    """Return the file's bytes with the marker where the patient's name stands."""
    body = path.read_bytes()
    if body[128:132] == b"DICM":
        dataset = pydicom.dcmread(path)
        dataset.PatientName = f"{MARKER}^ANNA"
        dataset.save_as(path := Path(tempfile.mkdtemp()) / "seed.dcm")
        return path.read_bytes()
    if path.suffix == ".hea":
        return body + f"\n# Name: {MARKER}\n".encode()
    if is_text(body):
        return re.sub(rb'("(?:family|given|name|text|birthDate)": *\[? *")[^"]*"', rb"\g<1>" + MARKER.encode() + b'"', body)
    return body


def replay(folder: Path) -> int:
    """Judge every kept input (a folder `READER/NAME` each, its main file named in READ) and print those that still fail."""
    by_name, failed = {one.name: one for one in readers()}, 0
    for mark in sorted(folder.glob("*/*/READ")):
        path = mark.parent / mark.read_text().strip()
        verdict = _verdict_alone(by_name[mark.parent.parent.name], path, 2 * MOST_SECONDS)
        print(f"{mark.parent.relative_to(folder)}: {verdict}")
        failed += verdict not in ("read", "refused")
    return failed


def main() -> int:
    """Fuzz, write the result, and return 1 when anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="folder of real data sets; without it only the made patient seeds")
    parser.add_argument("out", type=Path, nargs="?", help="result as JSON")
    parser.add_argument("--seconds", type=float, default=60.0, help="in all; shared by the readers")
    parser.add_argument("--readers", default="", help="names, comma between; all when empty")
    parser.add_argument("--jobs", type=int, default=2, help="readers at once")
    parser.add_argument("--box", type=Path, help="folder for findings; a temporary one otherwise")
    parser.add_argument("--replay", type=Path)
    given = parser.parse_args()
    if given.replay:
        return min(1, replay(given.replay))
    box = given.box or Path(tempfile.mkdtemp(prefix="fuzzing-"))
    claims.modality_of("dicom:CT")
    variables.variables()
    installed = readers()
    seeds = seeds_of(given.data, installed, random.Random(0))
    wanted = [one for one in installed if one.name in (given.readers.split(",") if given.readers else seeds) and one.name in seeds]
    share = given.seconds / max(1, len(wanted))
    with ThreadPoolExecutor(given.jobs) as pool:
        tallies = list(pool.map(lambda reader: fuzz(reader, seeds[reader.name], share, box), wanted))
    unfuzzed = sorted({one.name for one in installed} - set(seeds))
    result = {"command": "python scripts/fuzz_readers.py", "most_seconds": MOST_SECONDS, "most_memory_bytes": MOST_MEMORY}
    result |= {"readers": [asdict(tally) for tally in tallies], "readers_without_a_seed": unfuzzed}
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for tally in tallies:
        print(tally)
    print(f"findings in {box}" if any(tally.findings for tally in tallies) else "nothing found", f"(no seed: {unfuzzed})")
    return int(any(tally.findings for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
