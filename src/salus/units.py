"""Units of measurement by UCUM: check a code, convert a value, print it for people.

Takes UCUM codes (https://ucum.org/ucum, version 2.1, case-sensitive `c/s` codes); gives codes, numbers and words. The parser
and the conversion registry (ucumvert, pint) are built once, on first use: importing this module costs nothing. Knows no
variable: what a value means, and its plausible range, is declared elsewhere.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

from salus.errors import UnitError

_COMMON = (
    "%", "/min", "/uL", "1", "10*12/L", "10*3/uL", "10*6/uL", "10*9/L", "Cel", "Hz", "K", "L", "L/min", "Pa", "U/L",
    "[IU]/L", "[IU]/mL", "[degF]", "[hnsf'U]", "[in_i]", "[lb_av]", "[pH]", "a", "cm", "cm[H2O]", "d", "dB", "deg", "fL",
    "g", "g/L", "g/dL", "h", "kPa", "kg", "kg/m2", "m", "m/s", "m/s2", "mL", "mL/h", "mL/min", "mV", "meq/L", "mg", "mg/L",
    "mg/dL", "min", "mm", "mm/h", "mm[Hg]", "mmol/L", "mo", "mosm/kg", "ms", "ng/L", "ng/dL", "ng/mL", "pg", "pg/mL", "s",
    "uL", "uV", "ug", "ug/L", "ug/kg/min", "ug/mL", "umol/L", "wk", "{score}",
)  # fmt: skip
"""Codes that clinical data use most: the pool from which a close one is suggested."""

_SPELLINGS = {
    "mmhg": "mm[Hg]", "cmh2o": "cm[H2O]", "bpm": "/min", "beats": "1", "beat": "1", "breaths": "1", "breath": "1", "rpm": "/min",
    "°c": "Cel", "ºc": "Cel", "℃": "Cel", "degc": "Cel", "deg c": "Cel", "celsius": "Cel", "c": "Cel",
    "°f": "[degF]", "ºf": "[degF]", "degf": "[degF]", "deg f": "[degF]", "fahrenheit": "[degF]", "f": "[degF]",
    "meq": "meq", "mcg": "ug", "µg": "ug", "μg": "ug", "µl": "uL", "μl": "uL", "mcl": "uL", "µmol": "umol", "μmol": "umol",
    "µv": "uV", "μv": "uV", "mv": "mV", "mm": "mm", "mg%": "mg/dL", "g%": "g/dL", "cc": "mL",
    "iu": "[IU]", "miu": "m[IU]", "uiu": "u[IU]", "µiu": "u[IU]", "hu": "[hnsf'U]", "hounsfield": "[hnsf'U]", "ph": "[pH]",
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "minute": "min", "minutes": "min", "mins": "min",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "wk", "weeks": "wk", "month": "mo",
    "months": "mo", "y": "a", "yr": "a", "yrs": "a", "year": "a", "years": "a", "lb": "[lb_av]", "lbs": "[lb_av]",
    "oz": "[oz_av]", "in": "[in_i]", "inch": "[in_i]", "inches": "[in_i]", "ft": "[ft_i]", "yd": "[yd_i]", "torr": "mm[Hg]",
    "liter": "L", "litre": "L", "gram": "g", "grams": "g", "mm^2": "mm2", "m^2": "m2", "m²": "m2", "1.73m2": "{1.73_m2}",
    "k/ul": "10*3/uL", "k/µl": "10*3/uL", "k/mm3": "10*3/uL", "m/ul": "10*6/uL", "x10^3/ul": "10*3/uL", "x10e3/ul": "10*3/uL",
    "10e3/ul": "10*3/uL", "10³/µl": "10*3/uL", "10^3/µl": "10*3/uL", "x10^9/l": "10*9/L", "x10e9/l": "10*9/L", "10e9/l": "10*9/L",
    "10⁹/l": "10*9/L", "x10^6/ul": "10*6/uL", "x10^12/l": "10*12/L", "percent": "%", "pct": "%", "score": "{score}",
    "points": "{score}", "fraction": "1", "ratio": "1", "unitless": "1", "dimensionless": "1", "none": "1",
}  # fmt: skip
"""What people write, in lower case, and the UCUM code that is probably meant."""

_MISREAD = {
    "C": ("the coulomb", "Cel"),
    "F": ("the farad", "[degF]"),
    "pH": ("the picohenry", "[pH]"),
    "K/uL": ("kelvin per microlitre", "10*3/uL"),
    "ft": ("the femtotonne", "[ft_i]"),
    "pt": ("the picotonne", "[pt_us]"),
    "N/A": ("newton per ampere", "1"),
    "mg%": ("milligram times a hundredth", "mg/dL"),
}
"""Valid codes that in clinical data almost surely mean something else: refused, so that no one converts coulombs."""

_WORDS = {
    "Cel": "°C", "[degF]": "°F", "mm[Hg]": "mmHg", "cm[H2O]": "cmH₂O", "[hnsf'U]": "HU", "[IU]": "IU", "[iU]": "IU",
    "m[IU]": "mIU", "u[IU]": "µIU", "meq": "mEq", "ug": "µg", "uL": "µL", "umol": "µmol", "uV": "µV", "us": "µs", "um": "µm",
    "10*3": "×10³", "10*6": "×10⁶", "10*9": "×10⁹", "10*12": "×10¹²", "m2": "m²", "mm2": "mm²", "cm2": "cm²", "m3": "m³",
    "cm3": "cm³", "mm3": "mm³", "s2": "s²", "a": "years", "mo": "months", "wk": "weeks", "d": "days", "[in_i]": "in",
    "[ft_i]": "ft", "[lb_av]": "lb", "[oz_av]": "oz", "[arb'U]": "arbitrary units", "{1.73_m2}": "1.73 m²", "deg": "°",
    "[pH]": "", "1": "",
}  # fmt: skip
"""Parts of a code as people read them; parts that are not here are already words."""


@cache
def _build_calculator() -> tuple[Any, Callable[[str], Any]]:
    """Return the unit registry, and the function that turns a UCUM code into its quantity; two seconds, once per process."""
    from ucumvert import PintUcumRegistry, UcumToPintTransformer, get_ucum_parser, parse_ucum

    registry, parser = PintUcumRegistry(), get_ucum_parser()
    # `registry.from_ucum` works in pint's global registry, whose quantities do not mix with this one's.
    transform = UcumToPintTransformer(registry).transform
    return registry, lambda unit: transform(parse_ucum(unit, parser))


@cache
def _build_grammar() -> Callable[[str], bool]:
    """Return the function that says whether a code follows UCUM's grammar; half a second, once per process."""
    from ucumvert import InvalidUcumError, get_ucum_parser, parse_ucum

    parser = get_ucum_parser()

    def is_valid(unit: str) -> bool:
        try:
            parse_ucum(unit, parser)
        except InvalidUcumError:
            return False
        return True

    return is_valid


