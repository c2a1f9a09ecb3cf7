"""`salus evaluate`: measures a model on its tasks; writes one self-contained JSON and one HTML page."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from salus import registry
from salus.commands.loading import base_model_folder, data_folder, open_quietly
from salus.commands.showing import progress_bars
from salus.evaluate.page import decimals, interval, write_page
from salus.evaluate.rows import Result, Row, refuse_unwritable, write_result
from salus.evaluate.suite import WHAT_CHANGED, Suite, evaluate, task_of
from salus.model import load_model
from salus.task import SPLITS, Split


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Measure a model on its tasks, with intervals, calibration, subgroups, rivals and ablations."
    parser.add_argument("--model", type=Path, help="model folder (default: the base model that ships)")
    parser.add_argument("--tasks", help="comma-separated task names, and what-changed (default: all)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test; choose on val, read test once per finalist")
    parser.add_argument("--data", type=Path, help="folder of the cohorts (default: $SALUS_DATA)")
    parser.add_argument("--out", type=Path, default=Path("results/base.json"), help="result file (default: results/base.json)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes for record-reading (default: cores)")
    parser.add_argument("--most", type=int, help="most examples per task, for a quick look")


def run(args: argparse.Namespace) -> int:
    """Evaluate; return 0.

    Raises:
        ConfigError: a task is unknown, its data are not there, or the results cannot be written.
    """
    refuse_unwritable(args.out)
    folder = args.model or base_model_folder()
    names = tuple(args.tasks.split(",")) if args.tasks else (*registry.names("salus.tasks"), WHAT_CHANGED)
    tasks = {name: task_of(name) for name in names}
    needs_data = any(task.folders for task in tasks.values())
    data = data_folder(args.data) if needs_data else args.data or Path()
    suite = Suite(names, cast(Split, args.split), data, args.workers, args.most)
    cohorts = sorted({folder for task in tasks.values() for folder in task.folders})
    model, rows = open_quietly(load_model, folder), list[Row]()
    what_changed = args.out.with_name(f"{args.out.stem}-what-changed.json")
    console = Console(highlight=False)
    with progress_bars(console) as progress:

        def save(result: Result, changes: Sequence[Mapping[str, Any]]) -> None:
            tree = result.to_json(model, data, cohorts)
            write_result(tree, args.out)
            write_page(tree, args.out)
            if changes:
                what_changed.write_text(json.dumps(changes) + "\n", encoding="utf-8")
            rows[:] = result.rows

        open_quietly(evaluate, folder, suite, save=save, progress=progress)
    show(console, rows)
    console.print(f"Results: {args.out}\nPage: {args.out.with_suffix('.html')}")
    if what_changed.exists():
        console.print(f"What changed: {what_changed} (check with scripts/verify_changes.py)")
    return 0


def show(console: Console, rows: list[Row]) -> None:
    """Print the rows without subgroups as a table."""
    table = Table("task", "role", "model", "metric", "value", "95 % interval", "n")
    for one in rows:
        if not one.subgroup:
            table.add_row(one.task, one.role, one.model, one.metric, decimals(one.value), interval(one.low, one.high), str(one.n))
    console.print(table)
