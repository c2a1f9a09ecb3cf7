"""The two ways into the language model, by the prompt and by inserted layers: the same laws, sessions, training and folder for both."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from salus import pipeline, registry
from salus.batch import (
    LanguageExample,
    OptionQuestion,
    answer_logits,
    encoded_record,
    fused_batch,
    make_example,
    option_logprobs,
    option_prompt,
)
from salus.encode.encoder import Encoded
from salus.errors import ConfigError, ModelError
from salus.model import SalusModel, build_backbone, load_config, load_model, own_tensors, save_model
from salus.pipeline import ask, open_record
from salus.reason import prompt
from salus.reason.backbone import Piece
from salus.record.patient import PatientRecord
from salus.train.language_stage import batch_loss, train_language
from salus.train.recipe import LanguageRecipe
from salus.train.run import Place, train
from tests.tiny_model import ENCODERS, OPTIONS, QUESTION, patient, set_gates, tiny_model
from tests.train.tiny_recipe import tiny_recipe, with_tiny_tasks

ABOUT = "How high did the creatinine get?"
WAYS = ("prefix", "cross_attention")


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights seldom end an answer."""
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 60)


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> SalusModel:
    return tiny_model(tiny_backbone, into="cross_attention")


def examples(model: SalusModel, records: Sequence[PatientRecord]) -> list[LanguageExample]:
    asked = [option_prompt(record, QUESTION, OPTIONS) for record in records]
    return [
        make_example(model, encoded_record(model, model.prepare(record)), words, "no", OPTIONS)
        for record, words in zip(records, asked, strict=True)
    ]


def text_only(model: SalusModel, one: LanguageExample) -> torch.Tensor:
    """Return the logits that predict an answer, by transformers' own forward pass over the words of the prompt alone."""
    frame = model.frame
    pieces = [Piece(text=frame.before_record, is_frame=True), Piece(text=frame.after_record, is_frame=True)]
    words = model.backbone.core.get_input_embeddings()(torch.tensor([*one.asked, *one.answer[:-1]]))
    embeds = torch.cat([model.backbone.embed(pieces), words])
    with model.backbone.adapter(is_on=False):
        states = model.backbone.core.model(inputs_embeds=embeds[None]).last_hidden_state[0]
    logits: torch.Tensor = model.backbone.core.lm_head(states[-len(one.answer) :])
    return logits


def same(one: pipeline.Answer, other: pipeline.Answer) -> bool:
    return replace(one, seconds={}) == replace(other, seconds={})


def test_shut_gates_are_the_text_only_model_and_open_ones_are_not(tiny_backbone: Path) -> None:
    model = tiny_model(tiny_backbone, into="cross_attention")
    one = examples(model, [patient(3)])[0]
    with torch.no_grad():
        opened = answer_logits(model, [one], uses_adapter=False)[0]
        set_gates(model, 0.0)
        shut = answer_logits(model, [one], uses_adapter=False)[0]
        assert torch.equal(shut, text_only(model, one))
        assert (opened - shut).abs().max() > 1e-3
        fresh = SalusModel(model.config, model.backbone)
        assert torch.equal(answer_logits(fresh, [one], uses_adapter=False)[0], shut), "gates are 0 at first"


def test_two_models_share_a_language_model_and_do_not_meet(model: SalusModel) -> None:
    """A prefix model on the same backbone gives what it gives on its own, before and after."""
    fuser = {name: value for name, value in model.config.fuser.items() if name in ("hidden", "token_rms", "strategy")}
    torch.manual_seed(0)
    other = SalusModel(replace(model.config, fuser=fuser), model.backbone).eval()
    other.encoders = model.encoders
    one = examples(model, [patient(3)])[0]
    with torch.no_grad():
        own = answer_logits(other, [one])[0]
        answer_logits(model, [one])
        assert torch.equal(answer_logits(other, [one])[0], own)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, 300), min_size=2, max_size=4), seed=st.integers(0, 9))
