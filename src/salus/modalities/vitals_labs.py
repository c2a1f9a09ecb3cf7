"""Vital signs and laboratory values: the table of variables, and the modality that claims them.

Reads `vitals_labs.yaml` (one row a variable) once, at import. Gives `MODALITY`. Holds no network: `build_encoder` loads it.

Columns of the table:
- `icu2012`, `loinc`, `columns`: codes of the PhysioNet/CinC Challenge 2012 files, LOINC codes, CSV column names. A variable's own
  name is always a column name too. A pressure whose method is not stated counts with the cuff (`NISysABP`); an arterial line is
  its own variable. Magnesium of Challenge 2012 is in mg/dL: its page says mmol/L, its values (median 2.0) can only be mg/dL.
- `accepted`: physically plausible limits. Values known to be wrong in the 2012 files fall outside: temperature -17.8 to 24.2 Cel,
  pH 1 to 187 and 735, heart rate 0, pressures of 0 to 19 mmHg, weight 0 to 3.4 kg, height 1.8 or 430 cm, PaO2 0.
- `range`: low, high, source; where sexes differ, the wider of both.
- `spread`: standard deviation (n - 1) of last − first plausible value over the 2,799 `train` patients of the 2012 set A, each
  with at least two plausible values, stable order by time. Variables not in that set: a quarter of the range's width where it
  has two limits, a quarter of the limit where it has one, else a rounded expert guess of the same size. Mechanical ventilation is
  recorded only as 1, so its spread is set to 1.
- `least_change`: about a tenth of the spread, and at least one step of the scale on which the value is usually written.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from salus.encode.modality import Modality
from salus.errors import ConfigError
from salus.record.patient import Code, Item, Offset, ReferenceRange, Source, item_id
from salus.record.variables import Variable

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

COLUMNS = frozenset(
    (
        "name",
        "display",
        "unit",
        "icu2012",
        "loinc",
        "columns",
        "aliases",
        "accepted",
        "range",
        "molar_mass",
        "spread",
        "least_change",
    )
)
PATIENT_KEYS = ("icu2012:gender", "icu2012:icutype")
"""Descriptors of the 2012 files that are not measured quantities, but belong to the same course."""
CATEGORY_KEYS = ("fhir:Observation/vital-signs", "fhir:Observation/laboratory")


def variable_from_row(row: Mapping[str, Any], sources: Mapping[str, str]) -> Variable:
    """Return the variable that one row of the table declares.

    Raises:
        ConfigError: the row has a column that does not exist, or names a source that is not listed.

    Example:
        >>> variable_from_row({"name": "x", "display": "x", "unit": "1", "colour": 1}, {})
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot read variable 'x': unknown column 'colour'. Use one of: accepted, aliases, ...
    """
    unknown = sorted(set(row) - COLUMNS)
    if unknown:
        raise ConfigError(
            f"Cannot read variable {row.get('name')!r}: unknown column {unknown[0]!r}. Use one of: {', '.join(sorted(COLUMNS))}."
        )
    reference = None
    if "range" in row:
        low, high, source = row["range"]
        if source not in sources:
            raise ConfigError(f"Cannot read variable {row['name']!r}: no source {source!r}. Add it under `sources`.")
        reference = ReferenceRange(_float(low), _float(high), sources[source])
    columns = dict.fromkeys((row["name"], *row.get("columns", ())))
    accepted = row.get("accepted")
    return Variable(
        name=row["name"],
        display=row["display"],
        unit=row["unit"],
        keys=(
            *(f"icu2012:{code}" for code in row.get("icu2012", ())),
            *(f"loinc:{code}" for code in row.get("loinc", ())),
            *(f"column:{column}" for column in columns),
        ),
        aliases=tuple(str(alias) for alias in row.get("aliases", ())),
        accepted=(float(accepted[0]), float(accepted[1])) if accepted else None,
        reference=reference,
        molar_mass_g_mol=_float(row.get("molar_mass")),
        least_change=float(row["least_change"]),
        spread=float(row["spread"]),
    )


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def read_table() -> tuple[Variable, ...]:
    """Return every variable of `vitals_labs.yaml`, in its order."""
    table = yaml.load(files(__package__).joinpath("vitals_labs.yaml").read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return tuple(variable_from_row(row, table["sources"]) for row in table["variables"])


VARIABLES = read_table()


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the network over variables on a time line, from its settings.

    Raises:
        ConfigError: a variable is named by one of its codes, under which no series would ever be found.

    Example:
        >>> build_encoder({"variables": ["loinc:30525-0"]})
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot build the encoder: 'loinc:30525-0' is a code of the variable 'age'. Name it 'age'.
    """
    from salus.encode.variables import VariableEncoder

    owner = {key.lower(): variable.name for variable in VARIABLES for key in variable.keys}
    for name in settings.get("variables", ()):
        if owner.get(name, name) != name:
            raise ConfigError(f"Cannot build the encoder: {name!r} is a code of the variable {owner[name]!r}. Name it {owner[name]!r}.")
    return VariableEncoder(**settings)


def example() -> tuple[Item, ...]:
    """Return a synthetic patient's items: four variables over eight hours, none of a real person.

    Example:
        >>> [item.value for item in example() if item.code.code == "Creatinine"]
        [1.1, 2.4]
    """
    rows = (
        (0.5, "HR", "heart rate", 88.0, "/min"), (4.0, "HR", "heart rate", 104.0, "/min"),
        (8.0, "HR", "heart rate", 112.0, "/min"),
        (0.5, "Temp", "temperature", 37.0, "Cel"), (8.0, "Temp", "temperature", 38.6, "Cel"),
        (2.0, "Creatinine", "creatinine", 1.1, "mg/dL"), (8.0, "Creatinine", "creatinine", 2.4, "mg/dL"),
        (2.0, "Lactate", "lactate", 1.2, "mmol/L"),
    )  # fmt: skip
    sha256 = "0" * 64
    return tuple(
        Item(
            id=item_id(sha256, f"line {line}"),
            modality="vitals_labs",
            code=Code("physionet2012", code, display),
            source=Source("example.txt", sha256, f"line {line}"),
            observed_at=Offset(hours * 3600, "admission"),
            value=value,
            unit=unit,
        )
        for line, (hours, code, display, value, unit) in enumerate(rows, start=2)
    )


MODALITY = Modality(
    name="vitals_labs",
    title="vitals and labs",
    claims=(*(key for variable in VARIABLES for key in variable.keys), *PATIENT_KEYS, *CATEGORY_KEYS),
    example=example,
    variables=VARIABLES,
    token_budget=8,
    encoder_defaults={"variables": tuple(variable.name for variable in VARIABLES)},
    build_encoder=build_encoder,
)
