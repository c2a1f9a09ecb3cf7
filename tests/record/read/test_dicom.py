"""DICOM: expected numbers come from pydicom's own decoding, the standard's formulas, or values that the test wrote."""

from __future__ import annotations

import csv
import resource
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    JPEGLSLossless,
)
from tests.record.read.made_dicom import made

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.patient import Clip, Image, Instant, Item, Signal
from salus.record.read.dicom import READER
from salus.record.read.dicom_header import parse_datetime
from salus.record.read.reader import ReadOptions
from salus.record.read.source import file_sha256


def sample(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def read(path: Path, options: ReadOptions | None = None) -> tuple[Item, ...]:
    (found,) = READER.read(path, options or ReadOptions()).found
    return found.items


def image_of(path: Path) -> Image:
    content = read(path)[0].content
    assert content is not None
    loaded = content.load()
    assert isinstance(loaded, Image)
    return loaded


def test_ct_is_in_hounsfield_units_by_slope_and_intercept() -> None:
    path = sample("CT_small.dcm")
    image = image_of(path)
    raw = pydicom.dcmread(path)
    np.testing.assert_allclose(image.pixels, raw.pixel_array * float(raw.RescaleSlope) + float(raw.RescaleIntercept))
    assert (image.unit, image.spacing_mm, image.orientation) == ("[hnsf'U]", (0.661468, 0.661468), "L\\P")


def test_ct_item_has_modality_time_hash_and_demographics_but_no_name() -> None:
    path = sample("CT_small.dcm")
    (found,) = READER.read(path, ReadOptions()).found
    image, age, sex = found.items
    assert found.subject_id == "1CT1"
    assert (image.modality, image.category, image.content.summary if image.content else "") == (
        "ct_mr_slice", "image", "128 × 128, CT slice, HU",
    )  # fmt: skip
    assert image.source.sha256 == file_sha256(path)
    assert image.observed_at is not None
    assert image.observed_at.at.isoformat() == "1997-04-30T11:29:36-05:00" and image.observed_at.zone_is_stated
    assert (age.code.code, age.unit, sex.code.code, sex.value) == ("30525-0", "a", "76689-9", "other")
    assert "CompressedSamples" not in repr(found)  # PatientName of this sample


def test_declared_modality_wins() -> None:
    assert read(sample("CT_small.dcm"), ReadOptions(modality="radiograph"))[0].modality == "radiograph"


def test_signed_16_bit_keeps_negative_values(tmp_path: Path) -> None:
    pixels = np.array([[-32768, -1], [0, 32767]], dtype=np.int16)
    image = image_of(made(tmp_path, pixels, RescaleSlope=1, RescaleIntercept=0))
    assert image.pixels.tolist() == [[-32768.0, -1.0], [0.0, 32767.0]]


def test_monochrome1_is_mirrored_so_that_bright_is_high(tmp_path: Path) -> None:
    path = made(
        tmp_path, np.array([[0, 10], [200, 255]], dtype=np.uint8), PhotometricInterpretation="MONOCHROME1", Modality="DX",
        sop_class=DigitalXRayImageStorageForPresentation, WindowCenter=55, WindowWidth=20,
    )  # fmt: skip
    image = image_of(path)
    assert image.pixels.tolist() == [[255.0, 245.0], [55.0, 0.0]]
    assert image.window == (200.0, 20.0)
    assert read(path)[0].modality == "radiograph"
    assert "MONOCHROME1: mirrored so that bright is high" in read(path)[0].remarks


def test_palette_becomes_rgb_by_its_lookup_table() -> None:
    path = sample("examples_palette.dcm")
    raw = pydicom.dcmread(path)
    table = np.frombuffer(raw.RedPaletteColorLookupTableData, dtype="<u2")
    expected = table[raw.pixel_array.astype(int) - raw.RedPaletteColorLookupTableDescriptor[1]] * (255 / 65535)
    np.testing.assert_allclose(image_of(path).pixels[..., 0], expected, atol=1e-3)
    assert "PALETTE COLOR converted to RGB" in read(path)[0].remarks


def test_frames_without_a_place_are_a_clip() -> None:
    path = sample("SC_rgb_rle_2frame.dcm")
    content = read(path)[0].content
    loaded = content.load() if content else None
    assert isinstance(loaded, Clip)
    np.testing.assert_array_equal(loaded.frames, pydicom.dcmread(path).pixel_array)


OUTCOMES = Path(__file__).with_name("dicom_samples.csv")
"""What each file of the samples gives: each row was compared with what pydicom says of the file, or with why it is broken on purpose."""


def outcome(path: Path) -> str:
    """Return what a file gives, in one line: kind and summary of its contents, or the reason why there is none."""
    try:
        result = READER.read(path, ReadOptions())
    except FormatError as error:
        return f"refused: {error}"
    given = [reason.reason for reason in result.skipped]
    for item in (item for found in result.found for item in found.items if item.content):
        assert item.content is not None
        try:
            item.content.load()
            given.append(f"{item.content.kind}: {item.content.summary}")
        except FormatError as error:
            given.append(f"{item.content.kind}: {item.content.summary}; not shown: {error}")
    return " | ".join(given)


@pytest.mark.data
def test_all_48_samples_are_accounted_for(salus_data: Path) -> None:
    with OUTCOMES.open(encoding="utf-8", newline="") as stream:
        expected = {row["file"]: row["outcome"] for row in csv.DictReader(stream)}
    assert len(expected) == 48
    assert {path.name: outcome(path) for path in sorted((salus_data / "dicom_samples").glob("*.dcm"))} == expected


@pytest.mark.data
def test_every_decoded_sample_has_the_pixels_of_pydicom(salus_data: Path) -> None:
    """Pixels are pydicom's own array of the file: rescaled for grey, as RGB for colour; one frame of several."""
    compared = 0
    for path in sorted((salus_data / "dicom_samples").glob("*.dcm")):
        if not outcome(path).startswith("image: ") or "not shown" in outcome(path):
            continue
        raw = pydicom.dcmread(path, force=True)
        if raw.PhotometricInterpretation == "PALETTE COLOR" or "ModalityLUTSequence" in raw:
            continue
        frames = int(raw.get("NumberOfFrames", 1) or 1)
        stored = raw.pixel_array[frames // 2] if frames > 1 else raw.pixel_array
        if stored.ndim == 3:
            expected = stored * (255.0 / (2**raw.BitsStored - 1))
        else:
            expected = stored * float(raw.get("DoseGridScaling", raw.get("RescaleSlope", 1))) + float(raw.get("RescaleIntercept", 0))
        np.testing.assert_allclose(image_of(path).pixels, expected, rtol=1e-5, atol=1e-3, err_msg=path.name)
        compared += 1
    assert compared == 34  # the frames of four films are compared in test_dicom_clip


def test_big_endian_implicit_and_rle_give_the_same_pixels() -> None:
    pixels = [image_of(sample(name)).pixels for name in ("MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm")]
    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])


