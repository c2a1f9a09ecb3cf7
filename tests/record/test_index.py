"""The cohort index: every item is a row, whatever the order it came in; written and read in less memory than it takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_model import patient

from salus import cli
from salus.errors import FormatError, InputError
from salus.record.index import SCHEMA, FolderRecord, read_by_folder, read_index, subjects_by_folder, write_index
from salus.record.patient import Code, Instant, Item, PatientRecord, Source
from salus.record.read.folder import read_path

RECORDS = [patient(number) for number in range(12)]


def folder_records(records: list[PatientRecord]) -> list[FolderRecord]:
    return [FolderRecord("", record) for record in records]


def rows(path: Path, **asked: object) -> list[dict[str, object]]:
    batches = list(read_index(path, **asked))  # type: ignore[arg-type]
    return pa.Table.from_batches(batches).to_pylist() if batches else []


def test_every_item_is_a_row(tmp_path: Path) -> None:
    out = tmp_path / "cohort.parquet"
    found = write_index(folder_records(RECORDS), out, tmp_path)
    items = {item.id: (record.subject_id, item) for record in RECORDS for item in record.items}
    held = rows(out)
    assert (found.patients, found.items) == (12, len(items)) and {row["item_id"] for row in held} == set(items)
    for row in held:
        subject_id, item = items[str(row["item_id"])]
        assert row["subject_id"] == subject_id and (row["code_system"], row["code"]) == (item.code.system, item.code.code)
        assert row["numeric_value"] == item.number and row["unit"] == item.unit and row["modality"] == item.modality
        assert row["offset_s"] == (None if item.observed_at is None else item.observed_at.seconds)  # type: ignore[union-attr]
        assert row["text_value"] == (item.value if isinstance(item.value, str) else None)
    assert out.stat().st_mode & 0o777 == 0o600 and [path.name for path in tmp_path.iterdir()] == ["cohort.parquet"]
    assert pq.read_table(out)["subject_id"].to_pylist() == sorted(row["subject_id"] for row in held), "any Parquet reader reads it"


def test_calendar_times_keep_their_moment_and_precision(tmp_path: Path) -> None:
    at = datetime(2026, 3, 4, 10, 15, 0, 250_000, tzinfo=UTC)
    item = Item("a" * 12, "ehr", Code("s", "c", "d"), Source(str(tmp_path / "x" / "f.json"), "0" * 64, "entry[0]"), Instant(at, "day"))
    write_index(folder_records([PatientRecord("p", (item,))]), tmp_path / "i.parquet", tmp_path)
    row = rows(tmp_path / "i.parquet")[0]
    assert (row["time"], row["time_precision"], row["offset_s"], row["anchor"]) == (at, "day", None, None)
    assert (row["path"], row["locator"]) == ("x/f.json", "entry[0]")


@given(st.permutations(range(12)), st.randoms(use_true_random=False))
def test_order_changes_no_byte(tmp_path_factory: pytest.TempPathFactory, order: list[int], source) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("index")
    write_index(folder_records(RECORDS), folder / "one.parquet", folder)
    shuffled = []
    for number in order:
        items = list(RECORDS[number].items)
        source.shuffle(items)
        cut = source.randrange(len(items))
        shuffled += [PatientRecord(RECORDS[number].subject_id, tuple(part)) for part in (items[cut:], items[: cut + 1])]  # one item twice
    write_index(folder_records(shuffled), folder / "two.parquet", folder)
    assert (folder / "one.parquet").read_bytes() == (folder / "two.parquet").read_bytes()


def test_filters_give_what_a_loop_gives(tmp_path: Path) -> None:
    out = tmp_path / "cohort.parquet"
    write_index(folder_records(RECORDS), out, tmp_path)
    wanted = {item.id for record in RECORDS for item in record.items if item.code.code == "HR" and (item.number or 0) > 100}
    found = rows(out, where=(pc.field("code") == "HR") & (pc.field("numeric_value") > 100), columns=["item_id", "numeric_value"])
    assert {row["item_id"] for row in found} == wanted and wanted and set(found[0]) == {"item_id", "numeric_value"}
    assert rows(out, where=pc.field("subject_id") == "nobody") == []


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    root = tmp_path / "cohort"
    for name, value in (("p2", 88), ("p1", 90), ("p3", 91)):
        (root / name).mkdir(parents=True)
        (root / name / "ward.csv").write_text(f"time_h,heart_rate [/min]\n1,{value}\n2,99\n")
    (root / "p3" / "more.csv").write_text("patient,time_h,heart_rate [/min]\np1,3,77\n")
    (root / "README.md").write_text("about the data")
    return root


def test_folder_by_folder_finds_the_same_items(cohort: Path, tmp_path: Path) -> None:
    (cohort / "p3" / "more.csv").unlink()
    by_folder = list(read_by_folder(cohort))
    assert [one.folder for one in by_folder] == ["p1", "p2", "p3"]
    whole = read_path(cohort).patients
    assert {(one.record.subject_id, item.id) for one in by_folder for item in one.record.items} == {
        (record.subject_id, item.id) for record in whole for item in record.items
    }


def test_a_patient_in_two_folders_is_one(cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cohort / "p3" / "ward.csv").unlink()
    out = tmp_path / "out" / "cohort.parquet"
    assert cli.main(["index", str(cohort), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"2 patients, 5 items, 0 skipped ('salus inspect' says why): {out}\n"
    assert subjects_by_folder(out) == {"p1": ("p1",), "p2": ("p2",), "p3": ("p1",)}
    assert [row["offset_s"] for row in rows(out, where=pc.field("subject_id") == "p1")] == [3600.0, 7200.0, 10800.0]


def test_nothing_to_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.main(["index", str(tmp_path / "empty"), "--out", str(tmp_path / "i.parquet")]) == 1
    assert "nothing there is about a patient" in capsys.readouterr().err and not (tmp_path / "i.parquet").exists()
    assert cli.main(["index", str(tmp_path / "gone")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^Cannot read index 'gone': no such file\. Make it with 'salus index'\.$"):
        list(read_index(tmp_path / "gone"))
    (tmp_path / "cut").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(FormatError, match=r"^Cannot read index 'cut': it is not whole Parquet\."):
        list(read_index(tmp_path / "cut"))
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other")
    with pytest.raises(FormatError, match=r"^Cannot read index 'other': it is no index of format 1\."):
        list(read_index(tmp_path / "other"))


def test_a_reader_that_fails_leaves_the_old_index(tmp_path: Path) -> None:
    out = tmp_path / "cohort.parquet"
    write_index(folder_records(RECORDS[:2]), out, tmp_path)
    before = out.read_bytes()

    def broken() -> Iterator[FolderRecord]:
        yield from folder_records(RECORDS[:1])
        raise InputError("the disk is gone")

    with pytest.raises(InputError, match="the disk is gone"):
        write_index(broken(), out, tmp_path)
    assert out.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["cohort.parquet"]


LARGE = """
import resource, sys
from pathlib import Path
import pyarrow.compute as pc
from salus.record.index import FolderRecord, read_index, write_index
from salus.record.patient import Code, Item, PatientRecord, Source

