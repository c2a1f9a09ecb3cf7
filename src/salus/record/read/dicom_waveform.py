"""Waveforms in DICOM files: one item for each multiplex group, voltages in mV, leads by their standard names.

Takes a `Header`; gives items whose samples load lazily. Computes nothing clinical.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from salus.errors import FormatError
from salus.record.claims import UNCLAIMED, modality_of
from salus.record.normalised import lead_unit
from salus.record.patient import Code, Content, Item, Signal, Source, item_id
from salus.record.read.channels import claim_keys, distinct, signal_remarks
from salus.record.read.dicom_header import Header, number_of, observed_at, read_header, recorded_at, sequence_of, text_of
from salus.record.read.dicom_image import DCM
from salus.record.read.leads import in_millivolts, lead_name, ucum_of
from salus.record.read.reader import ReadOptions

SAMPLE_TYPES = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "i2", (16, "US"): "u2", (32, "SL"): "i4", (32, "UL"): "u4"}
"""NumPy types by bits and WaveformSampleInterpretation (PS3.3 C.10.9.1.5); companded audio (MB, AB) is not read."""
SCP_LEADS = {
    "1": "I",
    "2": "II",
    "3": "V1",
    "4": "V2",
    "5": "V3",
    "6": "V4",
    "7": "V5",
    "8": "V6",
    "61": "III",
    "62": "aVR",
    "63": "aVL",
    "64": "aVF",
}
"""Lead numbers of SCP-ECG (EN 1064, table of lead identifications), used as `5.6.3-9-n` in DICOM PS3.16 CID 3001."""
MDC_LEADS = SCP_LEADS
"""The same numbers end the MDC codes `2:n` of ISO/IEEE 11073-10101."""


def waveform_items(header: Header, sha256: str, options: ReadOptions) -> tuple[Item, ...]:
    """Return one item for each multiplex group of a waveform object.

    Raises:
        FormatError: a group is truncated or its samples are of a kind that is not read.
        UnitError: a channel's unit is unknown.
    """
    kind = text_of(header, "Modality").upper() or "OT"
    return tuple(item for index in range(len(_groups(header))) for item in _group_items(header, index, (sha256, kind), options))


def _group_items(header: Header, index: int, of_file: tuple[str, str], options: ReadOptions) -> list[Item]:
    """Return one item of a multiplex group, or one for each modality when a modality claims only some of its channels (hemodynamic)."""
    sha256, kind = of_file
    signal, own_units = _signal(header, index, options), _own_units(header, index, options)
    label = text_of(header, "MultiplexGroupLabel", dataset=_groups(header)[index]).lower()
    whole = options.modality or modality_of(f"dicom:{kind}")
    groups: dict[str, list[int]] = {}
    for row, lead in enumerate(signal.leads):
        modality = whole if whole != UNCLAIMED else modality_of(*claim_keys(lead))
        groups.setdefault(modality, []).append(row)
    locator = f"WaveformSequence[{index}]"
    items = []
    for modality, rows in groups.items():
        part = _chosen(signal, tuple(rows))
        seconds = part.samples.shape[1] / part.sampling_rate_hz
        summary = f"{len(part.leads)} leads, {part.sampling_rate_hz:g} Hz, {seconds:g} s" + (f", {label}" if label else "")
        remarks = signal_remarks(part)
        if "median" in label:
            remarks = ("a median beat computed by the recorder, not a stretch of time", *remarks)
        place = locator if len(groups) == 1 else f"{locator} channels {','.join(map(str, rows))}"
        items.append(
            Item(
                id=item_id(sha256, place),
                modality=modality,
                code=Code(DCM, kind, "ECG" if kind == "ECG" else "waveform"),
                source=Source(str(header.path), sha256, place),
                observed_at=observed_at(header),
                recorded_at=recorded_at(header),
                category="waveform",
                content=Content("signal", partial(load_waveform, header.path, index, options, tuple(rows)), summary),
                remarks=(*_skew_remarks(header, index), *remarks),
                normalised=lead_unit(part.leads, [own_units[row] for row in rows], part.units),
            )
        )
    return items


def _chosen(signal: Signal, rows: tuple[int, ...]) -> Signal:
    leads, units = (tuple(each[row] for row in rows) for each in (signal.leads, signal.units))
    return Signal(signal.samples[list(rows)], leads, units, signal.sampling_rate_hz)


def _skew_s(header: Header, channel: Dataset, rate: float) -> float:
    """Return how much later than the group a channel begins, seconds (PS3.3 C.10.9.1.4.2: in seconds, or in samples)."""
    of_time = number_of(header, "ChannelTimeSkew", default=0.0, dataset=channel) or 0.0
    return of_time or (number_of(header, "ChannelSampleSkew", default=0.0, dataset=channel) or 0.0) / rate


def _skew_remarks(header: Header, index: int) -> tuple[str, ...]:
    group = _groups(header)[index]
    rate = number_of(header, "SamplingFrequency", dataset=group) or 1.0
    offset_ms = number_of(header, "MultiplexGroupTimeOffset", default=0.0, dataset=group) or 0.0
    skews = [_skew_s(header, channel, rate) for channel in sequence_of(header, "ChannelDefinitionSequence", dataset=group)]
    remarks = [f"the group begins {offset_ms:g} ms after the stated time"] if offset_ms else []
    if any(abs(skew) * rate >= 0.5 for skew in skews):
        remarks.append("channels that begin later by a stated skew were moved to the common time, to the nearest sample")
    return tuple(remarks)


def load_waveform(path: Path, index: int, options: ReadOptions, rows: tuple[int, ...] | None = None) -> Signal:
    """Return the samples of one multiplex group, or of some of its channels, (C, S), voltages in mV; padding is NaN.

    Raises:
        FormatError: the group is truncated or its samples are of a kind that is not read.
        UnitError: a channel's unit is unknown.

    Source: DICOM PS3.3 C.10.9.1.4 (sensitivity, correction factor, baseline), C.10.9.1.7 (padding value).
    """
    signal = _signal(read_header(path), index, options)
    return signal if rows is None else _chosen(signal, rows)


def _groups(header: Header) -> tuple[Dataset, ...]:
    return sequence_of(header, "WaveformSequence")


def _own_units(header: Header, index: int, options: ReadOptions) -> list[str]:
    channels = sequence_of(header, "ChannelDefinitionSequence", dataset=_groups(header)[index])
    return [_channel_unit(header, channel, _lead(header, channel, row), options) for row, channel in enumerate(channels)]


def _signal(header: Header, index: int, options: ReadOptions) -> Signal:
    group = _groups(header)[index]
    channels = sequence_of(header, "ChannelDefinitionSequence", dataset=group)
    stored = _stored(header, group, index, len(channels))
    samples = np.empty(stored.shape, dtype=np.float32)
    names, units = [], []
    for row, channel in enumerate(channels):
        names.append(_lead(header, channel, row))
        units.append(_channel_unit(header, channel, names[-1], options))
        sensitivity = number_of(header, "ChannelSensitivity", default=1.0, dataset=channel) or 0.0
        correction = number_of(header, "ChannelSensitivityCorrectionFactor", default=1.0, dataset=channel) or 0.0
        baseline = number_of(header, "ChannelBaseline", default=0.0, dataset=channel) or 0.0
        samples[row] = stored[row] * (sensitivity * correction) + baseline
    samples, in_mv = in_millivolts(samples, tuple(units))
    rate = number_of(header, "SamplingFrequency", dataset=group)
    if not rate or rate <= 0:
        raise FormatError(
            f"Cannot read DICOM '{header.path.name}': WaveformSequence[{index}] states no SamplingFrequency. Export it again."
        )
    samples = _unskewed(samples, [round(_skew_s(header, channel, rate) * rate) for channel in channels])
    return Signal(samples, distinct(names, file=header.path.name), in_mv, rate)


def _unskewed(samples: NDArray[np.float32], later: list[int]) -> NDArray[np.float32]:
    """Return the samples on the group's time: a channel that begins later is moved to the right, the rest is missing."""
    if not any(later):
        return samples
    moved = np.full_like(samples, np.nan)
    length = samples.shape[1]
    for row, shift in enumerate(later):
        first, kept = max(shift, 0), length - min(abs(shift), length)
        moved[row, first : first + kept] = samples[row, max(-shift, 0) : max(-shift, 0) + kept]
    return moved


