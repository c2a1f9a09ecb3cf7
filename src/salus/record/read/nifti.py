"""NIfTI volumes, versions 1 and 2: one file (`.nii`, `.nii.gz`) or a pair (`.hdr` with its `.img`).

Takes a path; gives one item whose voxels load lazily, with its place in the patient in RAS+. The format names neither the patient nor the
kind of examination. Leaves out header text, which may hold names, and Analyze 7.5, which does not say which side is left.
"""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from salus.errors import FormatError, MissingExtra
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Item, Normalisation, Skipped, Source, Volume, item_id
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.volume import axis_letter

MEDIA = "application/x-nifti"
GZIP = b"\x1f\x8b"
HEADER_SIZES = {1: 348, 2: 540}
MAGIC_AT = {1: 344, 2: 4}
MAGIC = {b"n+1\0": (1, True), b"ni1\0": (1, False), b"n+2\0": (2, True), b"ni2\0": (2, False)}
"""Magic → version, and whether header and voxels share one file."""
MOST_VOXELS = 1 << 29
"""Voxels that are accepted in one file: two GiB when loaded."""
MOST_OFFSET = 1 << 26
"""Bytes before the voxels (the header and its extensions) that are accepted."""
CHUNK_BYTES = 1 << 20
TO_MM = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}
TO_S = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
APART_MM = 0.1
"""From this distance of a corner on, the two affines of a header are said to differ."""
LONG_STEP_S = 60.0
"""A step in time that is longer is likely written in another unit."""
STREAM_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Head:
    """What a header says, checked, and where its voxels are."""

    header: Any
    """nibabel's `Nifti1Header` or `Nifti2Header`."""
    voxels_at: Path
    """File of the voxels; the image of a pair, else the same."""
    offset: int
    shape: tuple[int, int, int, int]
    """Columns, rows, slices, points in time."""
    dtype: np.dtype[Any]
    affine: NDArray[np.float64]
    """Voxel to RAS+, millimetres."""
    remarks: tuple[str, ...]
    step_s: float | None

    @property
    def bytes(self) -> int:
        """Of all voxels."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def kind_of(path: Path, head: bytes) -> str:
    """Return `nifti` or `analyze` by the first bytes, unpacked where they are gzip; empty for anything else.

    Example:
        >>> kind_of(Path("a.nii"), (348).to_bytes(4, "little") + bytes(340) + b"n+1" + bytes(1))
        'nifti'
        >>> kind_of(Path("a.hdr"), (348).to_bytes(4, "big") + bytes(344)), kind_of(Path("a.ppm"), b"P6 4 4")
        ('analyze', '')
    """
    if head[:2] == GZIP:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEADER_SIZES[2])
        except zlib.error:
            return ""
    if _version(head):
        return "nifti"
    is_analyze = len(head) >= HEADER_SIZES[1] and HEADER_SIZES[1] in _sizes(head) and path.suffix.lower() == ".hdr"
    return "analyze" if is_analyze else ""


def _sizes(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")


def _version(head: bytes) -> tuple[int, bool] | None:
    """Return version and whether it is a single file."""
    for version, size in HEADER_SIZES.items():
        found = MAGIC.get(head[MAGIC_AT[version] : MAGIC_AT[version] + 4])
        if found is not None and found[0] == version and size in _sizes(head):
            return found
    return None


def read_nifti(path: Path, options: ReadOptions) -> FileRead:
    """Return a NIfTI file as one volume; its voxels are counted, and decoded when they are asked for.

    Raises:
        FormatError: the file is empty, damaged, truncated, too large, not of three or four dimensions, or Analyze 7.5.

    Source: NIfTI-1.1 and NIfTI-2 headers, https://nifti.nimh.nih.gov.
    """
    refuse_empty(path)
    try:
        head = read_head(path)
    except MissingExtra as error:
        return FileRead(skipped=(Skipped(str(path), str(error)),))
    _refuse_truncated(path, head)
    columns, rows, slices, times = head.shape
    steps = np.linalg.norm(head.affine[:3, :3], axis=0)
    spacing = " × ".join(f"{step:.3g}" for step in steps[::-1])
    size = f"{slices} × {rows} × {columns} voxels" + (f", {times} points in time" if times > 1 else "")
    sha256, scaling = file_sha256(path), _scaling(head.header)
    own_modality = options.modality or modality_of(f"media:{MEDIA}")
    item = Item(
        id=item_id(sha256, ""),
        modality=own_modality,
        code=Code("media", MEDIA, "volume (NIfTI)"),
        source=Source(str(path), sha256),
        category="image",
        content=Content("volume", partial(load_nifti, path), f"{size}, {spacing} mm, columns to {letters_of(head.affine)}"),
        remarks=head.remarks
        + (() if options.modality else ("kind of examination and unit not stated: declare the modality in the manifest",)),
        normalised=() if scaling == (1.0, 0.0) else (Normalisation("rescale", (("slope", scaling[0]), ("intercept", scaling[1]))),),
    )
    companions = () if head.voxels_at == path else (head.voxels_at,)
    return FileRead(found=(Found(None, (item,)),), companions=companions)


def letters_of(affine: NDArray[np.float64]) -> str:
    """Return to which body directions columns, rows and slices count, as words for people.

    Example:
        >>> letters_of(np.diag([-2.0, 2.0, 2.0, 1.0]))
        'L, rows to A, slices to S'
    """
    to_lps = np.array([-1.0, -1.0, 1.0])
    column, row, across = (axis_letter(affine[:3, axis] * to_lps).replace("H", "S").replace("F", "I") for axis in range(3))
    return f"{column}, rows to {row}, slices to {across}"


def load_nifti(path: Path) -> Volume:
    """Return the voxels, (T, D, H, W), scaled by the header's slope and intercept; NaN where the file has it.

    Raises:
        FormatError: the voxels cannot be decoded.
        MissingExtra: nibabel is not installed.
    """
    head = read_head(path)
    raw = bytearray()
    for chunk in voxel_bytes(path, head):
        raw += chunk
    if len(raw) < head.bytes:
        raise truncated(path, head.bytes, len(raw))
    stored = np.frombuffer(raw, head.dtype).reshape(head.shape, order="F")
    slope, intercept = _scaling(head.header)
    values = stored.astype(np.float32) if (slope, intercept) == (1.0, 0.0) else (stored * slope + intercept).astype(np.float32)
    low, high = float(head.header["cal_min"]), float(head.header["cal_max"])
    window = ((low + high) / 2, high - low) if np.isfinite([low, high]).all() and high > low else None
    return Volume(np.ascontiguousarray(values.transpose(3, 2, 1, 0)), "1", head.affine, window, head.step_s)


def _scaling(header: Any) -> tuple[float, float]:
    """Return slope and intercept; slope 0 or not a number means that there is none (NIfTI-1, `scl_slope`)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        is_packed = stream.read(2) == GZIP
    return cast(IO[bytes], gzip.open(path) if is_packed else path.open("rb"))


