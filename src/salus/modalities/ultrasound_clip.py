"""Ultrasound: a moving picture, of whatever organ.

Claims multi-frame objects of DICOM files, and clips that a manifest declares as such. Measures duration, rate,
missing frames, brightness and motion by rule; it names no organ and no finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from salus.encode.clip_quality import made_clip_item, measure_clip
from salus.encode.modality import Modality
from salus.record.patient import Code, Item

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


def example() -> tuple[Item, ...]:
    """Return a synthetic clip of 2 s: a disc that swings from side to side.

    Example:
        >>> [(found.name, found.value) for found in measure_clip(example()[0])][:2]
        [('duration of the clip', 2.0), ('frame rate of the clip', 12.0)]
    """
    return (made_clip_item("ultrasound_clip", "05" * 32, Code("http://dicom.nema.org/resources/ontology/DCM", "US", "ultrasound clip")),)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the video network with these settings."""
    from salus.encode.video import VideoEncoder

    return VideoEncoder(**settings)


MODALITY = Modality(
    name="ultrasound_clip",
    title="ultrasound clip",
    claims=("dicom:us-clip", "modality:ultrasound_clip"),
    example=example,
    token_budget=16,
    build_encoder=build_encoder,
    measure=measure_clip,
)
