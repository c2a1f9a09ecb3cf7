"""`salus cases` and `salus ask --cases` from end to end, with the tiny model and a made-up patient's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny_cases import TASK, saved
from tests.tiny_model import QUESTION

from salus import cli, registry

TABLE = "time_h,heart_rate [/min],potassium [mmol/L]\n2,90,4.1\n30,118,5.2\n"


@pytest.fixture(scope="module")
def model(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_backbone, tmp_path_factory.mktemp("asked") / "model")


@pytest.fixture
def site(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with one patient's table and an index of 24 cases."""
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda group, name: TASK if (group, name) == ("salus.tasks", "made-up") else load(group, name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "course.csv").write_text(TABLE, encoding="utf-8")
    assert cli.main(["cases", "made-up", "--out", "made.cases", "--model", str(model)]) == 0
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_an_index_is_made_and_shown_beside_the_question(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "cases", "made-up", "--out", "made.cases", "--model", model)
    assert status == 0 and "24 cases of 24 patients, " in out
    words = ("ask", "one", QUESTION, "--options", "yes,no", "--model", model)
    _, today, _ = run(capsys, *words, "--json")
    status, out, err = run(capsys, *words, "--cases", "made.cases", "--shots", 3, "--json")
    answer, plain = json.loads(out), json.loads(today)
    assert (status, err) == (0, "") and sum(one["probability"] for one in answer["options"]) == pytest.approx(1)
    assert [one["probability"] for one in answer["options"]] != [one["probability"] for one in plain["options"]]
    assert answer["limits"][-1].startswith("3 of 3 similar cases of other patients, with their answers, stood before the question")
    assert [one["is_calibrated"] for one in answer["options"]] == [False, False] and "beside 3 solved cases" in answer["abstained"]
    status, out, _ = run(capsys, *words, "--cases", "made.cases", "--shots", 0, "--json")
    none = json.loads(out)
    assert {**none, "seconds": 0} == {**plain, "seconds": 0}


def test_the_report_says_that_cases_were_shown(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "ask", "one", QUESTION, "--options", "yes,no", "--model", model, "--cases", "made.cases")
    line = "4 of 4 similar cases of other patients, with their answers, stood before the question"
    assert status == 0 and line in " ".join(out.split()) and line in (site / "report.html").read_text()
    assert "(uncalibrated)" in out


def test_what_cannot_be_used_is_one_line(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("ask", "one", QUESTION, "--model", model)
    told = {
        ("--cases", "made.cases"): "Cannot use --cases: solved cases are for a question with options. Give --options too, such as yes,no.",
        ("--options", "yes,no", "--cases", "none"): "Cannot read cases 'none': no such file. Make it with 'salus cases'.",
        ("--options", "left,right", "--cases", "made.cases"): (
            "Cannot show cases: none has the options 'left,right'. This index has: yes,no."
        ),
        ("--options", "yes,no", "--cases", "one/course.csv"): (
            "Cannot read cases 'course.csv': it is damaged, or no index of cases. Make it again."
        ),
    }
    for words, line in told.items():
        assert run(capsys, *ask, *words, "--json") == (1, "", f"salus: {line}\n")


def test_without_data_the_task_is_named(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "cases", "icu-death", "--out", "x", "--data", site)
    said = f"Cannot read task 'icu-death': there is no 'icu_physionet2012' in '{site}'. Give --data FOLDER, or set SALUS_DATA."
    assert status == 1 and err == f"salus: {said}\n"


def test_an_index_that_cannot_be_written_is_refused_before_a_patient_is_read(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry.load("salus.commands", "cases"), "load_named_model", lambda *_: pytest.fail("a model was loaded"))
    (site / "icu_physionet2012").mkdir()
    for name, line in {
        "one": "Cannot write cases to 'one': that is a folder. Give --out a file.",
        "one/course.csv/x": "Cannot write into folder 'one/course.csv': File exists. Give --out another place.",
    }.items():
        assert run(capsys, "cases", "icu-death", "--out", name, "--data", site)[::2] == (1, f"salus: {line}\n")
