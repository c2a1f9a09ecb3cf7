"""The manifest of the lung-ultrasound cohort: clips and variables of each patient join, and no label is evidence.

Expected values come from the standard library's CSV reader over the original tables.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from salus.record.cohort import read_manifest
from salus.record.read.csv import READER
from salus.record.read.folder import read_path
from salus.record.read.reader import ReadOptions

MANIFEST = Path(__file__).parents[2] / "recipes" / "manifests" / "lus_video_covid_blues.yaml"


def test_missing_codes_are_no_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("patient_id,crp [mg/L],ph [[pH]]\n1,-99,7.4\n2,5,-99\n3,,-99\n")
    (first, second) = READER.read(tmp_path / "a.csv", ReadOptions(missing=frozenset({-99.0}))).found
    assert [item.value for item in (*first.items, *second.items)] == [7.4, 5.0]


@pytest.mark.data
def test_clips_and_variables_join_and_no_label_is_evidence(salus_data: Path) -> None:
    folder = salus_data / "lus_video_covid_blues"
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    report = read_path(folder, manifest=MANIFEST)
    rule = read_manifest(MANIFEST).tables["clinical_variables.csv"]
    with (folder / "clinical_variables.csv").open(newline="") as stream:
        table = {row["patient_id"]: row for row in csv.DictReader(stream)}
    assert len(report.patients) == 24 and {record.subject_id for record in report.patients} == set(table)
    for record in report.patients:
        clips = [item for item in record.items if item.modality == "lung_ultrasound"]
        names = sorted(path.name for path in (folder / "lus_videos").glob(f"patient_{record.subject_id}_*"))
        assert sorted(Path(item.source.path).name for item in clips) == names and names
        row = table[record.subject_id]
        read = {item.code.display: item.value for item in record.items if item.content is None}
        kept = {name: cell for name, cell in row.items() if name not in rule.never_evidence and name != "patient_id"}
        assert read == {name: float(cell) for name, cell in kept.items() if cell and float(cell) not in (-99.0, -96.0)}
        assert not set(read) & rule.never_evidence and "cov_test" in rule.label
    assert sum(item.category == "video" for record in report.patients for item in record.items) == 89
    with (folder / "severity.csv").open(newline="") as stream:
        scored = {line["video_file"].split("_")[1] for line in csv.DictReader(stream)}
    assert {record.subject_id for record in report.patients} <= scored
    outcome = ("outcome", "los_", "stay_", "clin_diagn", "cov_test", "PCR", "Severity", "discharge")
    assert not [item for record in report.patients for item in record.items if item.code.display.startswith(outcome)]
