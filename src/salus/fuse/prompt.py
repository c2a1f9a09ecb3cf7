"""Two-stream prompt fusion: two streams of modalities, each a small transformer whose every layer is prompted by the other stream.

Layer l: `p_B = Attention(Q = q_B^l, K = V = s_B)`, `s_A <- Block(s_A, [s_A; p_B])`, and the same with A and B changed, so that each
stream goes on in its own space and hears of the other in a few tokens. Streams: `first` names the modalities of one, the rest are the
other (default: the first half). Shapes: s (B, N of the stream, H), p (B, K, H), pooled (B, H). Cost: O(Σ_s N_s·(N_s + K)·H) a layer.
Weights: the last pooling's, summed by modality.
Source: Li et al. 2023 (arXiv 2304.06306, interactive prompting, section 3.2), with prompts read by learned queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salus.errors import ConfigError
from salus.fuse.attention import Block, Pool, by_modality, heads_of, laid_out, split
from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import Parts, PartsFuser


@dataclass(frozen=True)
class PromptConfig(FuserConfig):
    """Settings of the fuser."""

    first: tuple[str, ...] = ()
    """Modalities of the first stream; empty: the first half."""
    prompts: int = 2
    """K."""
    layers: int = 2
    heads: int = 4
    """Most heads of an attention."""
    fused_tokens: int = 2
    """Tokens that the joined vector becomes."""


class PromptFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: PromptConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=True, pools=False)
        names = list(config.modalities)
        unknown = sorted(set(config.first) - set(names))
        if unknown or set(config.first) == set(names) != set():
            raise ConfigError(f"Cannot make two streams: first is {list(config.first)}, the modalities are {names}. Name some of them.")
        self.first = frozenset(config.first or names[: (len(names) + 1) // 2])
        heads = heads_of(config.hidden, config.heads)
        self.queries = nn.Parameter(torch.randn(config.layers, 2, config.prompts, config.hidden) * 0.3)
        self.asking = nn.ModuleList(Block(config.hidden, heads, config.dropout) for _ in range(2 * config.layers))
        self.streams = nn.ModuleList(Block(config.hidden, heads, config.dropout) for _ in range(2 * config.layers))
        self.pool = Pool(config.hidden)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        streams = [_stream(parts, [name for name in parts.tokens if (name in self.first) == is_first]) for is_first in (True, False)]
        states = [stream[0] for stream in streams]
        masks = [stream[1] for stream in streams]
        for layer in range(len(self.queries)):
            asking, own = self.asking[2 * layer : 2 * layer + 2], self.streams[2 * layer : 2 * layer + 2]
            asked = [self.queries[layer, side].expand(batch_size, -1, -1) for side in (0, 1)]
            prompts = [asking[side](asked[side], states[side], masks[side])[0] for side in (0, 1)]
            states = [self._next(own[side], states[side], masks[side], prompts[1 - side], masks[1 - side]) for side in (0, 1)]
        tokens: dict[str, Tensor] = {}
        for state, stream in zip(states, streams, strict=True):
            tokens |= split(state, stream[2])
        whole = Parts({name: tokens[name] for name in parts.tokens}, parts.masks, parts.pooled, parts.here)
        joined, mask, number = laid_out(whole)
        pooled, weights = self.pool(joined, mask)
        return self.fused(parts, pooled, by_modality(weights, number, parts.here.shape[1]), whole.tokens)

    @staticmethod
    def _next(block: nn.Module, state: Tensor, mask: Tensor, prompts: Tensor, other: Tensor) -> Tensor:
        told = other.any(1, keepdim=True).expand(-1, prompts.shape[1])
        new: Tensor = block(state, torch.cat([state, prompts], 1), torch.cat([mask, told], 1))[0]
        return new


def _stream(parts: Parts, names: list[str]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the tokens and the mask of some modalities side by side, and their masks by name."""
    masks = {name: parts.masks[name] for name in names}
    if not names:
        like = parts.pooled
        return like.new_zeros(like.shape[0], 0, like.shape[2]), parts.here.new_zeros(like.shape[0], 0), masks
    return torch.cat([parts.tokens[name] for name in names], 1), torch.cat([*masks.values()], 1), masks


STRATEGY = Strategy("prompt", "two streams, each prompted by the other", PromptConfig, PromptFuser)
