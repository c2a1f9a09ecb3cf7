"""Fits a fuser with a head on token sets, for comparing strategies with equal budgets; the language model takes no part.

Takes token sets with answers; gives a fitted pair and its probabilities. A part of the patients is held out of the fitting and chooses the
epoch; late fusion stacks on it. Deterministic by seed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.fuse.build import build_fuser
from salus.fuse.fuser import Fused
from salus.fuse.linear_reading import FOLDS, LinearReading, fit_reading, folds
from salus.fuse.token_sets import TokenSets

CLIP_NORM = 5.0
LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Budget:
    """How a fuser and its head are fitted: the same for every strategy of a comparison."""

    epochs: int = 40
    batch_size: int = 32
    lr: float = 1e-3
    """Peak of a one-cycle schedule."""
    weight_decay: float = 0.1
    held_out: float = 0.15
    """Share of the patients that chooses the epoch."""
    balance: bool = False
    """Whether rare answers weigh as much as common ones."""
    label_smoothing: float = 0.0
    members: int = 1
    """Networks whose probabilities are averaged; each has its own seed and holds out its own patients."""
    linear_share: float = 0.0
    """Share of a linear reading of the modalities (`salus.fuse.linear_reading`) in log probabilities; the rest is the networks'."""


@dataclass
class Fitted:
    """A fuser with its head."""

    fuser: nn.Module
    head: nn.Module
    parameters: int
    """Numbers that were learned."""

    @torch.no_grad()
    def fused(self, sets: TokenSets) -> Fused:
        """Return all patients of token sets, fused."""
        self.fuser.eval()
        return cast(Fused, self.fuser(sets.batch(np.arange(len(sets))), len(sets)))

    @torch.no_grad()
    def probabilities(self, sets: TokenSets) -> NDArray[np.float64]:
        """Return (n, O)."""
        self.head.eval()
        return cast(NDArray[np.float64], self.head(self.fused(sets)).double().softmax(-1).numpy())


@dataclass(frozen=True)
class Ensemble:
    """Several fitted networks that answer as one, and what is read linearly beside them."""

    members: tuple[Fitted, ...]
    reading: LinearReading | None = None
    linear_share: float = 0.0

    @property
    def parameters(self) -> int:
        """Numbers that were learned, in all."""
        return sum(one.parameters for one in self.members) + (self.reading.parameters if self.reading else 0)

    @torch.no_grad()
    def probabilities(self, sets: TokenSets) -> NDArray[np.float64]:
        """Return (n, O): the mean of the members'; joined with those of the linear reading by their weighted geometric mean."""
        mean = np.mean([one.probabilities(sets) for one in self.members], axis=0)
        if self.reading is None:
            return cast(NDArray[np.float64], mean)
        read = self.reading.logits(sets.batch(np.arange(len(sets))), len(sets)).double().log_softmax(-1)
        logs = torch.from_numpy(mean).clamp_min(LEAST_PROBABILITY).log()
        joined = (1 - self.linear_share) * logs + self.linear_share * read
        return cast(NDArray[np.float64], joined.softmax(-1).numpy())


def fit_members(
    sets: TokenSets, settings: Mapping[str, Any], budget: Budget, *, options: int, seed: int, width: int | None = None
) -> Ensemble:
    """Return as many fitted networks as the budget has members (see `fit`), with a linear reading where it counts."""
    seeds = range(seed * budget.members, (seed + 1) * budget.members)
    members = tuple(fit(sets, settings, budget, options=options, seed=one, width=width) for one in seeds)
    if hasattr(members[0].head, "stack") and not budget.held_out:
        _cross_stacked(members, sets, settings, budget, options=options, seed=seeds[0])
    return Ensemble(members, fit_reading(sets, options) if budget.linear_share else None, budget.linear_share)


