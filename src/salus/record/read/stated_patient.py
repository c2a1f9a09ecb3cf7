"""Age and sex that the header of a waveform states, as items; the rest of what it says about the person is not taken.

Takes plain values; gives demographic items. Names, birth dates and addresses never come this far.
"""

from __future__ import annotations

from salus.record.claims import modality_of
from salus.record.patient import Code, Item, ObservedTime, Source, item_id

SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
MOST_AGE = 120.0


def stated_items(source: Source, observed_at: ObservedTime | None, *, age: float | None, sex: str | None) -> list[Item]:
    """Return the age (years, more than 0 and at most 120) and the sex as items; what is unknown or impossible is left out.

    Example:
        >>> [item.value for item in stated_items(Source("a", "00", "comments"), None, age=81.0, sex="F")]
        [81.0, 'female']
    """
    items = []
    modality = modality_of("demographic", "category:demographic")
    if age is not None and 0 < age <= MOST_AGE:
        code = Code("http://loinc.org", "30525-0", "age")
        items.append(
            Item(
                item_id(source.sha256, f"{source.locator} age"),
                modality,
                code,
                source,
                observed_at=observed_at,
                value=float(age),
                unit="a",
                category="demographic",
            )
        )
    if sex is not None and sex.lower() in SEXES:
        code = Code("http://loinc.org", "76689-9", "sex")
        items.append(
            Item(
                item_id(source.sha256, f"{source.locator} sex"),
                modality,
                code,
                source,
                observed_at=observed_at,
                value=SEXES[sex.lower()],
                category="demographic",
            )
        )
    return items
