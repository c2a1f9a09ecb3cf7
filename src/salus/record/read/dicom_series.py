"""Joins the slices of a DICOM series to a volume, by where they lie and never by file name or instance number.

Takes the items of one patient; gives the same with one volume in place of the slices that form one. Missing slices are found and left
as missing voxels, second slices of one place are found and left out. What is no regular stack (a scout among its scan, a tilted gantry,
uneven steps) stays as single slices, with the reason. Leaves out multi-frame objects.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Instant, Item, Normalisation, Plane, Skipped, Source, Volume, item_id
from salus.record.read.dicom_image import DCM, load_image
from salus.record.read.reader import Joined

VOLUMES = {"CT": "CT volume", "MR": "MR volume", "PT": "PET volume"}
"""DICOM modality → words; of other kinds a series is no stack."""
LEAST_SLICES = 3
SAME_DIRECTION = 1e-3
"""Largest difference of a direction cosine within one volume."""
SAME_SPACING = 1e-3
"""Largest relative difference of pixel spacing within one volume."""
SAME_PLACE_MM = 1e-2
"""Slices closer than this along the normal lie at one place."""
UNEVEN = 0.1
"""Largest departure of a step from a whole multiple of the volume's step, as a share of it."""
MOST_TILT_DEGREES = 0.5
"""Angle between the stack and the normal of its slices, from which on the gantry counts as tilted."""
MOST_MISSING = 0.5
"""Share of the places of a stack that may lack a slice."""
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From LPS, the axes of DICOM (PS3.3 C.7.6.2.1.1), to RAS+, those of NIfTI."""


@dataclass(frozen=True)
class Stack:
    """Slices in the order of their places, and where they lie."""

    slices: tuple[Item | None, ...]
    """By place along the normal; None where one is missing."""
    affine: NDArray[np.float64]
    repeated: tuple[Item, ...]
    """Second slices of one place."""


@dataclass(frozen=True)
class Refused:
    """Slices form no regular stack."""

    why: str


def join_slices(items: Sequence[Item]) -> Joined:
    """Return the items of one patient with a volume for each stack of slices.

    Source: DICOM PS3.3 C.7.6.2.1.1 (position and orientation).
    """
    series: dict[tuple[object, ...], list[Item]] = defaultdict(list)
    for item in items:
        is_picture = item.content is not None and item.content.kind == "image"
        if is_picture and item.plane is not None and item.code.system == DCM and item.code.code in VOLUMES:
            series[item.code.code, item.plane.series_uid, item.plane.acquisition].append(item)
    changed: dict[str, Item | None] = {}
    skipped: list[Skipped] = []
    stacked: set[str] = set()
    for slices in series.values():
        if len(slices) < LEAST_SLICES:
            continue
        stack = stack_of(slices)
        if isinstance(stack, Refused):
            remark = f"not joined to a volume with the other slices of its series: {stack.why}"
            changed |= {one.id: replace(one, remarks=(*one.remarks, remark)) for one in slices}
            continue
        changed |= dict.fromkeys((one.id for one in slices), None)
        volume = _volume(stack)
        changed[slices[0].id] = volume
        reason = "a second slice at the place of another one of its series: a duplicate, left out"
        stacked.update(one.source.path for one in slices)
        skipped += [Skipped(one.source.path, reason) for one in stack.repeated]
    kept = (changed.get(item.id, item) for item in _once(items, stacked))
    return Joined(tuple(item for item in kept if item is not None), tuple(skipped))


def _once(items: Sequence[Item], files: Set[str]) -> Iterator[Item]:
    """Yield the items without those that say of the person what another one of these files has said."""
    said: set[tuple[object, ...]] = set()
    for item in items:
        if item.category == "demographic" and item.source.path in files:
            what = (item.code, item.value, item.unit)
            if what in said:
                continue
            said.add(what)
        yield item


def stack_of(slices: Sequence[Item]) -> Stack | Refused:
    """Return the slices in the order of their places, or why they form no regular stack."""
    planes = [plane_in(one) for one in slices]
    if why := _mixed(planes):
        return Refused(why)
    normal = np.array(planes[0].normal)
    placed = sorted(((float(np.dot(plane.position_mm, normal)), one.id, one) for plane, one in zip(planes, slices, strict=True)))
    kept = [placed[0]]
    repeated: list[tuple[float, str, Item]] = []
    for one in placed[1:]:
        (repeated if one[0] - kept[-1][0] < SAME_PLACE_MM else kept).append(one)
    if 2 * len(repeated) >= len(kept):
        return Refused(f"{len(repeated)} of {len(slices)} lie at the place of another one (several pictures of each place)")
    if len(kept) < LEAST_SLICES:
        return Refused(f"they lie at {len(kept)} places only")
    steps = np.diff([place for place, _, _ in kept])
    step = float(np.median(steps[steps < 1.5 * steps.min()]))
    multiples = steps / step
    if np.abs(multiples - multiples.round()).max() > UNEVEN:
        return Refused(f"their steps are uneven ({steps.min():.3g} to {steps.max():.3g} mm)")
    slots = np.concatenate(([0], np.cumsum(multiples.round()))).astype(int)
    if 1.0 - len(kept) / (slots[-1] + 1) > MOST_MISSING:
        return Refused(f"{slots[-1] + 1 - len(kept)} of {slots[-1] + 1} slices would be missing")
    along = _along(kept, slots, normal)
    if isinstance(along, Refused):
        return along
    row, column = (np.array(axis) for axis in (planes[0].row_axis, planes[0].column_axis))
    first = np.array(plane_in(kept[0][2]).position_mm)
    down, across = planes[0].spacing_mm
    affine = TO_RAS @ np.vstack((np.column_stack((row * across, column * down, along, first)), (0.0, 0.0, 0.0, 1.0)))
    at = dict(zip(slots.tolist(), (one for _, _, one in kept), strict=True))
    return Stack(tuple(at.get(slot) for slot in range(slots[-1] + 1)), affine, tuple(one for _, _, one in repeated))


def _along(
    placed: Sequence[tuple[float, str, Item]], slots: NDArray[np.int64], normal: NDArray[np.float64]
) -> NDArray[np.float64] | Refused:
    """Return the vector from slice to slice, mm in LPS; it must run along the normal, and every slice must lie on it."""
    positions = np.array([plane_in(one).position_mm for _, _, one in placed])
    along: NDArray[np.float64] = (positions[-1] - positions[0]) / float(slots[-1])
    length = float(np.linalg.norm(along))
    tilt = math.degrees(math.acos(min(1.0, float(along @ normal) / length)))
    if tilt > MOST_TILT_DEGREES:
        return Refused(f"the gantry was tilted by {tilt:.1f} degrees, so that slices lie shifted against each other")
    apart = np.abs(positions - positions[0] - slots[:, None] * along).max()
    if apart > UNEVEN * length:
        return Refused(f"their places leave the line of the stack by up to {apart:.2g} mm")
    return along


def _mixed(planes: Sequence[Plane]) -> str | None:
    """Return in what the slices of a series differ that those of one volume share."""
    first = planes[0]
    axes = np.array([(*plane.row_axis, *plane.column_axis) for plane in planes])
    if np.abs(axes - axes[0]).max() > SAME_DIRECTION:
        return f"they lie in {len({tuple(row) for row in axes.round(2).tolist()})} directions (a mixed series)"
    if any(plane.shape != first.shape for plane in planes):
        return f"they have {len({plane.shape for plane in planes})} sizes in pixels (a mixed series)"
    spacing = np.array([plane.spacing_mm for plane in planes])
    if np.abs(spacing / spacing[0] - 1.0).max() > SAME_SPACING:
        return "their pixel spacing differs (a mixed series)"
    if len({plane.frame_of_reference_uid for plane in planes}) > 1:
        return "their places refer to different frames of reference (a mixed series)"
    return None


def _volume(stack: Stack) -> Item:
    slices = [one for one in stack.slices if one is not None]
    first = slices[0]
    digest = hashlib.sha256("".join(sorted(one.source.sha256 for one in slices)).encode()).hexdigest()
    paths = tuple(None if one is None else Path(one.source.path) for one in stack.slices)
    kind = first.code.code
    times = [one.observed_at for one in slices if isinstance(one.observed_at, Instant)]
    made = [one.recorded_at for one in slices if isinstance(one.recorded_at, Instant)]
    folder = Path(first.source.path).parent
    return Item(
        id=item_id(digest, "volume"),
        modality=modality_of(f"dicom:{kind}-volume") if first.modality == modality_of(f"dicom:{kind}") else first.modality,
        code=Code(DCM, kind, VOLUMES[kind]),
        source=Source(str(folder), digest, f"series of {len(slices)} slices"),
        observed_at=max(times, key=lambda time: time.at) if times else None,  # before its last slice there was no volume
        recorded_at=max(made, key=lambda time: time.at) if made else None,
        category="image",
        content=Content("volume", partial(load_stack, paths, stack.affine), summary_of(stack, VOLUMES[kind])),
        remarks=tuple(remarks_on(stack)),
        plane=plane_in(first),
        parts=tuple(one.source for one in slices),
        normalised=first.normalised if len({one.normalised for one in slices}) == 1 else (Normalisation("rescale_of_each_slice"),),
    )


def summary_of(stack: Stack, words: str) -> str:
    """Return size, spacing and direction of a stack in words."""
    plane = plane_in(next(one for one in stack.slices if one is not None))
    step = float(np.linalg.norm(stack.affine[:3, 2]))
    size = " × ".join(str(one) for one in (len(stack.slices), *plane.shape))
    spacing = " × ".join(f"{one:.3g}" for one in (step, *plane.spacing_mm))
    return f"{size} voxels, {spacing} mm, {cut_of(plane)}, {words}"


def cut_of(plane: Plane) -> str:
    """Return `axial`, `coronal` or `sagittal`, by the body axis that is nearest to the normal.

    Example:
        >>> cut_of(Plane("1.2", (0, 0, 0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 1.0), (4, 4)))
        'sagittal'
    """
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(plane.normal)))]


def remarks_on(stack: Stack, other_order: str = "file name") -> Iterator[str]:
    """Yield what its slices share, how they were ordered, and what is missing, repeated or thick."""
    slices = [one for one in stack.slices if one is not None]
    shared = set(slices[0].remarks).intersection(*(one.remarks for one in slices))
    yield from (remark for remark in slices[0].remarks if remark in shared)
    yield f"{len(slices)} slices ordered by place, not by {other_order}"
    missing = [place + 1 for place, one in enumerate(stack.slices) if one is None]
    if missing:
        places = ", ".join(map(str, missing[:5])) + (" and more" if len(missing) > 5 else "")
        yield f"{len(missing)} of {len(stack.slices)} slices missing (number {places} from the first): their voxels are missing, not zero"
    if stack.repeated:
        yield f"{len(stack.repeated)} second slices of one place left out"
    thickness, step = plane_in(slices[0]).thickness_mm, float(np.linalg.norm(stack.affine[:3, 2]))
    if thickness is not None and abs(thickness - step) > UNEVEN * step:
        yield f"slices {thickness:.3g} mm thick, {step:.3g} mm apart"


def load_stack(paths: Sequence[Path | None], affine: NDArray[np.float64]) -> Volume:
    """Return the voxels of a stack; (1, D, H, W), NaN where a slice is missing.

    Args:
        paths: files in the order of their places; None where one is missing.
        affine: as of `Volume`.

    Raises:
        FormatError: the pixels of a slice cannot be decoded.
        MissingExtra: a codec is not installed.
    """
    images = [None if path is None else load_image(path) for path in paths]
    known = next(image for image in images if image is not None)
    voxels = np.full((1, len(images), *known.pixels.shape), np.nan, np.float32)
    for place, image in enumerate(images):
        if image is not None and image.unit != known.unit:
            raise FormatError(
                "Cannot join the slices to a volume: the headers of some allow SUV and those of others do not. Export the series again."
            )
        if image is not None:
            voxels[0, place] = image.pixels
    return Volume(voxels, known.unit, affine, known.window)


def plane_in(item: Item) -> Plane:
    """Return the plane of an item that is known to have one."""
    assert item.plane is not None, "only items with a plane are stacked"
    return item.plane
