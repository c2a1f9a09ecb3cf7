"""Plug-ins by name, found through Python entry points.

Groups: `salus.readers`, `salus.modalities`, `salus.tasks`, `salus.fusers`, `salus.fusion_tasks`, `salus.commands`,
`salus.transcribers`. Built-ins
register exactly as a third party's package does. The registry knows no stage; two packages that claim one name are an error, never a
matter of install order.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from salus.errors import ConfigError

GROUPS = ("salus.readers", "salus.modalities", "salus.tasks", "salus.fusers", "salus.fusion_tasks", "salus.commands", "salus.transcribers")


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    if group not in GROUPS:
        raise ConfigError(f"Cannot list plug-ins: there is no group {group!r}. Use one of: {', '.join(GROUPS)}.")
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise ConfigError(
                f"Cannot load plug-ins of {group}: both {other.value!r} and {point.value!r} claim the name {point.name!r}. "
                "Uninstall one of the two packages."
            )
        found[point.name] = point
    return dict(sorted(found.items()))


def names(group: str) -> tuple[str, ...]:
    """Return the registered names of a group, sorted.

    Raises:
        ConfigError: the group does not exist, or two packages claim one name.

    Example:
        >>> "vitals_labs" in names("salus.modalities")
        True
    """
    return tuple(_points(group))


@cache
def load(group: str, name: str) -> Any:
    """Return the object that the plug-in of this name registers.

    Raises:
        ConfigError: no plug-in has this name.

    Example:
        >>> load("salus.modalities", "no-such-modality")
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot load 'no-such-modality' ...
    """
    points = _points(group)
    if name not in points:
        raise ConfigError(f"Cannot load {name!r} from {group}: no plug-in has that name. Installed: {', '.join(points)}.")
    return points[name].load()


def forget() -> None:
    """Forget what was found, so that packages installed since are seen."""
    _points.cache_clear()
    load.cache_clear()
