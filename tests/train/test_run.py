"""A whole training run on made-up patients: every stage, killed at a step and resumed, refused where the recipe is wrong."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_model import QUESTION, patient
from tests.train.tiny_recipe import TASKS, tiny_recipe, with_tiny_tasks

from salus import pipeline, registry
from salus.errors import ConfigError
from salus.model import load_config, load_model
from salus.pipeline import ask, open_record
from salus.task import Example
from salus.train import run
from salus.train.recipe import Recipe
from salus.train.run import Place, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tiny_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", with_tiny_tasks(registry.load))
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 40)


@pytest.fixture(scope="module")
def trained(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work folder of an unbroken run."""
    work = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "load", with_tiny_tasks(registry.load))
        patch.setattr(pipeline, "MOST_TOKENS", 40)
        train(tiny_recipe(tiny_backbone), Place(work, work, work / "model"), progress=lambda words, share: None)
    return work


def losses(work: Path) -> dict[str, float]:
    """Return the last stage's loss on `val`, by task."""
    rows = json.loads((work / "log.json").read_text())
    return next(row["val_loss"] for row in reversed(rows) if row.get("stage") == "language" and "val_loss" in row)


def test_a_recipe_makes_a_model_that_answers(trained: Path) -> None:
    model = load_model(trained / "model")
    assert model.config.statement_calibration is not None and model.config.evaluations["vitals_labs"].n == 12
    answer = ask(open_record(patient(300), model, interpret=frozenset({"vitals_labs"})), QUESTION, ("yes", "no"))
    assert sum(one.probability for one in answer.options) == pytest.approx(1.0)
    calibration = model.config.option_calibrations[0]
    assert (calibration.question, calibration.options, calibration.positive, calibration.n) == (QUESTION, ("yes", "no"), "yes", 12)


