"""Names, units and gaps of waveform channels, the same for every format that carries them.

Takes channel names and units as devices write them; gives lead names (`aVR`, `V1`), UCUM units, and remarks on missing or flat
stretches. Knows no file format and computes nothing clinical.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from salus.errors import UnitError
from salus.units import check

LEADS = (
    "I",
    "II",
    "III",
    "aVR",
    "aVL",
    "aVF",
    "V",
    "V1",
    "V2",
    "V3",
    "V4",
    "V5",
    "V6",
    "V7",
    "V8",
    "V9",
    "V2R",
    "V3R",
    "V4R",
    "V5R",
    "V6R",
    "V7R",
    "Vx",
    "Vy",
    "Vz",
    "MLI",
    "MLII",
    "MLIII",
    "MCL1",
    "MCL6",
)
"""Spelling of ECG leads; MLII and the other modified leads keep their own name."""
_SPELLING = {lead.lower(): lead for lead in LEADS}
UCUM = {
    "mv": "mV",
    "uv": "uV",
    "µv": "uV",
    "μv": "uV",
    "nv": "nV",
    "v": "V",
    "mmhg": "mm[Hg]",
    "mm[hg]": "mm[Hg]",
    "cmh2o": "cm[H2O]",
    "cm[h2o]": "cm[H2O]",
    "nu": "1",
    "1": "1",
    "{unitless}": "1",
    "unitless": "1",
    "%": "%",
    "bpm": "/min",
    "/min": "/min",
    "degc": "Cel",
    "cel": "Cel",
    "ohm": "Ohm",
    "ohms": "Ohm",
    "kpa": "kPa",
    "l/min": "L/min",
    "ml": "mL",
    "l": "L",
    "pm": "pm",
    "hz": "Hz",
    "s": "s",
}
"""UCUM by the spellings that monitors and archives use, lower-cased; `NU` is WFDB's normalised unit."""
MILLIVOLTS_PER = {"mV": 1.0, "uV": 1e-3, "nV": 1e-6, "V": 1e3}
FLAT_S = 2.0
"""A lead that does not change for this long is called flat; a diastole never lasts so long in a beating heart."""


def lead_name(name: str) -> str:
    """Return a channel's name as the field spells it; unknown names stay as they are.

    Example:
        >>> lead_name("avr"), lead_name("Lead I (Einthoven)"), lead_name("ECG lead V1"), lead_name("ABP")
        ('aVR', 'I', 'V1', 'ABP')
    """
    cleaned = re.sub(r"\s*\(.*\)$", "", name.strip())
    cleaned = re.sub(r"^(ecg\s+)?lead[\s_]+|^ecg[\s_]+", "", cleaned, flags=re.IGNORECASE)
    return _SPELLING.get(cleaned.lower(), name.strip())


def ucum_of(unit: str, *, lead: str, file: str) -> str:
    """Return the UCUM code of a channel's unit.

    Raises:
        UnitError: the unit is not one that is known here.

    Example:
        >>> ucum_of("mmHg", lead="ABP", file="a12.hea")
        'mm[Hg]'
        >>> ucum_of("uV?", lead="V3", file="a12.hea")
        Traceback (most recent call last):
        ...
        salus.errors.UnitError: Cannot read 'a12.hea': lead V3 is in 'uV?', not a UCUM unit. ...
    """
    spelling = unit.strip()
    if spelling.lower() in UCUM:
        return UCUM[spelling.lower()]
    try:
        return check(spelling)
    except UnitError as error:
        raise UnitError(
            f"Cannot read '{file}': lead {lead} is in '{unit}', not a UCUM unit. "
            f"Declare units.{lead} for this file, or drop the lead."
        ) from error


def in_millivolts(samples: NDArray[np.float32], units: tuple[str, ...]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return samples (C, S) with every voltage in mV, and the units that now hold; other units are left alone."""
    factors = np.array([MILLIVOLTS_PER.get(unit, 1.0) for unit in units], dtype=np.float32)
    scaled = samples if (factors == 1).all() else samples * factors[:, None]
    return scaled, tuple("mV" if unit in MILLIVOLTS_PER else unit for unit in units)


def gap_remarks(samples: NDArray[np.float32], leads: tuple[str, ...], sampling_rate_hz: float) -> tuple[str, ...]:
    """Return one remark for each lead that has missing (NaN) samples or is flat for `FLAT_S` or longer.

    Args:
        samples: (C, S), NaN where a sample is missing.
        leads: C names.
        sampling_rate_hz: Hz.

    Example:
        >>> gap_remarks(np.array([[0, 1] * 5, [3] * 10], dtype=np.float32), ("I", "II"), 2.0)
        ('lead II is flat for 5.0 s of 5.0 s',)
    """
    remarks = []
    total_s = samples.shape[1] / sampling_rate_hz
    for lead, row in zip(leads, samples, strict=True):
        missing_s = float(np.isnan(row).sum()) / sampling_rate_hz
        if missing_s > 0:
            longest_s = _longest_run(np.isnan(row)) / sampling_rate_hz
            span = f"{missing_s:.3g} s of {total_s:.1f} s (longest gap {longest_s:.3g} s)"
            remarks.append(f"lead {lead} has no samples for {span}")
        flat_s = float(flat_mask(row, sampling_rate_hz).sum()) / sampling_rate_hz
        if flat_s > 0:
            remarks.append(f"lead {lead} is flat for {flat_s:.1f} s of {total_s:.1f} s")
    return tuple(remarks)


def flat_mask(row: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.bool_]:
    """Return (S,) True where the lead keeps one value for `FLAT_S` or longer; missing samples are not flat."""
    if row.size == 0 or sampling_rate_hz < 1.0:
        return np.zeros(row.shape, dtype=np.bool_)  # a slow sensor may well read the same value twice
    step = max(1, int(FLAT_S * sampling_rate_hz) // 2)  # each stretch of this length holds two neighbours of such a grid
    grid = row[::step]
    if not (grid[1:] == grid[:-1]).any():
        return np.zeros(row.shape, dtype=np.bool_)
    edges = np.flatnonzero(np.concatenate(([True], row[1:] != row[:-1], [True])))  # NaN != NaN: gaps split into runs of one
    lengths = np.diff(edges)
    return np.repeat((lengths >= FLAT_S * sampling_rate_hz) & ~np.isnan(row[edges[:-1]]), lengths)


def _longest_run(mask: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.concatenate(([True], mask[1:] != mask[:-1], [True])))
    lengths = np.diff(edges)[mask[edges[:-1]]]
    return int(lengths.max()) if lengths.size else 0