def _stored(header: Header, group: Dataset, index: int, channels: int) -> NDArray[np.float64]:
    where = f"WaveformSequence[{index}]"
    counted = int(number_of(header, "NumberOfWaveformChannels", default=0, dataset=group) or 0)
    length = int(number_of(header, "NumberOfWaveformSamples", default=0, dataset=group) or 0)
    bits = int(number_of(header, "WaveformBitsAllocated", default=0, dataset=group) or 0)
    kind = text_of(header, "WaveformSampleInterpretation", dataset=group)
    if (bits, kind) not in SAMPLE_TYPES:
        raise FormatError(
            f"Cannot read DICOM '{header.path.name}': samples of {where} are {bits}-bit '{kind}'. Export them as 16-bit 'SS'."
        )
    if not counted or counted != channels or not length:
        raise FormatError(
            f"Cannot read DICOM '{header.path.name}': {where} defines {channels} channels but counts {counted}. Export it again."
        )
    order = "<" if header.transfer_syntax.is_little_endian else ">"
    dtype = np.dtype(order + SAMPLE_TYPES[(bits, kind)])
    content = bytes(group.get("WaveformData") or b"")
    if len(content) < counted * length * dtype.itemsize:
        raise FormatError(
            f"Cannot read DICOM '{header.path.name}': {where} is truncated "
            f"({counted * length * dtype.itemsize} bytes are promised, {len(content)} are there). Export or copy it again."
        )
    raw = np.frombuffer(content, dtype=dtype, count=counted * length).reshape(length, counted).T  # (S, C) -> (C, S)
    stored = raw.astype(np.float64)
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= dtype.itemsize:
        padding = int(np.frombuffer(padding[: dtype.itemsize], dtype=dtype)[0])
    if isinstance(padding, int):
        stored[raw == padding] = np.nan
    return stored


