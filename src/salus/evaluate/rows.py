"""One row of a result file, and the file around it.

A result file is self-contained: command, commit, data and split hashes, prompts, load report, rows, curves.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal
from uuid import uuid4

from salus import __version__
from salus.errors import ConfigError
from salus.metrics import Interval
from salus.model import SalusModel
from salus.reason.prompt import SYSTEM

Role = Literal["final", "candidate", "baseline", "ablation"]


@dataclass(frozen=True)
class Row:
    """One figure."""

    task: str
    split: str
    role: Role
    model: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...] = (0,)
    selected_on: str = "val"
    subgroup: str = ""


@dataclass
class Result:
    """What an evaluation gives."""

    split: str = "test"
    rows: list[Row] = field(default_factory=list)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, task: str, role: Role, model: str, *, metric: str, found: Interval, **details: Any) -> None:
        """Add a row from an interval; `details` are `seeds`, `selected_on` and `subgroup` of the row."""
        self.rows.append(Row(task, self.split, role, model, metric, found.value, found.low, found.high, found.n, **details))

    def to_json(self, model: SalusModel, data: Path, cohorts: Sequence[str]) -> dict[str, Any]:
        """Return the file's tree."""
        return {
            "command": " ".join(["salus", *sys.argv[1:]]),
            "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "salus": __version__,
            "python": platform.python_version(),
            "data_hashes": {name: tree_hash(data / name) for name in cohorts},
            "split_hashes": {name: file_hash(data / name / "split.csv") for name in cohorts if (data / name / "split.csv").exists()},
            "prompts": {"system": SYSTEM, "frame": asdict(model.frame)},
            "load_report": load_report(model),
            "rows": [asdict(one) for one in self.rows],
            "curves": self.curves,
            "notes": self.notes,
        }


def load_report(model: SalusModel) -> dict[str, Any]:
    """Return what was loaded: strict loading means that nothing was missing, extra or misshapen."""
    return {
        "model": f"{model.config.name} {model.config.version}",
        "backbone": model.config.backbone_identity,
        "recipe_hash": model.config.recipe_hash,
        "interpreted": sorted(model.config.interpreted),
        "missing": [],
        "unexpected": [],
        "mismatched": [],
        "dtype": str(model.backbone.core.dtype).removeprefix("torch."),
    }


def commit() -> str:
    """Return the commit of the working tree, with `+changes` when it differs from it, or `unknown` outside a checkout."""
    here = Path(__file__).parent
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    if found.returncode:
        return "unknown"
    asked = ["git", "status", "--porcelain", ":/src", ":/recipes", ":/scripts"]
    changed = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    return found.stdout.strip() + ("+changes" if changed else "")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_hash(folder: Path) -> str:
    """Return one SHA-256 over the names, sizes and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}:{file_hash(path)}\n".encode())
    return digest.hexdigest()


def _finite(tree: Any) -> Any:
    """Return the tree with null in place of numbers that are not finite, which JSON does not know."""
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return tree


def write_result(tree: Mapping[str, Any], path: Path) -> None:
    """Write a result file whole or not at all."""
    text = json.dumps(_finite(tree), indent=1, default=str, allow_nan=False) + "\n"
    write_whole(path, lambda stream: stream.write(text.encode()))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all; processes that write the same file at once do not meet, the last one stays.

    Args:
        path: its folder is made when missing.
        write: gives the file its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        with part.open("wb") as stream:
            write(stream)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def refuse_unwritable(out: Path, work: Path | None = None) -> None:
    """Refuse places that could not be written to, before hours are spent on what shall stand there.

    Args:
        out: result file; its page stands beside it, with another ending.
        work: folder of what is done already.

    Raises:
        ConfigError: one is no file or folder that can be written, or `out` does not end in `.json`.
    """
    if out.suffix != ".json" or out.is_dir():
        raise ConfigError(f"Cannot write results to '{out}': that is no name of a JSON file. Give --out a file that ends in .json.")
    refuse_unwritable_folder(out.parent, "--out")
    if work is not None:
        refuse_unwritable_folder(work, "--work")


def refuse_unwritable_folder(folder: Path, option: str) -> None:
    """Make a folder, or refuse one that cannot be written to.

    Raises:
        ConfigError: names the folder and the option that gave it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"Cannot write into folder '{folder}': {error.strerror}. Give {option} another place.") from None
