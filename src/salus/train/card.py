"""The model card, made from the run: what the model is, what it was trained on, what it may be asked, what it was measured at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salus import registry
from salus.model import ModelConfig
from salus.train.extend import tasks_of


def card(config: ModelConfig, recipe: Mapping[str, Any]) -> str:
    """Return the README card of a model folder, Hugging Face style."""
    named = {name for stage in ("projector", "language") for name in recipe[stage]["tasks"]} | set(tasks_of(config.trained))
    tasks = sorted(named & set(registry.names("salus.tasks")))
    sources = [(task, registry.load("salus.tasks", task)) for task in tasks]
    projector = "projector, cross-attention layers" if config.fuser.get("into") == "cross_attention" else "projector"
    lines = [
        "---",
        "license: apache-2.0",
        f"base_model: {config.backbone_identity}",
        "library_name: salus",
        "language: en",
        "---",
        f"# {config.name} {config.version}",
        "",
        f"Encoders{',' if config.lora else ' and'} {projector}{' and LoRA adapter' if config.lora else ''} of a small multimodal medical "
        "language model. **Not for clinical use before a site",
        "has approved it.** It answers from one patient's record; every number in an answer is looked up and verified by code.",
        "",
        "## Interpreted, or shown only",
        "",
        "A modality is interpreted when the lower end of its 95 % interval on `val` is above the task's bar.",
        "",
        "| modality | task | metric on val | interval | n | bar | state |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in config.encoders:
        found = config.evaluations.get(name)
        if found is None:
            lines.append(f"| {name} | none | | | | | shown, not interpreted |")
        else:
            state = "interpreted" if found.is_passed else "shown, not interpreted"
            lines.append(
                f"| {name} | {found.task} | {found.metric} {found.value:.3f} | {found.low:.3f} to {found.high:.3f} | {found.n} | "
                f"{found.pass_above} | {state} |"
            )
    lines += ["", "## Training", "", "| task | data licence | shapes shipped weights |", "|---|---|---|"]
    lines += [f"| {name} | {task.licence} | {'yes' if task.may_shape_shipped_weights else 'no'} |" for name, task in sources]
    trained = config.trained
    lines += [
        "",
        f"Seed {trained.get('seed')}, {trained.get('date')}, {float(trained.get('seconds', 0)) / 60:.0f} minutes, "
        f"{float(trained.get('energy_kwh', 0)):.3f} kWh (estimated by CodeCarbon). Recipe hash `{config.recipe_hash[:12]}`.",
        *_extends(trained),
        "",
        "## Limits",
        "",
        "Small data sets of one origin each; no claim for other sites, ages or devices. English only. Splits follow the source's",
        "patients where these are published, else recordings or images. Figures on held-out test data with intervals are in the",
        "project's `results/`.",
        "",
    ]
    return "\n".join(lines)


def _extends(trained: Mapping[str, Any]) -> list[str]:
    """Return what is said of the model that this one extends, and of those before it."""
    if "extends" not in trained:
        return []
    base = trained["extends"]
    minutes, energy = float(base["trained"].get("seconds", 0)) / 60, float(base["trained"].get("energy_kwh", 0))
    told = f"{base['name']} {base['version']} (seed {base['trained'].get('seed')}, {base['trained'].get('date')}, {minutes:.0f} minutes"
    return ["", f"Extends {told}, {energy:.3f} kWh), whose tensors it holds unchanged.", *_extends(base["trained"])]
