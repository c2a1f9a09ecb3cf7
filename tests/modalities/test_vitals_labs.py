"""The table of variables: complete, consistent, and its spreads as the raw ICU training files give them."""

from __future__ import annotations

import csv
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from salus import units
from salus.errors import ConfigError
from salus.modalities.vitals_labs import MODALITY, VARIABLES, example, variable_from_row
from salus.record.patient import Code
from salus.record.variables import Variable, variable_of

SERIES = (
    "Albumin ALP ALT AST Bilirubin BUN Cholesterol Creatinine DiasABP FiO2 GCS Glucose HCO3 HCT HR K Lactate Mg MAP MechVent Na "
    "NIDiasABP NIMAP NISysABP PaCO2 PaO2 pH Platelets RespRate SaO2 SysABP Temp TroponinI TroponinT Urine WBC Weight"
)
BY_NAME = {variable.name: variable for variable in VARIABLES}


def test_every_series_of_the_challenge_is_a_variable() -> None:
    found = [variable_of(Code("physionet2012", parameter, parameter)) for parameter in SERIES.split()]
    assert all(found)
    assert len({variable.name for variable in found if variable}) == 37


def test_names_keys_and_displays_are_unique() -> None:
    keys = Counter(key for variable in VARIABLES for key in variable.keys)
    assert [key for key, n in keys.items() if n > 1] == []
    assert len(BY_NAME) == len(VARIABLES) == len({variable.display for variable in VARIABLES})
    assert set(keys) <= set(MODALITY.claims)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_a_variable_is_consistent(variable: Variable) -> None:
    assert units.check(variable.unit) == variable.unit
    assert variable.spread > 0
    assert 0 < variable.least_change <= max(variable.spread, 1)
    assert variable.accepted is not None
    low, high = variable.accepted
    assert low < high
    if variable.reference:
        limits = [limit for limit in (variable.reference.low, variable.reference.high) if limit is not None]
        assert limits == sorted(limits)
        assert all(low <= limit <= high for limit in limits)
        assert variable.reference.source


@pytest.mark.parametrize(
    ("code", "name", "unit"),
    [
        # code and property as in the LOINC table (loinc.org)
        ("8867-4", "heart_rate", "/min"),
        ("8480-6", "systolic_blood_pressure", "mm[Hg]"),
        ("8462-4", "diastolic_blood_pressure", "mm[Hg]"),
        ("8310-5", "temperature", "Cel"),
        ("2160-0", "creatinine", "mg/dL"),
        ("38483-4", "creatinine", "mg/dL"),
        ("6299-2", "blood_urea_nitrogen", "mg/dL"),
        ("2339-0", "glucose", "mg/dL"),
        ("6298-4", "potassium", "mmol/L"),
        ("2947-0", "sodium", "mmol/L"),
        ("6690-2", "white_blood_cells", "10*3/uL"),
        ("4548-4", "hemoglobin_a1c", "%"),
        ("9269-2", "glasgow_coma_score", "{score}"),
    ],
)
def test_common_loinc_codes_mean_their_variable(code: str, name: str, unit: str) -> None:
    variable = variable_of(Code("http://loinc.org", code, ""))
    assert variable is not None
    assert (variable.name, variable.unit) == (name, unit)


def test_cuff_and_arterial_line_are_different_variables() -> None:
    cuff, line = (variable_of(Code("physionet2012", parameter, "")) for parameter in ("NISysABP", "SysABP"))
    assert cuff
    assert line
    assert (cuff.display, line.display) == ("systolic blood pressure", "invasive systolic blood pressure")


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        # factors published for SI conversion:
        # glucose 18.016, creatinine 88.4 µmol/L, urea nitrogen 2.801, cholesterol 38.67, bilirubin 17.1
        ("glucose", 1.0, "mmol/L", 18.016),
        ("creatinine", 88.4, "umol/L", 1.0),
        ("blood_urea_nitrogen", 1.0, "mmol/L", 2.801),
        ("total_cholesterol", 1.0, "mmol/L", 38.67),
        ("bilirubin", 17.1, "umol/L", 1.0),
        ("lactate", 9.008, "mg/dL", 1.0),
    ],
)
def test_molar_masses_give_the_published_factors(name: str, value: float, unit: str, expected: float) -> None:
    variable = BY_NAME[name]
    got = units.convert(value, unit, variable.unit, molar_mass_g_mol=variable.molar_mass_g_mol)
    assert got == pytest.approx(expected, rel=0.002)


def test_an_unknown_column_or_source_is_refused() -> None:
    row = {"name": "x", "display": "x", "unit": "1", "spread": 1, "least_change": 1}
    with pytest.raises(ConfigError, match=r"Cannot read variable 'x': unknown column 'colour'\. Use one of: accepted, aliases"):
        variable_from_row({**row, "colour": "red"}, {})
    with pytest.raises(ConfigError, match=r"Cannot read variable 'x': no source 'book'\. Add it under `sources`\."):
        variable_from_row({**row, "range": [1, 2, "book"]}, {})


def test_the_example_belongs_to_the_modality() -> None:
    assert all(variable_of(item.code) in VARIABLES for item in example())
    assert len({item.id for item in example()}) == len(example())


@pytest.mark.data
def test_spreads_are_those_of_the_training_patients(salus_data: Path) -> None:
    """Recomputed from the raw files with the standard library: sample standard deviation of last − first."""
    folder = salus_data / "icu_physionet2012"
    with (folder / "split.csv").open() as file:
        train = [row["RecordID"] for row in csv.DictReader(file) if row["split"] == "train"]
    changes: dict[str, list[float]] = defaultdict(list)
    for subject_id in train:
        values: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for line in (folder / "set-a" / f"{subject_id}.txt").read_text().splitlines()[1:]:
            time, parameter, text = line.split(",")
            variable = variable_of(Code("physionet2012", parameter, ""))
            if variable is None or parameter in ("Age", "Height") or variable.accepted is None:
                continue
            if variable.accepted[0] <= float(text) <= variable.accepted[1]:
                values[variable.name].append((int(time[:2]) * 60 + int(time[3:]), float(text)))
        for name, points in values.items():
            if len(points) > 1:
                points.sort(key=lambda point: point[0])
                changes[name].append(points[-1][1] - points[0][1])
    assert len(train) == 2799
    for name, differences in changes.items():
        if name != "mechanical_ventilation":
            assert BY_NAME[name].spread == pytest.approx(statistics.stdev(differences), rel=0.002), name
