"""Solved cases of other patients beside a question (in-context learning): what is shown, and how much of it fits the context.

Takes turns, least similar first, and room in tokens; gives the turns that fit whole. Leaves out which cases these are
(`salus.reason.cases`) and how they are encoded (`salus.in_context`).

Source: Flamingo (Alayrac et al. 2022, arXiv 2204.14198): examples that carry their own pictures, interleaved with their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from salus.reason.backbone import Piece
from salus.reason.prompt import Turn


@dataclass(frozen=True)
class Shown:
    """Solved cases of other patients that stand before a question with options."""

    turns: tuple[Turn, ...]
    """Least similar first, so that the most similar one stands next to the patient."""
    modalities: frozenset[str]
    """Those that the cases carry; the patient is shown with the same."""
    cases: str
    """Fingerprint of the index that they came from."""
    words: str
    """What the answer says of them; it names no patient."""

    @property
    def fitted_as(self) -> tuple[int, str]:
        """Number of cases and fingerprint by which a calibration is found; without a case, that of no cases."""
        return (len(self.turns), self.cases) if self.turns else (0, "")


def tokens_of(pieces: Sequence[Piece], ids: Callable[..., Sequence[int]]) -> int:
    """Return how many tokens the language model reads for pieces of a prompt.

    Args:
        pieces: text and soft tokens.
        ids: `ids` of the backbone.
    """
    return sum(len(ids(piece.text, is_frame=piece.is_frame)) if piece.soft is None else len(piece.soft) for piece in pieces)


def fitting(turns: Sequence[Turn], costs: Sequence[int], room: int) -> tuple[Turn, ...]:
    """Return the turns that fit, whole: the least similar, which come first, are dropped first.

    Args:
        turns: least similar first.
        costs: tokens of each.
        room: tokens left beside the patient and the question.

    Example:
        >>> fitting(["far", "near"], [30, 20], 40)
        ('near',)
    """
    kept = len(turns)
    while kept and sum(costs[len(turns) - kept :]) > room:
        kept -= 1
    return tuple(turns[len(turns) - kept :])
