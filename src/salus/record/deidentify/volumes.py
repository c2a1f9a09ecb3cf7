"""De-identifies NIfTI volumes: the text of the header and everything between header and voxels goes, the voxels stay.

Takes one file or a header with its image, packed or not; gives one unpacked file. The format has no field for who the patient is, but
programs write names, numbers and DICOM headers into its text and extensions.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from salus.record.deidentify.work import Done, Work, in_words
from salus.record.read.nifti import Head, read_head, truncated, voxel_bytes

TEXTS = ("descrip", "aux_file", "intent_name", "db_name", "data_type", "unused_str")
"""Fields of text in NIfTI-1 and NIfTI-2 headers (https://nifti.nimh.nih.gov)."""
EXTENDER = bytes(4)
"""After the header: no extension follows."""
FACE = "a volume of the head may show the face when it is rendered in three dimensions; voxels are not changed"


def deidentify_nifti(path: Path, target: Path, work: Work) -> Done:
    """Write a volume without text.

    Raises:
        FormatError: it is damaged, truncated, or not a NIfTI volume that is read here.
        MissingExtra: nibabel is not installed.
    """
    head = read_head(path)
    removed = sum(bool(head.header[name].tobytes().strip(b"\0 ")) for name in TEXTS if name in head.header.keys())  # noqa: SIM118
    with target.open("wb") as new:
        new.write(_start(head))
        held = sum(new.write(chunk) for chunk in voxel_bytes(path, head))
    if held < head.bytes:
        raise truncated(path, head.bytes, held)
    companions = () if head.voxels_at == path else (head.voxels_at,)
    counts = Counter({("header text", "removed"): removed, ("extensions", "removed"): int(head.offset > len(_start(head)))})
    return Done((target,), counts, (FACE,), companions)


def _start(head: Head) -> bytes:
    """Return the header of the new file and the mark that nothing stands between it and the voxels."""
    header: Any = head.header.copy()
    for name in TEXTS:
        if name in header.keys():  # noqa: SIM118  (a record of numpy, not a mapping)
            header[name] = b""
    size = len(header.binaryblock)
    header["magic"] = b"n+1" if size == 348 else b"n+2"
    header["vox_offset"] = size + len(EXTENDER)
    return bytes(header.binaryblock) + EXTENDER


def check_nifti(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a volume may not be delivered: text is left, or it holds more or fewer bytes than its voxels."""
    old = read_head(path)
    wanted = _start(old)
    with target.open("rb") as stream:
        start = stream.read(len(wanted))
    left = Counter({"header": int(start != wanted), "bytes": int(target.stat().st_size != len(wanted) + old.bytes)})
    return in_words(left)
