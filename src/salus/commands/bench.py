"""`salus bench KIND RECIPE`: fusion, alignment, or solved cases, measured on real patients; writes one JSON and one HTML page."""

from __future__ import annotations

import argparse
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from salus import __version__, registry
from salus.commands.bench_shots import of_tasks, run_shots
from salus.commands.loading import base_model_folder, data_folder, load_named_model, open_quietly, refuse_missing_cohorts
from salus.commands.showing import progress_bars
from salus.config import read_settings, settings_hash
from salus.errors import ConfigError
from salus.evaluate.alignment_bench import AlignmentRecipe
from salus.evaluate.alignment_rows import bench_alignment
from salus.evaluate.alignment_sets import BaseModel
from salus.evaluate.alignment_tasks import alignment_task
from salus.evaluate.fusion_bench import bench_fusion
from salus.evaluate.fusion_fits import FusionRecipe
from salus.evaluate.fusion_tasks import fusion_task
from salus.evaluate.page import decimals, interval, write_page
from salus.evaluate.rows import Result, Row, commit, file_hash, refuse_unwritable, tree_hash, write_result

KINDS = ("fusion", "alignment", "shots")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Compare ways to do a thing on the same patients, with equal budgets, several seeds and intervals."
    parser.add_argument("kind", choices=KINDS, help="fusion: strategies; alignment: modalities on one sphere; shots: solved cases")
    parser.add_argument("recipe", type=Path, help="YAML file, such as recipes/fusion.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings over the recipe's, such as seeds=[0]")
    parser.add_argument("--data", type=Path, help="folder of the cohorts (default: $SALUS_DATA)")
    parser.add_argument("--test", action="store_true", help="measure the finalists on test too; once, when nothing is left to choose")
    parser.add_argument("--jobs", type=int, default=1, help="fusion: processes that fit at once (default: 1)")
    parser.add_argument("--tasks", help="these of the recipe alone, joined by commas (default: all)")
    parser.add_argument("--work", type=Path, help="folder of what is done already (default: runs/KIND)")
    parser.add_argument("--out", type=Path, help="result file (default: results/KIND.json; of shots, in-context.json)")


def run(args: argparse.Namespace) -> int:
    """Compare; return 0.

    Raises:
        ConfigError: the recipe is wrong, lacks a task that was named, there is no data folder, or a folder cannot be written to.
        MissingExtra: scikit-learn or FAISS is not installed.
    """
    args.work = args.work or Path("runs") / args.kind
    args.out = args.out or Path("results") / ("in-context.json" if args.kind == "shots" else f"{args.kind}.json")
    if args.jobs < 1 or (args.jobs > 1 and args.kind != "fusion"):
        what = "Give 1 or more." if args.jobs < 1 else f"The bench of {args.kind} runs in one process. Leave --jobs out."
        raise ConfigError(f"Cannot use --jobs {args.jobs}. {what}")
    refuse_unwritable(args.out, args.work)
    if args.kind == "shots":
        console = Console(highlight=False)
        _show(console, run_shots(args, console))
        return 0
    return _alignment(args) if args.kind == "alignment" else _fusion(args)


def _fusion(args: argparse.Namespace) -> int:
    recipe = of_tasks(read_settings(FusionRecipe, args.recipe, args.overrides), args.tasks)
    data, folders = data_folder(args.data), {name: fusion_task(name).folders for name in recipe.tasks}
    refuse_missing_cohorts(folders, data)
    console = Console(highlight=False)
    with progress_bars(console) as progress:
        bench, results = bench_fusion(recipe, data, args.work, reads_test=args.test, progress=progress, jobs=args.jobs)
    _write(args, console, recipe, sorted(set(chain(*folders.values()))), results=results, overview="auroc")
    console.print(f"{bench.fitted} fits were run, the others had been kept. Results: {args.out}\nPage: {args.out.with_suffix('.html')}")
    return 0


def _alignment(args: argparse.Namespace) -> int:
    recipe = of_tasks(read_settings(AlignmentRecipe, args.recipe, args.overrides), args.tasks)
    data, folder, console = data_folder(args.data), base_model_folder(), Console(highlight=False)
    folders = {name: registry.load("salus.tasks", alignment_task(name).source).folders for name in recipe.tasks}
    refuse_missing_cohorts(folders, data)
    model = BaseModel(file_hash(folder / "model.safetensors"), lambda: load_named_model(None, None))
    with progress_bars(console) as progress:
        asked = {"model": model, "reads_test": args.test, "progress": progress}
        bench, results = open_quietly(bench_alignment, recipe, data, args.work, **asked)
    _write(args, console, recipe, sorted(set(chain(*folders.values()))), results=results)
    console.print(f"{bench.fitted} fits were run, the others had been kept. Results: {args.out}\nPage: {args.out.with_suffix('.html')}")
    return 0


def _write(
    args: argparse.Namespace, console: Console, recipe: Any, folders: Sequence[str], *, results: Sequence[Result], overview: str = ""
) -> None:
    """Write the results file and its page, and show the rows; `overview` is a metric for one table of models by tasks."""
    data = data_folder(args.data)
    rows = [row for result in results for row in result.rows]
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
        "overview": overview,
        "peak_mb": round(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024),
    }
    write_result(tree, args.out)
    write_page(tree, args.out)
    _show(console, rows)


def _show(console: Console, rows: list[Row]) -> None:
    table = Table("task", "split", "model", "metric", "value", "95 % interval", "n")
    for one in rows:
        if not one.subgroup and one.metric != "calibration_error":
            table.add_row(one.task, one.split, one.model, one.metric, decimals(one.value), interval(one.low, one.high), str(one.n))
    console.print(table)
