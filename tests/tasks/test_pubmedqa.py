"""PubMedQA: sections as notes, no conclusion among them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from salus.errors import InputError
from salus.task import SPLITS
from salus.tasks.pubmedqa import TASK

PAPER = {
    "QUESTION": "Does it work?", "CONTEXTS": ["We tried.", "It did."], "LABELS": ["METHODS", "RESULTS"],
    "LONG_ANSWER": "It works well.", "final_decision": "yes",
}  # fmt: skip


def _cohort(data: Path, paper: dict[str, object]) -> Path:
    folder = data / "pubmedqa"
    folder.mkdir()
    (folder / "split.csv").write_text("pmid,split,stratum\n1,val,yes\n")
    (folder / "ori_pqal.json").write_text(json.dumps({"1": paper}))
    return folder


def test_sections_are_notes_with_their_labels(tmp_path: Path) -> None:
    _cohort(tmp_path, PAPER)
    (example,) = TASK.read(tmp_path, "val")
    assert (example.subject_id, example.question, example.options, example.answer) == (
        "1",
        "Does it work?",
        ("yes", "no", "maybe"),
        "yes",
    )
    items = example.record().items
    assert [(item.code.display, item.category, item.content.load() if item.content else None) for item in items] == [
        ("methods", "note", "We tried."),
        ("results", "note", "It did."),
    ]
    assert len({item.id for item in items}) == 2


def test_a_paper_without_a_decision_is_an_error(tmp_path: Path) -> None:
    folder = _cohort(tmp_path, {**PAPER, "final_decision": "perhaps"})
    with pytest.raises(InputError) as error:
        TASK.read(tmp_path, "val")
    assert str(error.value) == (
        f"Cannot read the cohort {folder}: a paper of split.csv has no entry or decision in ori_pqal.json. Restore the files."
    )


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    path = _cohort(tmp_path, PAPER) / "ori_pqal.json"
    path.write_text("{")
    with pytest.raises(InputError) as error:
        TASK.read(tmp_path, "val")
    assert str(error.value) == f"Cannot read the cohort: {path} is missing or not JSON. Restore the original file."


@pytest.mark.data
def test_the_published_numbers_and_no_conclusion(salus_data: Path) -> None:
    # SOURCE.md of the cohort: 397 train, 103 val, the official 500 test; yes 552, no 338, maybe 110.
    examples = {split: TASK.read(salus_data, split) for split in SPLITS}
    assert {split: len(own) for split, own in examples.items()} == {"train": 397, "val": 103, "test": 500}
    assert Counter(example.answer for own in examples.values() for example in own) == {"yes": 552, "no": 338, "maybe": 110}
    papers = json.loads((salus_data / TASK.folders[0] / "ori_pqal.json").read_text(encoding="utf-8"))
    for example in examples["test"]:
        texts = [item.content.load() for item in example.record().items if item.content]
        assert papers[example.subject_id]["LONG_ANSWER"] not in texts
