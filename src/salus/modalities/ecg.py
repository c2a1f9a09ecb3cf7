"""Electrocardiogram: one lead or twelve, resting or ambulatory.

Claims ECG waveforms of every format and channels with the name of an ECG lead. Measures rate, regularity, the quality of each lead,
intervals and amplitudes by rule; it interprets nothing. Intervals need the extra `signals`, and leads that agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt, welch

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.leads import LEADS, flat_mask

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

RHYTHM_LEADS = ("II", "MLII", "I", "V5", "MCL1", "V1")
"""Order in which a lead is chosen for R peaks."""
INTERVAL_CODES = ("loinc:8625-6", "loinc:8633-0", "loinc:8634-8", "loinc:8636-3")
"""PR, QRS, QT and QTc as a recorder states them."""
LEAST_RHYTHM_S = 5.0
LEAST_BEATS = 4
LEAST_QUALITY_RATE_HZ = 80.0
"""A lower rate does not hold the band from 5 to 40 Hz; its quality is not rated, and counts as 0."""
LEAST_QUALITY = 0.75
"""Three of the four checks: below it, a lead is not outlined."""
INTERVAL_LEADS = ("I", "II", "III", "aVL", "aVF", "V4", "V5", "V6")
"""Leads whose QRS begins upright or nearly so; in V1 to V3 the library often takes one slope for the whole."""
LEAST_LEADS = 3
LEAST_INTERVAL_RATE_HZ = 200.0
LEAST_QRS_MS = 60.0
"""Shorter is no ventricular activation of an adult (normal 70 to 110 ms), but half of one."""
MOST_SPREAD_MS = 25.0
"""Interquartile range over the leads above which an interval is not given."""
OUTLINED_S = 30.0
"""From the start; outlining costs about a tenth of a second a lead."""
OUTLINE = "outlined by neurokit2, 'prominence' (Makowski et al., Behav Res Methods 2021;53:1689-1696): may be 35 ms off, no caliper"
PAN_TOMPKINS = "Pan & Tompkins, IEEE Trans Biomed Eng 1985;32:230-236"


def r_peaks(voltage: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of R peaks in one lead.

    Args:
        voltage: (S,) any unit of voltage; NaN where missing.
        sampling_rate_hz: Hz, above 40.

    Source: Pan & Tompkins 1985: band-pass (here zero-phase 5-15 Hz), derivative, square, 150 ms window, running
        thresholds, search-back.
    """
    filled = _without_gaps(voltage)
    band = sosfiltfilt(butter(2, (5.0, 15.0), "bandpass", fs=sampling_rate_hz, output="sos"), filled)
    slope = np.gradient(band) * sampling_rate_hz
    window = max(1, round(0.150 * sampling_rate_hz))
    energy = np.convolve(slope**2, np.full(window, 1 / window), mode="same")
    candidates, _ = find_peaks(energy, distance=max(1, round(0.2 * sampling_rate_hz)))
    kept = _above_running_threshold(energy, candidates, sampling_rate_hz)
    reach = round(0.075 * sampling_rate_hz)
    height = np.abs(band)
    tops: list[int] = []
    for at in kept:
        low = max(0, at - reach)
        top = low + int(np.argmax(height[low : at + reach + 1]))
        if tops and top - tops[-1] < 0.2 * sampling_rate_hz:  # within the refractory period: one beat, its taller peak
            tops[-1] = max(tops[-1], top, key=lambda index: float(height[index]))
        else:
            tops.append(top)
    peaks = np.array(tops, dtype=np.int64)
    return peaks[~np.isnan(voltage[peaks])]


def _without_gaps(voltage: NDArray[np.float32]) -> NDArray[np.float64]:
    missing = np.isnan(voltage)
    if missing.all():
        return np.zeros(voltage.shape)
    filled = voltage.astype(np.float64)
    filled[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), filled[~missing])
    return filled


