"""Reader of the PhysioNet/CinC Challenge 2012 text files: one intensive-care stay each, `Time,Parameter,Value`.

Takes a file, gives one patient's items at offsets from admission, with the challenge's units as UCUM. Descriptors (age, gender,
height, unit type) become demographic items; -1 means missing and gives no item. `Outcomes-a.txt` holds labels: never read.

Source: https://physionet.org/content/challenge-2012/1.0.0/ (Silva et al., Computing in Cardiology 2012, 39:245).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from salus.errors import FormatError
from salus.record.claims import modality_of
from salus.record.patient import Code, Item, Offset, Skipped, Source, item_id
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty

SYSTEM = "physionet2012"
LOINC = "http://loinc.org"
HEADER = "Time,Parameter,Value"
OUTCOMES_HEADER = b"RecordID,SAPS-I,SOFA"
MOST_BYTES = 64 << 20
"""A stay is about 10 KiB; a larger file is not one, and is refused before it fills the memory."""
MOST_BAD_ROWS = 20
"""Bad rows named one by one; further ones are counted."""

VITAL = "fhir:Observation/vital-signs"
LABORATORY = "fhir:Observation/laboratory"

PARAMETERS: dict[str, tuple[str, str, str]] = {
    "Albumin": ("albumin", "g/dL", LABORATORY),
    "ALP": ("alkaline phosphatase", "U/L", LABORATORY),
    "ALT": ("alanine aminotransferase", "U/L", LABORATORY),
    "AST": ("aspartate aminotransferase", "U/L", LABORATORY),
    "Bilirubin": ("bilirubin", "mg/dL", LABORATORY),
    "BUN": ("blood urea nitrogen", "mg/dL", LABORATORY),
    "Cholesterol": ("cholesterol", "mg/dL", LABORATORY),
    "Creatinine": ("creatinine", "mg/dL", LABORATORY),
    "DiasABP": ("invasive diastolic blood pressure", "mm[Hg]", VITAL),
    "FiO2": ("inspired oxygen fraction", "1", VITAL),
    "GCS": ("Glasgow Coma Score", "{score}", VITAL),
    "Glucose": ("glucose", "mg/dL", LABORATORY),
    "HCO3": ("bicarbonate", "mmol/L", LABORATORY),
    "HCT": ("hematocrit", "%", LABORATORY),
    "HR": ("heart rate", "/min", VITAL),
    "K": ("potassium", "meq/L", LABORATORY),
    "Lactate": ("lactate", "mmol/L", LABORATORY),
    # The challenge's page says mmol/L; the values (median 2.0 in set A) can only be mg/dL: 2.0 mmol/L is twice the normal limit.
    "Mg": ("magnesium", "mg/dL", LABORATORY),
    "MAP": ("invasive mean blood pressure", "mm[Hg]", VITAL),
    "MechVent": ("mechanical ventilation", "1", VITAL),
    "Na": ("sodium", "meq/L", LABORATORY),
    "NIDiasABP": ("diastolic blood pressure", "mm[Hg]", VITAL),
    "NIMAP": ("mean blood pressure", "mm[Hg]", VITAL),
    "NISysABP": ("systolic blood pressure", "mm[Hg]", VITAL),
    "PaCO2": ("arterial carbon dioxide pressure", "mm[Hg]", LABORATORY),
    "PaO2": ("arterial oxygen pressure", "mm[Hg]", LABORATORY),
    "pH": ("arterial pH", "[pH]", LABORATORY),
    "Platelets": ("platelet count", "10*3/uL", LABORATORY),
    "RespRate": ("respiratory rate", "/min", VITAL),
    "SaO2": ("oxygen saturation", "%", VITAL),
    "SysABP": ("invasive systolic blood pressure", "mm[Hg]", VITAL),
    "Temp": ("temperature", "Cel", VITAL),
    "TroponinI": ("troponin I", "ug/L", LABORATORY),
    "TroponinT": ("troponin T", "ug/L", LABORATORY),
    "Urine": ("urine output", "mL", VITAL),
    "WBC": ("white blood cell count", "10*3/uL", LABORATORY),
    "Weight": ("weight", "kg", VITAL),
}
"""Parameter of the challenge → words, UCUM unit, kind of observation."""

SEXES = {0: "female", 1: "male"}
ICU_TYPES = {1: "coronary care unit", 2: "cardiac surgery recovery unit", 3: "medical ICU", 4: "surgical ICU"}
DESCRIPTORS: dict[str, tuple[Code, str | None, dict[int, str]]] = {
    "Age": (Code(LOINC, "30525-0", "age"), "a", {}),
    "Gender": (Code(LOINC, "76689-9", "sex"), None, SEXES),
    "Height": (Code(LOINC, "8302-2", "height"), "cm", {}),
    "ICUType": (Code(SYSTEM, "ICUType", "type of intensive care unit"), None, ICU_TYPES),
}
"""Descriptor at 00:00 → code, UCUM unit, and the words of its category numbers."""

CODES = {name: Code(SYSTEM, name, display) for name, (display, _, _) in PARAMETERS.items()}
MISSING = -1.0
_TIME = re.compile(r"(\d{1,3}):([0-5]\d)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,20}")


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the first line is the challenge's header, of a stay or of the outcomes table."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    return head.startswith((HEADER.encode(), OUTCOMES_HEADER))


@dataclass(frozen=True)
class _Meaning:
    """What a parameter's name says about its items."""

    code: Code
    unit: str | None
    category: str
    modality: str
    words: Mapping[int, str] | None = None
    """Words of the category numbers; None for a number."""
    has_missing: bool = False
    """Whether -1 means that the value is missing."""


