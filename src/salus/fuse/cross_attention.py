"""Pairwise cross-modal attention: every modality reads every other one.

`t_m' = t_m + Σ_{n≠m} Attention(Q = t_m, K = V = t_n)`, for each ordered pair of modalities that are both there, with its own weights, then
a pooling over all tokens by a learned query. Shapes: t_m (B, N_m, H), pooled (B, H). Cost: O(Σ_{m≠n} N_m·N_n·H), square in the number
of modalities. Weights: the pooling's, summed by modality. Source: the crossmodal transformer of Tsai et al. 2019 (arXiv 1906.00295,
section 3.2), one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from salus.fuse.attention import Block, Pool, by_modality, heads_of, laid_out
from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import Parts, PartsFuser


@dataclass(frozen=True)
class CrossAttentionConfig(FuserConfig):
    """Settings of the fuser."""

    fused_tokens: int = 2
    """Tokens that the joined vector becomes."""
    heads: int = 4
    """Most heads of an attention."""


class CrossAttentionFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__(config, pooled_width=config.hidden, fused_tokens=config.fused_tokens, keeps_tokens=True, pools=False)
        pairs = [(one, other) for one in config.modalities for other in config.modalities if one != other]
        heads = heads_of(config.hidden, config.heads)
        self.blocks = nn.ModuleDict({f"{one} reads {other}": Block(config.hidden, heads, config.dropout) for one, other in pairs})
        self.pool = Pool(config.hidden)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused."""
        parts = self.projectors(present, batch_size)
        read = dict(parts.tokens)
        for one, own in parts.tokens.items():
            for other, tokens in parts.tokens.items():
                if one != other:
                    there = parts.masks[other].any(1)[:, None, None]
                    read[one] = read[one] + (self.blocks[f"{one} reads {other}"](own, tokens, parts.masks[other])[0] - own) * there
        whole = Parts(read, parts.masks, parts.pooled, parts.here)
        tokens, mask, number = laid_out(whole)
        pooled, weights = self.pool(tokens, mask)
        return self.fused(parts, pooled, by_modality(weights, number, parts.here.shape[1]), read)


STRATEGY = Strategy("cross_attention", "each modality reads every other", CrossAttentionConfig, CrossAttentionFuser)
