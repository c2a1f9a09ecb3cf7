"""`salus export`, `index` and `inspect`: what is written is read back, and says whose it is only where that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.record.deidentify.test_shown import folder_of

from salus.cli import main
from salus.cohorts.sample_patient import write_sample_patient
from salus.commands.deidentified import Keeper
from salus.record.deidentify import identity
from salus.record.read.folder import read_path

pytest.importorskip("pyarrow")
PLANTED = (b"quimby", b"zelda", b"88123", b"555-0148")


def test_the_sample_patient_is_exported_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    write_sample_patient(tmp_path / "in")
    assert main(["export", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--no-deidentify"]) == 0
    printed = capsys.readouterr().out
    (before,), (after,) = read_path(tmp_path / "in").patients, read_path(tmp_path / "out").patients
    kept = [item for item in before.items if item.content is None]
    assert f"Wrote {len(kept)} events of 1 patients." in printed and "MEDS holds no such content" in printed
    assert len(after.items) == len(kept)
    assert sorted(item.number for item in after.items if item.number is not None) == pytest.approx(
        sorted(item.number for item in kept if item.number is not None)
    )
    assert main(["export", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "it is not empty" in capsys.readouterr().err


def written(root: Path) -> bytes:
    """Return all bytes and names below a folder, in small letters; Parquet's pages are decoded first."""
    import pyarrow.parquet

    found = [str(path.relative_to(root)).encode() for path in root.rglob("*")]
    for path in root.rglob("*"):
        if path.suffix == ".parquet":
            found.append(str(pyarrow.parquet.read_table(path).to_pylist()).encode())
        elif path.is_file():
            found.append(path.read_bytes())
    return b"\n".join(found).lower()


def test_an_export_does_not_say_whose_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quimby").mkdir()
    folder_of(tmp_path / "quimby")
    (tmp_path / "site").mkdir()
    out = tmp_path / "site" / "out"
    assert main(["export", str(tmp_path / "quimby"), "--out", str(out), "--with-text"]) == 0
    body = written(out)
    assert [word for word in PLANTED if word in body] == [] and b"pulse regular" in body and b"2021-03" not in body
    told = json.loads((tmp_path / "site" / "out.deidentify.map.json").read_text())
    assert set(told["subjects"].values()) == {"mrn-88123"} and str(read_path(out).patients[0].subject_id) in told["subjects"]
    assert "which name is which" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "quimby"), "--out", str(tmp_path / "open"), "--with-text", "--no-deidentify"]) == 0
    assert b"quimby" in written(tmp_path / "open")


def test_an_index_says_it_unless_told_not_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    folder_of(tmp_path / "in")
    for name, more in (("own", ()), ("shared", ("--deidentify", "--key", str(tmp_path / "secret")))):
        (tmp_path / name).mkdir()
        assert main(["index", str(tmp_path / "in"), "--out", str(tmp_path / name / "c.parquet"), *more]) == 0
    assert b"88123" in written(tmp_path / "own")
    body = written(tmp_path / "shared")
    assert [word for word in PLANTED if word in body] == [] and b"72.0" in body
    assert "which name is which" in capsys.readouterr().out and (tmp_path / "secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_inspect_shows_a_record_without_its_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]) -> None:
    (tmp_path / "in").mkdir()
    folder_of(tmp_path / "in")
    before = set(tmp_path.iterdir())
    assert main(["inspect", str(tmp_path / "in"), "--deidentify", *form]) == 0
    printed = capsys.readouterr()
    assert [word for word in PLANTED if word in printed.out.lower().encode()] == [] and "2021" not in printed.out
    assert "72" in printed.out and "a key that is thrown away" in printed.err and set(tmp_path.iterdir()) == before
    assert main(["inspect", str(tmp_path / "in"), "--deidentify", "--key", str(tmp_path / "secret"), *form]) == 0
    assert "which name is which" in capsys.readouterr().err


def test_a_patient_under_two_keys_has_one_pseudonym(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet

    (tmp_path / "in").mkdir()
    folder_of(tmp_path / "in")
    (tmp_path / "in" / "zelda-note.txt").unlink()
    bundle = tmp_path / "in" / "quimby.json"
    bundle.write_text(bundle.read_text().replace('"id": "mrn-88123", ', '"id": "mrn-88123", "identifier": [{"value": "A-5512"}], '))
    (tmp_path / "in" / "lab.csv").write_text("patient_id,time,code,value,unit\nA-5512,2021-03-01T11:00:00Z,glucose,5.1,mmol/L\n")
    key = tmp_path / "key"
    assert len(read_path(tmp_path / "in").patients) == 2
    assert main(["index", str(tmp_path / "in"), "--out", str(tmp_path / "i.parquet"), "--deidentify", "--key", str(key)]) == 0
    assert "1 patients" in capsys.readouterr().out
    (name,) = set(pyarrow.parquet.read_table(tmp_path / "i.parquet").column("subject_id").to_pylist())
    for patient in ("A-5512", "mrn-88123"):
        assert main(["inspect", str(tmp_path / "in"), "--deidentify", "--key", str(key), "--json", "--patient", patient]) == 0
        assert [each["patient"] for each in json.loads(capsys.readouterr().out)["patients"]] == [name]


def test_what_cannot_be_searched_for_names_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    folder_of(tmp_path / "in")
    records = read_path(tmp_path / "in").patients

    def closed(*_given: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(identity, "format_of", closed)
    keeper = Keeper(None, tmp_path / "in")
    assert [record.items for record in keeper.records(records)] == [()]
    assert "nobody can say whom the file that it is from names" in keeper.close()


def test_each_file_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    entries = [{"resource": {"resourceType": "Patient", "id": f"p{number}", "birthDate": "1980"}} for number in range(20)]
    (tmp_path / "in" / "all.json").write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    records, asked = read_path(tmp_path / "in").patients, []
    monkeypatch.setattr(identity, "format_of", lambda path, installed: asked.append(path))
    assert len(list(Keeper(None, tmp_path / "in").records(records))) == len(records) == 20 and len(asked) == 1
