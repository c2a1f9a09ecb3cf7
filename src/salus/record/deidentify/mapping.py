"""Which new name stands for which old one: a file beside the key, for its owner alone.

Takes names that a run gave; adds them to those that earlier runs with the same key gave. Without this file, and without the key, nothing
can be traced back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from salus.errors import ConfigError
from salus.record.durable import locked, move_into_place

Names = Mapping[str, Mapping[str, str]]
"""`files` and `subjects` → new name → old name."""


def mapping_of(key_file: Path) -> Path:
    """Return where the names that belong to a key are kept."""
    return key_file.with_name(f"{key_file.name}.map.json")


def keep_names(key_file: Path, names: Names) -> Path:
    """Add names to those that were kept before, whole or not at all, and return the file.

    Raises:
        ConfigError: the file is there, and is no list of names.
    """
    path = mapping_of(key_file)
    with locked(path.parent):  # two runs with one key may end at once
        _write(path, _with_those_before(path, names))
    return path


def drop_names(key_file: Path, subject: str, files: Collection[str]) -> None:
    """Take a patient's new id, and the new names of their files, out of what was kept."""
    path = mapping_of(key_file)
    if not path.exists():
        return
    with locked(path.parent):
        kept = _with_those_before(path, {"files": {}, "subjects": {}})
        kept["subjects"].pop(subject, None)
        kept["files"] = {new: old for new, old in kept["files"].items() if new not in files}
        _write(path, kept)


def _write(path: Path, tree: Names) -> None:
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(tree, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    move_into_place(part, path)


def _with_those_before(path: Path, names: Names) -> dict[str, dict[str, str]]:
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {part: {**before.get(part, {}), **new} for part, new in names.items()}
    except (ValueError, AttributeError, TypeError):
        raise ConfigError(f"Cannot extend '{path.name}': it is not a list of names that this program wrote. Move it away.") from None
