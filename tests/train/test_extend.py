"""A modality joins a trained model: what the model had stays, tensor for tensor and answer for answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_model import LAYERS, QUESTION, item, patient
from tests.train.tiny_recipe import tiny_recipe, with_tiny_tasks

from salus import pipeline, registry
from salus.config import settings_from
from salus.errors import ConfigError
from salus.model import load_config, load_model, own_tensors
from salus.pipeline import ask, open_record
from salus.record.patient import Code, Content, PatientRecord, Sequences
from salus.task import Example, Split, Task
from salus.train.recipe import Recipe
from salus.train.run import Place, train

SITES = ("donor", "acceptor", "neither")
ASKED = "Which site is in the middle?"
FIRST = {"train": 0, "val": 1000, "test": 2000}


def with_dna(number: int) -> PatientRecord:
    """Return a made-up patient with a sequence whose middle tells the site."""
    letters = "".join(random.Random(number).choices("ACGT", k=18))
    middle = ("GT", "AG", "CC")[number % 3]
    sequence = Sequences((letters[:9] + middle + letters[9:],), "dna")
    content = Content("sequence", partial(_given, sequence), "20 bases")
    one = item(f"patient-{number}", "dna", "dna", Code("media", "text/fasta", "DNA sequence"), None, content=content, category="sequence")
    return replace(patient(number), items=(*patient(number).items, one))


def _given(sequence: Sequences) -> Sequences:
    return sequence


def read_sites(data: Path, split: Split) -> Sequence[Example]:
    numbers = range(FIRST[split], FIRST[split] + (60 if split == "train" else 30))
    return [Example(f"site/{n}", f"patient-{n}", partial(with_dna, n), ASKED, SITES, SITES[n % 3]) for n in numbers]


STAGE = {"steps": 1, "lr": 0.1, "tasks": {"sites": 1.0}}
SITE = Task("sites", "made-up sites", ("dna",), "accuracy", read_sites, (), "CC0-1.0", True, pass_above=0.1)


def extension(base: Path, backbone: Path, **changes: Any) -> Recipe:
    tree = {
        "name": "tiny", "version": "1", "seed": 0, "backbone": str(backbone), "extends": str(base),
        "encoders": {"dna": {"settings": {"length": 20, "width": 8, "needs_whole": True}, "task": "sites", "epochs": 4, "batch_size": 16}},
        "own_projectors": {"dna": {"steps": 6, "lr": 0.003, "tasks": {"sites": 1.0}, "batch_size": 4, "teacher_weight": 0.5}},
        "calibration_examples": 30,
    }  # fmt: skip
    return settings_from(Recipe, {**tree, **changes}, "extension")


@pytest.fixture(scope="module", params=[{}, {"into": "cross_attention", **LAYERS}], ids=["prefix", "cross_attention"])
def made(request: pytest.FixtureRequest, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the extended model and the model that it extends, with each way into the language model."""
    work = tmp_path_factory.mktemp("extend")
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch)
        first = tiny_recipe(tiny_backbone, fuser={"hidden": 16, **request.param})
        train(first, Place(work, work / "first", work / "base"), progress=lambda words, share: None)
        recipe = extension(work / "base", tiny_backbone)
        train(recipe, Place(work, work / "second", work / "more"), progress=lambda words, share: None)
    return work


@pytest.fixture(autouse=True)
def tiny_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    _patch(monkeypatch)


def _patch(patch: pytest.MonkeyPatch) -> None:
    load = with_tiny_tasks(registry.load)
    patch.setattr(registry, "load", lambda group, name: SITE if (group, name) == ("salus.tasks", "sites") else load(group, name))
    patch.setattr(pipeline, "MOST_TOKENS", 40)


def test_what_the_model_had_is_unchanged(made: Path) -> None:
    base, more = (load_model(made / name) for name in ("base", "more"))
    before, after = own_tensors(base), own_tensors(more)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    new = set(after) - set(before)
    assert new and all("dna" in name for name in new)
    assert more.config.statement_calibration == base.config.statement_calibration
    assert set(base.config.option_calibrations) < set(more.config.option_calibrations)
    assert {name: more.config.evaluations[name] for name in base.config.evaluations} == base.config.evaluations


