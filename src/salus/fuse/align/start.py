"""Where linear projectors start: the directions in which modalities correlate, in closed form.

Takes whitened components of the training rows; gives one weight matrix for each modality. For two modalities this is canonical correlation
analysis with a ridge; for more, its generalisation over the pairs that are trained, so that one shared modality binds the others. With
no step after it, it is the linear baseline. Source: Hotelling 1936 (Biometrika 28:321), ridge as in Vinod 1976; several sets by the
largest sum of correlations, Kettenring 1971 (Biometrika 58:433).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def correlated_start(
    components: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], rows: Mapping[tuple[str, str], Tensor], sphere: int
) -> dict[str, Tensor]:
    """Return modality → (S, K) weights: each direction by how much it correlates.

    The block matrix with A_a' A_b / n where a and b are a trained pair and 0 elsewhere has eigenvectors whose blocks are the directions
    of each modality; its largest eigenvalues come first.

    Args:
        components: modality → (n, K) whitened.
        pairs: modalities that are trained together.
        rows: pair → rows that have both.
        sphere: S.
    """
    names = list(components)
    starts, total = {}, 0
    for name in names:
        starts[name] = total
        total += components[name].shape[1]
    block = torch.zeros(total, total)
    for pair in pairs:
        first, second = (components[name][rows[pair]] for name in pair)
        crossed = (first - first.mean(0)).T @ (second - second.mean(0)) / len(first)
        here, there = (slice(starts[name], starts[name] + components[name].shape[1]) for name in pair)
        block[here, there] += crossed
        block[there, here] += crossed.T
    sizes, directions = torch.linalg.eigh(block)
    kept = min(sphere, total)
    order = sizes.argsort(descending=True)[:kept]
    weights = {}
    for name in names:
        made = torch.zeros(sphere, components[name].shape[1])
        part = directions[starts[name] : starts[name] + components[name].shape[1], order]
        made[:kept] = (part * sizes[order].clamp_min(0.0)).T
        weights[name] = made / made.norm().clamp_min(1e-12) * made.shape[1] ** 0.5
    return weights