def test_deflated_file_is_read() -> None:
    assert image_of(sample("image_dfl.dcm")).pixels.shape == (512, 512)


def test_twelve_lead_ecg_in_millivolts() -> None:
    path = sample("waveform_ecg.dcm")
    rhythm, median, *_ = read(path)
    assert rhythm.modality == "ecg" and rhythm.content is not None and median.content is not None
    signal = rhythm.content.load()
    assert isinstance(signal, Signal)
    expected = pydicom.dcmread(path).waveform_array(0).T / 1000  # pydicom gives the file's microvolts
    np.testing.assert_allclose(signal.samples, expected, rtol=1e-5, atol=1e-7)
    assert signal.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert (set(signal.units), signal.sampling_rate_hz) == ({"mV"}, 1000.0)
    np.testing.assert_allclose(signal.samples[0] + signal.samples[2], signal.samples[1], atol=0.01)  # Einthoven: I + III = II
    assert rhythm.content.summary == "12 leads, 1000 Hz, 10 s, rhythm"
    assert "a median beat computed by the recorder, not a stretch of time" in median.remarks


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        READER.read(path, ReadOptions())
    return str(caught.value)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.touch()
    assert refused(path) == "Cannot read 'a.dcm': the file is empty (0 bytes). Export or copy it again."


def test_non_medical_file_is_not_recognised() -> None:
    assert not READER.recognises(Path("a.dcm"), b"%PDF-1.7 and more than sixteen bytes")
    assert READER.recognises(Path("anything"), sample("CT_small.dcm").read_bytes()[:4096])