def test_a_record_without_the_new_modality_is_answered_as_before(made: Path) -> None:
    base, more = (load_model(made / name) for name in ("base", "more"))
    known = frozenset({"vitals_labs", "notes"})
    before, after = (ask(open_record(patient(300), model, interpret=known), QUESTION, ("yes", "no")) for model in (base, more))
    assert before.options == after.options
    question = "How many creatinine values are there?"
    before, after = (ask(open_record(patient(300), model, interpret=known), question) for model in (base, more))
    assert [one.text for one in before.statements] == [one.text for one in after.statements]


def test_the_new_modality_is_judged_calibrated_and_gated(made: Path) -> None:
    model = load_model(made / "more")
    found = model.config.evaluations["dna"]
    assert (found.task, found.metric, found.n, found.is_passed) == ("sites", "accuracy", 30, found.low > 0.1)
    (calibration,) = [one for one in model.config.option_calibrations if one.task == "sites"]
    assert calibration.options == SITES and len(calibration.biases) == 3 and calibration.n == 30
    opened = open_record(with_dna(2001), model, interpret=frozenset({"dna"}))
    assert opened.present == {"dna"} and not any(opened.soft_item_ids), "the language stage never saw it, so nothing is written beside it"
    one, other = ask(opened, ASKED, SITES).options, ask(opened, ASKED, SITES[::-1]).options
    assert sum(each.probability for each in one) == pytest.approx(1.0)
    assert {each.option for each in one} == {each.option for each in other} == set(SITES)


def test_the_folder_says_what_it_extends(made: Path) -> None:
    config, _ = load_config(made / "more")
    assert config.trained["extends"]["name"] == "tiny" and config.trained["extends"]["version"] == "0"
    assert config.fuser["untold"] == ["dna"] and config.told_as_absent == ("vitals_labs", "notes")
    card = (made / "more" / "README.md").read_text()
    assert "Extends tiny 0 (seed 0" in card and "| dna | sites | accuracy" in card and "| icu-death | CC0-1.0 | yes |" in card


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoders": {"notes": {}}, "own_projectors": {"notes": STAGE}}, "by 'notes': it has an encoder of it."),
        ({"own_projectors": {}}, "by 'dna': it would have no tokens. Add it to own_projectors."),
        ({"fuser": {"hidden": 8}}, "backbone and fuser are its own."),
        ({"projector": STAGE}, "the stage 'projector' would change its answers."),
    ],
)
def test_what_would_change_the_model_is_refused(made: Path, tiny_backbone: Path, tmp_path: Path, change: dict[str, Any], text: str) -> None:
    recipe, place = extension(made / "base", tiny_backbone, **change), Place(tmp_path, tmp_path / "work", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"Cannot extend tiny 0") as found:
        train(recipe, place, progress=lambda *_: None)
    assert text in str(found.value)
    assert not (tmp_path / "out").exists() and not (tmp_path / "work").exists()


def test_a_whole_recipe_needs_a_projector(tiny_backbone: Path, tmp_path: Path) -> None:
    recipe = replace(extension(Path(), tiny_backbone), extends="")
    with pytest.raises(ConfigError, match="Cannot train 'tiny': the stage 'projector' has no tasks"):
        train(recipe, Place(tmp_path, tmp_path / "work", tmp_path / "out"), progress=lambda *_: None)


def test_a_question_that_was_evaluated_sees_what_it_was_evaluated_with(made: Path) -> None:
    """Sequences beside the series leave the calibrated answer about the series as it is."""
    model, known = load_model(made / "more"), frozenset({"vitals_labs", "notes", "dna"})
    found = model.config.evaluations["vitals_labs"]
    model.config = replace(model.config, evaluations={**model.config.evaluations, "vitals_labs": replace(found, is_passed=True)})
    with_it, without = (ask(open_record(one, model, interpret=known), QUESTION, ("yes", "no")) for one in (with_dna(2001), patient(2001)))
    assert with_it.options == without.options and with_it.options[0].is_calibrated
    assert with_it.option_item_ids == without.option_item_ids
