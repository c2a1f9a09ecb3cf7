"""NIfTI: expected voxels, affines and steps are those of nibabel, which also writes the files."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import FormatError, InputError
from salus.record.patient import Item, Volume
from salus.record.read.folder import read_path
from salus.record.read.nifti import READER
from salus.record.read.reader import ReadOptions

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.4, -30.0], [0.1, 0.5, 2.8, 12.0], [0.0, 0.0, 0.0, 1.0]])


def item_of(path: Path) -> Item:
    assert READER.recognises(path, path.read_bytes()[:4096])
    (item,) = READER.read(path, ReadOptions(modality="volume")).found[0].items
    return item


def loaded(path: Path) -> Volume:
    content = item_of(path).content
    assert content is not None
    volume = content.load()
    assert isinstance(volume, Volume)
    return volume


def agree(path: Path) -> Volume:
    """Check a file against nibabel, voxel by voxel."""
    volume, witness = loaded(path), nibabel.load(path)
    expected = np.asarray(witness.dataobj, dtype=np.float64).astype(np.float32)
    expected = expected.reshape((*expected.shape, 1, 1)[:4])
    np.testing.assert_array_equal(volume.voxels.transpose(3, 2, 1, 0), expected)
    np.testing.assert_allclose(volume.affine, witness.affine, atol=1e-9)
    return volume


def picture(shape: tuple[int, ...], dtype: type = np.int16, kind: type = nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    return kind(values, OBLIQUE)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_every_kind_of_file_is_as_nibabel_reads_it(tmp_path: Path, kind: type, is_packed: bool, dtype: type) -> None:
    is_pair = "Pair" in kind.__name__
    path = tmp_path / (("a.hdr" if is_pair else "a.nii") + (".gz" if is_packed else ""))
    nibabel.save(picture((5, 4, 3, 2), dtype, kind), path)
    volume = agree(path)
    assert volume.voxels.shape == (2, 3, 4, 5)
    report = read_path(tmp_path)
    assert report.skipped == () and len(report.patients[0].items) == 1 and len(report.companions) == int(is_pair)


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_slope_and_intercept(tmp_path: Path, order: str) -> None:
    made = picture((3, 4, 5))
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    header.set_slope_inter(0.5, -7.0)
    made = nibabel.Nifti1Image(np.asarray(made.dataobj) * 0.5 - 7.0, OBLIQUE, header)
    nibabel.save(made, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == struct.pack(f"{order}i", 348)
    agree(tmp_path / "a.nii")


def test_sform_comes_before_qform_and_the_difference_is_said(tmp_path: Path) -> None:
    made = picture((3, 4, 5))
    made.set_qform(np.diag([2.0, 2.0, 3.0, 1.0]), code=1)
    made.set_sform(np.diag([2.0, 2.0, 3.0, 1.0]) + np.eye(4, k=3) * 6.0, code=2)
    nibabel.save(made, tmp_path / "both.nii")
    assert agree(tmp_path / "both.nii").affine[0, 3] == 6.0
    assert "place by the sform of the header" in item_of(tmp_path / "both.nii").remarks
    assert "its qform differs by 6 mm at the far corner and was not used" in item_of(tmp_path / "both.nii").remarks
    made.set_sform(None, code=0)
    nibabel.save(made, tmp_path / "q.nii")
    agree(tmp_path / "q.nii")
    assert "place by the qform of the header" in item_of(tmp_path / "q.nii").remarks
    made.set_qform(None, code=0)
    nibabel.save(made, tmp_path / "none.nii")
    agree(tmp_path / "none.nii")
    assert "place in the patient not stated: side and origin are unknown" in item_of(tmp_path / "none.nii").remarks


@pytest.mark.parametrize(("unit", "step", "expected"), [("sec", 2.5, 2.5), ("msec", 2500.0, 2.5), ("usec", 2e6, 2.0), ("hz", 3.0, None)])
def test_step_in_time_is_in_seconds(tmp_path: Path, unit: str, step: float, expected: float | None) -> None:
    made = picture((3, 4, 5, 6))
    made.header.set_xyzt_units("mm", unit)
    made.header.set_zooms((2.0, 2.0, 3.0, step))
    nibabel.save(made, tmp_path / "a.nii")
    assert loaded(tmp_path / "a.nii").time_step_s == expected


def test_metres_become_millimetres(tmp_path: Path) -> None:
    made = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.diag([0.002, 0.002, 0.003, 1.0]))
    made.header.set_xyzt_units("meter", "sec")
    nibabel.save(made, tmp_path / "a.nii")
    np.testing.assert_allclose(np.diag(loaded(tmp_path / "a.nii").affine), [2.0, 2.0, 3.0, 1.0], rtol=1e-6)


def refused(path: Path) -> str:
    with pytest.raises(FormatError) as caught:
        READER.read(path, ReadOptions())
    return str(caught.value)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_file(tmp_path: Path, is_packed: bool, keep: float) -> None:
    path = tmp_path / ("a.nii" + ".gz" * is_packed)
    nibabel.save(picture((30, 20, 10)), path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert refused(path).startswith(f"Cannot read NIfTI '{path.name}': ")


def test_what_is_no_picture_of_single_numbers_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4)), tmp_path / "c.nii")
    assert "its voxels are complex, not single numbers" in refused(tmp_path / "c.nii")
    colour = np.zeros((3, 4, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    assert "its voxels are colours" in refused(tmp_path / "rgb.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 1, 3), np.uint8), np.eye(4)), tmp_path / "v.nii")
    assert "its sizes are 3 × 4 × 5 × 1 × 3. Give a volume" in refused(tmp_path / "v.nii")


def test_analyze_is_refused_because_it_has_no_sides(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.hdr")
    assert READER.recognises(tmp_path / "a.hdr", (tmp_path / "a.hdr").read_bytes())
    assert "Analyze 7.5 does not say which side of the picture is left. Convert it to NIfTI." in refused(tmp_path / "a.hdr")


def test_pair_without_its_image(tmp_path: Path) -> None:
    nibabel.save(picture((3, 4, 5), kind=nibabel.Nifti1Pair), tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    assert "its image 'a.img' is not beside it. Copy both files." in refused(tmp_path / "a.hdr")


def test_a_file_that_unpacks_to_much_more_than_it_promises_costs_no_more(tmp_path: Path) -> None:
    nibabel.save(picture((3, 4, 5)), tmp_path / "a.nii")
    packed = gzip.compress((tmp_path / "a.nii").read_bytes() + bytes(300_000_000), compresslevel=1)
    (tmp_path / "bomb.nii.gz").write_bytes(packed)
    tracemalloc.start()
    assert loaded(tmp_path / "bomb.nii.gz").voxels.shape == (1, 5, 4, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_more_voxels_than_are_read(tmp_path: Path) -> None:
    nibabel.save(picture((3, 4, 5)), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[40:56] = struct.pack("<8h", 3, 20000, 20000, 20000, 1, 1, 1, 1)
    (tmp_path / "a.nii").write_bytes(content)
    assert "20000 × 20000 × 20000 are more than 536870912 voxels. Store a smaller volume." in refused(tmp_path / "a.nii")


@given(st.integers(0, 2**32 - 1))
def test_damaged_headers_raise_typed_errors_only(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("nifti", numbered=True)
    nibabel.save(picture((3, 4, 5, 2)), folder / "a.nii")
    content = bytearray((folder / "a.nii").read_bytes())
    for _ in range(int(rng.integers(1, 20))):
        content[int(rng.integers(0, 352))] = int(rng.integers(0, 256))
    path = folder / "b.nii"
    path.write_bytes(content)
    try:
        for found in READER.read(path, ReadOptions()).found:
            for item in found.items:
                assert item.content is not None and isinstance(item.content.load(), Volume)
    except InputError as error:
        assert "b.nii" in str(error)


@pytest.mark.data
def test_all_samples_are_as_nibabel_reads_them(salus_data: Path) -> None:
    files = sorted((salus_data / "nifti_samples").glob("*.nii*"))
    assert len(files) == 7
    shapes = {path.name: agree(path).voxels.shape for path in files}
    assert shapes["functional.nii"] == (20, 3, 21, 17) and loaded(salus_data / "nifti_samples" / "functional.nii").time_step_s == 2.0
    report = read_path(salus_data / "nifti_samples")
    assert sum(len(record.items) for record in report.patients) == 7
