"""Alzheimer's disease from three omics: of each one token, the values of its features. No network made them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus import registry
from salus.evaluate.fusion_tasks import FusionTask, Progress, answers_of, groups_and_words, one_token
from salus.fuse.token_sets import TokenSets
from salus.record.patient import Profile
from salus.task import Split

MODALITIES = ("gene_expression", "dna_methylation", "mirna_expression")
OPTIONS = ("control", "Alzheimer's disease")


def read(data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the omics of each split."""
    task = registry.load("salus.tasks", "rosmap")
    made: dict[Split, TokenSets] = {}
    for split in splits:
        examples = task.read(data, split)
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in MODALITIES}
        for place, example in enumerate(examples):
            for item in example.record().items:
                if item.modality in rows and item.content is not None:
                    profile = item.content.load()
                    assert isinstance(profile, Profile)
                    rows[item.modality].append(np.asarray(profile.values, np.float32))
            progress(f"rosmap: reading {split}", (place + 1) / len(examples))
        sets = {name: one_token(np.stack(values)) for name, values in rows.items()}
        made[split] = TokenSets(sets, answers_of(examples, OPTIONS), *groups_and_words(examples))
    return made


TASK = FusionTask(
    "rosmap", "Alzheimer's disease from three omics", MODALITIES, OPTIONS, ("multiomics_rosmap",), read, (Path(__file__),), folds=5
)
