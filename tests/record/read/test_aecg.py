"""HL7 aECG: documents written here by the implementation guide; expected numbers are origin + digits × scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salus.errors import InputError
from salus.record.patient import Instant, Item, Signal
from salus.record.read.aecg import READER
from salus.record.read.folder import read_path
from salus.record.read.reader import ReadOptions

LEADS = {"MDC_ECG_LEAD_I": "1 2 3 4 5", "MDC_ECG_LEAD_AVR": "-1 -2 -3 -4 -5"}


def sequence(code: str, digits: str, *, unit: str = "uV", scale: str = "2.5", origin: str = "10") -> str:
    limits = f'<origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>'
    values = f'<value xsi:type="SLIST_PQ">{limits}<digits>{digits}</digits></value>'
    return f'<component><sequence><code code="{code}" codeSystem="2.16.840.1.113883.6.24"/>{values}</sequence></component>'


def document(sequences: str, *, head: str = "20021122091000.250-0500", increment: str = '0.002" unit="s', kind: str = "RHYTHM") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<effectiveTime><center value="20021122091000"/></effectiveTime>
<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject><id root="1.2" extension="SBJ-1"/>
<subjectDemographicPerson><name>Clark</name><administrativeGenderCode code="M"/><birthTime value="19530508"/></subjectDemographicPerson>
</trialSubject></subject></subjectAssignment></componentOf></timepointEvent></componentOf>
<controlVariable><relatedObservation><code code="21612-7"/><value xsi:type="PQ" value="46" unit="a"/></relatedObservation></controlVariable>
<component><series><code code="{kind}"/><component><sequenceSet>
<component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS"><head value="{head}"/><increment value="{increment}"/></value>
</sequence></component>{sequences}</sequenceSet></component>
<subjectOf><annotationSet><component><annotation><code code="MDC_ECG_TIME_PD_QT"/><value xsi:type="PQ" value="0.42" unit="s"/></annotation>
</component><component><annotation><code code="MDC_ECG_TIME_PD_PR"/><value xsi:type="PQ" value="148" unit="ms"/></annotation></component>
<component><annotation><code code="MDC_ECG_TIME_PD_PR"/><value xsi:type="PQ" value="150" unit="ms"/></annotation></component>
</annotationSet></subjectOf></series></component></AnnotatedECG>"""


ALL = "".join(sequence(code, digits) for code, digits in LEADS.items())


def items(folder: Path, text: str, options: ReadOptions | None = None) -> tuple[Item, ...]:
    path = folder / "a.xml"
    path.write_text(text, "utf-8")
    assert READER.recognises(path, text.encode()[:4096])
    (found,) = READER.read(path, options or ReadOptions()).found
    assert found.subject_id == "SBJ-1"
    return found.items


def signal_of(item: Item) -> Signal:
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Signal)
    return loaded


def test_samples_are_origin_plus_digits_times_scale(tmp_path: Path) -> None:
    ecg = items(tmp_path, document(ALL))[0]
    signal = signal_of(ecg)
    np.testing.assert_allclose(signal.samples, [[0.0125, 0.015, 0.0175, 0.02, 0.0225], [0.0075, 0.005, 0.0025, 0, -0.0025]], atol=1e-7)
    assert (signal.leads, signal.units) == (("I", "aVR"), ("mV", "mV")) and signal.sampling_rate_hz == pytest.approx(500)
    assert ecg.modality == "ecg" and ecg.content is not None and ecg.content.summary == "2 channels (I, aVR), 500 Hz, 0.01 s, rhythm"
    at = ecg.observed_at
    assert isinstance(at, Instant) and at.at.isoformat() == "2002-11-22T09:10:00.250000-05:00" and at.zone_is_stated


def test_what_it_states_and_whom_it_does_not_name(tmp_path: Path) -> None:
    found = items(tmp_path, document(ALL))
    assert {item.code.display: item.value for item in found[1:]} == {"QT interval": 420.0, "PR interval": 148.0, "age": 46.0, "sex": "male"}
    assert all("Clark" not in repr(item) and "1953" not in repr(item) for item in found)


def test_a_sequence_that_ends_early_is_missing_not_zero(tmp_path: Path) -> None:
    ecg = items(tmp_path, document(ALL + sequence("MDC_ECG_LEAD_V1", "7 8")))[0]
    assert np.isnan(signal_of(ecg).samples[2, 2:]).all()
    assert "lead V1 has fewer samples than the others: the rest is missing" in ecg.remarks


def test_a_representative_beat_says_so(tmp_path: Path) -> None:
    ecg = items(tmp_path, document(ALL, kind="REPRESENTATIVE_BEAT", increment='2" unit="ms'))[0]
    assert "a median beat computed by the recorder, not a stretch of time" in ecg.remarks
    assert signal_of(ecg).sampling_rate_hz == pytest.approx(500)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (document(ALL).replace("<AnnotatedECG", "<!DOCTYPE a [<!ENTITY b 'c'>]><AnnotatedECG"), "declares a document type"),
        (document(ALL)[:-40], "not well-formed"),
        (document(ALL, increment='0" unit="s'), "no time increment"),
        (document(sequence("MDC_ECG_LEAD_I", "1 x 3")), "digits are not all numbers"),
        (document(ALL + ALL), "it holds ECG lead I twice"),
        (document(sequence("MDC_ECG_LEAD_I", "1 2", scale="nan")), "is not a number"),
        (document(sequence("MDC_ECG_LEAD_I", "1 2", unit="furlong")), "not a UCUM unit"),
        (document(ALL, increment='2" unit="mV'), "they measure different things"),
        (document(""), "no lead"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        READER.read(path, ReadOptions())
    assert message in str(caught.value) and "Clark" not in str(caught.value)


def test_a_folder_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(document(ALL), "utf-8")
    report = read_path(tmp_path)
    assert report.skipped == () and report.patients[0].subject_id == "SBJ-1"
