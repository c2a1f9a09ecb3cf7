"""Splits by patient, and the check that no patient is in two of them.

Takes patients' keys; gives a split for each. Which patients fall where depends on the keys and the seed, never on their order.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping

from salus.errors import ConfigError


def assign(subject_ids: Iterable[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return the split of each patient; sizes are within one patient of the fractions.

    Patients are put in the order of a seeded hash of their key and dealt out, so that order of input and repeats do not matter.

    Args:
        subject_ids: patients' keys.
        fractions: share of each split, summing to 1, for example `{"train": 0.7, "val": 0.15, "test": 0.15}`.
        seed: any whole number.

    Raises:
        ConfigError: the fractions are negative, not numbers, or do not sum to 1.

    Example:
        >>> sorted(assign(["a", "b", "c", "d"], {"train": 0.5, "test": 0.5}, seed=0).values())
        ['test', 'test', 'train', 'train']
        >>> assign(["a"], {"train": 0.5}, seed=0)
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot split patients by train=0.5: the fractions must be 0 or more and sum to 1.
        Mend them in the recipe.
    """
    shares = list(fractions.values())
    if any(not math.isfinite(share) or share < 0 for share in shares) or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        stated = ", ".join(f"{name}={share:g}" for name, share in fractions.items())
        raise ConfigError(
            f"Cannot split patients by {stated}: the fractions must be 0 or more and sum to 1. Mend them in the recipe."
        )
    ordered = sorted(set(subject_ids), key=lambda key: (hashlib.sha256(f"{seed}:{key}".encode()).digest(), key))
    ends: list[tuple[str, int]] = []
    total = 0.0
    for name, share in fractions.items():
        total += share
        ends.append((name, math.floor(total * len(ordered) + 0.5 - 1e-9)))
    ends[-1] = (ends[-1][0], len(ordered))
    assigned: dict[str, str] = {}
    start = 0
    for name, end in ends:
        assigned.update((key, name) for key in ordered[start:end])
        start = max(start, end)
    return assigned


def check_no_leak(splits: Mapping[str, Collection[str]]) -> None:
    """Raise when a patient is in more than one split.

    Raises:
        ConfigError: names how many patients, in which splits, and the keys of at most three.

    Example:
        >>> check_no_leak({"train": ["a", "b"], "test": ["b"]})
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot use these splits: 1 patient is in more than one of them (b in train and test).
        Keep each patient in one split.
    """
    where: dict[str, list[str]] = {}
    for name, subject_ids in splits.items():
        for key in set(subject_ids):
            where.setdefault(key, []).append(name)
    leaked = sorted(key for key, names in where.items() if len(names) > 1)
    if leaked:
        shown = "; ".join(f"{key} in {' and '.join(where[key])}" for key in leaked[:3])
        more = f"; and {len(leaked) - 3} more" if len(leaked) > 3 else ""
        are = "patient is" if len(leaked) == 1 else "patients are"
        raise ConfigError(
            f"Cannot use these splits: {len(leaked)} {are} in more than one of them ({shown}{more}). "
            "Keep each patient in one split."
        )
