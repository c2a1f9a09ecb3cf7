"""Which formats can be de-identified, by the name of the reader that recognises a file.

Takes a path; gives the functions for its format, or None: then the file is refused, not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from salus.record.deidentify.dicom import check_dicom, deidentify_dicom, survey_dicom
from salus.record.deidentify.fhir import check_fhir, deidentify_fhir, survey_fhir
from salus.record.deidentify.messages import check_hl7, deidentify_hl7, survey_hl7
from salus.record.deidentify.pictures import check_picture, deidentify_picture
from salus.record.deidentify.recordings import check_edf, deidentify_edf, survey_edf
from salus.record.deidentify.sounds import check_sound, deidentify_sound
from salus.record.deidentify.volumes import check_nifti, deidentify_nifti
from salus.record.deidentify.work import Done, Person, Work
from salus.record.deidentify.writing import (
    check_icu2012,
    check_note,
    check_table,
    check_wfdb,
    deidentify_icu2012,
    deidentify_note,
    deidentify_table,
    deidentify_wfdb,
    nobody,
    survey_icu2012,
    survey_table,
)
from salus.record.read.reader import HEAD_BYTES, Reader


@dataclass(frozen=True)
class Format:
    """A format that can be de-identified."""

    title: str
    ending: str
    """Of the new file; empty to keep a known ending of the old one."""
    survey: Callable[[Path], Sequence[Person]]
    """Whom a file names; raises `InputError` when it cannot be read."""
    clean: Callable[[Path, Path, Work], Done]
    """Writes the new file; raises `InputError` when the file cannot be de-identified."""
    check: Callable[[Path, Path, Work], Sequence[str]]
    """Original and new file → why the new one may not be delivered."""


FORMATS = {
    "dicom": Format("DICOM", "dcm", survey_dicom, deidentify_dicom, check_dicom),
    "fhir": Format("FHIR R4", "json", survey_fhir, deidentify_fhir, check_fhir),
    "csv": Format("table", "csv", survey_table, deidentify_table, check_table),
    "hl7v2": Format("HL7 v2", "hl7", survey_hl7, deidentify_hl7, check_hl7),
    "icu2012": Format("PhysioNet 2012 text", "txt", survey_icu2012, deidentify_icu2012, check_icu2012),
    "wfdb": Format("WFDB record", "hea", nobody, deidentify_wfdb, check_wfdb),
    "edf": Format("EDF or BDF", "", survey_edf, deidentify_edf, check_edf),
    "image": Format("picture", "", nobody, deidentify_picture, check_picture),
    "nifti": Format("NIfTI", "nii", nobody, deidentify_nifti, check_nifti),
    "sound": Format("sound", "", nobody, deidentify_sound, check_sound),
    "text": Format("note", "txt", nobody, deidentify_note, check_note),
}
"""Name of the reader → format. A reader without an entry has its files refused."""
ENDINGS = {
    b"0   ": "edf",
    b"\xffBIO": "bdf",
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"II*\x00": "tif",
    b"MM\x00*": "tif",
    b"RIFF": "wav",
    b"RIFX": "wav",
    b"fLaC": "flac",
}


def format_of(path: Path, installed: Sequence[Reader]) -> Format | None:
    """Return the format of a file, or None when it cannot be de-identified."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if head[:4] in (b"II*\x00", b"MM\x00*") and path.suffix.lower() in (".tif", ".tiff"):
        return FORMATS["image"]
    reader = next((each for each in installed if each.recognises(path, head)), None)
    return None if reader is None else FORMATS.get(reader.name)


def ending_of(path: Path, known: Format) -> str:
    """Return the ending of the new file; an old one is never taken over unchecked, for it may hold a name too."""
    if known.ending:
        return known.ending
    with path.open("rb") as stream:
        head = stream.read(4)
    otherwise = "wav" if known.clean is deidentify_sound else "bin"
    return next((ending for magic, ending in ENDINGS.items() if head.startswith(magic)), otherwise)
