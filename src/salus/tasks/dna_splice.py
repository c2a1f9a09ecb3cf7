"""Splice sites of primate genes (UCI molecular biology, 3,190 windows of 60 bases).

Takes the cohort folder; gives one question per window: donor site, acceptor site, or neither. The gene, by the window's name, is the
unit of split and bootstrap; windows that repeat stay together.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from salus.cohorts.split_file import read_rows
from salus.errors import InputError
from salus.record.patient import Code, Content, Item, PatientRecord, Sequences, Source, item_id
from salus.task import Example, Split, Task

FOLDER = "dna_splice_uci"
FILE = "spliceData.txt"
QUESTION = "What is in the middle of this DNA sequence: a donor splice site, an acceptor splice site, or neither?"
OPTIONS = {"EI": "donor", "IE": "acceptor", "N": "neither"}
"""Label of the source (exon to intron, intron to exon) → option."""


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per window of a split, in the order of the file.

    Args:
        data: folder that holds `dna_splice_uci/`.
        split: `train`, `val` or `test`; by gene.

    Raises:
        InputError: a table is missing, or a row is not as published.
    """
    path = data / FOLDER / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read the cohort {path}: {error.strerror}. Restore the original files.") from None
    sha256 = hashlib.sha256(content).hexdigest()
    lines = [line.strip() for line in content.decode("ascii", errors="replace").splitlines() if line.strip()]
    examples = []
    for row in read_rows(data / FOLDER / "split.csv", ("row", "group", "label", "split")):
        if row["split"] != split:
            continue
        number = int(row["row"])
        label, _, letters = lines[number].partition(",")[0], "", lines[number].rpartition(",")[2].strip()
        if label != row["label"] or label not in OPTIONS:
            raise InputError(f"Cannot read the cohort {path}: row {number} does not agree with split.csv. Restore the original files.")
        source = Source(str(path), sha256, f"row {number}")
        examples.append(
            Example(
                id=f"dna-splice/{number}",
                subject_id=row["group"],
                record=partial(_record, row["group"], source, letters),
                question=QUESTION,
                options=tuple(OPTIONS.values()),
                answer=OPTIONS[label],
            )
        )
    return tuple(examples)


def _record(subject_id: str, source: Source, letters: str) -> PatientRecord:
    content = Content("sequence", partial(Sequences, (letters,), "dna"), f"1 sequence, DNA, {len(letters)} bases")
    code = Code("media", "text/fasta", "DNA sequence")
    item = Item(item_id(source.sha256, source.locator), "dna", code, source, content=content, category="sequence")
    return PatientRecord(subject_id, (item,))


TASK = Task(
    name="dna-splice",
    title="Splice site in a DNA sequence",
    modalities=("dna",),
    metric="accuracy",
    read=read,
    folders=(FOLDER,),
    licence="CC BY 4.0",
    may_shape_shipped_weights=True,
    pass_above=0.90,
    rivals=("gradient_boosting", "extra_trees"),
)
