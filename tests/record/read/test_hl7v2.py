"""HL7 v2 messages, made here by the standard's rules; the real ones are compared with what hl7apy and hl7 parse, independently."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.errors import FormatError, InputError
from salus.record.patient import Instant, PatientRecord
from salus.record.read.hl7v2 import READER
from salus.record.read.hl7v2_message import Delimiters, unescaped
from salus.record.read.reader import HEAD_BYTES, ReadOptions
from salus.record.timeline import cut, parse_instant

HEADER = r"MSH|^~\&|APP|FAC|||20200102030405+0100||{kind}|1|T|{version}||||||{charset}"
PERSON = r"PID|1||77^^^A^MR~88^^^B^SS||Secretname^Ann||19560721|F|||1 Secret St^^Secrettown"
OBR = "OBR|1||5|24331-1^Lipid panel^LN|||202001020300|||||||||||||||202001020400|||F"


def message(*segments: str, kind: str = "ORU^R01", version: str = "2.5.1", charset: str = "") -> str:
    return "\r".join([HEADER.format(kind=kind, version=version, charset=charset), *segments]) + "\r"


def read(folder: Path, text: str | bytes, **declared):
    path = folder / "m.hl7"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert READER.recognises(path, path.read_bytes()[:HEAD_BYTES])
    return READER.read(path, ReadOptions(**declared))


def items(result):
    return [item for found in result.found for item in found.items]


def reasons(result):
    return [each.reason for each in result.skipped]


def observation(folder: Path, obx: str, **declared):
    result = read(folder, message(PERSON, OBR, obx), **declared)
    return [item for item in items(result) if item.source.locator == "message 1, OBX 1"], reasons(result)


def test_person_gives_sex_and_year_and_no_identity(tmp_path):
    result = read(tmp_path, message(PERSON, kind="ADT^A08"))
    (found,) = result.found
    assert found.subject_id == "77"
    sex, born = found.items
    assert (sex.value, sex.category, sex.modality) == ("female", "demographic", "ehr")
    assert born.observed_at == Instant(datetime(1956, 1, 1, tzinfo=UTC), "year", False)
    assert not any(secret in repr(found) for secret in ("Secret", "0721", "'88'"))


def test_a_result_is_not_known_before_it_was_reported(tmp_path):
    result = read(tmp_path, message(PERSON, OBR, "OBX|1|NM|2093-3^Cholesterol^LN||6.2|mmol/L|||||F"))
    lab = next(item for item in items(result) if item.number == 6.2)
    zone = timezone(timedelta(hours=1))
    assert lab.observed_at.at == datetime(2020, 1, 2, 3, tzinfo=zone) and lab.recorded_at.at == datetime(2020, 1, 2, 4, tzinfo=zone)
    record = PatientRecord("77", tuple(items(result)))
    known = [lab in cut(record, parse_instant(f"2020-01-02T{hour}:30+01:00")).record.items for hour in ("03", "04")]
    assert known == [False, True]


def test_number_with_unit_range_flag_and_time_zone_of_the_sender(tmp_path):
    (item,), skipped = observation(tmp_path, "OBX|1|NM|2093-3^Cholesterol^LN||6.2|mmol/L|<5.2|H|||C|||20200102031500")
    assert (item.value, item.unit, item.status, item.modality) == (6.2, "mmol/L", "corrected", "vitals_labs")
    assert (item.code.system, item.code.code, item.code.display) == ("http://loinc.org", "2093-3", "Cholesterol")
    assert (item.reference_range.low, item.reference_range.high) == (None, 5.2)
    assert item.observed_at == Instant(datetime(2020, 1, 2, 3, 15, tzinfo=timezone(timedelta(hours=1))), "second", True)
    assert "flagged high by its source" in item.remarks and skipped == []


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [("3.5-5.1", 3.5, 5.1), ("70 - 99", 70, 99), (">1.5", 1.5, None), ("[ < 4.5]", None, 4.5), ("-2-2", -2, 2), ("≤7", None, 7)],
)
def test_reference_ranges(tmp_path, written, low, high):
    (item,), _ = observation(tmp_path, f"OBX|1|NM|1^x^L||2|g/L|{written}")
    assert (item.reference_range.low, item.reference_range.high) == (low, high)


@pytest.mark.parametrize(
    ("obx", "value", "remark"),
    [
        ("OBX|1|SN|1^x^L||<^5|g/L", "< 5", "the value is a limit, not a measurement"),
        ("OBX|1|SN|1^x^L||^1^:^128|1", "1:128", "the value is a range or ratio, not a measurement"),
        ("OBX|1|SN|1^x^L||=^5|g/L", 5.0, None),
        ("OBX|1|ST|1^x^L||positive \\T\\ rising", "positive & rising", None),
        ("OBX|1|CWE|1^x^L||260373001^Detected^SCT~11^Other^L", "Detected; Other", None),
        ("OBX|1|TS|1^x^L||202001", "2020-01", None),
        ("OBX|1|NM|1^x^L||7", 7.0, "the record states no unit"),
    ],
)
def test_kinds_of_value(tmp_path, obx, value, remark):
    (item,), skipped = observation(tmp_path, obx)
    assert item.value == value and (remark is None or remark in item.remarks) and skipped == []


@pytest.mark.parametrize(
    ("obx", "reason"),
    [
        ("OBX|1|NM|1^x^L||7|mmHg", "Cannot use unit 'mmHg': it is not a UCUM code. Write 'mm[Hg]' if that is meant."),
        ("OBX|1|NM|1^x^L||seven|g/L", "OBX-5 is not a decimal number"),
        ("OBX|1|NM|1^x^L||1~2|g/L", "OBX-5 holds several numbers where one is expected"),
        ("OBX|1|NM|||7|g/L", "OBX-3 is empty"),
        ("OBX|1|NM|1^x^L||7|g/L|||||W", "its status says that it is no result: posted as wrong (OBX-11)"),
        ("OBX|1|NM|1^x^L||7|g/L||||||||2020130", "a time is not written as YYYYMMDDHHMMSS"),
        ("OBX|1|RP|1^x^L||/server/1", "a value of type RP is not read"),
        ("OBX|1|ED|1^x^L||A^IM^JPEG^Base64^AAAA", "a document that is neither plain text nor PDF is not read"),
    ],
)
def test_what_is_not_read_says_why(tmp_path, obx, reason):
    found, skipped = observation(tmp_path, obx)
    assert found == [] and skipped == [f"OBX at message 1, OBX 1: {reason}"]


def test_a_unit_that_is_declared_is_taken(tmp_path):
    (item,), _ = observation(tmp_path, "OBX|1|NM|8480-6^Systolic^LN||120|mmHg", units={"mmHg": "mm[Hg]"})
    assert (item.value, item.unit) == (120.0, "mm[Hg]")
    (item,), _ = observation(tmp_path, "OBX|1|NM|99^x^L||120", units={"99": "mm[Hg]"})
    assert item.unit == "mm[Hg]"


def test_lines_of_text_are_one_report_and_documents_are_decoded(tmp_path):
    body = base64.b64encode(b"Lungs clear.").decode()
    result = read(
        tmp_path,
        message(
            PERSON, OBR, "OBX|1|TX|1^CXR^L||Line one.", r"OBX|2|TX|1^CXR^L||Line\.br\two.", "NTE|1||Well \\R\\ done.",
            f"OBX|3|ED|2^Doc^L||A^TEXT^PLAIN^Base64^{body}",
        ),
    )  # fmt: skip
    texts = [item.content.load() for item in items(result) if item.content]
    assert texts == ["Line one.\nLine\ntwo.", "Well ~ done.", "Lungs clear."]
    note = next(item for item in items(result) if item.category == "note")
    assert note.remarks == ("a comment on: CXR",) and note.source.locator == "message 1, NTE 1"


def test_visit_is_read_once_with_its_end(tmp_path):
    pv1 = "PV1|1|I|" + "|" * 15 + "|V9" + "|" * 25 + "{start}|{end}"
    admit = message(PERSON, pv1.format(start="202001010800", end=""), kind="ADT^A01")
    leave = message(PERSON, pv1.format(start="202001010800", end="202001051200"), kind="ADT^A03")
    result = read(tmp_path, admit + leave)
    (visit,) = [item for item in items(result) if item.category == "encounter"]
    assert (visit.value, visit.status, visit.ended_at.at.day) == ("inpatient", "finished", 5)
    assert result.found[0].anchors["admission"].hour == 8
    cancelled = read(tmp_path, admit + message(PERSON, pv1.format(start="", end=""), kind="ADT^A11"))
    assert not [item for item in items(cancelled) if item.category == "encounter"] and not cancelled.found[0].anchors


def test_allergy_diagnosis_procedure_vaccine_and_medicines(tmp_path):
    result = read(
        tmp_path,
        message(
            PERSON,
            "AL1|1|DA|7980^Penicillin^RXNORM|SV|Rash~Wheeze|20190304",
            "DG1|1||I10^Hypertension^I10C||20190501|W",
            "PR1|1||80146002^Appendectomy^SCT||20180203",
            "RXA|0|1|20200101|20200101|08^Hep B^CVX|999||||||||||||||CP",
            "RXA|0|1|20200102|20200102|11289^Warfarin^RXNORM|5|mg|||||||||||||RE",
            "ORC|NW", "RXE||11289^Warfarin^RXNORM|5||mg",
            "ZZZ|1|secret",
            kind="ADT^A08",
        ),
    )  # fmt: skip
    known = {(item.category, item.code.display): item for item in items(result)}
    allergy = known["allergy", "Penicillin"]
    assert (allergy.value, allergy.remarks, allergy.observed_at.precision) == ("Rash; Wheeze", ("severity is severe",), "day")
    assert known["condition", "Hypertension"].code.system == "http://hl7.org/fhir/sid/icd-10-cm"
    assert known["condition", "Hypertension"].remarks == ("a working diagnosis",)
    assert known["procedure", "Appendectomy"].status == "completed"
    assert known["immunization", "Hep B"].value is None
    assert known["medication", "Warfarin"].value == "5 mg"  # the order comes later; the refused dose is an item too
    refused = [item for item in items(result) if item.status == "not-done"]
    assert [(item.value, item.unit) for item in refused] == [(5.0, "mg")]
    assert reasons(result) == ["1 ZZZ: this segment is not read"]


@pytest.mark.parametrize("kind", ["ORM^O01", "OML^O21"])
def test_an_order_is_no_result(tmp_path, kind):
    result = read(tmp_path, message(PERSON, "ORC|NW", OBR, kind=kind))
    (order,) = [item for item in items(result) if item.source.locator.endswith("OBR 1")]
    assert (order.category, order.status) == ("observation", "active")
    assert "an order: it does not say that it was done" in order.remarks


def alarm(phase: str, at: str) -> str:
    return message(
        PERSON,
        f"OBR|1||A7|196616^MDC_EVT_ALARM^MDC|||{at}",
        "OBX|1|CWE|196616^MDC_EVT_ALARM^MDC|1.0.0.0.1|196650^MDC_EVT_HI^MDC",
        f"OBX|2|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.0.0.0.2|{phase}",
        "OBX|3|ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.0.0.0.3|PH",
        kind="ORU^R40^ORU_R40",
    )


def test_messages_of_one_alarm_are_one_item_with_start_and_end(tmp_path):
    result = read(tmp_path, alarm("start", "20200102030000") + alarm("continue", "20200102030500") + alarm("end", "20200102031000"))
    (item,) = [item for item in items(result) if item.category == "observation"]
    assert (item.code.display, item.status, item.value) == ("MDC_EVT_HI", "finished", "priority high, phase end")
    assert (item.ended_at.at - item.observed_at.at) == timedelta(minutes=10)
    assert item.modality == "ehr"
    (going_on,) = [item for item in items(read(tmp_path, alarm("start", "20200102030000"))) if item.category == "observation"]
    assert going_on.ended_at is None and going_on.status == "in-progress"


def test_framing_and_batches_change_nothing(tmp_path):
    plain = message(PERSON, OBR, "OBX|1|NM|1^x^L||7|g/L")
    framed = b"\x0b" + plain.encode() + b"\x1c\r"
    batch = "FHS|^~\\&|A\rBHS|^~\\&|A\r" + plain + "BTS|1\rFTS|1\r"

    def known(result):
        return [(item.id, item.value) for item in items(result)]

    def values(result):
        return [(item.source.locator, item.value, item.observed_at) for item in items(result)]

    expected = values(read(tmp_path, plain))
    assert values(read(tmp_path, framed)) == values(read(tmp_path, batch)) == expected
    assert values(read(tmp_path, plain.replace("\r", "\r\n"))) == values(read(tmp_path, plain.replace("\r", "\n"))) == expected
    short = read(tmp_path, batch.replace("BTS|1", "BTS|3"))
    assert reasons(short) == ["batch at its trailer: promises 3 messages (BTS-1), and 1 are there"]
    assert known(short)


def test_character_sets(tmp_path):
    text = message(PERSON, OBR, "OBX|1|ST|1^Größe^L||groß", charset="8859/1")
    assert items(read(tmp_path, text.encode("latin-1")))[-1].value == "groß"
    text = message(PERSON, OBR, "OBX|1|ST|1^身高^L||高", charset="GB 18030-2000")
    assert items(read(tmp_path, text.encode("gb18030")))[-1].value == "高"
    unstated = items(read(tmp_path, message(PERSON, OBR, "OBX|1|ST|1^x^L||groß")))[-1]
    assert unstated.value == "groß" and any("read as UTF-8" in remark for remark in unstated.remarks)
    wrong = read(tmp_path, message(PERSON, OBR, "OBX|1|ST|1^x^L||groß").encode("latin-1"))
    assert reasons(wrong) == ["message at message 1: its text is not utf-8 at byte 19 of a segment"]
    unknown = read(tmp_path, message(PERSON, charset="ISO IR87"))
    assert reasons(unknown) == ["message at message 1: its character set (MSH-18) is not one that is read"]


def test_one_number_from_two_issuers_is_not_one_patient(tmp_path):
    other = message("PID|1||77^^^OTHER^MR|||||M", kind="ADT^A08")
    result = read(tmp_path, message(PERSON) + other)
    assert reasons(result) == ["message at message 2: its patient has the number of another message's, from another issuer (PID-3.4)"]
    assert [item.value for item in items(result) if item.code.display == "sex"] == ["female"]


def test_other_delimiters(tmp_path):
    text = "MSH#*~!@#A#F###20200102##ADT*A08#1#T#2.3\rPID#1##9*A##N*M##1956#M\r"
    result = read(tmp_path, text)
    assert result.found[0].subject_id == "9" and items(result)[0].value == "male"


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"), max_codepoint=0x2FFF), max_size=60))
def test_escaping_round_trip(words):
    mark = Delimiters()
    written = words
    for character, name in (("\\", "E"), ("|", "F"), ("^", "S"), ("&", "T"), ("~", "R")):
        written = written.replace(character, f"\0{name}\0")
    assert unescaped(written.replace("\0", "\\"), mark) == words


@settings(max_examples=150)
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 40))
def test_whatever_the_bytes_only_typed_errors(tmp_path_factory, noise, at, cut):
    whole = message(PERSON, OBR, "OBX|1|NM|1^x^L||7|g/L", alarm("end", "2020")).encode()
    path = tmp_path_factory.mktemp("noise") / "m.hl7"
    path.write_bytes(whole[:at] + noise + whole[at + cut :])
    with contextlib.suppress(InputError):
        READER.read(path, ReadOptions())


def test_empty_and_headerless_files(tmp_path):
    (tmp_path / "e.hl7").touch()
    with pytest.raises(FormatError, match="empty"):
        READER.read(tmp_path / "e.hl7", ReadOptions())
    (tmp_path / "b.hl7").write_text("FHS|^~\\&|A\rPID|1\r")
    with pytest.raises(FormatError, match="holds no message"):
        READER.read(tmp_path / "b.hl7", ReadOptions())


@pytest.mark.data
def test_real_messages_agree_with_two_other_libraries(salus_data):
    hl7 = pytest.importorskip("hl7")
    parser = pytest.importorskip("hl7apy.parser")
    paths = sorted((salus_data / "fhir_synthea_covid/hl7v2").glob("*.out"))
    assert len(paths) == 5
    sexes = {"M": "male", "F": "female"}
    numbers = 0
    for path in paths:
        raw = path.read_bytes().decode("ascii").replace("\r\n", "\r").replace("\n", "\r")
        result = READER.read(path, ReadOptions())
        (found,) = result.found
        first = hl7.parse(raw)
        pid = parser.parse_message(raw, find_groups=False).pid
        assert found.subject_id == str(first.segment("PID")[3][0][0]) == pid.pid_3[0].cx_1.value
        known = {item.code.display: item for item in found.items if item.category == "demographic"}
        assert known["sex"].value == sexes[pid.pid_8.value]
        assert known["birth date"].observed_at.at.year == int(str(first.segment("PID")[7])[:4])
        expected = list(first.segments("OBX")) if "OBX" in raw else []
        observed = [item for item in found.items if ", OBX " in item.source.locator]
        assert len(observed) == len(expected)
        for item, obx in zip(observed, expected, strict=True):
            assert (item.code.code, item.code.display) == (str(obx[3][0][0]), str(obx[3][0][1]))
            if str(obx[2]) == "NM":
                numbers += 1
                assert (item.value, item.unit) == (float(str(obx[5])), str(obx[6]))
            else:
                assert item.content.load() == str(obx[5])
        assert sum(item.category == "note" for item in found.items) == raw.count("\rNTE|")
    assert numbers == 4