def test_a_batch_gives_each_patient_what_it_gives_alone(model: SalusModel, numbers: list[int], seed: int) -> None:
    """Patients of different lengths, with and without modalities, in any order, padded."""
    records = [patient(number, without=("notes",) if number % 2 else ()) for number in numbers]
    batch = examples(model, records)
    order = list(range(len(batch)))
    random.Random(seed).shuffle(order)
    with torch.no_grad():
        turned = answer_logits(model, [batch[row] for row in order])
        for place, row in enumerate(order):
            assert torch.allclose(turned[place], answer_logits(model, [batch[row]])[0], atol=1e-4)


@pytest.mark.parametrize("uses_adapter", [False, True])
def test_a_session_scores_as_a_batch_and_as_one_full_pass(model: SalusModel, uses_adapter: bool) -> None:
    record = patient(3)
    fused = model.fuse([model.prepare(record)])
    words = option_prompt(record, QUESTION, OPTIONS)
    session = model.session(fused, uses_adapter=uses_adapter)
    found = session.option_logprobs(prompt.words(model.frame, words), OPTIONS)
    for option, score in zip(OPTIONS, found, strict=True):
        one = make_example(model, encoded_record(model, model.prepare(record)), words, option)
        with torch.no_grad():
            logits = answer_logits(model, [one], uses_adapter=uses_adapter)[0].log_softmax(-1)
        wanted = sum(float(logits[place, token]) for place, token in enumerate(one.answer[:-1]))
        assert score == pytest.approx(wanted, abs=1e-4)
    if not uses_adapter:
        asked = OptionQuestion(encoded_record(model, model.prepare(record)), words, OPTIONS)
        assert option_logprobs(model, [asked])[0] == pytest.approx(found, abs=1e-4)


def test_the_layers_read_with_the_adapter_and_without(tiny_backbone: Path) -> None:
    """Four models differ: the layers are there in both kinds of session, and the adapter only where it is wanted."""
    model, record = tiny_model(tiny_backbone, into="cross_attention"), patient(3)
    found = []
    for gate in (0.0, 0.7):
        set_gates(model, gate)
        for uses_adapter in (False, True):
            session = model.session(model.fuse([model.prepare(record)]), uses_adapter=uses_adapter)
            words = prompt.words(model.frame, option_prompt(record, QUESTION, OPTIONS))
            found.append(round(session.option_logprobs(words, OPTIONS)[0], 4))
    assert len(set(found)) == 4


def test_the_prompt_has_the_same_words_and_no_soft_tokens(model: SalusModel, tiny_backbone: Path) -> None:
    record, other = patient(3), tiny_model(tiny_backbone)
    lengths, behind = [], []
    for one in (model, other):
        opened = open_record(record, one)
        lengths.append(opened.sessions["write"].length)  # type: ignore[attr-defined]
        behind.append(opened.soft_item_ids)
    assert lengths[1] - lengths[0] == len(behind[1]) and model.frame == other.frame
    assert behind[0] == behind[1] and any(behind[0]), "an answer still says which items can have counted"


@pytest.mark.parametrize("into", WAYS)
@pytest.mark.parametrize("strategy", ["concat", "gated"])
def test_questions_are_answered_from_end_to_end(tiny_backbone: Path, strategy: str, into: str) -> None:
    model = tiny_model(tiny_backbone, strategy=strategy, into=into)
    whole, part = patient(3), patient(3, without=("notes",))
    opened, other = open_record(whole, model), open_record(part, model)
    first = ask(opened, ABOUT)
    assert any(one.is_standing for one in first.statements)
    options = [ask(one, QUESTION, OPTIONS) for one in (opened, other)]
    assert sum(score.probability for score in options[0].options) == pytest.approx(1)
    assert {one.id for one in whole.items if one.modality == "vitals_labs"} <= set(options[0].option_item_ids)
    assert not set(options[1].option_item_ids) & {one.id for one in whole.items if one.modality == "notes"}
    assert same(ask(opened, ABOUT), first) and same(ask(open_record(whole, model), QUESTION, OPTIONS), options[0])


