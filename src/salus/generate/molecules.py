"""Sequences and molecular profiles as text that a person can check: letters in numbered lines, values by identifier.

Takes loaded content; gives text. Shows the beginning, and says how much more there is.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from salus.record.patient import Profile, Sequences

LETTERS_IN_LINE, LETTERS_IN_GROUP = 60, 10
MOST_LINES = 12
MOST_SEQUENCES = 3
MOST_FEATURES = 24


def sequences_text(found: Sequences) -> tuple[str, str]:
    """Return the first letters of the first sequences in numbered lines, and how much is shown.

    Example:
        >>> print(sequences_text(Sequences(("ACGTACGTACGTA",), "dna"))[0])
        sequence 1
                1 ACGTACGTAC GTA
    """
    lines = []
    for number, letters in enumerate(found.letters[:MOST_SEQUENCES], start=1):
        lines.append(f"sequence {number}")
        for start in islice(range(0, len(letters), LETTERS_IN_LINE), MOST_LINES):
            line = letters[start : start + LETTERS_IN_LINE]
            groups = " ".join(line[at : at + LETTERS_IN_GROUP] for at in range(0, len(line), LETTERS_IN_GROUP))
            lines.append(f"{start + 1:9} {groups}")
    shown = min(len(found.letters), MOST_SEQUENCES)
    note = f"the first {shown} of {len(found.letters)} sequences, at most {MOST_LINES * LETTERS_IN_LINE} letters of each"
    return "\n".join(lines), note


def profile_text(found: Profile) -> tuple[str, str]:
    """Return the features that lie furthest from the profile's median, and how they were chosen.

    Example:
        >>> profile_text(Profile(("a", "b", "c"), np.array([1.0, 9.0, np.nan], np.float32), "hmdb", "1"))[0].splitlines()
        ['a  1', 'b  9']
    """
    values = found.values.astype(np.float64)
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return "", "no feature has a value"
    away = np.abs(values[known] - np.median(values[known]))
    chosen = known[np.lexsort((known, -away))][:MOST_FEATURES]
    width = max(len(found.features[place]) for place in chosen)
    lines = [f"{found.features[place]:{width}}  {values[place]:.4g}" for place in sorted(chosen)]
    return "\n".join(lines), f"the {len(chosen)} of {len(known)} measured features that lie furthest from the profile's median"
