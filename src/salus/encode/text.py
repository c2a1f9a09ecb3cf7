"""Text on a time line: one token per sentence, from hashed word pieces.

Takes notes and reports; gives a vector per sentence for the language model, beside the sentences that code quotes. Words are
hashed, so no vocabulary ships and none can leak. The same bag network serves coded events (`salus.encode.events`).
Shapes: B batch, N sentences, G word pieces per sentence, D width.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.record.patient import Item

_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_WORD = re.compile(r"[a-z]+|\d+")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, without empty ones.

    Example:
        >>> sentences("No fever. Cough since Monday!")
        ['No fever.', 'Cough since Monday!']
    """
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def hashed(text: str, buckets: int, length: int) -> NDArray[np.int64]:
    """Return (length,) bucket numbers of a text's words and their 4-letter stems, -1 where there are no more.

    Example:
        >>> hashed("fever", 1000, 3).tolist()[-1]
        -1
    """
    words = _WORD.findall(text.lower())
    pieces = [piece for word in words for piece in ((word, word[:4]) if len(word) > 4 else (word,))]
    numbers = [zlib.crc32(piece.encode()) % buckets for piece in pieces[:length]]
    return np.array(numbers + [-1] * (length - len(numbers)), dtype=np.int64)


class BagEncoder(nn.Module):
    """Bags of hashed words to context-aware vectors: embedding mean, then one transformer layer."""

    def __init__(self, *, width: int, buckets: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.buckets = buckets
        self.embed = nn.Embedding(buckets, width)
        self.unknown_time = nn.Parameter(torch.zeros(width))
        self.time = nn.Linear(2, width)
        self.hidden = nn.Parameter(torch.randn(width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.mix = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def bags(self, grams: Tensor) -> Tensor:
        """Return (B, N, D) means of the embeddings of grams (B, N, G), -1 ignored."""
        known = grams >= 0
        vectors = self.embed(grams.clamp_min(0)) * known[..., None]
        return vectors.sum(2) / known.sum(2, keepdim=True).clamp_min(1)  # type: ignore[no-any-return]

    def forward(self, grams: Tensor, days: Tensor, hide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N).

        Args:
            grams: (B, N, G) bucket numbers, -1 for none.
            days: (B, N) days before the end of the record, NaN where unknown.
            hide: (B, N) bool, tokens whose words are hidden (self-supervised training).
        """
        mask = (grams >= 0).any(-1)
        bags = self.bags(grams)
        if hide is not None:
            bags = torch.where(hide[..., None], self.hidden, bags)
        known = ~torch.isnan(days)
        ago = torch.nan_to_num(days)
        times = self.time(torch.stack([ago.clamp_min(0).log1p(), (ago < 1).float()], dim=-1))
        placed = bags + torch.where(known[..., None], times, self.unknown_time)
        attended = self.mix(placed, src_key_padding_mask=~mask & mask.any(1, keepdim=True))
        return self.norm(attended), mask


class MaskedBags(nn.Module):
    """Self-supervised stage: hide a share of the tokens' words and find each again among all of the batch (InfoNCE).

    Source: masked prediction as in BERT (Devlin et al. 2019, section 3.1) with the contrastive loss of van den Oord et al. 2018,
    equation 4.
    """

    def __init__(self, width: int, *, hidden_share: float = 0.2, temperature: float = 0.1) -> None:
        super().__init__()
        self.predict = nn.Linear(width, width)
        self.hidden_share = hidden_share
        self.temperature = temperature

    def forward(self, network: BagEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch."""
        grams, days = arrays["grams"], arrays["days"]
        mask = (grams >= 0).any(-1)
        hide = mask & (torch.rand(mask.shape, device=mask.device) < self.hidden_share)
        if not bool(hide.any()):
            return network.norm.weight.sum() * 0.0
        values, _ = network(grams, days, hide)
        guesses = functional.normalize(self.predict(values[hide]), dim=-1)
        truths = functional.normalize(network.bags(grams)[hide], dim=-1)
        scores = guesses @ truths.T / self.temperature
        return functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


class TextEncoder(nn.Module):
    """Notes to one token per sentence, the most recent note first."""

    pooled_tokens = 0

    def __init__(self, *, width: int = 64, tokens: int = 16, buckets: int = 4096, words: int = 48) -> None:
        super().__init__()
        self.width, self.tokens, self.words = width, tokens, words
        self.network = BagEncoder(width=width, buckets=buckets)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return hashed sentences of the notes, or None when there is no text."""
        end = max(seconds.values(), default=0.0)
        ordered = sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id))
        found: list[tuple[str, Item]] = []
        for item in ordered:
            text = item.content.load() if item.content is not None and item.content.kind == "text" else None
            if isinstance(text, str):
                found += [(sentence, item) for sentence in sentences(text)]
            if len(found) >= self.tokens:
                break
        if not found:
            return None
        return prepared_bags(
            [(s, (i.id,), seconds.get(i.id)) for s, i in found[: self.tokens]],
            (self.tokens, self.words),
            self.network.buckets,
            end,
        )

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return BagPretext(self.width)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N)."""
        values, mask = self.network(arrays["grams"], arrays["days"])
        return values, mask


class BagPretext(nn.Module):
    """`MaskedBags` for an encoder that holds its bag network as `network`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bags = MaskedBags(width)

    def forward(self, encoder: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch."""
        loss: Tensor = self.bags(encoder.network, arrays)
        return loss


def prepared_bags(
    rows: Sequence[tuple[str, tuple[str, ...], float | None]], shape: tuple[int, int], buckets: int, end_s: float
) -> Prepared:
    """Return the network input of texts with their items and times.

    Args:
        rows: (text, item ids, seconds on the record's clock or None), at most N.
        shape: (N tokens, G words per token).
        buckets: of the hash.
        end_s: end of the record, seconds.
    """
    tokens, words = shape
    grams = np.full((tokens, words), -1, dtype=np.int64)
    days = np.full(tokens, np.nan, dtype=np.float32)
    time_s = np.full(tokens, np.nan, dtype=np.float32)
    ids: list[tuple[str, ...]] = [()] * tokens
    for place, (text, items, at) in enumerate(rows):
        grams[place] = hashed(text, buckets, words)
        ids[place] = items
        if at is not None:
            days[place] = (end_s - at) / 86400.0
            time_s[place] = at
    return Prepared({"grams": grams, "days": days}, tuple(ids), time_s)
