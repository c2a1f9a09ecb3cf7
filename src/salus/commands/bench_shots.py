"""`salus bench shots RECIPE`: what solved cases beside a question change; writes one JSON and one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from salus import registry
from salus.commands.loading import data_folder, load_named_model
from salus.commands.showing import progress_bars
from salus.config import read_settings, settings_hash
from salus.errors import ConfigError
from salus.evaluate.page import render_page
from salus.evaluate.rows import Row, write_result
from salus.evaluate.shots_bench import ShotsRecipe, bench_shots


def run_shots(args: argparse.Namespace, console: Console) -> list[Row]:
    """Compare, write the results and return their rows.

    Raises:
        ConfigError: the recipe is wrong, there is no data folder, or `--test` is given: these choices are made on val.
        MissingExtra: FAISS is not installed.
    """
    if args.test:
        raise ConfigError("Cannot compare numbers of cases on test: nothing here is final. Leave --test out.")
    recipe = read_settings(ShotsRecipe, args.recipe, args.overrides)
    out, work = args.out or Path("results/in-context.json"), args.work or Path("runs/shots")
    model, data = load_named_model(recipe.model or None, None), data_folder(args.data)
    with progress_bars(console) as progress:
        result = bench_shots(recipe, model, data, work, progress=progress)
    folders = sorted({folder for name in recipe.tasks for folder in registry.load("salus.tasks", name).folders})
    tree = {**result.to_json(model, data, folders), "recipe_hash": settings_hash(recipe)}
    write_result(tree, out)
    out.with_suffix(".html").write_text(render_page(tree), encoding="utf-8")
    console.print(f"Results: {out}\nPage: {out.with_suffix('.html')}")
    return result.rows
