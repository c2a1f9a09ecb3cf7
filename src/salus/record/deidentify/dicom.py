"""De-identifies a DICOM file: header by the basic profile, dates moved, burned-in text masked on every frame.

Takes a file and a `Work`; writes the new file and says what was done; `check_dicom` reads it back. Leaves out: faces that a head scan
or photograph shows (a notice says so), encapsulated documents and structured reports (refused or emptied).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from salus.errors import FormatError, InputError
from salus.record.deidentify.dates import later
from salus.record.deidentify.dicom_pixels import mask_text, text_left
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.profile import action_of
from salus.record.deidentify.text import clean
from salus.record.deidentify.work import Done, Person, Work, in_words

IDENTIFYING = {
    "PatientName": Kind.NAME, "OtherPatientNames": Kind.NAME, "PatientBirthName": Kind.NAME, "PatientMotherBirthName": Kind.NAME,
    "ReferringPhysicianName": Kind.NAME, "PerformingPhysicianName": Kind.NAME, "OperatorsName": Kind.NAME, "RequestingPhysician": Kind.NAME,
    "NameOfPhysiciansReadingStudy": Kind.NAME, "PhysiciansOfRecord": Kind.NAME, "ResponsiblePerson": Kind.NAME,
    "PatientID": Kind.RECORD, "OtherPatientIDs": Kind.RECORD, "MedicalRecordLocator": Kind.RECORD, "PatientBirthDate": Kind.DATE,
    "PatientAddress": Kind.PLACE, "PatientTelephoneNumbers": Kind.PHONE, "AccessionNumber": Kind.OTHER, "IssuerOfPatientID": Kind.OTHER,
    "AdmissionID": Kind.OTHER, "InstitutionName": Kind.PLACE, "InstitutionAddress": Kind.PLACE, "MilitaryRank": Kind.OTHER,
    "DeviceSerialNumber": Kind.DEVICE, "StudyID": Kind.OTHER,
}  # fmt: skip
"""Elements whose values are searched for in all other files of the record."""
METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113101", "Clean Pixel Data Option"),
)
TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "CS", "PN", "AE", "AS", "UR"})
SHORT_VRS = frozenset({"CS", "SH", "AE", "AS"})
"""Too short for a tag."""
HEAD = re.compile(r"head|brain|skull|face|facial|orbit|sinus|jaw|neck|cranium|t1|mprage|mpr", re.IGNORECASE)


def read_whole(path: Path) -> Dataset:
    """Return a data set with all its elements read.

    Raises:
        FormatError: the file is no DICOM, or is damaged.
    """
    try:
        data = pydicom.dcmread(path)
        for _ in data.iterall():
            pass
    except (
        InvalidDicomError,
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        TypeError,
        NotImplementedError,
        IndexError,
        OverflowError,
    ) as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it is not whole DICOM ({type(error).__name__}). Export it again.") from error
    except Exception as error:  # struct.error and what codecs raise
        raise FormatError(
            f"Cannot de-identify '{path.name}': its elements cannot be read ({type(error).__name__}). Export it again."
        ) from error
    if not len(data):
        raise FormatError(f"Cannot de-identify '{path.name}': it holds no element that can be read. Export it again.")
    return data


def survey_dicom(path: Path) -> tuple[Person, ...]:
    """Return whom a file names."""
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it is not whole DICOM ({type(error).__name__}). Export it again.") from error
    values: dict[Kind, set[str]] = {}
    for keyword, kind in IDENTIFYING.items():
        element = data.get(keyword)
        for value in element if isinstance(element, MultiValue | list) else [element]:
            if value is not None and str(value).strip():
                values.setdefault(kind, set()).add(_iso(str(value)) if kind is Kind.DATE else str(value).strip())
    key = str(data.get("PatientID") or data.get("PatientName") or data.get("StudyInstanceUID") or "").strip()
    return (Person(key, {kind: frozenset(found) for kind, found in values.items()}),)


def _iso(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if re.fullmatch(r"\d{8}", text) else text


def deidentify_dicom(path: Path, target: Path, work: Work) -> Done:
    """Write a de-identified DICOM file.

    Raises:
        FormatError: the file is damaged, or its pixels cannot be decoded.
        InputError: it holds a document, which is not de-identified.
        MissingExtra: the table of the profile or the finder of burned-in text is not installed.
    """
    data = read_whole(path)
    if "EncapsulatedDocument" in data:
        raise InputError(f"Cannot de-identify '{path.name}': it holds a document (encapsulated PDF or CDA). Take it out first.")
    notices = _notices(data)
    counts: Counter[tuple[str, str]] = Counter()
    masked = mask_text(data, path.name, work)
    if masked:
        counts["burned-in-text", "masked"] += masked
    _clean_elements(data, work, counts)
    _state_what_was_done(data, work)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = (
        data.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian) if hasattr(data, "file_meta") else ExplicitVRLittleEndian
    )
    meta.MediaStorageSOPClassUID = data.get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", work.key.uid(path.name))
    data.file_meta, data.preamble = meta, bytes(128)
    try:
        data.save_as(target, enforce_file_format=True)
    except Exception as error:
        raise FormatError(
            f"Cannot de-identify '{path.name}': it cannot be written again ({type(error).__name__}). Convert it first."
        ) from error
    return Done((target,), counts, notices)


def _clean_elements(data: Dataset, work: Work, counts: Counter[tuple[str, str]]) -> None:
    """Apply the profile to a data set and to the items of its sequences."""
    for element in list(data):
        action = action_of(element.tag, element.VR, element.value)
        if element.VR == "SQ" and action in ("replace", "empty") and element.value:
            element.value = Sequence()
            counts["tag", "emptied"] += 1
        elif element.VR == "SQ" and action != "remove":
            for item in element.value or ():
                _clean_elements(item, work, counts)
        elif action == "remove":
            del data[element.tag]
            counts["private-tag" if element.tag.is_private else "tag", "removed"] += 1
        elif element.is_empty:
            continue
        elif action != "keep":
            done = _changed(element, action, work)
            counts["uid" if action == "uid" else "date" if action == "shift" else "tag", done] += 1
        elif element.VR in TEXT_VRS:
            counts.update(_clean_kept(element, work))


def _changed(element: DataElement, action: str, work: Work) -> str:
    """Change an element in place and return what was done, in a word."""
    if action == "uid":
        element.value = _each(element.value, lambda uid: work.key.uid(str(uid)) if not str(uid).startswith("1.2.840.10008.") else str(uid))
        return "replaced"
    if action == "shift":
        element.value = _each(element.value, lambda text: moved_dicom(str(text), work.person.days))
        return "shifted"
    if action == "empty":
        element.value = None if element.VR not in TEXT_VRS else ""
        return "emptied"
    if element.keyword == "PatientID" or element.keyword == "PatientName":
        element.value = work.pseudonym
    elif element.VR in ("DS", "IS"):
        element.value = "0"
    elif element.VR in TEXT_VRS:
        element.value = "REMOVED"
    else:
        element.value = b"" if element.VR.startswith("O") else None
    return "replaced"


def _each(value: object, change: object) -> object:
    return [change(each) for each in value] if isinstance(value, MultiValue | list) else change(value)  # type: ignore[operator]


def moved_dicom(text: str, days: int) -> str:
    """Return a DICOM date or date and time some days later; a part that is no date becomes empty.

    Source: DICOM PS3.5 section 6.2, DA and DT.

    Example:
        >>> moved_dicom("20200301", -1), moved_dicom("20200301101500.5+0100", -1), moved_dicom("1999", -1), moved_dicom("unknown", -1)
        ('20200229', '20200229101500.5+0100', '1998', '')
    """
    found = re.fullmatch(r"\s*(\d{4})[.:-]?(\d{2})?[.:-]?(\d{2})?(\d{0,6}(?:\.\d+)?(?:[+-]\d{4})?)\s*", text)
    if found is None:
        return ""
    year, month, day, rest = int(found[1]), int(found[2] or 1), int(found[3] or 1), found[4] or ""
    try:
        at = later(date(year, month, day), days)
    except ValueError:
        return ""
    return f"{at.year:04d}{f'{at.month:02d}' if found[2] else ''}{f'{at.day:02d}' if found[3] else ''}{rest}"


def _clean_kept(element: DataElement, work: Work) -> Counter[tuple[str, str]]:
    """Replace known identifiers inside an element that the profile keeps."""
    person = work.person
    known = type(person)(person.key, person.subject, (work.known_recogniser,))
    counts: Counter[tuple[str, str]] = Counter()

    def change(text: object) -> str:
        cleaned = clean(str(text), known)
        counts.update(cleaned.counts)
        if not cleaned.counts:
            return str(text)
        return "REMOVED" if element.VR in SHORT_VRS else cleaned.text

    new = _each(element.value, change)
    if counts:
        element.value = new
    return counts


def _state_what_was_done(data: Dataset, work: Work) -> None:
    """Set the elements that say how the file was de-identified (PS3.15 E.1.1, PS3.3 C.12.1.1 and C.7.1.1)."""
    data.PatientID = data.PatientName = work.pseudonym
    data.PatientIdentityRemoved = "YES"
    data.LongitudinalTemporalInformationModified = "MODIFIED"
    has_pixels = "PixelData" in data or "FloatPixelData" in data or "DoubleFloatPixelData" in data
    methods = METHODS if has_pixels else METHODS[:2]
    data.DeidentificationMethod = [f"DICOM PS3.15 {title}"[:64] for _, title in methods]
    codes = []
    for code, title in methods:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", title[:64]
        codes.append(item)
    data.DeidentificationMethodCodeSequence = Sequence(codes)
    if has_pixels:
        data.BurnedInAnnotation = "NO"


def _notices(data: Dataset) -> tuple[str, ...]:
    modality = str(data.get("Modality", ""))
    words = " ".join(str(data.get(name, "")) for name in ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName"))
    notices = []
    if modality in ("CT", "MR", "PT", "NM") and (HEAD.search(words) or not data.get("BodyPartExamined")):
        notices.append("a head scan may show the face when it is rendered in three dimensions; voxels are not changed")
    if modality in ("XC", "GM", "OP", "ES", "DMS", "SM"):
        notices.append("a photograph may show a face, a tattoo or a scar; it is not changed beyond written text")
    if modality == "SR" or "ContentSequence" in data:
        notices.append("the content of a structured report was emptied")
    return tuple(notices)


def elements_of(data: Dataset) -> Iterator[DataElement]:
    """Yield every element, those of sequences too."""
    for element in data:
        yield element
        if element.VR == "SQ":
            for item in element.value or ():
                yield from elements_of(item)


def check_dicom(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a de-identified file may not be delivered; empty when nothing was left."""
    original, data = read_whole(path), read_whole(target)
    left: Counter[str] = Counter()
    old_uids = {
        str(element.value)
        for element in elements_of(original)
        if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008.")
    }
    for element in elements_of(data):
        if element.tag.group == 0x0012 and element.keyword.startswith(("Deid", "PatientIdentity")):
            continue
        action = action_of(element.tag, element.VR, element.value)
        if action == "remove" and element.keyword not in ("LongitudinalTemporalInformationModified",):
            left["tag"] += 1
        if action == "empty" and not element.is_empty and not (element.VR == "SQ" and not element.value):
            left["tag"] += element.keyword not in ("PatientID", "PatientName")
        if action == "replace" and element.VR in TEXT_VRS and not element.is_empty:
            left["tag"] += str(element.value) not in ("REMOVED", work.pseudonym)
        if element.VR == "UI" and str(element.value) in old_uids:
            left["uid"] += 1
        if element.VR in TEXT_VRS and not element.is_empty:
            text = str(element.value) if not isinstance(element.value, MultiValue) else " \\ ".join(map(str, element.value))
            left.update(hit.kind.value for hit in work.known_recogniser.find(text) if hit.kind is not Kind.DATE)
        if action == "shift" and not element.is_empty:
            old = original.get(element.tag)
            if old is not None and not old.is_empty and str(old.value) == str(element.value):
                left["date"] += 1
    if data.get("PatientID") != work.pseudonym:
        left["tag"] += 1
    found = text_left(data, target.name, work)
    if found:
        left["burned-in-text"] += found
    return in_words(left)
