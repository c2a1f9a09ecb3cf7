"""Checks on ECG limb leads: whether they fit each other as Einthoven and Goldberger say, and look like swapped electrodes.

Takes a signal with any leads; gives remarks, and changes nothing: a suspicion is stated, never mended silently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from salus.record.patient import Signal

CHECKED_S = 30.0
"""How much of a recording is compared."""
LEAST_SAMPLES = 50
SUM_RULES = (
    ("III", {"II": 1.0, "I": -1.0}, "III = II − I"),
    ("aVR", {"I": -0.5, "II": -0.5}, "aVR = −(I + II) / 2"),
    ("aVL", {"I": 0.5, "III": -0.5}, "aVL = (I − III) / 2"),
    ("aVF", {"II": 0.5, "III": 0.5}, "aVF = (II + III) / 2"),
)
"""Each limb lead from two others, by definition of the leads (Kligfield et al., Circulation 2007;115:1306-1324, section on leads)."""
MOST_RESIDUAL = 0.15
"""Largest root mean square of the difference, as a share of the lead's own; rounding and separate filters stay below 0.05."""
NOISE_MV = 0.01
"""A smaller root mean square of the difference is noise, however small the lead."""
NEGATIVE = -0.5
"""Correlation of leads I and V6 below which swapped arm electrodes are suspected; the two look at the heart from the same side."""
FLAT_SHARE = 0.12
"""Range of lead II as a share of that of leads I and III below which a right-leg electrode on the right arm is suspected."""


def limb_remarks(signal: Signal) -> tuple[str, ...]:
    """Return what is odd about the limb leads: sums that do not hold, inverted leads, a suspicion of swapped electrodes.

    Source: Einthoven's law and Goldberger's definitions, as in Kligfield et al. 2007; signs of swapped electrodes: Batchvarov,
        Malik & Camm, Europace 2007;9:1081-1090.

    Example:
        >>> i, ii = np.sin(np.arange(100.0)), np.cos(np.arange(100.0))
        >>> limb_remarks(Signal(np.stack([i, ii, ii - i]).astype(np.float32), ("I", "II", "III"), ("mV",) * 3, 100.0))
        ()
        >>> limb_remarks(Signal(np.stack([i, ii, i - ii]).astype(np.float32), ("I", "II", "III"), ("mV",) * 3, 100.0))
        ('lead III is upside down: turned over, it fits III = II − I',)
    """
    rows = _centred(signal)
    remarks = [remark for lead, parts, words in SUM_RULES if (remark := _sum_remark(rows, lead, parts, words))]
    if remarks:
        return tuple(remarks)  # which lead is wrong is not known, so a suspicion of swapped electrodes has no ground
    return _swapped(rows)


def _centred(signal: Signal) -> dict[str, NDArray[np.float64]]:
    span = slice(0, round(CHECKED_S * signal.sampling_rate_hz))
    wanted = {"I", "II", "III", "aVR", "aVL", "aVF", "V6"}
    chosen = [row for row, lead in enumerate(signal.leads) if lead in wanted and signal.units[row] == "mV"]
    part = signal.samples[chosen, span].astype(np.float64)
    known = np.isfinite(part).all(axis=0)
    part = part if known.all() else part[:, known]
    if part.shape[1] < LEAST_SAMPLES:
        return {}
    return {signal.leads[row]: values - values.mean() for row, values in zip(chosen, part, strict=True)}


def _sum_remark(rows: dict[str, NDArray[np.float64]], lead: str, parts: dict[str, float], words: str) -> str | None:
    if lead not in rows or not set(parts) <= set(rows):
        return None
    wanted: NDArray[np.float64] = np.sum([weight * rows[part] for part, weight in parts.items()], axis=0)
    scale = max(_rms(rows[lead]), _rms(wanted))
    residual = _rms(rows[lead] - wanted)
    if residual <= NOISE_MV or (share := residual / scale) <= MOST_RESIDUAL:
        return None
    if _rms(rows[lead] + wanted) / scale <= MOST_RESIDUAL:
        return f"lead {lead} is upside down: turned over, it fits {words}"
    off = f"off by {100 * share:.0f} % of lead {lead}"
    return f"limb leads do not fit {words}: {off}; a lead is mislabelled, scaled apart or not simultaneous"


def _swapped(rows: dict[str, NDArray[np.float64]]) -> tuple[str, ...]:
    remarks = []
    if {"I", "V6"} <= set(rows) and _rms(rows["I"]) > 0 and _rms(rows["V6"]) > 0:
        together = float(np.mean(rows["I"] * rows["V6"]) / (_rms(rows["I"]) * _rms(rows["V6"])))
        if together < NEGATIVE:
            suspicion = "suspect swapped arm electrodes; dextrocardia or a wide axis look alike"
            remarks.append(f"lead I runs against V6 (correlation {together:.2f}): {suspicion}")
    if {"I", "II", "III"} <= set(rows):
        ranges = {lead: float(np.ptp(rows[lead])) for lead in ("I", "II", "III")}
        if ranges["II"] < FLAT_SHARE * min(ranges["I"], ranges["III"]):
            remarks.append("lead II is nearly flat beside I and III: suspect right-arm and right-leg electrodes swapped")
    return tuple(remarks)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.dot(values, values) / len(values)))
