"""Whole slides in DICOM (VL Whole Slide Microscopy): one file a level, one item for all levels of a series.

Takes a `Header`; gives the item with the file of the finest level. Levels are found and read by OpenSlide, tiled full or sparse. Pictures
of the label and of the whole glass are never read: they may show a name.
"""

from __future__ import annotations

from functools import partial

from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from salus.errors import FormatError
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Item, Skipped, Source, item_id
from salus.record.read.dicom_header import Header, demographics, number_of, observed_at, subject_of, text_of, texts_of
from salus.record.read.reader import FileRead, Found, ReadOptions
from salus.record.read.source import file_sha256
from salus.record.read.whole_slide import facts_of, load_slide, vendor_of

DCM = "http://dicom.nema.org/resources/ontology/DCM"
BESIDE = ("LABEL", "OVERVIEW", "THUMBNAIL")
"""Third value of Image Type of pictures beside the slide (DICOM PS3.3 C.8.12.4.1.1)."""


def is_slide(header: Header) -> bool:
    """Return whether the object is a whole-slide image."""
    return text_of(header, "SOPClassUID") == VLWholeSlideMicroscopyImageStorage


def read_slide(header: Header, options: ReadOptions) -> FileRead:
    """Return the slide with the file of its finest level; other files of it are named as read with that one.

    Raises:
        FormatError: OpenSlide cannot open the series.
        MissingExtra: OpenSlide is not installed.

    Source: DICOM PS3.3 C.8.12.4 (whole-slide image), C.7.6.17.3 (tiled full and sparse).
    """
    path = header.path
    kinds = [kind.upper() for kind in texts_of(header, "ImageType")[2:3]]
    if any(kind in BESIDE for kind in kinds):
        return FileRead(
            skipped=(Skipped(str(path), f"a picture beside a whole slide ({kinds[0].lower()}), which may show a name: never read"),)
        )
    if not vendor_of(path):
        raise FormatError(
            f"Cannot read DICOM '{path.name}': OpenSlide does not read a whole slide of this kind ({header.syntax_name}). "
            "Store it as JPEG or JPEG 2000, tiled full."
        )
    facts = facts_of(path)
    own = (int(number_of(header, "TotalPixelMatrixRows") or 0), int(number_of(header, "TotalPixelMatrixColumns") or 0))
    if own != facts.levels[0]:
        return FileRead(companions=(path,))
    sha256 = file_sha256(path)
    remarks = ["labels beside the slide are not read"]
    remarks += ["lossy compression"] if text_of(header, "LossyImageCompression") == "01" else []
    item = Item(
        id=item_id(sha256, "slide"),
        modality=options.modality or modality_of("dicom:SM"),
        code=Code(DCM, "SM", "whole slide"),
        source=Source(str(path), sha256, "slide"),
        observed_at=observed_at(header),
        category="image",
        content=Content("slide", partial(load_slide, path), facts.summary),
        remarks=tuple(remarks),
    )
    return FileRead(found=(Found(subject_of(header), (item, *demographics(header, sha256))),))
