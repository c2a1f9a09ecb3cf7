"""What a strategy costs, counted and so free of noise: operations, numbers kept for the way back, and weights, by modalities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from salus import registry
from salus.encode.encoder import Encoded
from salus.fuse.build import build_fuser
from salus.fuse.fuser import Present
from salus.fuse.tensor import OuterProduct

COUNTS = range(2, 9)
B, N, WIDTH = 8, 4, 16


def costs_of(name: str, count: int) -> tuple[int, int, int]:
    """Return operations of the products both ways, bytes kept, and weights, of one strategy with so many modalities."""
    names = [f"m{place}" for place in range(count)]
    network = build_fuser({"strategy": name, "hidden": WIDTH}, {one: (WIDTH, N) for one in names}, WIDTH).eval()  # type: ignore[attr-defined]
    head = network.build_head(2)
    given = {
        one: Present(torch.arange(B), Encoded(torch.randn(B, N, WIDTH), torch.ones(B, N, dtype=torch.bool), torch.zeros(B, N)))
        for one in names
    }
    weights = [*network.parameters(), *head.parameters()]
    seen = {one.untyped_storage().data_ptr() for one in weights}
    sizes = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            sizes.append(storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FlopCounterMode(display=False) as counter:
        head(network(given, B)).sum().backward()
    return counter.get_total_flops(), sum(sizes), sum(one.numel() for one in weights)


@pytest.mark.parametrize("name", ["bottleneck", "concat", "features", "hybrid", "late", "tensor"])
def test_each_modality_costs_as_much_as_the_one_before(name: str) -> None:
    more = np.diff([costs_of(name, count) for count in COUNTS], axis=0)
    assert (more == more[0]).all() and (more[0] > 0).all()


@pytest.mark.parametrize("name", ["cross_attention", "experts", "gated", "prompt"])
def test_what_says_that_it_is_square_is_no_more_than_square(name: str) -> None:
    """Of `gated` the gates alone, of `experts` the pattern of who is there, of `prompt` attention within a stream."""
    steps = np.diff([costs_of(name, count)[0] for count in COUNTS], n=2)
    assert (steps >= 0).all() and steps.max() > 0
    assert set(registry.names("salus.fusers")) == {
        "bottleneck", "concat", "cross_attention", "experts", "features", "gated", "hybrid", "late", "prompt", "tensor"
    }  # fmt: skip


def test_the_full_product_multiplies_where_the_low_rank_one_adds() -> None:
    sizes = [sum(one.numel() for one in OuterProduct(count, 4, 4).parameters()) for count in range(2, 6)]
    assert sizes == [4 * 5**count + 4 for count in range(2, 6)]
    assert all(4.8 < more / less < 5.0 for less, more in pairwise(sizes))
