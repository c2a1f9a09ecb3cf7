"""The page of an evaluation: every figure of a results file, with its interval, n and subgroup, and its curves.

Takes the parsed JSON that `salus evaluate` writes; gives one self-contained HTML page, drawn with `salus.generate.draw`. Leaves
out measuring (`metric`, `subgroup`) and choosing what is final: it shows what the file says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from salus.errors import ConfigError
from salus.evaluate.overview import overviews, searches
from salus.evaluate.rows import write_whole
from salus.generate.draw import Curve, xy_plot

ROLES = ("final", "candidate", "baseline", "ablation")
ROW_KEYS = frozenset(
    ("task", "split", "role", "model", "metric", "value", "low", "high", "n", "seeds", "selected_on", "subgroup")
)  # fmt: skip
PROVENANCE = (("command", "Command"), ("commit", "Commit"), ("date", "Date"), ("peak_mb", "Most memory of one process, MB"))
TITLES = {
    "salus bench fusion": "Fusion strategies compared",
    "salus bench alignment": "Alignment measured",
    "salus bench shots": "Solved cases beside a question",
}
"""How the command begins → the page's title; other pages are evaluations."""


def render_page(result: Mapping[str, Any]) -> str:
    """Return the HTML page of one results file.

    Args:
        result: `command`, `commit`, `date`, `data_hashes`, `split_hashes`, `prompts`, `load_report`, `rows` (each with the
            keys of `ROW_KEYS`) and `curves` (task → `roc` [[fpr, tpr]], `reliability` [{mean_predicted, observed, n}],
            `risk_coverage` [[coverage, risk]], `missing` {what is left out: [[share, AUROC, low, high]]}, `shots` {metric, lines
            {how cases are chosen: [[number, value, low, high]]}}, `costs` [[model, numbers learned, seconds a fit, MB a fit]]);
            `overview`, a metric that is shown in one table of models by tasks; `peak_mb`; and `notes`, those that begin with a task's
            name beside its rows.

    Raises:
        ConfigError: there are no rows, or a row lacks a key: a figure without its n and interval is not shown.
    """
    rows = list(result.get("rows", ()))
    if not rows:
        raise ConfigError("Cannot make the evaluation page: the results hold no rows. Run salus evaluate again.")
    for index, row in enumerate(rows):
        missing = sorted(ROW_KEYS - row.keys())
        if missing:
            raise ConfigError(f"Cannot make the evaluation page: row {index} lacks {', '.join(missing)}. Run salus evaluate again.")
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    curves = result.get("curves", {})
    template = files("salus.evaluate").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found = searches(rows)
    return environment.from_string(template).render(
        title=next((title for words, title in TITLES.items() if str(result.get("command", "")).startswith(words)), "Salus evaluation"),
        searches=found,
        provenance=[(label, result[key]) for key, label in PROVENANCE if result.get(key)],
        hashes=_pairs("data", result.get("data_hashes")) + _pairs("split", result.get("split_hashes")),
        prompts=_pairs("", result.get("prompts")),
        load_report=_words(result.get("load_report")),
        overviews=overviews(rows, result["overview"]) if result.get("overview") else [],
        tasks=[
            _task(name, [row for row in rows if row["task"] == name], curves=curves.get(name, {}), notes=result.get("notes"))
            for name in tasks
        ],
        summary=[] if found else [_row(row) for row in rows if row["role"] == "final" and not row["subgroup"]],
    )


def write_page(result: Mapping[str, Any], results_file: Path) -> None:
    """Write the page of a results file beside it, whole or not at all, under its name with `.html`."""
    page = render_page(result)
    write_whole(results_file.with_suffix(".html"), lambda stream: stream.write(page.encode()))


def _pairs(kind: str, found: Any) -> list[tuple[str, str]]:
    if isinstance(found, Mapping):
        return [(f"{kind} {name}".strip(), _words(value)) for name, value in found.items()]
    return [(kind, _words(found))] if found else []


def _words(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False, indent=1)


def _task(name: str, rows: Sequence[Mapping[str, Any]], *, curves: Mapping[str, Any], notes: Any) -> dict[str, Any]:
    notes = notes if isinstance(notes, Mapping) else {}
    whole = [row for row in rows if not row["subgroup"]]
    return {
        "name": name,
        "key": "task-" + "".join(character if character.isalnum() else "-" for character in name),
        "rows": [_row(row) for row in sorted(whole, key=_order)],
        "subgroups": [_row(row) for row in sorted((row for row in rows if row["subgroup"]), key=_order)],
        "charts": _charts(name, curves),
        "notes": [
            (key[len(name) :].lstrip(":, "), _note(value)) for key, value in notes.items() if key.startswith((f"{name}:", f"{name},"))
        ],
        "costs": [
            (words, f"{parameters:,}" if parameters else "", seconds, *(memory or ("",)))
            for words, parameters, seconds, *memory in curves.get("costs", ())
        ],
    }