def _above_running_threshold(energy: NDArray[np.float64], candidates: NDArray[np.int64], rate: float) -> list[int]:
    span = max(1, round(2 * rate))
    signal = float(np.median([energy[at : at + span].max() for at in range(0, len(energy), span)]))
    noise = float(np.median(energy))
    kept: list[int] = []
    passed: list[int] = []  # candidates below the threshold since the last beat, for the search-back
    for at in candidates:
        threshold = noise + 0.25 * (signal - noise)
        recent = np.diff(kept[-9:])
        if len(recent) and at - kept[-1] > 1.66 * recent.mean() and passed:
            best = max(passed, key=lambda index: float(energy[index]))
            if energy[best] > 0.5 * threshold and best - kept[-1] > 0.36 * rate:
                kept.append(best)
                signal = 0.25 * float(energy[best]) + 0.75 * signal
            passed = [index for index in passed if index > kept[-1]]
        is_t_wave = bool(kept) and at - kept[-1] < 0.36 * rate and energy[at] < 0.5 * energy[kept[-1]]
        if energy[at] > threshold and not is_t_wave:
            kept.append(int(at))
            passed = []
            signal = 0.125 * float(energy[at]) + 0.875 * signal
        else:
            passed.append(int(at))
            noise = 0.125 * float(energy[at]) + 0.875 * noise
    return kept


@dataclass(frozen=True)
class Quality:
    """How well one lead can be read."""

    usable: float
    """Share of samples that are neither missing, nor flat, nor at the rail."""
    kurtosis: float
    qrs_share: float
    """Power from 5 to 15 Hz over that from 5 to 40 Hz."""
    baseline_share: float
    """Power below 1 Hz over that below 40 Hz."""
    noise_share: float
    """Power above 40 Hz over that above 1 Hz."""

    @property
    def index(self) -> float:
        """Usable share times the share of four checks that hold: 0 to 1."""
        checks = (self.kurtosis > 5, self.qrs_share >= 0.4, self.baseline_share <= 0.1, self.noise_share <= 0.3)
        return self.usable * sum(checks) / len(checks)


def quality_of(row: NDArray[np.float32], sampling_rate_hz: float) -> Quality:
    """Return the signal quality of one lead.

    Args:
        row: (S,) any unit of voltage, NaN where missing.
        sampling_rate_hz: Hz.

    Source: Li, Mark & Clifford, Physiol Meas 2008;29:15-32 (kurtosis above 5, power shares); Zhao & Zhang, Front Physiol 2018;9:727
        (limits of the shares 5-15 Hz and 0-1 Hz, of which the lower are taken). Flat, rail and noise above 40 Hz: rules of our own.
    """
    bad = np.isnan(row) | flat_mask(row, sampling_rate_hz) | _rail_mask(row, sampling_rate_hz)
    known = _without_gaps(np.where(bad, np.nan, row).astype(np.float32))
    known = known - known.mean()
    if bad.all() or not known.any() or len(known) < sampling_rate_hz or sampling_rate_hz < LEAST_QUALITY_RATE_HZ:
        return Quality(0.0, 0.0, 0.0, 1.0, 1.0)
    hertz, power = welch(known, fs=sampling_rate_hz, nperseg=min(len(known), round(4 * sampling_rate_hz)), detrend=False)

    def share(low: float, high: float, least: float, most: float) -> float:
        part, whole = (float(power[(hertz >= start) & (hertz < stop)].sum()) for start, stop in ((low, high), (least, most)))
        return part / whole if whole > 0 else 0.0

    clean = sosfiltfilt(butter(2, 1.0, "highpass", fs=sampling_rate_hz, output="sos"), known)[~bad]
    return Quality(
        usable=1.0 - float(bad.mean()),
        kurtosis=float(np.mean((clean - clean.mean()) ** 4) / (clean.var() ** 2 + 1e-30)),
        qrs_share=share(5, 15, 5, 40),
        baseline_share=share(0, 1, 0, 40),
        noise_share=share(40, np.inf, 1, np.inf),
    )


def _rail_mask(row: NDArray[np.float32], rate: float) -> NDArray[np.bool_]:
    """Return (S,) True where the highest or lowest value repeats for 20 ms or five samples, whichever is longer: the amplifier's end."""
    if not np.isfinite(row).any():
        return np.zeros(row.shape, dtype=np.bool_)
    edges = np.flatnonzero(np.concatenate(([True], row[1:] != row[:-1], [True])))
    lengths = np.diff(edges)
    is_end = (row[edges[:-1]] == np.nanmax(row)) | (row[edges[:-1]] == np.nanmin(row))
    return np.repeat(is_end & (lengths >= max(5, 0.02 * rate)), lengths)


