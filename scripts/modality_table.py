"""Writes docs/modalities.md from the installed plug-ins, the shipped model and the results: `python scripts/modality_table.py [--check]`.

What a plug-in is, its code says; which kind of data of the mission it serves and which real files were tried, docs/modalities.yaml
says. A kind without a plug-in stands in the table as not read. `--check` writes nothing and returns 1 when the page is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dacite
import torch
import yaml

from salus import registry
from salus.encode.modality import Modality
from salus.errors import ConfigError
from salus.model import ModelConfig, load_config
from salus.record.patient import Image, Item, Signal, Sound, Volume

ROOT = Path(__file__).parents[1]
LIST, PAGE, RESULTS = ROOT / "docs" / "modalities.yaml", ROOT / "docs" / "modalities.md", ROOT / "results"
CAPABILITIES = {
    "R1": "images", "R2": "time series", "R3": "events", "R4": "audio", "R5": "text", "R6": "video", "R7": "omics",
}  # fmt: skip
COLUMNS = (
    "", "kind", "modality", "readers", "unit", "encoder", "pretraining", "example", "real files read", "evaluation", "what the model does",
)  # fmt: skip
METRICS = {"auroc": "AUROC", "accuracy": "accuracy", "exact_match": "exact match"}
NO_PLUG_IN = "no modality: not read"
HEAD = """# Modalities

<!-- Written by scripts/modality_table.py; change that, or docs/modalities.yaml. -->

Every kind of data that Salus is meant for, and what it does with it today. This page is made from the installed plug-ins, the shipped model
(`{model}`) and the files in `results/`; a test fails when it is out of date.

- **Interpreted**: the model's network reads it, because its evaluation passed on `val`. The others are shown, and the answer says that they
  were not interpreted.
- **Pretraining** names the self-supervised objective that `salus train` can run before labels are used.
- **Real files read** are read by a test, which counts the items.
- **Evaluation** is of the shipped model on `test`, with its 95 % interval; a network that was measured without the language model is named.

"""


@dataclass(frozen=True)
class Real:
    """Real files that a modality was read from."""

    set: str
    """Folder below SALUS_DATA."""
    files: str
    """Pattern below that folder."""
    items: int
    """Items of the modality that they give."""
    modality: str = ""
    """Empty: the first modality of the row that is installed."""
    most: int | None = None
    """Only the first so many files."""
    at_least: bool = False
    """`items` is a lower bound."""
    declared: bool = False
    """A manifest declares the modality, for the format does not say it."""


@dataclass(frozen=True)
class Kind:
    """One row: a kind of data."""

    capability: str
    kind: str
    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    real: tuple[Real, ...] = ()

    @property
    def installed(self) -> tuple[str, ...]:
        """Its modalities that are registered here."""
        return tuple(name for name in self.modalities if name in registry.names("salus.modalities"))


def read_kinds(path: Path = LIST) -> tuple[Kind, ...]:
    """Return the rows of the list.

    Raises:
        ConfigError: an installed modality or reader stands in no row.
    """
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))["rows"]
    trees = [{("capability" if key == "in" else key): value for key, value in row.items()} for row in rows]
    kinds = tuple(dacite.from_dict(Kind, tree, dacite.Config(strict=True, cast=[tuple])) for tree in trees)
    for group, field in (("salus.modalities", "modalities"), ("salus.readers", "readers")):
        named = {name for kind in kinds for name in getattr(kind, field)}
        missing = sorted(name for name in registry.names(group) if name not in named and _is_own(group, name))
        if missing:
            raise ConfigError(
                f"Cannot make the table of modalities: {missing[0]!r} of {group} stands in no row of {path.name}. "
                f"Add it to the `{field}` of the kind of data that it serves."
            )
    return kinds


def _is_own(group: str, name: str) -> bool:
    plug_in = registry.load(group, name)
    made = plug_in.example if isinstance(plug_in, Modality) else plug_in.read
    return str(getattr(getattr(made, "func", made), "__module__", "")).startswith("salus.")


def unit_of(modality: Modality) -> str:
    """Return the units that a modality's values and content have, from its variables and its example."""
    if modality.variables:
        found = sorted({variable.unit for variable in modality.variables})
        return f"{len(modality.variables)} variables in {len(found)} UCUM units"
    return ", ".join(dict.fromkeys(unit for item in modality.example() for unit in _units(item))) or "none (words, codes)"


def _units(item: Item) -> Iterator[str]:
    if item.unit is not None:
        yield item.unit
    if item.content is None:
        return
    loaded = item.content.load()
    if isinstance(loaded, Signal):
        yield from loaded.units
    elif isinstance(loaded, Sound):
        yield "-1 to 1"
    elif isinstance(loaded, Image | Volume):
        yield "arbitrary intensity" if loaded.unit == "1" else loaded.unit


