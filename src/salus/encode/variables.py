"""Vitals and labs on a time line: small transformers over one token per variable, and small GRUs over a coarse grid.

Takes numeric items of declared variables (and who the patient is); gives one pooled token per member network. A few hundred deaths
are all there is to learn from, so several small networks with much dropout see the same patient in two ways, and the language model
reads what each of them found. Shapes: B batch, V variables, F statistics, N tokens (one per member), D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.encode.summary import STATISTICS, gridded, summarise
from salus.errors import ConfigError
from salus.record.normalise import is_usable
from salus.record.patient import Item
from salus.record.variables import series_key

GRID_POINTS = 127
IMPUTATIONS = ("none", "forward_fill", "train_median")


class QuantileNormaliser(nn.Module):
    """Maps each feature to about N(0, 1) by its mid-rank among the training patients' quantiles; NaN stays NaN."""

    grid: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("grid", torch.zeros(features, GRID_POINTS))

    def fit(self, features: NDArray[np.float32]) -> None:
        """Set the quantiles from (n, features) of training patients; a feature never seen stays at zero."""
        levels = (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS
        for column in range(features.shape[1]):
            seen = features[:, column][np.isfinite(features[:, column])].astype(np.float64)
            if len(seen):
                self.grid[column] = torch.from_numpy(np.quantile(seen, levels))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, features) normal scores."""
        x = features.T.contiguous()
        below = torch.searchsorted(self.grid, x, right=False)
        up_to = torch.searchsorted(self.grid, x, right=True)
        rank = ((below + up_to) / 2 + 0.5) / (GRID_POINTS + 1)
        return torch.where(features.isnan(), features, torch.special.ndtri(rank).T)


def with_median(normal: Tensor, quantiles: Tensor) -> Tensor:
    """Return normal scores with 0, the training median, for what is missing; a feature that training never saw stays missing.

    Args:
        normal: (n, features), NaN for missing.
        quantiles: (features, Q) of `QuantileNormaliser`, all zero for a feature that was never seen.
    """
    is_known = quantiles.ne(0).any(-1)
    return torch.where(normal.isnan() & is_known, 0.0, normal)


def carried_forward(grid: Tensor) -> Tensor:
    """Return a grid (B, S, V) in which an empty step holds the last value before it; steps before the first value stay NaN.

    Example:
        >>> carried_forward(torch.tensor([[[float("nan")], [5.0], [float("nan")]]])).flatten().tolist()
        [nan, 5.0, 5.0]
    """
    steps = torch.arange(grid.shape[1], device=grid.device).view(1, -1, 1)
    last = torch.where(grid.isnan(), -1, steps).cummax(dim=1).values
    return torch.where(last < 0, grid, grid.gather(1, last.clamp_min(0)))


class Block(nn.Module):
    """Pre-norm transformer layer that updates only its first `queries` tokens; dropout on the residual branches."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, queries: int) -> Tensor:
        """Return (B, queries, D) of tokens (B, T, D); every token is attended to."""
        normed = self.norm_attention(tokens)
        q = self._split(self.query(normed[:, :queries]))
        k, v = (self._split(x) for x in self.key_value(normed).chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens[:, :queries] + self.dropout(self.out(attended))
        return tokens + self.dropout(self.mlp(self.norm_mlp(tokens)))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)  # (B, heads, T, D / heads)


class VariableTransformer(nn.Module):
    """One member: a token per variable from its statistics, a pooling token, two layers."""

    def __init__(self, variables: int, width: int, *, layers: int, dropout: float, variable_dropout: float) -> None:
        super().__init__()
        statistics = len(STATISTICS)
        # A missing statistic adds its own learned vector instead of x · weight: absence is never a zero value.
        self.value_weight = nn.Parameter(torch.randn(variables, statistics, width) * statistics**-0.5)
        self.missing = nn.Parameter(torch.randn(variables, statistics, width) * 0.1 * statistics**-0.5)
        self.variable = nn.Parameter(torch.randn(variables, width) * 0.2)
        self.pool = nn.Parameter(torch.randn(width) * 0.2)
        self.variable_dropout = variable_dropout
        self.blocks = nn.ModuleList(Block(width, 4, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, normal: Tensor, hidden: Tensor | None = None, *, pooled_only: bool = True) -> Tensor:
        """Return (B, 1, D), or (B, 1 + V, D) unless `pooled_only`; the pooled token comes first.

        Args:
            normal: (B, V, F) normalised statistics, NaN for missing.
            hidden: (B, V) bool, variables to show as never measured.
            pooled_only: compute the last layer for the pooled token only.
        """
        is_missing = normal.isnan()
        if self.training and self.variable_dropout > 0:
            drop = torch.rand(normal.shape[:2], device=normal.device) < self.variable_dropout
            hidden = drop if hidden is None else drop | hidden
        if hidden is not None:
            is_missing = is_missing | hidden.unsqueeze(-1)
        both = torch.cat((torch.where(is_missing, 0.0, normal), is_missing.to(normal.dtype)), dim=-1)  # (B, V, 2F)
        weight = torch.cat((self.value_weight, self.missing), dim=1)  # (V, 2F, D)
        tokens = torch.bmm(both.transpose(0, 1), weight).transpose(0, 1) + self.variable
        tokens = torch.cat((self.pool.expand(len(tokens), 1, -1), self.dropout(tokens)), dim=1)  # (B, 1 + V, D)
        for depth, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, 1 if depth == len(self.blocks) and pooled_only else tokens.shape[1])
        return self.norm(tokens)  # type: ignore[no-any-return]


