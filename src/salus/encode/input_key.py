"""The key under which what an encoder made of a patient may be kept: all that the result depends on, and nothing that names the patient.

Takes a modality, its encoder's settings and the items; gives a SHA-256. Another unit, window, time, imputation or order of leads is
another key; the order of items and the folder that they came from are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from salus.record.patient import Item, ObservedTime


def input_key(modality: str, settings: Mapping[str, Any], items: Sequence[Item], seconds: Mapping[str, float]) -> str:
    """Return the key of one patient's network input, 64 hex digits.

    Args:
        modality: name of the plug-in.
        settings: of the encoder, as in a recipe or a model folder; they hold window, resampling and imputation.
        items: as given to `Encoder.prepare`; an item's id stands for its bytes, its steps for what was done to them.
        seconds: as given to `Encoder.prepare`.

    Example:
        >>> from salus.record.patient import Code, Normalisation, Source
        >>> item = Item("a", "vitals_labs", Code("", "", ""), Source("", ""), value=37.0)
        >>> step = Normalisation("unit", (("from_value", 98.6),))
        >>> keys = {input_key("vitals_labs", settings, [one], {}) for settings in ({}, {"imputation": "train_median"})
        ...         for one in (item, Item(**{**vars(item), "normalised": (step,)}))}
        >>> len(keys)
        4
    """
    rows = sorted(_row(item, seconds.get(item.id)) for item in items)
    tree = {"modality": modality, "settings": dict(settings), "items": rows}
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def _row(item: Item, at_s: float | None) -> str:
    times: tuple[ObservedTime | None, ...] = (item.observed_at, item.ended_at)
    known = {
        "id": item.id, "code": asdict(item.code), "at_s": at_s, "times": [None if time is None else asdict(time) for time in times],
        "value": item.value, "unit": item.unit, "status": item.status, "category": item.category, "remarks": item.remarks,
        "normalised": [asdict(step) for step in item.normalised],
    }  # fmt: skip
    return json.dumps(known, sort_keys=True, default=str)
