"""The header of a DICOM file: read without its pixels, in bounded memory, and asked by keyword.

Takes a path; gives a `Header`, and from it times, subject and demographics. Leaves names, birth dates and free text alone,
and leaves pixels to `dicom_image`, waveforms to `dicom_waveform`.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import config as pydicom_config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from salus.errors import FormatError
from salus.record.claims import modality_of
from salus.record.patient import Code, Instant, Item, Precision, Source, item_id
from salus.record.read.source import Stamp, stamp_of

PARSE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    struct.error,
    zlib.error,
    OSError,
    AssertionError,
    MemoryError,  # a length field in a nested element promises gigabytes
)
"""What pydicom raises on damaged files (it documents no closed list)."""
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
DEFER_BYTES = 1 << 20
"""Elements larger than this are not loaded with the header."""
UNDEFINED_LENGTH = 0xFFFFFFFF
MOST_ELEMENTS = 20_000
"""Top-level elements before the pixels; far above any real object, it stops the parsing of garbage."""
OFTEN_ASKED = tuple(
    tag_for_keyword(keyword) or 0
    for keyword in (
        *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"),
        *("Modality", "ImageType", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
        *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "SeriesInstanceUID", "FrameOfReferenceUID"),
        *(f"{kind}{part}" for kind in ("Acquisition", "Content", "Series", "Study") for part in ("Date", "Time")),
        *("PatientID", "PatientAge", "PatientSex"),
    )
)
"""Elements that are converted at once: switching pydicom's validation off for each takes as long as converting it."""
MOST_DEFLATED_BYTES = 64 << 20
SEXES = {"M": "male", "F": "female", "O": "other"}
YEARS_PER = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True)
class Header:
    """A parsed header and where the pixel element begins."""

    dataset: Dataset
    path: Path
    transfer_syntax: UID
    pixel_tag: int | None
    """Tag of the pixel element, None when the file has none."""
    pixel_position: int
    """Byte offset of that element; 0 for a deflated file."""
    values: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Keyword → value of top-level elements that were asked for before: some, such as rows and columns, are asked for ten times."""

    @property
    def syntax_name(self) -> str:
        """Words for the transfer syntax; what is no UID at all is not repeated, since a damaged file may have any text there."""
        return self.transfer_syntax.name if self.transfer_syntax.is_valid else "no transfer syntax"


def is_dicom(head: bytes) -> bool:
    """Return whether the first bytes are DICOM, with or without the 128-byte preamble.

    Source: DICOM PS3.10, section 7.1 (preamble and prefix); files without them begin with group 0002 or 0008.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"%PDF-1.7")
        (True, False)
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16 or head[:2] not in (b"\x08\x00", b"\x02\x00"):
        return False
    element, length = struct.unpack_from("<HI", head, 2)
    is_explicit = head[4:6] in (b"UL", b"UI", b"CS", b"DA", b"TM", b"OB", b"LO", b"SH", b"DT")
    return is_explicit or (head[:2] == b"\x08\x00" and element <= 0x0020 and 0 < length <= 256 and length % 2 == 0)


def read_header(path: Path) -> Header:
    """Return the header of a DICOM file, stopping before its pixels; that of the last file is kept, since its pixels are mostly next.

    Raises:
        FormatError: the file is damaged, truncated, or not DICOM.
    """
    stamp = stamp_of(path)
    return _parsed(path) if stamp is None else _kept(path, stamp)


@lru_cache(maxsize=1)
def _kept(path: Path, _stamp: Stamp) -> Header:
    return _parsed(path)


def _parsed(path: Path) -> Header:
    pixel_tag: list[int] = []
    count = 0
    size = path.stat().st_size if path.is_file() else 0

    def stop(tag: BaseTag, _vr: str | None, length: int) -> bool:
        nonlocal count
        count += 1
        if tag >> 16 == 0 or count > MOST_ELEMENTS:
            raise FormatError(f"Cannot read DICOM '{path.name}': the header runs into bytes that are not DICOM. Export it again.")
        if tag in PIXEL_TAGS:
            pixel_tag.append(int(tag))
            return True
        if size < length < UNDEFINED_LENGTH:  # pydicom would reserve that much memory before it finds the end
            raise FormatError(f"Cannot read DICOM '{path.name}': the file is truncated inside its header. Export it again.")
        return False

    with path.open("rb") as stream, warnings.catch_warnings(record=True) as caught, pydicom_config.disable_value_validation():
        warnings.simplefilter("always")
        _refuse_zeroed_or_large(stream, path)
        try:
            dataset = read_partial(stream, stop_when=stop, defer_size=DEFER_BYTES, force=True)
            position = stream.tell()
            syntax = _syntax(dataset)
            is_cut = not pixel_tag and syntax != DeflatedExplicitVRLittleEndian and _is_cut(dataset, path.stat().st_size)
        except PARSE_ERRORS as error:
            raise damaged(path, error) from error
        for tag in OFTEN_ASKED:
            with suppress(*PARSE_ERRORS):  # who asks for it is told
                dataset.get(tag)
    ends_early = any("end of file" in str(warning.message).lower() for warning in caught)
    if ends_early or is_cut:
        raise FormatError(f"Cannot read DICOM '{path.name}': the file is truncated inside its header. Export it again.")
    if syntax == DeflatedExplicitVRLittleEndian:
        position = 0
    return Header(dataset, path, syntax, pixel_tag[0] if pixel_tag else None, position)


