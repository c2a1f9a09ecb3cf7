"""Fits an aligner on pairs of modalities; a third that shares one of them is bound without ever having been seen with the other.

Takes rows and which modalities are paired; gives a fitted aligner. Each pair has its own temperature. Deterministic by seed. Binding
through one shared modality: Girdhar et al. 2023 (ImageBind), arXiv 2305.05665, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salus.errors import ConfigError
from salus.fuse.align.aligner import Aligner, AlignerConfig
from salus.fuse.align.cached import cached_backward
from salus.fuse.align.knowledge import knowledge
from salus.fuse.align.losses import LossName, PairLoss, Pairs
from salus.fuse.align.pairs import PairSets, pairs_of
from salus.fuse.align.start import correlated_start
from salus.fuse.token_sets import Tokens

CLIP_NORM = 5.0
Pair = tuple[str, str]
Inputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AlignBudget:
    """How an aligner is fitted."""

    steps: int = 40
    """0: only where the projectors start; with `correlated` that is the linear baseline."""
    batch_size: int = 256
    """B of the loss; fewer patients make smaller batches."""
    chunk: int = 256
    """Patients whose graph is in memory at once (cached gradients)."""
    lr: float = 1e-3
    """Peak: it rises over the first fifth of the steps and falls along a cosine."""
    weight_decay: float = 1.0


@dataclass(frozen=True)
class AlignLoss:
    """What the pairs are pulled by."""

    kind: LossName = "clip"
    hardness: float = 0.0
    """Of negatives; 0: all weigh alike."""
    knowledge_share: float = 0.0
    """Weight of a positive that knowledge adds; 0: none."""


@dataclass
class Aligned:
    """A fitted aligner with its losses."""

    aligner: Aligner
    losses: dict[str, PairLoss]
    """`first and second` → its loss, with what it learned."""
    loss: float
    """Of the last step."""

    @property
    def scale(self) -> float:
        """The first pair's 1 / temperature."""
        return float(next(iter(self.losses.values())).scale.detach())


def bound_pairs(anchor: str, others: Sequence[str]) -> tuple[Pair, ...]:
    """Return the pairs that bind modalities through one.

    Example:
        >>> bound_pairs("image", ["text", "sound"])
        (('image', 'text'), ('image', 'sound'))
    """
    return tuple((anchor, other) for other in others)


def fit_aligner(
    rows: PairSets, pairs: Sequence[Pair], config: AlignerConfig, *, loss: AlignLoss, budget: AlignBudget, seed: int = 0
) -> Aligned:
    """Return an aligner fitted on the pairs.

    Args:
        rows: training patients; a row that lacks a modality of a pair takes no part in that pair.
        pairs: modalities that are pulled together.
        config: of the projectors.
        loss: which, with how hard negatives and how much knowledge.
        budget: how long and how fast.
        seed: of weights, batches and dropout.

    Raises:
        ConfigError: a pair has fewer than two rows with both modalities.
    """
    torch.manual_seed(seed)
    aligner = Aligner(config)
    aligner.fit_inputs(rows.sets)
    seen = {pair: rows.with_both(*pair) for pair in pairs}
    for pair, at in seen.items():
        if len(at) < 2:
            raise ConfigError(f"Cannot align {pair[0]} with {pair[1]}: {len(at)} rows have both. Give at least two.")
    inputs = {name: _inputs(aligner, name, rows.sets.modalities[name]) for name in config.widths}
    if config.start == "correlated":
        _start(aligner, rows, seen)
    losses = {f"{first} and {second}": PairLoss(loss.kind, hardness=loss.hardness) for first, second in pairs}
    made = Aligned(aligner, losses, float("nan"))
    if budget.steps:
        made.loss = _last_loss(made, rows, inputs, loss=loss, budget=budget, seed=seed)
    aligner.eval()
    return made


def _inputs(aligner: Aligner, name: str, tokens: Tokens) -> Inputs:
    """Return what gives the (C, S) vectors of some rows: from components made once where pooling is not learned, else from tokens."""
    projector = aligner.projector(name)
    values, mask = torch.from_numpy(tokens.values), torch.from_numpy(tokens.mask)
    if projector.query is not None:
        return lambda at: projector(values[at], mask[at])
    with torch.no_grad():
        components = projector.components(values, mask)
    return lambda at: projector.placed(components[at])


@torch.no_grad()
def _start(aligner: Aligner, rows: PairSets, seen: Mapping[Pair, NDArray[np.int64]]) -> None:
    if aligner.config.hidden:
        raise ConfigError("Cannot start projectors with a hidden layer from correlations: set start to random, or hidden to 0.")
    tokens = {name: rows.sets.modalities[name] for name in aligner.config.widths}
    components = {
        name: aligner.projector(name).components(torch.from_numpy(one.values), torch.from_numpy(one.mask)) for name, one in tokens.items()
    }
    at = {pair: torch.from_numpy(each) for pair, each in seen.items()}
    for name, weight in correlated_start(components, list(seen), at, aligner.config.sphere).items():
        cast(nn.Linear, aligner.projector(name).project).weight.copy_(weight)


def _last_loss(made: Aligned, rows: PairSets, inputs: Mapping[str, Inputs], *, loss: AlignLoss, budget: AlignBudget, seed: int) -> float:
    """Take the steps; return the loss of the last."""
    aligner, losses = made.aligner, made.losses
    decayed = [one for one in aligner.parameters() if one.ndim > 1]
    free = [one for one in aligner.parameters() if one.ndim <= 1] + [one for each in losses.values() for one in each.parameters()]
    groups = [{"params": decayed, "weight_decay": budget.weight_decay}, {"params": free, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=budget.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_pace, steps=budget.steps))
    learned = [one for one in [*decayed, *free] if one.requires_grad]
    source, value = np.random.default_rng(seed), 0.0
    kept: dict[str, Pairs] = {}
    known = knowledge() if loss.knowledge_share > 0 else None
    aligner.train()
    for _ in range(budget.steps):
        optimiser.zero_grad()
        value = 0.0
        for words, each in losses.items():
            first, _, second = words.partition(" and ")
            at = rows.with_both(first, second)
            batch = at if len(at) <= budget.batch_size else np.sort(source.permutation(at)[: budget.batch_size])
            if words not in kept or len(batch) < len(at):
                kept[words] = pairs_of(rows.take(batch), first, second, knowledge=known, share=loss.knowledge_share)
            parts = [torch.from_numpy(one) for one in np.array_split(batch, max(1, -(-len(batch) // budget.chunk)))]
            chunks = {name: [partial(inputs[name], part) for part in parts] for name in (first, second)}
            value += float(cached_backward(chunks, partial(_pair_loss, each, (first, second), kept[words])))
        nn.utils.clip_grad_norm_(learned, CLIP_NORM)
        optimiser.step()
        schedule.step()
    return value


def _pace(step: int, *, steps: int) -> float:
    """Return the share of the peak learning rate at a step."""
    rise = max(1, steps // 5)
    return (step + 1) / rise if step < rise else (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1))) / 2


def _pair_loss(loss: PairLoss, pair: Pair, pairs: Pairs, vectors: Mapping[str, Tensor]) -> Tensor:
    value: Tensor = loss(vectors[pair[0]], vectors[pair[1]], pairs)
    return value
