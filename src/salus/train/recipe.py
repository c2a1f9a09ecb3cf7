"""What a recipe says: which encoders, which tasks, how long. One YAML file makes one model from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class EncoderRecipe:
    """How one modality's encoder is made."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the network, over the plug-in's defaults."""
    task: str | None = None
    """Task with options whose answers supervise it; None: self-supervised only."""
    records_from: tuple[str, ...] = ()
    """Tasks whose training records feed the self-supervised stage."""
    pretext_epochs: int = 0
    """Epochs of the self-supervised stage."""
    epochs: int = 0
    """Epochs of the supervised stage."""
    batch_size: int = 64
    lr: float = 1e-3
    """Peak of a one-cycle schedule."""
    weight_decay: float = 0.05
    teacher: Literal["none", "gradient_boosting", "random_forest"] = "none"
    """Model of tables whose out-of-fold probabilities soften the labels."""
    teacher_weight: float = 0.5
    """Share of the teacher in the target."""


@dataclass(frozen=True)
class LanguageRecipe:
    """One stage in which the language model reads soft tokens and facts."""

    steps: int
    lr: float
    tasks: Mapping[str, float]
    """Task → share of the samples. `record-reading` teaches reading facts, `record-reading-alone` reading raw items, `overview`
    answering what changed."""
    batch_tokens: int = 1600
    """Tokens in a batch, padding included."""
    batch_size: int = 16
    """Most samples in a batch."""
    teacher_weight: float = 0.0
    """Share of an encoder's own probabilities in the target of the task that it was trained on; 0: right answers alone."""
    mixtures: int = 0
    """Mixtures of two patients' vectors, answered by the encoder alone, beside the examples of each task that it was trained on."""
    shots: int = 0
    """Most solved cases of other patients before a question with options; each gets 0 to so many, at random (in-context tuning)."""
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    checkpoint_every: int = 50
    """Steps."""


NONE = LanguageRecipe(steps=0, lr=0.0, tasks={})
"""A stage that is left out."""


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a model, but the data."""

    name: str
    version: str
    seed: int
    backbone: str
    encoders: Mapping[str, EncoderRecipe]
    projector: LanguageRecipe = NONE
    """Trains the fuser on questions about the record, most of them with options; encoders and language model are frozen."""
    language: LanguageRecipe = NONE
    """Trains LoRA to write; the fuser stays as it is, and options are judged without LoRA. No tasks: a model that only judges options."""
    lora: Mapping[str, Any] = field(default_factory=dict)
    extends: str = ""
    """Model folder, or `base`: the encoders above and their own projectors join it, nothing that it has is changed. Empty: a new model."""
    own_projectors: Mapping[str, LanguageRecipe] = field(default_factory=dict)
    """Modality → a further projector stage that trains its own part of the fuser alone: for one with too few examples to be heard
    among the others."""
    fuser: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, int] = field(default_factory=dict)
    """Task → training examples prepared for the language stages; a task with two options and no teacher takes its answers about
    equally often."""
    calibration_examples: int = 600
    """Most `val` examples that calibrate one task."""