def _note(value: Any) -> str:
    return ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, Mapping) else _words(value)


def _order(row: Mapping[str, Any]) -> tuple[str, int, str]:
    role = row["role"]
    return str(row["metric"]), ROLES.index(role) if role in ROLES else len(ROLES), str(row["model"])


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": row["task"],
        "split": row["split"],
        "role": row["role"],
        "model": row["model"],
        "metric": row["metric"],
        "value": decimals(row["value"]),
        "interval": interval(row["low"], row["high"]),
        "bar": _bar(row),
        "n": row["n"],
        "seeds": _listed(row["seeds"]),
        "selected_on": row["selected_on"] or "",
        "subgroup": _subgroup(row["subgroup"]),
    }


def decimals(value: float | None) -> str:
    """Return a figure with three decimals, or words where there is none.

    Example:
        >>> decimals(0.84449), decimals(None)
        ('0.844', 'not measured')
    """
    return "not measured" if value is None or not math.isfinite(value) else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """Return a 95 % interval; where there is none, the page says so.

    Example:
        >>> interval(0.807, 0.88), interval(None, None)
        ('0.807 to 0.880', 'no interval')
    """
    return "no interval" if low is None or high is None or not math.isfinite(low + high) else f"{low:.3f} to {high:.3f}"


def _bar(row: Mapping[str, Any]) -> Markup:
    """Return value and interval on a line from 0 to 1 (differences: -0.5 to 0.5); nothing if outside it or missing."""
    value, low, high = row["value"], row["low"], row["high"]
    if value is None or low is None or high is None or not math.isfinite(value + low + high):
        return Markup("")
    start = -0.5 if "difference" in str(row["metric"]) else 0.0
    if low < start or high > start + 1:
        return Markup("")
    left, right, middle = (2 + 116 * (figure - start) for figure in (low, high, value))
    zero = '<path d="M60 2v12" stroke="#8a97a3" stroke-dasharray="2 2"/>' if start else ""
    return Markup(
        f'<svg width="120" height="16" viewBox="0 0 120 16" aria-hidden="true"><path d="M2 8h116" stroke="#d5dce2"/>{zero}'
        f'<path d="M{left:.1f} 4v8m0-4H{right:.1f}m0-4v8" stroke="#1d5c96" stroke-width="1.5" fill="none"/>'
        f'<circle cx="{middle:.1f}" cy="8" r="3.2" fill="#1d5c96"/></svg>'
    )


def _listed(value: Any) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else "" if value is None else str(value)


def _subgroup(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')}: {group}" for name, group in value.items())
    return str(value or "")


def _charts(name: str, curves: Mapping[str, Any]) -> list[Markup]:
    charts = []
    if roc := _points(curves.get("roc", ())):
        charts.append(
            xy_plot(
                [Curve("model", roc)],
                title=f"ROC, {name}",
                labels=("false positive rate", "true positive rate"),
                diagonal="chance",
            )
        )
    if bins := [one for one in curves.get("reliability", ()) if one["n"]]:
        dots = Curve(
            "bins (area: n)",
            _points([(one["mean_predicted"], one["observed"]) for one in bins]),
            "dots",
            [one["n"] for one in bins],
        )
        labels = ("mean predicted probability", "observed frequency")
        charts.append(xy_plot([dots], title=f"Reliability, {name}", labels=labels, diagonal="perfect"))
    if risk := _points(curves.get("risk_coverage", ())):
        labels = ("coverage: share of questions answered", "risk: share of these that are wrong")
        charts.append(xy_plot([Curve("most confident first", risk)], title=f"Risk and coverage, {name}", labels=labels))
    if missing := curves.get("missing"):
        lines = [Curve(words, _points(row[:2] for row in rows), intervals=_intervals(rows)) for words, rows in missing.items()]
        labels = ("share that was left out", "AUROC")
        charts.append(xy_plot(lines, title=f"Missing evidence, {name}", labels=labels))
    if shots := curves.get("shots"):
        counts = sorted({row[0] for rows in shots["lines"].values() for row in rows})
        places = {count: place / max(1, len(counts) - 1) for place, count in enumerate(counts)}
        lines = [
            Curve(way, _points((places[row[0]], row[1]) for row in rows), intervals=_intervals(rows))
            for way, rows in shots["lines"].items()
        ]
        ticks = [(place, f"{count:g}") for count, place in places.items()]
        labels = ("solved cases before the question", str(shots["metric"]))
        charts.append(xy_plot(lines, title=f"Solved cases, {name}", labels=labels, x_ticks=ticks))
    return [Markup(chart) for chart in charts]


def _intervals(rows: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    """Return low and high of rows (place, value, low, high)."""
    return [(float(row[2]), float(row[3])) for row in rows if len(row) == 4]


def _points(pairs: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in pairs]
