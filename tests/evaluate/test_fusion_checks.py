"""A recipe of the fusion comparison that could not be run to its end is refused before the first fit, in a line that says what to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from salus import cli
from salus.config import read_settings, settings_from
from salus.errors import ConfigError
from salus.evaluate.fusion_checks import refuse_unfit
from salus.evaluate.fusion_fits import FusionRecipe

TREE: dict[str, Any] = {
    "name": "made",
    "seeds": [0],
    "strategies": ["concat", "gated"],
    "tasks": {"rosmap": {"settings": {"hidden": 8}, "rivals": ["random_forest"], "systems": ["haim_boosting"]}},
}
ROSMAP = TREE["tasks"]["rosmap"]


def recipe(**changed: Any) -> FusionRecipe:
    return settings_from(FusionRecipe, {**TREE, **changed}, "made")


def of_task(**changed: Any) -> dict[str, Any]:
    return {"tasks": {"rosmap": {**ROSMAP, **changed}}}


@pytest.fixture(autouse=True)
def no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALUS_MOGONET", raising=False)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": []}, "Cannot use recipe 'made': seeds is empty. Give at least one."),
        ({"seeds": [1, 1]}, "Cannot use recipe 'made': 1 is twice in seeds. Give it once."),
        ({"strategies": []}, "Cannot use recipe 'made': strategies is empty. Give at least one."),
        ({"tasks": {}}, "Cannot use recipe 'made': tasks is empty. Give at least one."),
        ({"tasks": {"x": {}}}, "Cannot compare fusion on 'x': there are "),
        ({"strategies": ["sum"]}, "Cannot load 'sum' from salus.fusers: no plug-in has that name. Installed: "),
        (of_task(rivals=["svm"]), "Cannot use tasks.rosmap: there is no rival 'svm'. Known rivals: gradient_boosting, "),
        (of_task(systems=["svm"]), "Cannot use tasks.rosmap: there is no rival 'svm'. Known rivals: gradient_boosting, "),
        (of_task(rivals=["mogonet"]), "Cannot run the rival mogonet: SALUS_MOGONET names no checkout of it. Run git clone"),
        (
            of_task(settings={"hiden": 8}),
            "Cannot compare 'concat' by tasks.rosmap.settings. Cannot read settings 'fuser': unknown key 'hiden'. Did you mean 'hidden'?",
        ),
        (of_task(settings={"projector_layers": 3}), "Cannot compare 'concat' by tasks.rosmap.settings. Cannot build the projector: "),
        (of_task(settings={"strategy": "late"}), "Cannot use tasks.rosmap.settings: 'strategy' is not chosen there. Leave it out."),
        (of_task(budget={"epochs": 0}), "Cannot use tasks.rosmap.budget: epochs is 0. Give 1 or more."),
        (of_task(budget={"members": 0}), "Cannot use tasks.rosmap.budget: members is 0. Give 1 or more."),
        (of_task(budget={"held_out": 1.0}), "Cannot use tasks.rosmap.budget: held_out is 1. Give 0 to 0.9."),
        (of_task(teacher_weight=2.0), "Cannot use tasks.rosmap: teacher_weight is 2. Give 0 to 1."),
        (of_task(route={"steps": 0}), "Cannot use tasks.rosmap.route: steps is 0. Give 1 or more."),
        ({**of_task(route={}), "route_seeds": []}, "Cannot use recipe 'made': route_seeds is empty. Give at least one."),
    ],
)
def test_what_could_not_be_run_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as found:
        refuse_unfit(recipe(**changed), reads_test=False)
    assert str(found.value).startswith(words)


def test_a_system_without_its_code_is_refused_where_it_would_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems are run beside the finalists alone, hours after the start."""
    wanted = recipe(**of_task(systems=["mogonet"]))
    refuse_unfit(wanted, reads_test=False)
    with pytest.raises(ConfigError, match="Cannot run the rival mogonet"):
        refuse_unfit(wanted, reads_test=True)
    (tmp_path / "train_test.py").touch()
    monkeypatch.setenv("SALUS_MOGONET", str(tmp_path))
    refuse_unfit(wanted, reads_test=True)


def test_the_recipe_that_ships_can_be_run() -> None:
    refuse_unfit(read_settings(FusionRecipe, Path(__file__).parents[2] / "recipes" / "fusion.yaml"), reads_test=False)


def test_the_command_says_it_before_it_reads_a_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("name: x\nseeds: [0]\nstrategies: [concat]\ntasks: {rosmap: {rivals: [svm]}}\n")
    (tmp_path / "multiomics_rosmap").mkdir()
    work = tmp_path / "work"
    assert cli.main(["bench", "fusion", str(file), "--data", str(tmp_path), "--work", str(work), "--out", str(tmp_path / "x.json")]) == 1
    assert "there is no rival 'svm'" in capsys.readouterr().err
