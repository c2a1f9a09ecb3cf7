"""Matrices of molecules: expected values are those that the test wrote; real identifiers are ROSMAP's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salus.errors import FormatError, InputError, UnitError
from salus.record.patient import Profile
from salus.record.profiles import system_of
from salus.record.read import matrix
from salus.record.read.matrix import READER
from salus.record.read.reader import HEAD_BYTES, FileRead, ReadOptions

PROBES = [f"cg{place:08}" for place in range(12)]


def read(path: Path, text: str, options: ReadOptions | None = None) -> FileRead:
    path.write_text(text)
    assert READER.recognises(path, path.read_bytes()[:HEAD_BYTES])
    return READER.read(path, options or ReadOptions())


def profiles(found: FileRead) -> dict[str | None, Profile]:
    made = {}
    for one in found.found:
        (item,) = one.items
        assert item.content is not None and item.category == "profile"
        profile = item.content.load()
        assert isinstance(profile, Profile)
        made[one.subject_id] = profile
    return made


def by_rows() -> str:
    rows = ["sample,age," + ",".join(PROBES)]
    rows += [f"p{row},{40 + row}," + ",".join(f"{0.01 * (row * 12 + place):.2f}" for place in range(12)) for row in range(3)]
    return "\n".join(rows) + "\n"


def by_columns() -> str:
    rows = ["\tp0\tp1\tp2"]
    rows += [f"{probe}\t" + "\t".join(f"{0.01 * (row * 12 + place):.2f}" for row in range(3)) for place, probe in enumerate(PROBES)]
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("make", [by_rows, by_columns])
def test_patients_in_rows_or_columns_are_the_same(tmp_path: Path, make: object) -> None:
    assert callable(make)
    found = read(tmp_path / "m.csv", make())
    made = profiles(found)
    assert list(made) == ["p0", "p1", "p2"]
    for row, profile in enumerate(made.values()):
        assert profile.features == tuple(PROBES) and profile.system == "illumina-methylation"
        np.testing.assert_allclose(profile.values, 0.01 * (row * 12 + np.arange(12)), atol=1e-6)
    assert {item.modality for one in found.found for item in one.items} == {"dna_methylation"}


def test_other_columns_are_named_by_number(tmp_path: Path) -> None:
    (skipped,) = read(tmp_path / "m.csv", by_rows()).skipped
    assert skipped.reason == "1 columns whose name is no identifier of illumina-methylation: not read as evidence"


def test_missing_values_and_text(tmp_path: Path) -> None:
    found = read(tmp_path / "m.csv", "sample," + ",".join(PROBES) + "\np,NA,,high," + ",".join("0.5" for _ in range(9)) + "\n")
    (profile,) = profiles(found).values()
    assert np.isnan(profile.values[:3]).all() and np.isfinite(profile.values[3:]).all()
    (item,) = found.found[0].items
    assert "1 cells of the file are no numbers: taken as missing" in item.remarks
    assert "the scale of the values is not stated" in item.remarks


def test_declared_unit(tmp_path: Path) -> None:
    made = profiles(read(tmp_path / "m.csv", by_rows(), ReadOptions(units={"*": "%"})))
    assert {profile.unit for profile in made.values()} == {"%"}
    with pytest.raises(UnitError, match="units"):
        READER.read(tmp_path / "m.csv", ReadOptions(units={"*": "beta?!"}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sample," + ",".join(PROBES) + "\n", "it holds no patient"),
        (",".join(PROBES) + "\n" + ",".join("1" * 12) + "\n" + ",".join("2" * 12) + "\n", "does not name each"),
        ("sample," + ",".join([*PROBES, PROBES[0]]) + "\np," + ",".join("1" * 13) + "\n", "one identifier comes twice"),
        ("sample," + ",".join(PROBES) + "\np," + ",".join("1" * 12) + "\np," + ",".join("1" * 12) + "\n", "one patient comes twice"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(FormatError, match=why):
        READER.read(tmp_path / "m.csv", ReadOptions())


def test_too_many_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "MOST_VALUES", 20)
    for make in (by_rows, by_columns):
        (tmp_path / "m.csv").write_text(make())
        with pytest.raises(InputError, match="more than 20 values"):
            READER.read(tmp_path / "m.csv", ReadOptions())


def test_time_series_are_left_to_the_other_reader() -> None:
    assert not READER.recognises(Path("a.csv"), b"time_s,HR [/min],SpO2 [%]\n0,80,97\n")
    leads = ",".join(f"LEAD{place}" for place in range(128))
    assert not READER.recognises(Path("a.csv"), f"time_s,{leads}\n".encode())


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("ENSG00000161896.6", "ensembl"), ("cg00095526", "illumina-methylation"), ("hsa-let-7b", "mirbase"), ("P04637", "uniprot"),
        ("HMDB0000122", "hmdb"), ("C00031", "kegg-compound"), ("CHEBI:17234", "chebi"), ("NM_000546.6", "refseq"), ("HGNC:11998", "hgnc"),
    ],
)  # fmt: skip
def test_naming_systems(name: str, system: str) -> None:
    assert system_of([name] * 12) == system


@pytest.mark.data
def test_rosmap_names_are_recognised(salus_data: Path) -> None:
    for number, system in (("1", "ensembl"), ("2", "illumina-methylation"), ("3", "mirbase")):
        names = (salus_data / "multiomics_rosmap" / f"{number}_featname.csv").read_text().split()
        assert len(names) == 200 and system_of(names) == system
