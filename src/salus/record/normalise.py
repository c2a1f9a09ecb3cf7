"""Brings numeric values to their variable's unit, and marks those that cannot be right.

Takes items as readers give them; gives the same items in the same order, converted and with remarks. Nothing is dropped: a value
outside the accepted range, or in a unit that does not fit, is kept to be shown, and `is_usable` says that it must not be used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from salus import units
from salus.errors import UnitError
from salus.record.normalised import words
from salus.record.patient import Item, Normalisation, ReferenceRange
from salus.record.variables import Variable, variable_of

NOT_USED = "shown, not used"
"""Ends every remark on a value that no later stage may compute with."""

MONOVALENT = frozenset({"sodium", "potassium", "chloride", "bicarbonate"})
"""Variables of ions with one charge: one milliequivalent is one millimole."""


def is_usable(item: Item) -> bool:
    """Return whether later stages may compute with the item's value; False for one that normalising marked.

    Example:
        >>> from salus.record.patient import Code, Source
        >>> hot = Item("a", "vitals_labs", Code("column", "temp", "temperature"), Source("a.csv", ""), value=99.0)
        >>> is_usable(hot), is_usable(replace(hot, remarks=(f"outside accepted range 25–45 °C: {NOT_USED}",)))
        (True, False)
    """
    return not any(remark.endswith(NOT_USED) for remark in item.remarks)


def _converted_range(given: ReferenceRange | None, variable: Variable, from_unit: str) -> ReferenceRange | None:
    """Return the range that the record itself states, in the variable's unit."""
    if given is None:
        return None
    limits = [None if limit is None else _converted(limit, variable, from_unit) for limit in (given.low, given.high)]
    return ReferenceRange(limits[0], limits[1], given.source)


def _converted(value: float, variable: Variable, from_unit: str) -> float:
    valence = 1 if variable.name in MONOVALENT else None
    return units.convert(value, from_unit, variable.unit, molar_mass_g_mol=variable.molar_mass_g_mol, valence=valence)


@cache
def _line(variable: Variable, from_unit: str) -> tuple[float, float]:
    """Return factor and start of a conversion; units differ by these and nothing more."""
    offset = _converted(0.0, variable, from_unit)
    return _converted(1.0, variable, from_unit) - offset, offset


def _in_unit_of(variable: Variable, item: Item, value: float) -> Item:
    """Return the item in the variable's unit, or marked as not usable when its own unit does not lead there."""
    wanted = units.words(variable.unit) or variable.unit
    if item.unit is None:
        remark = f"no unit stated, {variable.display} is in {wanted}: {NOT_USED}"
        return replace(item, remarks=(*item.remarks, remark))
    try:
        converted = _converted(value, variable, item.unit)
        reference_range = _converted_range(item.reference_range, variable, item.unit)
    except UnitError:
        remark = f"unit {item.unit!r} does not convert to {wanted}: {NOT_USED}"
        return replace(item, remarks=(*item.remarks, remark))
    changed = replace(item, value=converted, unit=variable.unit, reference_range=reference_range)
    if converted == value and units.words(item.unit) == units.words(variable.unit):
        return changed
    scale, offset = _line(variable, item.unit)
    given = (("from_value", value), ("from_unit", item.unit), ("scale", scale), ("offset", offset))
    step = Normalisation("unit", given)
    return replace(changed, remarks=(*item.remarks, words(step)), normalised=(*item.normalised, step))


def _normalised(item: Item, variable: Variable) -> Item:
    value = item.number
    if value is None:
        return item
    if item.unit == variable.unit and (variable.accepted is None or variable.accepted[0] <= value <= variable.accepted[1]):
        return item  # by far the most common
    if not is_usable(item):
        return item
    if item.unit != variable.unit:
        item = _in_unit_of(variable, item, value)
        if (value := item.number) is None or not is_usable(item):
            return item
    if variable.accepted is None or variable.accepted[0] <= value <= variable.accepted[1]:
        return item
    low, high = (units.number(limit) for limit in variable.accepted)
    remark = f"outside accepted range {low}–{high} {units.words(variable.unit)}".rstrip() + f": {NOT_USED}"
    return replace(item, remarks=(*item.remarks, remark))


def normalise(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return the items with numeric values in their variable's unit, and remarks on what was changed or cannot be used.

    An item whose code no modality declares as a variable is returned as it is. Applying it twice changes nothing more.
    """
    known: dict[tuple[str, str], Variable | None] = {}
    done: list[Item] = []
    for item in items:
        if not isinstance(item.value, float):
            done.append(item)
            continue
        key = (item.code.system, item.code.code)
        if key not in known:
            known[key] = variable_of(item.code)
        variable = known[key]
        done.append(item if variable is None else _normalised(item, variable))
    return tuple(done)
