"""The model folder: what is saved is what is loaded, and nothing that was altered is loaded at all, by the text a user meets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from salus import cli, pipeline
from salus.config import settings_from
from salus.errors import ConfigError, ModelError
from salus.model import ModelConfig, SalusModel, add_lora, build_backbone, load_config, load_model, load_tensors, own_tensors, save_model
from salus.pipeline import ask, open_record
from salus.reason.huggingface import best_dtype
from salus.reason.tiny_backbone import write_tiny_backbone
from tests.tiny_model import ENCODERS, LORA, QUESTION, patient, tiny_model

TABLE = "time_h,heart_rate [/min],creatinine [mg/dL]\n1,88,1.1\n20,104,1.9\n40,112,2.4\n"


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights seldom end an answer."""
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 60)


@pytest.fixture(scope="module")
def saved(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder that loads by `load_model`."""
    model = tiny_model(tiny_backbone)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder, replace(model.config, backbone_identity=build_backbone(str(tiny_backbone)).identity), "# card\n")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "patient" / "course.csv"
    path.parent.mkdir()
    path.write_text(TABLE, encoding="utf-8")
    return path


def stored(tensor: Tensor) -> Tensor:
    """Return what a folder keeps of a tensor: large ones are rounded to bfloat16, as the folder's list says."""
    return tensor.to(torch.bfloat16).float() if tensor.dtype == torch.float32 and tensor.numel() > 4096 else tensor


def test_saved_and_loaded_tensors_are_the_same(saved: Path, tiny_backbone: Path) -> None:
    before, after = own_tensors(tiny_model(tiny_backbone)), own_tensors(load_model(saved))
    assert before.keys() == after.keys() and any(".lora_B." in name for name in before)
    assert all(torch.equal(stored(before[name]), after[name].to(before[name].dtype)) for name in before)


def test_saved_and_loaded_models_answer_the_same(saved: Path, tmp_path: Path) -> None:
    first = load_model(saved)
    save_model(first, tmp_path / "again", first.config, "# card\n")
    second = load_model(tmp_path / "again")
    opened = [open_record(patient(3), model) for model in (first, second)]
    options = [ask(one, QUESTION, ("yes", "no")).options for one in opened]
    assert options[0] == options[1] and options[0][0].is_calibrated
    statements = [ask(one, "How high did the creatinine get?").statements for one in opened]
    assert statements[0] == statements[1]


def test_the_folder_lists_every_tensor_and_names_no_place_of_this_machine(saved: Path, tiny_backbone: Path) -> None:
    config, listed = load_config(saved)
    tensors = load_file(saved / "model.safetensors")
    adapter = load_file(saved / "adapter" / "adapter_model.safetensors")
    assert len(listed) == len(tensors) + len(adapter)
    assert all(list(tensor.shape) == listed[name]["shape"] for name, tensor in tensors.items())
    adapter_config = json.loads((saved / "adapter" / "adapter_config.json").read_text())
    assert adapter_config["base_model_name_or_path"] == config.backbone_identity
    assert str(tiny_backbone.parent) not in (saved / "adapter" / "adapter_config.json").read_text()
    assert (saved / "README.md").read_text() == "# card\n"


def test_peft_reads_the_adapter_folder(saved: Path, tiny_backbone: Path) -> None:
    """Reference: PEFT's own loader gives the same hidden states."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_backbone, dtype=best_dtype()), saved / "adapter").float()
    ours = load_model(saved).backbone.model.float()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.allclose(theirs(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-3)


def tensors_of(name: str, change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        path = folder / name
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return apply


def config_of(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        tree = json.loads((folder / "config.json").read_text())
        change(tree)
        (folder / "config.json").write_text(json.dumps(tree))

    return apply


def cut_file(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


RESTORE = "Restore the folder from where you got it; nothing was loaded."
ONE, ADAPTER = "model.safetensors", "adapter/adapter_model.safetensors"
LORA_A = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (
        tensors_of(ONE, lambda t: t.pop("fuser.time.weight")),
        f"Cannot load model '{{folder}}': tensor 'fuser.time.weight' is missing; 1 such in all. {RESTORE}",
    ),
    "renamed": (
        tensors_of(ONE, lambda t: t.update(fuser_time=t.pop("fuser.time.weight"))),
        f"Cannot load model '{{folder}}': tensor 'fuser.time.weight' is missing; 1 such in all. {RESTORE}",
    ),
    "extra": (
        tensors_of(ONE, lambda t: t.update(spare=torch.zeros(2))),
        f"Cannot load model '{{folder}}': tensor 'spare' is not part of this model; 1 such in all. {RESTORE}",
    ),
    "resized": (
        tensors_of(ONE, lambda t: t.update({"fuser.present.notes": torch.zeros(31)})),
        f"Cannot load model '{{folder}}': tensor 'fuser.present.notes' has another shape ((31,) in the file, (32,) in the model); "
        f"1 such in all. {RESTORE}",
    ),
    "adapter tensor removed": (
        tensors_of(ADAPTER, lambda t: t.pop(LORA_A)),
        f"Cannot load model '{{folder}}': tensor 'backbone.model.{LORA_A.replace('.weight', '.default.weight')}' is missing; "
        f"1 such in all. {RESTORE}",
    ),
    "truncated": (
        cut_file(ONE, -100),
        "Cannot load model '{folder}': model.safetensors is damaged (Error while deserializing header: incomplete metadata, file not "
        "fully covered). Restore the folder; nothing was loaded.",
    ),
    "empty": (
        cut_file(ONE, 0),
        "Cannot load model '{folder}': model.safetensors is damaged (Error while deserializing header: header too small). "
        "Restore the folder; nothing was loaded.",
    ),
    "no tensors": (
        lambda f: (f / ONE).unlink(),
        "Cannot load model '{folder}': model.safetensors is missing. Restore the folder; nothing was loaded.",
    ),
    "no adapter": (
        lambda f: shutil.rmtree(f / "adapter"),
        "Cannot load model '{folder}/adapter': adapter_model.safetensors is missing. Restore the folder; nothing was loaded.",
    ),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "Cannot load model '{folder}': it has no config.json. Give a folder that `salus train` made.",
    ),
    "config not JSON": (
        lambda f: (f / "config.json").write_text('{\n "name": }'),
        "Cannot load model '{folder}': config.json, line 2, is not JSON. Restore the file.",
    ),
    "config not text": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
        "Cannot load model '{folder}': config.json is not JSON. Restore the file.",
    ),
    "config a list": (
        lambda f: (f / "config.json").write_text("[]"),
        "Cannot load model '{folder}': the top level of config.json is not a mapping. Restore the file.",
    ),
    "unknown key": (
        config_of(lambda t: t.update(backbon="x")),
        "Cannot read settings '{folder}/config.json': unknown key 'backbon'. Did you mean 'backbone'?",
    ),
    "another format": (
        config_of(lambda t: t.update(format=1)),
        "Cannot load model '{folder}': format 1, this program reads 3. Use the matching version.",
    ),
    "wrong type": (
        config_of(lambda t: t.update(name=3)),
        'Cannot read settings \'{folder}/config.json\': wrong value type for field "name" - should be "str" instead of value "3" of '
        'type "int". Mend that key.',
    ),
    "unknown setting of an encoder": (
        config_of(lambda t: t["encoders"]["notes"].update(widht=3)),  # type: ignore[index]
        "Cannot build the encoder of 'notes': TextEncoder.__init__() got an unexpected keyword argument 'widht'. Mend its settings.",
    ),
    "unknown setting of the fuser": (
        config_of(lambda t: t["fuser"].update(hiden=3)),  # type: ignore[attr-defined]
        "Cannot read settings 'fuser': unknown key 'hiden'. Did you mean 'hidden'?",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_altered_folder_is_refused_in_one_line(
    kind: str, folder: Path, table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    damage, text = DAMAGE[kind]
    damage(folder)
    report = tmp_path / "report.html"
    assert cli.main(["ask", str(table), "How high did the creatinine get?", "--model", str(folder), "--report", str(report)]) == 1
    shown = capsys.readouterr()
    assert shown.err == f"salus: {text.format(folder=folder)}\n"
    assert shown.out == "" and not report.exists()


def test_the_folder_unaltered_answers(folder: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.html"
    assert cli.main(["ask", str(table), "How high did the creatinine get?", "--model", str(folder), "--report", str(report)]) == 0
    assert "2.4 mg/dL" in capsys.readouterr().out and report.exists()


def test_another_language_model_is_refused(folder: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_backbone(tmp_path / "other", seed=1)
    status = cli.main(
        ["ask", str(table), "x", "--model", str(folder), "--backbone", str(tmp_path / "other"), "--report", str(tmp_path / "r.html")]
    )
    trained, _ = load_config(folder)
    given = build_backbone(str(tmp_path / "other")).identity
    assert status == 1 and not (tmp_path / "r.html").exists()
    assert capsys.readouterr().err == (
        f"salus: Cannot use backbone '{given}': this model was trained with '{trained.backbone_identity}'. "
        "Leave --backbone out, or train an adapter for it.\n"
    )


def test_the_same_language_model_may_lie_elsewhere(folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_backbone, tmp_path / "elsewhere")
    moved = load_model(folder, backbone=str(copy))
    assert all(torch.equal(a, b) for a, b in zip(own_tensors(moved).values(), own_tensors(load_model(folder)).values(), strict=True))


def test_nothing_is_loaded_when_one_tensor_is_wrong(folder: Path) -> None:
    model = load_model(folder)
    before = {name: tensor.clone() for name, tensor in own_tensors(model).items()}
    found = {name: tensor + 1 for name, tensor in before.items()} | {"spare": torch.zeros(1)}
    with pytest.raises(ModelError, match="tensor 'spare' is not part of this model"):
        load_tensors(model, found, "folder")
    assert all(torch.equal(before[name], tensor) for name, tensor in own_tensors(model).items())


def test_a_modality_without_a_network_has_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    from salus import registry
    from salus.model import build_encoder

    shown_only = replace(registry.load("salus.modalities", "notes"), build_encoder=None)
    monkeypatch.setattr(registry, "load", lambda group, name: shown_only)
    with pytest.raises(ModelError, match=r"Cannot build an encoder for 'notes': its plug-in declares none. Leave it out of the recipe\."):
        build_encoder("notes", {})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"r": 2}, "Cannot use lora settings: 'alpha' is missing. Settings: alpha, dropout, r, targets."),
        ({**LORA, "rank": 2}, "Cannot use lora settings: 'rank' is unknown. Settings: alpha, dropout, r, targets."),
    ],
)
def test_lora_settings_are_checked(tiny_backbone: Path, settings: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as found:
        add_lora(build_backbone(str(tiny_backbone)), settings)
    assert str(found.value) == text


def test_a_config_survives_json(tiny_backbone: Path) -> None:
    from dataclasses import asdict

    config = tiny_model(tiny_backbone).config
    assert settings_from(ModelConfig, json.loads(json.dumps(asdict(config))), "x") == config
    assert config.interpreted == frozenset(ENCODERS)


def test_modalities_left_out_have_no_input(tiny_backbone: Path) -> None:
    model: SalusModel = tiny_model(tiny_backbone, lora=False)
    assert set(model.prepare(patient(0))) == set(ENCODERS)
    assert set(model.prepare(patient(0), frozenset({"notes", "radiograph"}))) == {"notes"}
    assert set(model.prepare(patient(0, without=("notes",)))) == {"vitals_labs", "ehr"}
