"""Steps by which a value or picture was normalised: their words, and how to undo those that can be undone.

Takes `Normalisation` steps, as `Item.normalised` holds them in the order in which they were done; gives words and what the source
wrote. The steps: `unit` (a number to its variable's unit), `rescale` (stored pixels to physical ones), `mirror` (MONOCHROME1: bright is
high), `middle_frame` (one frame of several; cannot be undone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus import units
from salus.errors import ConfigError
from salus.record.patient import Item, Normalisation, ReferenceRange

PIXEL_STEPS = frozenset({"rescale", "mirror"})


def words(step: Normalisation) -> str:
    """Return a step as people read it in the remarks.

    Example:
        >>> words(Normalisation("unit", (("from_value", 98.6), ("from_unit", "[degF]"), ("scale", 0.5556), ("offset", -17.78))))
        'converted from 98.6 °F'
        >>> words(Normalisation("mirror", (("sum", 4095.0),)))
        'MONOCHROME1: mirrored so that bright is high'
    """
    given = dict(step.parameters)
    if step.step == "unit":
        return f"converted from {units.printed(float(given['from_value']), str(given['from_unit']))}"
    if step.step == "mirror":
        return "MONOCHROME1: mirrored so that bright is high"
    if step.step == "rescale":
        return f"rescaled: stored value × {given['slope']:g} + {given['intercept']:g}"
    return ", ".join((step.step.replace("_", " "), *(f"{name} {value}" for name, value in step.parameters)))


def undo_value(item: Item) -> Item:
    """Return the item with the number, unit and range that the source wrote; the same item when no unit was changed.

    Example:
        >>> from salus.record.patient import Code, Source
        >>> step = Normalisation("unit", (("from_value", 98.6), ("from_unit", "[degF]"), ("scale", 5 / 9), ("offset", -160 / 9)))
        >>> warm = Item("a", "vitals_labs", Code("", "", ""), Source("", ""), value=37.0, unit="Cel", normalised=(step,))
        >>> undo_value(warm).value, undo_value(warm).unit
        (98.6, '[degF]')
    """
    step = next((one for one in reversed(item.normalised) if one.step == "unit"), None)
    if step is None:
        return item
    given = dict(step.parameters)
    scale, offset = float(given["scale"]), float(given["offset"])
    limits = item.reference_range
    if limits is not None:
        low, high = (None if limit is None else (limit - offset) / scale for limit in (limits.low, limits.high))
        limits = ReferenceRange(low, high, limits.source)
    rest = tuple(one for one in item.normalised if one is not step)
    remarks = tuple(remark for remark in item.remarks if remark != words(step))
    return replace(
        item, value=float(given["from_value"]), unit=str(given["from_unit"]), reference_range=limits, normalised=rest, remarks=remarks
    )


def undo_pixels(pixels: NDArray[np.floating[Any]], steps: Sequence[Normalisation]) -> NDArray[np.float64]:
    """Return the stored values of a grey picture, by undoing its steps from the last to the first.

    Args:
        pixels: (H, W), as loaded.
        steps: `Item.normalised` of that picture.

    Raises:
        ConfigError: a step cannot be undone.

    Example:
        >>> steps = (Normalisation("rescale", (("slope", 2.0), ("intercept", -1024.0))),)
        >>> undo_pixels(np.array([[-1000.0, 0.0]]), steps).tolist()
        [[12.0, 512.0]]
        >>> undo_pixels(np.zeros((1, 1)), (Normalisation("colour"),))
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot undo the step 'colour': what it changed is not kept. Read the file again.
    """
    out = pixels.astype(np.float64)
    for step in reversed(steps):
        given = {name: float(value) for name, value in step.parameters if step.step in PIXEL_STEPS}
        if step.step == "mirror":
            out = given["sum"] - out
        elif step.step == "rescale":
            out = (out - given["intercept"]) / given["slope"]
        elif step.step != "middle_frame":
            raise ConfigError(f"Cannot undo the step {step.step!r}: what it changed is not kept. Read the file again.")
    return out