def read_head(path: Path) -> Head:
    """Return the header of a NIfTI file.

    Raises:
        FormatError: it is damaged, or not what is read here.
        MissingExtra: nibabel is not installed.
    """
    try:
        nifti1, nifti2 = (importlib.import_module(f"nibabel.nifti{version}") for version in (1, 2))
    except ImportError as error:
        raise MissingExtra(f"read NIfTI '{path.name}'", "images") from error
    try:
        with _opened(path) as stream:
            start = stream.read(HEADER_SIZES[2])
    except STREAM_ERRORS as error:
        raise _damaged(path, "it cannot be unpacked") from error
    found = _version(start)
    if found is None:
        if kind_of(path, start) == "analyze":
            raise FormatError(
                f"Cannot read '{path.name}': Analyze 7.5 does not say which side of the picture is left. Convert it to NIfTI."
            )
        raise _damaged(path, "its header is not whole")
    version, is_single = found
    kind = nifti1.Nifti1Header if version == 1 else nifti2.Nifti2Header
    if len(start) < HEADER_SIZES[version]:
        raise _damaged(path, "its header is not whole")
    try:
        with np.errstate(all="ignore"):
            header = kind.from_fileobj(io.BytesIO(start[: HEADER_SIZES[version]]), check=False)
            return _checked(path, header, is_single=is_single)
    except FormatError:
        raise
    except Exception as error:  # nibabel documents no closed list of what it raises on damaged headers
        raise _damaged(path, "its header holds what the format does not allow") from error


def _checked(path: Path, header: Any, *, is_single: bool) -> Head:
    shape = _shape(path, header)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise FormatError(
            f"Cannot read NIfTI '{path.name}': its voxels are {_voxel_words(dtype)}, not single numbers. Store one volume for each part."
        )
    units, clock = header.get_xyzt_units()
    affine, remarks = _affine(path, header, TO_MM.get(units, 1.0))
    remarks += ["unit of length not stated: millimetres taken"] if units == "unknown" else []
    step_s = None
    if shape[3] > 1:
        step = float(header["pixdim"][4])
        step_s = step * TO_S[clock] if clock in TO_S and np.isfinite(step) and step > 0 else None
        remarks += _said_of_time(step_s, clock)
    if int(header["intent_code"]):
        remarks.append("the header says that the voxels are a statistic or labels, not a picture")
    offset = max(0, int(header["vox_offset"]))
    if is_single:
        offset = max(offset, HEADER_SIZES[1 if len(header.binaryblock) == HEADER_SIZES[1] else 2] + 4)
    if offset > MOST_OFFSET:
        raise _damaged(path, "its voxels would begin further in than any header reaches")
    return Head(header, path if is_single else _image_of(path), offset, shape, dtype, affine, tuple(remarks), step_s)


