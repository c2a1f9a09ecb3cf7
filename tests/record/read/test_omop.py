"""OMOP CDM tables, written here by the columns of v5.4; expected values are read off the rows."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.errors import InputError
from salus.record.read.folder import read_path
from salus.record.read.omop import READER
from salus.record.read.reader import ReadOptions

CONCEPT = (
    "concept_id\tconcept_name\tdomain_id\tvocabulary_id\tconcept_code\n"
    "3027018\tHeart rate\tMeasurement\tLOINC\t8867-4\n"
    "8541\tper minute\tUnit\tUCUM\t/min\n"
    "320128\tEssential \"hypertension\tCondition\tSNOMED\t59621000\n"
    "4181412\tPresent\tMeas Value\tSNOMED\t52101004\n"
)
TABLES = {
    "person.csv": (
        "person_id,gender_concept_id,year_of_birth,month_of_birth,person_source_value\n1,8532,1956,7,Secretname\n2,8507,1980,1,x\n"
    ),
    "measurement.csv": (
        "measurement_id,person_id,measurement_concept_id,measurement_date,measurement_datetime,operator_concept_id,value_as_number,"
        "value_as_concept_id,unit_concept_id,range_low,range_high,measurement_source_value,unit_source_value\n"
        "1,1,3027018,2020-01-02,2020-01-02 03:04:05,,88,,8541,60,100,HR,bpm\n"
        "2,1,0,2020-01-02,,4171756,5,,,,,troponin,ng/L\n"
        "3,1,999,2020-01-02,,,7,,,,,GLU,furlong\n"
        "4,2,999,2020-01-02,,,,4181412,,,,TEST,\n"
        "5,,999,2020-01-02,,,1,,,,,GLU,\n"
    ),
    "condition_occurrence.csv": (
        "condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_end_date,condition_source_value\n"
        "1,1,320128,2019-05-01,,I10\n"
    ),
    "VISIT_OCCURRENCE.csv": (
        "visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_end_date,visit_source_value\n"
        "1,1,9201,2020-01-01,2020-01-01T10:00:00,2020-01-05,IN\n"
    ),
    "death.csv": "person_id,death_date\n2,2021-03-04\n",
    "note.csv": (
        "note_id,person_id,note_date,note_class_concept_id,note_title,note_text\n"
        '1,1,2020-01-02,0,CT,"FINDINGS: clear.\nIMPRESSION: normal."\n'
    ),
}


def write(folder, tables=TABLES, concept=CONCEPT):
    for name, text in tables.items():
        (folder / name).write_text(text)
    if concept:
        (folder / "CONCEPT.csv").write_text(concept)
    return read_path(folder)


def test_a_folder_of_tables(tmp_path):
    report = write(tmp_path)
    assert [record.subject_id for record in report.patients] == ["1", "2"]
    known = {item.code.display: item for item in report.patients[0].items}
    rate = known["Heart rate"]
    assert (rate.value, rate.unit, rate.modality) == (88.0, "/min", "vitals_labs")
    assert (rate.code.system, rate.code.code) == ("http://loinc.org", "8867-4")
    assert (rate.reference_range.low, rate.reference_range.high, rate.observed_at.precision) == (60.0, 100.0, "second")
    assert (known["troponin"].value, known["troponin"].unit) == ("< 5", "ng/L")
    assert known['Essential "hypertension'].category == "condition"
    visit = next(item for item in report.patients[0].items if item.category == "encounter")
    assert (visit.value, visit.status, report.patients[0].anchors["admission"].hour) == ("inpatient", "finished", 10)
    assert known["findings"].content.load().strip() == "FINDINGS: clear." and "impression" in known
    assert known["sex"].value == "female" and known["birth date"].observed_at.at.year == 1956
    second = {item.code.display: item for item in report.patients[1].items}
    assert second["dead"].observed_at.precision == "day" and second["TEST"].value == "Present"
    assert "Secretname" not in repr(report)
    assert sorted(each.reason.split("×")[1][:46] for each in report.skipped) == [
        " Cannot use unit 'furlong': it is not a UCUM c", " row without a person",
    ]  # fmt: skip


def test_without_a_vocabulary_the_source_speaks(tmp_path):
    report = write(tmp_path, {"measurement.csv": TABLES["measurement.csv"]}, concept="")
    codes = [(item.code.system, item.code.display) for record in report.patients for item in record.items]
    assert codes == [("", "troponin"), ("omop", "TEST")]
    assert any("'bpm'" in each.reason for each in report.skipped)


def test_a_declared_unit_is_taken(tmp_path):
    (tmp_path / "measurement.csv").write_text(TABLES["measurement.csv"])
    result = READER.read(tmp_path / "measurement.csv", ReadOptions(units={"bpm": "/min", "furlong": "mg/dL"}))
    values = [(item.value, item.unit) for found in result.found for item in found.items]
    assert values == [(88.0, "/min"), ("< 5", "ng/L"), (7.0, "mg/dL"), (None, None)]


def test_parquet_gives_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet, reader = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow.csv")
    (tmp_path / "measurement.csv").write_text(TABLES["measurement.csv"])
    table = reader.read_csv(tmp_path / "measurement.csv")
    assert isinstance(table, pyarrow.Table)
    (tmp_path / "p").mkdir()
    parquet.write_table(table, tmp_path / "p/measurement.parquet")
    head = (tmp_path / "p/measurement.parquet").read_bytes()[:4096]
    assert READER.recognises(tmp_path / "p/measurement.parquet", head)
    units = ReadOptions(units={"bpm": "/min", "furlong": "mg/dL"})
    both = [READER.read(path, units) for path in (tmp_path / "measurement.csv", tmp_path / "p/measurement.parquet")]
    first, second = ([(i.code, i.value, i.unit, i.observed_at) for found in each.found for i in found.items] for each in both)
    assert first == second


def test_other_tables_are_not_omop(tmp_path):
    for name, text in {"measurement.csv": "time_h,bp [mm[Hg]]\n1,2\n", "vitals.csv": TABLES["measurement.csv"]}.items():
        (tmp_path / name).write_text(text)
        assert not READER.recognises(tmp_path / name, text.encode())


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 700), st.integers(0, 40))
def test_whatever_the_bytes_only_typed_errors(tmp_path_factory, noise, at, cut):
    path = tmp_path_factory.mktemp("noise") / "measurement.csv"
    raw = TABLES["measurement.csv"].encode()
    path.write_bytes(raw[:at] + noise + raw[at + cut :])
    with contextlib.suppress(InputError):
        READER.read(path, ReadOptions())
