"""Fusion through the language model: a fitted fuser's tokens stand before the question, and the frozen model's choice is the answer.

The fuser is fitted with a head and then stays as it is; what turns its vectors into tokens learns to make the language model say what the
head says. Takes token sets with their questions; gives probabilities of the options, calibrated on patients who were held out. Shapes:
B batch, T tokens of a sequence, O options, D the language model's width, P a fuser's pooled width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from salus.errors import ConfigError
from salus.fuse.calibration import calibrated
from salus.fuse.fit import Budget, Ensemble, Fitted, fit_members, parted
from salus.fuse.fuser import Fused, Present
from salus.fuse.parts import scaled
from salus.fuse.token_sets import TokenSets
from salus.reason import prompt
from salus.reason.backbone import Piece
from salus.reason.huggingface import HuggingFaceBackbone

CLIP_NORM = 1.0
CALIBRATION_SHARE = 0.1
"""Of the patients, who have no part in the fit."""
SCORED_AT_ONCE = 64
SUMMARY_TOKENS = 4
CERTAINTY = 1e-4
"""Least probability of the head that is repeated: the language model is not driven further."""


@dataclass(frozen=True)
class RouteBudget:
    """How a fitted fuser is taught to speak to the language model: the same for every strategy of a comparison."""

    steps: int = 60
    batch_size: int = 8
    lr: float = 3e-3
    """Peak; linear warm-up over a tenth of the steps, then cosine to a tenth."""
    weight_decay: float = 0.01


class Speaker(nn.Module):
    """Fitted networks whose vectors stand before the question: the first one's tokens, then a few made of all their pooled vectors.

    `s = W [norm(p_1); …; norm(p_K); r]` for K networks and the logits r (O) of what is read linearly beside them, where it is; s (B, 4, D).
    What their heads read is frozen; `W` and the first one's projections into the language model learn. Cost: 4·D·K·P numbers. Source:
    matching logits, Ba and Caruana 2014 (arXiv 1312.6184, section 2.2).
    """

    def __init__(self, taught: Ensemble, example: tuple[Mapping[str, Present], int], width: int, token_rms: float) -> None:
        super().__init__()
        self.fusers = nn.ModuleList(one.fuser for one in taught.members)
        self.reading, self.token_rms = taught.reading, token_rms
        fused = [_freeze(one, example) for one in taught.members]
        read = len(self.reading.bias) if self.reading else 0
        self.summary = nn.Linear(sum(one.pooled.shape[1] for one in fused) + read, SUMMARY_TOKENS * width)

    def forward(self, present: Mapping[str, Present], batch_size: int) -> Fused:
        """Return the batch fused, with the tokens of the pooled vectors last."""
        each = [fuser(present, batch_size) for fuser in self.fusers]
        pooled = [functional.layer_norm(one.pooled, one.pooled.shape[1:]) for one in each]
        if self.reading is not None:
            pooled.append(_centred(self.reading.logits(present, batch_size)))
        said = scaled(self.summary(torch.cat(pooled, -1)).view(batch_size, SUMMARY_TOKENS, -1), self.token_rms)
        first: Fused = each[0]
        return replace(
            first,
            tokens=torch.cat([first.tokens, said], 1),
            mask=torch.cat([first.mask, first.mask.new_ones(batch_size, SUMMARY_TOKENS)], 1),
            modality=(*first.modality, *[""] * SUMMARY_TOKENS),
            position=(*first.position, *[-1] * SUMMARY_TOKENS),
        )


def _freeze(fitted: Fitted, example: tuple[Mapping[str, Present], int]) -> Fused:
    """Freeze all that a network's head reads; what only makes tokens goes on learning."""
    fitted.fuser.eval()
    fused: Fused = fitted.fuser(*example)
    learned = [one for one in fitted.fuser.parameters() if one.requires_grad]
    read = torch.autograd.grad(fitted.head(fused).sum(), learned, allow_unused=True)
    for one, gradient in zip(learned, read, strict=True):
        one.requires_grad_(gradient is None)
    return fused


