"""Many files to arrays that a network takes, at the speed of the disk once they were read before.

Takes paths and how an item becomes arrays; gives one `Ingested` for each path, in order, holding a few files at a time. A file that cannot
be read gives its reason. With an `ArrayCache`, what was made from the same bytes by the same code is not made again. Leaves out what is
joined across files (the slices of a volume) and whose file it is: for records of patients see `read_path`.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache as remembered
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from salus.errors import InputError, MissingExtra
from salus.record.cache import ArrayCache, Entry
from salus.record.patient import Item
from salus.record.read.folder import readers
from salus.record.read.reader import HEAD_BYTES, FileRead, ReadOptions

CHUNK = 16
"""Files that one worker reads at a time; two chunks for each worker are under way."""
TICK_NS = 20_000_000
"""Kernels stamp files by a clock that moves in steps of up to 10 ms."""

Options = Callable[[Path], ReadOptions]


@dataclass(frozen=True)
class Preparation:
    """How an item becomes arrays."""

    name: str
    make: Callable[[Item], Mapping[str, NDArray[Any]] | None]
    """Arrays by name; None when the item gives none. Must depend on nothing but the item, its own code and `settings`."""
    settings: str = ""
    """Whatever else the arrays depend on; part of the key, as is the source of every module beside the one that defines `make`."""
    modules: tuple[str, ...] = ()
    """Further modules whose source is part of the key."""


@dataclass(frozen=True)
class Ingested:
    """What one file gave."""

    path: Path
    arrays: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    """Item id → name → array; read-only when they come from the cache."""
    reason: str = ""
    """Why there are none."""
    remarks: tuple[str, ...] = ()
    """Of the items that gave arrays."""
    is_from_cache: bool = False
    companions: tuple[Path, ...] = ()
    """Other files that were read as part of this one."""


def ingest(
    paths: Iterable[Path],
    preparation: Preparation,
    *,
    cache: ArrayCache | None = None,
    workers: int = 1,
    options: Options | None = None,
    is_strict: bool = False,
) -> Iterator[Ingested]:
    """Yield the arrays of each file, in the order of the paths; memory does not grow with their number.

    Args:
        paths: files of any format that a reader is installed for.
        preparation: how an item becomes arrays.
        cache: where arrays are kept; None: every file is read.
        workers: processes that read and decode; 1 reads in this one. What the cache holds is always taken in this process.
        options: what is declared of a file (`options_of` of a cohort manifest).
        is_strict: hash every file before its cached arrays are used, instead of trusting its size, times and inode.

    Raises:
        InputError: the cache cannot be written.
    """
    declared = options or (lambda _path: ReadOptions())
    store = None if cache is None else _Store(cache, version_of(preparation), declared, is_strict)
    underway: deque[tuple[list[Path], dict[Path, Ingested], Future[list[Ingested]] | None]] = deque()
    left = iter(paths)
    with _pool(workers, preparation) if workers > 1 else nullcontext() as pool:
        while True:
            chunk = list(islice(left, CHUNK))
            if chunk:
                known = store.known(chunk) if store else {}
                missing = [(path, declared(path)) for path in chunk if path not in known]
                underway.append((chunk, known, pool.submit(_in_worker, missing) if pool and missing else None))
            if not underway:
                return
            if pool is None or not chunk or len(underway) >= 2 * workers:
                chunk, known, future = underway.popleft()
                fresh = [path for path in chunk if path not in known]
                made = future.result() if future else [read_arrays(path, declared(path), preparation) for path in fresh]
                if store and made:
                    store.keep(made)
                known |= {one.path: one for one in made}
                yield from (known[path] for path in chunk)


def read_arrays(path: Path, options: ReadOptions, preparation: Preparation) -> Ingested:
    """Return the arrays of one file, read now; a file that cannot be read gives its reason."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        reader = next((one for one in _readers() if one.recognises(path, head)), None)
        if reader is None:
            return Ingested(path, reason="no reader recognises it" if head else "empty file")
        return _arrays_of(path, reader.read(path, options), preparation)
    except (InputError, MissingExtra) as error:
        return Ingested(path, reason=str(error))
    except OSError as error:
        return Ingested(path, reason=f"cannot be opened: {error.strerror}")


def _arrays_of(path: Path, read: FileRead, preparation: Preparation) -> Ingested:
    items = [item for part in read.found for item in part.items]
    made = {item.id: (item, arrays) for item in items if (arrays := preparation.make(item)) is not None}
    reasons = [each.reason for each in read.skipped] or [f"nothing in it is {preparation.name}"]
    return Ingested(
        path,
        {key: arrays for key, (_, arrays) in made.items()},
        "" if made else "; ".join(reasons),
        tuple(dict.fromkeys(remark for item, _ in made.values() for remark in item.remarks)),
        companions=read.companions,
    )


_readers = remembered(readers)


