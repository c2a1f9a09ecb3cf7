"""Fits MOGONET with its authors' own code: `python -m salus.evaluate.mogonet CHECKOUT IN.npz OUT.npz SEED`.

Takes a checkout of github.com/txWang/MOGONET (MIT) and a file with, for each omic, values of the patients to fit on and of those to
score; gives their probabilities. Networks, graphs, loops, rates and epochs are those of its `main_mogonet.py` for ROSMAP; the last epoch
counts, as there. Patients to score are nodes of the graph, without their answers, as published. A process of its own, since its modules
are named `models` and `utils`, and since it needs a function that NumPy has no more.

Source: Wang et al. 2021 (Nature Communications 12:3445).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

NEIGHBOURS = 2
WIDTHS = (200, 200, 100)
PRETRAINING, EPOCHS = 500, 2500
PRETRAINING_RATE, ENCODER_RATE, CLASSIFIER_RATE = 1e-3, 5e-4, 1e-3


Values = Sequence[NDArray[np.float32]]


def fit(checkout: str, fitted: Values, answers: NDArray[np.int64], scored: Values, *, seed: int) -> NDArray[np.float64]:
    """Return (n, O) probabilities.

    Args:
        checkout: folder with `train_test.py`.
        fitted: of each omic (m, F).
        answers: (m,).
        scored: of each omic (n, F).
        seed: of weights and dropout.
    """
    sys.path.insert(0, checkout)
    np.asscalar = lambda one: one.item()  # type: ignore[attr-defined]
    loops, networks, tools = (importlib.import_module(name) for name in ("train_test", "models", "utils"))
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    options = int(answers.max()) + 1
    own = [torch.from_numpy(one) for one in fitted]
    everyone = [torch.cat([one, torch.from_numpy(more)]) for one, more in zip(own, scored, strict=True)]
    rows = {"tr": list(range(len(answers))), "te": list(range(len(answers), len(everyone[0])))}
    edges, all_edges = loops.gen_trte_adj_mat(own, everyone, rows, NEIGHBOURS)
    right = torch.from_numpy(answers)
    weights = torch.from_numpy(tools.cal_sample_weight(answers, options)).float()
    made = networks.init_model_dict(len(own), options, [one.shape[1] for one in own], list(WIDTHS), options ** len(own))
    for rate, epochs, joins in ((PRETRAINING_RATE, PRETRAINING, False), (ENCODER_RATE, EPOCHS + 1, True)):
        optimisers = networks.init_optim(len(own), made, rate, CLASSIFIER_RATE)
        for _ in range(epochs):
            loops.train_epoch(own, edges, right, None, weights, made, optimisers, train_VCDN=joins)
    found: NDArray[np.float64] = loops.test_epoch(everyone, all_edges, rows["te"], made).astype(np.float64)
    return found


def main(checkout: str, given: str, made: str, seed: str) -> None:
    """Read, fit, write."""
    with np.load(given, allow_pickle=False) as found:
        count = sum(name.startswith("fitted") for name in found.files)
        fitted, scored = ([found[f"{part}/{at}"] for at in range(count)] for part in ("fitted", "scored"))
        answers = found["answers"]
    np.savez(made, answers=fit(checkout, fitted, answers, scored, seed=int(seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
