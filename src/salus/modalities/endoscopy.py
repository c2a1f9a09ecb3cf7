"""Endoscopy: a moving picture from inside an organ.

Claims multi-frame objects of DICOM files, and clips that a manifest declares as such. Measures duration, rate,
missing frames, brightness and motion by rule; it names no organ and no lesion.
"""

from __future__ import annotations

from salus.encode.clip_quality import made_clip_item, measure_clip
from salus.encode.modality import Modality
from salus.record.patient import Code, Item


def example() -> tuple[Item, ...]:
    """Return a synthetic clip of 2 s: a disc that swings from side to side.

    Example:
        >>> [(found.name, found.value) for found in measure_clip(example()[0])][:2]
        [('duration of the clip', 2.0), ('frame rate of the clip', 12.0)]
    """
    return (made_clip_item("endoscopy", "06" * 32, Code("http://dicom.nema.org/resources/ontology/DCM", "ES", "endoscopy clip")),)


MODALITY = Modality(
    name="endoscopy",
    title="endoscopy",
    claims=("dicom:es-clip", "modality:endoscopy"),
    example=example,
    measure=measure_clip,
)
