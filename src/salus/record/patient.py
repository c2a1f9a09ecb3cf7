"""One patient's record: items with a code, a time, and a value or lazily read content.

Takes what readers make; gives the frozen dataclasses that every later stage uses. Holds no file format, no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["year", "month", "day", "minute", "second"]


@dataclass(frozen=True)
class Code:
    """A coded concept, as FHIR's Coding: system URI, code, and words for people."""

    system: str
    """URI such as `http://loinc.org`, or a short source name such as `physionet2012`."""
    code: str
    display: str


@dataclass(frozen=True)
class Instant:
    """A time on the calendar, zone-aware, known to a stated precision."""

    at: datetime
    """Start of the interval that the precision leaves open; always with tzinfo."""
    precision: Precision = "second"
    zone_is_stated: bool = True
    """False when the source gives no zone and UTC was assumed (recorded, not hidden)."""


@dataclass(frozen=True)
class Offset:
    """A time relative to a named anchor, such as admission."""

    seconds: float
    anchor: str
    precision: Precision = "minute"


ObservedTime = Instant | Offset


@dataclass(frozen=True)
class Source:
    """Where an item came from: file, its hash, and the place inside the file."""

    path: str
    sha256: str
    locator: str = ""
    """Place in the format's own notation: `line 14`, `entry[3].resource`, `lead V3`."""


@dataclass(frozen=True)
class Plane:
    """Where a picture lies in the patient (DICOM PS3.3 C.7.6.2), millimetres in LPS: x to the left, y to the back, z to the head."""

    series_uid: str
    position_mm: tuple[float, float, float]
    """Centre of the first pixel."""
    row_axis: tuple[float, float, float]
    """Unit vector along a row: to the next column."""
    column_axis: tuple[float, float, float]
    """Unit vector down a column: to the next row."""
    spacing_mm: tuple[float, float]
    """From row to row, and from column to column."""
    shape: tuple[int, int]
    """Rows, columns."""
    frame_of_reference_uid: str = ""
    thickness_mm: float | None = None
    """Of the slice itself, which may differ from the step to the next one."""
    acquisition: tuple[str, ...] = ()
    """What tells pictures of one place apart, such as echo, b-value and point in time; slices of one volume share it."""

    @property
    def normal(self) -> tuple[float, float, float]:
        """Unit vector across the plane: row axis × column axis."""
        (a, b, c), (d, e, f) = self.row_axis, self.column_axis
        return (b * f - c * e, c * d - a * f, a * e - b * d)

    def to_patient(self, row: float, column: float) -> tuple[float, float, float]:
        """Return where a pixel lies, millimetres in LPS.

        Args:
            row: from 0 at the centre of the first row.
            column: from 0 at the centre of the first column.

        Example:
            >>> plane = Plane("1.2", (10.0, 20.0, 30.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 2.0), (4, 4))
            >>> plane.to_patient(row=2, column=1)
            (12.0, 21.0, 30.0)
        """
        down, across = row * self.spacing_mm[0], column * self.spacing_mm[1]
        x, y, z = (
            start + across * along + down * below
            for start, along, below in zip(self.position_mm, self.row_axis, self.column_axis, strict=True)
        )
        return (x, y, z)


@dataclass(frozen=True)
class Image:
    """A 2-D image in physical or display units, as loaded content."""

    pixels: NDArray[np.float32]
    """(H, W) or (H, W, 3), bright = high value (MONOCHROME1 already inverted)."""
    unit: str
    """`[hnsf'U]` for HU (UCUM), `1` for arbitrary intensity."""
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing, millimetres."""
    orientation: str | None = None
    """Patient axes of rows and columns in DICOM letters, for example `L\\\\P`."""
    window: tuple[float, float] | None = None
    """Centre and width in `unit`, as the file recommends for display."""


@dataclass(frozen=True)
class Volume:
    """A 3-D image, or several of one place in time, in physical or display units, as loaded content."""

    voxels: NDArray[np.float32]
    """(T, D, H, W): points in time (1 for most), slices, rows, columns; bright = high value; a missing slice is NaN."""
    unit: str
    """As of `Image`."""
    affine: NDArray[np.float64]
    """(4, 4): (column, row, slice, 1), counted from 0 at voxel centres, to millimetres in RAS+ (x right, y front, z head), as NIfTI."""
    window: tuple[float, float] | None = None
    """Centre and width in `unit`, as the files recommend for display."""
    time_step_s: float | None = None
    """Seconds from one of the T volumes to the next, where known."""


@dataclass(frozen=True)
class Signal:
    """A multi-channel waveform; missing samples are NaN, missing leads are absent."""

    samples: NDArray[np.float32]
    """(C, S), each row in its unit of `units`."""
    leads: tuple[str, ...]
    units: tuple[str, ...]
    """UCUM, one per lead, for example `mV`."""
    sampling_rate_hz: float
    annotations: tuple[tuple[float, str], ...] = ()
    """(seconds from start, symbol) in the annotator's own symbols."""


