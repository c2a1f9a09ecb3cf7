"""Reader of Challenge 2012 stays. Expected values are read off the written rows by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.errors import FormatError
from salus.record.patient import Offset
from salus.record.read import icu2012
from salus.record.read.reader import ReadOptions
from salus.units import check

STAY = """Time,Parameter,Value
00:00,RecordID,777001
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,-1
00:07,HR,73
10:37,Creatinine,0.8
47:59,Temp,-17.8
"""


def _write(folder: Path, text: str | bytes, name: str = "777001.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_stay_gives_items_at_offsets_from_admission(tmp_path: Path) -> None:
    path = _write(tmp_path, STAY)
    assert icu2012.recognises(path, path.read_bytes()[:4096])
    read = icu2012.read(path, ReadOptions())
    assert read.skipped == ()
    (found,) = read.found
    assert found.subject_id == "777001"
    rows = [(item.code.code, item.value, item.unit, item.observed_at, item.source.locator) for item in found.items]
    assert rows == [
        ("30525-0", 54.0, "a", Offset(0.0, "admission"), "line 3"),
        ("76689-9", "female", None, Offset(0.0, "admission"), "line 4"),
        ("ICUType", "surgical ICU", None, Offset(0.0, "admission"), "line 6"),
        ("HR", 73.0, "/min", Offset(420.0, "admission"), "line 8"),
        ("Creatinine", 0.8, "mg/dL", Offset(38220.0, "admission"), "line 9"),
        ("Temp", -17.8, "Cel", Offset(172740.0, "admission"), "line 10"),
    ]
    assert {item.category for item in found.items} == {"demographic", "observation"}


def test_the_same_content_gives_the_same_ids(tmp_path: Path) -> None:
    one, two = _write(tmp_path, STAY, "a.txt"), _write(tmp_path, STAY, "b.txt")
    ids = [[item.id for item in icu2012.read(path, ReadOptions()).found[0].items] for path in (one, two)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("00:10,HR", "line 3: 2 fields instead of 3"),
        ("later,HR,80", "line 3: the time is not hh:mm"),
        ("00:10,HR,high", "line 3: the value is not a number"),
        ("00:10,HR,nan", "line 3: the value is not a finite number"),
        ("00:10,Spleen,3", "line 3: parameter 'Spleen' is not one of the challenge's"),
        ("00:10,Jane Doe,3", "line 3: parameter without a plain name is not one of the challenge's"),
        ("00:00,ICUType,9", "line 3: ICUType 9 is not one of the challenge's categories"),
    ],
)
def test_a_bad_row_is_skipped_by_line_and_the_rest_read(tmp_path: Path, row: str, reason: str) -> None:
    read = icu2012.read(_write(tmp_path, f"Time,Parameter,Value\n00:00,RecordID,1\n{row}\n00:20,HR,80\n"), ReadOptions())
    assert [each.reason for each in read.skipped] == [f"row not read: {reason}"]
    assert [item.value for item in read.found[0].items] == [80.0]


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    read = icu2012.read(_write(tmp_path, "Time,Parameter,Value\n" + "00:10,HR,x\n" * 50), ReadOptions())
    assert [each.reason for each in read.skipped[-2:]] == ["rows not read: 30 more bad rows", "a stay without a single value"]
    assert len(read.skipped) == 22


def test_the_outcomes_table_is_never_evidence(tmp_path: Path) -> None:
    path = _write(tmp_path, "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n1,6,1,5,-1,0\n", "Outcomes-a.txt")
    assert icu2012.recognises(path, path.read_bytes())
    read = icu2012.read(path, ReadOptions())
    assert read.found == ()
    assert [each.reason for each in read.skipped] == ["labels/outcomes table, not evidence (declare it in a manifest)"]


def test_other_text_is_not_recognised(tmp_path: Path) -> None:
    assert not icu2012.recognises(tmp_path / "a.txt", b"Dear colleague, time, parameter, value")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        icu2012.read(_write(tmp_path, b"Time,Parameter,Value\n00:00,HR,\xff\xfe\n"), ReadOptions())
    assert str(caught.value) == "Cannot read '777001.txt' as a Challenge 2012 stay: byte 30 is not text. Copy the file again."


def test_a_wrong_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        icu2012.read(_write(tmp_path, "Time,Value\n"), ReadOptions())
    assert str(caught.value) == (
        "Cannot read '777001.txt' as a Challenge 2012 stay: line 1 is not 'Time,Parameter,Value'. "
        "Restore the header, or write a CSV whose columns name their units."
    )


def test_a_file_too_large_for_a_stay_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    with path.open("wb") as stream:
        stream.write(STAY.encode())
        stream.truncate(3 << 30)  # sparse: 3 GiB without using them
    with pytest.raises(FormatError) as caught:
        icu2012.read(path, ReadOptions())
    assert str(caught.value) == (
        "Cannot read 'big.txt' as a Challenge 2012 stay: it has 3072 MiB, a stay has at most 64. Split it into one file per stay."
    )


def test_every_unit_is_ucum() -> None:
    for _, unit, _ in icu2012.PARAMETERS.values():
        assert check(unit) == unit


@pytest.mark.data
def test_real_stays_are_read_without_a_bad_row(salus_data: Path) -> None:
    for path in sorted((salus_data / "icu_physionet2012" / "set-a").glob("*.txt"))[:40]:
        read = icu2012.read(path, ReadOptions())
        assert read.skipped == ()
        assert read.found[0].subject_id == path.stem
        # Independent count: every row but RecordID and the -1 of descriptors and weight.
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        kept = [
            r for r in rows if r[1] != "RecordID" and not (r[1] in {"Age", "Gender", "Height", "ICUType", "Weight"} and float(r[2]) == -1)
        ]
        assert len(read.found[0].items) == len(kept)
