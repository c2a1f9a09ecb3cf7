"""What a language model must do for Salus: soft tokens and text in, option scores and checked text out.

Shapes: T sequence tokens, D the model's width. Implementations: `salus.reason.huggingface`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from salus.reason.cross_attention_layers import Reading


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt: text, or soft tokens."""

    text: str = ""
    is_frame: bool = False
    """True for the prompt's own fixed words: only there does a chat template's control token (`<|im_end|>`) act as one. In a note or a
    question it is plain characters, so that evidence cannot end the user's turn."""
    soft: Tensor | None = None
    """(T, D); takes the place of text."""


@dataclass(frozen=True)
class Line:
    """One line that the model wrote."""

    text: str
    mean_logprob: float
    """Mean natural-log probability of its tokens under the model."""
    tokens: int


class Session(Protocol):
    """A prompt prefix that is prefilled once and reused for every further question."""

    def option_logprobs(self, question: Sequence[Piece], options: Sequence[str]) -> list[float]:
        """Return the log-probability of each option as the whole answer."""
        ...

    def write(self, question: Sequence[Piece], drafts: Sequence[str], *, max_new_tokens: int) -> Iterator[Line]:
        """Yield lines as greedy decoding writes them.

        `drafts` are texts that code expects; they only speed decoding up (each is checked in one forward pass, and kept as
        far as it equals what greedy decoding writes), they never change the result.
        """
        ...


class Backbone(Protocol):
    """A causal language model reached through its input embeddings."""

    width: int
    context_length: int
    identity: str
    """Name and hash of the weights."""

    def session(self, prefix: Sequence[Piece], *, uses_adapter: bool = True, reading: Reading | None = None) -> Session:
        """Prefill a prefix, with the adapter (to write) or without it (to judge options).

        `reading` is what inserted cross-attention layers read of this one patient, throughout the session, with the adapter and without.

        Raises:
            ContextLengthError: the prefix does not fit.
        """
        ...

    def token_rms(self) -> float:
        """Return the root mean square of the model's own token embeddings."""
        ...
