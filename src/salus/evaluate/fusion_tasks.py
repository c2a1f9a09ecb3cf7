"""The tasks on which fusion strategies are compared: real patients as token sets, made once by frozen encoders and kept.

Takes the data folder; gives, for each task and split, `TokenSets`. What is fitted (quantiles) is fitted on `train`. No label enters a
feature: series become summary statistics, omics the values themselves, so that nothing was trained on the answers before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from salus import registry
from salus.encode.modality import Modality
from salus.encode.summary import STATISTICS
from salus.encode.variables import QuantileNormaliser, VariableEncoder
from salus.errors import ConfigError
from salus.evaluate.rows import file_hash, tree_hash
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import prepare_modality
from salus.record.patient import Profile
from salus.task import Example, Split, Task

CATEGORIES = {
    "loinc:76689-9": ("female", "male"),
    "icu2012:icutype": ("coronary care unit", "cardiac surgery recovery unit", "medical ICU", "surgical ICU"),
}
"""What is told in words of a patient in intensive care."""
TRAIN: Split = "train"
LEAST_MEASURED = 30
"""A variable that fewer training patients have is left out."""
Progress = Callable[[str, float], None]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class FusionTask:
    """One task of the comparison."""

    name: str
    """As in `salus.tasks`."""
    modalities: tuple[str, ...]
    """Names of the token sets."""
    read: Callable[[Task, Path, Sequence[Split], Progress], dict[Split, TokenSets]]
    options: tuple[str, ...]
    """In the order of `answers`; the last is ranked."""
    folds: int = 0
    """Where `val` is too small to choose on: folds over `train` and `val`, twice."""


def _answers(examples: Sequence[Example], options: Sequence[str]) -> NDArray[np.int64]:
    return np.array([options.index(one.answer) for one in examples], np.int64)


def _groups_and_words(examples: Sequence[Example]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(one.subject_id for one in examples), tuple(one.question for one in examples)


def read_rosmap(task: Task, data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return three omics: of each one token, the values of its features."""
    made: dict[Split, TokenSets] = {}
    for split in splits:
        examples = task.read(data, split)
        rows: dict[str, list[Floats]] = {name: [] for name in task.modalities}
        for place, example in enumerate(examples):
            for item in example.record().items:
                if item.modality in rows and item.content is not None:
                    profile = item.content.load()
                    assert isinstance(profile, Profile)
                    rows[item.modality].append(np.asarray(profile.values, np.float32))
            progress(f"{task.name}: reading {split}", (place + 1) / len(examples))
        sets = {name: _one_token(np.stack(values)) for name, values in rows.items()}
        made[split] = TokenSets(sets, _answers(examples, OPTIONS["rosmap"]), *_groups_and_words(examples))
    return made


def _one_token(values: Floats) -> Tokens:
    """Return (n, F) as one token each; a feature that is not finite is 0, a patient without any is missing."""
    known = cast(Mask, np.isfinite(values))
    there = cast(Mask, known.any(1))[:, None]
    return Tokens(np.where(known, values, 0.0)[:, None].astype(np.float32), there, np.full((len(values), 1), np.nan, np.float32))


