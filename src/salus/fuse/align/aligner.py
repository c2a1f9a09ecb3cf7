"""The aligner: one small projector for each modality, from a frozen encoder's tokens to one unit sphere.

Takes token sets; gives (n, S) unit vectors. Saved and loaded strictly: a wrong, missing or extra tensor is an error. Leaves out the
encoders: they stay as they are. Shapes: n patients, N tokens, D their width, K kept components, S the sphere's width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from salus.config import settings_from
from salus.errors import ConfigError, ModelError
from salus.fuse.token_sets import Tokens, TokenSets

FORMAT = 1


@dataclass(frozen=True)
class AlignerConfig:
    """Settings of the projectors."""

    widths: Mapping[str, int]
    """Modality → width D of its tokens."""
    sphere: int = 64
    """S."""
    hidden: int = 0
    """Units of a hidden layer; 0: the projector is linear."""
    components: int = 64
    """K: most principal components that are kept of the pooled tokens."""
    ridge: float = 1.0
    """Added to each component's variance before it is divided out; the mean variance is 1."""
    dropout: float = 0.2
    """Of components, in training."""
    noise: float = 0.1
    """Deviation of the noise on components, in training."""
    pool: Literal["mean", "attention"] = "mean"
    """How tokens become one vector: their mean, or a learned query's attention."""
    start: Literal["random", "correlated"] = "correlated"
    """Weights before the first step: random, or the directions in which the training pairs correlate (linear projectors alone)."""


