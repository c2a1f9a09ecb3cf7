"""Low-rank tensor fusion: what modalities say together, as the product of what each says, at a cost linear in their number.

`h = Σ_r w_r ⊙_m (W_m^r [x_m; 1])`, the product over all modalities: the factored form of the outer product `⊗_m [x_m; 1]`, whose full size
is H^M. A factor whose x_m is missing is the learned bias alone, which leaves the products of the others. Each factor is near 1 at first,
so that a product of many neither vanishes nor grows. Shapes: x_m (B, H), factor (B, R, H), h (B, H). Cost: O(M·R·H²). Weights: the
share of each modality's factor in how far the factors are from their biases. Source: Liu et al. 2018 (arXiv 1806.00064, equations
5-8); the full product: Zadeh et al. 2017 (arXiv 1707.07250), `OuterProduct`, kept for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus.errors import ConfigError
from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import PartsFuser, shares

MOST_OUTER = 1 << 28
"""Numbers of the weight of a full product; more is refused."""


@dataclass(frozen=True)
class TensorConfig(FuserConfig):
    """Settings of the fuser."""

    fused_tokens: int = 4
    """Tokens that the joined vector becomes."""
    rank: int = 8
    """R."""


class LowRankProduct(nn.Module):
    """The factored product of any number of vectors."""

    def __init__(self, count: int, width: int, out: int, rank: int) -> None:
        super().__init__()
        self.rank, self.out = rank, out
        self.factors = nn.ModuleList(nn.Linear(width, rank * out, bias=False) for _ in range(count))
        for factor in self.factors:
            nn.init.normal_(factor.weight, std=0.1 / width**0.5)  # type: ignore[arg-type]
        self.biases = nn.Parameter(torch.ones(count, rank, out))
        self.mix = nn.Parameter(torch.randn(rank, out) / rank**0.5)

    def forward(self, vectors: Sequence[Tensor], here: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, out), and (B, M) how far each factor is from its bias, of vectors (B, width) and who is there (B, M)."""
        product, moved = torch.ones_like(self.mix), []
        for at, (vector, factor) in enumerate(zip(vectors, self.factors, strict=True)):
            change = factor(vector).view(-1, self.rank, self.out) * here[:, at, None, None]
            product = product * (self.biases[at] + change)
            moved.append(change.pow(2).mean((1, 2)))
        return (product * self.mix).sum(1), torch.stack(moved, 1)


class OuterProduct(nn.Module):
    """The full product, H^M numbers a patient: for comparison, as far as it runs."""

    def __init__(self, count: int, width: int, out: int) -> None:
        super().__init__()
        size = (width + 1) ** count
        if size * out > MOST_OUTER:
            raise ConfigError(
                f"Cannot build the outer product: {count} modalities of width {width} need {size * out} numbers. Use 'tensor'."
            )
        self.linear = nn.Linear(size, out)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return (B, out) of vectors (B, width)."""
        whole = torch.ones_like(vectors[0][:, :1])
        for vector in vectors:
            longer = torch.cat([vector, torch.ones_like(vector[:, :1])], -1)
            whole = (whole[:, :, None] * longer[:, None, :]).flatten(1)
        return self.linear(whole)  # type: ignore[no-any-return]


class TensorFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: TensorConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=False)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in config.modalities)
        self.product = LowRankProduct(len(config.modalities), config.hidden, config.hidden, config.rank)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        joined, moved = self.product([norm(parts.pooled[:, at]) for at, norm in enumerate(self.norms)], parts.here)
        return self.fused(parts, joined, shares(parts.here, moved.clamp_min(1e-12).log()))


STRATEGY = Strategy("tensor", "low-rank product of all modalities", TensorConfig, TensorFuser)