def measure(item: Item) -> Sequence[Measurement]:
    """Return rate, RR intervals, intervals of the beat where leads agree, and each lead's quality and amplitudes; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "signal" else None
    if not isinstance(loaded, Signal) or loaded.samples.size == 0:
        return ()
    rate = loaded.sampling_rate_hz
    unusable = [np.isnan(row) | flat_mask(row, rate) for row in loaded.samples]
    qualities = [quality_of(row, rate) for row in loaded.samples]
    found = [_missing(unusable)]
    found += [
        _range(lead, unit, row)
        for lead, unit, row in zip(loaded.leads, loaded.units, loaded.samples, strict=True)
        if not np.isnan(row).all()
    ]
    for lead, quality in zip(loaded.leads, qualities, strict=True):
        found.append(Measurement(f"quality index of lead {lead}", quality.index, "1", _quality_rule(quality)))
    row_number = _rhythm_row(loaded, unusable, qualities)
    if row_number is None or loaded.samples.shape[1] < LEAST_RHYTHM_S * rate or rate < 40:
        return tuple(found)
    peaks = r_peaks(loaded.samples[row_number], rate)
    rhythm = _rhythm(loaded, row_number, peaks, unusable[row_number])
    if not rhythm:
        return tuple(found)
    rr_s = next(part.value for part in rhythm if part.name == "mean RR interval") / 1000
    return (*rhythm, *_intervals(loaded, peaks, qualities, rr_s), *found, *_amplitudes(loaded, peaks, unusable))


def _quality_rule(quality: Quality) -> str:
    return (
        f"usable share {quality.usable:.2f} times the share of four checks that hold: kurtosis {quality.kurtosis:.1f} above 5, power of "
        f"5-15 Hz {quality.qrs_share:.2f} of 5-40 Hz at least 0.4, of 0-1 Hz {quality.baseline_share:.2f} of 0-40 Hz at most 0.1, "
        f"above 40 Hz {quality.noise_share:.2f} at most 0.3 (Li, Mark & Clifford 2008; Zhao & Zhang 2018)"
    )


def _missing(unusable: Sequence[NDArray[np.bool_]]) -> Measurement:
    return Measurement(
        "share of the ECG that is missing or flat",
        100.0 * float(np.mean([mask.mean() for mask in unusable])),
        "%",
        "samples that are missing, or in a run of one value for 2 s or longer, over all leads",
    )


def _range(lead: str, unit: str, row: NDArray[np.float32]) -> Measurement:
    return Measurement(
        f"peak-to-peak range of lead {lead}",
        float(np.nanmax(row) - np.nanmin(row)),
        unit,
        "highest minus lowest sample, unfiltered",
    )


def _rhythm_row(signal: Signal, unusable: Sequence[NDArray[np.bool_]], qualities: Sequence[Quality]) -> int | None:
    """Return the lead of the best quality among those at least half usable; among equals, the usual order."""
    order = [signal.leads.index(lead) for lead in RHYTHM_LEADS if lead in signal.leads]
    order += [row for row, lead in enumerate(signal.leads) if row not in order and lead in LEADS]
    usable = [row for row in order if unusable[row].mean() < 0.5]
    return max(usable, key=lambda row: round(qualities[row].index, 1), default=None)


def _rhythm(signal: Signal, row: int, peaks: NDArray[np.int64], unusable: NDArray[np.bool_]) -> tuple[Measurement, ...]:
    bad = np.concatenate(([0], np.cumsum(unusable)))
    between = bad[peaks[1:]] - bad[peaks[:-1]] if len(peaks) > 1 else np.zeros(0)
    is_whole = between <= 0.1 * signal.sampling_rate_hz  # an interval across a gap is no RR interval
    intervals_s = np.diff(peaks)[is_whole] / signal.sampling_rate_hz
    if len(intervals_s) < LEAST_BEATS - 1:
        return ()
    rule = f"R peaks of lead {signal.leads[row]} after {PAN_TOMPKINS}"
    of = f"of {len(intervals_s)} RR intervals; {rule}"
    mean_s = float(intervals_s.mean())
    found = [
        Measurement("heart rate from R peaks", 60.0 / mean_s, "/min", f"60 s over the mean {of}"),
        Measurement("mean RR interval", 1000.0 * mean_s, "ms", f"mean {of}"),
        Measurement("standard deviation of RR intervals", 1000.0 * float(intervals_s.std(ddof=1)), "ms", f"all beats, n − 1, {of}"),
    ]
    following = is_whole[1:] & is_whole[:-1]
    steps = np.diff(np.diff(peaks) / signal.sampling_rate_hz)[following]
    if len(steps) >= LEAST_BEATS - 2:
        irregular = 100.0 * float(np.sqrt(np.mean(steps**2)) / mean_s)
        source = "root mean square of successive RR differences over the mean RR (Task Force, Circulation 1996;93:1043-1065)"
        found.append(Measurement("RR irregularity", irregular, "%", f"{source}; {rule}"))
    return tuple(found)


def _amplitudes(signal: Signal, peaks: NDArray[np.int64], unusable: Sequence[NDArray[np.bool_]]) -> tuple[Measurement, ...]:
    """Return the R amplitude of each lead in volts: highest sample within 50 ms of the beat, above the stretch before it."""
    rate = signal.sampling_rate_hz
    reach, before, until = round(0.05 * rate), round(0.10 * rate), round(0.06 * rate)
    whole = peaks[(peaks >= before) & (peaks + reach < signal.samples.shape[1])]
    found = []
    for lead, unit, row, bad in zip(signal.leads, signal.units, signal.samples, unusable, strict=True):
        good = [at for at in whole if not bad[at - before : at + reach + 1].any()]
        if unit != "mV" or len(good) < LEAST_BEATS:
            continue
        heights = [row[at - reach : at + reach + 1].max() - np.median(row[at - before : at - until + 1]) for at in good]
        rule = f"median over {len(good)} beats of the highest sample within 50 ms of R, above the median from 100 to 60 ms before it"
        found.append(Measurement(f"R amplitude of lead {lead}", float(np.median(heights)), "mV", rule))
    return tuple(found)


def _intervals(signal: Signal, peaks: NDArray[np.int64], qualities: Sequence[Quality], rr_s: float) -> tuple[Measurement, ...]:
    """Return PR, QRS, QT and QTc where enough leads agree; else how many leads did, with the reason that nothing is given."""
    rows = [row for row, q in enumerate(qualities) if q.index >= LEAST_QUALITY and signal.leads[row] in INTERVAL_LEADS]
    if len(rows) < LEAST_LEADS or signal.sampling_rate_hz < LEAST_INTERVAL_RATE_HZ:
        wanted = f"a quality index of {LEAST_QUALITY} at {LEAST_INTERVAL_RATE_HZ:g} Hz or more"
        why = f"{len(rows)} leads of {', '.join(INTERVAL_LEADS)} have {wanted}"
        return (_not_given(len(rows), f"{why}; {LEAST_LEADS} are needed"),)
    outlined = _build_outliner()
    if outlined is None:
        return (_not_given(0, "needs an optional package: pip install 'salus[signals]'"),)
    spans = [span for row in rows if (span := outlined(signal.samples[row], peaks, signal.sampling_rate_hz)) is not None]
    found: list[Measurement] = []
    for name, place in (("PR interval", 0), ("QRS duration", 1), ("QT interval", 2)):
        values = np.array([span[place] for span in spans if np.isfinite(span[place])])
        spread = float(np.subtract(*np.percentile(values, [75, 25]))) if len(values) else np.inf
        if len(values) >= LEAST_LEADS and spread <= MOST_SPREAD_MS:
            rule = f"median over {len(values)} leads (interquartile range {spread:.0f} ms) of each lead's median beat; {OUTLINE}"
            found.append(Measurement(name, float(np.median(values)), "ms", rule))
    qt = next((part for part in found if part.name == "QT interval"), None)
    if qt is not None:
        for name, root, words in (("Bazett", np.sqrt(rr_s), "square root"), ("Fridericia", np.cbrt(rr_s), "cube root")):
            rule = f"QT over the {words} of the mean RR in seconds; {OUTLINE}"
            found.append(Measurement(f"QTc after {name}", float(qt.value / root), "ms", rule))
    if not found:
        needed = f"{LEAST_LEADS} that agree within {MOST_SPREAD_MS:g} ms are needed"
        found.append(_not_given(len(spans), f"{len(spans)} leads could be outlined; {needed}"))
    return tuple(found)


def _not_given(leads: int, why: str) -> Measurement:
    return Measurement("leads fit for PR, QRS and QT", float(leads), "1", f"PR, QRS and QT are not given: {why}")


def _build_outliner() -> Callable[[NDArray[np.float32], NDArray[np.int64], float], tuple[float, float, float] | None] | None:
    """Return the function that outlines the beats of a lead, or None without the library; its import takes seconds, once."""
    try:
        import neurokit2
    except ImportError:
        return None

    def outlined(row: NDArray[np.float32], peaks: NDArray[np.int64], rate: float) -> tuple[float, float, float] | None:
        """Return PR, QRS and QT of the median beat (ms, NaN where unknown), or None when the QRS found cannot be one."""
        span = slice(0, round(OUTLINED_S * rate))
        voltage, beats = _without_gaps(row[span]), peaks[peaks < span.stop]
        if len(beats) < LEAST_BEATS:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of every beat without a wave
            try:
                clean = neurokit2.ecg_clean(voltage, sampling_rate=round(rate))
                _, waves = neurokit2.ecg_delineate(clean, beats, sampling_rate=round(rate), method="prominence")
            except (ValueError, IndexError, KeyError, ZeroDivisionError, TypeError):
                return None  # it raises these on leads without a clear beat
        onset, end, p, t = (_places(waves, name, len(beats)) for name in ("R_Onsets", "R_Offsets", "P_Onsets", "T_Offsets"))
        pr, qrs, qt = (_median_ms(stop - start, rate) for start, stop in ((p, onset), (onset, end), (onset, t)))
        return (pr, qrs, qt) if qrs >= LEAST_QRS_MS else None

    return outlined


def _places(waves: Mapping[str, Sequence[float]], name: str, beats: int) -> NDArray[np.float64]:
    values = np.asarray(waves.get(f"ECG_{name}", ()), dtype=np.float64)
    return values if len(values) == beats else np.full(beats, np.nan)


def _median_ms(lengths: NDArray[np.float64], rate: float) -> float:
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) * 1000 / rate if len(known) >= max(LEAST_BEATS, 0.6 * len(lengths)) else float("nan")


def example() -> tuple[Item, ...]:
    """Return a synthetic two-lead ECG of 10 s at 75 /min: one narrow pulse for each beat.

    Example:
        >>> [round(found.value) for found in measure(example()[0]) if found.name == "heart rate from R peaks"]
        [75]
    """
    source = Source("example-ecg", "ec" * 32, "leads I, II")
    content = Content("signal", partial(_synthetic, 75.0), "2 leads (I, II), 250 Hz, 10 s")
    code = Code("wfdb", "I-II", "waveform I, II")
    return (Item(item_id(source.sha256, source.locator), "ecg", code, source, content=content, category="waveform"),)


def _synthetic(rate_per_min: float) -> Signal:
    time_s = np.arange(2500) / 250.0
    phase_s = time_s % (60.0 / rate_per_min) - 0.3
    beat = np.exp(-0.5 * (phase_s / 0.012) ** 2) + 0.25 * np.exp(-0.5 * ((phase_s - 0.25) / 0.05) ** 2)
    samples = np.stack([0.6 * beat, beat]).astype(np.float32)
    return Signal(samples, ("I", "II"), ("mV", "mV"), 250.0)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the signal network with these settings."""
    from salus.encode.signal import SignalEncoder

    return SignalEncoder(**settings)


MODALITY = Modality(
    name="ecg",
    title="electrocardiogram",
    claims=("dicom:ecg", "modality:ecg", "signal:ecg", *INTERVAL_CODES, *(f"lead:{lead.lower()}" for lead in LEADS)),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
    measure=measure,
)
