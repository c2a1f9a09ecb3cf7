"""DICOM files: images, clips and waveforms as items, with age and sex beside them.

Takes a path; gives items of one patient. The bulk stays on disk until it is asked for. Leaves out names, birth dates and free
text, and objects that hold neither pixels nor waveforms (reports, structure sets), which are skipped by their SOP class.
"""

from __future__ import annotations

from pathlib import Path

from salus.errors import FormatError, MissingExtra
from salus.record.patient import Skipped
from salus.record.read.dicom_clip import clip_item, is_cine
from salus.record.read.dicom_frames import volume_items
from salus.record.read.dicom_header import (
    Header,
    demographics,
    is_dicom,
    number_of,
    read_header,
    sequence_of,
    sop_class,
    subject_of,
)
from salus.record.read.dicom_series import join_slices
from salus.record.read.dicom_slide import is_slide, read_slide
from salus.record.read.dicom_waveform import waveform_items
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty


def read_dicom(path: Path, options: ReadOptions) -> FileRead:
    """Return the image or the waveforms of a DICOM file, with age and sex; only the header is read.

    Raises:
        FormatError: the file is empty, damaged or truncated.
        UnitError: a waveform channel's unit is unknown.
    """
    refuse_empty(path)
    header = read_header(path)
    if not header.dataset and header.pixel_tag is None:
        raise FormatError(f"Cannot read DICOM '{path.name}': it holds no elements. Export it again.")
    try:
        return _items(header, options)
    except MissingExtra as error:
        return FileRead(skipped=(Skipped(str(path), str(error)),))


def _items(header: Header, options: ReadOptions) -> FileRead:
    path = header.path
    if is_slide(header) and header.pixel_tag is not None:
        return read_slide(header, options)
    if sequence_of(header, "WaveformSequence"):
        sha256 = file_sha256(path)
        items = waveform_items(header, sha256, options)
    elif header.pixel_tag is not None:
        sha256 = file_sha256(path)
        items = (clip_item(header, sha256, options),) if is_cine(header) else volume_items(header, sha256, options)
    elif number_of(header, "Rows"):
        raise FormatError(
            f"Cannot read DICOM '{path.name}': it ends before the pixels that its header describes. Export or copy it again."
        )
    else:
        name = sop_class(header)
        why = "they were removed, or the file is cut off" if "Image Storage" in name else "nothing in it is read yet"
        reason = f"DICOM without pixels or waveforms ({name}): {why}"
        return FileRead(skipped=(Skipped(str(path), reason),))
    return FileRead(found=(Found(subject_of(header), (*items, *demographics(header, sha256))),))


READER = Reader(
    name="dicom",
    title="DICOM",
    recognises=lambda _path, head: is_dicom(head),
    read=read_dicom,
    priority=10,
    join=join_slices,
)