class OptionReader:
    """A frozen language model that is asked one question with options about a patient's tokens."""

    def __init__(self, backbone: HuggingFaceBackbone, options: Sequence[str]) -> None:
        self.backbone, self.options = backbone, tuple(options)
        self.first = [backbone.ids(option)[0] for option in options]
        if len(set(self.first)) < len(self.first):
            raise ConfigError(f"Cannot ask with options {', '.join(options)}: two begin with one token. Use words that begin differently.")
        frame = prompt.frame_of(backbone.tokenizer)
        self.frame = frame
        self._table = backbone.core.get_input_embeddings()
        self._before = DynamicCache(config=backbone.core.config)
        with torch.no_grad():
            before = backbone.embed([Piece(text=frame.before_record, is_frame=True)])
            backbone.core.model(inputs_embeds=before[None], past_key_values=self._before, use_cache=True)
            self._after = backbone.embed([Piece(text=frame.after_record, is_frame=True)])
        self._asked: dict[str, Tensor] = {}

    def logits(self, fused: Fused, asked: Sequence[str]) -> Tensor:
        """Return (B, O) logits of the first token of each option, of fused patients who are each asked in their own words."""
        rows = [
            torch.cat([fused.tokens[row][fused.mask[row]].to(self._after.dtype), self._after, self._question(words)])
            for row, words in enumerate(asked)
        ]
        embeds = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        shared = self._before.get_seq_length()
        attention = torch.ones(len(rows), shared + embeds.shape[1], dtype=torch.long)
        for row, one in enumerate(rows):
            attention[row, shared + len(one) :] = 0
        cache = copy.deepcopy(self._before)
        cache.batch_repeat_interleave(len(rows))
        out = self.backbone.core.model(inputs_embeds=embeds, attention_mask=attention, past_key_values=cache, use_cache=True)
        last = torch.stack([out.last_hidden_state[row, len(one) - 1] for row, one in enumerate(rows)])
        return self.backbone.logits(last)[:, self.first]

    def _question(self, words: str) -> Tensor:
        if words not in self._asked:
            text = prompt.words(self.frame, prompt.question_text(words, [], self.options))
            with torch.no_grad():
                self._asked[words] = self.backbone.embed(text)
        return self._asked[words]


@dataclass
class Routed:
    """A fuser that speaks to the language model, with its calibration."""

    reader: OptionReader
    fuser: nn.Module
    slope: Tensor
    bias: Tensor
    parameters: int
    """Of the networks and what speaks for them; the language model's are not among them."""

    @torch.no_grad()
    def probabilities(self, sets: TokenSets) -> NDArray[np.float64]:
        """Return (n, O), calibrated."""
        self.fuser.eval()
        return cast(NDArray[np.float64], (_scores(self.reader, self.fuser, sets) * self.slope + self.bias).softmax(-1).double().numpy())


def fit_route(
    reader: OptionReader, sets: TokenSets, settings: Mapping[str, Any], budget: Budget, route: RouteBudget, *, seed: int
) -> Routed:
    """Return a fuser, fitted with its own head first and then through the language model.

    Args:
        reader: the language model and the options.
        sets: standardised, with the words of each question.
        settings: `strategy` and its settings.
        budget: of the first fit, whose heads are the teacher.
        route: of the second.
        seed: of everything that is drawn.

    Raises:
        ConfigError: the patients' questions have no words.
    """
    if len(sets.asked) != len(sets):
        raise ConfigError(f"Cannot ask the language model: {len(sets.asked)} of {len(sets)} patients have a question. Read `asked` too.")
    backbone = reader.backbone
    settings = {"token_rms": backbone.token_rms(), **settings}
    training, held = parted(sets, CALIBRATION_SHARE, seed)
    taught = fit_members(training, settings, budget, options=len(reader.options), seed=seed, width=backbone.width)
    torch.manual_seed(seed)
    few = np.arange(min(len(training), 2))
    speaker = Speaker(taught, (training.batch(few), len(few)), backbone.width, backbone.token_rms()).eval()
    _teach(reader, speaker, training, _said(taught, training), route, seed=seed)
    with torch.no_grad():
        scores = _scores(reader, speaker, held)
    slope, bias = calibrated(scores, torch.from_numpy(held.answers))
    return Routed(reader, speaker, slope, bias, sum(one.numel() for one in speaker.parameters()))


def _said(taught: Ensemble, sets: TokenSets) -> Tensor:
    """Return (n, O) what the heads say, as logits with mean 0."""
    return _centred(torch.from_numpy(taught.probabilities(sets)).float().clamp(CERTAINTY, 1 - CERTAINTY).log())


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(-1, keepdim=True)


def _teach(reader: OptionReader, speaker: Speaker, training: TokenSets, said: Tensor, route: RouteBudget, *, seed: int) -> None:
    """Bring the language model's logits of the options to what the heads say; without dropout, for the heads' answers have none."""
    learned = [one for one in speaker.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=route.lr, weight_decay=route.weight_decay)
    for step, rows in enumerate(_batches(len(training), route, np.random.default_rng(seed))):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, route)
        scores = reader.logits(speaker(training.batch(rows), len(rows)), [training.asked[row] for row in rows])
        loss = functional.mse_loss(_centred(scores), said[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, CLIP_NORM)
        optimiser.step()


def _batches(count: int, route: RouteBudget, source: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    deck: list[int] = []
    for _ in range(route.steps):
        while len(deck) < route.batch_size:
            deck += source.permutation(count).tolist()
        yield np.array([deck.pop() for _ in range(route.batch_size)], np.int64)


def _rate(step: int, route: RouteBudget) -> float:
    warm = max(1, route.steps // 10)
    if step < warm:
        return route.lr * (step + 1) / warm
    return route.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, route.steps - warm))))


def _scores(reader: OptionReader, fuser: nn.Module, sets: TokenSets) -> Tensor:
    parts = []
    for start in range(0, len(sets), SCORED_AT_ONCE):
        rows = np.arange(start, min(start + SCORED_AT_ONCE, len(sets)))
        parts.append(reader.logits(fuser(sets.batch(rows), len(rows)), [sets.asked[row] for row in rows]))
    return torch.cat(parts)
