"""The answer that Salus gives: statements with their evidence, confidence and limits. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verification = Literal["verified", "mended", "added", "withheld", "not_a_claim"]


@dataclass(frozen=True)
class Statement:
    """One claim, with the items it rests on."""

    text: str
    item_ids: tuple[str, ...]
    confidence: float | None
    """Calibrated probability that the statement is right, fitted on `val`; None: no calibration applies."""
    verification: Verification
    """`verified`: every number, unit, direction and code was found in the cited items; `mended`: the model's wording failed
    that check and the looked-up fact stands in its place; `added`: the model left out a fact that an overview has to name by rule;
    `withheld`: the wording failed and nothing could replace it, or its confidence is too low."""
    short: str = ""
    """Shortest form of the answer (`2.4 mg/dL at 40 h 30 min`), for exact match."""
    support: str = ""
    """The looked-up fact in full, as code words it."""
    draft: str = ""
    """What the language model wrote before verification."""
    mean_logprob: float = 0.0
    """Mean natural-log probability of the draft's tokens under the language model."""
    certainty: float = 1.0
    """Probability that the question asks for this kind of fact, from its wording."""

    @property
    def is_standing(self) -> bool:
        """Whether it is given to the reader as a claim."""
        return self.verification in ("verified", "mended", "added")


@dataclass(frozen=True)
class OptionScore:
    """Probability of one declared option."""

    option: str
    probability: float
    is_calibrated: bool
    """True only for a question whose calibration was fitted on `val`."""


@dataclass(frozen=True)
class Disclosure:
    """What every rendered answer says about itself."""

    text: str
    model: str
    version: str
    backbone: str


@dataclass(frozen=True)
class Answer:
    """One answer to one question about one patient."""

    question: str
    subject_id: str
    prediction_time: str | None
    statements: tuple[Statement, ...]
    options: tuple[OptionScore, ...]
    option_item_ids: tuple[str, ...]
    """Items that the option probabilities rest on."""
    abstained: str | None
    """Why no answer is given, or None."""
    limits: tuple[str, ...]
    """Modalities shown but not interpreted, missing ones, truncation, and the like."""
    disclosure: Disclosure
    seconds: Mapping[str, float]
    """Wall time by stage."""

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values."""
        return asdict(self)
