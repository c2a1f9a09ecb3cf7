"""What a measured variable is: its keys in each code system, its unit, what is plausible, what is in range.

Modality plug-ins declare variables; readers, facts and encoders look them up here. Takes a code, gives a `Variable` or None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from salus import registry
from salus.errors import ConfigError
from salus.record.patient import Code, Item, ReferenceRange

SHORT_SYSTEMS = {
    "http://loinc.org": "loinc",
    "http://snomed.info/sct": "snomed",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "rxnorm",
    "http://hl7.org/fhir/sid/cvx": "cvx",
    "http://hl7.org/fhir/sid/icd-10-cm": "icd10cm",
    "http://hl7.org/fhir/sid/icd-10": "icd10",
    "physionet2012": "icu2012",
}
"""Short names of code systems, used in claim keys."""


@dataclass(frozen=True)
class Variable:
    """One measured quantity, the same whatever system coded it."""

    name: str
    """Key in lower snake case, for example `heart_rate`."""
    display: str
    """Words for people, lower case where English allows: `heart rate`."""
    unit: str
    """UCUM unit that values are converted to."""
    keys: tuple[str, ...]
    """Claim keys that mean this variable: `loinc:8867-4`, `icu2012:hr`, `column:heart_rate`."""
    aliases: tuple[str, ...] = ()
    """Further words that a question may use: `pulse`, `HR`."""
    accepted: tuple[float, float] | None = None
    """Physically plausible limits in `unit`; a value outside is kept, marked, and not used."""
    reference: ReferenceRange | None = None
    """Adult reference range in `unit`, with its source; a range stated by the record itself takes precedence."""
    molar_mass_g_mol: float | None = None
    """Lets mass and substance concentrations convert (UCUM alone does not)."""
    least_change: float = 0.0
    """Smallest change in `unit` that is called a rise or a fall."""
    spread: float = 1.0
    """Standard deviation of the change first → last in a stated adult ICU population, in `unit`: the yardstick of `largest change`."""


def key_of(code: Code) -> str:
    """Return the claim key of a code: `loinc:8867-4`.

    Example:
        >>> key_of(Code("http://loinc.org", "8867-4", "Heart rate"))
        'loinc:8867-4'
    """
    return f"{SHORT_SYSTEMS.get(code.system, code.system)}:{code.code}".lower()


@cache
def _by_key() -> dict[str, Variable]:
    table: dict[str, Variable] = {}
    for name in registry.names("salus.modalities"):
        for variable in registry.load("salus.modalities", name).variables:
            for key in variable.keys:
                other = table.setdefault(key.lower(), variable)
                if other != variable:
                    raise ConfigError(
                        f"Cannot register variables: both {other.name!r} and {variable.name!r} claim {key!r}. Remove one key."
                    )
    return table


def variable_of(code: Code) -> Variable | None:
    """Return the variable that a code means, or None when no plug-in declares it."""
    return _by_key().get(key_of(code))


def variables() -> tuple[Variable, ...]:
    """Return every declared variable once, by name."""
    unique = {variable.name: variable for variable in _by_key().values()}
    return tuple(unique[name] for name in sorted(unique))


def series_key(item: Item) -> str:
    """Return the key under which items form one series: the variable's name, else the claim key of the code."""
    variable = variable_of(item.code)
    return variable.name if variable else key_of(item.code)


def forget() -> None:
    """Forget the table, so that plug-ins installed since are seen."""
    _by_key.cache_clear()


def display_of(items: Iterable[Item]) -> str:
    """Return the words for a series of items: the variable's display, else the first code's."""
    first = next(iter(items))
    variable = variable_of(first.code)
    return variable.display if variable else first.code.display
