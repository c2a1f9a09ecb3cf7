"""MEDS in and out: what is written is validated by the schema classes of `meds` itself; datasets to read are made with pyarrow."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from salus.commands.export import summary
from salus.errors import ConfigError, FormatError, InputError, MissingExtra
from salus.record.patient import Code, Content, Instant, Item, Offset, PatientRecord, ReadReport, Source
from salus.record.read import parquet as parquet_module
from salus.record.read.folder import read_path
from salus.record.read.meds import READER, read_splits, shortest, subjects
from salus.record.read.reader import HEAD_BYTES, ReadOptions
from salus.record.write.meds import subject_number, write_meds

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
schema = pytest.importorskip("meds.schema")


def naive(*parts):
    """MEDS's times carry no zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def item(code, place, **known):
    return Item(place, "ehr", code, Source("a", "0" * 64, place), **known)


HEART_RATE = Code("http://loinc.org", "8867-4", "Heart rate")
LOCAL = Code("http://example.org/labs", "a//b", "Local thing")
CONDITION = Code("http://snomed.info/sct", "38341003", "Hypertension")
AT = Instant(datetime(2020, 3, 4, 10, 15, tzinfo=timezone(timedelta(hours=-5))), "minute")


def dataset(folder: Path, rows, codes=None, splits=None, columns=None):
    (folder / "data").mkdir(parents=True)
    (folder / "metadata").mkdir()
    kinds = {name: schema.DataSchema.schema().field(name).type for name in ("subject_id", "time", "code", "numeric_value")}
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema([(name, kinds[name]) for name in columns or kinds]))
    parquet.write_table(schema.DataSchema.align(table) if columns is None else table, folder / "data" / "0.parquet")
    if codes:
        described = [{"code": code, "description": words, "parent_codes": None} for code, words in codes.items()]
        table = pyarrow.Table.from_pylist(described, schema=schema.CodeMetadataSchema.schema())
        parquet.write_table(table, folder / "metadata/codes.parquet")
    if splits:
        listed = [{"subject_id": key, "split": split} for key, split in splits.items()]
        table = pyarrow.Table.from_pylist(listed, schema=schema.SubjectSplitSchema.schema())
        parquet.write_table(table, folder / "metadata/subject_splits.parquet")
    return folder


def row(subject, at, code, value=None):
    return {"subject_id": subject, "time": at, "code": code, "numeric_value": value}


ROWS = [
    row(1, naive(1956, 7, 21), "MEDS_BIRTH"),
    row(1, naive(2020, 1, 2, 3), "LOINC//8867-4", 88),
    row(1, naive(2020, 1, 2, 4), "LAB//50912//mg/dL", 1.36),
    row(1, naive(2020, 1, 2, 5), "ICD10CM//I10"),
    row(2, None, "GENDER//F"),
    row(2, naive(2021, 1, 1), "MEDS_DEATH"),
]


def test_a_dataset_of_others_is_read(tmp_path):
    dataset(tmp_path, ROWS, {"LOINC//8867-4": "Heart rate", "ICD10CM//I10": "Hypertension"}, {1: "tuning", 2: "held_out"})
    report = read_path(tmp_path)
    assert [record.subject_id for record in report.patients] == ["1", "2"] and report.skipped == ()
    born, rate, creatinine, condition = report.patients[0].items
    assert born.observed_at == Instant(datetime(1956, 1, 1, tzinfo=UTC), "year", False) and born.category == "demographic"
    assert (rate.value, rate.code, rate.modality) == (88.0, HEART_RATE, "vitals_labs")
    assert "the record states no unit" in rate.remarks
    assert (creatinine.value, creatinine.unit, creatinine.observed_at.zone_is_stated) == (1.36, "mg/dL", False)
    assert (condition.category, condition.code.display, condition.code.system) == (
        "condition", "Hypertension", "http://hl7.org/fhir/sid/icd-10-cm",
    )  # fmt: skip
    sex, dead = report.patients[1].items
    assert (sex.category, sex.observed_at) == ("demographic", None) and dead.code.display == "dead"
    assert read_splits(tmp_path) == {"1": "val", "2": "test"}


RECORD = PatientRecord(
    "someone",
    (
        item(Code("http://loinc.org", "76689-9", "sex"), "1", category="demographic", value="female"),
        item(HEART_RATE, "2", observed_at=AT, value=88.123456789, unit="/min", status="final"),
        item(LOCAL, "3", observed_at=Offset(5400.0, "admission"), value="positive"),
        item(CONDITION, "4", category="condition", observed_at=AT, ended_at=AT, status="resolved"),
        item(Code("", "words only", "Words only"), "5", observed_at=Instant(datetime(2020, 3, 1, tzinfo=UTC), "month", False)),
    ),
)


def known(record):
    parts = ((i.code, i.value, i.unit, i.category, i.status, i.observed_at, i.ended_at) for i in record.items if i.content is None)
    return sorted(parts, key=repr)


def test_round_trip_and_the_schema_of_meds(tmp_path):
    written = write_meds([RECORD], tmp_path / "out", name="test", splits={"someone": "val"})
    assert (written.subjects, written.events, written.relative["admission"]) == (1, 5, 1)
    table = parquet.read_table(tmp_path / "out/data/0.parquet")
    schema.DataSchema.validate(table)
    schema.CodeMetadataSchema.validate(parquet.read_table(tmp_path / "out/metadata/codes.parquet"))
    schema.SubjectSplitSchema.validate(parquet.read_table(tmp_path / "out/metadata/subject_splits.parquet"))
    schema.DatasetMetadataSchema.validate(json.loads((tmp_path / "out/metadata/dataset.json").read_text()))
    times = [time for time in table["time"].to_pylist() if time]
    assert times == sorted(times) and "someone" not in table.to_string()
    (back,) = subjects(tmp_path / "out")
    assert back.subject_id == str(subject_number("someone"))
    assert known(back) == known(RECORD)
    assert read_splits(tmp_path / "out") == {back.subject_id: "val"}


