"""Waveforms on a time line: one token per second, from a small 1-D residual network over named leads.

Takes `Signal` content of any rate and lead order; resamples to one rate, puts leads in a fixed order, and tells missing leads and
missing samples by masks, never by zeros alone. Shapes: B batch, C leads, S samples, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.record.patient import Item, Signal

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MOST_FACTOR = 1000
"""Largest numerator or denominator when two rates are matched."""


def aligned(signal: Signal, *, leads: Sequence[str], rate_hz: float, seconds: float) -> NDArray[np.float32]:
    """Return (C, S) with leads in the given order at the given rate, NaN where a lead or a sample is missing.

    Each lead is centred on its median and scaled by its interquartile range, so gain and baseline do not matter.

    Args:
        signal: any leads, rate and length.
        leads: wanted order; names are compared without case (`MLII` counts as `II`).
        rate_hz: wanted rate.
        seconds: wanted length, from the start; a shorter signal ends in NaN.
    """
    names = {
        name.upper().removeprefix("ML") if name.upper() in {"MLI", "MLII", "MLIII"} else name.upper(): row
        for row, name in enumerate(signal.leads)
    }
    wanted = round(rate_hz * seconds)
    out = np.full((len(leads), wanted), np.nan, dtype=np.float32)
    keep = int(np.ceil(seconds * signal.sampling_rate_hz))
    ratio = Fraction(rate_hz / signal.sampling_rate_hz).limit_denominator(MOST_FACTOR)
    for place, lead in enumerate(leads):
        row = names.get(lead.upper())
        if row is None:
            continue
        samples = signal.samples[row, :keep].astype(np.float64)
        known = np.isfinite(samples)
        if known.sum() < 2:
            continue
        low, middle, high = np.percentile(samples[known], [25, 50, 75])
        scaled = (np.where(known, samples, middle) - middle) / max(high - low, 1e-6)
        at_rate = resample_poly(scaled, ratio.numerator, ratio.denominator)[:wanted]
        gaps = (
            np.interp(np.arange(len(at_rate)) / rate_hz, np.arange(len(known)) / signal.sampling_rate_hz, (~known).astype(float))
            > 0
        )
        out[place, : len(at_rate)] = np.where(gaps, np.nan, np.clip(at_rate, -20, 20))
    return out


class _Residual(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 7, stride=stride, padding=3),
            nn.GroupNorm(4, width),
            nn.GELU(),
            nn.Conv1d(width, width, 7, padding=3),
        )
        self.skip = nn.AvgPool1d(stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, S / stride)."""
        return nn.functional.gelu(self.body(x) + self.skip(x))


class SignalEncoder(nn.Module):
    """Waveforms to one token per second."""

    pooled_tokens = 0

    def __init__(self, *, width: int = 64, seconds: int = 10, rate_hz: int = 100, leads: Sequence[str] = LEADS) -> None:
        super().__init__()
        self.width, self.tokens, self.rate_hz = width, seconds, rate_hz
        self.leads = tuple(leads)
        self.stem = nn.Conv1d(2 * len(self.leads), width, 9, stride=2, padding=4)
        self.layers = nn.Sequential(_Residual(width, 2), _Residual(width, 5), _Residual(width, 5))
        self.norm = nn.LayerNorm(width)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the first usable waveform, aligned, or None when no known lead is there."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "signal" else None
            if isinstance(loaded, Signal):
                samples = aligned(loaded, leads=self.leads, rate_hz=self.rate_hz, seconds=self.tokens)
                if np.isfinite(samples).any():
                    start = seconds.get(item.id, float("nan"))
                    time_s = (start + np.arange(self.tokens)).astype(np.float32)
                    seen = np.asarray(np.isfinite(samples).reshape(-1, self.tokens, self.rate_hz).any(axis=(0, 2)))
                    return Prepared({"samples": samples}, tuple((item.id,) if here else () for here in seen), time_s)
        return None

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return MaskedSamples(self.width, len(self.leads) * self.rate_hz)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N) for samples (B, C, S)."""
        samples = arrays["samples"]
        known = torch.isfinite(samples)
        both = torch.cat([torch.nan_to_num(samples), known.float()], dim=1)
        values = self.norm(self.layers(self.stem(both)).transpose(1, 2))
        mask = known.any(1).reshape(len(samples), self.tokens, self.rate_hz).any(-1)
        return values, mask


class MaskedSamples(nn.Module):
    """Self-supervised stage: hide whole seconds and predict their samples from the rest.

    Source: masked autoencoding (He et al. 2022, arXiv 2111.06377) on one-second patches.
    """

    def __init__(self, width: int, patch: int, *, hidden_share: float = 0.3) -> None:
        super().__init__()
        self.predict = nn.Linear(width, patch)
        self.hidden_share = hidden_share

    def forward(self, encoder: SignalEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the mean squared error on hidden, known samples."""
        samples = arrays["samples"]
        batch, leads, _ = samples.shape
        hide = torch.rand(batch, encoder.tokens, device=samples.device) < self.hidden_share
        cover = hide.repeat_interleave(encoder.rate_hz, dim=1)[:, None]
        values, _ = encoder({"samples": samples.masked_fill(cover, float("nan"))})
        guess = self.predict(values).reshape(batch, encoder.tokens, leads, encoder.rate_hz)
        truth = samples.reshape(batch, leads, encoder.tokens, encoder.rate_hz).permute(0, 2, 1, 3)
        wanted = hide[:, :, None, None] & torch.isfinite(truth)
        if not bool(wanted.any()):
            nothing: Tensor = guess.sum() * 0.0
            return nothing
        return functional.mse_loss(guess[wanted], truth[wanted])