@dataclass
class _Store:
    """The cache as one run uses it: which entry belongs to a file, and whether the files beside it are still those it was made with."""

    cache: ArrayCache
    version: str
    options: Options
    is_strict: bool
    folders: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)
    asked_ns: dict[Path, int] = field(default_factory=dict)
    """When each file that is being read was looked up."""

    def known(self, paths: Sequence[Path]) -> dict[Path, Ingested]:
        """Return what the cache holds of these files."""
        found = {}
        now = time.time_ns()
        for path, key in self._keys(paths).items():
            entry = self.cache.get(key)
            if entry is not None and self._is_beside(path, entry.about["companions"]):
                found[path] = _unpacked(path, entry)
        self.asked_ns |= dict.fromkeys((path for path in paths if path not in found), now)
        return found

    def keep(self, made: Sequence[Ingested]) -> None:
        """Store what was read; a reason is not stored, since a package installed tomorrow may change it."""
        entries = {}
        for one in made:
            asked_ns, files = self.asked_ns.pop(one.path, 0), self._companions(one.path, one.companions)
            if not one.arrays or _changed_since((one.path, *files), asked_ns):
                continue
            hashes = {str(file.relative_to(one.path.parent)): sha256 for file, sha256 in self._hashes(files).items()}
            entries[self._keys([one.path])[one.path]] = _packed(one, hashes)
        self.cache.put(entries)

    def _keys(self, paths: Sequence[Path]) -> dict[Path, str]:
        keys = {}
        for path, sha256 in self._hashes(paths).items():
            keys[path] = hashlib.sha256(f"{self.version}:{_spelt(self.options(path))}:{sha256}".encode()).hexdigest()
        return keys

    def _hashes(self, paths: Iterable[Path]) -> dict[Path, str]:
        there = [path for path in paths if path.is_file()]
        return dict(zip(there, self.cache.sha256_of(there, is_strict=self.is_strict), strict=True))

    def _is_beside(self, path: Path, names: Mapping[str, str]) -> bool:
        if not names:
            return True
        files = self._companions(path, tuple(path.parent / name for name in names))
        return {str(file.relative_to(path.parent)): sha for file, sha in self._hashes(files).items()} == names

    def _companions(self, path: Path, read: Sequence[Path]) -> set[Path]:
        """Return the files that were read with one, and all others of its name: an annotation file that comes later is part of it."""
        if not read:
            return set()
        if path.parent not in self.folders:
            self.folders[path.parent] = defaultdict(list)
            for entry in os.scandir(path.parent):
                self.folders[path.parent][entry.name.partition(".")[0]].append(path.parent / entry.name)
        same = self.folders[path.parent].get(path.name.partition(".")[0], [])
        return {*read, *same} - {path}


def _changed_since(paths: Iterable[Path], asked_ns: int) -> bool:
    """Return whether a file may have changed while it was read, so that what was read is not what its hash says."""
    try:
        return max(max(about.st_mtime_ns, about.st_ctime_ns) for path in paths for about in (path.stat(),)) > asked_ns - TICK_NS
    except OSError:
        return True


def _packed(one: Ingested, companions: Mapping[str, str]) -> Entry:
    arrays = {f"{item}/{name}": array for item, made in one.arrays.items() for name, array in made.items()}
    about = {"items": list(one.arrays), "remarks": list(one.remarks), "companions": dict(companions)}
    return Entry(arrays, about)


def _unpacked(path: Path, entry: Entry) -> Ingested:
    arrays: dict[str, dict[str, NDArray[Any]]] = {item: {} for item in entry.about["items"]}
    for key, array in entry.arrays.items():
        item, _, name = key.partition("/")
        arrays[item][name] = array
    companions = tuple(path.parent / name for name in entry.about["companions"])
    return Ingested(path, arrays, remarks=tuple(entry.about["remarks"]), is_from_cache=True, companions=companions)


def _spelt(options: ReadOptions) -> str:
    """Return what is declared of a file, spelt alike in every process."""
    return json.dumps([sorted(options.units.items()), options.modality, sorted(options.documentation_columns), options.anchor])


def version_of(preparation: Preparation) -> str:
    """Return the hash of everything but the file that its arrays depend on: code of readers and preparation, settings, libraries.

    Every source file beside the modules of the readers, of records and of `make` counts, and the version of every installed package: a
    change that alters nothing costs one more reading, one that alters something is never missed.
    """
    modules = {Item.__module__, preparation.make.__module__, *preparation.modules, *(reader.read.__module__ for reader in _readers())}
    digest = hashlib.sha256(json.dumps([preparation.name, preparation.make.__qualname__, preparation.settings, *_packages()]).encode())
    folders = {Path(file).parent for name in modules if (file := getattr(sys.modules.get(name), "__file__", None))}
    for path in sorted({path for folder in folders for path in folder.glob("*.py")}):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@remembered
def _packages() -> tuple[str, ...]:
    """Return name and version of every installed package, as their folders are named: reading them takes a fifth of a second."""
    folders = [Path(place or ".") for place in dict.fromkeys(sys.path)]
    names = (entry.name for folder in folders if folder.is_dir() for entry in os.scandir(folder))
    return tuple(sorted(name for name in names if name.endswith((".dist-info", ".egg-info"))))


_preparations: list[Preparation] = []
"""In a worker: what it prepares with."""


def _pool(workers: int, preparation: Preparation) -> ProcessPoolExecutor:
    # Forked where that exists, as PyTorch's loaders are: a fresh interpreter would import torch for seconds, in every worker.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(preparation,))


def _begin_worker(preparation: Preparation) -> None:
    _preparations[:] = [preparation]
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # threads of the parent do not live in a fork, and workers would fight for cores


def _in_worker(files: Sequence[tuple[Path, ReadOptions]]) -> list[Ingested]:
    return [read_arrays(path, options, _preparations[0]) for path, options in files]
