"""DICOM: the profile's actions, identifiers that fit together, dates that keep their distance, and text on every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from tests.record.read.made_dicom import made

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.deidentify import dicom, profile
from salus.record.deidentify.key import Key
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.work import Box, Work

KEY = Key(bytes(range(32)))
KNOWN = {"P-1": {Kind.NAME: frozenset({"Doe^Jane"}), Kind.RECORD: frozenset({"P-1"})}}


class Bright:
    """Finds the box of what is brighter than 250: a stand-in for reading, so that the masking is tested by itself."""

    def find(self, picture: np.ndarray) -> tuple[Box, ...]:
        rows, columns = np.nonzero(picture[:, :, 0] > 250)
        return ((int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1),) if len(rows) > 3 else ()


class Blind:
    def find(self, picture: np.ndarray) -> tuple[Box, ...]:
        return ()


def work(finder: type = Blind) -> Work:
    return Work(KEY, "P-1", KNOWN, {"P-1": "P-1"}, finder=finder)


def test_the_profile_is_applied_and_the_rest_stays(tmp_path: Path) -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID, item.PatientName = "1.2.3.4", "1.2.840.10008.5.1.4.1.1.2", "Doe^Jane"
    path = made(
        tmp_path, np.arange(16, dtype=np.uint8).reshape(4, 4), StudyDate="20200301", SeriesDate="20200311", StudyTime="101500", PatientBirthDate="19500101",
        AccessionNumber="A1", InstitutionName="St. Elsewhere", SliceThickness="2.5", ReferencedImageSequence=[item], FrameOfReferenceUID="1.2.3.9",
        StudyInstanceUID="1.2.3.4", KVP="120", FilterType="Doe special",
    )  # fmt: skip
    data = pydicom.dcmread(path)
    data.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "Doe^Jane")
    data.add_new(0x60003000, "OW", b"\0\0")
    data.save_as(path)
    done = dicom.deidentify_dicom(path, tmp_path / "new.dcm", work())
    new = pydicom.dcmread(tmp_path / "new.dcm")
    assert new.PatientID == new.PatientName == work().pseudonym and new.PatientBirthDate == "" and new.AccessionNumber == ""
    assert new.InstitutionName == "REMOVED" and 0x60003000 not in new and not any(element.tag.is_private for element in new.iterall())
    assert new.StudyInstanceUID == new.ReferencedImageSequence[0].ReferencedSOPInstanceUID == KEY.uid("1.2.3.4"), "one identifier for one"
    assert new.ReferencedImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    days = (np.datetime64(f"{new.SeriesDate[:4]}-{new.SeriesDate[4:6]}-{new.SeriesDate[6:]}") - np.datetime64(f"{new.StudyDate[:4]}-{new.StudyDate[4:6]}-{new.StudyDate[6:]}"))
    assert days == np.timedelta64(10, "D") and new.StudyTime == "101500" and new.StudyDate != "20200301"
    assert (new.SliceThickness, new.KVP) == (2.5, 120) and "Doe" not in new.FilterType
    assert (new.PatientIdentityRemoved, new.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
    assert [code.CodeValue for code in new.DeidentificationMethodCodeSequence] == ["113100", "113107", "113101"]
    assert np.array_equal(new.pixel_array, pydicom.dcmread(path).pixel_array)
    assert done.counts["private-tag", "removed"] == 2 and dicom.check_dicom(path, tmp_path / "new.dcm", work()) == ()
    assert b"Doe" not in (tmp_path / "new.dcm").read_bytes()


def test_the_check_catches_a_planted_miss(tmp_path: Path) -> None:
    path = made(tmp_path, np.zeros((4, 4), np.uint8), StudyDate="20200301")
    target = tmp_path / "new.dcm"
    dicom.deidentify_dicom(path, target, work())
    for keyword, value, kind in (("FilterType", "for Jane Doe", "name"), ("StudyDate", "20200301", "date"), ("InstitutionName", "St. Elsewhere", "tag"), ("SOPInstanceUID", str(pydicom.dcmread(path).SOPInstanceUID), "uid")):
        data = pydicom.dcmread(target)
        setattr(data, keyword, value)
        data.save_as(tmp_path / "missed.dcm")
        (reason,) = dicom.check_dicom(path, tmp_path / "missed.dcm", work())
        assert reason.startswith("the residual check still finds") and kind in reason and "Jane" not in reason


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_text_of_any_frame_is_masked_on_all(tmp_path: Path, photometric: str) -> None:
    pixels = np.full((3, 32, 32), 60, np.uint8)
    pixels[1, 4:8, 4:20] = 255
    pixels[:, 20, 20] = 0
    path = made(tmp_path, pixels[0], NumberOfFrames=3, PhotometricInterpretation=photometric)
    data = pydicom.dcmread(path)
    data.PixelData = pixels.tobytes()
    data.save_as(path)
    done = dicom.deidentify_dicom(path, tmp_path / "new.dcm", work(Bright))
    new = pydicom.dcmread(tmp_path / "new.dcm").pixel_array
    assert done.counts["burned-in-text", "masked"] == 1
    assert (new[:, 4:8, 4:20] == (255 if photometric == "MONOCHROME1" else 0)).all()
    assert np.array_equal(new[:, 10:], pixels[:, 10:])


def test_text_that_is_left_fails_the_check(tmp_path: Path) -> None:
    pixels = np.full((32, 32), 60, np.uint8)
    pixels[4:8, 4:20] = 255
    path = made(tmp_path, pixels)
    dicom.deidentify_dicom(path, tmp_path / "new.dcm", work(Blind))
    assert dicom.check_dicom(path, tmp_path / "new.dcm", work(Bright)) == ("the residual check still finds: burned-in-text (1)",)


def test_what_cannot_be_cleaned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    with pytest.raises(InputError):
        dicom.deidentify_dicom(tmp_path / "bad.dcm", tmp_path / "new.dcm", work())
    path = made(tmp_path, np.zeros((4, 4), np.uint8), EncapsulatedDocument=b"%PDF", MIMETypeOfEncapsulatedDocument="application/pdf")
    with pytest.raises(InputError, match="it holds a document"):
        dicom.deidentify_dicom(path, tmp_path / "new.dcm", work())
    truncated = pydicom.dcmread(made(tmp_path, np.zeros((4, 4), np.uint8)))
    truncated.PixelData = b"\0\0"
    truncated.save_as(tmp_path / "short.dcm")
    with pytest.raises(FormatError, match="text in them cannot be excluded"):
        dicom.deidentify_dicom(tmp_path / "short.dcm", tmp_path / "new.dcm", work())


def test_without_the_finder_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra) as caught:
        dicom.deidentify_dicom(made(tmp_path, np.zeros((4, 4), np.uint8)), tmp_path / "new.dcm", Work(KEY, "P-1"))
    assert str(caught.value) == "Cannot find burned-in text: an optional package is not installed. Run: pip install 'salus[deidentify]'"


def test_table_covers_the_standard_s_table() -> None:
    exact, masked = profile._table()
    assert len(exact) > 600 and masked, "PS3.15 table E.1-1 of 2026 has more than 600 attributes"
    # actions of the printed table: Patient's Name Z, Institution Name X/Z/D, Study Instance UID U, Patient's Birth Date Z, Patient Comments X
    examples = {0x00100010: "empty", 0x00080080: "replace", 0x0020000D: "uid", 0x00100030: "empty", 0x00104000: "remove"}
    assert {tag: exact[tag] for tag in examples} == examples


@pytest.mark.data
def test_real_files_lose_every_identifier(salus_data: Path, tmp_path: Path) -> None:
    refused = []
    for path in sorted((salus_data / "dicom_samples").glob("*.dcm")):
        (person,) = dicom.survey_dicom(path)
        own = Work(KEY, person.key, {person.key: person.values}, {person.key: person.key}, finder=Blind)
        try:
            dicom.deidentify_dicom(path, tmp_path / "new.dcm", own)
        except InputError:
            refused.append(path.name)
            continue
        assert dicom.check_dicom(path, tmp_path / "new.dcm", own) == ()
    assert set(refused) == {
        "J2K_pixelrep_mismatch.dcm", "JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "MR_truncated.dcm", "badVR.dcm", "nested_priv_SQ.dcm",
    }, "damaged, of a lossy 12-bit coding, or pixels without a size"  # fmt: skip