def test_the_evidence_counts_and_what_is_left_out_does_not(model: SalusModel) -> None:
    record = patient(3)
    risk = [ask(open_record(one, model), QUESTION, OPTIONS).options[0].probability for one in (record, patient(4))]
    assert risk[0] != risk[1]
    items = tuple(one for one in record.items if one.modality != "notes")
    masked = open_record(record, model, interpret=frozenset(ENCODERS) - {"notes"})
    gone = open_record(replace(record, items=items), model)
    assert ask(masked, QUESTION, OPTIONS).options == ask(gone, QUESTION, OPTIONS).options


def still(model: SalusModel) -> SalusModel:
    """Take dropout away."""
    model.fuser.config = replace(model.fuser.config, modality_dropout=0.0)  # type: ignore[arg-type, type-var]
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


@pytest.mark.parametrize("strategy", ["concat", "gated"])
def test_after_one_step_a_gradient_reaches_every_weight(tiny_backbone: Path, strategy: str) -> None:
    """At first only the gates learn: nothing passes a gate at 0. One step opens them."""
    model = still(tiny_model(tiny_backbone, strategy=strategy, into="cross_attention", lora=False))
    set_gates(model, 0.0)
    model.requires_grad_(False)
    model.train_evidence(is_on=True)
    batch = examples(model, [patient(number, without=left_out) for number, left_out in enumerate(((), *((name,) for name in ENCODERS)))])
    own = {name: one for name, one in model.named_parameters() if one.requires_grad}
    optimiser = torch.optim.SGD(own.values(), lr=0.1)
    reached = []
    for _ in range(2):
        optimiser.zero_grad()
        batch_loss(model, batch).backward()
        reached.append({name for name, one in own.items() if one.grad is not None and one.grad.abs().sum() > 0})
        optimiser.step()
    gates = {name for name in own if name.endswith("_gate")}
    assert reached[0] == gates and len(gates) == 4
    assert reached[1] == set(own)
    assert not any(one.requires_grad for name, one in model.named_parameters() if name.startswith(("backbone", "encoders")))


def signed(model: SalusModel, number: int) -> LanguageExample:
    """Return an example whose answer only the tokens tell: those of yes point one way, those of no the other."""
    source = torch.Generator().manual_seed(number)
    way = torch.linspace(-1, 1, 16) * (1 if number % 2 else -1)
    values = way + 0.5 * torch.randn(1, 3, 16, generator=source)
    encoded = {"notes": Encoded(values, torch.ones(1, 3, dtype=torch.bool), torch.full((1, 3), float("nan")))}
    return make_example(model, encoded, prompt.question_text(QUESTION, [], OPTIONS), OPTIONS[number % 2], OPTIONS)


def option_loss(model: SalusModel, batch: Sequence[LanguageExample]) -> tuple[float, float]:
    """Return the mean loss over the two options alone, and the share that is right."""
    with torch.no_grad():
        logits = torch.stack([scores[0][list(one.options)] for one, scores in zip(batch, answer_logits(model, batch), strict=True)])
    wanted = torch.tensor([one.right for one in batch])
    return float(nn.functional.cross_entropy(logits, wanted)), float((logits.argmax(1) == wanted).float().mean())


@pytest.mark.parametrize("into", WAYS)
def test_a_task_that_needs_the_tokens_is_learned(tiny_backbone: Path, tmp_path: Path, into: str) -> None:
    """Without the tokens no loss over two even options below log 2 is possible: all prompts are the same words."""
    model = still(tiny_model(tiny_backbone, into=into, lora=False))
    if model.cross_attention is not None:
        set_gates(model, 0.0)
    model.requires_grad_(False)
    model.train_evidence(is_on=True)
    pool, later = ([signed(model, number) for number in range(first, first + 64)] for first in (0, 1000))
    recipe = LanguageRecipe(steps=60, lr=0.01, tasks={"toy": 1.0}, batch_size=16)
    before = option_loss(model, later)
    train_language(model, {"toy": pool}, recipe, seed=0, checkpoint=tmp_path / "toy.pt", progress=lambda words, share: None)
    after = option_loss(model, later)
    assert before[0] > np.log(2) and after[0] < 0.3 and after[1] > 0.9


