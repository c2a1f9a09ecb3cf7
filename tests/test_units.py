"""Units: UCUM codes, conversions and words. Expected numbers are published conversions, named at each test."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus import units
from salus.errors import UnitError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("mmHg", "mm[Hg]"), ("bpm", "/min"), ("°C", "Cel"), ("mEq/L", "meq/L"), ("mcg/kg/min", "ug/kg/min"), 
        ("µmol/L", "umol/L"),
        ("mg / dL", "mg/dL"), ("IU/L", "[IU]/L"), ("x10^3/uL", "10*3/uL"), ("years", "a"),
        ("cmH2O", "cm[H2O]"), ("beats/min", "/min"),
        ("MMHG", "mm[Hg]"), ("mcg/mL", "ug/mL"), ("lbs", "[lb_av]"), ("sec", "s"), ("breaths/minute", "/min"),
    ],
)  # fmt: skip
def test_a_common_misspelling_is_refused_and_the_code_named(written: str, meant: str) -> None:
    with pytest.raises(UnitError) as caught:
        units.check(written)
    assert str(caught.value) == f"Cannot use unit {written!r}: it is not a UCUM code. Write {meant!r} if that is meant."
    assert units.check(meant) == meant


@pytest.mark.parametrize(
    ("written", "is_", "meant"),
    [
        ("C", "the coulomb", "Cel"),
        ("F", "the farad", "[degF]"),
        ("pH", "the picohenry", "[pH]"),
        ("K/uL", "kelvin per microlitre", "10*3/uL"),
    ],
)
def test_a_code_that_is_valid_but_never_meant_is_refused(written: str, is_: str, meant: str) -> None:
    with pytest.raises(UnitError) as caught:
        units.check(written)
    assert str(caught.value) == f"Cannot use unit {written!r}: in UCUM it is {is_}. Write {meant!r} if that is meant."


def test_an_unknown_unit_names_the_place() -> None:
    with pytest.raises(UnitError) as caught:
        units.check("qqqq?", where="lead V3 of 'a12.hea'")
    assert str(caught.value) == (
        "Cannot use unit 'qqqq?' of lead V3 of 'a12.hea': it is not a UCUM code. See https://ucum.org for the codes."
    )


def test_every_suggestion_and_common_code_is_itself_ucum() -> None:
    for code in {*units._COMMON, *units._SPELLINGS.values(), *(meant for _, meant in units._MISREAD.values())}:
        assert units.check(code) == code


@pytest.mark.parametrize("code", ["{score}", "[pH]", "{beats}/min", "mL/min/{1.73_m2}", "10*3/uL", "[IU]/L", "[hnsf'U]"])
def test_codes_of_clinical_data_are_accepted(code: str) -> None:
    assert units.check(code) == code


def test_glucose_as_the_american_diabetes_association_converts_it() -> None:
    # ADA: mg/dL = 18 x mmol/L, so 5.5 mmol/L = 99 mg/dL; exact molar mass C6H12O6 = 180.156 g/mol.
    assert units.convert(5.5, "mmol/L", "mg/dL", molar_mass_g_mol=180.156) == pytest.approx(99, abs=0.1)
    assert units.convert(99.0, "mg/dL", "mmol/L", molar_mass_g_mol=180.156) == pytest.approx(5.5, abs=0.01)


def test_creatinine_as_kdigo_converts_it() -> None:
    # KDIGO 2012: umol/L = 88.4 x mg/dL; C4H7N3O = 113.12 g/mol.
    assert units.convert(1.0, "mg/dL", "umol/L", molar_mass_g_mol=113.12) == pytest.approx(88.4, abs=0.01)


@pytest.mark.parametrize(("celsius", "fahrenheit"), [(37.0, 98.6), (0.0, 32.0), (100.0, 212.0), (-40.0, -40.0)])
def test_temperature_by_the_fixed_points(celsius: float, fahrenheit: float) -> None:
    assert units.convert(celsius, "Cel", "[degF]") == pytest.approx(fahrenheit, abs=1e-9)
    assert units.convert(fahrenheit, "[degF]", "Cel") == pytest.approx(celsius, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "expected"),
    [
        (37.0, "Cel", "K", 310.15),  # SI brochure
        (1.0, "kPa", "mm[Hg]", 7.50062),  # NIST SP 811, table B.8
        (150.0, "[lb_av]", "kg", 68.0388555),  # NIST: 0.45359237 kg
        (21.0, "%", "1", 0.21),
        (72.0, "{beats}/min", "/min", 72.0),
        (250.0, "10*9/L", "10*3/uL", 250.0),
        (15.0, "{score}", "1", 15.0),
        (1.0, "Hz", "/min", 60.0),
    ],
)
def test_published_ratios(value: float, from_unit: str, to_unit: str, expected: float) -> None:
    assert units.convert(value, from_unit, to_unit) == pytest.approx(expected, rel=1e-6)


def test_units_of_different_things_do_not_convert() -> None:
    with pytest.raises(UnitError) as caught:
        units.convert(1.0, "mg/dL", "mmol/L")
    assert str(caught.value) == (
        "Cannot convert 'mg/dL' to 'mmol/L': they measure different things, or have no fixed ratio. Give the value in 'mmol/L'."
    )
    for pair in (("[pH]", "mmol/L"), ("mm[Hg]", "Cel"), ("dB", "1")):
        with pytest.raises(UnitError):
            units.convert(1.0, *pair)


def test_equivalents_need_the_charge() -> None:
    with pytest.raises(UnitError) as caught:
        units.convert(2.0, "meq/L", "mmol/L")
    assert str(caught.value) == (
        "Cannot convert 'meq/L' to 'mmol/L': equivalents depend on the ion's charge. Give its valence, or the value in 'mmol/L'."
    )
    assert units.convert(140.0, "meq/L", "mmol/L", valence=1) == 140.0
    assert units.convert(2.0, "mmol/L", "meq/L", valence=2) == 4.0  # calcium: 1 mmol is 2 mEq
    assert units.convert(140.0, "meq/L", "meq/L") == 140.0


_PAIRS = [("mg/dL", "g/L"), ("Cel", "[degF]"), ("kPa", "mm[Hg]"), ("h", "min"), ("/min", "Hz")]


@given(st.floats(-1e6, 1e6), st.sampled_from(_PAIRS))
def test_there_and_back_gives_the_value(value: float, pair: tuple[str, str]) -> None:
    back = units.convert(units.convert(value, *pair), pair[1], pair[0])
    assert back == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(st.floats(0.01, 1e4), st.floats(1, 1000))
def test_mass_and_substance_there_and_back(value: float, molar_mass: float) -> None:
    moles = units.convert(value, "mg/dL", "umol/L", molar_mass_g_mol=molar_mass)
    assert moles == pytest.approx(value * 1e4 / molar_mass, rel=1e-9)  # 1 mg/dL = 10 mg/L = 10,000 ug/L


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.4, "mg/dL", "2.4 mg/dL"), (80.0, "/min", "80 /min"), (37.2, "Cel", "37.2 °C"), (120.0, "mm[Hg]", "120 mmHg"),
        (10.0, "{score}", "10"), (7.41, "[pH]", "7.41"), (0.5, "1", "0.5"), (12.1, "10*3/uL", "12.1 ×10³/µL"),
        (59.0, "mL/min/{1.73_m2}", "59 mL/min/1.73 m²"), (141.0, "meq/L", "141 mEq/L"), (-1000.0, "[hnsf'U]", "-1000 HU"),
        (0.04, "ug/L", "0.04 µg/L"), (27.5, "kg/m2", "27.5 kg/m²"), (83.0, "a", "83 years"), (1e-5, "g", "0.00001 g"),
        (5.0, "ug/kg/min", "5 µg/kg/min"), (3.0, None, "3"),
    ],
)  # fmt: skip
def test_printed_for_people(value: float, unit: str | None, text: str) -> None:
    assert units.printed(value, unit) == text


def test_importing_units_loads_no_unit_library() -> None:
    code = "import sys, salus.units; assert not {'pint', 'ucumvert', 'lark'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
