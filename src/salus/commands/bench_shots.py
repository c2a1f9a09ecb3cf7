"""`salus bench shots RECIPE`: what solved cases beside a question change; writes one JSON and one HTML page."""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from rich.console import Console

from salus import registry
from salus.commands.loading import data_folder, load_named_model, refuse_missing_cohorts
from salus.commands.showing import progress_bars
from salus.config import read_settings, settings_hash
from salus.errors import ConfigError
from salus.evaluate.alignment_bench import AlignmentRecipe
from salus.evaluate.fusion_fits import FusionRecipe
from salus.evaluate.page import write_page
from salus.evaluate.rows import Row, write_result
from salus.evaluate.shots_bench import ShotsRecipe, bench_shots

Recipe = TypeVar("Recipe", FusionRecipe, AlignmentRecipe, ShotsRecipe)


def run_shots(args: argparse.Namespace, console: Console) -> list[Row]:
    """Compare, write the results and return their rows.

    Raises:
        ConfigError: the recipe is wrong, there is no data folder, or `--test` is given: these choices are made on val.
        MissingExtra: FAISS is not installed.
    """
    if args.test:
        raise ConfigError("Cannot compare numbers of cases on test: nothing here is final. Leave --test out.")
    recipe = of_tasks(read_settings(ShotsRecipe, args.recipe, args.overrides), args.tasks)
    data, folders = data_folder(args.data), {name: registry.load("salus.tasks", name).folders for name in recipe.tasks}
    refuse_missing_cohorts(folders, data)
    model = load_named_model(recipe.model or None, None)
    with progress_bars(console) as progress:
        result = bench_shots(recipe, model, data, args.work, progress=progress)
    tree = {**result.to_json(model, data, sorted(set(chain(*folders.values())))), "recipe_hash": settings_hash(recipe)}
    write_result(tree, args.out)
    write_page(tree, args.out)
    console.print(f"Results: {args.out}\nPage: {args.out.with_suffix('.html')}")
    return result.rows


def of_tasks(recipe: Recipe, names: str | None) -> Recipe:
    """Return a recipe of some of its tasks, in their order.

    Raises:
        ConfigError: the recipe lacks one.
    """
    wanted = [name.strip() for name in names.split(",")] if names else list(recipe.tasks)
    if unknown := sorted(set(wanted) - set(recipe.tasks)):
        known = ", ".join(recipe.tasks)
        raise ConfigError(f"Cannot compare on {', '.join(unknown)}: the recipe has {known}. Name some of these in --tasks.")
    return replace(recipe, tasks={name: own for name, own in recipe.tasks.items() if name in wanted})
