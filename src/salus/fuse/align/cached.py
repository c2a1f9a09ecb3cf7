"""A large batch by cached gradients: the loss sees all patients, memory holds the graph of one chunk.

Three passes: vectors of every chunk without a graph, the loss and its gradient at the vectors, then each chunk again with a graph, into
which its cached gradient flows. Random state is replayed, so that dropout is the same in both passes and the result equals that of the
whole batch. Cost: one more forward pass. Source: Gao et al. 2021 (GradCache), arXiv 2101.06983, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Embed = Callable[[], Tensor]
"""Gives the (C, D) vectors of one chunk, in training mode with dropout."""


def cached_backward(chunks: Mapping[str, Sequence[Embed]], loss: Callable[[Mapping[str, Tensor]], Tensor]) -> Tensor:
    """Add to all gradients what the loss of the whole batch gives, and return the loss, detached.

    Args:
        chunks: modality → its chunks in the order of the batch.
        loss: takes modality → (B, D) vectors of the whole batch.
    """
    if all(len(embeds) == 1 for embeds in chunks.values()):  # the whole batch is one chunk: nothing to cache
        whole = loss({name: embeds[0]() for name, embeds in chunks.items()})
        whole.backward()  # type: ignore[no-untyped-call]
        return whole.detach()
    states: dict[str, list[Tensor]] = {}
    vectors: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, embeds in chunks.items():
            states[name], made = [], []
            for embed in embeds:
                states[name].append(torch.get_rng_state())
                made.append(embed())
            vectors[name] = torch.cat(made)
    leaves = {name: each.requires_grad_() for name, each in vectors.items()}
    value = loss(leaves)
    value.backward()  # type: ignore[no-untyped-call]
    after = torch.get_rng_state()
    for name, embeds in chunks.items():
        gradient, start = leaves[name].grad, 0
        assert gradient is not None
        for embed, state in zip(embeds, states[name], strict=True):
            torch.set_rng_state(state)
            again = embed()
            (again * gradient[start : start + len(again)]).sum().backward()  # type: ignore[no-untyped-call]
            start += len(again)
    torch.set_rng_state(after)
    return value.detach()