def _meanings() -> dict[str, _Meaning]:
    """Return every parameter's meaning, with the modality that claims it now."""
    meanings = {
        name: _Meaning(CODES[name], unit, "observation", modality_of(f"icu2012:{name}", kind), has_missing=name == "Weight")
        for name, (_, unit, kind) in PARAMETERS.items()
    }
    for name, (code, unit, words) in DESCRIPTORS.items():
        modality = modality_of(f"icu2012:{name}", f"loinc:{code.code}", "category:demographic")
        meanings[name] = _Meaning(code, unit, "demographic", modality, words or None, has_missing=True)
    return meanings


class _Stay:
    """What has been read of one file so far."""

    def __init__(self, path: Path, sha256: str, anchor: str) -> None:
        self.path, self.sha256, self.anchor = str(path), sha256, anchor
        self.subject_id: str | None = None
        self.items: list[Item] = []
        self.bad: list[str] = []
        self.meanings = _meanings()
        self.times: dict[str, Offset | None] = {}

    def time(self, text: str) -> Offset | None:
        """Return the offset of `hh:mm`, one object for all rows of that minute."""
        if text not in self.times:
            match = _TIME.fullmatch(text)
            self.times[text] = Offset(int(match[1]) * 3600.0 + int(match[2]) * 60.0, self.anchor) if match else None
        return self.times[text]

    def add(self, line_number: int, meaning: _Meaning, value: float | str, time: Offset) -> None:
        """Append the item of one row."""
        locator = f"line {line_number}"
        self.items.append(
            Item(
                id=item_id(self.sha256, locator),
                modality=meaning.modality,
                code=meaning.code,
                source=Source(self.path, self.sha256, locator),
                observed_at=time,
                value=value,
                unit=meaning.unit,
                category=meaning.category,
            )
        )


def _read_row(stay: _Stay, line_number: int, row: str) -> str | None:
    """Take in one row; return why it cannot be, or None."""
    parts = row.split(",")
    if len(parts) != 3:
        return f"{len(parts)} fields instead of 3"
    name = parts[1].strip()
    if name == "RecordID":
        stay.subject_id = parts[2].strip() or None
        return None
    time = stay.time(parts[0].strip())
    if time is None:
        return "the time is not hh:mm"
    meaning = stay.meanings.get(name)
    if meaning is None:
        return f"parameter {repr(name) if _PLAIN_NAME.fullmatch(name) else 'without a plain name'} is not one of the challenge's"
    try:
        value = float(parts[2])
    except ValueError:
        return "the value is not a number"
    if not isfinite(value):
        return "the value is not a finite number"
    if value == MISSING and meaning.has_missing:
        return None
    if meaning.words is not None and value not in meaning.words:
        return f"{name} {value:g} is not one of the challenge's categories"
    stay.add(line_number, meaning, value if meaning.words is None else meaning.words[int(value)], time)
    return None


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the items of one stay, or the outcomes table as skipped.

    Raises:
        FormatError: the file is not text, or its first line is not the challenge's header.
        InputError: the file cannot be opened.
    """
    refuse_empty(path)
    if path.stat().st_size > MOST_BYTES:
        raise FormatError(
            f"Cannot read '{path.name}' as a Challenge 2012 stay: it has {path.stat().st_size >> 20} MiB, a stay has at most "
            f"{MOST_BYTES >> 20}. Split it into one file per stay."
        )
    sha256 = file_sha256(path)
    with path.open("rb") as stream:
        if stream.read(len(OUTCOMES_HEADER)) == OUTCOMES_HEADER:
            return FileRead(skipped=(Skipped(str(path), "labels/outcomes table, not evidence (declare it in a manifest)"),))
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"Cannot read '{path.name}' as a Challenge 2012 stay: byte {error.start} is not text. Copy the file again."
        ) from error
    if not lines or lines[0].strip() != HEADER:
        raise FormatError(
            f"Cannot read '{path.name}' as a Challenge 2012 stay: line 1 is not '{HEADER}'. "
            "Restore the header, or write a CSV whose columns name their units."
        )
    stay = _Stay(path, sha256, options.anchor)
    for line_number, row in enumerate(lines[1:], start=2):
        if row.strip() and (reason := _read_row(stay, line_number, row)):
            stay.bad.append(f"line {line_number}: {reason}")
    skipped = [Skipped(str(path), f"row not read: {reason}") for reason in stay.bad[:MOST_BAD_ROWS]]
    if len(stay.bad) > MOST_BAD_ROWS:
        skipped.append(Skipped(str(path), f"rows not read: {len(stay.bad) - MOST_BAD_ROWS} more bad rows"))
    if stay.subject_id is None and not stay.items:
        skipped.append(Skipped(str(path), "a stay without a single value"))
        return FileRead(skipped=tuple(skipped))
    return FileRead(found=(Found(stay.subject_id, tuple(stay.items)),), skipped=tuple(skipped))


READER = Reader("icu2012", "ICU stay of PhysioNet Challenge 2012", recognises, read, priority=20)