def test_a_stopped_stage_goes_on_where_it_was(tiny_backbone: Path, tmp_path: Path) -> None:
    recipe = LanguageRecipe(steps=4, lr=0.01, tasks={"toy": 1.0}, batch_size=4, checkpoint_every=2)
    found = []
    for stop in (99, 3):
        model = tiny_model(tiny_backbone, into="cross_attention", lora=False)
        model.requires_grad_(False)
        model.train_evidence(is_on=True)
        pool = {"toy": [signed(model, number) for number in range(8)]}

        def said(words: str, share: float, stop: int = stop) -> None:
            if words.startswith(f"step {stop}/"):
                raise KeyboardInterrupt

        kept = tmp_path / f"stop-{stop}.pt"
        try:
            train_language(model, pool, recipe, seed=0, checkpoint=kept, progress=said)
        except KeyboardInterrupt:
            train_language(model, pool, recipe, seed=0, checkpoint=kept, progress=lambda words, share: None)
        found.append({name: one.detach() for name, one in model.named_parameters() if one.requires_grad})
    assert all(torch.equal(one, found[1][name]) for name, one in found[0].items())


def test_the_layers_have_their_own_rate(tiny_backbone: Path, tmp_path: Path) -> None:
    """Adam's first step is the rate, whatever the gradient: the layers' weights move by 2 · lr, the fuser's by lr."""
    model = still(tiny_model(tiny_backbone, into="cross_attention", lora=False))
    assert model.cross_attention is not None
    model.cross_attention.settings = replace(model.cross_attention.settings, lr_scale=2.0)
    model.requires_grad_(False)
    model.train_evidence(is_on=True)
    before = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}
    recipe = LanguageRecipe(steps=1, lr=1e-3, tasks={"toy": 1.0}, batch_size=2, weight_decay=0.0)
    pool = [signed(model, number) for number in range(4)]
    train_language(model, {"toy": pool}, recipe, seed=0, checkpoint=tmp_path / "one.pt", progress=lambda words, share: None)
    moved = {name: float((one.detach() - before[name]).abs().max()) for name, one in model.named_parameters() if name in before}
    for name, most in moved.items():
        scale = 2.0 if name.startswith("cross_attention.") else 1.0
        if most > 0:
            assert most == pytest.approx(scale * 1e-3, rel=0.02), name
    assert sum(most > 0 for most in moved.values()) > 20


# The folder


@pytest.fixture
def saved(model: SalusModel, tiny_backbone: Path, tmp_path: Path) -> Path:
    identity = build_backbone(str(tiny_backbone)).identity
    save_model(model, tmp_path / "model", replace(model.config, backbone_identity=identity), "# card\n")
    return tmp_path / "model"


def test_what_is_saved_is_what_is_loaded(saved: Path, model: SalusModel, tmp_path: Path) -> None:
    loaded = load_model(saved)
    _, listed = load_config(saved)
    tensors = own_tensors(loaded)
    assert tensors.keys() == own_tensors(model).keys() == listed.keys()
    assert sum(name.startswith("cross_attention.layers.1.") for name in listed) == 14
    for name, tensor in own_tensors(model).items():
        kept = tensor.to(torch.bfloat16).float() if tensor.numel() > 4096 and tensor.dtype == torch.float32 else tensor
        assert torch.equal(tensors[name].to(kept.dtype), kept), name
    save_model(loaded, tmp_path / "again", loaded.config, "# card\n")
    answers = [ask(open_record(patient(3), one), QUESTION, OPTIONS) for one in (loaded, load_model(tmp_path / "again"))]
    assert same(*answers)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"into": None, "every": None, "attention_width": None, "feedforward_width": None}, ModelError, "is not part of this model"),
        ({"every": 2}, ModelError, "is not part of this model"),
        ({"from_layer": 2}, ModelError, "is not part of this model"),
        ({"attention_width": 128}, ModelError, "has another shape"),
        ({"feedforward_width": 8}, ModelError, "has another shape"),
        ({"strategy": "gated"}, ModelError, "is missing"),
        ({"into": "prefix"}, ConfigError, "unknown key 'attention_width'"),
        ({"into": "middle"}, ConfigError, "Cannot use fuser.into 'middle': it is unknown"),
    ],
)
def test_a_folder_with_other_settings_is_refused(saved: Path, changes: dict[str, object], error: type[Exception], words: str) -> None:
    path = saved / "config.json"
    tree = json.loads(path.read_text())
    fuser = {name: value for name, value in {**tree["fuser"], **changes}.items() if value is not None}
    path.write_text(json.dumps({**tree, "fuser": fuser}))
    with pytest.raises(error, match=words):
        load_model(saved)