CALENDAR = st.datetimes(naive(1900, 1, 1), naive(2100, 1, 1))
VALUES = st.none() | st.text(min_size=1, max_size=8) | st.floats(allow_nan=False, allow_infinity=False, width=32)
OFFSETS = st.integers(-(10**6), 10**8).map(lambda seconds: Offset(float(seconds), "admission"))
TIMES = st.none() | CALENDAR.map(lambda at: Instant(at.replace(tzinfo=UTC), "second")) | OFFSETS


@settings(max_examples=25, phases=(Phase.generate, Phase.shrink))
@given(st.lists(st.tuples(TIMES, VALUES, st.sampled_from([HEART_RATE, LOCAL])), max_size=6))
def test_any_record_comes_back(tmp_path_factory, parts):
    items = tuple(item(code, str(n), observed_at=at, value=value) for n, (at, value, code) in enumerate(parts))
    folder = tmp_path_factory.mktemp("meds") / "out"
    write_meds([PatientRecord("7", items)], folder, name="x")
    back = list(subjects(folder))
    assert known(PatientRecord("7", tuple(i for record in back for i in record.items))) == known(PatientRecord("7", items))


def test_content_is_left_out_and_text_only_when_asked_for(tmp_path):
    note = item(Code("http://loinc.org", "34109-9", "note"), "1", category="note", content=Content("text", lambda: "Secret words", "text"))
    picture = item(LOCAL, "2", content=Content("image", lambda: "", "x"))
    record = PatientRecord("9", (note, picture))
    written = write_meds([record], tmp_path / "a", name="x")
    assert written.events == 0 and set(written.left_out) == {"text: left out unless asked for", "image: MEDS holds no such content"}
    assert "2 patients" not in summary(written, ReadReport((), ()))
    write_meds([record], tmp_path / "b", name="x", with_text=True)
    ((back,),) = [each.items for each in subjects(tmp_path / "b")]
    assert back.content.load() == "Secret words" and back.category == "note"
    with pytest.raises(ConfigError, match="it is not empty"):
        write_meds([record], tmp_path / "b", name="x")


def test_a_dataset_streams_by_subject(tmp_path):
    records = (PatientRecord(str(n), (item(HEART_RATE, "1", observed_at=AT, value=float(n)),)) for n in range(50))
    write_meds(records, tmp_path / "out", name="x", shard_rows=20)
    assert len(list((tmp_path / "out/data").glob("*.parquet"))) == 3
    stream = subjects(tmp_path / "out")
    assert next(stream).subject_id == "0" and sum(1 for _ in stream) == 49


def test_rows_that_are_not_together_are_refused(tmp_path):
    dataset(tmp_path, [row(1, None, "a"), row(2, None, "a"), row(1, None, "a")])
    with pytest.raises(FormatError, match="a subject's rows are not together"):
        list(subjects(tmp_path))
    with pytest.raises(InputError, match="no Parquet file under 'data'"):
        list(subjects(tmp_path / "metadata"))


def test_broken_rows_are_counted(tmp_path):
    rows = [row(1, None, "a", float("nan")), row(1, None, "b", 1.0), row(None, None, "c"), row(1, None, "")]
    dataset(tmp_path, rows, columns=list(row(1, 1, 1)))
    result = READER.read(tmp_path / "data/0.parquet", ReadOptions())
    assert [each.reason for each in result.skipped] == ["1 × row whose number is not finite", "2 × row without a subject or a code"]


def test_other_parquet_is_not_meds(tmp_path):
    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "a.parquet")
    assert not READER.recognises(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes()[:HEAD_BYTES])


@settings(max_examples=30)
@given(st.binary(max_size=40), st.integers(4, 3000), st.integers(0, 30))
def test_whatever_the_bytes_only_typed_errors(tmp_path_factory, noise, at, cut):
    folder = dataset(tmp_path_factory.mktemp("noise") / "d", ROWS)
    path = folder / "data/0.parquet"
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + noise + raw[at + cut :])
    with contextlib.suppress(InputError):
        READER.read(path, ReadOptions())


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_shortest_decimal_is_the_same_float32(single):
    assert pyarrow.scalar(shortest(single), pyarrow.float32()).as_py() == single


def test_without_the_extra_the_message_says_how(tmp_path, monkeypatch):
    dataset(tmp_path, ROWS)
    monkeypatch.setattr(parquet_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        READER.read(tmp_path / "data/0.parquet", ReadOptions())
    assert str(caught.value) == "Cannot read Parquet: an optional package is not installed. Run: pip install 'salus[events]'"


@pytest.mark.data
def test_real_bundles_and_icu_stays_come_back(salus_data, tmp_path):
    stays = sorted((salus_data / "icu_physionet2012").rglob("132*.txt"))[:2]
    for number, path in enumerate([salus_data / "fhir_synthea_covid/hl7v2", *stays]):
        report = read_path(path)
        folder = tmp_path / str(number)
        written = write_meds(report.patients, folder, name="x", with_text=True)
        back = {record.subject_id: record for record in subjects(folder)}
        assert written.events == sum(len(record.items) for record in report.patients)
        for record in report.patients:
            mine = back[str(subject_number(record.subject_id))]
            plain = [each for each in mine.items if each.content is None and each.category != "report"]
            assert known(replace(mine, items=tuple(plain))) == known(
                replace(record, items=tuple(each for each in record.items if each.content is None and each.category != "report"))
            )
            assert len(mine.items) == len(record.items)
