"""Volumes on a time line: any number of slices to 16 tokens, one for each slab of neighbouring slices, by the small image network.

Takes `Volume` content; gives tokens and a mask of the slabs that hold slices. Self-supervised by telling two views of one volume from other
volumes. Leaves out all but the middle point in time, and mirroring as augmentation (left and right are findings).
Shapes: B batch, N = 16 slabs, D width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.encode.image import ImageEncoder, augment, contrastive_loss
from salus.record.patient import Item, Volume
from salus.record.volume import axis_letter

SLABS = 16
"""N: most slabs, each of the same number of slices but for rounding; fewer slices make fewer slabs."""
SIDE = 64
"""S: pixels along each side of a prepared slab."""
HU = "[hnsf'U]"
HU_WINDOW = (-1000.0, 1000.0)
"""Fixed for CT, so that a value means the same in every volume: air is -1, water 0, dense bone 1."""
PERCENTILES = (1.0, 99.0)
"""Of all known voxels, for units that are not comparable between scanners."""


@dataclass(frozen=True)
class Slab:
    """Which slices one token was made from."""

    cut: str
    """`axial`, `coronal` or `sagittal`, by the body axis nearest to the step from slice to slice."""
    first: int
    """Slices of the volume as loaded, from 0; both ends included."""
    last: int
    from_mm: float
    """Along the body axis of the cut, LPS, between the outer borders of the slices."""
    to_mm: float
    window: tuple[float, float]
    """Values that became -1 and 1, in the volume's unit."""

    @property
    def words(self) -> str:
        """Place and window in words."""
        low, high = sorted((self.from_mm, self.to_mm))
        axis = {"axial": "H", "coronal": "P", "sagittal": "L"}[self.cut]
        return (
            f"{self.cut}, slices {self.first + 1} to {self.last + 1}, {low:.1f} to {high:.1f} mm towards {axis}, "
            f"window {self.window[0]:.4g} to {self.window[1]:.4g}"
        )


