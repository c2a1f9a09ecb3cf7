"""DNA sequences of a patient.

Claims FASTA and FASTQ files of this alphabet. Measures count, length, composition and quality by rule; it names no gene and no variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from salus.encode.modality import Modality
from salus.encode.sequence_measures import made_item, measure
from salus.record.patient import Item

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


def example() -> tuple[Item, ...]:
    """Return a synthetic sequence.

    Example:
        >>> measure(example()[0])[1].value
        23.0
    """
    return (made_item("dna", "CAGGTAAGTATTGCCATTAGCCA", "d1" * 32),)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the sequence network with these settings."""
    from salus.encode.sequence import SequenceEncoder

    return SequenceEncoder(**settings)


MODALITY = Modality(
    name="dna",
    title="DNA sequence",
    claims=("sequence:dna", "modality:dna"),
    example=example,
    token_budget=4,
    build_encoder=build_encoder,
    encoder_defaults={"alphabet": "dna"},
    measure=measure,
)
