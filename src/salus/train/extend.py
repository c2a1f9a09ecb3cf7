"""A trained model that takes in further modalities: what it has stays as it is, tensor for tensor.

Takes the model that a recipe extends; gives the settings of one with room for the new encoders, and hands tensors, adapter and
evaluations on. A record without the new modalities is answered as before, because their absence gives no token (`untold`). Leaves
training to `salus.train.run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from salus.errors import ConfigError
from salus.model import ModelConfig, SalusModel, add_lora, load_model, own_tensors
from salus.train.recipe import Recipe

SHIPPED = "base"
"""What a recipe calls the model inside the package."""


def extended_model(recipe: Recipe) -> SalusModel:
    """Return the model that a recipe extends.

    Raises:
        ModelError: it is not there, or does not load strictly.
    """
    folder = Path(str(files("salus") / "models" / "base")) if recipe.extends == SHIPPED else Path(recipe.extends)
    return load_model(folder)


def check_extension(recipe: Recipe, base: ModelConfig) -> None:
    """Refuse a recipe that would change what the extended model has, or leave a new modality without a projector.

    Raises:
        ConfigError: names the first such part.
    """
    what = f"Cannot extend {base.name} {base.version}"
    for stage in ("projector", "language"):
        if getattr(recipe, stage).tasks:
            raise ConfigError(f"{what}: the stage {stage!r} would change its answers. Leave it out, or train a whole model.")
    known = sorted(set(recipe.encoders) & set(base.encoders))
    if known:
        raise ConfigError(f"{what} by {known[0]!r}: it has an encoder of it. Leave it out of the recipe.")
    without = sorted(set(recipe.encoders) - set(recipe.own_projectors))
    if without:
        raise ConfigError(f"{what} by {without[0]!r}: it would have no tokens. Add it to own_projectors.")
    if recipe.backbone != base.backbone or recipe.fuser:
        raise ConfigError(f"{what}: backbone and fuser are its own. Set backbone to {base.backbone!r}, and leave fuser out.")


def extended_config(base: ModelConfig, own: ModelConfig) -> ModelConfig:
    """Return the settings of the larger model, still without its adapter."""
    fuser = {**base.fuser, "untold": [*base.fuser.get("untold", ()), *own.encoders]}
    return replace(base, name=own.name, version=own.version, encoders={**base.encoders, **own.encoders}, fuser=fuser, lora=None)


def hand_on_tensors(base: SalusModel, model: SalusModel) -> None:
    """Give a model the encoders and the fuser of another."""
    _copy(base, model, is_adapter=False)


def hand_on_adapter(base: SalusModel, model: SalusModel) -> None:
    """Give a model the adapter of another, and the setting that says so."""
    if base.config.lora is not None:
        add_lora(model.backbone, base.config.lora)
        model.config = replace(model.config, lora=base.config.lora)
        _copy(base, model, is_adapter=True)


def _copy(base: SalusModel, model: SalusModel, *, is_adapter: bool) -> None:
    state = model.state_dict()
    for name, tensor in own_tensors(base).items():
        if name.startswith("backbone.") == is_adapter:
            state[name].copy_(tensor)


def handed_on(base: ModelConfig) -> dict[str, Any]:
    """Return what the larger model says of the one that it extends."""
    return {"name": base.name, "version": base.version, "recipe_hash": base.recipe_hash, "trained": dict(base.trained)}


def tasks_of(trained: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tasks that a run and those before it were trained on, as their logs name them."""
    for row in trained.get("log", ()):
        yield from row.get("val_loss", {})
        if "task" in row:
            yield str(row["task"])
    if "extends" in trained:
        yield from tasks_of(trained["extends"]["trained"])
