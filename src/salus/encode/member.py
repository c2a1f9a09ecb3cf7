"""Linear maps of several small networks side by side, which learn apart and are averaged.

Shapes: K members, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MemberLinear(nn.Module):
    """K linear maps side by side: (K, B, in) → (K, B, out)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, values: Tensor) -> Tensor:
        """Return (K, B, out)."""
        return torch.baddbmm(self.bias, values, self.weight)
