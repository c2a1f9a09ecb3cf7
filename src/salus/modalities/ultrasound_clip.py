"""Ultrasound: a moving picture, of whatever organ.

Claims multi-frame ultrasound of DICOM files, and clips that a manifest declares as such. Measures duration, rate, missing
frames, brightness and motion by rule; it names no line, no consolidation and no organ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from salus.encode.clip_quality import clip_quality, moving_disc
from salus.encode.modality import Measurement, Modality
from salus.record.patient import Clip, Code, Content, Item, Source, item_id

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


def measure(item: Item) -> Sequence[Measurement]:
    """Return duration, rate, missing frames, brightness and motion of the clip; loads the frames."""
    loaded = item.content.load() if item.content else None
    return clip_quality(loaded) if isinstance(loaded, Clip) else ()


def example() -> tuple[Item, ...]:
    """Return a synthetic clip of 2 s: a disc that swings from side to side.

    Example:
        >>> [(found.name, found.value) for found in measure(example()[0])][:2]
        [('duration of the clip', 2.0), ('frame rate of the clip', 12.0)]
    """
    source = Source("example-ultrasound-clip", "05" * 32)
    content = Content("clip", moving_disc, "24 frames, 32 × 32, grey, 12 Hz, 2.0 s")
    code = Code("http://dicom.nema.org/resources/ontology/DCM", "US", "ultrasound clip")
    return (Item(item_id(source.sha256, source.locator), "ultrasound_clip", code, source, content=content, category="video"),)


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
    measure=measure,
)