@pytest.mark.parametrize("keep", [200, 700, 2000])
def test_truncated_header(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(sample("CT_small.dcm").read_bytes()[:keep])
    message = refused(path)
    assert message.startswith("Cannot read DICOM 'cut.dcm': ")
    assert message.endswith(("Export it again.", "Export or copy it again."))


def test_truncated_pixels() -> None:
    assert refused(sample("MR_truncated.dcm")) == (
        "Cannot read DICOM 'MR_truncated.dcm': the file is truncated (8192 bytes of pixels are promised, 8130 are there). "
        "Export or copy it again."
    )


def test_truncated_compressed_pixels(tmp_path: Path) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(sample("MR_small_RLE.dcm").read_bytes()[:-2000])
    assert refused(path) == (
        "Cannot read DICOM 'cut.dcm': the file is truncated (a compressed frame ends too early). Export or copy it again."
    )


def test_value_that_breaks_its_type() -> None:
    assert refused(sample("badVR.dcm")) == (
        "Cannot read DICOM 'badVR.dcm': element NumberOfFrames does not hold what its type promises. Export it again."
    )


def test_file_that_turns_to_zeros(tmp_path: Path) -> None:
    path = tmp_path / "zeros.dcm"
    path.write_bytes(bytes(128) + b"DICM" + bytes(1 << 20))
    assert refused(path) == "Cannot read DICOM 'zeros.dcm': zeros follow the start of the file. Copy it again."


@pytest.mark.parametrize(
    ("name", "sop_class"), [("rtstruct.dcm", "RT Structure Set Storage"), ("test-SR.dcm", "Comprehensive SR Storage")]
)
def test_without_pixels_is_skipped_by_name_of_its_class(name: str, sop_class: str) -> None:
    result = READER.read(sample(name), ReadOptions())
    assert not result.found
    assert result.skipped[0].reason == f"DICOM without pixels or waveforms ({sop_class}): nothing in it is read yet"


def test_missing_codec_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = pydicom.pixels.get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    result = READER.read(sample("MR_small_jpeg_ls_lossless.dcm"), ReadOptions())
    assert result.skipped[0].reason == (
        "Cannot decode the pixels of DICOM 'MR_small_jpeg_ls_lossless.dcm' (JPEG-LS Lossless Image Compression): "
        "an optional package is not installed. Run: pip install 'salus[images]'"
    )


def test_loading_without_the_codec_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    content = read(sample("MR_small_RLE.dcm"))[0].content
    assert content is not None
    monkeypatch.setattr(pydicom.pixels.get_decoder(pydicom.uid.RLELossless), "_available", {})
    with pytest.raises(MissingExtra, match=r"Run: pip install 'salus\[images\]'"):
        content.load()


def test_errors_never_hold_the_patient(tmp_path: Path) -> None:
    path = made(tmp_path, np.zeros((4, 4), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-8])
    assert "Doe" not in refused(path) and "P-1" not in refused(path)


def test_three_gigabytes_in_bounded_memory(tmp_path: Path) -> None:
    path = made(tmp_path, np.zeros((4, 4), dtype=np.uint16), NumberOfFrames=1)
    with path.open("r+b") as stream:  # a private element after the pixels, 3 GB of it
        stream.seek(0, 2)
        stream.write(bytes.fromhex("fdff0100") + b"OB\0\0" + (3_000_000_000).to_bytes(4, "little"))
        stream.truncate(stream.tell() + 3_000_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read(path)[0].content is not None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year >= 1000))
def test_date_time_round_trip(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    found = parse_datetime(moment.strftime("%Y%m%d%H%M%S"), "+0000")
    assert found is not None and found.at == moment and found.precision == "second" and found.zone_is_stated


@pytest.mark.data
def test_every_sample_is_read_or_skipped_with_a_reason(salus_data: Path) -> None:
    files = sorted((salus_data / "dicom_samples").glob("*.dcm"))
    assert len(files) == 48
    shown = 0
    for path in files:
        assert READER.recognises(path, path.read_bytes()[:4096])
        try:
            result = READER.read(path, ReadOptions())
        except FormatError as error:
            assert path.name in str(error)
            continue
        assert all(part.reason for part in result.skipped) and (result.found or result.skipped)
        for item in (item for found in result.found for item in found.items if item.content):
            assert item.content is not None
            try:
                assert item.content.load() is not None
                shown += 1
            except FormatError as error:  # its pixels are damaged, which the header cannot tell
                assert path.name in str(error)
    assert shown >= 35


@pytest.mark.data
def test_one_mr_series_is_one_patient(salus_data: Path) -> None:
    results = [READER.read(path, ReadOptions()) for path in sorted((salus_data / "dicom_t1_series").rglob("*.dcm"))]
    assert len(results) >= 30
    assert len({found.subject_id for result in results for found in result.found}) == 1
    assert {result.found[0].items[0].modality for result in results} == {"ct_mr_slice"}


def test_lossy_jpeg_of_12_bits_says_what_decodes_it() -> None:
    """No extra of Salus decodes it; advice to install one would be wrong."""
    with pytest.raises(FormatError, match=r"lossy JPEG of 12 bits. Store it losslessly, or run: pip install pylibjpeg-libjpeg"):
        read(sample("JPEG-lossy.dcm"))


def test_a_derived_picture_is_known_from_when_it_was_made() -> None:
    image = next(item for item in read(sample("CT_small.dcm")) if item.content)
    header = pydicom.dcmread(sample("CT_small.dcm"), stop_before_pixels=True)
    for time, kind in ((image.observed_at, "Acquisition"), (image.recorded_at, "Content")):
        assert isinstance(time, Instant) and f"{time.at:%Y%m%d%H%M%S}" == header[f"{kind}Date"].value + header[f"{kind}Time"].value[:6]