def _is_cut(dataset: Dataset, size: int) -> bool:
    """Return whether the file ends inside an element (pydicom keeps the short value and says nothing)."""
    last = max(dataset.keys(), default=None)
    element = None if last is None else dataset.get_item(last)
    if not isinstance(element, RawDataElement) or element.length == 0xFFFFFFFF:
        return False
    left = size - (element.value_tell + element.length)
    return left < 0 or 0 < left < 8  # a value, or the eight bytes that begin an element, not whole


def damaged(path: Path, error: Exception) -> FormatError:
    """Return the error for bytes that pydicom cannot parse, naming the kind of failure but none of the content."""
    return FormatError(f"Cannot read DICOM '{path.name}': the file is damaged ({type(error).__name__}). Export it again.")


def _refuse_zeroed_or_large(stream: BinaryIO, path: Path) -> None:
    # CAUTION: pydicom reads elements of group 0000 without limit: a zero-filled (half-copied) file would keep it busy for hours.
    head = stream.read(4096)
    stream.seek(0)
    at = 132 if head[128:132] == b"DICM" else 0
    while head[at : at + 2] == b"\x02\x00" and at + 12 <= len(head):
        is_long = head[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        length = struct.unpack_from("<I", head, at + 8)[0] if is_long else struct.unpack_from("<H", head, at + 6)[0]
        at += (12 if is_long else 8) + length
    if at + 8 <= len(head) and head[at : at + 8] == bytes(8):
        raise FormatError(f"Cannot read DICOM '{path.name}': zeros follow the start of the file. Copy it again.")
    if DeflatedExplicitVRLittleEndian.encode() + b"\x00" in head and path.stat().st_size > MOST_DEFLATED_BYTES:
        raise FormatError(
            f"Cannot read DICOM '{path.name}': it is deflated and larger than {MOST_DEFLATED_BYTES >> 20} MiB, "
            "and would be unpacked in memory. Store it in another transfer syntax."
        )


def _syntax(dataset: Dataset) -> UID:
    stated = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if stated:
        return UID(str(stated))
    is_implicit, is_little = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian


def text_of(header: Header, keyword: str, *, dataset: Dataset | None = None) -> str:
    """Return an element as stripped text, first value if several; empty when absent."""
    value = _value(header, keyword, dataset)
    if isinstance(value, (list, tuple, MultiValue)):
        value = value[0] if len(value) else None
    return "" if value is None else str(value).strip(" \0")


def texts_of(header: Header, keyword: str, *, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Return all values of an element as stripped text; empty when absent."""
    value = _value(header, keyword, dataset)
    if value is None or value == "":
        return ()
    return tuple(str(part).strip(" \0") for part in (value if isinstance(value, (list, tuple, MultiValue)) else [value]))


def numbers_of(header: Header, keyword: str, *, dataset: Dataset | None = None) -> tuple[float, ...]:
    """Return an element's values as floats; empty when absent.

    Raises:
        FormatError: a value is no number.
    """
    value = _value(header, keyword, dataset)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    try:
        return tuple(float(part) for part in values)
    except (TypeError, ValueError) as error:
        raise _no_value(header, keyword) from error


def number_of(header: Header, keyword: str, *, default: float | None = None, dataset: Dataset | None = None) -> float | None:
    """Return an element's first number, or the default when absent.

    Raises:
        FormatError: the value is no number.
    """
    values = numbers_of(header, keyword, dataset=dataset)
    return values[0] if values else default


def sequence_of(header: Header, keyword: str, *, dataset: Dataset | None = None) -> tuple[Dataset, ...]:
    """Return the items of a sequence element; empty when absent.

    Raises:
        FormatError: the sequence cannot be parsed.
    """
    value = _value(header, keyword, dataset)
    return tuple(part for part in value if isinstance(part, Dataset)) if isinstance(value, Sequence) else ()


def _value(header: Header, keyword: str, dataset: Dataset | None) -> Any:
    if dataset is not None:
        return _converted(header, keyword, dataset)
    if keyword not in header.values:
        header.values[keyword] = _converted(header, keyword, header.dataset)
    return header.values[keyword]


def _converted(header: Header, keyword: str, source: Dataset) -> Any:
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source:  # most of what is asked for: pydicom takes far longer to find that it is not there
        return None
    try:
        element = source.get_item(tag)
        if isinstance(element, DataElement):  # parsed before
            return element.value
        with warnings.catch_warnings(), pydicom_config.disable_value_validation():
            warnings.simplefilter("ignore")
            return source[tag].value
    except PARSE_ERRORS as error:
        raise _no_value(header, keyword) from error


def _no_value(header: Header, keyword: str) -> FormatError:
    return FormatError(
        f"Cannot read DICOM '{header.path.name}': element {keyword} does not hold what its type promises. Export it again."
    )


def sop_class(header: Header) -> str:
    """Return the name of the object's SOP class, as DICOM PS3.4 spells it."""
    meta = getattr(header.dataset, "file_meta", Dataset())
    uid = text_of(header, "SOPClassUID") or text_of(header, "MediaStorageSOPClassUID", dataset=meta)
    return UID(uid).name if uid else "SOP class not stated"


def subject_of(header: Header) -> str | None:
    """Return PatientID, or None when it is blank."""
    return text_of(header, "PatientID") or None


def observed_at(header: Header) -> Instant | None:
    """Return when the content was acquired: AcquisitionDateTime, else acquisition, content, series, study date and time.

    Source: DICOM PS3.5 section 6.2 (DA, TM, DT), PS3.3 C.12.1.1.8 (TimezoneOffsetFromUTC).
    """
    stated_zone = text_of(header, "TimezoneOffsetFromUTC")
    stamps = [text_of(header, "AcquisitionDateTime")]
    stamps += [_stamp(header, kind) for kind in ("Acquisition", "Content", "Series", "Study")]
    return next((found for stamp in stamps if (found := parse_datetime(stamp, stated_zone)) is not None), None)


def recorded_at(header: Header) -> Instant | None:
    """Return when the content was made: of a picture that is computed from others, later than their acquisition; None if not stated.

    Instance creation is not used: a program that copies or strips a file writes it anew.

    Source: DICOM PS3.3 C.7.6.1.1 (Content Date: "the date the image pixel data creation started").
    """
    return parse_datetime(_stamp(header, "Content"), text_of(header, "TimezoneOffsetFromUTC"))


def _stamp(header: Header, kind: str) -> str:
    date = text_of(header, f"{kind}Date").replace(".", "").replace("-", "")
    return date + text_of(header, f"{kind}Time").replace(":", "") if len(date) == 8 else ""


def parse_datetime(stamp: str, stated_zone: str = "") -> Instant | None:
    """Return a DICOM date-time with the precision that it states, None when it is not valid.

    Example:
        >>> parse_datetime("20130125105919.5+0100")
        Instant(at=datetime.datetime(2013, 1, 25, 10, 59, 19, ...), precision='second', zone_is_stated=True)
        >>> parse_datetime("201301").precision, parse_datetime("00000000")
        ('month', None)
    """
    sign = next((char for char in "+-" if char in stamp), "")
    digits, _, own_zone = stamp.partition(sign) if sign else (stamp, "", "")
    zone = _zone(sign + own_zone if own_zone else stated_zone)
    whole, _, _ = digits.partition(".")
    forms: dict[int, tuple[str, Precision]] = {
        4: ("%Y", "year"),
        6: ("%Y%m", "month"),
        8: ("%Y%m%d", "day"),
        12: ("%Y%m%d%H%M", "minute"),
        14: ("%Y%m%d%H%M%S", "second"),
    }
    if len(whole) == 10:  # hour alone: the day is what is known to a precision we have
        whole = whole[:8]
    if len(whole) not in forms or not whole.isdigit():
        return None
    form, precision = forms[len(whole)]
    try:
        moment = datetime.strptime(whole, form).replace(tzinfo=zone or UTC)
    except ValueError:
        return None
    return Instant(moment, precision, zone is not None)


def _zone(text: str) -> timezone | None:
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdigit():
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return timezone(-offset if text[0] == "-" else offset) if offset < timedelta(hours=24) else None


def demographics(header: Header, sha256: str) -> tuple[Item, ...]:
    """Return age and sex as items; names, birth date and addresses are never read.

    Source: DICOM PS3.3 C.7.2.2 (PatientAge, an AS value) and C.7.1.1 (PatientSex).
    """
    items: list[Item] = []
    age = text_of(header, "PatientAge").upper()
    if len(age) == 4 and age[:3].isdigit() and age[3] in YEARS_PER:
        remarks = () if age[3] == "Y" else ("the file states the age in " + {"M": "months", "W": "weeks", "D": "days"}[age[3]],)
        items.append(_demographic(header, sha256, "PatientAge", age_item(int(age[:3]) * YEARS_PER[age[3]], remarks)))
    sex = SEXES.get(text_of(header, "PatientSex").upper())
    if sex:
        items.append(_demographic(header, sha256, "PatientSex", (Code("http://loinc.org", "76689-9", "sex"), sex, None, ())))
    return tuple(items)


Demographic = tuple[Code, float | str, str | None, tuple[str, ...]]


def age_item(years: float, remarks: tuple[str, ...] = ()) -> Demographic:
    """Return code, value, unit and remarks of an age in years."""
    return Code("http://loinc.org", "30525-0", "age"), float(years), "a", remarks


def _demographic(header: Header, sha256: str, keyword: str, what: Demographic) -> Item:
    code, value, unit, remarks = what
    return Item(
        id=item_id(sha256, keyword),
        modality=modality_of("demographic", "category:demographic"),
        code=code,
        source=Source(str(header.path), sha256, keyword),
        observed_at=observed_at(header),
        value=value,
        unit=unit,
        category="demographic",
        remarks=remarks,
    )
