"""Intervals and rate that an electrocardiograph computed itself and wrote into the file, as items with LOINC codes.

Takes numbers by name; gives numeric items that say whose they are. Measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from salus.record.claims import modality_of
from salus.record.patient import Code, Item, ObservedTime, Source, item_id

LOINC = {
    "heart_rate": ("8867-4", "heart rate", "/min"),
    "pr": ("8625-6", "PR interval", "ms"),
    "qrs": ("8633-0", "QRS duration", "ms"),
    "qt": ("8634-8", "QT interval", "ms"),
    "qtc": ("8636-3", "QT interval corrected for heart rate", "ms"),
}
"""LOINC code, words and unit by name."""
ACCEPTED = {"heart_rate": (10.0, 400.0), "pr": (20.0, 1000.0), "qrs": (20.0, 400.0), "qt": (100.0, 1000.0), "qtc": (100.0, 1000.0)}
"""What is outside is a code for 'not measured', not a number about the heart."""


def interval_items(source: Source, observed_at: ObservedTime | None, stated: Mapping[str, float]) -> list[Item]:
    """Return one item for each interval (ms) or rate (/min) that can be one.

    Example:
        >>> [(item.code.display, item.value) for item in interval_items(Source("a", "00"), None, {"qt": 368.0, "pr": 29999.0})]
        [('QT interval', 368.0)]
    """
    return [
        Item(
            id=item_id(source.sha256, f"{source.locator} {name}"),
            modality=modality_of(f"loinc:{LOINC[name][0]}", "signal:ecg"),
            code=Code("http://loinc.org", *LOINC[name][:2]),
            source=source,
            observed_at=observed_at,
            value=float(value),
            unit=LOINC[name][2],
            remarks=("as the recorder computed it",),
        )
        for name, value in stated.items()
        if ACCEPTED[name][0] <= value <= ACCEPTED[name][1]
    ]
