"""Normalising: values in their variable's unit, and marks on those that cannot be used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.record import normalise as module
from salus.record.normalise import is_usable, normalise
from salus.record.patient import Code, Item, ReferenceRange, Source
from salus.record.variables import Variable

VARIABLES = {
    "glucose": Variable("glucose", "glucose", "mg/dL", ("column:glucose",), accepted=(5, 2000), molar_mass_g_mol=180.156),
    "temp": Variable("temperature", "temperature", "Cel", ("column:temp",), accepted=(25, 45)),
    "na": Variable("sodium", "sodium", "mmol/L", ("column:na",), accepted=(90, 200)),
    "ca": Variable("calcium", "calcium", "mmol/L", ("column:ca",)),
    "gcs": Variable("gcs", "coma score", "{score}", ("column:gcs",), accepted=(3, 15)),
}


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "variable_of", lambda code: VARIABLES.get(code.code))


def _item(code: str, value: float | str | None, unit: str | None, **more: object) -> Item:
    return Item("1", "vitals_labs", Code("column", code, code), Source("a.csv", ""), value=value, unit=unit, **more)  # type: ignore[arg-type]


def test_glucose_in_mmol_becomes_mg_and_says_so() -> None:
    (item,) = normalise([_item("glucose", 5.5, "mmol/L", reference_range=ReferenceRange(4.0, 6.0, "laboratory"))])
    assert item.value == pytest.approx(99.09, abs=0.01)  # ADA: 18 mg/dL per mmol/L
    assert (item.unit, item.remarks) == ("mg/dL", ("converted from 5.5 mmol/L",))
    assert item.reference_range is not None
    assert item.reference_range.low == pytest.approx(72.06, abs=0.01)
    assert is_usable(item)


def test_sodium_milliequivalents_are_millimoles_and_calcium_is_refused() -> None:
    sodium, calcium = normalise([_item("na", 141.0, "meq/L"), _item("ca", 4.8, "meq/L")])
    assert (sodium.value, sodium.unit, sodium.remarks) == (141.0, "mmol/L", ("converted from 141 mEq/L",))
    assert (calcium.value, calcium.unit) == (4.8, "meq/L")
    assert calcium.remarks == ("unit 'meq/L' does not convert to mmol/L: shown, not used",)
    assert not is_usable(calcium)


def test_a_value_outside_the_accepted_range_is_kept_and_not_used() -> None:
    (item,) = normalise([_item("temp", -17.8, "Cel")])
    assert (item.value, item.remarks) == (-17.8, ("outside accepted range 25–45 °C: shown, not used",))
    assert not is_usable(item)


def test_fahrenheit_is_converted_before_the_range_is_checked() -> None:
    (item,) = normalise([_item("temp", 98.6, "[degF]")])
    assert (item.value, item.unit, item.remarks) == (37.0, "Cel", ("converted from 98.6 °F",))


def test_a_number_without_unit_is_not_used() -> None:
    (item,) = normalise([_item("temp", 37.0, None)])
    assert item.remarks == ("no unit stated, temperature is in °C: shown, not used",)


def test_scores_words_and_unknown_codes_stay() -> None:
    items = (_item("gcs", 12.0, "1"), _item("temp", "warm", None), _item("mystery", 3.0, "kg"))
    score, word, mystery = normalise(items)
    assert (score.unit, score.remarks) == ("{score}", ())
    assert (word, mystery) == items[1:]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(VARIABLES)),
            st.floats(-1e4, 1e4),
            st.sampled_from(["mg/dL", "mmol/L", "meq/L", "Cel", "[degF]", "1", None]),
        )
    )
)
def test_twice_is_the_same_as_once(rows: list[tuple[str, float, str | None]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "variable_of", lambda code: VARIABLES.get(code.code))
        once = normalise([_item(*row) for row in rows])
        assert normalise(once) == once
        assert len(once) == len(rows)
