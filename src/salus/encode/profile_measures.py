"""Numbers that code measures from a molecular profile, and a synthetic item of one: what the omics plug-ins share.

Takes an item with `Profile` content; gives measurements with their rule. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from salus.encode.modality import Measurement
from salus.record.patient import Code, Content, Item, Profile, Source, item_id
from salus.record.profiles import kind_of


def measure(item: Item) -> Sequence[Measurement]:
    """Return how many features were measured, and the spread of their values; loads them."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Profile) or not len(loaded.values):
        return ()
    known = loaded.values[np.isfinite(loaded.values)].astype(np.float64)
    missing = 100.0 * (1 - len(known) / len(loaded.values))
    found = [
        Measurement("number of features", float(len(loaded.values)), "{feature}", "identifiers of the profile"),
        Measurement("share of features without a value", missing, "%", "features that are missing, of all"),
    ]
    if len(known):
        rule = "of all features that have a value"
        found += [
            Measurement("median of the profile", float(np.median(known)), loaded.unit, f"median {rule}"),
            Measurement("lowest value of the profile", float(known.min()), loaded.unit, f"lowest {rule}"),
            Measurement("highest value of the profile", float(known.max()), loaded.unit, f"highest {rule}"),
        ]
    return tuple(found)


def made_item(modality: str, system: str, names: Sequence[str], sha256: str) -> Item:
    """Return a synthetic profile: the values 0, 1, 2, … and a missing last one."""
    values = np.arange(len(names), dtype=np.float32)
    values[-1] = np.nan
    profile = Profile(tuple(names), values, system, "1")
    content = Content("profile", partial(_given, profile), f"{len(names)} features ({system}), {len(names) - 1} measured")
    code = Code("media", "text/csv", f"{kind_of(system)} profile")
    source = Source(f"example-{modality}", sha256, "row 2")
    return Item(item_id(sha256, source.locator), modality, code, source, content=content, category="profile")


def _given(profile: Profile) -> Profile:
    return profile
