"""`salus bench KIND RECIPE`: compares fusion strategies, or solved cases, on real patients; writes one JSON and one HTML page."""

from __future__ import annotations

import argparse
import platform
import resource
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from salus import __version__
from salus.commands.bench_shots import run_shots
from salus.commands.loading import data_folder
from salus.commands.showing import progress_bars
from salus.config import read_settings, settings_hash
from salus.evaluate.fusion_bench import bench_fusion
from salus.evaluate.fusion_fits import FusionRecipe
from salus.evaluate.fusion_tasks import fusion_task
from salus.evaluate.page import decimals, interval, render_page
from salus.evaluate.rows import Row, commit, file_hash, tree_hash, write_result

KINDS = ("fusion", "shots")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Compare ways to do a thing on the same patients, with equal budgets, several seeds and intervals."
    parser.add_argument("kind", choices=KINDS, help="fusion: strategies, on frozen features; shots: solved cases")
    parser.add_argument("recipe", type=Path, help="YAML file, such as recipes/fusion.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings over the recipe's, such as seeds=[0]")
    parser.add_argument("--data", type=Path, help="folder of the cohorts (default: $SALUS_DATA)")
    parser.add_argument("--test", action="store_true", help="measure the finalists on test too; once, when nothing is left to choose")
    parser.add_argument("--jobs", type=int, default=1, help="processes that fit at once (default: 1)")
    parser.add_argument("--work", type=Path, help="folder of what is done already (default: runs/KIND)")
    parser.add_argument("--out", type=Path, help="result file (default: results/fusion.json, or in-context.json)")


def run(args: argparse.Namespace) -> int:
    """Compare; return 0.

    Raises:
        ConfigError: the recipe is wrong, or there is no data folder.
        MissingExtra: scikit-learn is not installed.
    """
    console = Console(highlight=False)
    if args.kind == "shots":
        _show(console, run_shots(args, console))
        return 0
    recipe = read_settings(FusionRecipe, args.recipe, args.overrides)
    data, work, out = data_folder(args.data), args.work or Path("runs/fusion"), args.out or Path("results/fusion.json")
    with progress_bars(console) as progress:
        bench, results = bench_fusion(recipe, data, work, reads_test=args.test, progress=progress, jobs=max(1, args.jobs))
    rows = [row for result in results for row in result.rows]
    folders = sorted({folder for name in recipe.tasks for folder in fusion_task(name).folders})
    tree = {
        "command": " ".join(["salus", *sys.argv[1:]]),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "salus": __version__,
        "python": platform.python_version(),
        "recipe_hash": settings_hash(recipe),
        "data_hashes": {name: tree_hash(data / name) for name in folders},
        "split_hashes": {name: file_hash(data / name / "split.csv") for name in folders if (data / name / "split.csv").exists()},
        "rows": [asdict(one) for one in rows],
        "curves": {key: value for result in results for key, value in result.curves.items()},
        "notes": {key: value for result in results for key, value in result.notes.items()},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    write_result(tree, out)
    out.with_suffix(".html").write_text(render_page(tree), encoding="utf-8")
    _show(console, rows)
    console.print(f"{bench.fitted} fits were run, the others had been kept. Results: {out}\nPage: {out.with_suffix('.html')}")
    return 0


def _show(console: Console, rows: list[Row]) -> None:
    table = Table("task", "split", "model", "metric", "value", "95 % interval", "n")
    for one in rows:
        if not one.subgroup and one.metric != "calibration_error":
            table.add_row(one.task, one.split, one.model, one.metric, decimals(one.value), interval(one.low, one.high), str(one.n))
    console.print(table)
