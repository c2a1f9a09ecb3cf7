"""Kinds of heartbeat in one lead (ECG5000: 500 beats of one patient with heart failure, BIDMC record chf07).

Takes the cohort folder; gives one question per beat. All beats are one patient's and each is stretched to 140 samples in spreads from its
mean, so this says nothing about new patients, rates or millivolts: a benchmark only, which never lets ECG be interpreted.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salus.cohorts.split_file import read_rows
from salus.errors import InputError
from salus.record.patient import Code, Content, Item, PatientRecord, Signal, Source, item_id
from salus.task import Example, Split, Task

FOLDER = "ecg5000"
FILE = "ECG5000_TRAIN.txt"
SAMPLES = 140
"""Of each beat, whatever its length was."""
LEAD = "beat"
QUESTION = "Which kind of heartbeat is this?"
OPTIONS = ("normal", "R-on-T premature ventricular beat", "premature ventricular beat", "supraventricular premature beat", "unclassified")
"""In the order of the source's classes 1 to 5."""


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per beat of a split, in the order of `split.csv`.

    Args:
        data: folder that holds `ecg5000/`.
        split: `train`, `val` or `test`; by beat.

    Raises:
        InputError: a table is missing, or is not as published.
    """
    path = data / FOLDER / FILE
    try:
        content = path.read_bytes()
        table = np.loadtxt(content.decode("ascii").splitlines(), dtype=np.float32, ndmin=2)
    except OSError as error:
        raise InputError(f"Cannot read the cohort {path}: {error.strerror}. Restore the original files.") from None
    except ValueError:
        raise InputError(f"Cannot read the cohort {path}: it holds something that is no number. Restore the original files.") from None
    sha256 = hashlib.sha256(content).hexdigest()
    examples = []
    for row in read_rows(data / FOLDER / "split.csv", ("row", "split", "stratum")):
        if row["split"] != split:
            continue
        number = int(row["row"])
        if number >= len(table) or table.shape[1] != SAMPLES + 1 or int(table[number, 0]) != int(row["stratum"]):
            raise InputError(f"Cannot read the cohort {path}: row {number} does not agree with split.csv. Restore the original files.")
        source = Source(str(path), sha256, f"row {number}")
        examples.append(
            Example(
                id=f"ecg-beat/{number}",
                subject_id=f"beat-{number}",
                record=partial(_record, source, table[number, 1:]),
                question=QUESTION,
                options=OPTIONS,
                answer=OPTIONS[int(table[number, 0]) - 1],
            )
        )
    return tuple(examples)


def _record(source: Source, samples: NDArray[np.float32]) -> PatientRecord:
    signal = Signal(samples[None], (LEAD,), ("1",), float(SAMPLES))
    content = Content("signal", partial(_given, signal), f"1 beat, {SAMPLES} samples, stretched to one length")
    code = Code("wfdb", LEAD, "one heartbeat")
    item = Item(item_id(source.sha256, source.locator), "ecg", code, source, content=content, category="waveform")
    return PatientRecord("chf07", (item,))


def _given(signal: Signal) -> Signal:
    return signal


TASK = Task(
    name="ecg-beat",
    title="Kind of heartbeat",
    modalities=("ecg",),
    metric="accuracy",
    read=read,
    folders=(FOLDER,),
    licence="ODC-By 1.0 (not stated in the copy)",
    may_shape_shipped_weights=False,
    rivals=("random_forest", "logistic_regression"),
)
