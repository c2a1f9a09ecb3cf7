"""Facts on real ICU stays: checked by the independent script, verified by grounding, fast."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salus.generate.ground import verify
from salus.reason.facts import FactKind
from salus.reason.lookup import facts_of
from salus.reason.retrieve import look_up
from salus.reason.series import series_of
from salus.record.normalise import normalise
from salus.record.patient import PatientRecord
from salus.record.read.icu2012 import READER
from salus.record.read.reader import ReadOptions
from salus.record.timeline import clock

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_changes.py"
CHANGE: frozenset[FactKind] = frozenset(("change",))


def stays(data: Path, n: int) -> list[PatientRecord]:
    folder = data / "icu_physionet2012"
    with (folder / "split.csv").open() as file:
        ids = [row["RecordID"] for row in csv.DictReader(file) if row["split"] == "val"][:n]
    records = []
    for subject_id in ids:
        found = READER.read(folder / "set-a" / f"{subject_id}.txt", ReadOptions()).found[0]
        records.append(PatientRecord(subject_id, normalise(found.items), found.anchors))
    return records


def answer(record: PatientRecord) -> dict[str, object]:
    facts = look_up(record, "What changed?", budget=12).facts
    statements = [verify(f"{fact.text} [{n}]", facts, asked=CHANGE) for n, fact in enumerate(facts, 1) if fact.kind == "change"]
    assert {statement.verification for statement in statements} <= {"verified"}
    seconds = clock(record)
    return {
        "subject_id": record.subject_id,
        "statements": [{"text": statement.text, "item_ids": list(statement.item_ids)} for statement in statements],
        "items": [
            {"id": item.id, "code": item.code.code, "seconds": seconds.get(item.id), "value": item.value, "unit": item.unit}
            for item in record.items
        ],
    }


@pytest.mark.data
def test_the_independent_script_finds_every_statement_right(salus_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([answer(record) for record in stays(salus_data, 12)]))
    run = subprocess.run([sys.executable, str(SCRIPT), str(path), str(salus_data)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "wrong" not in run.stdout
    assert "of the 10 largest changes mentioned: 10.00 (of 10.00 that there are), n = 12" in run.stdout


@pytest.mark.data
def test_the_independent_script_sees_a_wrong_number_time_and_direction(salus_data: Path, tmp_path: Path) -> None:
    right = answer(stays(salus_data, 1)[0])
    path = tmp_path / "answers.json"
    for old, new in ((" rose ", " fell "), (" h to ", " h 59 min to "), (", from ", ", from 9")):
        wrong = json.loads(json.dumps(right))
        changed = [statement for statement in wrong["statements"] if old in statement["text"]]
        if not changed:
            continue
        changed[0]["text"] = changed[0]["text"].replace(old, new)
        path.write_text(json.dumps([wrong]))
        run = subprocess.run([sys.executable, str(SCRIPT), str(path), str(salus_data)], capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert "wrong" in run.stdout


@pytest.mark.data
def test_every_fact_in_its_own_words_is_verified(salus_data: Path) -> None:
    for record in stays(salus_data, 3):
        for series in series_of(record).values():
            facts = facts_of(series)
            for number, fact in enumerate(facts, 1):
                assert verify(f"{fact.text} [{number}]", facts, asked=frozenset()).verification == "verified", fact.text
                short = verify(f"{fact.short} [{number}]", facts, asked=frozenset((fact.kind,)))
                assert short.verification == "verified", fact.short
                assert set(fact.item_ids) <= {item.id for item in record.items}


@pytest.mark.data
def test_a_question_is_answered_in_a_moment(salus_data: Path) -> None:
    record = stays(salus_data, 1)[0]
    look_up(record, "creatinine")
    best = min(_seconds(record) for _ in range(5))
    assert best < 0.06  # 30 ms on an idle core, with room for a busy one


def _seconds(record: PatientRecord) -> float:
    start = time.perf_counter()
    look_up(record, "What changed, what matters?")
    return time.perf_counter() - start


@pytest.mark.data
def test_the_independent_script_sees_claims_without_evidence(salus_data: Path, tmp_path: Path) -> None:
    """A variable that the stay does not have, a statement that cites nothing, one that cites another variable."""
    record = stays(salus_data, 1)[0]
    right = answer(record)
    measured = {item.code.code for item in record.items}
    absent = next(words for code, words in (("TroponinI", "troponin I"), ("Cholesterol", "cholesterol")) if code not in measured)
    first = right["statements"][0]  # type: ignore[index]
    other = next(item.id for item in record.items if item.category == "demographic")
    for text, ids in (
        (f"Latest {absent}: 2 ng/mL at 4 h after admission.", first["item_ids"]), (first["text"], []), (first["text"], [other]),
    ):  # fmt: skip
        path = tmp_path / "answers.json"
        path.write_text(json.dumps([{**right, "statements": [{"text": text, "item_ids": ids}]}]))
        run = subprocess.run([sys.executable, str(SCRIPT), str(path), str(salus_data)], capture_output=True, text=True, check=False)
        assert run.returncode == 1, run.stdout + run.stderr
