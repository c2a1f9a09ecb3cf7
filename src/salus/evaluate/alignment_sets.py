"""Keeps the token sets of the alignment tasks, by what they are made of: the data, the code and the frozen networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import salus
from salus import registry
from salus.encode import sentence
from salus.evaluate.alignment_tasks import Frozen, Progress, ZeroShot, alignment_task
from salus.evaluate.rows import file_hash, tree_hash, write_whole
from salus.fuse.align.pairs import PairSets
from salus.fuse.align.zero_shot import filled
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import SalusModel
from salus.task import Split

CODE = (
    "evaluate/alignment_tasks.py",
    "evaluate/alignment_texts.py",
    "evaluate/alignment_thumbnails.py",
    "encode/image.py",
    "encode/sentence.py",
    "encode/sound_summary.py",
    "fuse/align/knowledge.py",
    "fuse/align/knowledge.yaml",
)


@dataclass(frozen=True)
class BaseModel:
    """The model whose frozen encoders see the pictures."""

    identity: str
    """Hash of its tensors."""
    load: Callable[[], SalusModel]


def sets_key(name: str, data: Path, model: BaseModel) -> str:
    """Return 16 hex digits of what a task's token sets are made of."""
    root = Path(salus.__file__).parent
    folders = registry.load("salus.tasks", alignment_task(name).source).folders
    made_of = [tree_hash(data / folder) for folder in folders] + [file_hash(root / path) for path in CODE]
    return hashlib.sha256("".join([*made_of, model.identity, sentence.SHA256]).encode()).hexdigest()[:16]


def kept_pair_sets(
    name: str, data: Path, folder: Path, splits: Sequence[Split], *, model: BaseModel, progress: Progress
) -> dict[Split, PairSets]:
    """Return the rows of a task, from the folder where they were kept before; a split that is not named is not read."""
    task, key = alignment_task(name), sets_key(name, data, model)
    paths = {split: folder / f"align-{name}-{split}-{key}.npz" for split in splits}
    wanted = [split for split, path in paths.items() if not path.exists()]
    if wanted:
        for split, rows in task.read(data, wanted, Frozen(model.load), progress).items():
            _save(rows, paths[split])
    return {split: _load(path, task.modalities) for split, path in paths.items()}


def joined_rows(first: PairSets, second: PairSets) -> PairSets:
    """Return the rows of both; tokens are padded to the longer."""
    sets = {}
    for name, one in first.sets.modalities.items():
        other = second.sets.modalities[name]
        longest = max(one.mask.shape[1], other.mask.shape[1])
        parts = [_padded(each, longest) for each in (one, other)]
        sets[name] = Tokens(*(np.concatenate([getattr(each, field) for each in parts]) for field in ("values", "mask", "time_s")))
    answers = np.concatenate([first.sets.answers, second.sets.answers])
    units = {name: (*each, *second.units[name]) for name, each in first.units.items()}
    concepts = {name: (*each, *second.concepts[name]) for name, each in first.concepts.items()}
    return PairSets(TokenSets(sets, answers, (*first.sets.groups, *second.sets.groups)), units, concepts)


def _padded(one: Tokens, longest: int) -> Tokens:
    more = longest - one.mask.shape[1]
    return Tokens(
        np.pad(one.values, ((0, 0), (0, more), (0, 0))),
        np.pad(one.mask, ((0, 0), (0, more))),
        np.pad(one.time_s, ((0, 0), (0, more)), constant_values=np.nan),
    )


def _save(rows: PairSets, path: Path) -> None:
    about = {
        "groups": rows.sets.groups,
        "units": rows.units,
        "concepts": {name: [sorted(one) for one in each] for name, each in rows.concepts.items()},
    }
    arrays = {"answers": rows.sets.answers, "about": np.array(json.dumps(about))}
    for name, one in rows.sets.modalities.items():
        arrays |= {f"{name}.values": one.values, f"{name}.mask": one.mask, f"{name}.time_s": one.time_s}
    write_whole(path, lambda stream: np.savez_compressed(stream, **arrays))  # type: ignore[arg-type]


def _load(path: Path, names: Sequence[str]) -> PairSets:
    with np.load(path, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        sets = {name: Tokens(found[f"{name}.values"], found[f"{name}.mask"], found[f"{name}.time_s"]) for name in names}
        rows = TokenSets(sets, found["answers"], tuple(about["groups"]))
    concepts = {name: tuple(frozenset(one) for one in each) for name, each in about["concepts"].items()}
    return PairSets(rows, {name: tuple(each) for name, each in about["units"].items()}, concepts)


def kept_prompts(words: ZeroShot, folder: Path) -> list[Tokens]:
    """Return the prompts of each class as tokens (templates, 1, D), embedded once."""
    made_of = json.dumps([words.templates, words.words, sentence.SHA256])
    path = folder / f"prompts-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        embed = sentence.SentenceEmbedder()
        vectors = np.stack([embed(filled(words.templates, one)) for one in words.words])
        write_whole(path, lambda stream: np.savez_compressed(stream, vectors=vectors))
    with np.load(path, allow_pickle=False) as found:
        vectors = found["vectors"]
    shape = (vectors.shape[1], 1)
    return [Tokens(one[:, None], np.ones(shape, bool), np.full(shape, np.nan, np.float32)) for one in vectors]
