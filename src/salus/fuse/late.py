"""Late fusion: each modality answers alone, and the answers are joined.

`p = Σ_m w_m · softmax((H_m x_m + c_m) · a_m)` over the modalities that are there, `w = softmax(s)`: one head H_m for each modality, a
slope a_m that calibrates it and a stacking weight s_m. Heads learn from the loss of each alone; slopes and weights from the joint one, on
patients that the heads were not fitted on (`LateHead.stack`): those held out or, in `fit_members`, all of them out of fold. The language
model gets the modalities' tokens. Shapes: x_m (B, H), p (B, O). Cost: linear in the number of modalities. Weights: equal ones in `Fused`,
which does not know the head; its own are `LateHead.weights`. Source: Wolpert 1992 (Neural Networks 5(2), stacked generalization); Platt
1999 for the slopes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from salus.fuse.fuser import Fused, FuserConfig, Present, Strategy
from salus.fuse.parts import PartsFuser, shares

STACKING_STEPS = 200


@dataclass(frozen=True)
class LateConfig(FuserConfig):
    """Settings of the fuser."""


class LateHead(nn.Module):
    """One head for each modality, joined."""

    def __init__(self, count: int, width: int, options: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))
        self.heads = nn.ModuleList(nn.Linear(width, options) for _ in range(count))
        self.log_slopes = nn.Parameter(torch.zeros(count), requires_grad=False)
        self.scores = nn.Parameter(torch.zeros(count), requires_grad=False)

    def each(self, fused: Fused) -> Tensor:
        """Return (B, M, O) logits of each modality alone."""
        return torch.stack([head(norm(fused.parts[:, at])) for at, (head, norm) in enumerate(zip(self.heads, self.norms, strict=True))], 1)

    def forward(self, fused: Fused) -> Tensor:
        """Return (B, O) logarithms of the joined probabilities; of a patient without any modality, equal ones."""
        return self._joined(self.each(fused), fused.weights > 0)

    def weights(self, fused: Fused) -> Tensor:
        """Return (B, M) how much each modality's answer counts: the stacking weights of those that are there, 1 in all."""
        here = fused.weights > 0
        return shares(here, self.scores.expand(here.shape))

    def own_loss(self, fused: Fused, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of the heads alone, over the modalities that are there.

        Args:
            fused: a batch.
            target: (B,) index of the right option, or (B, O) shares of the options.
            weights: (O,) of the options; None: equal.
        """
        logits, here = self.each(fused), fused.weights > 0
        count = here.sum().clamp_min(1)
        wanted = target[:, None].expand(*here.shape, *target.shape[1:]).flatten(0, 1)
        losses = functional.cross_entropy(logits.flatten(0, 1), wanted, weight=weights, reduction="none")
        return (losses * here.flatten()).sum() / count

    def stack(self, logits: Tensor, here: Tensor, target: Tensor) -> None:
        """Fit slopes and weights on logits of patients that the heads which gave them were not fitted on.

        Args:
            logits: (n, M, O), as `each` gives them; from these heads or from others that were fitted as these were.
            here: (n, M) bool.
            target: (n,) index of the right option.
        """
        own = [self.log_slopes, self.scores]
        for parameter in own:
            parameter.requires_grad_(True)
        optimiser = torch.optim.Adam(own, lr=0.05)
        for _ in range(STACKING_STEPS):
            optimiser.zero_grad()
            penalty = 0.01 * (self.log_slopes.pow(2).sum() + self.scores.pow(2).sum())
            loss = functional.nll_loss(self._joined(logits, here), target) + penalty
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        for parameter in own:
            parameter.requires_grad_(False)

    def _joined(self, logits: Tensor, here: Tensor) -> Tensor:
        weights = shares(here, self.scores.expand(here.shape))
        weights = torch.where(here.any(-1, keepdim=True), weights, torch.full_like(weights, 1 / here.shape[-1]))
        logprobs = (logits * self.log_slopes.exp()[:, None]).log_softmax(-1)
        logprobs = torch.where(here.any(-1)[:, None, None], logprobs, torch.full_like(logprobs, 1 / logits.shape[-1]).log())
        return torch.logsumexp(logprobs + weights.clamp_min(1e-12).log()[..., None], 1)


class LateFuser(PartsFuser):
    """See the module's text."""

    def __init__(self, config: LateConfig) -> None:
        super().__init__(config, pooled_width=config.hidden * len(config.modalities), fused_tokens=0, keeps_tokens=True)

    def build_head(self, options: int) -> nn.Module:
        """Return fresh heads, one for each modality."""
        return LateHead(len(self.config.modalities), self.config.hidden, options)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch; nothing is joined before the heads."""
        parts = self.projectors(present, batch_size)
        return self.fused(parts, parts.pooled.flatten(1), shares(parts.here), parts.tokens)


STRATEGY = Strategy("late", "each modality answers alone, the answers are stacked", LateConfig, LateFuser)
