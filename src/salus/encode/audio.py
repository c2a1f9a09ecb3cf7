"""Sounds on a time line: one token per member network, from band summaries of the recording.

Takes `Sound` content; gives K pooled tokens. The members are small and many, since a few hundred recordings are all there is to learn
from. In training mode `prepare` adds random crops as further views. Shapes: B batch, N = K tokens, D width.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.encode.member import MemberLinear
from salus.encode.sound_summary import N_FEATURES, N_ROWS, summarise_sound
from salus.record.patient import Item, Sound

SOFT_LIMIT = 3.0
MIXUP = 0.4
"""Both parameters of mixup's Beta distribution. Source: Zhang et al. 2018, arXiv 1710.09412."""
LABEL_SMOOTHING = 0.05


class SoundEncoder(nn.Module):
    """K small networks over the band summaries, one token each."""

    table_arrays = ("table",)
    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        members: int = 8,
        hidden: int = 128,
        width: int = 64,
        feature_dropout: float = 0.3,
        dropout: float = 0.5,
        crops: int = 4,
    ) -> None:
        """Build from settings.

        Args:
            members: K.
            hidden: units of each member's first layer.
            width: D.
            feature_dropout: share of summaries hidden in training; this is also how the missing embedding is learned.
            dropout: on hidden units; half of it on the token.
            crops: random crops of 5 to 12 s added as views in training.
        """
        super().__init__()
        self.width, self.tokens, self.pooled_tokens = width, members, members
        self.feature_dropout, self.dropout, self.crops = feature_dropout, dropout, crops
        self.register_buffer("mean", torch.zeros(N_ROWS, N_FEATURES))
        self.register_buffer("spread", torch.ones(N_ROWS, N_FEATURES))
        self.missing = nn.Parameter(torch.zeros(N_ROWS * N_FEATURES))
        self.first = MemberLinear(members, N_ROWS * N_FEATURES, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.second = MemberLinear(members, hidden, width)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the summaries of the latest recording that can be used, or None; in training mode, of random crops of it too."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "sound" else None
            if isinstance(loaded, Sound):
                views = [summarise_sound(loaded.samples[0], loaded.sampling_rate_hz)]
                if np.isfinite(views[0]).any():
                    views += self._crops(loaded, zlib.crc32(item.id.encode())) if self.training else []
                    time_s = np.full(self.tokens, seconds.get(item.id, np.nan), dtype=np.float32)
                    return Prepared({"table": np.stack(views)}, ((item.id,),) * self.tokens, time_s)
        return None

    def _crops(self, sound: Sound, seed: int) -> list[NDArray[np.float32]]:
        source = np.random.default_rng(seed)
        samples, views = sound.samples[0], []
        for _ in range(self.crops):
            length = int(min(0.8 * len(samples), source.uniform(5, 12) * sound.sampling_rate_hz))
            start = int(source.integers(0, len(samples) - length + 1))
            views.append(summarise_sound(samples[start : start + length], sound.sampling_rate_hz))
        return views

    def fit(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Learn mean and spread of each summary from whole training recordings."""
        table = torch.from_numpy(arrays["table"][:, 0])
        mean = table.nanmean(0)
        self.mean.copy_(mean.nan_to_num(0.0))
        self.spread.copy_(((table - mean).square().nanmean(0).sqrt() + 1e-4).nan_to_num(1.0))

    def augment(self, arrays: Mapping[str, Tensor], target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return a training batch with half of the recordings replaced by a crop, and pairs of recordings mixed.

        Args:
            arrays: `table` (B, 1 + crops, 34, 48).
            target: (B, O) probabilities.
        """
        table = arrays["table"]
        batch, views = table.shape[:2]
        crop = torch.randint(1, max(2, views), (batch,)).clamp(max=views - 1)
        chosen = table[torch.arange(batch), torch.where(torch.rand(batch) < 0.5, crop, 0)]
        share = torch.distributions.Beta(MIXUP, MIXUP).sample((1,))
        partner = torch.randperm(batch)
        mixed = share * chosen + (1 - share) * chosen[partner]
        smooth = (1 - LABEL_SMOOTHING) * target + LABEL_SMOOTHING / target.shape[1]
        return {"table": mixed[:, None]}, share * smooth + (1 - share) * smooth[partner]

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return HiddenBands(self.width)

    def standardised(self, table: Tensor) -> Tensor:
        """Return summaries (B, R, F) in spreads from the mean, NaN where nothing is known."""
        return SOFT_LIMIT * torch.tanh((table - self.mean) / self.spread / SOFT_LIMIT)

    def forward(self, arrays: Mapping[str, Tensor], hide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return values (B, K, D) and mask (B, K), False where nothing of the recording can be used.

        Args:
            arrays: `table` (B, 1 + crops, R, F).
            hide: (B, R) bool, bands to hide (self-supervised training); in training single summaries are hidden by chance.
        """
        table = arrays["table"][:, 0]
        values = self.standardised(table).flatten(-2).expand(self.tokens, -1, -1)
        unseen = torch.isnan(values)
        if hide is not None:
            unseen = unseen | hide.repeat_interleave(table.shape[-1], -1)
        elif self.training:
            unseen = unseen | (torch.rand_like(values) < self.feature_dropout)
        values = torch.where(unseen, self.missing, values)
        inner = functional.dropout(functional.gelu(self.norm(self.first(values))), self.dropout, self.training)
        tokens = functional.dropout(functional.gelu(self.second(inner)), self.dropout / 2, self.training)
        mask = torch.isfinite(table).flatten(1).any(1, keepdim=True).expand(-1, self.tokens)
        return tokens.transpose(0, 1), mask


class HiddenBands(nn.Module):
    """Self-supervised stage: hide whole bands of a recording, and tell their summaries from the tokens of the others.

    Source: masked autoencoding of tables as in VIME (Yoon et al. 2020, NeurIPS, section 4.1), on the bands of a spectrogram as in
    AudioMAE (Huang et al. 2022, arXiv 2207.06405).
    """

    def __init__(self, width: int, *, hidden_share: float = 0.4) -> None:
        super().__init__()
        self.tell = nn.Linear(width, N_ROWS * N_FEATURES)
        self.hidden_share = hidden_share

    def forward(self, encoder: SoundEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch: squared error of the hidden summaries, in spreads."""
        table = arrays["table"]
        view = torch.randint(table.shape[1], (len(table),))
        chosen = table[torch.arange(len(table)), view]
        hide = torch.rand(chosen.shape[:2]) < self.hidden_share
        wanted = hide[..., None] & torch.isfinite(chosen)
        values, _ = encoder({"table": chosen[:, None]}, hide)
        truth = encoder.standardised(chosen).nan_to_num(0.0)
        error = (self.tell(values).unflatten(-1, chosen.shape[1:]) - truth[:, None]).square().mean(1)
        loss: Tensor = (error * wanted).sum() / wanted.sum().clamp_min(1)
        return loss