@dataclass(frozen=True)
class Sound:
    """A recording, mono or more."""

    samples: NDArray[np.float32]
    """(C, S), -1 to 1."""
    sampling_rate_hz: float


Alphabet = Literal["dna", "rna", "protein"]


@dataclass(frozen=True)
class Sequences:
    """Biological sequences of one sample, in the order of their file, as loaded content."""

    letters: tuple[str, ...]
    """Upper case, IUPAC codes (IUPAC-IUB 1984, NC-IUB 1985), with `-` for a gap and `*` for a stop."""
    alphabet: Alphabet
    qualities: tuple[NDArray[np.uint8], ...] = ()
    """Phred quality of each letter, one array (L,) for each sequence; empty when the format holds none."""


@dataclass(frozen=True)
class Profile:
    """Many molecules measured in one sample: a row of an expression, methylation, proteomics or metabolomics matrix."""

    features: tuple[str, ...]
    """Identifiers as the file spells them, such as `ENSG00000161896.6` or `cg00095526`; no two are equal."""
    values: NDArray[np.float32]
    """(F,), NaN where missing."""
    system: str
    """What the identifiers are: `ensembl`, `illumina-methylation`, `mirbase`, `uniprot`, `hmdb`, `kegg-compound`, `chebi`, or `unknown`."""
    unit: str
    """UCUM; `1` for a scale that the file does not state."""


@dataclass(frozen=True)
class Slide:
    """A whole-slide picture in several sizes, which is read by region and never whole."""

    levels: tuple[tuple[int, int], ...]
    """Rows and columns of each size, finest first."""
    region: Callable[[int, int, int, tuple[int, int]], NDArray[np.uint8]] = field(repr=False, compare=False)
    """Level, its row and column of the upper left corner, (rows, columns) → (rows, columns, 3), 0 to 255; white beside the picture."""
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing of the finest level, millimetres."""
    objective: float | None = None
    """Magnification of the objective, such as 20."""


@dataclass(frozen=True)
class Clip:
    """A moving picture, on an even grid of frames, as loaded content."""

    frames: NDArray[np.uint8] | NDArray[np.float32]
    """(T, H, W) or (T, H, W, 3), bright = high value; a frame that is missing holds zeros, which mean nothing."""
    time_s: NDArray[np.float64]
    """(T,) seconds from the start, rising; NaN throughout where the file states no times."""
    is_present: NDArray[np.bool_]
    """(T,) False where a frame is missing or could not be decoded."""
    value_range: tuple[float, float] = (0.0, 255.0)
    """Lowest and highest value that the frames can hold."""
    unit: str = "1"
    """As of `Image`."""
    spacing_mm: tuple[float, float] | None = None
    """Row and column spacing, millimetres."""

    @property
    def frame_rate_hz(self) -> float | None:
        """Frames a second of the grid, or None where the file states no times."""
        span_s = float(self.time_s[-1] - self.time_s[0]) if len(self.time_s) > 1 else float("nan")
        return (len(self.time_s) - 1) / span_s if span_s > 0 else None


Loaded = Image | Volume | Signal | Sound | Clip | Sequences | Profile | Slide | str


@dataclass(frozen=True)
class Content:
    """Content that is read only when needed."""

    kind: Literal["image", "volume", "signal", "sound", "clip", "sequence", "profile", "slide", "text"]
    load: Callable[[], Loaded] = field(repr=False, compare=False)
    summary: str = ""
    """Shape in words, known without reading the bulk: `512 × 512, CT, HU`, `12 leads, 500 Hz, 10 s`."""


@dataclass(frozen=True)
class ReferenceRange:
    """Limits that the source or a named authority gives for a value, in the item's unit."""

    low: float | None
    high: float | None
    source: str


