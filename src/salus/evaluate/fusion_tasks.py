"""What a task of the fusion comparison is: real patients as token sets, made once by frozen encoders and kept.

Takes the data folder; gives, for each split, `TokenSets`. What is fitted (quantiles) is fitted on `train`, and no label enters a feature.
The tasks themselves are plug-ins (`salus.fusion_tasks`), one file each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus import registry
from salus.errors import ConfigError
from salus.evaluate.rows import file_hash, tree_hash, write_whole
from salus.fuse.token_sets import Tokens, TokenSets
from salus.task import Example, Split

Progress = Callable[[str, float], None]
GROUP = "salus.fusion_tasks"


@dataclass(frozen=True)
class FusionTask:
    """One task of the comparison."""

    name: str
    title: str
    modalities: tuple[str, ...]
    """Names of the token sets."""
    options: tuple[str, ...]
    """In the order of `answers`; the last is ranked."""
    folders: tuple[str, ...]
    """Names of its cohorts' folders below the data folder."""
    read: Callable[[Path, Sequence[Split], Progress], dict[Split, TokenSets]]
    made_of: tuple[Path, ...]
    """Files, code and weights, that the features depend on beside the data: others, other features."""
    folds: int = 0
    """Where `val` is too small to choose on: folds over `train` and `val`; patients of one group stay together."""
    has_test: bool = True
    """False: too few patients to score a `test` part, so folds are all there is."""


def fusion_task(name: str) -> FusionTask:
    """Return a task of the comparison.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in registry.names(GROUP):
        raise ConfigError(f"Cannot compare fusion on {name!r}: there are {', '.join(registry.names(GROUP))}.")
    task: FusionTask = registry.load(GROUP, name)
    return task


def answers_of(examples: Sequence[Example], options: Sequence[str]) -> NDArray[np.int64]:
    """Return (n,) index of each right answer."""
    return np.array([options.index(one.answer) for one in examples], np.int64)


def groups_and_words(examples: Sequence[Example]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return whose each example is, and the words of each question."""
    return tuple(one.subject_id for one in examples), tuple(one.question for one in examples)


def one_token(values: NDArray[np.float32]) -> Tokens:
    """Return (n, F) as one token each; a feature that is not finite is 0, a patient without any is missing.

    Example:
        >>> made = one_token(np.array([[1.0, np.nan], [np.nan, np.nan]], np.float32))
        >>> made.values[0].tolist(), made.mask.tolist()
        ([[1.0, 0.0]], [[True], [False]])
    """
    known = np.isfinite(values)
    there = np.asarray(known.any(1))[:, None]
    return Tokens(np.where(known, values, 0.0)[:, None].astype(np.float32), there, np.full((len(values), 1), np.nan, np.float32))


def features_key(name: str, data: Path) -> str:
    """Return 16 hex digits of what a task's token sets are made of: the data, and the files that make them."""
    task = fusion_task(name)
    made_of = [tree_hash(data / folder) for folder in task.folders] + [file_hash(path) for path in (Path(__file__), *task.made_of)]
    return hashlib.sha256("".join(made_of).encode()).hexdigest()[:16]


def kept_sets(name: str, data: Path, folder: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the token sets of a task, from the folder where they were kept before (by what they are made of)."""
    task = fusion_task(name)
    paths = {split: folder / f"{name}-{split}-{features_key(name, data)}.npz" for split in splits}
    if not all(path.exists() for path in paths.values()):
        for split, sets in task.read(data, splits, progress).items():
            _save(sets, paths[split])
    return {split: _load(path, task.modalities) for split, path in paths.items()}


def _save(sets: TokenSets, path: Path) -> None:
    arrays = {"answers": sets.answers, "groups": np.array(sets.groups), "asked": np.array(sets.asked, str)}
    for name, one in sets.modalities.items():
        arrays |= {f"{name}.values": one.values, f"{name}.mask": one.mask, f"{name}.time_s": one.time_s}
    write_whole(path, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]


def _load(path: Path, names: Sequence[str]) -> TokenSets:
    with np.load(path, allow_pickle=False) as found:
        sets = {name: Tokens(found[f"{name}.values"], found[f"{name}.mask"], found[f"{name}.time_s"]) for name in names}
        return TokenSets(sets, found["answers"], tuple(map(str, found["groups"])), tuple(map(str, found["asked"])))
