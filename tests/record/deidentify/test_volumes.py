"""NIfTI: written by nibabel with planted text and extensions; what is delivered holds none, and the same voxels in the same place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from salus.record.deidentify import volumes
from salus.record.deidentify.formats import FORMATS
from salus.record.deidentify.gate import deidentify_folder

PLANTED = b"Huber^Anna"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("version", [1, 2])
def test_text_and_extensions_go_and_voxels_stay(tmp_path: Path, name: str, version: int) -> None:
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-10, 20, -30]
    kinds = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image} if name != "a.hdr" else {1: nibabel.Nifti1Pair, 2: nibabel.Nifti2Pair}
    image = kinds[version](voxels, affine)
    image.header["descrip"] = image.header["intent_name"] = PLANTED
    image.header["aux_file"] = b"huber.txt"
    image.header.extensions.append(Nifti1Extension("comment", PLANTED * 3))
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / (name if name != "a.hdr" else "a.img"))
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key")
    (new,) = (tmp_path / "out").rglob("*.nii")
    assert report.is_complete and PLANTED not in new.read_bytes() and b"huber" not in new.read_bytes()
    (told,) = [each for each in report.files if each.status == "delivered"]
    assert dict(told.counts)["header text", "removed"] == 3 and "face" in told.notices[0]
    again = nibabel.load(new)
    assert np.array_equal(np.asarray(again.dataobj), voxels) and np.allclose(again.affine, affine)
    assert list(again.header.extensions) == []


def test_a_planted_miss_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header["descrip"] = PLANTED
    nibabel.save(image, tmp_path / "in" / "a.nii")

    def as_it_is(path: Path, target: Path, _work: object) -> volumes.Done:
        target.write_bytes(path.read_bytes())
        return volumes.Done((target,))

    monkeypatch.setitem(FORMATS, "nifti", replace(FORMATS["nifti"], clean=as_it_is))
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key")
    assert not report.is_complete and "the residual check still finds: header (1)" in report.files[0].reasons[0]
    assert not list((tmp_path / "out").rglob("*.nii"))


def test_a_truncated_volume_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-100])
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key")
    assert "1458 bytes of voxels are promised, 1358 are there" in report.files[0].reasons[0]


def test_text_in_another_encoding_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header["descrip"] = "Müller T1".encode("latin-1")
    nibabel.save(image, tmp_path / "in" / "a.nii")
    assert deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key").is_complete
    assert b"ller" not in next((tmp_path / "out").rglob("*.nii")).read_bytes()
