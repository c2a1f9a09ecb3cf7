"""One token from the latest FEV1, FVC and their ratio. Shapes: B batch, D width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.record.normalise import is_usable
from salus.record.patient import Item

COLUMNS = ("fev1_post", "fvc_post")
CENTRE, SCALE = (3.0, 4.0, 0.75), (1.0, 1.0, 0.1)
"""Litres, litres and a ratio, brought near zero and one."""


class SpirometryEncoder(nn.Module):
    """Three numbers to one token; a missing number has its own learned mark."""

    pooled_tokens = 1

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.width, self.tokens = width, 1
        self.missing = nn.Parameter(torch.zeros(3))
        self.register_buffer("centre", torch.tensor(CENTRE))
        self.register_buffer("scale", torch.tensor(SCALE))
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, width), nn.LayerNorm(width))

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the latest usable volumes, litres, and FEV1/FVC; None when there are none."""
        latest: dict[str, Item] = {}
        for item in sorted(items, key=lambda item: seconds.get(item.id, -np.inf)):
            if item.code.code in COLUMNS and item.unit == "L" and item.number is not None and is_usable(item):
                latest[item.code.code] = item
        if not latest:
            return None
        fev1, fvc = (latest[column].number if column in latest else np.nan for column in COLUMNS)
        times = [seconds[item.id] for item in latest.values() if item.id in seconds]
        return Prepared(
            arrays={"volumes": np.array([fev1, fvc, fev1 / fvc], dtype=np.float32)},
            item_ids=(tuple(item.id for item in latest.values()),),
            time_s=np.array([max(times, default=np.nan)], dtype=np.float32),
        )

    def scaled(self, volumes: Tensor) -> Tensor:
        """Return (B, 3) near zero and one, NaN where missing."""
        return (volumes - self.centre) / self.scale

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, 1, D) and mask (B, 1) for `volumes` (B, 3)."""
        scaled = self.scaled(arrays["volumes"])
        known = ~scaled.isnan()
        values = self.layers(torch.where(known, scaled, self.missing))
        return values[:, None], known.any(1, keepdim=True)

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective: find a hidden number from the others."""
        return HiddenNumber(self.width)


class HiddenNumber(nn.Module):
    """Hides one of the three numbers of each patient and predicts it from the token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.predict = nn.Linear(width, 3)

    def forward(self, encoder: SpirometryEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the mean squared error over hidden known numbers, in scaled units."""
        volumes = arrays["volumes"]
        hidden = functional.one_hot(torch.randint(3, (len(volumes),), device=volumes.device), 3).bool()
        values, _ = encoder({"volumes": volumes.masked_fill(hidden, torch.nan)})
        wanted = hidden & ~volumes.isnan()
        error = self.predict(values[:, 0]) - torch.nan_to_num(encoder.scaled(volumes))
        return (error.square() * wanted).sum() / wanted.sum().clamp_min(1)
