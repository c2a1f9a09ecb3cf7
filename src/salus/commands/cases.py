"""`salus cases TASK --out FILE`: an index of solved cases from the `train` part of a task, for `salus ask --cases`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from rich.console import Console

from salus import registry
from salus.commands.loading import data_folder, load_named_model, refuse_missing_cohorts
from salus.commands.showing import progress_bars
from salus.errors import ConfigError
from salus.evaluate.rows import refuse_unwritable_folder
from salus.in_context import FusedEmbedder, build_cases
from salus.task import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Make an index of solved cases; it holds vectors and answers of patients: keep it as their files are kept."
    parser.add_argument("task", help="task with options, such as icu-death; its train part is used, never val or test")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="index to write")
    parser.add_argument("--data", type=Path, help="folder of the cohorts (default: $SALUS_DATA)")
    parser.add_argument("--most", type=int, metavar="N", help="take the first N examples only")
    parser.add_argument("--model", metavar="PATH_OR_HUB_ID", help="model folder or Hugging Face id (default: the base model that ships)")
    parser.add_argument("--backbone", metavar="PATH_OR_HUB_ID", help="where the model's language model lies (default: as the model says)")


def run(args: argparse.Namespace) -> int:
    """Write the index; return 0.

    Raises:
        ConfigError: the task has no plug-in, no data, or no example that this model can encode, or the index cannot be written.
        MissingExtra: FAISS is not installed.
    """
    task = cast(Task, registry.load("salus.tasks", args.task))
    data = data_folder(args.data) if task.folders else args.data or Path()
    refuse_missing_cohorts({task.name: task.folders}, data)
    if args.out.is_dir():
        raise ConfigError(f"Cannot write cases to '{args.out}': that is a folder. Give --out a file.")
    refuse_unwritable_folder(args.out.parent, "--out")
    model = load_named_model(args.model, args.backbone)
    console = Console(highlight=False, soft_wrap=True)
    with progress_bars(console) as progress:
        index = build_cases(model, task, task.read(data, "train")[: args.most], FusedEmbedder(model), progress=progress)
    index.save(args.out)
    console.print(f"{len(index)} cases of {index.patients} patients, {index.fingerprint}: {args.out}", markup=False)
    return 0
