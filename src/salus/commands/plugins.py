"""`salus plugins`: lists what is installed, by group."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from salus import registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments (none)."""
    parser.description = "List installed modalities, readers, fusion strategies, tasks and commands."


def run(args: argparse.Namespace) -> int:
    """Print the plug-ins; return 0."""
    del args
    table = Table("group", "name", "what it is")
    for group in ("salus.modalities", "salus.readers", "salus.fusers", "salus.tasks", "salus.fusion_tasks"):
        for name in registry.names(group):
            table.add_row(group.removeprefix("salus."), name, registry.load(group, name).title)
    Console().print(table)
    return 0
