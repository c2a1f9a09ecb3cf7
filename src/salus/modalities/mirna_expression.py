"""MicroRNA expression of a sample.

Claims matrices by their identifiers. Measures coverage and spread by rule; it names no pathway and no diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from salus.encode.modality import Modality
from salus.encode.profile_measures import made_item, measure
from salus.record.patient import Item

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


def example() -> tuple[Item, ...]:
    """Return a synthetic profile.

    Example:
        >>> measure(example()[0])[0].value
        12.0
    """
    return (made_item("mirna_expression", "mirbase", [f"hsa-mir-{place}" for place in range(12)], "c7" * 32),)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the set network with these settings."""
    from salus.encode.profile import ProfileEncoder

    return ProfileEncoder(**settings)


MODALITY = Modality(
    name="mirna_expression",
    title="miRNA expression",
    claims=("profile:mirbase", "modality:mirna_expression"),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
    measure=measure,
)