@dataclass(frozen=True)
class Normalisation:
    """One step between what the source wrote and what the item holds; words and undoing in `salus.record.normalised`."""

    step: str
    """`unit`, `rescale`, `mirror`, `middle_frame`, …"""
    parameters: tuple[tuple[str, float | str], ...] = ()


@dataclass(frozen=True)
class Item:
    """One thing known about the patient."""

    id: str
    """Made by `item_id`; the same file content always gives the same id."""
    modality: str
    """Name of the modality plug-in that claims it, or `unclaimed`."""
    code: Code
    source: Source
    observed_at: ObservedTime | None = None
    ended_at: ObservedTime | None = None
    """End of a condition, medication or encounter, if known."""
    value: float | str | None = None
    unit: str | None = None
    """UCUM code of a numeric value."""
    content: Content | None = None
    status: str | None = None
    """`active`, `stopped`, `resolved`, … as FHIR spells it."""
    category: str = "observation"
    """`observation`, `condition`, `medication`, `procedure`, `encounter`, `allergy`, `immunization`, `report`, `note`, `demographic`,
    `image`, `waveform`, `sound`, `video`, `transcript`, `sequence` or `profile`."""
    reference_range: ReferenceRange | None = None
    remarks: tuple[str, ...] = ()
    """What was normalised or is unusual, in words without patient data."""
    plane: Plane | None = None
    """Where a picture lies in the patient, if its file says so; of a volume, its first slice."""
    parts: tuple[Source, ...] = ()
    """Files that it was joined from, in the order of their places; empty for an item of one file."""
    recorded_at: ObservedTime | None = None
    """When it was written down, issued or received, if the file says so: before that nobody knew it. None: with `observed_at`."""
    normalised: tuple[Normalisation, ...] = ()
    """What was done to the value or content, in that order."""

    @property
    def files(self) -> frozenset[str]:
        """Paths of all files that it came from."""
        return frozenset(part.path for part in self.parts) or frozenset((self.source.path,))

    @property
    def number(self) -> float | None:
        """The value when it is a number, else None."""
        return self.value if isinstance(self.value, float) else None


@dataclass(frozen=True)
class PatientRecord:
    """All items of one patient, in any modality."""

    subject_id: str
    items: tuple[Item, ...]
    anchors: Mapping[str, datetime] = field(default_factory=dict)
    """Calendar time of named anchors (`admission`), where a file states it; joins the two clocks."""

    def by_id(self) -> dict[str, Item]:
        """Return the items keyed by their id."""
        return {item.id: item for item in self.items}


@dataclass(frozen=True)
class Skipped:
    """A file, or part of one, that was not read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ReadReport:
    """What a path held: records by patient, and what was skipped."""

    patients: tuple[PatientRecord, ...]
    skipped: tuple[Skipped, ...]
    companions: tuple[str, ...] = ()
    """Files that were read as part of another, such as the signals and annotations of a WFDB header."""

    @property
    def unread(self) -> str | None:
        """How much of the path was not read, in one sentence without names of files (they may name a patient); None if all was.

        Example:
            >>> ReadReport((), (Skipped("/a/scan.dcm", "empty file"), Skipped("/a/b.txt", "no reader recognises it"))).unread
            "Not read, so not in this answer: 2 whole files; 'salus inspect' says which and why."
        """
        if not self.skipped:
            return None
        used = {file for record in self.patients for item in record.items for file in item.files}
        whole = {each.path for each in self.skipped} - used
        parts = [each for each in self.skipped if each.path in used]
        counts = [f"{len(whole)} whole file{'s'[: len(whole) != 1]}"] if whole else []
        if parts:
            files = len({each.path for each in parts})
            counts.append(f"{len(parts)} kind{'s'[: len(parts) != 1]} of part in {files} other file{'s'[: files != 1]}")
        return f"Not read, so not in this answer: {' and '.join(counts)}; 'salus inspect' says which and why."


def item_id(sha256: str, locator: str) -> str:
    """Return the id of an item: 12 hex digits from the file's hash and the place in it.

    Example:
        >>> item_id("ab" * 32, "line 3") == item_id("ab" * 32, "line 3")
        True
    """
    return hashlib.sha256(f"{sha256}:{locator}".encode()).hexdigest()[:12]
