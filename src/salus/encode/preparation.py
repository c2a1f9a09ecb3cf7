"""An encoder's own preparation of one item, for `salus.record.ingest`.

Takes an encoder and the settings that it was built from; gives a `Preparation`. Leaves out what an encoder makes of several items together
(a series of values): that is prepared by patient.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from salus.encode.encoder import Encoder
from salus.record.ingest import Preparation
from salus.record.patient import Item


def preparation_of(name: str, encoder: Encoder, settings: Mapping[str, Any]) -> Preparation:
    """Return how the encoder of a modality prepares one item with content.

    Args:
        name: of the modality.
        encoder: built from `settings`; its weights do not matter.
        settings: part of the key under which arrays are kept.
    """

    def make(item: Item) -> Mapping[str, NDArray[Any]] | None:
        prepared = encoder.prepare([item], {}) if item.content is not None else None
        return None if prepared is None else prepared.arrays

    is_training = bool(getattr(encoder, "training", False))  # some prepare more views of an item to learn from
    return Preparation(name, make, json.dumps([settings, is_training], sort_keys=True, default=str), (type(encoder).__module__,))