SOURCE, CODE = Source("/x/y.csv", "0" * 64, "line"), Code("s", "c", "d")

def record(number, size):
    items = (Item(f"{number:06}{place:06}", "notes", CODE, SOURCE, value=f"{number} {place} " * (size // 8)) for place in range(100))
    return FolderRecord("", PatientRecord(f"p{number:04}", tuple(items)))

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def held(place, **asked):
    batches = list(map(lambda batch: (len(batch), batch.nbytes), read_index(place, **asked)))
    return sum(rows for rows, _ in batches), sum(size for _, size in batches)

folder = Path(sys.argv[1])
write_index((record(number, 80) for number in range(20)), folder / "small.parquet", Path("/x"))
held(folder / "small.parquet", where=pc.field("subject_id") == "p0007")
before = peak_mb()
write_index((record(number, 24_000) for number in range(400)), folder / "large.parquet", Path("/x"))
rows, size = held(folder / "large.parquet")
some, _ = held(folder / "large.parquet", where=pc.field("subject_id") == "p0077")
print(rows, some, size, round(peak_mb() - before))
"""


@pytest.mark.slow
def test_a_cohort_larger_than_memory(tmp_path: Path) -> None:
    """Writing and reading more than 700 MB of rows raises the peak of a process's memory by less than half of that."""
    done = subprocess.run([sys.executable, "-c", LARGE, str(tmp_path)], capture_output=True, text=True, timeout=200, check=True)
    count, some, size, growth_mb = map(int, done.stdout.split())
    assert (count, some) == (40_000, 100) and size > 700_000_000 and growth_mb < 350


def test_columns_of_meds_have_their_names() -> None:
    """Names of MEDS 0.4 (`subject_id`, `time`, `code`, `numeric_value`, `text_value`)."""
    assert {"subject_id", "time", "code", "numeric_value", "text_value"} <= set(SCHEMA.names)
    assert SCHEMA.field("time").type == pa.timestamp("us", tz="UTC")
