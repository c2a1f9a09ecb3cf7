"""What a modality plug-in declares. Needs no torch: networks are built only when `build_encoder` is called.

One file in `salus/modalities/` (or in anybody's package) defines one `MODALITY` and one entry-point line under
`salus.modalities`; it then works in inspect, ask, train and evaluate with no edit anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from salus.record.patient import Item
from salus.record.variables import Variable

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


@dataclass(frozen=True)
class Measurement:
    """A number that code measured from an item's content, by a stated rule."""

    name: str
    """Words for people: `heart rate from R peaks`."""
    value: float
    unit: str
    """UCUM."""
    rule: str
    """How, in one sentence, with its source."""


@dataclass(frozen=True)
class Modality:
    """One kind of clinical evidence."""

    name: str
    """Key, lower snake case."""
    title: str
    """Words for people: `vitals and labs`."""
    claims: tuple[str, ...]
    """Keys of items that belong here (see `salus.record.claims`)."""
    example: Callable[[], tuple[Item, ...]]
    """A tiny synthetic patient's items of this modality, for tests and docs."""
    variables: tuple[Variable, ...] = ()
    token_budget: int = 0
    """Most soft tokens that one patient may spend on this modality."""
    build_encoder: Callable[[Mapping[str, Any]], Encoder] | None = None
    """Network from its settings (the `encoder` mapping of a recipe or model folder); None: shown only."""
    encoder_defaults: Mapping[str, Any] = field(default_factory=dict)
    measure: Callable[[Item], Sequence[Measurement]] | None = None
    """Numbers measured by rule from lazily read content; may load the content."""
