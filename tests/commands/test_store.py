"""`salus store`: what a user types, what is shown, and the exit status."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from salus import cli


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    for name in ("p1", "p2"):
        (tmp_path / "files" / f"{name}.csv").write_text(f"patient,time_h,heart_rate [/min]\n{name},1,88\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["store", *words, "--store", "store", "--keys", "safe/ring"])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_put_verify_get_forget(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown, _ = run(capsys, "put", "files", "--no-deidentify")
    assert status == 0 and "2 files of 2 patients stored; 0 not stored" in shown and "New key ring: safe/ring and safe/ring.master" in shown
    status, shown, _ = run(capsys, "put", "files", "--no-deidentify")
    assert status == 0 and "New key ring" not in shown
    status, shown, _ = run(capsys, "verify")
    assert status == 0 and shown.splitlines()[-1] == "Everything that is listed is there, and whole."
    assert run(capsys, "get", "out")[:2] == (0, "2 files written to out\n")
    assert (site / "out" / "p1.csv").read_bytes() == (site / "files" / "p1.csv").read_bytes()
    assert run(capsys, "forget", "p1")[:1] == (0,)
    assert b"p1" not in (site / "safe" / "ring.list.jsonl").read_bytes()
    assert run(capsys, "get", "again")[:2] == (0, "1 files written to again\n")
    assert run(capsys, "get", "none", "--patient", "p1") == (
        1, "", "salus: Cannot get files: 'ring.list.jsonl' lists none of that patient. Check the id.\n",
    )  # fmt: skip
    status, shown, _ = run(capsys, "put", "files", "--no-deidentify")
    assert status == 1 and "not stored: p1.csv: its patient was erased; new data of this patient needs a new id" in shown


NAMED = re.compile(r"Huber|2021-03-04|\bp1\b")
"""`p1` may begin a pseudonym."""


def test_what_is_stored_is_deidentified_unless_said_otherwise(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "files" / "p1.txt").write_text("Seen by Dr. Anna Huber on 2021-03-04. Heart rate 88.\n")
    (site / "files" / "salus-cohort.yaml").write_text("files: {'*.txt': {subject_pattern: '(p.)'}}\n")
    (site / "files" / "odd.xyz").write_bytes(b"\0\1")
    status, shown, _ = run(capsys, "put", "files")
    assert status == 1 and "3 files of 2 patients stored; 1 not stored" in shown and "odd.xyz" not in shown
    assert "stored with --no-deidentify, as it is" in shown
    run(capsys, "get", "out")
    found = {path.name: path.read_text() for path in (site / "out").rglob("*") if path.suffix in (".csv", ".txt")}
    assert len(found) == 3 and not any(NAMED.search(text) for text in [*found.values(), *found])
    assert any("88" in text for text in found.values())
    assert not any(NAMED.search(path.read_text()) for path in (site / "safe").glob("ring.deidentify.report.json"))
    assert not NAMED.search((site / "safe" / "ring.list.jsonl").read_text())
    assert sorted(path.name for path in (site / "safe").iterdir() if "deidentify" in path.name) == [
        "ring.deidentify", "ring.deidentify.map.json", "ring.deidentify.report.json",
    ]  # fmt: skip
    again, shown, _ = run(capsys, "put", "files")
    assert again == 1 and "3 files of 2 patients stored" in shown, "the same files are the same objects"
    assert "3 objects" in run(capsys, "verify")[1]
    assert run(capsys, "get", "p1s", "--patient", "p1")[:2] == (0, "2 files written to p1s\n")
    named = (site / "safe" / "ring.deidentify.map.json").read_text()
    assert run(capsys, "forget", "p1")[0] == 0
    assert run(capsys, "get", "left")[:2] == (0, "1 files written to left\n")
    told = (site / "safe" / "ring.deidentify.map.json").read_text()
    assert NAMED.search(named) and not NAMED.search(told) and "p2" in told, "what an erased patient was called is erased too"
    status, _, error = run(capsys, "forget", "nobody")
    assert status == 1 and "holds no key of this id" in error


def test_one_file_of_a_named_patient_is_deidentified(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "note.txt").write_text("Seen by Dr. Anna Huber. Heart rate 88.\n")
    status, shown, _ = run(capsys, "put", "note.txt", "--patient", "Maria Muster")
    assert status == 0 and "1 files of 1 patients stored; 0 not stored" in shown
    assert run(capsys, "get", "out", "--patient", "Maria Muster")[0] == 0
    (text,) = [path.read_text() for path in (site / "out").rglob("*.txt")]
    assert "Huber" not in text and "88" in text
    assert b"Muster" not in (site / "safe" / "ring.list.jsonl").read_bytes()


def test_verify_names_what_is_damaged_and_what_is_missing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "put", "files", "--no-deidentify")
    one, two = sorted(path for path in (site / "store" / "objects").rglob("*") if path.is_file())
    one.write_bytes(one.read_bytes()[:-1])
    two.unlink()
    status, shown, _ = run(capsys, "verify")
    assert status == 1 and shown.splitlines()[-1] == "1 damaged, 1 missing"
    assert f"damaged: objects/{one.parent.name}/{one.name}: Cannot read object {one.name[:12]}" in shown
    assert f"missing: object {two.name[:12]} of patient {two.parent.name[:12]}" in shown


def test_a_file_that_is_left_out_is_status_1(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "files" / "odd.xyz").write_bytes(b"\0\1")
    status, shown, _ = run(capsys, "put", "files", "--no-deidentify")
    assert status == 1 and "2 files of 2 patients stored; 1 not stored" in shown and "not stored: odd.xyz: no reader recognises it" in shown


@pytest.mark.parametrize("name", ["--keys", "--list", "--master"])
def test_keys_and_list_inside_the_store_are_refused_before_anything_is_made(
    site: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    status = cli.main(["store", "put", "files", "--store", "store", "--keys", "safe/ring", name, "store/here"])
    assert status == 1 and "Cannot use key file 'here': it lies inside the store." in capsys.readouterr().err
    assert sorted(path.name for path in site.iterdir()) == ["files"]


def test_a_lost_ring_is_an_error_and_not_made_again(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "put", "files", "--no-deidentify")
    (site / "safe" / "ring").unlink()
    for words in (("put", "files", "--no-deidentify"), ("verify",), ("get", "out"), ("forget", "p1")):
        status, _, error = run(capsys, *words)
        assert status == 1 and "Cannot open the key ring 'ring': No such file or directory." in error
    shutil.rmtree(site / "safe")
    status, _, error = run(capsys, "put", "files", "--no-deidentify")
    assert status == 1 and "it belongs to another key ring" in error


def test_files_of_nobody_are_left_out_and_a_named_patients_are_theirs(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("north", "south"):
        (site / name).mkdir()
        (site / name / "note.txt").write_text("Seen on 2021-03-04. Heart rate 88.\n")
    status, shown, _ = run(capsys, "put", "north")
    assert status == 1 and "0 files of 0 patients stored; 1 not stored" in shown and "nothing says whose it is" in shown
    assert run(capsys, "put", "north", "--patient", "alpha")[0] == run(capsys, "put", "south", "--patient", "beta")[0] == 0
    told = json.loads((site / "safe" / "ring.deidentify.map.json").read_text())
    assert {"alpha", "beta"} <= set(told["subjects"].values())
    run(capsys, "get", "out")
    texts = {path.read_text() for path in (site / "out").rglob("*.txt")}
    assert len(texts) == 2 and not any("2021-03-04" in text for text in texts), "each patient's dates move by their own days"
