"""The command line: exit statuses, one line for what a user can mend, a traceback for what is ours; nothing half-written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from salus import cli, pipeline, registry
from salus.errors import ConfigError, MissingExtra
from salus.model import build_backbone, save_model
from tests.tiny_model import tiny_model

TABLE = "time_h,heart_rate [/min],creatinine [mg/dL]\n1,88,1.1\n20,104,1.9\n40,112,2.4\n"


@pytest.fixture(scope="module")
def model(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_model(tiny_backbone)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(made, folder, replace(made.config, backbone_identity=build_backbone(str(tiny_backbone)).identity), "# card\n")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with one patient's table; answers are short."""
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 60)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "course.csv").write_text(TABLE, encoding="utf-8")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Put a command in the place of all others that only raises."""

    def fail(_: object) -> int:
        raise error

    plug_in = SimpleNamespace(add_arguments=lambda parser: None, run=fail)
    monkeypatch.setattr(registry, "load", lambda group, name: plug_in)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown and words in " ".join(shown.split()) for name, words in cli.HELP.items())
    assert set(cli.HELP) == set(registry.names("salus.commands"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0 and capsys.readouterr().out.startswith("salus ")


@pytest.mark.parametrize(
    ("words", "text"), [([], "required: COMMAND"), (["dance"], "invalid choice: 'dance'"), (["ask"], "required: path")]
)
def test_wrong_usage_is_status_2(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2 and text in capsys.readouterr().err


def test_settings_may_stand_before_and_after_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[list[str]] = []

    def read(_kind: object, _path: Path, overrides: list[str]) -> None:
        given.append(overrides)
        raise ConfigError("enough")

    for name in ("bench", "train"):
        monkeypatch.setattr(registry.load("salus.commands", name), "read_settings", read)
    assert run(capsys, "bench", "fusion", "r.yaml", "seeds=[0]", "--jobs", 2, "tasks.rosmap.budget.epochs=3", "name=a b")[0] == 1
    assert run(capsys, "train", "r.yaml", "--work", "w", "seed=1")[0] == 1
    assert given == [["seeds=[0]", "tasks.rosmap.budget.epochs=3", "name=a b"], ["seed=1"]]
    for words in ("bench fusion r.yaml --jobs 2 seeds", "inspect one --json a=b", "train r --work w -x=1"):
        with pytest.raises(SystemExit) as left:
            cli.main(words.split())
        assert left.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("name", registry.names("salus.commands"))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0 and f"usage: salus {name}" in capsys.readouterr().out


def test_what_the_user_can_mend_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, MissingExtra("fit a teacher", "train"))
    line = "salus: Cannot fit a teacher: an optional package is not installed. Run: pip install 'salus[train]'\n"
    assert run(capsys, "plugins") == (1, "", line)


def test_our_bug_is_shown_in_full(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, ZeroDivisionError("division by zero"))
    status, _, err = run(capsys, "plugins")
    assert status == 70 and "Traceback" in err and err.splitlines()[-1].startswith("salus: this is our bug. Check that the lines above")


def test_stopping_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, KeyboardInterrupt())
    assert run(capsys, "plugins") == (130, "", "salus: stopped\n")


def test_plug_ins_that_collide_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def collide(group: str) -> tuple[str, ...]:
        raise ConfigError("both 'a' and 'b' claim it. Uninstall one.")

    monkeypatch.setattr(registry, "names", collide)
    assert run(capsys, "plugins") == (1, "", "salus: both 'a' and 'b' claim it. Uninstall one.\n")


def test_asking(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "ask", site / "one", "How high did the creatinine get?", "--model", model)
    assert (status, err) == (0, "") and "2.4 mg/dL" in out
    assert "Not for clinical use before your site has approved it" in out
    assert (site / "report.html").exists() and f"Report: {site / 'report.html'}" in out.replace("\n", "")


def test_asking_for_json_writes_no_report(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "ask", site / "one", "How high did the creatinine get?", "Alive?", "--model", model, "--json")
    assert (status, err) == (0, "") and [answer["question"] for answer in json.loads(out)] == ["How high did the creatinine get?", "Alive?"]
    assert not (site / "report.html").exists()


def test_every_answer_says_what_was_not_read(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "one" / "jane-doe.dcm").write_bytes(b"")
    status, out, _ = run(capsys, "ask", site / "one", "How high did the creatinine get?", "--model", model)
    line = "Not read, so not in this answer: 1 whole file; 'salus inspect' says which and why."
    assert status == 0 and line in out and "jane-doe" not in out and line.replace("'", "&#39;") in (site / "report.html").read_text()
    _, out, _ = run(capsys, "ask", site / "one", "Sodium?", "--model", model, "--json")
    assert json.loads(out)["limits"][0] == line


def test_asking_with_options(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = "Will this patient die in hospital?"
    status, out, _ = run(capsys, "ask", site / "one", question, "--options", "yes,no", "--model", model, "--json")
    options = json.loads(out)["options"]
    assert (
        status == 0
        and [one["option"] for one in options] == ["yes", "no"]
        and sum(one["probability"] for one in options) == pytest.approx(1)
    )


def refused(site: Path, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the one line of a question that is refused; nothing may have been written."""
    before = sorted(site.rglob("*"))
    status, _, err = run(capsys, "ask", *words)
    assert status == 1 and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(site.rglob("*")) == before
    return err.removeprefix("salus: ").rstrip("\n")


