"""Attention over masked tokens, for the strategies that need it: blocks, and a pooling whose weights can be read.

Shapes: B batch, T tokens, Q queries, H width. A patient without any token gets zeros, never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from salus.fuse.parts import Parts


class Block(nn.Module):
    """Attention of queries over tokens and a small network, each added to what it reads (pre-norm)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, Q, H), and (B, Q, T) the mean weights of the attention, of queries (B, Q, H) over tokens (B, T, H)."""
        if tokens.shape[1] == 0:
            return queries + self.network(queries), tokens.new_zeros(*queries.shape[:2], 0)
        there = mask.any(1)
        open_mask = mask | ~there[:, None]  # one without tokens attends to anything, and the result is dropped
        normed = self.norm(tokens)
        read, weights = self.attention(self.query_norm(queries), normed, normed, key_padding_mask=~open_mask)
        queries = queries + read * there[:, None, None]
        return queries + self.network(queries), weights * there[:, None, None]


class Pool(nn.Module):
    """One vector of a patient from tokens, by a learned query."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, 1, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, H), and (B, T) the weights."""
        normed = self.norm(tokens)
        weights = torch.nan_to_num(self.score(normed)[..., 0].masked_fill(~mask, float("-inf")).softmax(-1)) * mask
        return (weights[..., None] * normed).sum(1), weights


def laid_out(parts: Parts) -> tuple[Tensor, Tensor, Tensor]:
    """Return all tokens (B, T, H) side by side, their mask (B, T), and the number of the modality of each (T,)."""
    numbers = [torch.full((mask.shape[1],), at) for at, mask in enumerate(parts.masks.values())]
    return torch.cat([*parts.tokens.values()], 1), torch.cat([*parts.masks.values()], 1), torch.cat(numbers)


def by_modality(weights: Tensor, number: Tensor, count: int) -> Tensor:
    """Return (B, M) the weights (B, T) of tokens, summed over each modality and 1 in all (0 where there are none).

    Example:
        >>> by_modality(torch.tensor([[1.0, 1.0, 2.0]]), torch.tensor([0, 0, 1]), 2).tolist()
        [[0.5, 0.5]]
    """
    sums = weights.new_zeros(weights.shape[0], count).index_add(1, number.to(weights.device), weights)
    return sums / sums.sum(1, keepdim=True).clamp_min(1e-12)


def split(tokens: Tensor, budgets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tokens (B, T, H) by modality again; the lengths are those of `budgets`' masks."""
    lengths = [mask.shape[1] for mask in budgets.values()]
    return dict(zip(budgets, torch.split(tokens, lengths, 1), strict=True))


def heads_of(width: int, wanted: int) -> int:
    """Return the most heads, not above those wanted, that divide a width.

    Example:
        >>> heads_of(48, 5), heads_of(7, 4)
        (4, 1)
    """
    options: Sequence[int] = range(min(wanted, width), 0, -1)
    return next(heads for heads in options if width % heads == 0)