class GridMember(nn.Module):
    """One member: a GRU over the coarse grid, each step with its values and what was measured in it."""

    def __init__(self, variables: int, width: int, *, dropout: float, variable_dropout: float) -> None:
        super().__init__()
        self.variable_dropout = variable_dropout
        self.enter = nn.Sequential(nn.Linear(3 * variables, width), nn.GELU(), nn.Dropout(dropout))
        self.gru = nn.GRU(width, width, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, grid: Tensor, still: Tensor) -> Tensor:
        """Return (B, 1, D).

        Args:
            grid: (B, S, V) normalised, NaN where nothing was measured.
            still: (B, V) last value of each variable over the window, normalised, NaN for never measured.
        """
        if self.training and self.variable_dropout > 0:
            drop = torch.rand(still.shape, device=still.device) < self.variable_dropout
            grid, still = grid.masked_fill(drop[:, None], float("nan")), still.masked_fill(drop, float("nan"))
        seen = ~grid.isnan()
        both = torch.cat([grid.nan_to_num(), seen.float(), still.nan_to_num()[:, None].expand_as(grid)], dim=-1)
        states, _ = self.gru(self.enter(both))
        return self.norm(self.dropout(states.mean(1) + states[:, -1])).unsqueeze(1)  # type: ignore[no-any-return]