class Projector(nn.Module):
    """Tokens of one modality to the sphere."""

    mean: Tensor
    spread: Tensor
    whiten: Tensor

    def __init__(self, width: int, config: AlignerConfig) -> None:
        super().__init__()
        kept = min(config.components, width)
        self.noise, self.ridge = config.noise, config.ridge
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("whiten", torch.eye(width, kept))
        self.query = nn.Parameter(torch.zeros(width)) if config.pool == "attention" else None
        self.dropout = nn.Dropout(config.dropout)
        if config.hidden:
            layers = [nn.Linear(kept, config.hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, config.sphere)]
            self.project: nn.Module = nn.Sequential(*layers)
        else:
            self.project = nn.Linear(kept, config.sphere, bias=False)

    def pooled(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return (B, D): the mean of the tokens that count, or their attention by the query."""
        moved = (values - self.mean) / self.spread
        if self.query is None:
            share = mask.to(moved.dtype) / mask.sum(1, keepdim=True).clamp_min(1)
        else:
            scores = (moved @ self.query / moved.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
            share = scores.softmax(1).nan_to_num(0.0)
        return (torch.where(mask[..., None], moved, 0.0) * share[..., None]).sum(1)

    @torch.no_grad()
    def fit(self, tokens: Tokens) -> None:
        """Learn means, spreads and principal components from the patients who have the modality; weights are not touched.

        Args:
            tokens: of training patients.
        """
        seen = torch.from_numpy(tokens.values[tokens.mask])
        if len(seen) < 2:
            return
        self.mean.copy_(seen.mean(0))
        spread = seen.std(0)
        self.spread.copy_(torch.where(spread > 1e-6, spread, 1.0))
        there = np.flatnonzero(tokens.mask.any(1))
        values, mask = torch.from_numpy(tokens.values[there]), torch.from_numpy(tokens.mask[there])
        share = mask.float() / mask.sum(1, keepdim=True)
        table = (torch.where(mask[..., None], (values - self.mean) / self.spread, 0.0) * share[..., None]).sum(1)
        _, sizes, directions = torch.linalg.svd(table - table.mean(0), full_matrices=False)
        variance = sizes.square() / len(table)
        kept = min(self.whiten.shape[1], len(sizes))
        scale = (variance + self.ridge * variance.sum() / table.shape[1]).clamp_min(1e-8).rsqrt()
        self.whiten.zero_()
        self.whiten[:, :kept] = (directions * scale[:, None])[:kept].T

    def components(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return (B, K) whitened components of patients who have at least one token that counts."""
        return self.pooled(values, mask) @ self.whiten

    def placed(self, components: Tensor) -> Tensor:
        """Return (B, S) unit vectors of components (B, K), with dropout and noise in training."""
        if self.training:
            components = self.dropout(components + self.noise * torch.randn_like(components))
        return functional.normalize(self.project(components), dim=-1)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return (B, S) unit vectors of patients who have at least one token that counts."""
        return self.placed(self.components(values, mask))


class Aligner(nn.Module):
    """Projectors by modality."""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config
        self.projectors = nn.ModuleDict({name: Projector(width, config) for name, width in config.widths.items()})

    def projector(self, name: str) -> Projector:
        """Return the projector of a modality.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.projectors:
            raise ConfigError(f"Cannot align modality {name!r}: this aligner has {', '.join(self.projectors)}.")
        return cast(Projector, self.projectors[name])

    def fit_inputs(self, sets: TokenSets) -> None:
        """Learn each modality's mean, spread and components from training patients."""
        for name in self.projectors:
            self.projector(name).fit(sets.modalities[name])

    @torch.no_grad()
    def embed(self, name: str, tokens: Tokens) -> NDArray[np.float32]:
        """Return (n, S) float32 vectors of length 1, as an index of similar cases takes them; NaN for who has no token that counts.

        Args:
            name: the modality.
            tokens: of n patients.

        Raises:
            ConfigError: there is no projector for the modality, or the tokens have another width.
        """
        projector, was_training = self.projector(name), self.training
        if tokens.values.shape[2] != len(projector.mean):
            raise ConfigError(
                f"Cannot embed {name!r}: tokens of width {tokens.values.shape[2]}, the projector takes {len(projector.mean)}. "
                "Use the encoder that it was fitted with."
            )
        self.eval()
        there = np.asarray(tokens.mask.any(1))
        made = np.full((len(there), self.config.sphere), np.nan, np.float32)
        if there.any():
            made[there] = projector(torch.from_numpy(tokens.values[there]), torch.from_numpy(tokens.mask[there])).numpy()
        self.train(was_training)
        return made


def save_aligner(aligner: Aligner, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` with the list of tensors.

    Args:
        aligner: fitted.
        folder: made when missing; files are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in aligner.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    listed = {name: list(tensor.shape) for name, tensor in sorted(tensors.items())}
    text = json.dumps({"format": FORMAT, "aligner": asdict(aligner.config), "tensors": listed}, indent=1)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def load_aligner(folder: Path) -> Aligner:
    """Return an aligner in evaluation mode.

    Raises:
        ModelError: a file is missing or damaged, or a tensor is missing, extra or misshapen.
        ConfigError: a setting is unknown.
    """
    path = folder / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        settings, listed, form = tree["aligner"], tree["tensors"], tree["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"Cannot load aligner '{folder}': config.json is missing or damaged. Restore the folder.") from None
    if form != FORMAT:
        raise ModelError(f"Cannot load aligner '{folder}': format {form!r}, this program reads {FORMAT}. Use the matching version.")
    aligner = Aligner(settings_from(AlignerConfig, settings, str(path)))
    try:
        with safe_open(str(folder / "model.safetensors"), framework="pt") as stream:
            found = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  (not a mapping)
    except (OSError, SafetensorError):
        raise ModelError(f"Cannot load aligner '{folder}': model.safetensors is missing or damaged. Restore the folder.") from None
    wanted = aligner.state_dict()
    expected = set(wanted) | set(listed)
    kinds = {
        "is missing": sorted(expected - set(found)),
        "is not part of this aligner": sorted(set(found) - expected | (set(found) - set(wanted))),
        "has another shape": [name for name in sorted(set(wanted) & set(found)) if wanted[name].shape != found[name].shape],
    }
    for kind, names in kinds.items():
        if names:
            raise ModelError(
                f"Cannot load aligner '{folder}': tensor {names[0]!r} {kind}; {len(names)} such in all. "
                "Restore the folder; nothing was loaded."
            )
    aligner.load_state_dict(found)
    return aligner.eval()
