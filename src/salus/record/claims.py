"""Which modality an item belongs to, by the claims that modality plug-ins make.

A reader describes an item by keys, most specific first, such as `dicom:CT`, `loinc:8867-4`, `fhir:Observation/laboratory`,
`lead:II`, `column:fev1`, `media:audio/wav`, `icu2012:HR`, `category:note`. The first key that any plug-in claims decides.
Keys are lower-cased. A key that two plug-ins claim is an error.
"""

from __future__ import annotations

from functools import cache

from salus import registry
from salus.errors import ConfigError

UNCLAIMED = "unclaimed"


@cache
def _owners() -> dict[str, str]:
    owners: dict[str, str] = {}
    for name in registry.names("salus.modalities"):
        for key in registry.load("salus.modalities", name).claims:
            other = owners.setdefault(key.lower(), name)
            if other != name:
                raise ConfigError(
                    f"Cannot assign modalities: both {other!r} and {name!r} claim {key!r}. Remove the claim from one plug-in."
                )
    return owners


def modality_of(*keys: str) -> str:
    """Return the name of the modality that claims the first claimed key, else `unclaimed`.

    Example:
        >>> modality_of("dicom:no-such-modality")
        'unclaimed'
    """
    owners = _owners()
    return next((owners[key.lower()] for key in keys if key.lower() in owners), UNCLAIMED)


def forget() -> None:
    """Forget the claims, so that plug-ins installed since are seen."""
    _owners.cache_clear()
