"""The stages in which the language model learns to read soft tokens and facts: first the fuser alone, then LoRA alone.

Takes language examples; changes the model's trainable tensors in place. The order of batches is fixed by the seed and dropout is
seeded by step, so a run that is killed at any step and resumed from its checkpoint ends where an unbroken one ends.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from salus.batch import LanguageExample, answer_logits, fused_batch
from salus.errors import ConfigError
from salus.model import SalusModel
from salus.train.recipe import LanguageRecipe

Progress = Callable[[str, float], None]
CLIP_NORM = 1.0
OPTION_WEIGHT = 1.0
"""Weight of the loss over the declared options beside the loss over the whole vocabulary."""


def batch_loss(model: SalusModel, batch: Sequence[LanguageExample]) -> Tensor:
    """Return the mean over examples of the loss per answer token, plus the loss over declared options.

    Where a teacher softens the answer, its distribution over the options stands in place of the answer's first token. While the fuser is
    trained, what its strategy adds to the loss is added.
    """
    fused = fused_batch(model, batch)
    logits = answer_logits(model, batch, fused=fused)
    each, chosen = [], []
    for example, scores in zip(batch, logits, strict=True):
        losses = functional.cross_entropy(scores, torch.tensor(example.answer, device=scores.device), reduction="none")
        if example.right >= 0:
            options = list(example.options)
            wanted = torch.zeros(len(options), device=scores.device)
            wanted[example.right] = 1.0
            if example.target:
                wanted = torch.tensor(example.target, device=scores.device)
                losses = torch.cat([-(wanted * scores[0].log_softmax(-1)[options]).sum()[None], losses[1:]])
            chosen.append(-(wanted * scores[0][options].log_softmax(-1)).sum())
        each.append(losses.mean())
    loss = torch.stack(each).mean()
    if fused.loss is not None and model.fuser.training:
        loss = loss + fused.loss
    return loss + OPTION_WEIGHT * torch.stack(chosen).sum() / len(batch) if chosen else loss


def plan(pools: Mapping[str, Sequence[LanguageExample]], recipe: LanguageRecipe, seed: int) -> list[list[tuple[str, int]]]:
    """Return the batches of a whole stage as (task, place) pairs, the same for the same seed.

    Tasks are drawn by their share; a task with two options draws its answers evenly, so that rare outcomes are learned
    (calibration on `val` mends the shift); with more options, or a teacher, it keeps their natural shares. Examples of
    like length share a batch.
    """
    source = random.Random(seed)
    names = [name for name in recipe.tasks if pools.get(name)]
    if not names:
        raise ConfigError(f"Cannot plan a stage: no example of {', '.join(recipe.tasks)}. Check the recipe and the data.")
    shares = [recipe.tasks[name] for name in names]
    decks: dict[tuple[str, int], list[int]] = {}
    by_answer = {name: _by_answer(pools[name]) for name in names}

    def draw(name: str) -> int:
        key = (name, source.choice(sorted(by_answer[name])))
        if not decks.get(key):
            decks[key] = list(by_answer[name][key[1]])
            source.shuffle(decks[key])
        return decks[key].pop()

    wanted = recipe.steps * recipe.batch_size
    drawn = [(name, draw(name)) for name in source.choices(names, shares, k=wanted)]
    batches: list[list[tuple[str, int]]] = []
    window = recipe.batch_size * 8
    for start in range(0, len(drawn), window):
        chunk = sorted(drawn[start : start + window], key=lambda one: pools[one[0]][one[1]].tokens)
        group: list[list[tuple[str, int]]] = [[]]
        for one in chunk:
            length = pools[one[0]][one[1]].tokens + 60
            if group[-1] and (len(group[-1]) >= recipe.batch_size or length * (len(group[-1]) + 1) > recipe.batch_tokens):
                group.append([])
            group[-1].append(one)
        source.shuffle(group)
        batches += group
    return batches


def _by_answer(pool: Sequence[LanguageExample]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, example in enumerate(pool):
        is_even = len(example.options) == 2 and not example.target
        places.setdefault(example.right if is_even else -1, []).append(place)
    return places


def rate(step: int, steps: int, recipe: LanguageRecipe) -> float:
    """Return the learning rate: linear warm-up, then cosine to a tenth.

    Example:
        >>> recipe = LanguageRecipe(steps=100, lr=1.0, tasks={}, warmup_share=0.1)
        >>> rate(0, 100, recipe), rate(9, 100, recipe), round(rate(99, 100, recipe), 2)
        (0.1, 1.0, 0.1)
    """
    warm = max(1, int(recipe.warmup_share * steps))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    done = (step - warm) / max(1, steps - 1 - warm)
    return recipe.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train_language(
    model: SalusModel,
    pools: Mapping[str, Sequence[LanguageExample]],
    recipe: LanguageRecipe,
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress,
) -> None:
    """Run one stage, from its checkpoint if there is one.

    Args:
        model: parameters that require a gradient are trained.
        pools: examples by task.
        recipe: the stage.
        seed: of batches and dropout.
        checkpoint: file that is replaced atomically every `recipe.checkpoint_every` steps and at the end.
        progress: called with words and a share of 1.
    """
    accelerator = Accelerator()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups, scales = _groups(model)
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    model, optimiser = accelerator.prepare(model, optimiser)
    bare: SalusModel = accelerator.unwrap_model(model)
    batches = plan(pools, recipe, seed)
    start = _resume(bare, optimiser, checkpoint)
    bare.fuser.train()
    bare.backbone.train()
    recent = 0.0
    for step in range(start, len(batches)):
        torch.manual_seed(seed * 1_000_003 + step)
        for group, scale in zip(optimiser.param_groups, scales, strict=True):
            group["lr"] = scale * rate(step, len(batches), recipe)
        batch = [pools[name][place] for name, place in batches[step]]
        with bare.backbone.trainable_attention(max(example.tokens for example in batch)):
            loss = batch_loss(bare, batch)
            optimiser.zero_grad(set_to_none=True)
            accelerator.backward(loss)
        nn.utils.clip_grad_norm_(trainable, CLIP_NORM)
        optimiser.step()
        shown = float(loss.detach())
        recent = shown if step == start else 0.95 * recent + 0.05 * shown
        progress(f"step {step + 1}/{len(batches)} loss {recent:.3f}", (step + 1) / len(batches))
        if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == len(batches):
            _save(bare, optimiser, checkpoint, step + 1)
    bare.eval()


def _groups(model: SalusModel) -> tuple[list[dict[str, Any]], list[float]]:
    """Return what is trained in groups, and the multiple of the learning rate that each takes: inserted layers have their own."""
    layers = model.cross_attention
    scales = {} if layers is None else dict.fromkeys(layers.parameters(), layers.settings.lr_scale)
    by_scale: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            by_scale.setdefault(scales.get(parameter, 1.0), []).append(parameter)
    return [{"params": one} for one in by_scale.values()], list(by_scale)


def _trained_tensors(model: SalusModel) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def _save(model: SalusModel, optimiser: Any, path: Path, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"step": step, "tensors": _trained_tensors(model), "optimiser": optimiser.state_dict()}, part)
    os.replace(part, path)  # noqa: PTH105  (atomic on one file system)


def load_checkpoint(model: SalusModel, path: Path) -> dict[str, Any]:
    """Put the trained tensors of a checkpoint into a model and return the whole checkpoint."""
    kept: dict[str, Any] = torch.load(path, weights_only=True)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in kept["tensors"].items():
            own[name].copy_(tensor)
    return kept


def _resume(model: SalusModel, optimiser: Any, path: Path) -> int:
    if not path.exists():
        return 0
    kept = load_checkpoint(model, path)
    optimiser.load_state_dict(kept["optimiser"])
    return int(kept["step"])


@torch.inference_mode()
def mean_loss(model: SalusModel, pools: Mapping[str, Sequence[LanguageExample]], *, batch_size: int = 8) -> dict[str, float]:
    """Return the mean loss of each task over all of its examples."""
    model.eval()
    losses: dict[str, float] = {}
    for name, pool in pools.items():
        ordered = sorted(pool, key=lambda example: example.tokens)
        parts = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
        losses[name] = sum(float(batch_loss(model, part)) * len(part) for part in parts) / max(len(ordered), 1)
    return losses
