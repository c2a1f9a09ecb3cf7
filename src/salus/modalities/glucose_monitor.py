"""Continuous glucose monitor: interstitial glucose every few minutes, for days.

Claims columns named cgm, sensor_glucose or interstitial_glucose; a glucose of the laboratory or a finger stays a vital or lab value.
Measures the consensus metrics by their published formulas; it advises no dose.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.errors import UnitError
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.units import convert

GLUCOSE_G_MOL = 180.156
CONSENSUS = "international consensus on time in range (Battelino et al., Diabetes Care 2019;42:1593-1603)"
RANGES = (
    ("below 54 mg/dL", -np.inf, 54.0),
    ("from 54 to 69 mg/dL", 54.0, 70.0),
    ("in range, 70 to 180 mg/dL", 70.0, np.nextafter(180.0, 181.0)),
    ("from 181 to 250 mg/dL", np.nextafter(180.0, 181.0), np.nextafter(250.0, 251.0)),
    ("above 250 mg/dL", np.nextafter(250.0, 251.0), np.inf),
)
"""From and below, so that every reading falls in one; 180 and 250 themselves belong to the lower range."""
GMI = "GMI (%) = 3.31 + 0.02392 × mean glucose in mg/dL (Bergenstal et al., Diabetes Care 2018;41:2275-2280)"
LEAST_DAYS, LEAST_SHARE = 10.0, 70.0
"""Readings that the consensus asks for: 70 % of 14 days, which are about ten days."""
LEAST_READINGS = 12


def measure(item: Item) -> Sequence[Measurement]:
    """Return time in the ranges, mean, spread, the management indicator where enough days are there, and gaps; loads the readings."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    try:
        factor = convert(1.0, loaded.units[0], "mg/dL", molar_mass_g_mol=GLUCOSE_G_MOL)
    except UnitError:
        return ()
    readings = loaded.samples[0].astype(np.float64) * factor
    known = readings[np.isfinite(readings)]
    worn = 100.0 * len(known) / len(readings)
    rule = "readings over the steps of the sensor's own grid, from first to last"
    found = [Measurement("share of the time with a sensor reading", worn, "%", rule)]
    if len(known) < LEAST_READINGS:
        return tuple(found)
    of = f"of {len(known)} readings"
    for words, low, high in RANGES:
        share = 100.0 * float(((known >= low) & (known < high)).mean())
        found.append(Measurement(f"time {words}", share, "%", f"share {of}; {CONSENSUS}"))
    mean, spread = float(known.mean()), float(known.std(ddof=1))
    found.append(Measurement("mean sensor glucose", mean, "mg/dL", f"mean {of}"))
    found.append(Measurement("standard deviation of sensor glucose", spread, "mg/dL", f"of all {len(known)} readings, n − 1"))
    rule = f"standard deviation over mean; stable at 36 % or less; {CONSENSUS}"
    found.append(Measurement("coefficient of variation of sensor glucose", 100.0 * spread / mean, "%", rule))
    days = len(readings) / loaded.sampling_rate_hz / 86400
    if days >= LEAST_DAYS and worn >= LEAST_SHARE:
        rule = f"{GMI}; given from {LEAST_DAYS:g} days with {LEAST_SHARE:g} % of the readings"
        found.append(Measurement("glucose management indicator", 3.31 + 0.02392 * mean, "%", rule))
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic fortnight at 5 min: a daily wave between 90 and 170 mg/dL.

    Example:
        >>> found = {part.name: round(part.value, 2) for part in measure(example()[0])}
        >>> found["time in range, 70 to 180 mg/dL"], found["glucose management indicator"]
        (100.0, 6.42)
    """
    source = Source("example-glucose", "6c" * 32, "column cgm")
    content = Content("signal", partial(_days, 14), "1 channel (cgm), every 300 s, 14 days")
    code = Code("column", "cgm", "waveform cgm")
    return (Item(item_id(source.sha256, source.locator), "glucose_monitor", code, source, content=content, category="waveform"),)


def _days(days: int) -> Signal:
    time_d = np.arange(288 * days) / 288
    return Signal((130 + 40 * np.sin(2 * np.pi * time_d))[None].astype(np.float32), ("cgm",), ("mg/dL",), 1 / 300)


MODALITY = Modality(
    name="glucose_monitor",
    title="continuous glucose monitor",
    claims=("signal:glucose", "modality:glucose_monitor", "loinc:99504-3", "loinc:105272-9"),
    example=example,
    measure=measure,
)
