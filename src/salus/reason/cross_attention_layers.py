"""Gated cross-attention layers inside a frozen language model: the second way in for a patient's tokens, beside the prefix.

Before every k-th decoder layer: `y = x + tanh(a) · Attention(q = x, k = v = tokens)`, then `y + tanh(b) · FFW(y)`; the gates a and b are 0
at first, so that the model begins as the text-only one, exactly. Every position of the text reads all tokens of its own patient, so what
was cached stays true. Shapes: x (B, S, D) text, tokens (B, T, D), mask (B, T), A the attention's width, F the network's. Weights of one
layer: 4·D·A + 2·D·F + 6·D + 2. Cost of one text token in one layer: O(D·A + T·A + D·F); keys and values of the tokens, O(T·D·A), are made
once for each patient. Source: Alayrac et al. 2022 (Flamingo, arXiv 2204.14198, section 2.2). transformers has such layers in
Idefics and Mllama, tied to those models' settings. Leaves out how tokens are made, and which records get which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from salus.config import settings_from
from salus.errors import Bug, ConfigError

HEAD_WIDTH = 64
"""Width of one head of the attention, as in Flamingo."""
PREFIX, CROSS_ATTENTION = WAYS = ("prefix", "cross_attention")
"""Values of `into` in the fuser's settings: tokens before the text, or layers that read them."""


@dataclass(frozen=True)
class CrossAttentionSettings:
    """Settings of the inserted layers: keys beside `into: cross_attention`."""

    every: int = 6
    """A layer before each so many-th decoder layer (6: before layers 6, 12, 18, …)."""
    from_layer: int = 1
    """No layer before decoder layers below this one, counted from 1; training goes back through the language model no farther."""
    attention_width: int = 256
    """A; a multiple of 64, the width of a head."""
    feedforward_width: int = 512
    """F."""
    lr_scale: float = 1.0
    """Learning rate of the layers, as a multiple of the stage's."""


class GatedCrossAttention(nn.Module):
    """One inserted layer; float32, whatever the language model's type."""

    def __init__(self, width: int, settings: CrossAttentionSettings) -> None:
        super().__init__()
        inner = settings.attention_width
        self.heads = inner // HEAD_WIDTH
        self.norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width, bias=False)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, settings.feedforward_width, bias=False),
            nn.GELU(),
            nn.Linear(settings.feedforward_width, width, bias=False),
        )
        self.attention_gate, self.feedforward_gate = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return two (B, heads, T, A / heads) of tokens (B, T, D)."""
        normed = self.token_norm(tokens)
        return self._by_head(self.key(normed)), self._by_head(self.value(normed))

    def forward(self, text: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return the text (B, S, D) after reading; a patient without any token gets it back unchanged.

        Args:
            text: (B, S, D), any floating type.
            keys: of the patients' tokens.
            values: of the patients' tokens.
            mask: (B, T) bool, True for tokens that are there.
        """
        there = mask.any(1)
        if not bool(there.any()):
            return text
        open_mask = mask | ~there[:, None]  # one without tokens attends to anything, and the result is dropped
        queries = self._by_head(self.query(self.norm(text.to(keys.dtype))))
        found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=open_mask[:, None, None])
        read = self.attention_gate.tanh() * self.out(found.transpose(1, 2).flatten(2))
        text = text + torch.where(there[:, None, None], read, 0.0).to(text.dtype)
        more = self.feedforward_gate.tanh() * self.feedforward(text.to(keys.dtype))
        return text + torch.where(there[:, None, None], more, 0.0).to(text.dtype)

    def _by_head(self, vectors: Tensor) -> Tensor:
        return vectors.view(*vectors.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)  # (B, T, A) to (B, heads, T, A / heads)


@dataclass(frozen=True)
class Reading:
    """What the inserted layers read in one forward pass: one row of tokens for each row of text."""

    layers: Mapping[int, GatedCrossAttention]
    """Index of a decoder layer → the layer before it."""
    keys_and_values: Mapping[int, tuple[Tensor, Tensor]]
    mask: Tensor
    """(B, T) bool."""

    def read(self, place: int, text: Tensor) -> Tensor:
        """Return the text (B, S, D) as the decoder layer at a place gets it."""
        if place not in self.layers:
            return text
        if text.shape[0] != self.mask.shape[0]:  # CAUTION: broadcasting would give one patient's tokens to another
            raise Bug(f"Cannot read evidence: {text.shape[0]} rows of text and tokens of {self.mask.shape[0]} patients.")
        return self.layers[place](text, *self.keys_and_values[place], self.mask)  # type: ignore[no-any-return]


