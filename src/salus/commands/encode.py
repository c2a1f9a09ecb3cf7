"""`salus encode COHORT --index FILE --out FOLDER`: a whole cohort through a model's encoders, on this process or on Ray workers."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from salus.cohort_encoding import Work, encode_cohort
from salus.commands.loading import base_model_folder, open_quietly


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Encode every patient of a cohort; the same command goes on where a stopped run was."
    parser.add_argument("cohort", type=Path, help="folder that the index was made of")
    parser.add_argument("--index", type=Path, required=True, metavar="FILE", help="written by 'salus index'")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="one safetensors file a patient")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="model folder (default: the base model that ships)")
    parser.add_argument("--backbone", metavar="PATH_OR_HUB_ID", help="where the model's language model lies (default: as the model says)")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest, if the index was made with one")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="Ray workers (default: 0, this process alone)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a running Ray cluster (default: one on this machine)")


def run(args: argparse.Namespace) -> int:
    """Encode; return 0.

    Raises:
        ConfigError: the results folder belongs to another model or index.
        InputError: the index or a patient is not there.
        MissingExtra: Ray is not installed.
    """
    model: Path = args.model or base_model_folder()
    work = Work(args.cohort.resolve(), args.index.resolve(), model.resolve(), args.out.resolve(), args.backbone, args.manifest)
    count = open_quietly(encode_cohort, work, workers=args.workers, address=args.cluster)
    Console(highlight=False, soft_wrap=True).print(f"{count} patients encoded: {args.out}", markup=False)
    return 0
