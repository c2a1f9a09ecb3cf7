"""Cached gradients equal those of the whole batch, dropout included."""

from __future__ import annotations

from functools import partial
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from salus.fuse.align.cached import cached_backward
from salus.fuse.align.losses import LossName, PairLoss, paired

B, WIDTH = 12, 6


def networks(dropout: float) -> nn.ModuleDict:
    """Return a projector for each of two modalities, in training mode."""
    torch.manual_seed(3)
    return nn.ModuleDict(
        {name: nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 4)).double() for name in ("ecg", "text")}
    )


def gradients(made: nn.Module, loss: nn.Module) -> list[Tensor]:
    """Return the gradients of all weights, and forget them."""
    found = [cast(Tensor, one.grad).clone() for one in [*made.parameters(), *loss.parameters()] if one.requires_grad]
    made.zero_grad()
    loss.zero_grad()
    return found


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@settings(deadline=None, max_examples=15)
@given(chunks=st.integers(2, 6), seed=st.integers(0, 1000))
def test_cached_gradients_are_those_of_the_whole_batch(kind: LossName, dropout: float, chunks: int, seed: int) -> None:
    made, loss = networks(dropout), PairLoss(kind, hardness=1.0).double()
    source = torch.Generator().manual_seed(seed)
    inputs = {name: torch.randn(B, WIDTH, generator=source, dtype=torch.float64) for name in made}

    def embed(name: str, rows: Tensor) -> Tensor:
        return functional.normalize(made[name](inputs[name][rows]), dim=-1)

    def whole(vectors: dict[str, Tensor]) -> Tensor:
        return cast(Tensor, loss(vectors["ecg"], vectors["text"], paired(B)))

    parts = [rows for rows in torch.arange(B).tensor_split(chunks) if len(rows)]
    torch.manual_seed(seed)
    plain = whole({name: torch.cat([embed(name, rows) for rows in parts]) for name in made})  # one graph over everything
    plain.backward()  # type: ignore[no-untyped-call]
    after_plain, expected = torch.get_rng_state(), gradients(made, loss)

    torch.manual_seed(seed)
    cached = cached_backward({name: [partial(embed, name, rows) for rows in parts] for name in made}, whole)  # type: ignore[arg-type]
    assert float(cached) == pytest.approx(float(plain.detach()), rel=1e-12)
    for found, wanted in zip(gradients(made, loss), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert torch.equal(torch.get_rng_state(), after_plain)  # what comes after is as random as it would have been


def test_without_dropout_chunks_equal_one_forward_pass_of_all() -> None:
    made, loss = networks(0.0), PairLoss("clip").double()
    inputs = {name: torch.randn(B, WIDTH, dtype=torch.float64) for name in made}

    def embed(name: str, rows: Tensor) -> Tensor:
        return functional.normalize(made[name](inputs[name][rows]), dim=-1)

    found = []
    for count in (1, 4):
        parts = torch.arange(B).tensor_split(count)
        chunks = {name: [partial(embed, name, rows) for rows in parts] for name in made}
        cached_backward(chunks, lambda vectors: loss(vectors["ecg"], vectors["text"], paired(B)))
        found.append(gradients(made, loss))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_dropout_differs_between_chunks_so_the_replay_is_needed() -> None:
    made = networks(0.5)
    rows = torch.ones(4, WIDTH, dtype=torch.float64)
    assert not torch.equal(made["ecg"](rows), made["ecg"](rows))
