"""The table of models by tasks at the top of a page: one metric, each figure with its interval.

Takes rows of a results file; gives lines for the page. Leaves out what stands for one task alone, such as pairs of modalities, subgroups
and differences, but for two lines below: the best modality alone, and what all modalities give beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEST_ALONE = "best modality alone"
GAIN = "best of all modalities minus best alone"
WORDS_OF_ONE = " alone"
"""At the end of the name of a model that is shown one modality."""

Cells = tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class Overview:
    """One table."""

    title: str
    tasks: tuple[str, ...]
    lines: tuple[tuple[str, Cells], ...]
    """Model → of each task: figure with interval, a remark, whether it is the best of its column."""


def overviews(rows: Sequence[Mapping[str, Any]], metric: str) -> list[Overview]:
    """Return a table for each split that has some.

    Args:
        rows: of a results file.
        metric: that is shown, `auroc`; its differences are `auroc_difference`.
    """
    return [_overview(rows, metric, split) for split in dict.fromkeys(row["split"] for row in rows)]


def _overview(rows: Sequence[Mapping[str, Any]], metric: str, split: str) -> Overview:
    whole = [row for row in rows if row["split"] == split and not row["subgroup"] and "fitted on train alone" not in row["model"]]
    found = [row for row in whole if row["metric"] == metric]
    tasks = tuple(dict.fromkeys(row["task"] for row in found))
    lines: dict[str, dict[str, Mapping[str, Any]]] = {}
    alone: dict[str, Mapping[str, Any]] = {}
    for row in found:
        if row["model"].endswith(WORDS_OF_ONE):
            best = alone.get(row["task"])
            alone[row["task"]] = row if best is None or row["value"] > best["value"] else best
        elif "," not in row["model"]:
            lines.setdefault(row["model"], {})[row["task"]] = row
    most = {task: max(line[task]["value"] for line in lines.values() if task in line) for task in tasks}

    def cells(line: Mapping[str, Mapping[str, Any]], *, is_named: bool = False) -> Cells:
        return tuple(_cell(line.get(task), most[task], is_named=is_named) for task in tasks)

    ranked = sorted(lines, key=lambda name: (-len(lines[name]), -sum(row["value"] for row in lines[name].values())))
    gains = {row["task"]: row for row in whole if row["metric"] == f"{metric}_difference" and row["model"].endswith(WORDS_OF_ONE)}
    made = [(name, cells(lines[name])) for name in ranked]
    made += [(BEST_ALONE, cells(alone, is_named=True))] if alone else []
    made += [(GAIN, tuple(_gain(gains.get(task)) for task in tasks))] if gains else []
    return Overview(f"{metric.upper()}, {split}", tasks, tuple(made))


def _cell(row: Mapping[str, Any] | None, best: float, *, is_named: bool) -> tuple[str, str, bool]:
    if row is None:
        return "", "", False
    remark = row["model"].removesuffix(WORDS_OF_ONE) if is_named else ""
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})", remark, not is_named and row["value"] == best


def _gain(row: Mapping[str, Any] | None) -> tuple[str, str, bool]:
    if row is None:
        return "", "", False
    verdict = "shown" if row["low"] > 0 else "worse" if row["high"] < 0 else "no gain shown"
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})", verdict, False
