"""The tables at the top of a page: models by tasks, or what finds what beside chance; each figure with its interval.

Takes rows of a results file; gives lines for the page. Leaves out what stands for one task alone, such as pairs of modalities, subgroups
and differences, but for two lines below: the best modality alone, and what all modalities give beyond it.
"""

from __future__ import annotations

import re
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
    """Return one table of what chooses (`val`, and folds of `train` and `val` where that is too small), and one of `test`.

    Args:
        rows: of a results file.
        metric: that is shown, `auroc`; its differences are `auroc_difference`.
    """
    parts = [[row for row in rows if (row["split"] == "test") == is_test] for is_test in (False, True)]
    return [_overview(part, metric) for part in parts if part]


def _overview(rows: Sequence[Mapping[str, Any]], metric: str) -> Overview:
    splits = list(dict.fromkeys(row["split"] for row in rows))
    named = [{**row, "task": row["task"] if len(splits) == 1 else f"{row['task']}, {row['split']}"} for row in rows]
    whole = [row for row in named if not row["subgroup"] and "fitted on train alone" not in row["model"]]
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
    return Overview(f"{metric.upper()}, {' and '.join(splits)}", tasks, tuple(made))


@dataclass(frozen=True)
class Search:
    """How one modality finds another."""

    task: str
    way: str
    bound: str
    """By which third modality, where the two were never trained together."""
    n: int
    """Queries."""
    places: tuple[tuple[str, str, str, str, bool], ...]
    """For each of `PLACES`: chance, the linear baseline, what was chosen, its interval, and whether it is above chance."""


PLACES = (1, 5, 10)
SEARCH = re.compile(r"(?P<how>[^:,]+)(?:, bound by (?P<bound>\w+))?: (?P<way>[^,]+ to [^,]+)(?:, minus chance)?")
"""Name of a model that searches, as `salus.evaluate.alignment_rows` gives it."""
CHANCE, LINEAR = "chance", "canonical correlations"


def searches(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Search]]:
    """Return the searches of each split: recall at 1, 5 and 10 of what was chosen, beside chance and the linear baseline."""
    found: dict[tuple[str, str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        name = SEARCH.fullmatch(row["model"])
        if name is not None and str(row["metric"]).startswith("recall_at_") and row["role"] in ("final", "baseline"):
            key = (row["split"], row["task"], name["way"], name["bound"] or "")
            kind = row["role"] if row["role"] == "final" else name["how"]
            found.setdefault(key, {})[f"{kind} {row['metric']}"] = row
    made: dict[str, list[Search]] = {}
    for (split, *about), own in found.items():
        task, way, bound = (words.removeprefix("alignment-").replace("_", " ") for words in about)
        made.setdefault(split, []).append(Search(task, way, bound, next(iter(own.values()))["n"], tuple(_place(own, at) for at in PLACES)))
    return made


def _place(found: Mapping[str, Mapping[str, Any]], place: int) -> tuple[str, str, str, str, bool]:
    chance, linear, final = (found.get(f"{kind} recall_at_{place}") for kind in (CHANCE, LINEAR, "final"))
    gain = found.get(f"final recall_at_{place}_difference")
    lucky, straight, chosen = ("" if one is None else f"{one['value']:.3f}" for one in (chance, linear, final))
    interval = "" if final is None else f"{final['low']:.3f} to {final['high']:.3f}"
    return lucky, straight, chosen, interval, gain is not None and gain["low"] > 0


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
