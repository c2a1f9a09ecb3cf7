"""YAML → frozen typed settings; an unknown key is an error; the resolved whole has a hash.

Takes a file and `key=value` overrides (dotted keys); gives a dataclass. Knows no stage.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from math import isinf
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import dacite
import yaml

from salus.errors import ConfigError

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Return the settings that a YAML file holds, with `a.b=value` overrides applied.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"Cannot read settings '{path}': no such file. Give the path of a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read settings '{path}': {type(error).__name__}. Give the path of a YAML file.") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f", line {place.line + 1}" if place else ""
        raise ConfigError(
            f"Cannot read settings '{path}'{line}: not YAML. Mend the line, or start from recipes/base.yaml."
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"Cannot read settings '{path}': the top level is not a mapping. Start from recipes/base.yaml.")
    for override in overrides:
        _apply(tree, override)
    return settings_from(kind, tree, str(path))


def settings_from(kind: type[Settings], tree: Mapping[str, Any], where: str) -> Settings:
    """Return typed settings from a mapping.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    try:
        hooks: dict[Any, Callable[[Any], Any]] = {float: _number, tuple[str, ...]: _words}
        return dacite.from_dict(kind, dict(tree), dacite.Config(type_hooks=hooks, strict=True, cast=[tuple]))
    except dacite.UnexpectedDataError as error:
        key = sorted(map(str, error.keys))[0]
        near = difflib.get_close_matches(key, _keys(kind), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Known keys: {', '.join(sorted(_keys(kind)))}."
        raise ConfigError(f"Cannot read settings '{where}': unknown key {key!r}.{hint}") from None
    except dacite.DaciteError as error:
        raise ConfigError(f"Cannot read settings '{where}': {error}. Mend that key.") from None
    except TypeError as error:  # one value where several are wanted, or a key that is no text
        raise ConfigError(f"Cannot read settings '{where}': a value has the wrong type, {error}. Write a list as [1, 2].") from None


def _number(value: Any) -> float:
    try:
        return float(value)  # YAML 1.1 reads 1e-3 as text
    except (TypeError, ValueError):
        raise dacite.WrongTypeError(field_type=float, value=value) from None


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):  # a word alone would become its letters
        raise dacite.WrongTypeError(field_type=list, value=value)
    return tuple(value)


def refuse_outside(settings: Any, limits: Mapping[str, tuple[float, float]], where: str) -> None:
    """Refuse a number that lies outside its limits, before anything is computed with it.

    Args:
        settings: holds a field of each name.
        limits: name → least and most, both allowed.
        where: of the settings, for the message.

    Raises:
        ConfigError: names the first.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Tiny:
        ...     steps: int = 0
        >>> refuse_outside(Tiny(3), {"steps": (1, 9)}, "tiny")
        >>> refuse_outside(Tiny(0), {"steps": (1, 9)}, "tiny")
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot use tiny: steps is 0. Give 1 to 9.
    """
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise ConfigError(f"Cannot use {where}: {name} is {value:g}. Give {least:g} {'or more' if isinf(most) else f'to {most:g}'}.")


def refuse_empty(settings: Any, names: Sequence[str], where: str) -> None:
    """Refuse a list without an entry, or with one twice.

    Args:
        settings: holds a field of each name.
        names: of the lists.
        where: of the settings, for the message.

    Raises:
        ConfigError: names the first.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Tiny:
        ...     seeds: tuple[int, ...] = ()
        >>> refuse_empty(Tiny((0, 0)), ["seeds"], "tiny")
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot use tiny: 0 is twice in seeds. Give it once.
    """
    for name in names:
        entries = list(getattr(settings, name))
        if not entries:
            raise ConfigError(f"Cannot use {where}: {name} is empty. Give at least one.")
        if twice := [one for one in entries if entries.count(one) > 1]:
            raise ConfigError(f"Cannot use {where}: {twice[0]} is twice in {name}. Give it once.")


def settings_hash(settings: Any) -> str:
    """Return the SHA-256 of the resolved settings, hex.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Tiny:
        ...     seed: int = 0
        >>> settings_hash(Tiny(0)) == settings_hash(Tiny(0)) != settings_hash(Tiny(1))
        True
    """
    return hashlib.sha256(json.dumps(asdict(settings), sort_keys=True, default=str).encode()).hexdigest()


def _keys(kind: Any) -> set[str]:
    """Return the keys of a dataclass and of those that it nests, also inside `Mapping[str, …]` and `… | None`."""
    if not is_dataclass(kind):
        return {key for part in get_args(kind) for key in _keys(part)}
    hints = get_type_hints(kind)
    return {key for place in fields(kind) for key in (place.name, *_keys(hints[place.name]))}


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"Cannot apply override {override!r}: it has no '='. Write it as key.subkey=value.")
    node = tree
    *parents, last = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"Cannot apply override {override!r}: {parent!r} is not a mapping. Check the dotted key.")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"Cannot apply override {override!r}: what follows '=' is not YAML. Quote it, or mend it.") from None