def test_a_prefix_model_is_saved_as_before(tiny_backbone: Path, tmp_path: Path) -> None:
    model = tiny_model(tiny_backbone)
    save_model(model, tmp_path, replace(model.config, backbone_identity=build_backbone(str(tiny_backbone)).identity), "# card\n")
    config, listed = load_config(tmp_path)
    assert "into" not in config.fuser and not any("cross_attention" in name for name in listed)
    assert load_model(tmp_path).cross_attention is None


# Training from a recipe


@pytest.fixture
def tiny_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", with_tiny_tasks(registry.load))


@pytest.mark.usefixtures("tiny_tasks")
def test_a_recipe_trains_the_layers_and_the_folder_answers(tiny_backbone: Path, tmp_path: Path) -> None:
    fuser = {"strategy": "concat", "hidden": 16, "into": "cross_attention", "every": 2, "attention_width": 64, "feedforward_width": 8}
    recipe = tiny_recipe(tiny_backbone, fuser=fuser)
    train(recipe, Place(tmp_path, tmp_path / "work", tmp_path / "model"), progress=lambda words, share: None)
    model = load_model(tmp_path / "model")
    gates = {name: float(one.detach()) for name, one in model.named_parameters() if name.endswith("_gate")}
    assert sorted(gates) == ["cross_attention.layers.1.attention_gate", "cross_attention.layers.1.feedforward_gate"]
    assert all(value != 0 for value in gates.values())
    assert "cross-attention layers" in (tmp_path / "model" / "README.md").read_text()
    answer = ask(open_record(patient(100), model, interpret=frozenset({"vitals_labs", "notes"})), QUESTION, OPTIONS)
    assert sum(score.probability for score in answer.options) == pytest.approx(1)


@pytest.mark.usefixtures("tiny_tasks")
def test_a_recipe_that_gives_no_layer_is_refused_before_anything_is_trained(tiny_backbone: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_backbone, fuser={"hidden": 16, "into": "cross_attention"})
    with pytest.raises(ConfigError, match=r"the language model has 2 layers, every is 6 and from_layer 1"):
        train(recipe, Place(tmp_path, tmp_path / "work", tmp_path / "model"), progress=lambda words, share: None)
    beside = {"steps": 6, "lr": 0.003, "tasks": {"icu-death": 1.0}, "shots": 2}
    recipe = tiny_recipe(tiny_backbone, fuser={"hidden": 16, "into": "cross_attention", "every": 1}, projector=beside)
    with pytest.raises(ConfigError, match=r"Cannot train beside solved cases: shots is set and fuser.into is 'cross_attention'"):
        train(recipe, Place(tmp_path, tmp_path / "work", tmp_path / "model"), progress=lambda words, share: None)
    assert not (tmp_path / "work").exists()


def test_what_is_fused_is_the_same_for_both_ways(model: SalusModel, tiny_backbone: Path) -> None:
    """The way in changes nothing before the language model: same seed, same tokens."""
    both = [fused_batch(one, examples(one, [patient(3), patient(4)])) for one in (model, tiny_model(tiny_backbone))]
    assert torch.equal(both[0].tokens, both[1].tokens) and torch.equal(both[0].mask, both[1].mask)