class CrossAttentionLayers(nn.Module):
    """The inserted layers of one model, by the index of the decoder layer that follows."""

    def __init__(self, settings: CrossAttentionSettings, depth: int, width: int) -> None:
        """Make the layers.

        Args:
            settings: which and how wide.
            depth: decoder layers of the language model.
            width: D.

        Raises:
            ConfigError: the settings give no layer.
        """
        super().__init__()
        places = [place for place in range(depth) if (place + 1) % settings.every == 0 and place + 1 >= settings.from_layer]
        if not places:
            raise ConfigError(
                f"Cannot insert cross-attention layers: the language model has {depth} layers, every is {settings.every} and from_layer "
                f"{settings.from_layer}. Lower them."
            )
        self.settings = settings
        self.layers = nn.ModuleDict({str(place): GatedCrossAttention(width, settings) for place in places})

    def reading(self, tokens: Tensor, mask: Tensor) -> Reading:
        """Return what the layers read of tokens (B, T, D) with their mask (B, T); gradients reach the tokens."""
        someone = mask.any(0)  # a patient alone has no masked tokens left, so that more of them change no bit
        tokens, mask = tokens[:, someone], mask[:, someone]
        kept = tokens.masked_fill(~mask[..., None], 0.0)  # whatever a masked token holds, not a number included
        layers = {int(place): cast(GatedCrossAttention, layer) for place, layer in self.layers.items()}
        return Reading(layers, {place: layer.keys_and_values(kept) for place, layer in layers.items()}, mask)


def into_of(fuser: Mapping[str, Any]) -> tuple[dict[str, Any], CrossAttentionSettings | None]:
    """Return the fuser's own settings, and those of the inserted layers where the tokens go in by them.

    Args:
        fuser: as a recipe or a model folder holds it: `strategy`, `into`, and the settings of both.

    Raises:
        ConfigError: `into` is unknown, or a setting of the layers does not fit.

    Example:
        >>> into_of({"strategy": "gated", "into": "cross_attention", "every": 3})
        ({'strategy': 'gated'}, CrossAttentionSettings(every=3, from_layer=1, attention_width=256, feedforward_width=512, lr_scale=1.0))
        >>> into_of({"strategy": "gated"})
        ({'strategy': 'gated'}, None)
    """
    into = fuser.get("into", PREFIX)
    if into not in WAYS:
        raise ConfigError(f"Cannot use fuser.into {into!r}: it is unknown. Ways into the language model: {', '.join(WAYS)}.")
    rest = {name: value for name, value in fuser.items() if name != "into"}
    if into == PREFIX:
        return rest, None
    own = [one.name for one in fields(CrossAttentionSettings)]
    settings = settings_from(CrossAttentionSettings, {name: value for name, value in rest.items() if name in own}, "fuser")
    for name in own:
        if not getattr(settings, name) > 0:
            raise ConfigError(f"Cannot use fuser.{name} {getattr(settings, name)}: it must be above 0.")
    if settings.attention_width % HEAD_WIDTH:
        raise ConfigError(f"Cannot use fuser.attention_width {settings.attention_width}: it must be a multiple of {HEAD_WIDTH}.")
    return {name: value for name, value in rest.items() if name not in own}, settings


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the decoder layers of a transformers causal language model: its one list of `num_hidden_layers` modules.

    Raises:
        ConfigError: it has none, or several.
    """
    depth = getattr(model.config, "num_hidden_layers", None)
    found = {name: part for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth}
    if len(found) != 1:
        names = f"it has {len(found)} lists of {depth} modules" + (f" ({', '.join(found)})" if found else "")
        raise ConfigError(
            f"Cannot insert cross-attention layers into a {type(model).__name__}: {names}, and one is wanted. "
            "Set fuser.into to 'prefix', or choose another backbone."
        )
    return next(iter(found.values()))


_READ: ContextVar[Reading | None] = ContextVar("salus_reading", default=None)
"""Of the forward pass that is running: each thread and each task has its own, and none outside `read_by`."""


@contextmanager
def read_by(reading: Reading | None) -> Iterator[None]:
    """Run a forward pass in which the opened decoder layers read this; afterwards they read what they did before, also after an error."""
    mark = _READ.set(reading)
    try:
        yield
    finally:
        _READ.reset(mark)


def open_layers(layers: nn.ModuleList) -> None:
    """Let decoder layers read what `read_by` gives; without it they stay as they are. The layers' tensors and names do not change."""
    for place, layer in enumerate(layers):
        layer.register_forward_pre_hook(_Opening(place), with_kwargs=True)


@dataclass(frozen=True)
class _Opening:
    """What runs before one decoder layer."""

    place: int

    def __call__(self, layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        reading = _READ.get()
        if reading is None:
            return None
        if given:
            return (reading.read(self.place, given[0]), *given[1:]), named
        return given, {**named, "hidden_states": reading.read(self.place, named["hidden_states"])}
