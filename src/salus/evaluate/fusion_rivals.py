"""Rivals of the fusion strategies: classifiers of the features side by side, and public systems, fitted on the same patients.

Takes token sets, as they are made, not standardised; gives probabilities.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.classifiers import build_classifier
from salus.errors import ConfigError
from salus.fuse.token_sets import TokenSets
from salus.task import Classifier

MOGONET = "SALUS_MOGONET"
"""The environment's name of a checkout of MOGONET."""
MOGONET_ORIGIN = "git clone https://github.com/txWang/MOGONET"
Floats = NDArray[np.float64]
Rival = Callable[[TokenSets, TokenSets, int], Floats]


def pooled(sets: TokenSets) -> Floats:
    """Return (n, F) the mean token of each modality, side by side; NaN where a patient has none.

    Source: Soenksen et al. 2022 (npj Digital Medicine 5:149), "HAIM": embeddings of frozen encoders, aggregated and concatenated.
    """
    parts = []
    for one in sets.modalities.values():
        count = one.mask.sum(1)[:, None]
        total = (one.values * one.mask[..., None]).sum(1)
        parts.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.concatenate(parts, 1).astype(np.float64)


def haim_boosting(fitted: TokenSets, scored: TokenSets, seed: int) -> Floats:
    """Return (n, O) of gradient boosting on the pooled embeddings of all modalities, as HAIM does (there with XGBoost)."""
    return _classified("gradient_boosting", pooled(fitted), pooled(scored), fitted.answers, seed)


def mogonet_checkout() -> Path:
    """Return the folder of MOGONET's authors' code, which `SALUS_MOGONET` names.

    Raises:
        ConfigError: there is none.
    """
    checkout = Path(os.environ.get(MOGONET, ""))
    if not (checkout / "train_test.py").is_file():
        raise ConfigError(
            f"Cannot run the rival mogonet: {MOGONET} names no checkout of it. Run {MOGONET_ORIGIN} and set {MOGONET} to its folder, "
            "or leave mogonet out of the recipe's rivals and systems."
        )
    return checkout


def mogonet(fitted: TokenSets, scored: TokenSets, seed: int) -> Floats:
    """Return (n, O) of MOGONET, run with its authors' code from the checkout that `SALUS_MOGONET` names.

    Raises:
        ConfigError: there is no checkout, or it fails.
    """
    checkout = mogonet_checkout()
    arrays = {f"fitted/{at}": one.values[:, 0] for at, one in enumerate(fitted.modalities.values())}
    arrays |= {f"scored/{at}": one.values[:, 0] for at, one in enumerate(scored.modalities.values())}
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.npz"), Path(folder, "made.npz")
        np.savez(given, answers=fitted.answers, **arrays)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "salus.evaluate.mogonet", str(checkout), str(given), str(made), str(seed)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            last = (ran.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise ConfigError(f"Cannot run the rival mogonet: its code stopped with status {ran.returncode}: {last}. Check {MOGONET}.")
        with np.load(made, allow_pickle=False) as found:
            answers: Floats = found["answers"]
    return answers


SYSTEMS: Mapping[str, Rival] = {"haim_boosting": haim_boosting, "mogonet": mogonet}
"""Rivals that are more than a classifier of the table."""


def rival(name: str, fitted: TokenSets, scored: TokenSets, seed: int) -> Floats:
    """Return (n, O) of a rival: one of `SYSTEMS`, or a classifier of all values side by side."""
    if name in SYSTEMS:
        return SYSTEMS[name](fitted, scored, seed)
    return _classified(name, fitted.flat(), scored.flat(), fitted.answers, seed)  # type: ignore[arg-type]


def _classified(name: Classifier, fitted: Floats, scored: Floats, answers: NDArray[np.int64], seed: int) -> Floats:
    varied = np.isfinite(fitted).any(0)
    model = build_classifier(name, seed).fit(fitted[:, varied], answers)
    found: Floats = model.predict_proba(scored[:, varied])
    return found