def _lead(header: Header, channel: Dataset, row: int) -> str:
    sources = sequence_of(header, "ChannelSourceSequence", dataset=channel)
    if sources:
        code = text_of(header, "CodeValue", dataset=sources[0])
        scheme = text_of(header, "CodingSchemeDesignator", dataset=sources[0]).upper()
        if scheme == "SCPECG" and code.startswith("5.6.3-9-"):
            code, table = code.removeprefix("5.6.3-9-"), SCP_LEADS
        elif scheme == "MDC" and code.startswith("2:"):
            code, table = code.removeprefix("2:"), MDC_LEADS
        else:
            code, table = "", {}
        named = table.get(code) or lead_name(text_of(header, "CodeMeaning", dataset=sources[0]))
        if named:
            return named
    return lead_name(text_of(header, "ChannelLabel", dataset=channel)) or f"channel {row + 1}"


def _channel_unit(header: Header, channel: Dataset, lead: str, options: ReadOptions) -> str:
    if lead in options.units:
        return ucum_of(options.units[lead], lead=lead, file=header.path.name)
    units = sequence_of(header, "ChannelSensitivityUnitsSequence", dataset=channel)
    stated = text_of(header, "CodeValue", dataset=units[0]) if units else "1"
    return ucum_of(stated, lead=lead, file=header.path.name)
