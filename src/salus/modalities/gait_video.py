"""Gait: a moving picture of a person who walks.

Claims clips that a manifest declares as such; a container does not say what it shows. Measures duration, rate,
missing frames, brightness and motion by rule; it names no gait and shows a person: see the notice on photographs.
"""

from __future__ import annotations

from salus.encode.clip_quality import made_clip_item, measure_clip
from salus.encode.modality import Modality
from salus.record.patient import Item


def example() -> tuple[Item, ...]:
    """Return a synthetic clip of 2 s: a disc that swings from side to side.

    Example:
        >>> [(found.name, found.value) for found in measure_clip(example()[0])][:2]
        [('duration of the clip', 2.0), ('frame rate of the clip', 12.0)]
    """
    return (made_clip_item("gait_video", "08" * 32),)


MODALITY = Modality(
    name="gait_video",
    title="gait video",
    claims=("modality:gait_video",),
    example=example,
    measure=measure_clip,
)