def test_the_model_folder_says_how_it_was_made(trained: Path, tiny_backbone: Path) -> None:
    config, _ = load_config(trained / "model")
    assert config.trained["seed"] == 0 and config.trained["energy_kwh"] > 0
    stages = [row["stage"] for row in config.trained["log"] if "seconds" in row]
    assert stages == ["encoder vitals_labs", "encoder notes", "projector", "projector-vitals_labs", "gates", "language", "calibrate"]
    assert {"encoder": "vitals_labs", "never_measured": []} in config.trained["log"], "a misspelt variable would be missing in silence"
    card = (trained / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and f"base_model: {config.backbone_identity}" in card
    assert "| vitals_labs | icu-death | auroc" in card and "| notes | none |" in card
    assert config.backbone_identity.startswith("tiny@") and config.fuser["token_rms"] > 0


def test_the_projector_learns_from_undisturbed_tokens(trained: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training examples are encoded once, so an encoder's dropout must be off: twice the same record gives the same vectors."""
    seen: list[bool] = []
    build = run.build_examples
    monkeypatch.setattr(run, "build_examples", lambda model, *a, **k: (seen.append(model.training), build(model, *a, **k))[1])
    for kept in (*trained.glob("examples-*"), *trained.glob("*.done")):
        kept.unlink()  # make the examples again; the stages go on from their last checkpoint
    again = Place(trained, trained, trained / "model-again")
    train(tiny_recipe(tiny_backbone), again, progress=lambda words, share: None)
    assert seen and not any(seen)


def test_a_finished_run_repeated_gives_the_same_tensors(trained: Path) -> None:
    first, second = (load_file(trained / name / "model.safetensors") for name in ("model", "model-again"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["projector", "language"])
def test_killed_at_a_step_and_resumed_ends_at_the_same_loss(stage: str, trained: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.train.tiny_recipe", str(tiny_backbone), str(tmp_path)]
    step = random.Random(stage).randint(2, 6)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.match(rf"{stage}\W+step {step}/", line):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "model").exists()
    train(tiny_recipe(tiny_backbone), Place(tmp_path, tmp_path, tmp_path / "model"), progress=lambda words, share: None)
    unbroken, resumed = losses(trained), losses(tmp_path)
    assert resumed == pytest.approx(unbroken, rel=0.01)
    load_model(tmp_path / "model")


def test_without_language_tasks_the_model_only_judges_options(tiny_backbone: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_backbone, lora={})
    recipe = replace(recipe, language=replace(recipe.language, steps=0, tasks={}))
    train(recipe, Place(tmp_path, tmp_path, tmp_path / "model"), progress=lambda words, share: None)
    config, _ = load_config(tmp_path / "model")
    assert config.lora is None and config.statement_calibration is None and config.option_calibrations
    load_model(tmp_path / "model")


def test_another_recipe_does_not_go_on(trained: Path, tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError) as found:
        train(tiny_recipe(tiny_backbone, seed=1), Place(trained, trained, trained / "x"), progress=lambda words, share: None)
    assert str(found.value) == (
        f"Cannot resume in '{trained}': it holds a run of another recipe. Give another --work folder, or delete this one."
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lora": {"r": 2}}, "Cannot use lora settings: 'alpha' is missing. Settings: alpha, dropout, r, targets."),
        ({"fuser": {"hiden": 2}}, "Cannot read settings 'fuser': unknown key 'hiden'. Did you mean 'hidden'?"),
        (
            {"encoders": {"notes": {"settings": {"widht": 8}}}},
            "Cannot build the encoder of 'notes': TextEncoder.__init__() got an unexpected keyword argument 'widht'. Mend its settings.",
        ),
        (
            {"own_projectors": {"ecg": {"steps": 2, "lr": 0.003, "tasks": {"icu-death": 1.0}}}},
            "Cannot train a projector for 'ecg': the recipe has no encoder of it. Add one, or leave it out.",
        ),
    ],
)
def test_a_wrong_recipe_stops_before_anything_is_written(change: dict[str, object], text: str, tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        train(
            tiny_recipe(tiny_backbone, **change), Place(tmp_path, tmp_path / "work", tmp_path / "out"), progress=lambda words, share: None
        )
    assert str(found.value) == text and list(tmp_path.iterdir()) == []


def test_names_that_are_no_plug_in_stop_it_too(tiny_backbone: Path, tmp_path: Path) -> None:
    base = tiny_recipe(tiny_backbone)
    wrong: list[Recipe] = [
        replace(base, encoders={"spirit": next(iter(base.encoders.values()))}),
        replace(base, language=replace(base.language, tasks={"spirit": 1.0})),
        replace(base, encoders={"notes": replace(base.encoders["notes"], records_from=("spirit",))}),
    ]
    for recipe in wrong:
        with pytest.raises(
            ConfigError, match=r"Cannot load 'spirit' from salus\.(modalities|tasks): no plug-in has that name\. Installed: "
        ):
            train(recipe, Place(tmp_path, tmp_path / "work", tmp_path / "out"), progress=lambda words, share: None)
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_that_is_not_there(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "icu-death", replace(TASKS["icu-death"], folders=("nowhere",)))
    with pytest.raises(ConfigError) as found:
        train(tiny_recipe(tiny_backbone), Place(tmp_path, tmp_path / "work", tmp_path / "out"), progress=lambda words, share: None)
    assert str(found.value) == (
        f"Cannot read task 'icu-death': there is no 'nowhere' in '{tmp_path}'. Set SALUS_DATA, or leave the task out."
    )


def test_a_record_is_known_by_how_it_is_read() -> None:
    """Two pictures of one patient are two records; two questions about one picture are one."""
    read = [partial(patient, 1), partial(patient, 1), partial(patient, 2), partial(patient, 1, without=({"any": "argument"},))]
    marks = [run._evidence(Example(str(n), "same", one, "?", (), "")) for n, one in enumerate(read)]
    assert marks[0] == marks[1] and len(set(marks)) == 3
    assert run._evidence(Example("4", "p", lambda: patient(1), "?", (), "")) == "p"


def test_a_stage_is_trained_beside_solved_cases(tiny_backbone: Path, tmp_path: Path) -> None:
    """The setting reaches the prompts of `train`, and those of no other split; the model answers with and without cases."""
    recipe = tiny_recipe(tiny_backbone)
    projector = replace(recipe.projector, shots=2)
    recipe = replace(recipe, projector=projector, language=run.LanguageRecipe(0, 0.0, {}), own_projectors={}, lora={})
    train(recipe, Place(tmp_path, tmp_path, tmp_path / "model"), progress=lambda words, share: None)
    kept = {path.name: torch.load(path, weights_only=False) for path in tmp_path.glob("examples-icu-death-*.pt")}
    assert sorted(kept) == ["examples-icu-death-train-16-shots-2.pt", "examples-icu-death-val-16.pt"]
    assert {len(one.shots) for one in kept["examples-icu-death-train-16-shots-2.pt"]} == {0, 1, 2}
    assert not any(one.shots for one in kept["examples-icu-death-val-16.pt"])
    load_model(tmp_path / "model")
