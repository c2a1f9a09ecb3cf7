"""`salus train RECIPE`: makes a model folder from a recipe; goes on where a killed run stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from salus.commands.loading import data_folder, open_quietly
from salus.config import read_settings, settings_hash
from salus.train.recipe import Recipe
from salus.train.run import Place, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Make a model from a recipe. The same command resumes a run that was stopped."
    parser.add_argument("recipe", type=Path, help="YAML recipe, such as recipes/base.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over the recipe's, such as language.steps=100")
    parser.add_argument("--data", type=Path, help="folder of the cohorts (default: $SALUS_DATA)")
    parser.add_argument("--work", type=Path, help="checkpoints and log (default: runs/<name>-<hash>)")
    parser.add_argument("--out", type=Path, help="model folder to make (default: <work>/model)")


def run(args: argparse.Namespace) -> int:
    """Train; return 0.

    Raises:
        ConfigError: the recipe is wrong or its data are not there.
    """
    recipe = read_settings(Recipe, args.recipe, args.overrides)
    work = args.work or Path("runs") / f"{recipe.name}-{settings_hash(recipe)[:8]}"
    place = Place(data_folder(args.data), work, args.out or work / "model")
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        shown: dict[str, object] = {}

        def progress(words: str, share: float) -> None:
            name = words.split(":", maxsplit=1)[0]
            if name not in shown:
                shown[name] = bars.add_task(name, total=1.0)
            bars.update(shown[name], completed=share, description=words[:70])  # type: ignore[arg-type]

        folder = open_quietly(train, recipe, place, progress=progress)
    console.print(f"Model: {folder.resolve()}")
    return 0
