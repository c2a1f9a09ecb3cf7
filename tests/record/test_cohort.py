"""The cohort manifest: strict, and clear about what is evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.errors import ConfigError
from salus.record import cohort

MANIFEST = """
name: study
licence: CC-BY-4.0
may_train: true
files:
  "wav/*.wav": {subject_pattern: 'wav/(.+)_[0-9]+[.]wav', modality: heart_sound}
  "images/*": {subject_table: metadata.csv, modality: radiograph}
  "*.csv": {units: {hr: /min}, anchor: surgery}
tables:
  metadata.csv: {file: image, subject: patient_id, label: [finding], documentation: [doi]}
  vitals.csv: {label: [died], is_evidence: true}
"""


def _manifest(folder: Path, text: str) -> Path:
    path = folder / cohort.FILE_NAME
    path.write_text(text)
    return path


def test_a_manifest_says_whose_a_file_is_and_what_it_holds(tmp_path: Path) -> None:
    declared = cohort.read_manifest(_manifest(tmp_path, MANIFEST))
    (tmp_path / "metadata.csv").write_text("image,patient_id,finding,doi\nimages/a.png,P1,x,y\nb.png,P2,x,y\n")
    by_file = cohort.subjects_by_file(declared, tmp_path)
    assert declared.may_train and not declared.may_shape_shipped_weights
    assert cohort.subject_of(declared, "wav/k7_2.wav", by_file) == "k7"
    assert cohort.subject_of(declared, "images/a.png", by_file) == "P1"
    assert cohort.subject_of(declared, "images/b.png", by_file) == "P2"
    assert cohort.subject_of(declared, "images/c.png", by_file) is None
    assert cohort.subject_of(declared, "notes/c.txt", by_file) is None
    options = cohort.options_of(declared, "vitals.csv")
    assert (options.units, options.anchor, options.documentation_columns) == ({"hr": "/min"}, "surgery", frozenset({"died"}))
    assert cohort.options_of(declared, "wav/k7_2.wav").modality == "heart_sound"


def test_nothing_may_train_unless_said(tmp_path: Path) -> None:
    declared = cohort.read_manifest(_manifest(tmp_path, ""))
    assert not declared.may_train and not declared.may_shape_shipped_weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("may_trian: true", "Cannot read manifest 'salus-cohort.yaml': unknown key 'may_trian'. Did you mean 'may_train'?"),
        (
            "files: {a: {modalty: ecg}}",
            "Cannot read manifest 'salus-cohort.yaml': unknown key 'modalty'. Did you mean 'modality'?",
        ),
        (
            "zzz: 1",
            "Cannot read manifest 'salus-cohort.yaml': unknown key 'zzz'. Known keys: anchor, clock_offset_s, documentation, "
            "encoding, file, files, ignore, is_evidence, label, licence, may_shape_shipped_weights, may_train, missing, modality, name, "
            "split, subject, "
            "subject_pattern, subject_table, tables, units, zone.",
        ),
        (
            "may_train: perhaps",
            "Cannot read manifest 'salus-cohort.yaml': 'may_train' has the wrong type. See the documented example.",
        ),
        ("- a\n- b", "Cannot read manifest 'salus-cohort.yaml': it is a list. Write keys such as 'files:' and 'tables:'."),
        ("name: [", "Cannot read manifest 'salus-cohort.yaml' at line 1: ParserError. Write it as UTF-8 YAML."),
        (
            "files: {a: {subject_pattern: '('}}",
            "Cannot use manifest 'salus-cohort.yaml': files 'a': subject_pattern is not a regular expression "
            "(missing ), unterminated subpattern). Mend it.",
        ),
        (
            "files: {a: {subject_pattern: 'x'}}",
            "Cannot use manifest 'salus-cohort.yaml': files 'a': subject_pattern has no group. Put the patient's key in parentheses.",
        ),
        (
            "files: {a: {subject_table: t.csv}}",
            "Cannot use manifest 'salus-cohort.yaml': files 'a': subject_table 't.csv' has no 'file' and 'subject' columns under "
            "'tables'. Declare both.",
        ),
        (
            "files: {a: {units: {bp: mmHg}}}",
            "Cannot use manifest 'salus-cohort.yaml': files 'a': Cannot use unit 'mmHg' of 'bp': it is not a UCUM code. "
            "Write 'mm[Hg]' if that is meant.",
        ),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cohort.read_manifest(_manifest(tmp_path, text))
    assert str(caught.value) == message


def test_a_table_that_is_missing_or_lacks_a_column_is_refused(tmp_path: Path) -> None:
    declared = cohort.read_manifest(_manifest(tmp_path, MANIFEST))
    with pytest.raises(ConfigError) as caught:
        cohort.subjects_by_file(declared, tmp_path)
    assert str(caught.value) == ("Cannot read table 'metadata.csv' of the manifest: FileNotFoundError. Check the path and that it is CSV.")
    (tmp_path / "metadata.csv").write_text("picture,patient_id\na,b\n")
    with pytest.raises(ConfigError) as caught:
        cohort.subjects_by_file(declared, tmp_path)
    assert str(caught.value) == (
        "Cannot read table 'metadata.csv' of the manifest: it has no column 'image'. Columns: picture, patient_id."
    )
