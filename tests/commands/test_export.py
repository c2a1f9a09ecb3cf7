"""`salus export`: what it writes is read back, and what it says."""

from __future__ import annotations

import pytest

from salus.cli import main
from salus.cohorts.sample_patient import write_sample_patient
from salus.record.read.folder import read_path

pytest.importorskip("pyarrow")


def test_the_sample_patient_is_exported_and_read_again(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_sample_patient(tmp_path / "in")
    assert main(["export", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    (before,), (after,) = read_path(tmp_path / "in").patients, read_path(tmp_path / "out").patients
    kept = [item for item in before.items if item.content is None]
    assert f"Wrote {len(kept)} events of 1 patients." in printed and "MEDS holds no such content" in printed
    assert len(after.items) == len(kept)
    assert sorted(item.number for item in after.items if item.number is not None) == pytest.approx(
        sorted(item.number for item in kept if item.number is not None)
    )
    assert main(["export", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "it is not empty" in capsys.readouterr().err
