"""Volume of a CT, MR, PET or nuclear medicine examination, or of dose: a stack of slices.

Claims DICOM series that form a stack, and volumes that a manifest declares. Measures extent, completeness and intensity by rule; it names
no organ and no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from salus.encode.modality import Measurement, Modality
from salus.record.patient import Code, Content, Item, Source, Volume, item_id

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder


def measure(item: Item) -> Sequence[Measurement]:
    """Return extent in three directions, the share of missing slices, and mean, lowest and highest value; loads the voxels."""
    loaded = item.content.load() if item.content else None
    if not isinstance(loaded, Volume) or loaded.voxels.size == 0:
        return ()
    steps = np.linalg.norm(loaded.affine[:3, :3], axis=0)
    sizes = np.array(loaded.voxels.shape[:0:-1])
    found = [
        Measurement(f"extent {words}", float(size * step), "mm", "voxels times the distance of their centres")
        for words, size, step in zip(("along the rows", "along the columns", "across the slices"), sizes, steps, strict=True)
    ]
    known = np.isfinite(loaded.voxels)
    missing = 100.0 * float((~known.any(axis=(2, 3))).mean())
    found.append(Measurement("share of slices that are missing", missing, "%", "places of the stack without a slice"))
    values = loaded.voxels[known]
    if values.size:
        rule = "of all voxels that are there"
        found += [
            Measurement("mean value of the volume", float(values.mean(dtype=np.float64)), loaded.unit, f"mean {rule}"),
            Measurement("lowest value of the volume", float(values.min()), loaded.unit, f"lowest {rule}"),
            Measurement("highest value of the volume", float(values.max()), loaded.unit, f"highest {rule}"),
        ]
    return tuple(found)


def example() -> tuple[Item, ...]:
    """Return a synthetic volume: a ball of 1 in 0, 20 mm across.

    Example:
        >>> [(found.name, round(found.value)) for found in measure(example()[0])][:2]
        [('extent along the rows', 32), ('extent along the columns', 32)]
    """
    source = Source("example-volume", "3d" * 32, "volume")
    content = Content("volume", _ball, "16 × 16 × 16 voxels, 2 × 2 × 2 mm, axial, MR volume")
    code = Code("http://dicom.nema.org/resources/ontology/DCM", "MR", "MR volume")
    return (Item(item_id(source.sha256, source.locator), "volume", code, source, content=content, category="image"),)


def _ball() -> Volume:
    axis = np.arange(16) * 2.0 - 15.0
    away = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    affine = np.array([[-2.0, 0, 0, 15], [0, -2, 0, 15], [0, 0, 2, -15], [0, 0, 0, 1]])
    return Volume((away < 100.0).astype(np.float32)[None], "1", affine)


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the volume network with these settings."""
    from salus.encode.volume import VolumeEncoder

    return VolumeEncoder(**settings)


MODALITY = Modality(
    name="volume",
    title="volume (CT, MR, PET, nuclear medicine, dose)",
    claims=(
        "dicom:ct-volume",
        "dicom:mr-volume",
        "dicom:pt-volume",
        "dicom:nm-volume",
        "dicom:rtdose-volume",
        "media:application/x-nifti",
        "modality:volume",
    ),
    example=example,
    token_budget=16,
    build_encoder=build_encoder,
    measure=measure,
)
