"""Coded events on a time line: one token per condition, medicine, procedure, encounter or other event.

Takes EHR items; gives vectors of the most recent and still active ones. Their words are hashed as text is (`salus.encode.text`).
Shapes: B batch, N events, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from salus.encode.encoder import Prepared
from salus.encode.text import BagEncoder, BagPretext, prepared_bags
from salus.record.patient import Item


class EventEncoder(nn.Module):
    """Events to tokens: active ones first, then the most recent."""

    pooled_tokens = 0

    def __init__(self, *, width: int = 64, tokens: int = 24, buckets: int = 4096, words: int = 16) -> None:
        super().__init__()
        self.width, self.tokens, self.words = width, tokens, words
        self.network = BagEncoder(width=width, buckets=buckets)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return hashed events, or None when there are none besides demographics."""
        events = [item for item in items if item.category != "demographic" and item.content is None]
        if not events:
            return None
        end = max(seconds.values(), default=0.0)
        ordered = sorted(events, key=lambda item: (item.status != "active", -seconds.get(item.id, -np.inf), item.id))
        rows = [
            (f"{item.category} {item.status or ''} {item.code.display}", (item.id,), seconds.get(item.id))
            for item in ordered[: self.tokens]
        ]
        return prepared_bags(rows, (self.tokens, self.words), self.network.buckets, end)

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return BagPretext(self.width)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N)."""
        values, mask = self.network(arrays["grams"], arrays["days"])
        return values, mask
