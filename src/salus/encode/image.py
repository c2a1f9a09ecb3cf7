"""Images on a time line: one grey picture of any size to 16 tokens on a 4 × 4 grid, by a small convolutional network.

Takes `Image` content; gives tokens and a mask of the cells that hold picture. Self-supervised by telling two views of one picture from
the other pictures. Leaves out depth (a slice is one picture), colour, and mirroring as augmentation (left and right are findings).
Shapes: B batch, N = 16 tokens, D width.
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
from salus.errors import FormatError
from salus.record.patient import Image, Item

SIDE = 128
"""S: pixels along each side of the prepared picture."""
GRID = 4
"""Cells along each side: N = 16 tokens."""
_LEAST_COVER = 0.25
"""A cell with less picture than this share of its area is masked."""


def prepare_image(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the picture in a square, its shape kept, brightness from -1 to 1, NaN beside it.

    The 1st and 99th percentile become -1 and 1, so exposure and bit depth drop out; absolute intensity (HU) is lost too.

    Args:
        pixels: (H, W) grey values in any unit; NaN or infinity where unknown.

    Returns:
        (1, 128, 128) float32. A picture with no contrast is all NaN.

    Raises:
        FormatError: the pixels are not two-dimensional, or a side is empty.

    Example:
        >>> picture = prepare_image(np.arange(200.0 * 100).reshape(200, 100))
        >>> picture.shape, int(np.isnan(picture[0, 64]).sum())  # 100 of 200 wide: half of each row is beside it
        ((1, 128, 128), 64)
        >>> prepare_image(np.zeros((3, 20, 20)))
        Traceback (most recent call last):
        salus.errors.FormatError: Cannot prepare an image of shape (3, 20, 20). Give one grey picture, shape (H, W).
    """
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise FormatError(f"Cannot prepare an image of shape {pixels.shape}. Give one grey picture, shape (H, W).")
    grey = np.asarray(pixels, np.float32)
    grey = np.where(np.isfinite(grey), grey, np.nan)
    square = np.full((1, SIDE, SIDE), np.nan, np.float32)
    known = grey[~np.isnan(grey)]
    low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 0.0)
    if high <= low:
        low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    if high <= low:
        return square
    scaled = np.clip(2 * (grey - low) / (high - low) - 1, -1, 1).astype(np.float32)
    height, width = (max(1, round(length * SIDE / max(grey.shape))) for length in grey.shape)
    resized = _resize(scaled, height, width)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[0, top : top + height, left : left + width] = resized
    return square


def _resize(picture: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return the picture at (height, width), averaged when shrunk; NaN where less than half is known."""
    known = torch.from_numpy(np.isfinite(picture).astype(np.float32))
    layers = torch.stack([torch.from_numpy(np.nan_to_num(picture)), known])[None]
    resized = functional.interpolate(layers, (height, width), mode="bilinear", antialias=True)[0]
    value = torch.where(resized[1] > 0.5, resized[0] / resized[1].clamp(min=0.5), torch.nan)
    return np.asarray(value.clamp(-1, 1), np.float32)


class _Block(nn.Module):
    """Halve the picture, then refine it with one residual convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.halve = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.GroupNorm(8, outputs), nn.GELU())
        self.refine = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(8, outputs), nn.GELU())

    def forward(self, values: Tensor) -> Tensor:
        values = self.halve(values)
        refined: Tensor = self.refine(values)
        return values + refined


