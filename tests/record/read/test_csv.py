"""Reader of CSV time series. Expected values are read off the written tables by hand."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from salus.errors import FormatError, InputError, UnitError
from salus.record.patient import Instant, Offset, Signal
from salus.record.read import csv
from salus.record.read.reader import FileRead, ReadOptions


def _read(folder: Path, text: str | bytes, options: ReadOptions | None = None) -> FileRead:
    path = folder / "a.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return csv.read(path, options or ReadOptions())


def _values(read: FileRead) -> list[tuple[str, object, str | None]]:
    return [(item.code.code, item.value, item.unit) for found in read.found for item in found.items]


def test_wide_form_with_units_in_the_header(tmp_path: Path) -> None:
    read = _read(tmp_path, "time_h,Heart Rate [/min],bp (mm[Hg])\n0,80,120\n1.5,,118\n2,NaN,\n")
    assert _values(read) == [("heart_rate", 80.0, "/min"), ("bp", 120.0, "mm[Hg]"), ("bp", 118.0, "mm[Hg]")]
    assert read.skipped == ()
    (found,) = read.found
    assert found.subject_id is None
    assert found.items[2].observed_at == Offset(5400.0, "admission", "second")
    assert found.items[2].source.locator == "line 3, column 'bp'"


def test_long_form(tmp_path: Path) -> None:
    read = _read(tmp_path, "subject_id,timestamp,code,value,unit\np1,2026-03-01T10:30Z,8867-4,88,/min\np2,2026-03-01,lactate,1.2,mmol/L\n")
    assert [found.subject_id for found in read.found] == ["p1", "p2"]
    first, second = read.found[0].items[0], read.found[1].items[0]
    assert (first.code.system, first.code.code, first.value) == ("http://loinc.org", "8867-4", 88.0)
    assert first.observed_at == Instant(datetime(2026, 3, 1, 10, 30, tzinfo=UTC), "minute", True)
    assert second.observed_at == Instant(datetime(2026, 3, 1, tzinfo=UTC), "day", False)


@pytest.mark.parametrize(
    ("header", "cell", "seconds"),
    [
        ("time_s", "90", 90),
        ("minutes", "2", 120),
        ("time_d", "1", 86400),
        ("time [h]", "1", 3600),
        ("time", "01:30", 5400),
        ("time", "00:00:30", 30),
    ],
)
def test_relative_times(tmp_path: Path, header: str, cell: str, seconds: float) -> None:
    read = _read(tmp_path, f"{header};hr [/min]\n{cell};80\n", ReadOptions(anchor="surgery"))
    assert read.found[0].items[0].observed_at == Offset(float(seconds), "surgery", "second")


def test_a_column_without_unit_and_a_text_column_are_skipped_with_what_to_do(tmp_path: Path) -> None:
    read = _read(tmp_path, "time_h,hr,comment,spo2 [%]\n0,80,fine,97\n1,81,fine,low\n")
    assert _values(read) == [("spo2", 97.0, "%")]
    assert [each.reason for each in read.skipped] == [
        "numbers without a unit in column 'hr': name it 'hr [unit]' in UCUM, or declare units.hr",
        "text, not read, in column 'comment'",
        "column 'spo2': 1 cells are not numbers (first on line 3)",
    ]


def test_declared_units_and_documentation_columns(tmp_path: Path) -> None:
    options = ReadOptions(units={"hr": "/min"}, documentation_columns=frozenset({"died"}))
    read = _read(tmp_path, "time_h,hr,died [1]\n0,80,1\n", options)
    assert _values(read) == [("hr", 80.0, "/min")]
    assert [each.reason for each in read.skipped] == ["column 'died' is declared label, split or documentation: not evidence"]


def test_an_unknown_unit_is_refused_by_column_and_the_rest_read(tmp_path: Path) -> None:
    read = _read(tmp_path, "time_h,bp [mmHg],hr [/min]\n0,120,80\n")
    assert _values(read) == [("hr", 80.0, "/min")]
    assert [each.reason for each in read.skipped] == [
        "Cannot use unit 'mmHg' of column 'bp' in 'a.csv': it is not a UCUM code. Write 'mm[Hg]' if that is meant."
    ]


def test_long_form_units(tmp_path: Path) -> None:
    read = _read(tmp_path, "time_h,variable,value,unit\n0,hr,80,bpm\n0,spo2,97,%\n0,gcs,15,\n")
    assert _values(read) == [("spo2", 97.0, "%")]
    assert [each.reason for each in read.skipped] == [
        "variable 'gcs' has numbers without a unit: add a unit column, or declare units.gcs",
        "Cannot use unit 'bpm' of variable 'hr' in 'a.csv': it is not a UCUM code. Write '/min' if that is meant.",
    ]


def test_a_waveform_becomes_one_signal(tmp_path: Path) -> None:
    wave = np.sin(np.arange(500) * 0.1)
    text = "time_s,II [uV],V1 [uV]\n" + "".join(f"{i * 0.004:.3f},{w * 1000:.4f},{'' if i == 7 else 2}\n" for i, w in enumerate(wave))
    read = _read(tmp_path, text)
    items = read.found[0].items
    assert sum(item.content is not None for item in items) == len(items) >= 1
    signals = [item.content.load() for item in items if item.content]
    leads = {
        lead: (s, row, unit) for s in signals if isinstance(s, Signal) for lead, row, unit in zip(s.leads, s.samples, s.units, strict=True)
    }
    signal, row, unit = leads["II"]
    assert unit == "mV"
    assert signal.sampling_rate_hz == pytest.approx(250.0)
    np.testing.assert_allclose(row, wave, atol=1e-6)
    assert np.isnan(leads["V1"][1][7])


def test_calendar_times_keep_their_precision(tmp_path: Path) -> None:
    read = _read(tmp_path, "date,hr [/min]\n2017,80\n2017-05,81\nJanuary 25,82\n")
    times = [item.observed_at for item in read.found[0].items]
    assert times == [
        Instant(datetime(2017, 1, 1, tzinfo=UTC), "year", False),
        Instant(datetime(2017, 5, 1, tzinfo=UTC), "month", False),
    ]
    assert [each.reason for each in read.skipped] == ["row not read: line 4: the time cannot be read"]


def test_slow_or_uneven_rows_stay_values(tmp_path: Path) -> None:
    slow = _read(tmp_path, "time_s,hr [/min]\n" + "".join(f"{i * 60},80\n" for i in range(300)))
    assert len(slow.found[0].items) == 300
    uneven = _read(tmp_path, "time_s,hr [/min]\n" + "".join(f"{i * 0.5 + (0.3 if i % 7 == 0 else 0)},80\n" for i in range(300)))
    assert len(uneven.found[0].items) == 300


def test_rows_without_a_time_are_skipped_by_line(tmp_path: Path) -> None:
    read = _read(tmp_path, "time_h,hr [/min]\nsoon,80\n1,81\n")
    assert _values(read) == [("hr", 81.0, "/min")]
    assert [each.reason for each in read.skipped] == ["row not read: line 2: the time cannot be read"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Cannot read 'a.csv': the file is empty (0 bytes). Export or copy it again."),
        (
            "name,split\na,train\n",
            "Cannot read 'a.csv' as a CSV time series: it has no time column. Name one time_s, time_h or timestamp, "
            "or declare in a manifest that this table is not evidence.",
        ),
        (
            "0.5,1e-03,nan\n0.1,0.2,0.3\n",
            "Cannot read 'a.csv' as a CSV time series: line 1 holds no column names. Add a header such as 'time_h,heart_rate [/min]'.",
        ),
        (
            "time,hr [/min]\n3,80\n",
            "Cannot read 'a.csv': column 'time' holds numbers without a unit. Name it time_s, time_min or time_h.",
        ),
        (b"time_h,temp [Cel],\xb0C\n1,2,3\n", "Cannot read 'a.csv' as CSV: it is not UTF-8 (byte 18). Save it as UTF-8."),
        (
            "time_h,a [1]\n" + "1" * (1 << 21),
            "Cannot read 'a.csv' as CSV: a line is longer than 1,048,576 characters. Check that it is a table.",
        ),
    ],
)
def test_what_is_no_time_series_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        _read(tmp_path, text)
    assert str(caught.value) == message


def test_a_time_column_in_another_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnitError) as caught:
        _read(tmp_path, "time [kg],hr [/min]\n3,80\n")
    assert str(caught.value) == "Cannot read 'a.csv': its time column is in 'kg', not a UCUM unit of time. Use s, min, h or d."


def test_too_many_values_are_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv, "MOST_VALUES", 10_000)
    path = tmp_path / "a.csv"
    with path.open("w") as stream:
        stream.write("time_s,a [mV]\n" + "".join(f"{i},1\n" for i in range(10_100)))
        stream.truncate(3 << 30)  # the rest of the 3 GiB must never be read
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        csv.read(path, ReadOptions())
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert str(caught.value) == (
        "Cannot read 'a.csv': it holds more than 10,000 values. Split it by patient or by day, or convert waveforms to WFDB."
    )


def test_recognised_by_name_or_by_header(tmp_path: Path) -> None:
    assert csv.recognises(Path("a.csv"), b"x,y\n")
    assert csv.recognises(Path("a.txt"), b"time_h,hr [/min]\n")
    assert not csv.recognises(Path("a.txt"), b"Dear colleague, the time was short\n")
    assert not csv.recognises(Path("a.csv"), b"PK\0\0")


def test_a_table_of_patients_without_times(tmp_path: Path) -> None:
    read = _read(tmp_path, "patient_id,weight [kg]\n7,60\n8,\n")
    assert [(found.subject_id, found.items[0].value, found.items[0].observed_at) for found in read.found] == [("7", 60.0, None)]
