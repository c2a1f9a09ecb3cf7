"""Names in questions: each means one series."""

from __future__ import annotations

from salus.cohorts.synthetic_fhir import read_synthetic
from salus.cohorts.variable_names import NOT_NAMES, names_by_series
from salus.record.patient import PatientRecord


def test_common_aliases_are_names() -> None:
    names = names_by_series(PatientRecord("p", ()))
    assert {"potassium", "K"} <= set(names["potassium"])
    assert {"heart rate", "HR", "pulse"} <= set(names["heart_rate"])


def test_a_name_never_means_two_series() -> None:
    names = names_by_series(read_synthetic(1))
    said = [name for own in names.values() for name in {name.lower() for name in own}]
    assert len(said) == len(set(said))
    assert "blood pressure" not in said
    assert not NOT_NAMES & set(said)
