"""The demo with the model that ships: what a new user sees first. Needs the embedded language model (`make env` installs it)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from salus.commands.loading import base_model_folder
from salus.model import load_config

MOST_BYTES = 20_000_000


def salus(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from salus.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=900, check=False)


def test_the_shipped_weights_are_small_and_their_card_says_what_is_interpreted() -> None:
    folder = base_model_folder()
    config, tensors = load_config(folder)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MOST_BYTES
    assert tensors and config.recipe_hash
    card = (folder / "README.md").read_text(encoding="utf-8")
    for name in config.encoders:
        assert f"| {name} |" in card
    assert "Not for clinical use" in card


@pytest.mark.slow
def test_demo_writes_a_report_whose_statements_stand(tmp_path: Path) -> None:
    done = salus("demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert str(tmp_path / "report.html") in done.stdout.replace("\n", "")
    assert "3.4 mg/dL" in done.stdout, "the highest creatinine of the sample patient"
    assert "heart rate from r peaks: 61.1 /min" in done.stdout.replace("\n", " ").casefold(), "measured from the real ECG"
    assert "No answer" not in done.stdout
    assert "shown and measured by rule, not interpreted" in done.stdout.replace("\n", " ")
    assert "Not for clinical use" in page and "<svg" in page


@pytest.mark.slow
def test_ask_as_json_cites_items_that_are_in_the_record(tmp_path: Path) -> None:
    assert salus("demo", folder=tmp_path).returncode == 0
    sample = tmp_path / ".demo" / "sample_patient"
    asked = salus("ask", str(sample), "What is the latest lactate?", "--at", "24 h", "--json", folder=tmp_path)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    shown = json.loads(salus("inspect", str(sample), "--json", folder=tmp_path).stdout)
    ids = {item["id"] for patient in shown["patients"] for item in patient["items"]}
    assert answer["statements"] and all(set(one["item_ids"]) <= ids for one in answer["statements"])
    assert answer["statements"][0]["short"].startswith("2.9 mmol/L"), "the value at 24 h; later ones are not used"