def test_two_patients_in_one_folder(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (site / "both" / name).mkdir(parents=True)
        (site / "both" / name / "course.csv").write_text(TABLE.replace("88", "9" + str(ord(name) % 10)), encoding="utf-8")
    (site / "both" / "salus-cohort.yaml").write_text('files: {"*/course.csv": {subject_pattern: "([ab])/course.csv"}}\n', encoding="utf-8")
    assert refused(site, capsys, site / "both", "x", "--model", model) == (
        "Cannot choose a patient: 2 are there (p-ca978112, p-3e23e816). Name one with --patient (so, or as 'salus inspect' shows it)."
    )
    assert run(capsys, "ask", site / "both", "How high did the creatinine get?", "--model", model, "--patient", "a")[0] == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--options", "yes"], "Cannot use --options 'yes': give at least two different ones, such as yes,no."),
        (["--options", "yes,yes"], "Cannot use --options 'yes,yes': give at least two different ones, such as yes,no."),
        (
            ["--at", "nonsense"],
            "Cannot use 'nonsense' as the prediction time. Write a date (2019-03-04), a date and time with its zone (2019-03-04T10:00Z), "
            "or a time after admission (24 h, 36:30).",
        ),
    ],
)
def test_wrong_arguments(site: Path, model: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    assert refused(site, capsys, site / "one", "x", "--model", model, *words) == text


def test_a_question_longer_than_the_context(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(site, capsys, site / "one", "How high did the creatinine get?" + " 1" * 5000, "--model", model)
    assert text.startswith("Cannot ask: record, question and answer take ")
    assert text.endswith(" tokens and the language model holds 2048. Shorten the question, or cut the record with --at.")


def test_a_path_that_is_not_there(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refused(site, capsys, site / "nowhere", "x", "--model", model)


def test_a_model_that_is_neither_here_nor_on_the_hub(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refused(site, capsys, site / "one", "x", "--model", "no-one/nothing") == (
        "Cannot load model 'no-one/nothing': it is not a folder here, and the hub gave LocalEntryNotFoundError. "
        "Check the path, or the id and the network."
    )
    assert refused(site, capsys, site / "one", "x", "--model", "a/b/c/d").startswith("Cannot load model 'a/b/c/d': it is not a folder here")


def test_a_report_that_cannot_be_written(site: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(site, capsys, site / "one", "How high did the creatinine get?", "--model", model, "--report", site / "none" / "r.html")
    assert str(site / "none" / "r.html") in text


def test_training_without_data(site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALUS_DATA", raising=False)
    recipe = Path(__file__).parents[1] / "recipes" / "base.yaml"
    status, _, err = run(capsys, "train", recipe)
    assert (status, err) == (1, "salus: Cannot find the data: no folder is named. Give --data FOLDER, or set SALUS_DATA.\n")
    status, _, err = run(capsys, "train", recipe, "--data", "nowhere")
    assert (status, err) == (1, "salus: Cannot find the data: 'nowhere' is not there. Give --data FOLDER, or set SALUS_DATA.\n")
    assert not (site / "runs").exists()
