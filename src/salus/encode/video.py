"""Moving pictures on a time line: one clip of any length to 16 tokens, four stretches of time by four quarters of the picture.

Takes `Clip` content; gives tokens and a mask of what holds picture. Each frame goes through one small convolutional network by itself; over
time its features are pooled to mean and spread, so missing frames and frames added as padding change nothing. Self-supervised by telling
two views of one clip from the other clips. Leaves out colour and mirroring (left and right are findings).
Shapes: B batch, F frames, N = 16 tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.encode.image import contrastive_loss
from salus.errors import FormatError
from salus.record.patient import Clip, Item

SIDE = 64
"""S: pixels along each side of a prepared frame."""
FRAMES = 32
"""F: frames of a prepared clip, evenly spread over its time."""
STRETCHES = 4
GRID = 2
"""Quarters: cells along each side."""
_LEAST_COVER = 0.25
"""A cell with less picture than this share of its area is masked."""


def prepare_clip(clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return frames of a clip in a square, brightness from -1 to 1, and when each was, from 0 (first) to 1 (last).

    The 1st and 99th percentile of the whole clip become -1 and 1: exposure drops out, change of brightness over time stays.

    Args:
        clip: T frames, grey or colour (averaged to grey).

    Returns:
        (32, 64, 64) float32, NaN beside the picture and where a frame is missing; (32,) float32, NaN where a frame is missing. Without
        contrast all is NaN.

    Raises:
        FormatError: the frames are neither (T, H, W) nor (T, H, W, 3), or a side is empty.

    Example:
        >>> from salus.encode.clip_quality import moving_disc
        >>> frames, phase = prepare_clip(moving_disc())
        >>> frames.shape, int(np.isnan(phase).sum()), float(np.nanmax(phase))  # 24 frames, of which one is missing
        ((32, 64, 64), 9, 1.0)
    """
    shape = clip.frames.shape
    if len(shape) not in (3, 4) or 0 in shape[1:]:
        raise FormatError(f"Cannot prepare a clip of shape {shape}. Give frames of shape (T, H, W) or (T, H, W, 3).")
    frames, phase = np.full((FRAMES, SIDE, SIDE), np.nan, np.float32), np.full(FRAMES, np.nan, np.float32)
    there = np.flatnonzero(clip.is_present)
    if not len(there):
        return frames, phase
    # Only what is there counts: slots without a frame, at the ends or between, neither move nor thin the ones that are.
    chosen = there[np.unique(np.linspace(0, len(there) - 1, min(FRAMES, len(there))).round().astype(int))]
    at = clip.time_s if np.isfinite(clip.time_s).all() else np.arange(shape[0], dtype=np.float64)
    span = float(at[there[-1]] - at[there[0]])
    squares = np.stack([_square(clip.frames[index]) for index in chosen])
    low, high = np.nanpercentile(squares, [1, 99])
    if high <= low:
        return frames, phase
    frames[: len(chosen)] = np.clip(2 * (squares - low) / (high - low) - 1, -1, 1)
    phase[: len(chosen)] = (at[chosen] - at[there[0]]) / span if span > 0 else 0.0
    return frames, phase


