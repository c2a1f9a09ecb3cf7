"""Makes the record of one patient from one file of a cohort.

Takes a reader, a path and what the cohort knows about it; gives a normalised `PatientRecord`. Leaves out folders that hold
many files of a patient: those go through `salus.record.read.folder`.
"""

from __future__ import annotations

from pathlib import Path

from salus.errors import InputError
from salus.record.normalise import normalise
from salus.record.patient import PatientRecord
from salus.record.read.reader import Reader, ReadOptions


def read_one_file(
    reader: Reader, path: Path, *, subject_id: str | None = None, options: ReadOptions | None = None
) -> PatientRecord:
    """Return the record that one file holds.

    Args:
        reader: reader of the file's format.
        path: the file.
        subject_id: key of the patient, where the cohort names it (an image holds none); the file's own key otherwise.
        options: what the cohort declares about the file, such as the modality of an image.

    Returns:
        The one patient's record, units and codes normalised.

    Raises:
        InputError: the file cannot be read, or does not hold exactly one patient.
    """
    found = reader.read(path, options or ReadOptions()).found
    if len(found) != 1:
        raise InputError(
            f"Cannot make one record of {path}: it holds {len(found)} patients ({reader.title}), not one. Restore the file."
        )
    subject = subject_id if subject_id is not None else found[0].subject_id
    if subject is None:
        raise InputError(f"Cannot make a record of {path}: the file names no patient. Give the patient's key with it.")
    return PatientRecord(subject, normalise(found[0].items), found[0].anchors)