def prepare_volume(volume: Volume) -> tuple[NDArray[np.float32], tuple[Slab, ...]] | None:
    """Return a volume as slabs of slices, and where each slab lies; None without contrast.

    Borders that hold no known voxel are cut off first, so that padding changes nothing; slices are counted from the right, front or foot,
    and pictures turned upright, so that the order in which a file stores them changes nothing.

    Args:
        volume: (T, D, H, W); of several points in time the middle one is taken.

    Returns:
        (16, 64, 64) float32, each slab the mean of its known slices, brightness from -1 to 1, NaN where nothing is known;
        and up to 16 slabs.

    Example:
        >>> ball = Volume(np.arange(5 * 8 * 8, dtype=np.float32).reshape(1, 5, 8, 8), "1", np.diag([-1.0, -1.0, 2.0, 1.0]))
        >>> made = prepare_volume(ball)
        >>> made[0].shape, len(made[1]), made[1][0].words
        ((16, 64, 64), 5, 'axial, slices 1 to 1, -1.0 to 1.0 mm towards H, window 3.19 to 315.8')
    """
    voxels = volume.voxels[len(volume.voxels) // 2]
    known = np.isfinite(voxels)
    if not known.any():
        return None
    window = HU_WINDOW if volume.unit == HU else tuple(float(one) for one in np.percentile(voxels[known], PERCENTILES))
    if window[1] <= window[0]:
        window = (float(voxels[known].min()), float(voxels[known].max()))
    if window[1] <= window[0]:
        return None
    borders = [np.flatnonzero(known.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    inner = voxels[tuple(slice(first, last + 1) for first, last in borders)]
    turned, is_reversed, steps_mm = _turned(inner, volume.affine)
    scaled = np.clip(2 * (turned - window[0]) / (window[1] - window[0]) - 1, -1, 1).astype(np.float32)
    count = min(SLABS, len(scaled))
    edges = np.linspace(0, len(scaled), count + 1).round().astype(int).tolist()
    square = np.full((SLABS, SIDE, SIDE), np.nan, np.float32)
    slabs = []
    offset, last = int(borders[0][0]), int(borders[0][1])
    for number, (start, stop) in enumerate(pairwise(edges)):
        square[number] = _in_square(scaled[start:stop], steps_mm)
        ends = (last - (stop - 1), last - start) if is_reversed else (offset + start, offset + stop - 1)
        slabs.append(_slab(volume, ends, (window[0], window[1])))
    return square, tuple(slabs)


def _turned(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[NDArray[np.float32], bool, tuple[float, float]]:
    """Return voxels counted from right, front or foot, rows from head or front down; whether slices were reversed; row and column steps."""
    to_lps = np.array([-1.0, -1.0, 1.0])
    depth, down, across = (affine[:3, axis] * to_lps for axis in (2, 1, 0))
    letters = [axis_letter(axis) for axis in (depth, down, across)]
    if letters[1] in "LR" or (letters[1] in "AP" and letters[2] in "HF"):
        voxels, down, across = voxels.transpose(0, 2, 1), across, down
        letters = [letters[0], letters[2], letters[1]]
    is_reversed = letters[0] not in "LPH"
    if is_reversed:
        voxels = voxels[::-1]
    if letters[1] not in "PF":  # rows run from front to back, or from head to foot
        voxels = voxels[:, ::-1]
    if letters[2] not in "LP":
        voxels = voxels[:, :, ::-1]
    return voxels, is_reversed, (float(np.linalg.norm(down)), float(np.linalg.norm(across)))


def _slab(volume: Volume, ends: tuple[int, int], window: tuple[float, float]) -> Slab:
    step = volume.affine[:3, 2] * np.array([-1.0, -1.0, 1.0])
    axis = int(np.argmax(np.abs(step)))
    middle = np.array([(volume.voxels.shape[3] - 1) / 2, (volume.voxels.shape[2] - 1) / 2])
    places = []
    for border in (ends[0] - 0.5, ends[1] + 0.5):
        place = volume.affine @ np.array([middle[0], middle[1], border, 1.0])
        places.append(float(place[axis] * (-1.0, -1.0, 1.0)[axis]))
    return Slab(("sagittal", "coronal", "axial")[axis], ends[0], ends[1], places[0], places[1], window)


def _in_square(slices: NDArray[np.float32], steps_mm: tuple[float, float]) -> NDArray[np.float32]:
    """Return the mean of the known slices in a square, true to shape in millimetres; NaN beside it and where less than half is known."""
    known = np.isfinite(slices)
    counts = known.sum(0)
    mean = np.where(counts > 0, np.nan_to_num(slices).sum(0) / np.maximum(counts, 1), 0.0)
    layers = torch.from_numpy(np.stack([mean, counts > 0]).astype(np.float32))[None]
    sizes = np.array(mean.shape) * steps_mm
    height, width = (max(1, round(float(size) * SIDE / float(sizes.max()))) for size in sizes)
    resized = functional.interpolate(layers, (height, width), mode="bilinear", antialias=True)[0]
    value = torch.where(resized[1] > 0.5, resized[0] / resized[1].clamp(min=0.5), torch.nan).clamp(-1, 1)
    square = np.full((SIDE, SIDE), np.nan, np.float32)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = value.numpy()
    return square


class VolumeEncoder(nn.Module):
    """The image network over every slab, pooled to one token each, with the slab's relative place along the stack."""

    pooled_tokens = 0

    def __init__(self, *, width: int = 128, channels: Sequence[int] = (32, 64, 128)) -> None:
        """Build from settings: token width D, and channels after each halving (32 pixels down to 4)."""
        super().__init__()
        self.width, self.tokens = width, SLABS
        self.slices = ImageEncoder(width=width, channels=channels)
        self.place = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.out = nn.LayerNorm(width)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the latest volume that has contrast, or None."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "volume" else None
            made = prepare_volume(loaded) if isinstance(loaded, Volume) else None
            if made is not None:
                slabs, places = made
                ids = tuple((item.id,) if number < len(places) else () for number in range(SLABS))
                time_s = np.where([bool(one) for one in ids], seconds.get(item.id, np.nan), np.nan).astype(np.float32)
                words = tuple(places[number].words if number < len(places) else "" for number in range(SLABS))
                return Prepared({"slabs": slabs, "count": np.array(len(places), np.int64)}, ids, time_s, words)
        return None

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return TwoVolumes(self.width)

    def augment(self, arrays: Mapping[str, Tensor], target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return a training batch with every volume seen in another way."""
        return {**arrays, "slabs": _seen_otherwise(arrays["slabs"])}, target

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return tokens (B, 16, D), slab by slab from the right, front or foot, and mask (B, 16), True where a slab holds picture."""
        slabs = arrays["slabs"]  # (B, 16, 64, 64), NaN where nothing is known
        count = arrays["count"].to(slabs.dtype)[:, None]
        mask = torch.isfinite(slabs).flatten(2).any(2)  # (B, 16)
        batch, number = slabs.shape[:2]
        cells, held = self.slices({"picture": slabs.reshape(batch * number, 1, *slabs.shape[2:])})
        weight = held.to(cells.dtype)[..., None]
        tokens = ((cells * weight).sum(1) / weight.sum(1).clamp(min=1)).reshape(batch, number, -1)
        middle = (torch.arange(number, dtype=slabs.dtype, device=slabs.device)[None] + 0.5) / count  # 0 to 1 along the stack
        tokens = self.out(tokens + self.place(torch.stack([middle, 1.0 / count.expand_as(middle)], -1)))
        return torch.where(mask[..., None], tokens, 0.0), mask


class TwoVolumes(nn.Module):
    """Self-supervised stage: two views of one volume, each of some of its slabs, should be more alike than views of different volumes."""

    def __init__(self, width: int, *, temperature: float = 0.2, dropped: float = 0.3) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 64))
        self.temperature, self.dropped = temperature, dropped

    def forward(self, encoder: VolumeEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the contrastive loss of one batch."""
        views = []
        for _ in range(2):
            slabs = _seen_otherwise(arrays["slabs"])
            gone = torch.rand(slabs.shape[:2]) < self.dropped
            gone[:, 0] &= ~gone.all(1)  # one slab is always left
            tokens, mask = encoder({**arrays, "slabs": torch.where(gone[..., None, None], torch.nan, slabs)})
            weight = mask.to(tokens.dtype)[..., None]
            views.append(self.project((tokens * weight).sum(1) / weight.sum(1).clamp(min=1)))
        return contrastive_loss(views[0], views[1], self.temperature)


def _seen_otherwise(slabs: Tensor) -> Tensor:
    """Return slabs (B, 16, S, S), each cropped, tilted and exposed anew."""
    return augment(slabs.flatten(0, 1)[:, None])[:, 0].reshape(slabs.shape)