class ImageEncoder(nn.Module):
    """A small convolutional network; GroupNorm, so that a picture's tokens do not depend on its batch."""

    pooled_tokens = 0

    def __init__(self, *, width: int = 128, channels: Sequence[int] = (32, 64, 96, 128)) -> None:
        """Build from settings: token width D, and channels after each halving (64 pixels down to 4)."""
        super().__init__()
        self.width, self.tokens = width, GRID * GRID
        sizes = (8, *channels)
        self.beside = nn.Parameter(torch.zeros(1))
        # Folding each 2 × 2 pixels into channels first makes a step three times as fast as a convolution at 128 pixels.
        self.blocks = nn.Sequential(nn.PixelUnshuffle(2), *(_Block(a, b) for a, b in pairwise(sizes)))
        self.place = nn.Parameter(torch.randn(GRID * GRID, sizes[-1]) * 0.02)
        self.out = nn.Sequential(nn.Linear(sizes[-1], width), nn.LayerNorm(width))

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the latest picture that has contrast, or None."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "image" else None
            if isinstance(loaded, Image):
                grey = loaded.pixels if loaded.pixels.ndim == 2 else loaded.pixels.mean(-1)
                picture = prepare_image(grey)
                if np.isfinite(picture).any():
                    time_s = np.full(self.tokens, seconds.get(item.id, np.nan), dtype=np.float32)
                    return Prepared({"picture": picture}, ((item.id,),) * self.tokens, time_s)
        return None

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return TwoViews(self.width)

    def augment(self, arrays: Mapping[str, Tensor], target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return a training batch with every picture seen in another way."""
        return {"picture": augment(arrays["picture"])}, target

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return tokens (B, 16, D), row by row from the top left, and mask (B, 16), True where the cell holds picture."""
        images = arrays["picture"]  # (B, 1, 128, 128), NaN beside the picture
        known = torch.isfinite(images)
        values = torch.where(known, images, self.beside)
        cells = self.blocks(torch.cat([values, known.to(values.dtype)], 1))  # (B, C, 4, 4)
        tokens = self.out(cells.flatten(2).transpose(1, 2) + self.place)
        cover = functional.adaptive_avg_pool2d(known.to(values.dtype), GRID).flatten(1)
        return tokens, cover > _LEAST_COVER


class TwoViews(nn.Module):
    """Self-supervised stage: two views of one picture should be more alike than views of different pictures."""

    def __init__(self, width: int, *, temperature: float = 0.2) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 64))
        self.temperature = temperature

    def forward(self, encoder: ImageEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the contrastive loss of one batch."""
        pictures = arrays["picture"]
        tokens, mask = encoder({"picture": torch.cat([augment(pictures), augment(pictures)])})
        weight = mask.to(tokens.dtype)[..., None]
        projected = self.project((tokens * weight).sum(1) / weight.sum(1).clamp(min=1))
        return contrastive_loss(projected[: len(pictures)], projected[len(pictures) :], self.temperature)


def augment(images: Tensor) -> Tensor:
    """Return randomly cropped, tilted, re-exposed, blurred and noisy views (B, 1, S, S); never mirrored, NaN kept."""
    count = len(images)
    zoom = torch.empty(count).uniform_(0.55, 1.05)
    stretch = torch.empty(count).uniform_(0.9, 1.1)
    angle = torch.empty(count).uniform_(-0.2, 0.2)
    shift = torch.empty(count, 2).uniform_(-1, 1) * (1 - zoom).clamp(min=0)[:, None]
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    matrix = torch.stack(
        [torch.stack([cos * stretch, -sin, shift[:, 0]], 1), torch.stack([sin, cos / stretch, shift[:, 1]], 1)], 1
    )
    known = torch.isfinite(images)
    layers = torch.cat([images.nan_to_num(0.0), known.to(images.dtype)], 1)
    grid = functional.affine_grid(matrix, list(layers.shape), align_corners=False)
    moved = functional.grid_sample(layers, grid, align_corners=False)
    value, cover = (moved[:, :1] / moved[:, 1:].clamp(min=0.5)).clamp(-1, 1), moved[:, 1:]
    gamma = torch.empty(count, 1, 1, 1).uniform_(-0.5, 0.5).exp()
    value = 2 * ((value + 1) / 2).clamp(min=1e-4) ** gamma - 1
    value = value * torch.empty(count, 1, 1, 1).uniform_(0.7, 1.2) + torch.empty(count, 1, 1, 1).uniform_(-0.2, 0.2)
    blurred = functional.avg_pool2d(value, 3, 1, 1)
    value = torch.where(torch.rand(count, 1, 1, 1) < 0.3, blurred, value)
    value = value + torch.randn_like(value) * torch.empty(count, 1, 1, 1).uniform_(0, 0.1)
    return torch.where(cover > 0.5, value, torch.nan)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent of paired views (B, P): each view should find its pair among the other 2B - 1.

    Source: Chen et al. 2020 (SimCLR), arXiv:2002.05709, equation 1.

    Example:
        >>> views = torch.eye(4)
        >>> bool(contrastive_loss(views, views, 0.2) < contrastive_loss(views, views.roll(1, 0), 0.2))
        True
    """
    both = functional.normalize(torch.cat([first, second]), dim=1)
    similarity = both @ both.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(both), dtype=torch.bool), -torch.inf)
    pair = torch.arange(len(both)).roll(len(first))
    return functional.cross_entropy(similarity, pair)