def _shape(path: Path, header: Any) -> tuple[int, int, int, int]:
    count = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : 1 + max(0, min(count, 7))]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    words = " × ".join(map(str, sizes)) or "none"
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise FormatError(f"Cannot read NIfTI '{path.name}': its sizes are {words}. Give a volume, or volumes in time.")
    if np.prod([float(size) for size in sizes]) > MOST_VOXELS:
        raise FormatError(f"Cannot read NIfTI '{path.name}': {words} are more than {MOST_VOXELS} voxels. Store a smaller volume.")
    return (sizes[0], sizes[1], sizes[2], sizes[3] if len(sizes) == 4 else 1)


def _voxel_words(dtype: np.dtype[Any]) -> str:
    return "complex" if dtype.kind == "c" else "colours" if dtype.fields else f"of the type {dtype}"


def _affine(path: Path, header: Any, to_mm: float) -> tuple[NDArray[np.float64], list[str]]:
    """Return voxel to RAS+ mm, and how it was chosen: the sform where it is set, else the qform, else sizes alone."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    choices = []
    if sform_code > 0:
        choices.append(("sform", np.asarray(header.get_sform(), np.float64)))
    if qform_code > 0:
        choices.append(("qform", np.asarray(header.get_qform(), np.float64)))
    name, affine = choices[0] if choices else ("", np.asarray(header.get_base_affine(), np.float64))
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise _damaged(path, "its affine is no place in space")
    affine = np.diag([to_mm, to_mm, to_mm, 1.0]) @ affine
    remarks = [f"place by the {name} of the header" if name else "place in the patient not stated: side and origin are unknown"]
    if len(choices) == 2:
        far = np.array([*(int(size) for size in header["dim"][1:4]), 1.0])
        apart = float(np.abs((choices[0][1] - choices[1][1]) @ far).max()) * to_mm
        remarks += [f"its qform differs by {apart:.3g} mm at the far corner and was not used"] if apart > APART_MM else []
    return affine, remarks


def _said_of_time(step_s: float | None, clock: str) -> list[str]:
    if step_s is None:
        return [f"step between the volumes not stated as a time (unit {clock})"]
    unlikely = " (unlikely: the header may mean milliseconds)" if step_s > LONG_STEP_S else ""
    return [f"a volume each {step_s:g} s{unlikely}"]


def _image_of(path: Path) -> Path:
    """Return the image of a pair, which lies beside its header under the same name."""
    stem = path.name[: -len("".join(path.suffixes[-2:]))] if path.suffix.lower() == ".gz" else path.stem
    for suffix in (".img", ".img.gz", ".IMG"):
        if (found := path.with_name(stem + suffix)).is_file():
            return found
    raise FormatError(f"Cannot read NIfTI '{path.name}': its image '{stem}.img' is not beside it. Copy both files.")


def voxel_bytes(path: Path, head: Head) -> Iterator[bytes]:
    """Yield at most as many bytes as the header promises, so that a file that unpacks to more costs no more.

    Raises:
        FormatError: they cannot be unpacked to the end.
    """
    left = head.bytes
    try:
        with _opened(head.voxels_at) as stream:
            stream.seek(head.offset)
            while left > 0 and (chunk := stream.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
    except STREAM_ERRORS as error:
        raise _damaged(path, "it cannot be unpacked to the end") from error


def _refuse_truncated(path: Path, head: Head) -> None:
    with head.voxels_at.open("rb") as stream:
        is_packed = stream.read(2) == GZIP
    on_disk = max(0, head.voxels_at.stat().st_size - head.offset)
    held = sum(len(chunk) for chunk in voxel_bytes(path, head)) if is_packed else on_disk
    if held < head.bytes:
        raise truncated(path, head.bytes, held)


def truncated(path: Path, promised: int, held: int) -> FormatError:
    """Return the error for a file with fewer bytes of voxels than its header promises."""
    return FormatError(
        f"Cannot read NIfTI '{path.name}': {promised} bytes of voxels are promised, {held} are there. Export or copy it again."
    )


def _damaged(path: Path, why: str) -> FormatError:
    return FormatError(f"Cannot read NIfTI '{path.name}': {why}. Export or copy it again.")


READER = Reader(
    name="nifti",
    title="NIfTI volume",
    recognises=lambda path, head: kind_of(path, head) != "",
    read=read_nifti,
    priority=20,
)