@cache
def _is_ucum(unit: str) -> bool:
    return bool(unit) and _build_grammar()(unit)


@cache
def _suggestion(unit: str) -> str | None:
    """Return the UCUM code that was probably meant, or None."""
    if unit in _MISREAD:
        return _MISREAD[unit][1]
    compact = unit.strip().lower()
    if compact in _SPELLINGS:
        return _SPELLINGS[compact]
    parts = re.split(r"([./])", re.sub(r"\s+", "", unit))
    mended = "".join(_SPELLINGS.get(part.lower(), part) if not _is_ucum(part) else part for part in parts)
    for candidate in (mended, re.sub(r"^1(?=/)", "", mended)):
        if candidate != unit and re.match(r"^1?/?[^/]", candidate) and _is_ucum(candidate):
            return re.sub(r"^1(?=/)", "", candidate)
    by_lower = {code.lower(): code for code in _COMMON}
    close = difflib.get_close_matches(compact, by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else None


def check(unit: str, *, where: str = "") -> str:
    """Return the unit when it is a UCUM code; refuse anything else with the likely code.

    A few valid codes that clinical data never mean ('C' is the coulomb, 'pH' the picohenry) are refused as well.

    Args:
        unit: case-sensitive UCUM code.
        where: place to name in the message, for example `column 'bp' of 'a.csv'`.

    Raises:
        UnitError: the code is not UCUM, or is one of those that are always a mistake.

    Source: UCUM 2.1, section 2.2 (grammar) and the table of case-sensitive codes.

    Example:
        >>> check("mm[Hg]")
        'mm[Hg]'
        >>> check("mmHg")
        Traceback (most recent call last):
        ...
        salus.errors.UnitError: Cannot use unit 'mmHg': it is not a UCUM code. Write 'mm[Hg]' if that is meant.
    """
    misread = _MISREAD.get(unit)
    if misread is None and (unit in _COMMON or _is_ucum(unit)):
        return unit
    at = f" of {where}" if where else ""
    why = f"in UCUM it is {misread[0]}" if misread else "it is not a UCUM code"
    suggested = _suggestion(unit)
    what_to_do = f"Write {suggested!r} if that is meant." if suggested else "See https://ucum.org for the codes."
    raise UnitError(f"Cannot use unit {unit!r}{at}: {why}. {what_to_do}")


def _without_annotations(unit: str) -> str:
    """Return the unit with `{…}` dropped, or as 1 where it stands alone (UCUM 2.1, clause 9).

    Example:
        >>> _without_annotations("{beats}/min"), _without_annotations("mg/dL{x}"), _without_annotations("/{HPF}")
        ('1/min', 'mg/dL', '/1')
    """
    return re.sub(r"\{[^}]*\}", "", re.sub(r"(^|[./(])\{[^}]*\}", r"\g<1>1", unit))


def _is_in_equivalents(unit: str) -> bool:
    return re.search(r"(?<![A-Za-z\[])[a-zA-Z]{0,2}eq(?![A-Za-z\]])", unit) is not None


def _in_moles(unit: str) -> str:
    """Return the unit with equivalents written as moles, without annotations."""
    return re.sub(r"(?<![A-Za-z\[])([a-zA-Z]{0,2})eq(?![A-Za-z\]])", r"\g<1>mol", _without_annotations(unit))


@cache
def _quantity(unit: str) -> Any:
    return _build_calculator()[1](_without_annotations(unit))


def _affine(from_unit: str, to_unit: str, molar_mass_g_mol: float | None) -> tuple[float, float] | None:
    """Return scale and offset that turn a value of one unit into the other; None when the dimensions differ."""
    registry, _ = _build_calculator()
    source, target = _quantity(from_unit), _quantity(to_unit)
    for power in (0, -1, 1) if molar_mass_g_mol else (0,):
        bridge = registry.Quantity(molar_mass_g_mol or 1.0, "gram / mole") ** power
        if (source.units * bridge.units).dimensionality != target.units.dimensionality:
            continue
        if power:
            return float(((source * bridge) / target).to("dimensionless").magnitude), 0.0
        zero, one, many = (
            float(registry.Quantity(x * source.magnitude, source.units).to(target.units).magnitude / target.magnitude)
            for x in (0.0, 1.0, 100.0)
        )
        if abs(zero + 100 * (one - zero) - many) > 1e-9 * (abs(many) + 1):
            return None  # a logarithmic unit
        return one - zero, zero
    return None


@cache
def _conversion(from_unit: str, to_unit: str, molar_mass_g_mol: float | None, valence: int | None) -> tuple[float, float]:
    """Return scale and offset of a conversion, checked once per pair of units.

    Raises:
        UnitError: as `convert` says.
    """
    check(from_unit)
    check(to_unit)
    failed = f"Cannot convert {from_unit!r} to {to_unit!r}"
    charges = 1.0
    if (from_eq := _is_in_equivalents(from_unit)) != _is_in_equivalents(to_unit):
        if valence is None:
            raise UnitError(f"{failed}: equivalents depend on the ion's charge. Give its valence, or the value in {to_unit!r}.")
        charges = 1.0 / valence if from_eq else float(valence)
    if _in_moles(from_unit) == _in_moles(to_unit):
        return charges, 0.0  # spares building the registry
    try:
        affine = _affine(from_unit, to_unit, molar_mass_g_mol)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in {"pint", "lark"}:
            raise
        affine = None  # a UCUM code that the registry cannot calculate with, such as [pH]
    if affine is None:
        raise UnitError(f"{failed}: they measure different things, or have no fixed ratio. Give the value in {to_unit!r}.")
    return affine[0] * charges, affine[1]


def convert(value: float, from_unit: str, to_unit: str, *, molar_mass_g_mol: float | None = None, valence: int | None = None) -> float:
    """Return the value in the other unit, to twelve significant digits.

    Args:
        value: number in `from_unit`.
        from_unit: UCUM code.
        to_unit: UCUM code.
        molar_mass_g_mol: g/mol; lets mass and substance amounts convert.
        valence: charges of the ion; lets equivalents and moles convert (1 for sodium, potassium, chloride, bicarbonate).

    Raises:
        UnitError: a code is not UCUM, or the two measure different things.

    Source: UCUM 2.1, sections 3 and 4 (tables of conversion).

    Example:
        >>> convert(37.0, "Cel", "[degF]")
        98.6
        >>> round(convert(5.5, "mmol/L", "mg/dL", molar_mass_g_mol=180.156), 1)
        99.1
        >>> convert(1.0, "mg/dL", "mm[Hg]")
        Traceback (most recent call last):
        ...
        salus.errors.UnitError: Cannot convert 'mg/dL' to 'mm[Hg]': they measure different things, ...
    """
    if from_unit == to_unit:
        check(from_unit)
        return value
    scale, offset = _conversion(from_unit, to_unit, molar_mass_g_mol, valence)
    return float(f"{value * scale + offset:.12g}")


@cache
def words(unit: str) -> str:
    """Return the unit as people read it: `mmHg` for `mm[Hg]`; nothing for a pure number or a score.

    Example:
        >>> words("mm[Hg]"), words("10*3/uL"), words("{score}"), words("{beats}/min")
        ('mmHg', '×10³/µL', '', '/min')
    """
    parts = re.split(r"([/.])(?![^{]*\})", unit)  # a dot inside an annotation is no operator
    spoken = [_WORDS.get(part, part) for part in parts]
    text = "".join("" if part.startswith("{") else re.sub(r"\{[^}]*\}", "", part) for part in spoken)
    return text.replace(".", "·") if "1.73" not in text else text


def number(value: float) -> str:
    """Return a number without exponent: whole numbers in full, others with at most six significant digits.

    Example:
        >>> number(2.4), number(80.0), number(0.1 + 0.2), number(1234567.0)
        ('2.4', '80', '0.3', '1234567')
    """
    value = float(value)
    short = Decimal(int(value)) if value.is_integer() and abs(value) < 1e15 else Decimal(f"{value:.6g}")
    text = format(short, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def printed(value: float, unit: str | None) -> str:
    """Return value and unit for people.

    Example:
        >>> printed(2.4, "mg/dL"), printed(80.0, "/min"), printed(37.2, "Cel"), printed(10.0, "{score}"), printed(3.0, None)
        ('2.4 mg/dL', '80 /min', '37.2 °C', '10', '3')
    """
    return f"{number(value)} {words(unit)}".rstrip() if unit else number(value)