def _square(frame: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return a frame (64, 64) in grey, its shape kept, NaN beside it."""
    grey = np.asarray(frame, np.float32)
    grey = grey if grey.ndim == 2 else grey.mean(axis=-1)
    height, width = (max(1, round(length * SIDE / max(grey.shape))) for length in grey.shape)
    small = functional.interpolate(torch.from_numpy(np.nan_to_num(grey))[None, None], (height, width), mode="bilinear", antialias=True)
    square = np.full((SIDE, SIDE), np.nan, np.float32)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = small[0, 0].numpy()
    return square


class VideoEncoder(nn.Module):
    """A small convolutional network on each frame, and pooling over time; GroupNorm, so that a clip's tokens do not depend on its batch."""

    pooled_tokens = 0

    def __init__(self, *, width: int = 64, channels: Sequence[int] = (16, 32, 48)) -> None:
        """Build from settings: token width D, and channels after each halving (32 pixels down to 8)."""
        super().__init__()
        self.width, self.tokens = width, STRETCHES * GRID * GRID
        sizes = (8, *channels)
        self.beside = nn.Parameter(torch.zeros(1))
        halvings = [
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.GroupNorm(8, b), nn.GELU()) for a, b in pairwise(sizes)
        ]
        self.blocks = nn.Sequential(nn.PixelUnshuffle(2), *halvings)
        self.place = nn.Parameter(torch.randn(self.tokens, 2 * sizes[-1]) * 0.02)
        self.out = nn.Sequential(nn.Linear(2 * sizes[-1], width), nn.LayerNorm(width))

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the latest clip that has contrast, or None."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "clip" else None
            if isinstance(loaded, Clip):
                frames, phase = prepare_clip(loaded)
                if np.isfinite(phase).any():
                    time_s = np.full(self.tokens, seconds.get(item.id, np.nan), dtype=np.float32)
                    return Prepared({"frames": frames, "phase": phase}, ((item.id,),) * self.tokens, time_s)
        return None

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return TwoViewsOfClip(self.width)

    def augment(self, arrays: Mapping[str, Tensor], target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return a training batch with every clip seen in another way."""
        return seen_otherwise(arrays), target

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return tokens (B, 16, D), stretch by stretch, and mask (B, 16), True where frames of the stretch hold picture."""
        frames, phase = arrays["frames"], arrays["phase"]  # (B, F, S, S), (B, F)
        batch, count = phase.shape
        is_there = torch.isfinite(phase)
        known = torch.isfinite(frames) & is_there[..., None, None]
        values = torch.where(known, frames, self.beside)
        layers = torch.stack([values, known.to(values.dtype)], 2).flatten(0, 1)  # (B·F, 2, S, S)
        cells = functional.adaptive_avg_pool2d(self.blocks(layers), GRID)  # (B·F, C, 2, 2)
        features = cells.flatten(2).transpose(1, 2).reshape(batch, count, GRID * GRID, -1)  # (B, F, 4, C)
        cover = functional.adaptive_avg_pool2d(known.to(values.dtype).flatten(0, 1)[:, None], GRID).flatten(1) > _LEAST_COVER
        weight = self._in_stretch(phase, is_there)[..., None] * cover.reshape(batch, 1, count, GRID * GRID)  # (B, K, F, 4)
        total = weight.sum(2).clamp(min=1)[..., None]  # (B, K, 4, 1)
        mean = torch.einsum("bkfq,bfqc->bkqc", weight, features) / total
        squared = torch.einsum("bkfq,bfqc->bkqc", weight, features.square()) / total
        spread = (squared - mean.square()).clamp(min=0).add(1e-6).sqrt()
        tokens = self.out(torch.cat([mean, spread], -1).flatten(1, 2) + self.place)
        return tokens, weight.sum(2).flatten(1) > 0

    def _in_stretch(self, phase: Tensor, is_there: Tensor) -> Tensor:
        """Return (B, K, F), 1 where a frame lies in a stretch of time."""
        stretch = (phase.nan_to_num(0.0) * STRETCHES).long().clamp(0, STRETCHES - 1)
        return functional.one_hot(stretch, STRETCHES).transpose(1, 2).to(phase.dtype) * is_there[:, None]


class TwoViewsOfClip(nn.Module):
    """Self-supervised stage: two views of one clip should be more alike than views of different clips."""

    def __init__(self, width: int, *, temperature: float = 0.2) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 32))
        self.temperature = temperature

    def forward(self, encoder: VideoEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the contrastive loss of one batch."""
        views = [seen_otherwise(arrays) for _ in range(2)]
        tokens, mask = encoder({name: torch.cat([view[name] for view in views]) for name in views[0]})
        weight = mask.to(tokens.dtype)[..., None]
        projected = self.project((tokens * weight).sum(1) / weight.sum(1).clamp(min=1))
        count = len(arrays["phase"])
        return contrastive_loss(projected[:count], projected[count:], self.temperature)


def seen_otherwise(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return clips cropped, tilted and re-exposed, the same way in all frames of one, half of the frames hidden; not mirrored."""
    frames, phase = arrays["frames"], arrays["phase"]
    count = len(frames)
    zoom, angle = torch.empty(count).uniform_(0.7, 1.05), torch.empty(count).uniform_(-0.15, 0.15)
    shift = torch.empty(count, 2).uniform_(-1, 1) * (1 - zoom).clamp(min=0)[:, None]
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    known = torch.isfinite(frames)
    grid = functional.affine_grid(matrix, list(frames.shape), align_corners=False)
    value = functional.grid_sample(frames.nan_to_num(0.0), grid, align_corners=False)
    cover = functional.grid_sample(known.to(frames.dtype), grid, align_corners=False)
    value = value / cover.clamp(min=0.5)
    value = value * torch.empty(count, 1, 1, 1).uniform_(0.7, 1.2) + torch.empty(count, 1, 1, 1).uniform_(-0.2, 0.2)
    value = (value + 0.05 * torch.randn_like(value)).clamp(-1, 1)
    hidden = torch.rand_like(phase) < torch.empty(count, 1).uniform_(0, 0.5)
    hidden &= torch.isfinite(phase).cumsum(1) > 1  # the first frame stays, so that something does
    return {
        "frames": torch.where((cover > 0.5) & ~hidden[..., None, None], value, torch.nan),
        "phase": torch.where(hidden, torch.nan, phase),
    }
