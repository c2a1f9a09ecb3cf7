"""What `salus bench` says before it starts: places that cannot be written to, cohorts that are not there, options of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus import cli

RECIPES = {
    "fusion": "name: x\nseeds: [0]\nstrategies: [concat]\ntasks: {rosmap: {}, icu-death: {}}\n",
    "alignment": "name: x\nseeds: [0]\ntasks: {omics: {}, heart: {}}\n",
    "shots": "name: x\nseed: 0\nshots: [1]\nways: [random]\ndraws: 1\ntasks: {heart-sound: {questions: 2}}\n",
}
KINDS = tuple(RECIPES)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with a recipe of each kind, an empty folder of data, and no other data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SALUS_DATA", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "a-file").touch()
    for kind, text in RECIPES.items():
        (tmp_path / f"{kind}.yaml").write_text(text, encoding="utf-8")


def told(capsys: pytest.CaptureFixture[str], kind: str, *words: str) -> str:
    """Return the one line of what is refused."""
    assert cli.main(["bench", kind, f"{kind}.yaml", *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("kind", KINDS)
def test_places_that_cannot_be_written_to_are_refused_at_once(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    word = "Give --out a file that ends in .json."
    for name in ("data", "x.html"):
        assert told(capsys, kind, "--out", name) == f"salus: Cannot write results to '{name}': that is no name of a JSON file. {word}"
    line = told(capsys, kind, "--out", "a-file/x.json")
    assert line == "salus: Cannot write into folder 'a-file': File exists. Give --out another place."
    line = told(capsys, kind, "--work", "a-file/work")
    assert line == "salus: Cannot write into folder 'a-file/work': Not a directory. Give --work another place."


@pytest.mark.parametrize("kind", KINDS)
def test_a_cohort_that_is_not_there_is_named_before_anything_is_read(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    task, folder = ("heart-sound", "heart_sounds_cinc2016") if kind == "shots" else ("rosmap", "multiomics_rosmap")
    task = "omics" if kind == "alignment" else task
    said = f"salus: Cannot read task {task!r}: there is no '{folder}' in 'data'. Give --data FOLDER, or set SALUS_DATA."
    assert told(capsys, kind, "--data", "data") == said
    assert told(capsys, kind) == "salus: Cannot find the data: no folder is named. Give --data FOLDER, or set SALUS_DATA."


@pytest.mark.parametrize("kind", KINDS)
def test_some_tasks_of_a_recipe_can_be_taken(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    second = {"fusion": "icu-death", "alignment": "heart", "shots": "heart-sound"}[kind]
    assert f"Cannot read task {second!r}" in told(capsys, kind, "--data", "data", "--tasks", second)
    assert "Cannot compare on x: the recipe has " in told(capsys, kind, "--data", "data", "--tasks", f"{second},x")


def test_processes_are_for_fusion(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "fusion", "--jobs", "0") == "salus: Cannot use --jobs 0. Give 1 or more."
    for kind in ("alignment", "shots"):
        line = told(capsys, kind, "--jobs", "2")
        assert line == f"salus: Cannot use --jobs 2. The bench of {kind} runs in one process. Leave --jobs out."
