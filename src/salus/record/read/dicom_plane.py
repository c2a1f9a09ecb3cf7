"""Where a DICOM picture lies in the patient.

Takes a `Header`; gives a `Plane`, or None where the header does not say (a scanned page, a projection).
"""

from __future__ import annotations

import math

from pydicom.dataset import Dataset

from salus.record.patient import Plane
from salus.record.read.dicom_header import Header, number_of, numbers_of, text_of, texts_of

TELL_APART = ("EchoNumbers", "DiffusionBValue", "TemporalPositionIdentifier", "TriggerTime")
"""Attributes in which pictures of one place and series differ (DICOM PS3.3 C.8.3, C.8.9); absent ones count as equal."""
LEAST_COSINE_LENGTH, MOST_SKEW = 0.99, 0.01
"""Direction cosines of unit length and at right angles, within rounding; else the header is wrong and no plane is given."""


def plane_of(header: Header, shape: tuple[int, int]) -> Plane | None:
    """Return the plane of a single-frame picture; None without series, position, orientation or spacing, or when they make no sense."""
    acquisition = ("\\".join(texts_of(header, "ImageType")), *(text_of(header, keyword) for keyword in TELL_APART))
    return plane_from(
        header,
        shape,
        position=numbers_of(header, "ImagePositionPatient"),
        cosines=numbers_of(header, "ImageOrientationPatient"),
        measures=None,
        acquisition=acquisition,
    )


def plane_from(
    header: Header,
    shape: tuple[int, int],
    *,
    position: tuple[float, ...],
    cosines: tuple[float, ...],
    measures: Dataset | None,
    acquisition: tuple[str, ...],
) -> Plane | None:
    """Return the plane of a picture or frame with this position and these direction cosines; None when they make no sense.

    Args:
        header: holds series and frame of reference.
        shape: rows, columns.
        position: centre of the first pixel, millimetres in LPS.
        cosines: along a row, then down a column.
        measures: macro that holds spacing and thickness; None: the header itself does.
        acquisition: as of `Plane`.
    """
    series = text_of(header, "SeriesInstanceUID")
    spacing = numbers_of(header, "PixelSpacing", dataset=measures)
    thickness = number_of(header, "SliceThickness", dataset=measures)
    if not all(map(math.isfinite, (*position, *cosines, *spacing))):
        return None
    if not series or len(position) != 3 or len(cosines) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        return None
    row, column = cosines[:3], cosines[3:]
    skew = sum(one * other for one, other in zip(row, column, strict=True))
    if min(math.hypot(*row), math.hypot(*column)) < LEAST_COSINE_LENGTH or abs(skew) > MOST_SKEW:
        return None
    return Plane(
        series_uid=series,
        position_mm=(position[0], position[1], position[2]),
        row_axis=_unit(row),
        column_axis=_unit(column),
        spacing_mm=(spacing[0], spacing[1]),
        shape=shape,
        frame_of_reference_uid=text_of(header, "FrameOfReferenceUID"),
        acquisition=acquisition,
        thickness_mm=thickness if thickness and thickness > 0 else None,
    )


def _unit(cosines: tuple[float, ...]) -> tuple[float, float, float]:
    length = math.hypot(*cosines)
    x, y, z = (one / length for one in cosines)
    return (x, y, z)