def fit(sets: TokenSets, settings: Mapping[str, Any], budget: Budget, *, options: int, seed: int, width: int | None = None) -> Fitted:
    """Return a fuser and its head, fitted.

    Args:
        sets: standardised; the loss aims at `wanted` where they say it, else at the answers.
        settings: `strategy` and its settings.
        budget: how long and how fast.
        options: of the question.
        seed: of weights, batches, dropout and of who is held out.
        width: of the tokens; None: that of the hidden layers.
    """
    torch.manual_seed(seed)
    fuser = cast(nn.Module, build_fuser(settings, sets.widths, width or int(settings.get("hidden", 64))))
    head = cast(Any, fuser).build_head(options)
    training, held = parted(sets, budget.held_out, seed)
    weights = _weights(training.answers, options) if budget.balance else None
    learned = [one for one in [*fuser.parameters(), *head.parameters()] if one.requires_grad]
    steps = budget.epochs * max(1, -(-len(training) // budget.batch_size))
    optimiser = torch.optim.AdamW(learned, lr=budget.lr, weight_decay=budget.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, budget.lr, total_steps=steps, pct_start=0.2)
    source, best, kept = np.random.default_rng(seed), float("inf"), None
    for _ in range(budget.epochs):
        fuser.train()
        head.train()
        for rows in np.array_split(source.permutation(len(training)), max(1, -(-len(training) // budget.batch_size))):
            loss = _loss(fuser, head, training, rows, weights, budget.label_smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned, CLIP_NORM)
            optimiser.step()
            schedule.step()
        if len(held):
            fuser.eval()
            head.eval()
            with torch.no_grad():
                now = float(_loss(fuser, head, held, np.arange(len(held)), weights, 0.0))
            if now < best:
                best, kept = now, copy.deepcopy((fuser.state_dict(), head.state_dict()))
    if kept is not None:
        fuser.load_state_dict(kept[0])
        head.load_state_dict(kept[1])
    fitted = Fitted(fuser.eval(), head.eval(), sum(one.numel() for one in learned))
    if hasattr(head, "stack") and len(held):
        head.stack(*_told(fitted, held))
    return fitted


def _cross_stacked(
    members: Sequence[Fitted], sets: TokenSets, settings: Mapping[str, Any], budget: Budget, *, options: int, seed: int
) -> None:
    """Stack the members' heads on what networks say of patients whom they were not fitted on, where nobody was held out.

    One network for each of `FOLDS` parts of the patients, fitted on the others. Source: Wolpert 1992 (Neural Networks 5(2), section 2).
    """
    fold, told = folds(sets), []
    for left in range(FOLDS):
        rows = np.flatnonzero(fold == left)
        if len(rows) and len(rows) < len(sets):
            other = fit(sets.take(np.flatnonzero(fold != left)), settings, budget, options=options, seed=seed)
            told.append(_told(other, sets.take(rows)))
    if told:
        logits, here, answers = (torch.cat(one) for one in zip(*told, strict=True))
        for member in members:
            cast(Any, member.head).stack(logits, here, answers)


@torch.no_grad()
def _told(fitted: Fitted, sets: TokenSets) -> tuple[Tensor, Tensor, Tensor]:
    """Return what each modality's head says of patients (n, M, O), which modalities they have (n, M), and their answers (n,)."""
    fused = fitted.fused(sets)
    return cast(Any, fitted.head).each(fused), fused.weights > 0, torch.from_numpy(sets.answers)


def _loss(fuser: nn.Module, head: Any, sets: TokenSets, rows: NDArray[np.int64], weights: Tensor | None, smoothing: float) -> Tensor:
    fused: Fused = fuser(sets.batch(rows), len(rows))
    target = torch.from_numpy((sets.answers if sets.wanted is None else sets.wanted)[rows])
    if hasattr(head, "own_loss"):
        loss: Tensor = head.own_loss(fused, target, weights)
    else:
        loss = functional.cross_entropy(head(fused), target, weight=weights, label_smoothing=smoothing)
    return loss if fused.loss is None else loss + fused.loss


def parted(sets: TokenSets, share: float, seed: int) -> tuple[TokenSets, TokenSets]:
    """Return the patients to fit on and those held out, each answer in its share; patients of one group stay together.

    Args:
        sets: patients with answers.
        share: to hold out.
        seed: of who is held out.
    """
    source = np.random.default_rng(seed + 1)
    held: set[str] = set()
    for option in np.unique(sets.answers):
        own = sorted({sets.groups[row] for row in np.flatnonzero(sets.answers == option)} - held)
        held.update(str(one) for one in source.permutation(own)[: round(share * len(own))])
    is_held = np.array([group in held for group in sets.groups])
    return sets.take(np.flatnonzero(~is_held)), sets.take(np.flatnonzero(is_held))


def _weights(answers: NDArray[np.int64], options: int) -> Tensor:
    counts = np.bincount(answers, minlength=options)
    return torch.tensor(len(answers) / (options * np.maximum(counts, 1)), dtype=torch.float32)
