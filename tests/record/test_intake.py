"""From a folder to the store and back: every file has one owner or is left out with the reason; a cut list goes on; the gate holds."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from salus.errors import ConfigError, DamagedError, StoreError
from salus.record.cohort import FILE_NAME, options_of, read_manifest
from salus.record.intake import Stored, StoredList, folder_tag, get_files, patients_of_files, put_files
from salus.record.keys import KeyRing
from salus.record.patient import Skipped
from salus.record.read.folder import read_path
from salus.record.store import Store

WARD = "patient,time_h,heart_rate [/min]\n{},1,88\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "a" / "deep").mkdir(parents=True)
    (root / "a" / "ward.csv").write_text(WARD.format("p1"))
    (root / "a" / "deep" / "ward.csv").write_text(WARD.format("p1") + "p1,2,90\n")
    (root / "b.csv").write_text(WARD.format("p2"))
    return root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), KeyRing(tmp_path / "ring", may_make=True))


@pytest.fixture
def done(tmp_path: Path) -> StoredList:
    return StoredList(tmp_path / "list.jsonl")


def test_there_and_back(folder: Path, store: Store, done: StoredList, tmp_path: Path) -> None:
    subjects, refused = patients_of_files(folder)
    assert subjects == {"a/ward.csv": "p1", "a/deep/ward.csv": "p1", "b.csv": "p2"} and refused == ()
    assert len([one for one in put_files(store, folder, subjects, done) if isinstance(one, Stored)]) == 3
    again = StoredList(done.path)
    assert again.lines == done.lines and done.path.stat().st_mode & 0o777 == 0o600
    out = tmp_path / "out"
    assert len(list(get_files(store, list(again.lines.values()), out))) == 3
    for relative in subjects:
        assert (out / relative).read_bytes() == (folder / relative).read_bytes()


def test_a_file_of_two_patients_is_refused(folder: Path) -> None:
    (folder / "both.csv").write_text(WARD.format("p1") + "p2,1,90\n")
    subjects, refused = patients_of_files(folder)
    assert "both.csv" not in subjects
    assert [(Path(one.path).name, one.reason) for one in refused] == [("both.csv", "it holds 2 patients: split it, one file a patient")]


def test_what_no_reader_knows_is_left_out_unless_the_patient_is_named(folder: Path) -> None:
    (folder / "odd.xyz").write_bytes(b"\0\1\2odd")
    subjects, refused = patients_of_files(folder)
    assert "odd.xyz" not in subjects and [one.reason for one in refused] == ["no reader recognises it"]
    assert patients_of_files(folder, patient="p7")[0]["odd.xyz"] == "p7"


@pytest.mark.data
def test_signals_go_with_their_header(salus_data: Path, tmp_path: Path) -> None:
    """A record of one header, and one whose segments have names of their own, each in its patient's folder."""
    samples = salus_data / "ecg_wfdb_samples"
    shutil.copytree(samples / "multi-segment" / "041s", tmp_path / "p1")
    (tmp_path / "p2").mkdir()
    for path in samples.rglob("100.*"):
        shutil.copy(path, tmp_path / "p2")
    subjects, refused = patients_of_files(tmp_path)
    assert [one.reason for one in refused] == []
    assert subjects == {path.relative_to(tmp_path).as_posix(): path.parent.name for path in tmp_path.rglob("*") if path.is_file()}
    assert sum(path.endswith(".dat") for path in subjects) >= 2


def test_a_cut_list_goes_on(folder: Path, store: Store, done: StoredList) -> None:
    subjects, _ = patients_of_files(folder)
    list(put_files(store, folder, subjects, done))
    whole = done.path.read_bytes()
    done.path.write_bytes(whole[:-10])
    again = StoredList(done.path)
    assert len(again.lines) == 2
    list(put_files(store, folder, subjects, again))
    assert done.path.read_bytes() == whole and store.verify().objects == 3


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("call the ward\n")
    with pytest.raises(ConfigError, match=r"^Cannot use list 'notes.txt': line 1 is not one that 'salus store put' wrote.$"):
        StoredList(tmp_path / "notes.txt")


def test_a_file_that_cannot_be_opened_is_left_out(folder: Path, store: Store, done: StoredList) -> None:
    found = list(put_files(store, folder, {"gone.csv": "p1", "b.csv": "p2"}, done))
    assert isinstance(found[0], Skipped) and found[0].reason == "cannot be opened: No such file or directory"
    assert [one.path for one in done.lines.values()] == ["b.csv"]


def test_a_damaged_object_leaves_no_file(folder: Path, store: Store, done: StoredList, tmp_path: Path) -> None:
    list(put_files(store, folder, {"b.csv": "p2"}, done))
    held = next(path for path in Path(store.root, "objects").rglob("*") if path.is_file())
    held.write_bytes(held.read_bytes()[:-1])
    with pytest.raises(DamagedError):
        list(get_files(store, list(done.lines.values()), tmp_path / "out"))
    assert list((tmp_path / "out").rglob("*")) == []


