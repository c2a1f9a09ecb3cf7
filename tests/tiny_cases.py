"""A task of made-up patients, and an index of their solved cases made by the tiny model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from salus.in_context import Embedder, FusedEmbedder, build_cases
from salus.model import SalusModel, build_backbone, save_model
from salus.reason.cases import CaseIndex
from salus.task import Example, Split, Task
from tests.tiny_model import OPTIONS, QUESTION, patient, tiny_model

MODALITIES = ("vitals_labs", "notes")


def examples(first: int, count: int) -> list[Example]:
    """Return one question about each of some made-up patients; every fourth answer is yes."""
    return [
        Example(f"made-up/{number}", f"patient-{number}", partial(patient, number), QUESTION, OPTIONS, "no" if number % 4 else "yes")
        for number in range(first, first + count)
    ]


def read(data: Path, split: Split) -> list[Example]:
    """Return 24 questions of a split."""
    return examples({"train": 0, "val": 100, "test": 200}[split], 24)


TASK = Task("made-up", "made-up deaths", MODALITIES, "auroc", read, (), "CC0-1.0", True, "yes")


def saved(backbone: Path, folder: Path) -> Path:
    """Return the folder of the tiny model, written as `load_model` reads it."""
    made = tiny_model(backbone)
    save_model(made, folder, replace(made.config, backbone_identity=build_backbone(str(backbone)).identity), "# card\n")
    return folder


def tiny_cases(model: SalusModel, count: int = 24, *, embedder: Embedder | None = None) -> CaseIndex:
    """Return an index of the patients 0 to `count` - 1."""
    return build_cases(model, TASK, examples(0, count), embedder or FusedEmbedder(model), progress=lambda words, share: None)