def example_of(modality: Modality) -> str:
    """Return the shape of a modality's made-up example, in words."""
    items = modality.example()
    content = next((item.content for item in items if item.content is not None), None)
    if content is None:
        return f"{len(items)} items"
    loaded = content.load()
    if isinstance(loaded, str):
        return f"{len(loaded.split())} words"
    array = next((value for value in vars(loaded).values() if hasattr(value, "shape")), None)
    return content.summary or (" × ".join(map(str, array.shape)) if array is not None else type(loaded).__name__)


def network_of(modality: Modality) -> tuple[str, str]:
    """Return the encoder with its size, and its self-supervised objective, in words."""
    if modality.build_encoder is None:
        return "none", "none"
    encoder: Any = modality.build_encoder(modality.encoder_defaults)
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    name = type(encoder).__name__
    kind = f"{name} ({type(encoder).__module__.rpartition('.')[2]}), {weights / 1e6:.2f} M weights, {encoder.tokens} tokens"
    pretext = getattr(encoder, "build_pretext", None)
    return kind, type(pretext()).__name__ if pretext is not None else "none"


def evaluations() -> dict[str, list[str]]:
    """Return by modality what the result files say of the tasks that evaluate it: the headline figure, with interval and n."""
    found: dict[str, list[str]] = {}
    trees = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    rows = [row for tree in trees for row in tree.get("rows", ()) if _is_headline(row)]
    alone = [row for tree in trees for row in tree.get("rows", ()) if _is_of_encoder(row)]
    for name in registry.names("salus.tasks"):
        task = registry.load("salus.tasks", name)
        own = [row for row in rows if row["task"].split("/")[0] == name]
        whole = {row["task"]: row for row in own if row["task"] in (name, f"{name}/all")} or {row["task"]: row for row in own}
        for modality in task.modalities:
            of_encoder = [row for row in alone if row["task"] == name and row["metric"] == task.metric]
            of_encoder = [row for row in of_encoder if len(task.modalities) == 1 or modality in row["model"]]
            found.setdefault(modality, []).extend(_figure(row) for row in [*whole.values(), *of_encoder])
    return found


def _is_headline(row: Mapping[str, Any]) -> bool:
    is_whole = row["role"] in ("final", "candidate") and not row["subgroup"] and row["split"] == "test"
    return is_whole and row["model"] == "salus" and row["metric"] in METRICS


def _is_of_encoder(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of an encoder with its own head: the language model takes no part in it."""
    is_whole = row["role"] == "candidate" and not row["subgroup"] and row["split"] == "test" and row["metric"] in METRICS
    return is_whole and "network" in row["model"]


def _figure(row: Mapping[str, Any]) -> str:
    interval = f" ({row['low']:.2f} to {row['high']:.2f})" if row["low"] is not None else ""
    by = "" if row["model"] == "salus" else f" ({row['model']}, without the language model)"
    return f"{row['task']}: {METRICS[row['metric']]} {row['value']:.2f}{interval}, n = {row['n']}{by}"


def cells(kind: Kind, name: str | None, config: ModelConfig, evaluated: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return one line of the table: a kind of data through one modality, or through none."""
    readers = ", ".join(f"`{reader}`" for reader in kind.readers if reader in registry.names("salus.readers")) or "none"
    start = (kind.capability, kind.kind)
    if name is None:
        return (*start, "none", readers, *("–",) * 6, NO_PLUG_IN)
    modality: Modality = registry.load("salus.modalities", name)
    does = "**interpreted**" if name in config.interpreted else "shown, measured by rule" if modality.measure else "shown"
    own = [one for one in kind.real if (one.modality or kind.installed[0]) == name]
    real = [f"`{one.set}`: {'at least ' * one.at_least}{one.items} item{'s'[: one.items != 1]}" for one in own]
    return (
        *start, f"`{name}`", readers, unit_of(modality), *network_of(modality), example_of(modality),
        "; ".join(real) or "none", "; ".join(evaluated.get(name, ())) or "none", does,
    )  # fmt: skip


def page() -> str:
    """Return the whole page."""
    torch.manual_seed(0)
    config, _ = load_config(ROOT / "src" / "salus" / "models" / "base")
    evaluated = evaluations()
    lines = [tuple(column or "capability" for column in COLUMNS), ("---",) * len(COLUMNS)]
    for kind in read_kinds():
        for name in kind.installed or (None,):
            lines.append(cells(kind, name, config, evaluated))
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    about = "\n".join(f"- {name}: {words}" for name, words in CAPABILITIES.items())
    return HEAD.format(model=f"{config.name} {config.version}") + f"Capabilities of the mission:\n\n{about}\n\n{table}\n"


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    made = page()
    if "--check" not in arguments:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    is_current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == made
    if not is_current:
        print("docs/modalities.md is out of date. Run: python scripts/modality_table.py")
    return int(not is_current)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