def test_nothing_is_overwritten_and_nothing_leaves_the_folder(folder: Path, store: Store, done: StoredList, tmp_path: Path) -> None:
    list(put_files(store, folder, {"b.csv": "p2"}, done))
    (one,) = done.lines.values()
    with pytest.raises(StoreError, match=f"^Cannot write object {one.address[:12]}: a file of that name is there. Name an empty folder.$"):
        list(get_files(store, [one], folder))
    for path in ("../b.csv", "/b.csv", "a/../../b.csv"):
        with pytest.raises(ConfigError, match=r"its path leads out of the folder"):
            list(get_files(store, [Stored(path, "p2", one.address)], tmp_path / "out"))


def test_files_of_one_name_in_two_folders_are_both_kept(store: Store, done: StoredList, tmp_path: Path) -> None:
    for name, words in (("north", "time,heart_rate\n1,60\n"), ("south", "time,heart_rate\n1,70\n"), ("copy", "time,heart_rate\n1,60\n")):
        (tmp_path / name / "visit").mkdir(parents=True)
        (tmp_path / name / "visit" / "a.csv").write_text(words)
        (tmp_path / name / "b.csv").write_text(words + words[-5:])
        list(put_files(store, tmp_path / name, {"visit/a.csv": "p1", "b.csv": "p1"}, done))
    again = StoredList(done.path)
    assert len(again.lines) == 6
    written = list(get_files(store, list(again.lines.values()), tmp_path / "out"))
    got = {path.relative_to(tmp_path / "out").as_posix(): path.read_text() for path in written}
    south = f"from-{folder_tag(tmp_path / 'south')}"
    assert sorted(got) == sorted(["b.csv", "visit/a.csv", f"{south}/b.csv", f"{south}/visit/a.csv"]), "what is alike comes once"
    assert got["visit/a.csv"].endswith("1,60\n") and got[f"{south}/visit/a.csv"].endswith("1,70\n")
    (tmp_path / "north" / "b.csv").write_text("time,heart_rate\n1,99\n")
    list(put_files(store, tmp_path / "north", {"b.csv": "p1"}, again))
    assert len(again.lines) == 6, "a file that changed in its place is a new version"


def test_a_list_of_an_earlier_version_is_read(done: StoredList) -> None:
    done.path.write_text('{"path": "a.csv", "subject_id": "p1", "address": "00"}\n')
    assert list(StoredList(done.path).lines.values()) == [Stored("a.csv", "p1", "00", "")]


def test_alike_files_of_three_folders_come_once(store: Store, done: StoredList, tmp_path: Path) -> None:
    for name, files in (("z", {"y": "1"}), ("a", {"y": "2", "x": "5"}), ("b", {"x": "5"}), ("c", {"x": "5"})):
        (tmp_path / name).mkdir()
        for file, words in files.items():
            (tmp_path / name / file).write_text(words)
        list(put_files(store, tmp_path / name, dict.fromkeys(files, "p1"), done))
    got = {path.relative_to(tmp_path / "out").as_posix() for path in get_files(store, list(done.lines.values()), tmp_path / "out")}
    apart = f"from-{folder_tag(tmp_path / 'a')}"
    assert got == {"y", "x", f"{apart}/y", f"{apart}/x"}


def test_what_was_declared_comes_back(store: Store, done: StoredList, tmp_path: Path) -> None:
    root = tmp_path / "files"
    root.mkdir()
    (root / "course[1].csv").write_text("time_h,hr,finding\n1,-9,yes\n2,88,yes\n")
    rule = "{missing: [-9], units: {hr: /min}, zone: Europe/Berlin, clock_offset_s: 37, anchor: onset, subject: p7}"
    (root / FILE_NAME).write_text(
        f"licence: CC0-1.0\nmay_train: true\nfiles:\n  '*.csv': {rule}\ntables:\n  '*.csv': {{label: [finding], is_evidence: true}}\n"
    )
    subjects, refused = patients_of_files(root, patient="p7")
    assert subjects == {"course[1].csv": "p7"} and refused == ()
    assert all(isinstance(one, Stored) for one in put_files(store, root, subjects, done, cohort=read_manifest(root / FILE_NAME)))
    out = tmp_path / "out"
    assert len(list(get_files(store, list(StoredList(done.path).lines.values()), out))) == 1
    before, after = read_manifest(root / FILE_NAME), read_manifest(out / FILE_NAME)
    assert options_of(after, "course[1].csv") == options_of(before, "course[1].csv")
    assert not after.may_train, "no licence is known of what was stored"
    (record,) = read_path(out).patients
    assert record.subject_id == "p7" and [item.number for item in record.items] == [88]
    with pytest.raises(StoreError, match="holds a manifest"):
        list(get_files(store, list(done.lines.values()), out))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_name_that_is_no_utf8_is_named_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "files"
    root.mkdir()
    (root / "ok.csv").write_text(WARD.format("p1"))
    Path(os.fsdecode(os.fsencode(root) + b"/gr\xf6sse.csv")).write_text(WARD.format("p1") + "p1,2,9\n")
    for patient in (None, "p1"):
        subjects, refused = patients_of_files(root, patient=patient)
        assert list(subjects) == ["ok.csv"] and [one.reason for one in refused] == ["its name is not in UTF-8: rename it"]
        assert refused[0].path.endswith("gr\\xf6sse.csv")
