"""What a waveform channel carries, by its label, and how its channels become items: the same for every format.

Takes labels as devices write them; gives the kind (`eeg`, `ppg`, …) as a key that modalities claim, distinct names, and items
grouped by modality. Knows no file format and computes nothing clinical.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from salus.errors import FormatError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.patient import Code, Content, Item, Normalisation, ObservedTime, Signal, Source, item_id
from salus.record.read.leads import LEADS, gap_remarks, lead_name
from salus.record.read.limb_leads import limb_remarks

_TEN_TWENTY = """
nz fp1 fpz fp2 af9 af7 af5 af3 af1 afz af2 af4 af6 af8 af10 f9 f7 f5 f3 f1 fz f2 f4 f6 f8 f10 ft9 ft7 fc5 fc3 fc1 fcz fc2 fc4 fc6 ft8 ft10
a1 t9 t7 t3 c5 c3 c1 cz c2 c4 c6 t8 t4 t10 a2 tp9 tp7 cp5 cp3 cp1 cpz cp2 cp4 cp6 tp8 tp10 p9 p7 t5 p5 p3 p1 pz p2 p4 p6 p8 t6 p10
po9 po7 po5 po3 po1 poz po2 po4 po6 po8 po10 o1 oz o2 iz m1 m2
"""
ELECTRODES = frozenset(_TEN_TWENTY.split())
"""Electrodes of the extended 10-20 system (ACNS guideline 2, 2016), with the older T3 to T6, ears A1 and A2, mastoids M1 and M2."""
REFERENCES = frozenset(("ref", "avg", "av", "car", "le", "lle", "rle", "ar", "a1a2", "m1m2", "gnd"))
KINDS = (
    ("ecg", r"ecg|ekg|electrocardiogram"),
    ("eog", r"eog|electro-?oculogram"),
    ("emg", r"emg|electromyogra"),
    ("eeg", r"eeg|electroencephalogram"),
    ("ppg", r"pleth|ppg|photoplethysmogra|pulse ?oximet.*wave"),
    ("pressure", r"^(abp|art|aobp|ao|pap|pa|ibp|p1|bp)\d?$|(arterial|aort|pulmonary artery).*press|press.*(arter|aort)"),
    ("respiration", r"^(resp|thor|abdo|airflow|nasal|impedance)|\bresp|respirat|thorax|abdomen"),
    ("accelerometer", r"^(acc|accel)|accelerom|acceleration"),
    ("glucose", r"^(cgm|sensor_?glucose|interstitial_?glucose)"),
)
"""Kind of a channel and the pattern of its label, in the order in which they are asked."""
SPECIFIC = re.compile(r"^(ecg|ekg|eog|emg|eeg)[\s_]+(?=\S)", re.IGNORECASE)
"""Type of signal before the name of a channel, as EDF+ writes it (`EEG Fpz-Cz`)."""
MOST_CHECKED_SAMPLES = 25_000_000
"""Waveforms with more samples than this are not searched for gaps when they are inspected."""


@dataclass(frozen=True)
class Waveform:
    """Channels of one rate in one place of a file, before they are grouped by modality."""

    source: Source
    system: str
    """Code system of the items: the short name of the format."""
    leads: tuple[str, ...]
    sampling_rate_hz: float
    samples: int
    load: Callable[[tuple[int, ...]], Signal]
    """Reads the channels with these positions."""
    observed_at: ObservedTime | None = None
    remarks: tuple[str, ...] = ()
    label: str = ""
    """What else the summary says, such as `median beat`."""
    normalised: tuple[Normalisation, ...] = ()
    """Steps whose parameters are named by lead."""


def kind_of(label: str) -> str | None:
    """Return the kind of signal that a channel's label names, or None.

    Example:
        >>> [kind_of(label) for label in ("EEG Fpz-Cz", "Fp1-F7", "PLETH", "ABP", "Resp oro-nasal", "acc_x", "SaO2")]
        ['eeg', 'eeg', 'ppg', 'pressure', 'respiration', 'accelerometer', None]
    """
    cleaned = label.strip().lower()
    parts = [part.strip() for part in re.split(r"[-–:/]", cleaned)]
    if parts[0] in ELECTRODES and all(part in ELECTRODES | REFERENCES for part in parts):
        return "eeg"
    return next((kind for kind, pattern in KINDS if re.search(pattern, cleaned)), None)


def claim_keys(label: str) -> tuple[str, ...]:
    """Return the keys by which modalities may claim a channel: its lead, then its kind.

    Example:
        >>> claim_keys("PLETH")
        ('lead:PLETH', 'signal:ppg')
    """
    kind = kind_of(label)
    return (f"lead:{lead_name(label)}", *((f"signal:{kind}",) if kind else ()))


def distinct(names: Sequence[str], *, file: str) -> tuple[str, ...]:
    """Return the names, a second channel of one name numbered.

    Raises:
        FormatError: one ECG lead stands twice, so that no one knows which is meant.

    Example:
        >>> distinct(("EMG", "EMG"), file="a.edf")
        ('EMG', 'EMG (2)')
        >>> distinct(("V1", "V1"), file="a.edf")
        Traceback (most recent call last):
        ...
        salus.errors.FormatError: Cannot read 'a.edf': it holds ECG lead V1 twice. Rename or remove one of the two.
    """
    seen: dict[str, int] = {}
    given = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1 and name in LEADS:
            raise FormatError(f"Cannot read '{file}': it holds ECG lead {name} twice. Rename or remove one of the two.")
        given.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(given)


def signal_remarks(signal: Signal) -> tuple[str, ...]:
    """Return remarks on gaps, flat stretches, and limb leads that do not fit each other."""
    return (*gap_remarks(signal.samples, signal.leads, signal.sampling_rate_hz), *limb_remarks(signal))


def steps_of(steps: Sequence[Normalisation], leads: Sequence[str]) -> tuple[Normalisation, ...]:
    """Return the steps of the leads that an item holds."""
    own = (Normalisation(one.step, tuple(each for each in one.parameters if each[0] in leads)) for one in steps)
    return tuple(one for one in own if one.parameters)


def waveform_items(waveform: Waveform, declared: str | None = None) -> list[Item]:
    """Return one item for each modality among the channels.

    Args:
        waveform: what the file holds.
        declared: the modality that a manifest gives; None: each channel's own.

    Raises:
        FormatError: the samples cannot be read.
    """
    groups: dict[str, list[int]] = {}
    for index, lead in enumerate(waveform.leads):
        groups.setdefault(declared or modality_of(*claim_keys(lead)), []).append(index)
    return [_item(waveform, modality, tuple(indices)) for modality, indices in groups.items()]


def _item(waveform: Waveform, modality: str, indices: tuple[int, ...]) -> Item:
    leads = tuple(waveform.leads[index] for index in indices)
    of_others = {f"channel {lead} " for index, lead in enumerate(waveform.leads) if index not in indices}
    remarks = [remark for remark in waveform.remarks if not remark.startswith(tuple(of_others))]
    if waveform.samples * len(leads) <= MOST_CHECKED_SAMPLES:
        remarks += signal_remarks(waveform.load(indices))
    else:
        remarks.append(f"more than {MOST_CHECKED_SAMPLES:,} samples: not searched for gaps or flat stretches")
    if modality == UNCLAIMED:
        remarks.append("no installed modality claims these channels")
    seconds = waveform.samples / waveform.sampling_rate_hz
    counted = f"{len(leads)} channel{'s'[: len(leads) != 1]} ({', '.join(leads)})"
    summary = f"{counted}, {waveform.sampling_rate_hz:g} Hz, {seconds:g} s" + (f", {waveform.label}" if waveform.label else "")
    source = waveform.source
    locator = f"{source.locator} channels {','.join(map(str, indices))}".strip()

    return Item(
        id=item_id(source.sha256, locator),
        modality=modality,
        code=Code(waveform.system, "-".join(leads), f"waveform {', '.join(leads)}"),
        source=Source(source.path, source.sha256, locator),
        observed_at=waveform.observed_at,
        category="waveform",
        content=Content("signal", partial(waveform.load, indices), summary),
        remarks=tuple(remarks),
        normalised=steps_of(waveform.normalised, leads),
    )
