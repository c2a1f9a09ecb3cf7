"""Multi-frame DICOM objects whose frames are slices: enhanced CT, MR and PET, dose grids, reconstructed nuclear medicine.

Takes a `Header`; gives one volume for each kind of frame, or why there is none. Frames are ordered by where they lie, never by number;
points in time become the first axis. Leaves out frames without a place, which are a film (`dicom_image` shows one of them).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Item, Plane, Source, Volume, item_id
from salus.record.read.dicom_header import Header, number_of, numbers_of, observed_at, read_header, sequence_of, text_of, texts_of
from salus.record.read.dicom_image import DCM, functional, image_item, load_frames, shape_of
from salus.record.read.dicom_plane import plane_from
from salus.record.read.dicom_series import LEAST_SLICES, Refused, Stack, plane_in, remarks_on, stack_of, summary_of
from salus.record.read.reader import ReadOptions

KINDS = {"CT": "CT volume", "MR": "MR volume", "PT": "PET volume", "NM": "nuclear medicine volume", "RTDOSE": "radiotherapy dose volume"}
MOST_VOXELS = 1 << 29
"""Two GiB when loaded, as for NIfTI."""
TELL_APART = {
    "MREchoSequence": "EffectiveEchoTime",
    "MRDiffusionSequence": "DiffusionBValue",
    "CardiacSynchronizationSequence": "NominalCardiacTriggerDelayTime",
}
"""Macros and attributes in which frames of one place differ (DICOM PS3.3 C.8.13.5, C.7.6.16.2.7)."""
DIRECTION = "DiffusionGradientDirectionSequence"
SAME_AFFINE_MM = 1e-3
LATEST = 1 << 30

Places = tuple[tuple[int | None, ...], ...]
"""For each point in time, the frame of each slice, counted from 0; None where one is missing."""


def volume_items(header: Header, sha256: str, options: ReadOptions) -> tuple[Item, ...]:
    """Return a volume for each kind of frame; else the one picture of `image_item`, with the reason where its frames do have places.

    Raises:
        FormatError: the file is truncated, damaged or too large.
        MissingExtra: its compression needs a codec that is not installed.

    Source: DICOM PS3.3 C.7.6.16 (functional groups), C.8.8.3.2 (grid frame offset vector), C.8.4.15 (NM slices).
    """
    picture = image_item(header, sha256, options)  # refuses what cannot be decoded
    rows, columns, frames = shape_of(header)
    kind = picture.code.code
    if frames < LEAST_SLICES or kind not in KINDS:
        return (picture,)
    planes = _planes(header, (rows, columns), frames)
    if not planes:
        return (picture,)
    if rows * columns * frames > MOST_VOXELS:
        return (_with_reason(picture, f"more than {MOST_VOXELS} voxels"),)
    groups: dict[tuple[str, ...], dict[int, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for index, plane in enumerate(planes):
        one = replace(picture, id=f"{index:09d}", plane=plane, source=replace(picture.source, locator=f"frame {index + 1}"))
        groups[plane.acquisition][_time_of(header, index)].append(one)
    items = []
    for number, times in enumerate(groups.values()):
        stacks = [stack_of(times[time]) for time in sorted(times)]
        if why := _why_not(stacks):
            return (_with_reason(picture, why),)
        made = [stack for stack in stacks if isinstance(stack, Stack)]
        items.append(_item(header, picture, made, f"volume {number + 1}" if len(groups) > 1 else "volume"))
    return tuple(items)


def load_volume(path: Path, places: Places, affine: NDArray[np.float64], step_s: float | None) -> Volume:
    """Return the voxels of a multi-frame object; (T, D, H, W), NaN where a slice is missing.

    Raises:
        FormatError: the pixels of a frame cannot be decoded.
        MissingExtra: a codec is not installed.
    """
    header = read_header(path)
    rows, columns, _ = shape_of(header)
    at = {frame: (time, slot) for time, row in enumerate(places) for slot, frame in enumerate(row) if frame is not None}
    voxels = np.full((len(places), len(places[0]), rows, columns), np.nan, np.float32)
    unit, window = "1", None
    for frame, image in zip(sorted(at), load_frames(header, sorted(at)), strict=True):
        voxels[at[frame]] = image.pixels
        unit, window = image.unit, window or image.window
    return Volume(voxels, unit, affine, window, step_s)


def _planes(header: Header, shape: tuple[int, int], frames: int) -> list[Plane]:
    """Return the plane of every frame; empty when one has none."""
    if sequence_of(header, "PerFrameFunctionalGroupsSequence"):
        found = [_enhanced(header, shape, index) for index in range(frames)]
    elif text_of(header, "Modality").upper() == "RTDOSE":
        found = _shifted(header, None, shape, _dose_offsets(header, frames))
    elif "RECON TOMO" in " ".join(texts_of(header, "ImageType")).upper():
        detectors = sequence_of(header, "DetectorInformationSequence")
        step = number_of(header, "SpacingBetweenSlices") or 0.0
        found = _shifted(header, detectors[0], shape, [step * index for index in range(frames)]) if detectors and step else []
    else:
        found = []
    planes = [plane for plane in found if plane is not None]
    return planes if len(planes) == frames else []


def _enhanced(header: Header, shape: tuple[int, int], index: int) -> Plane | None:
    measures = functional(header, "PixelMeasuresSequence", index)
    position, orientation = functional(header, "PlanePositionSequence", index), functional(header, "PlaneOrientationSequence", index)
    if measures is None or position is None or orientation is None:
        return None
    content = functional(header, "FrameContentSequence", index)
    told = ["" if content is None else text_of(header, "StackID", dataset=content), _frame_type(header, index)]
    for macro, keyword in TELL_APART.items():
        found = functional(header, macro, index)
        told.append("" if found is None else text_of(header, keyword, dataset=found))
        directions = () if found is None else sequence_of(header, DIRECTION, dataset=found)
        told += [str(numbers_of(header, "DiffusionGradientOrientation", dataset=one)) for one in directions]
    return plane_from(
        header,
        shape,
        position=numbers_of(header, "ImagePositionPatient", dataset=position),
        cosines=numbers_of(header, "ImageOrientationPatient", dataset=orientation),
        measures=measures,
        acquisition=tuple(told),
    )


def _frame_type(header: Header, index: int) -> str:
    for macro in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
        if (found := functional(header, macro, index)) is not None:
            return "\\".join(texts_of(header, "FrameType", dataset=found))
    return ""


def _dose_offsets(header: Header, frames: int) -> list[float]:
    """Return how far each frame lies along the normal; the vector holds places along z when it does not begin with 0 (C.8.8.3.2)."""
    offsets = numbers_of(header, "GridFrameOffsetVector")
    if len(offsets) != frames or not all(map(math.isfinite, offsets)):
        return []
    return [offset - offsets[0] for offset in offsets]


def _shifted(header: Header, dataset: Dataset | None, shape: tuple[int, int], offsets: Sequence[float]) -> list[Plane | None]:
    first = plane_from(
        header,
        shape,
        position=numbers_of(header, "ImagePositionPatient", dataset=dataset),
        cosines=numbers_of(header, "ImageOrientationPatient", dataset=dataset),
        measures=None,
        acquisition=(),
    )
    if first is None:
        return []
    x, y, z = first.position_mm
    a, b, c = first.normal
    return [replace(first, position_mm=(x + a * offset, y + b * offset, z + c * offset)) for offset in offsets]


def _time_of(header: Header, index: int) -> int:
    content = functional(header, "FrameContentSequence", index)
    found = None if content is None else number_of(header, "TemporalPositionIndex", dataset=content)
    return int(found) if found is not None and 0 <= found < LATEST else 0


def _why_not(stacks: Sequence[Stack | Refused]) -> str | None:
    for stack in stacks:
        if isinstance(stack, Refused):
            return stack.why
    first, *rest = [stack for stack in stacks if isinstance(stack, Stack)]
    same = all(len(one.slices) == len(first.slices) and np.abs(one.affine - first.affine).max() < SAME_AFFINE_MM for one in rest)
    return None if same else "its points in time lie at different places"


def _with_reason(picture: Item, why: str) -> Item:
    return replace(picture, remarks=(*picture.remarks, f"its frames are not joined to a volume: {why}"))


def _item(header: Header, picture: Item, stacks: Sequence[Stack], locator: str) -> Item:
    kind, first = picture.code.code, stacks[0]
    places = tuple(tuple(None if one is None else int(one.id) for one in stack.slices) for stack in stacks)
    step_s = _step_s(header, places) if len(stacks) > 1 else None
    times = f", {len(stacks)} points in time" if len(stacks) > 1 else ""
    claimed = modality_of(f"dicom:{kind}-volume") if picture.modality == modality_of(f"dicom:{kind}") else picture.modality
    remarks = [remark for remark in remarks_on(first, "frame number") if "only the middle one" not in remark]
    return Item(
        id=item_id(picture.source.sha256, locator),
        modality=claimed,
        code=Code(DCM, kind, KINDS[kind]),
        source=Source(str(header.path), picture.source.sha256, locator),
        observed_at=observed_at(header),
        category="image",
        content=Content("volume", partial(load_volume, header.path, places, first.affine, step_s), summary_of(first, KINDS[kind]) + times),
        remarks=tuple(remarks),
        plane=plane_in(next(one for one in first.slices if one is not None)),
    )


def _step_s(header: Header, places: Places) -> float | None:
    """Return the constant step between points in time, from the temporal position macro; None where it is not stated or not constant."""
    offsets = []
    for row in places:
        index = next(frame for frame in row if frame is not None)
        macro = functional(header, "TemporalPositionSequence", index)
        found = None if macro is None else number_of(header, "TemporalPositionTimeOffset", dataset=macro)
        if found is None:
            return None
        offsets.append(found)
    steps = np.diff(offsets)
    return float(steps.mean()) if steps.min() > 0 and np.ptp(steps) < 1e-3 * steps.mean() else None
