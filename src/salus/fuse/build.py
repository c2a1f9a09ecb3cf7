"""A fuser from its settings: the strategy is one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from salus import registry
from salus.config import settings_from
from salus.fuse.fuser import Fuser, Strategy


def build_fuser(settings: Mapping[str, Any], widths: Mapping[str, tuple[int, int]], width: int) -> Fuser:
    """Return a fresh fuser of the strategy that the settings name (`concat` where they name none).

    Raises:
        ConfigError: the strategy has no plug-in; a setting is unknown, has the wrong type, or does not fit the modalities.
    """
    strategy: Strategy = registry.load("salus.fusers", str(settings.get("strategy", "concat")))
    own = {name: value for name, value in settings.items() if name != "strategy"}
    return cast(Fuser, strategy.build(settings_from(strategy.config, {**own, "modalities": widths, "width": width}, "fuser")))
