"""What is wrong with a recipe of the fusion comparison is said before the first fit, not after hours of them.

Takes a recipe; raises, or gives nothing. Reads no patient: that a cohort is there is for the command to see.
"""

from __future__ import annotations

from math import inf
from typing import get_args

from salus import registry
from salus.config import refuse_empty, refuse_outside
from salus.errors import ConfigError
from salus.evaluate.fusion_fits import FusionRecipe, TaskRecipe
from salus.evaluate.fusion_rivals import SYSTEMS, mogonet_checkout
from salus.evaluate.fusion_tasks import FusionTask, fusion_task
from salus.fuse.build import build_fuser
from salus.task import Classifier

LEAST_RATE = 1e-9
OF_BUDGET = {
    "epochs": (1, inf), "batch_size": (1, inf), "lr": (LEAST_RATE, inf), "weight_decay": (0, inf), "held_out": (0, 0.9),
    "label_smoothing": (0, 0.9), "members": (1, inf),
}  # fmt: skip
OF_ROUTE = {"steps": (1, inf), "batch_size": (1, inf), "lr": (LEAST_RATE, inf), "weight_decay": (0, inf)}


def refuse_unfit(recipe: FusionRecipe, *, reads_test: bool) -> None:
    """Refuse a recipe that could not be run to its end.

    Args:
        recipe: what shall be compared.
        reads_test: whether the finalists are measured too, and with them the rivals that are slow.

    Raises:
        ConfigError: a list is empty, a task, strategy, setting or rival is unknown, a number makes no sense, or a system that is run from
            its authors' code is not there.
    """
    refuse_empty(recipe, ("seeds", "strategies", "tasks"), f"recipe {recipe.name!r}")
    for name in recipe.strategies:
        registry.load("salus.fusers", name)
    for name, own in recipe.tasks.items():
        where = f"tasks.{name}"
        task = fusion_task(name)
        refuse_outside(own.budget, OF_BUDGET, f"{where}.budget")
        refuse_outside(own, {"teacher_weight": (0, 1)}, where)
        if own.route is not None:
            refuse_empty(recipe, ("route_seeds",), f"recipe {recipe.name!r}")
            refuse_outside(own.route, OF_ROUTE, f"{where}.route")
        _refuse_rivals(own, where, reads_test=reads_test)
        _refuse_settings(recipe, task)


def _refuse_rivals(own: TaskRecipe, where: str, *, reads_test: bool) -> None:
    known = (*get_args(Classifier), *SYSTEMS)
    if unknown := [name for name in (*own.rivals, *own.systems) if name not in known]:
        raise ConfigError(f"Cannot use {where}: there is no rival {unknown[0]!r}. Known rivals: {', '.join(known)}.")
    if "mogonet" in own.rivals or (reads_test and "mogonet" in own.systems):
        mogonet_checkout()


def _refuse_settings(recipe: FusionRecipe, task: FusionTask) -> None:
    """Build each strategy once, as small as its settings let it be."""
    settings = recipe.tasks[task.name].settings
    if taken := {"strategy", "modalities", "width"} & set(settings):
        raise ConfigError(f"Cannot use tasks.{task.name}.settings: {sorted(taken)[0]!r} is not chosen there. Leave it out.")
    for strategy in recipe.strategies:
        try:
            build_fuser({**settings, "strategy": strategy}, dict.fromkeys(task.modalities, (1, 2)), 1)
        except ConfigError as error:
            raise ConfigError(f"Cannot compare {strategy!r} by tasks.{task.name}.settings. {error}") from None
