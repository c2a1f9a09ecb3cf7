"""Steps by which a value or picture was normalised: their words, and how to undo those that can be undone.

Takes `Normalisation` steps, as `Item.normalised` holds them in the order in which they were done; gives words and what the source
wrote. The steps: `unit` (a number to its variable's unit), `lead_unit` (voltages to mV), `rescale` (stored pixels to physical ones),
`mirror` (MONOCHROME1: bright is high), `turn` (upright, as EXIF or the container says), and, which cannot be undone, `colour`, `resize`,
`resample` (another rate) and `middle_frame` (one frame of several).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus import units
from salus.errors import ConfigError
from salus.record.patient import Item, Normalisation, ReferenceRange, Signal

PIXEL_STEPS = frozenset({"rescale", "mirror", "turn"})
UPRIGHT = 1
"""EXIF orientation of a picture that needs no turning (EXIF 2.32, tag 0x0112)."""


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


def turn(orientation: object) -> tuple[Normalisation, ...]:
    """Return the step of turning a picture upright by its EXIF orientation; none where it is upright or not stated.

    Example:
        >>> turn(6)
        (Normalisation(step='turn', parameters=(('exif_orientation', 6.0),)),)
        >>> turn(1), turn(0), turn("6")  # a damaged file may hold anything
        ((), (), ())
    """
    is_stated = isinstance(orientation, int) and 2 <= orientation <= 8
    return (Normalisation("turn", (("exif_orientation", float(orientation)),)),) if is_stated else ()  # type: ignore[arg-type]


def colour(mode: str, *, has_profile: bool = False, bits: int = 8) -> tuple[Normalisation, ...]:
    """Return the step from a picture's own colours to sRGB with 8 bits; none where they are those.

    Args:
        mode: Pillow's name of the colours as stored.
        has_profile: whether the file's own ICC profile was applied.
        bits: of one colour, as stored.

    Example:
        >>> colour("RGB"), words(colour("RGB", has_profile=True, bits=16)[0])
        ((), 'colour, from RGB, profile own, bits 16.0')
    """
    given = (("profile", "own"),) if has_profile else ()
    deep = (("bits", float(bits)),) if bits != 8 else ()
    return (Normalisation("colour", (("from", mode), *given, *deep)),) if mode != "RGB" or given or deep else ()


def resample(from_hz: float, to_hz: float) -> tuple[Normalisation, ...]:
    """Return the step to another rate; none where it is the same."""
    return (Normalisation("resample", (("from_hz", from_hz), ("to_hz", to_hz))),) if from_hz != to_hz else ()


def lead_unit(leads: Sequence[str], before: Sequence[str], after: Sequence[str]) -> tuple[Normalisation, ...]:
    """Return the step of voltages to mV, with each changed lead's own unit; none where no unit changed.

    Example:
        >>> lead_unit(("II", "RESP"), ("uV", "1"), ("mV", "1"))
        (Normalisation(step='lead_unit', parameters=(('II', 'uV'),)),)
    """
    changed = tuple((lead, old) for lead, old, new in zip(leads, before, after, strict=True) if old != new)
    return (Normalisation("lead_unit", changed),) if changed else ()


def undo_signal(signal: Signal, steps: Sequence[Normalisation]) -> Signal:
    """Return a signal in the units that the source wrote.

    Example:
        >>> signal = Signal(np.array([[0.001, 0.002]]), ("II",), ("mV",), 250.0)
        >>> back = undo_signal(signal, lead_unit(("II",), ("uV",), ("mV",)))
        >>> back.samples.round(6).tolist(), back.units
        ([[1.0, 2.0]], ('uV',))
    """
    own = {name: str(unit) for step in steps if step.step == "lead_unit" for name, unit in step.parameters}
    units_now = tuple(own.get(lead, unit) for lead, unit in zip(signal.leads, signal.units, strict=True))
    factors = [units.convert(1.0, old, new) for old, new in zip(signal.units, units_now, strict=True)]
    return replace(signal, samples=signal.samples * np.array(factors, dtype=signal.samples.dtype)[:, None], units=units_now)


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
    """Return the stored values of a grey picture or volume, by undoing its steps from the last to the first.

    Args:
        pixels: (H, W), or any shape where no step turns it, as loaded.
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
        elif step.step == "turn" and "exif_orientation" in given:
            out = _turned_back(out, int(given["exif_orientation"]))
        elif step.step != "middle_frame":
            raise ConfigError(f"Cannot undo the step {step.step!r}: what it changed is not kept. Read the file again.")
    return out


def _turned_back(pixels: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Return a picture as it was before it was turned upright."""
    if orientation in (6, 8):
        return np.rot90(pixels, 1 if orientation == 6 else -1)
    flipped = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.T, 7: pixels[::-1, ::-1].T}
    return flipped[orientation]
