"""The folder walk, with a small fake reader: grouping, order, copies, and reasons for what is not read."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from salus.errors import Bug, FormatError, InputError, SeveralPatientsError
from salus.record.patient import Code, Instant, Item, Offset, PatientRecord, ReadReport, Skipped, Source, item_id
from salus.record.read import folder
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256

SEEN: list[ReadOptions] = []


def _fake(path: Path, options: ReadOptions) -> FileRead:
    """Read `FAKE key seconds…`; `-` is no key; `boom` and `bad` fail; `with NAME` names a companion."""
    SEEN.append(options)
    words = path.read_text().split()[1:]
    if words[0] == "boom":
        raise KeyError("patient data")
    if words[0] == "bad":
        raise FormatError(f"Cannot read '{path.name}': it is bad. Mend it.")
    sha256 = file_sha256(path)
    companions = (path.parent / words.pop(),) if "with" in words else ()
    anchors = {"admission": datetime(2026, 3, 1, tzinfo=UTC)} if "anchored" in words else {}
    times = [word for word in words[1:] if word.isdigit()]
    items = [
        Item(
            item_id(sha256, f"word {index}"),
            "unclaimed",
            Code("fake", "x", "x"),
            Source(str(path), sha256, f"word {index}"),
            Offset(float(time), "admission"),
        )
        for index, time in enumerate(times)
    ]
    return FileRead((Found(None if words[0] == "-" else words[0], tuple(items), anchors),), companions=companions)


@pytest.fixture(autouse=True)
def _one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    fake = Reader("fake", "fake", lambda path, head: head.startswith(b"FAKE"), _fake)
    monkeypatch.setattr(folder, "readers", lambda: (fake,))
    monkeypatch.setattr("salus.record.normalise.variable_of", lambda code: None)


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _keys(report: ReadReport) -> list[str]:
    return [record.subject_id for record in report.patients]


def _reasons(report: ReadReport, root: Path) -> dict[str, str]:
    return {Path(each.path).relative_to(root).as_posix(): each.reason for each in report.skipped}


def test_patients_are_grouped_over_files_and_sorted_by_time(tmp_path: Path) -> None:
    report = folder.read_path(_write(tmp_path, {"a": "FAKE p1 50 10", "b": "FAKE p2 5", "c": "FAKE p1 20"}))
    assert _keys(report) == ["p1", "p2"]
    assert [item.observed_at.seconds for item in report.patients[0].items if isinstance(item.observed_at, Offset)] == [10, 20, 50]
    assert report.skipped == ()


def test_renaming_files_changes_no_item(tmp_path: Path) -> None:
    one = folder.read_path(_write(tmp_path / "one", {"a": "FAKE p 10 20", "b": "FAKE p 10 5"}))
    two = folder.read_path(_write(tmp_path / "two", {"b": "FAKE p 10 20", "a": "FAKE p 10 5"}))
    assert [item.id for item in one.patients[0].items] == [item.id for item in two.patients[0].items]


def test_a_file_without_key_belongs_to_the_only_patient(tmp_path: Path) -> None:
    report = folder.read_path(_write(tmp_path, {"a": "FAKE p1 1", "sounds/b": "FAKE - 2"}))
    assert _keys(report) == ["p1"]
    assert report.patients[0].items[1].remarks == ("no patient key in the file: taken as the folder's only patient",)


def test_a_file_without_key_among_several_patients_takes_its_sub_folder(tmp_path: Path) -> None:
    report = folder.read_path(_write(tmp_path, {"a": "FAKE p1 1", "b": "FAKE p2 1", "sub/deep/c": "FAKE - 2", "d": "FAKE - 3"}))
    assert _keys(report) == ["p1", "p2", "sub", "unassigned"]


def test_the_manifest_in_the_folder_names_patients_and_options(tmp_path: Path) -> None:
    manifest = "files: {'*.fake': {subject_pattern: '(k[0-9])[.]fake', modality: ecg, anchor: birth}}\ntables: {t.fake: {label: [x]}}"
    report = folder.read_path(
        _write(tmp_path, {"k1.fake": "FAKE - 1", "k2.fake": "FAKE - 2", "t.fake": "FAKE - 3", "salus-cohort.yaml": manifest})
    )
    assert _keys(report) == ["k1", "k2"]
    assert {(options.modality, options.anchor) for options in SEEN} == {("ecg", "birth")}
    assert _reasons(report, tmp_path) == {
        "t.fake": "declared in the manifest as labels, splits or documentation, not evidence",
        "salus-cohort.yaml": "cohort manifest",
    }


def test_everything_that_is_not_read_has_a_reason(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "a": "FAKE p 1", "copy": "FAKE p 1", "empty": "", "odd": "what is this", "bad": "FAKE bad", ".hidden": "FAKE p 9",
            "SOURCE.md": "x1", "split.csv": "x2", "labels_tr.csv": "x3", "LICENSE": "x4", "README.upstream.md": "x5",
        },
    )  # fmt: skip
    (root / "broken").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root, target_is_directory=True)
    report = folder.read_path(root)
    documentation = "documentation or labels, not evidence"
    assert _reasons(report, root) == {
        "copy": "same bytes as 'a': read once",
        "empty": "empty file",
        "odd": "no reader recognises it",
        "bad": "Cannot read 'bad': it is bad. Mend it.",
        ".hidden": "hidden file or folder",
        "broken": "cannot be opened: No such file or directory",
        "loop": "a link to a folder that is read already",
        **dict.fromkeys(("SOURCE.md", "split.csv", "labels_tr.csv", "LICENSE", "README.upstream.md"), documentation),
    }
    assert len(report.patients[0].items) == 1


def test_folders_are_entered_to_a_stated_depth(tmp_path: Path) -> None:
    deep = "/".join(f"d{i}" for i in range(folder.MOST_NESTED + 1))
    report = folder.read_path(_write(tmp_path, {f"{deep}/a": "FAKE p 1", "b": "FAKE p 2"}))
    assert [each.reason for each in report.skipped] == ["nested more than 32 folders deep"]


def test_companions_are_neither_read_nor_called_skipped(tmp_path: Path) -> None:
    report = folder.read_path(_write(tmp_path, {"b.head": "FAKE p 1 with a.bytes", "a.bytes": "bytes"}))
    assert report.skipped == ()
    assert len(report.patients[0].items) == 1


def test_a_file_that_gives_nothing_is_reported(tmp_path: Path) -> None:
    report = folder.read_path(_write(tmp_path, {"a": "FAKE p"}))
    assert _reasons(report, tmp_path) == {"a": "read as fake: it holds nothing about a patient"}


def test_an_unexplained_failure_is_our_bug_and_names_no_data(tmp_path: Path) -> None:
    path = _write(tmp_path, {"a": "FAKE boom"}) / "a"
    with pytest.raises(Bug) as caught:
        folder.read_path(path)
    assert str(caught.value) == f"Cannot read '{path}': reader 'fake' failed with KeyError. Report it, with the file's format."


def test_anchors_join_the_two_clocks_and_conflicts_are_told(tmp_path: Path) -> None:
    report = folder.read_path(_write(tmp_path, {"a": "FAKE p 60 anchored"}))
    assert report.patients[0].anchors == {"admission": datetime(2026, 3, 1, tzinfo=UTC)}
    item = report.patients[0].items[0]
    on_calendar = Item("z", "m", Code("s", "c", "d"), Source("f", ""), Instant(datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC)))
    assert folder._sorted((item, on_calendar), report.patients[0].anchors) == (on_calendar, item)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        folder.read_path(tmp_path / "nothing")
    assert str(caught.value) == f"Cannot read '{tmp_path / 'nothing'}': no such file or folder. Check the path."


def test_one_patient_is_wanted_and_messages_hold_no_key() -> None:
    # Short names: the first eight hex digits of `printf p00 | sha256sum`, and so on.
    report = ReadReport(tuple(PatientRecord(f"p{i:02}", ()) for i in range(12)), ())
    shown = ", ".join("p-" + hashlib.sha256(f"p{i:02}".encode()).hexdigest()[:8] for i in range(10))
    with pytest.raises(SeveralPatientsError) as caught:
        folder.one_patient(report)
    assert str(caught.value) == (
        f"Cannot choose a patient: 12 are there ({shown}, and 2 more). Name one with --patient (so, or as 'salus inspect' shows it)."
    )
    assert folder.one_patient(report, "p11").subject_id == "p11"
    assert folder.one_patient(report, folder.opaque("p11")).subject_id == "p11"
    with pytest.raises(InputError) as missing:
        folder.one_patient(ReadReport(report.patients[:2], ()), "Jane Doe")
    first, second = shown.split(", ")[:2]
    assert str(missing.value) == (
        f"Cannot find that patient: nobody there has the key given. Patients: {first}, {second}. Run 'salus inspect' for keys."
    )
    with pytest.raises(InputError) as nobody:
        folder.one_patient(ReadReport((), ()))
    assert str(nobody.value) == (
        "Cannot find a patient: the path holds no file. Give a folder with one patient's files, or one file."
    )
    skipped = (*(Skipped(f"/in/{n}", "empty file") for n in range(3)), *(Skipped("/in/x", f"reason {n}") for n in range(4)))
    with pytest.raises(InputError) as unread:
        folder.one_patient(ReadReport((), skipped))
    assert str(unread.value) == (
        "Cannot find a patient: nothing could be read (3 × empty file; 1 × reason 0; 1 × reason 1; and 2 further reasons). "
        "'salus inspect' on the path shows which file has which."
    )