class VariableEncoder(nn.Module):
    """Member networks over the same patient; each gives one pooled token."""

    table_arrays = ("features",)

    def __init__(
        self,
        *,
        variables: Sequence[str],
        categories: Mapping[str, Sequence[str]] | None = None,
        width: int = 64,
        members: int = 5,
        grid_members: int = 0,
        window_h: float = 48.0,
        steps: int = 24,
        dropout: float = 0.3,
        variable_dropout: float = 0.15,
        imputation: str = "none",
    ) -> None:
        """Build from settings.

        Args:
            variables: series keys (`heart_rate`, `age`), in a fixed order.
            categories: series key → words; each word becomes a variable that is 0 or 1 (sex, unit type).
            width: D.
            members: transformers over summary statistics.
            grid_members: GRUs over the coarse grid.
            window_h: hours before the prediction time (or from admission) that are read.
            steps: steps of the grid.
            dropout: on residual branches and tokens.
            variable_dropout: chance in training that a variable is told as never measured.
            imputation: `none`: what is missing is told as missing. `forward_fill`: the grid's last value is carried into its empty
                steps. `train_median`: whatever is missing counts as the median of the training patients. A choice other than `none`
                stands in the model folder and in every answer.

        Raises:
            ConfigError: the imputation is none of these.
        """
        super().__init__()
        if imputation not in IMPUTATIONS:
            raise ConfigError(f"Cannot use imputation {imputation!r}: choose one of {', '.join(IMPUTATIONS)}.")
        self.imputation = imputation
        self.width, self.tokens, self.pooled_tokens = width, members + grid_members, members + grid_members
        self.window_h, self.steps = window_h, steps
        self.categories = {key: tuple(words) for key, words in (categories or {}).items()}
        self.names = (*variables, *(f"{key}={word}" for key, words in self.categories.items() for word in words))
        self.place = {name: place for place, name in enumerate(self.names)}
        count = len(self.names)
        self.normaliser = QuantileNormaliser(count * len(STATISTICS))
        self.grid_normaliser = QuantileNormaliser(count)
        self.members = nn.ModuleList(
            VariableTransformer(count, width, layers=2, dropout=dropout, variable_dropout=variable_dropout)
            for _ in range(members)
        )
        self.grid_members = nn.ModuleList(
            GridMember(count, width, dropout=dropout, variable_dropout=variable_dropout) for _ in range(grid_members)
        )

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return summary statistics and grid of one patient, or None when no measured variable is known here."""
        points: list[list[tuple[float, float]]] = [[] for _ in self.names]
        used: list[str] = []
        times = [seconds[item.id] for item in items if item.id in seconds and item.category != "demographic"]
        end_h = max(times, default=0.0) / 3600.0
        start_h = max(0.0, end_h - self.window_h)
        for item in items:
            key, is_constant = series_key(item), item.category == "demographic"
            at = 0.0 if is_constant else seconds.get(item.id, float("nan")) / 3600.0 - start_h
            if isinstance(item.value, str) and key in self.categories:
                for word in self.categories[key]:
                    points[self.place[f"{key}={word}"]].append((at, float(item.value == word)))
            elif item.number is not None and key in self.place and is_usable(item) and at >= 0:  # NaN is not
                points[self.place[key]].append((at, item.number))
                used += [] if is_constant else [item.id]
        if not used:
            return None
        ordered = [sorted(rows) for rows in points]
        hours = [np.array([t for t, _ in rows], dtype=np.float64) for rows in ordered]
        values = [np.array([x for _, x in rows], dtype=np.float64) for rows in ordered]
        arrays = {
            "features": summarise(hours, values, window_h=self.window_h),
            "grid": gridded(hours, values, window_h=self.window_h, steps=self.steps),
        }
        return Prepared(arrays, (tuple(sorted(used)),) * self.tokens, np.full(self.tokens, end_h * 3600.0, dtype=np.float32))

    def fit(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Learn the normalisation from training patients: features (n, V, F), grid (n, S, V)."""
        features, grid = arrays["features"], arrays["grid"]
        self.normaliser.fit(features.reshape(len(features), -1))
        self.grid_normaliser.fit(grid.reshape(-1, grid.shape[-1]))

    def normal(self, features: Tensor) -> Tensor:
        """Return (B, V, F) normal scores."""
        return self.normaliser(features.flatten(1)).view_as(features)  # type: ignore[no-any-return]

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return MaskedSummaries(len(self.members), len(self.names), self.width)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N), True where anything was measured."""
        features = arrays["features"]
        normal = self.normal(features)
        if self.imputation == "train_median":
            normal = with_median(normal.flatten(1), self.normaliser.grid).view_as(normal)
        pooled = [member(normal) for member in self.members]
        if len(self.grid_members):
            grid = carried_forward(arrays["grid"]) if self.imputation == "forward_fill" else arrays["grid"]
            flat = self.grid_normaliser(grid.flatten(0, 1))
            if self.imputation == "train_median":
                flat = with_median(flat, self.grid_normaliser.grid)
            flat = flat.view_as(grid)
            still = normal[:, :, STATISTICS.index("last")]
            pooled += [member(flat, still) for member in self.grid_members]
        is_measured = features.isfinite().flatten(1).any(1)
        return torch.cat(pooled, dim=1), is_measured.unsqueeze(1).expand(-1, self.tokens)


class MaskedSummaries(nn.Module):
    """Self-supervised stage: hide a share of the measured variables and predict their statistics from the others.

    Source: masked feature modelling of tables, after BERT (Devlin et al. 2019, section 3.1).
    """

    def __init__(self, members: int, variables: int, width: int, *, hidden_share: float = 0.3) -> None:
        super().__init__()
        self.hidden_share = hidden_share
        self.decoders = nn.ParameterList(torch.randn(variables, width, len(STATISTICS)) * 0.02 for _ in range(members))

    def forward(self, encoder: VariableEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the sum over members of the smooth L1 loss on hidden, known statistics."""
        x = encoder.normal(arrays["features"])
        hidden = (torch.rand(x.shape[:2], device=x.device) < self.hidden_share) & x.isfinite().any(-1)
        wanted = hidden.unsqueeze(-1) & x.isfinite()
        losses = []
        for member, decoder in zip(encoder.members, self.decoders, strict=True):
            predicted = torch.bmm(member(x, hidden, pooled_only=False)[:, 1:].transpose(0, 1), decoder).transpose(0, 1)
            each = functional.smooth_l1_loss(predicted[wanted], x[wanted], reduction="sum")
            losses.append(each / wanted.sum().clamp_min(1))  # a small batch may hide nothing
        return torch.stack(losses).sum()
