"""Standardised uptake values of PET, where the header allows.

Takes a `Header`; gives the factor from stored activity to SUV by body weight, or why there is none. Leaves out private attributes, lean
body mass and body surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from salus.record.read.dicom_header import Header, number_of, parse_datetime, sequence_of, text_of, texts_of

SUV, ACTIVITY = "g/mL", "Bq/mL"
"""UCUM; SUV by body weight is grams of body for each millilitre (PS3.3 C.8.9.1.1.3, units GML)."""
LONGEST_H = 12.0
"""A time of injection without its date, further back than this, is not believed."""


@dataclass(frozen=True)
class Uptake:
    """How PET values are to be read."""

    unit: str
    """`g/mL` for SUV by body weight, `Bq/mL` for activity, `1` when the file states neither."""
    factor: float
    """Rescaled value × factor is in `unit`."""
    words: str
    """Remark for people, without patient data."""


def uptake_of(header: Header) -> Uptake:
    """Return unit and factor of a PET image.

    Units GML are SUV already. Units BQML become SUV when the image is corrected for attenuation and decay, and weight, injected activity,
    half life and times are stated. Anything less keeps the activity, and says why.

    Source: DICOM PS3.3 C.8.9.1 (PET series) and C.8.9.2 (PET isotope); QIBA, Standardized Uptake Value, vendor-neutral pseudo-code
    (also in the QIBA FDG-PET/CT Profile).
    """
    units = text_of(header, "Units").upper()
    if units == "GML":
        kind = text_of(header, "SUVType").upper() or "BW"
        if kind == "BW":
            return Uptake(SUV, 1.0, "SUV by body weight, as stored")
        return Uptake("1", 1.0, f"SUV of type {kind}, not by body weight")
    if units != "BQML":
        return Uptake("1", 1.0, f"no SUV: values are in {units or 'a unit that is not stated'}, not in Bq/mL")
    factor = _factor(header)
    if isinstance(factor, str):
        return Uptake(ACTIVITY, 1.0, f"no SUV: {factor}")
    return Uptake(SUV, factor, "SUV by body weight, computed from the activity (QIBA); what stayed in the syringe is not known")


def _factor(header: Header) -> float | str:
    """Return grams of body for each becquerel that was left when the scan began, or what is missing."""
    corrections = {one.upper() for one in texts_of(header, "CorrectedImage")}
    if not {"ATTN", "DECY"} <= corrections:
        return "not corrected for attenuation and decay"
    isotopes = sequence_of(header, "RadiopharmaceuticalInformationSequence")
    if len(isotopes) != 1:
        return "the header names no tracer" if not isotopes else "the header names several tracers"
    stated = {
        "the patient's weight": number_of(header, "PatientWeight"),
        "the injected activity": number_of(header, "RadionuclideTotalDose", dataset=isotopes[0]),
        "the half life": number_of(header, "RadionuclideHalfLife", dataset=isotopes[0]),
    }
    missing = next((name for name, value in stated.items() if not value or value <= 0), None)
    if missing:
        return f"{missing} is not stated"
    weight_kg, injected_bq, half_life_s = (float(value or 0.0) for value in stated.values())
    correction = text_of(header, "DecayCorrection").upper()
    if correction == "ADMIN":  # values are as at injection: nothing has decayed
        return weight_kg * 1000.0 / injected_bq
    if correction != "START":
        return f"decay is corrected to {correction or 'a time not stated'}, not to the start of the scan or the injection"
    delay = _delay(header)
    if isinstance(delay, str):
        return delay
    return float(weight_kg * 1000.0 / (injected_bq * 2.0 ** (-delay.total_seconds() / half_life_s)))


def _delay(header: Header) -> timedelta | str:
    """Return the time from injection to the start of the scan, or why it is not known."""
    scan, acquired = _time(header, "Series"), _time(header, "Acquisition")
    if scan is None or acquired is None:
        return "the start of the scan is not stated"
    if scan > acquired:
        return "the series is dated after its acquisition, so the start of the scan is not known (processed later)"
    isotope = sequence_of(header, "RadiopharmaceuticalInformationSequence")[0]
    whole = parse_datetime(text_of(header, "RadiopharmaceuticalStartDateTime", dataset=isotope), text_of(header, "TimezoneOffsetFromUTC"))
    if whole is not None and whole.precision in ("minute", "second"):
        delay = scan - whole.at
        return delay if delay >= timedelta(0) else "the injection is dated after the scan"
    clock = text_of(header, "RadiopharmaceuticalStartTime", dataset=isotope)
    started = parse_datetime(f"{scan:%Y%m%d}{clock}", text_of(header, "TimezoneOffsetFromUTC")) if len(clock) >= 4 else None
    if started is None or started.precision not in ("minute", "second"):
        return "the time of injection is not stated"
    delay = scan - started.at
    if delay < timedelta(0):
        delay += timedelta(days=1)  # injected before midnight
    hours = delay.total_seconds() / 3600
    return delay if hours <= LONGEST_H else f"the injection would lie {hours:.0f} hours before the scan"


def _time(header: Header, kind: str) -> datetime | None:
    stamp = text_of(header, f"{kind}Date") + text_of(header, f"{kind}Time")
    found = parse_datetime(stamp, text_of(header, "TimezoneOffsetFromUTC"))
    return found.at if found is not None and found.precision in ("minute", "second") else None
