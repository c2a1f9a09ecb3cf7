"""Yes, no or maybe, from the abstract of a biomedical paper (PubMedQA PQA-L).

Takes the cohort folder; gives one question per paper. The sections of the abstract are note items with the section's label;
the conclusion (`LONG_ANSWER`) holds the answer and is never an item. A paper is no patient: the PubMed id is the subject.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from salus.cohorts.split_file import read_split
from salus.errors import InputError
from salus.record.claims import modality_of
from salus.record.patient import Code, Content, Item, PatientRecord, Source, item_id
from salus.task import Example, Split, Task

FOLDER = "pubmedqa"
FILE = "ori_pqal.json"
OPTIONS = ("yes", "no", "maybe")


def _record(pmid: str, paper: dict[str, Any], path: Path, sha256: str) -> PatientRecord:
    """Return a paper's abstract as a record: one note per section, without the conclusion."""
    items = []
    for index, (label, text) in enumerate(zip(paper["LABELS"], paper["CONTEXTS"], strict=True)):
        locator = f"{pmid}.CONTEXTS[{index}]"
        items.append(
            Item(
                id=item_id(sha256, locator),
                modality=modality_of("category:note"),
                code=Code("pubmedqa", "abstract-section", label.lower()),
                source=Source(str(path), sha256, locator),
                content=Content("text", partial(str, text), f"{len(text)} characters"),
                category="note",
            )
        )
    return PatientRecord(pmid, tuple(items))


def read(data: Path, split: Split) -> tuple[Example, ...]:
    """Return one question per paper of a split, in the order of `split.csv`.

    Args:
        data: folder that holds `pubmedqa/`.
        split: `train`, `val` or `test`; the official 500 papers are the test split.

    Raises:
        InputError: a file is missing or not as published.
    """
    folder = data / FOLDER
    splits = read_split(folder / "split.csv", "pmid")
    path = folder / FILE
    try:
        content = path.read_bytes()
        papers = json.loads(content)
    except (OSError, ValueError):
        raise InputError(f"Cannot read the cohort: {path} is missing or not JSON. Restore the original file.") from None
    sha256 = hashlib.sha256(content).hexdigest()
    chosen = [pmid for pmid, part in splits.items() if part == split]
    if any(pmid not in papers or papers[pmid].get("final_decision") not in OPTIONS for pmid in chosen):
        raise InputError(
            f"Cannot read the cohort {folder}: a paper of split.csv has no entry or decision in {FILE}. Restore the files."
        )
    return tuple(
        Example(
            id=f"pubmedqa/{pmid}",
            subject_id=pmid,
            record=partial(_record, pmid, papers[pmid], path, sha256),
            question=papers[pmid]["QUESTION"],
            options=OPTIONS,
            answer=papers[pmid]["final_decision"],
        )
        for pmid in chosen
    )


TASK = Task(
    name="pubmedqa",
    title="Yes, no or maybe from a paper's abstract",
    modalities=("notes",),
    metric="accuracy",
    read=read,
    folders=(FOLDER,),
    licence="MIT",
    may_shape_shipped_weights=True,
)
