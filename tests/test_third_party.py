"""The plug-in path with a real package: `tests/third_party` is installed, and Salus knows one more modality without an edit.

The package goes into a folder of its own, offline, and every command runs in a fresh process that has this folder on its path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "third_party"
TABLE = "time_h,FEV1 post [L],FVC post [mL]\n1,2.41,3900\n30,1.62,3400\n"
RUN = "import sys; from salus.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Site:
    """A folder with the package installed, and a folder with one patient's table."""

    packages: Path
    patient: Path

    def python(self, *arguments: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python with or without the package; wide output, so that a table is not cut."""
        environment = {**os.environ, "COLUMNS": "160", "PYTHONPATH": str(self.packages) if installed else ""}
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=900, check=False
        )

    def salus(self, *arguments: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.python("-c", RUN, *arguments, installed=installed)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return the package, installed as pip installs it, without a network."""
    folder = tmp_path_factory.mktemp("third-party")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    packages = folder / "packages"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet", "--target", str(packages)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    patient = folder / "patient"
    patient.mkdir()
    (patient / "lungs.csv").write_text(TABLE, encoding="utf-8")
    return Site(packages, patient)


def test_entry_points_are_found(site: Site) -> None:
    code = (
        "from salus.registry import names; "
        "print('spirometry' in names('salus.modalities'), 'spirometry-obstruction' in names('salus.tasks'))"
    )
    assert site.python("-c", code).stdout.split() == ["True", "True"]
    assert site.python("-c", code, installed=False).stdout.split() == ["False", "False"]


def test_the_modality_and_task_keep_the_contracts(site: Site) -> None:
    names = "modality_keeps or encoder_keeps or task_keeps or no_key_belongs"
    structure = Path(__file__).with_name("test_structure.py")
    chosen = f"({names}) and (spirometry or no_key)"
    done = site.python("-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", str(structure), "-k", chosen)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_inspect_shows_the_modality(site: Site) -> None:
    done = site.salus("inspect", str(site.patient))
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "spirometry" in line)
    assert "FEV1 after bronchodilator" in row and "1.62 L" in row
    assert "spirometry" not in site.salus("inspect", str(site.patient), installed=False).stdout


def test_inspect_gives_the_items_in_the_declared_unit(site: Site) -> None:
    done = site.salus("inspect", str(site.patient), "--json")
    (patient,) = json.loads(done.stdout)["patients"]
    found = [(item["modality"], item["code"]["code"], item["value"], item["unit"]) for item in patient["items"]]
    assert sorted(found) == [
        ("spirometry", "fev1_post", 1.62, "L"),
        ("spirometry", "fev1_post", 2.41, "L"),
        ("spirometry", "fvc_post", 3.4, "L"),
        ("spirometry", "fvc_post", 3.9, "L"),
    ]


def test_plugins_lists_the_modality_and_the_task(site: Site) -> None:
    listed = site.salus("plugins").stdout
    assert "spirometry" in listed and "spirometry-obstruction" in listed


def test_facts_are_looked_up_in_its_words(site: Site) -> None:
    code = (
        "import sys; from pathlib import Path; from salus.record.read.folder import one_patient, read_path; "
        "from salus.reason.retrieve import look_up; "
        "record = one_patient(read_path(Path(sys.argv[1]))); "
        "found = look_up(record, 'What is the latest post-bronchodilator FVC?', budget=5); print(found.facts[0].text)"
    )
    done = site.python("-c", code, str(site.patient))
    assert done.stdout.strip() == "Latest FVC after bronchodilator: 3.4 L at 30 h after admission.", done.stderr


TRAIN_ENCODER = """
import numpy as np
from pathlib import Path
from salus.metrics import auroc
from salus.model import prepare_modality
from salus.registry import load
from salus.train.encoder_stage import head_probabilities, pretrain, supervise
from salus.train.recipe import EncoderRecipe

modality, task = load("salus.modalities", "spirometry"), load("salus.tasks", "spirometry-obstruction")
encoder = modality.build_encoder(modality.encoder_defaults)

def rows(split):
    examples = task.read(Path("."), split)
    answers = np.array([example.options.index(example.answer) for example in examples])
    return [prepare_modality(encoder, "spirometry", example.record()) for example in examples], answers

silent = lambda words, share: None
recipe = EncoderRecipe(pretext_epochs=3, epochs=30, batch_size=50, lr=0.01)
prepared, answers = rows("train")
pretrain(encoder, prepared, recipe, seed=0, progress=silent)
heads = supervise(encoder, prepared, answers, recipe, seed=0, progress=silent)
prepared, answers = rows("val")
print(auroc(answers.astype(float), head_probabilities(encoder, heads, prepared)[:, 1]))
"""


def test_the_encoder_stage_trains_its_network(site: Site) -> None:
    done = site.python("-c", TRAIN_ENCODER)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.95, "FEV1/FVC, from which the answer follows, is an input"


def test_two_packages_that_claim_one_column_are_refused(site: Site, tmp_path: Path) -> None:
    rival = tmp_path / "rival"
    shutil.copytree(site.packages / "salus_spirometry", rival / "salus_rival")
    modality = rival / "salus_rival" / "modality.py"
    modality.write_text(modality.read_text("utf-8").replace('NAME = "spirometry"', 'NAME = "lungs"'), encoding="utf-8")
    information = rival / "salus_rival-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: salus-rival\nVersion: 0.1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text("[salus.modalities]\nlungs = salus_rival.modality:MODALITY\n", encoding="utf-8")
    done = Site(Path(os.pathsep.join((str(site.packages), str(rival)))), site.patient).salus("inspect", str(site.patient))
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip() == (
        "salus: Cannot assign modalities: both 'lungs' and 'spirometry' claim 'column:fev1_post'. Remove the claim from one plug-in."
    )


RECIPE = """
name: lungs
version: 0.1.0
seed: 0
backbone: {backbone}
encoders:
  spirometry:
    task: spirometry-obstruction
    records_from: [spirometry-obstruction]
    pretext_epochs: 2
    epochs: 20
    batch_size: 50
    lr: 0.01
examples: {{spirometry-obstruction: 64}}
projector: {{steps: 30, lr: 0.01, batch_size: 16, tasks: {{spirometry-obstruction: 1.0}}}}
lora: {{r: 2, alpha: 4}}
language: {{steps: 30, lr: 0.005, batch_size: 16, tasks: {{spirometry-obstruction: 1.0}}}}
"""


def test_it_trains_evaluates_and_answers_through_the_command_line(site: Site, tiny_backbone: Path, tmp_path: Path) -> None:
    recipe, model, result = tmp_path / "recipe.yaml", tmp_path / "model", tmp_path / "result.json"
    recipe.write_text(RECIPE.format(backbone=tiny_backbone), encoding="utf-8")
    trained = site.salus("train", str(recipe), "--data", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(model))
    assert trained.returncode == 0, trained.stderr

    arguments = ("--model", str(model), "--tasks", "spirometry-obstruction", "--split", "test", "--out", str(result))
    evaluated = site.salus("evaluate", *arguments)
    assert evaluated.returncode == 0, evaluated.stderr
    rows = json.loads(result.read_text(encoding="utf-8"))["rows"]
    final = next(row for row in rows if row["role"] == "final" and row["metric"] in {"auroc", "accuracy"} and not row["subgroup"])
    assert final["n"] == 60 and final["low"] <= final["value"] <= final["high"]

    asked = site.salus("ask", str(site.patient), "What is the latest post-bronchodilator FVC?", "--model", str(model), "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["disclosure"]["model"] == "lungs" and "Not for clinical use" in answer["disclosure"]["text"]
