"""Trains one encoder: self-supervised first where the recipe says so, then supervised by a task with options.

Takes prepared records and answers; changes the encoder in place. Deterministic by seed. The heads and pretext networks are thrown
away: only the encoder ships.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.classifiers import out_of_fold
from salus.encode.encoder import Encoder, Prepared, stack
from salus.train.recipe import EncoderRecipe

Progress = Callable[[str, float], None]
CLIP_NORM = 5.0


class OptionHeads(nn.Module):
    """Linear heads over the tokens: one per pooled token (each learns alone), or one over the mean of all."""

    def __init__(self, width: int, pooled_tokens: int, options: int) -> None:
        super().__init__()
        self.pooled_tokens = pooled_tokens
        self.heads = nn.ModuleList(nn.Linear(width, options) for _ in range(max(pooled_tokens, 1)))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return (H, B, O) logits of values (B, N, D) and mask (B, N)."""
        if self.pooled_tokens:
            return torch.stack([head(values[:, place]) for place, head in enumerate(self.heads)])
        weight = mask.float() / mask.sum(1, keepdim=True).clamp_min(1)
        return self.heads[0]((values * weight[..., None]).sum(1))[None]  # type: ignore[no-any-return]


def fit_normaliser(encoder: Encoder, prepared: Sequence[Prepared]) -> None:
    """Let an encoder that has a `fit` method learn its normalisation from training patients."""
    fit = getattr(encoder, "fit", None)
    if fit is not None:
        fit({name: np.stack([one.arrays[name] for one in prepared]) for name in prepared[0].arrays})


def pretrain(encoder: Encoder, prepared: Sequence[Prepared], recipe: EncoderRecipe, *, seed: int, progress: Progress) -> None:
    """Run the encoder's own self-supervised objective (`build_pretext`) over training records."""
    torch.manual_seed(seed)
    network = cast(nn.Module, encoder)
    pretext = cast(Any, encoder).build_pretext()
    arrays = stack(prepared)

    def loss_of(rows: Tensor) -> Tensor:
        loss: Tensor = pretext(encoder, {name: value[rows] for name, value in arrays.items()})
        return loss

    network.train()
    _optimise([*network.parameters(), *pretext.parameters()], len(prepared), loss_of, recipe, recipe.pretext_epochs, progress)
    network.eval()


def supervise(
    encoder: Encoder,
    prepared: Sequence[Prepared],
    answers: NDArray[np.int64],
    recipe: EncoderRecipe,
    *,
    seed: int,
    progress: Progress,
) -> OptionHeads:
    """Train the encoder to tell the options apart; returns the heads, for evaluation of the encoder alone.

    Args:
        encoder: changed in place.
        prepared: training records.
        answers: (n,) index of the right option.
        recipe: how long, how fast, which teacher.
        seed: of heads, batches and dropout.
        progress: called with words and a share of 1.
    """
    torch.manual_seed(seed + 1)
    network = cast(nn.Module, encoder)
    options = int(answers.max()) + 1
    target = functional.one_hot(torch.from_numpy(answers), options).float()
    if recipe.teacher != "none":
        soft = torch.from_numpy(out_of_fold(flat_features(encoder, prepared), answers, recipe.teacher, seed=seed)).float()
        target = (1 - recipe.teacher_weight) * target + recipe.teacher_weight * soft
    heads = OptionHeads(encoder.width, int(getattr(encoder, "pooled_tokens", 0)), options)
    arrays = stack(prepared)

    def loss_of(rows: Tensor) -> Tensor:
        batch, wanted = {name: value[rows] for name, value in arrays.items()}, target[rows]
        if hasattr(encoder, "augment"):
            batch, wanted = encoder.augment(batch, wanted)
        values, mask = encoder(batch)
        each: Tensor = -(wanted * heads(values, mask).log_softmax(-1)).sum(-1).mean(1)
        return each.sum()

    network.train()
    _optimise([*network.parameters(), *heads.parameters()], len(prepared), loss_of, recipe, recipe.epochs, progress)
    network.eval()
    return heads.eval()


def load_heads(encoder: Encoder, state: Mapping[str, Tensor]) -> OptionHeads:
    """Return the heads of an encoder from their tensors."""
    heads = OptionHeads(encoder.width, int(getattr(encoder, "pooled_tokens", 0)), len(state["heads.0.bias"]))
    heads.load_state_dict(dict(state))
    return heads.eval()


@torch.inference_mode()
def head_probabilities(encoder: Encoder, heads: OptionHeads, prepared: Sequence[Prepared]) -> NDArray[np.float64]:
    """Return (n, options) probabilities of the encoder alone: softmax of the heads' mean logits."""
    rows = []
    for start in range(0, len(prepared), 256):
        values, mask = encoder(stack(prepared[start : start + 256]))
        rows.append(heads(values, mask).mean(0).softmax(-1))
    return torch.cat(rows).double().numpy()


def flat_features(encoder: Encoder, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return (n, F) the float arrays of prepared records side by side (those in `table_arrays`, where the encoder names them)."""
    named = getattr(encoder, "table_arrays", None)
    floats = [name for name, value in prepared[0].arrays.items() if value.dtype.kind == "f" and (named is None or name in named)]
    return np.stack([np.concatenate([one.arrays[name].ravel() for name in floats]) for one in prepared]).astype(np.float32)


def _optimise(
    parameters: Sequence[nn.Parameter],
    examples: int,
    loss_of: Callable[[Tensor], Tensor],
    recipe: EncoderRecipe,
    epochs: int,
    progress: Progress,
) -> None:
    optimiser = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    batches = -(-examples // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=max(epochs * batches, 2), pct_start=0.15)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(examples).split(recipe.batch_size):  # type: ignore[no-untyped-call]
            loss = loss_of(rows)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        progress(f"loss {total / batches:.3f}", (epoch + 1) / epochs)