def read_icu(task: Task, data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the course and who the patient is: of each variable one token, its summary statistics as normal scores.

    Of a statistic that is missing the token holds 0 and a flag; a variable that was never measured has no token.
    """
    modality = cast(Modality, registry.load("salus.modalities", "vitals_labs"))
    assert modality.build_encoder is not None
    encoder = cast(VariableEncoder, modality.build_encoder({**modality.encoder_defaults, "categories": CATEGORIES, "members": 1}))
    features: dict[Split, Floats] = {}
    examples: dict[Split, Sequence[Example]] = {}
    for split in dict.fromkeys((TRAIN, *splits)):
        examples[split] = task.read(data, split)
        empty = np.full((len(encoder.names), len(STATISTICS)), np.nan, np.float32)
        rows = []
        for place, example in enumerate(examples[split]):
            prepared = prepare_modality(encoder, "vitals_labs", example.record())
            rows.append(empty if prepared is None else prepared.arrays["features"])
            progress(f"{task.name}: reading {split}", (place + 1) / len(examples[split]))
        features[split] = np.stack(rows)
    measured = np.isfinite(features["train"]).any(-1).sum(0) >= LEAST_MEASURED
    features = {split: each[:, measured] for split, each in features.items()}
    normaliser = QuantileNormaliser(features["train"][0].size)
    normaliser.fit(features["train"].reshape(len(features["train"]), -1))
    is_static = np.array([_is_constant(features["train"][:, place]) for place in range(features["train"].shape[1])])
    made: dict[Split, TokenSets] = {}
    for split in splits:
        raw = features[split]
        normal = normaliser(torch.from_numpy(raw.reshape(len(raw), -1))).view(*raw.shape).numpy()
        sets = {"series": _tokens_of_variables(normal[:, ~is_static]), "static": _static_token(normal[:, is_static])}
        made[split] = TokenSets(sets, _answers(examples[split], OPTIONS["icu-death"]), *_groups_and_words(examples[split]))
    return made


def _is_constant(statistics: Floats) -> bool:
    """Return whether a variable has one value at hour 0 in every patient who has it."""
    first, count = statistics[:, STATISTICS.index("first_time_h")], statistics[:, STATISTICS.index("log_count")]
    seen = np.isfinite(count)
    return bool(seen.any() and (first[seen] == 0).all() and np.allclose(count[seen], np.log1p(1)))


def _tokens_of_variables(normal: Floats) -> Tokens:
    count, variables, _ = normal.shape
    known = cast(Mask, np.isfinite(normal))
    which = np.broadcast_to(np.eye(variables, dtype=np.float32), (count, variables, variables))
    values = np.concatenate([np.where(known, normal, 0.0), known, which], -1).astype(np.float32)
    return Tokens(values, cast(Mask, known.any(-1)), np.full((count, variables), np.nan, np.float32))


def _static_token(normal: Floats) -> Tokens:
    level = normal[:, :, STATISTICS.index("mean")]
    known = cast(Mask, np.isfinite(level))
    values = np.concatenate([np.where(known, level, 0.0), known], -1).astype(np.float32)
    return Tokens(values[:, None], cast(Mask, known.any(1))[:, None], np.full((len(values), 1), np.nan, np.float32))


OPTIONS: Mapping[str, tuple[str, ...]] = {"rosmap": ("control", "Alzheimer's disease"), "icu-death": ("no", "yes")}
FUSION_TASKS = {
    "rosmap": FusionTask("rosmap", ("gene_expression", "dna_methylation", "mirna_expression"), read_rosmap, OPTIONS["rosmap"], folds=5),
    "icu-death": FusionTask("icu-death", ("series", "static"), read_icu, OPTIONS["icu-death"]),
}


def fusion_task(name: str) -> FusionTask:
    """Return a task of the comparison.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FUSION_TASKS:
        raise ConfigError(f"Cannot compare fusion on {name!r}: there are {', '.join(FUSION_TASKS)}.")
    return FUSION_TASKS[name]


def features_key(name: str, data: Path) -> str:
    """Return 16 hex digits of what a task's token sets are made of: the data, and the code that makes them."""
    here = Path(__file__).parent
    code = [here / "fusion_tasks.py", *(here.parent / "encode" / f"{one}.py" for one in ("summary", "variables"))]
    made_of = [tree_hash(data / folder) for folder in registry.load("salus.tasks", name).folders] + [file_hash(path) for path in code]
    return hashlib.sha256("".join(made_of).encode()).hexdigest()[:16]


def kept_sets(name: str, data: Path, folder: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the token sets of a task, from the folder where they were kept before (by what they are made of)."""
    task = fusion_task(name)
    paths = {split: folder / f"{name}-{split}-{features_key(name, data)}.npz" for split in splits}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        for split, sets in task.read(registry.load("salus.tasks", name), data, splits, progress).items():
            _save(sets, paths[split])
    return {split: _load(path, task.modalities) for split, path in paths.items()}


def _save(sets: TokenSets, path: Path) -> None:
    arrays = {"answers": sets.answers, "groups": np.array(sets.groups), "asked": np.array(sets.asked, str)}
    for name, one in sets.modalities.items():
        arrays |= {f"{name}.values": one.values, f"{name}.mask": one.mask, f"{name}.time_s": one.time_s}
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def _load(path: Path, names: Sequence[str]) -> TokenSets:
    with np.load(path, allow_pickle=False) as found:
        sets = {name: Tokens(found[f"{name}.values"], found[f"{name}.mask"], found[f"{name}.time_s"]) for name in names}
        return TokenSets(sets, found["answers"], tuple(map(str, found["groups"])), tuple(map(str, found["asked"])))
