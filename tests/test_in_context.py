"""Solved cases beside a question: their soft tokens reach the language model in order, and nothing else of them leaves it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salus.batch import (
    LanguageExample,
    OptionQuestion,
    answer_logits,
    encoded_record,
    fused_batch,
    make_example,
    make_shot,
    option_logprobs,
    option_prompt,
)
from salus.encode.encoder import Encoded
from salus.errors import ConfigError, ContextLengthError, ModelError
from salus.fuse.align.aligner import AlignerConfig, load_aligner, save_aligner
from salus.fuse.align.fit import AlignBudget, AlignLoss, fit_aligner
from salus.fuse.align.pairs import PairSets
from salus.fuse.token_sets import Tokens, TokenSets
from salus.in_context import (
    Choice,
    Embedder,
    FusedEmbedder,
    SharedSpaceEmbedder,
    ask_with_cases,
    build_cases,
    case_encoded,
    encoders_hash,
    shown_beside,
    tensors_hash,
    turns_of,
)
from salus.model import OptionCalibration, SalusModel
from salus.pipeline import Answer, ask, open_record
from salus.reason.backbone import Piece
from salus.reason.cases import CaseIndex, Wanted, load_cases, person_keys
from salus.record.patient import PatientRecord
from salus.task import Example
from tests.tiny_cases import MODALITIES, TASK, examples, tiny_cases
from tests.tiny_model import OPTIONS, QUESTION, patient, tiny_model


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> SalusModel:
    return tiny_model(tiny_backbone)


@pytest.fixture(scope="module")
def index(model: SalusModel) -> CaseIndex:
    return tiny_cases(model)


def still(answer: Answer) -> Answer:
    return replace(answer, seconds={})


def read_by_the_model(model: SalusModel, monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Return a list that fills with every piece of a prompt that the language model is given."""
    seen: list[Piece] = []
    real = model.backbone.embed

    def spy(pieces: Sequence[Piece]) -> torch.Tensor:
        seen.extend(pieces)
        return real(pieces)

    monkeypatch.setattr(model.backbone, "embed", spy)
    return seen


@pytest.mark.parametrize("number", [3, 100])
def test_no_case_is_exactly_todays_answer(model: SalusModel, index: CaseIndex, number: int) -> None:
    """Bit for bit: with 0 cases asked for, and, but for the line that says so, with a context that holds none."""
    today = still(ask(open_record(patient(number), model), QUESTION, OPTIONS))
    assert still(ask_with_cases(open_record(patient(number), model), QUESTION, OPTIONS, cases=index, choice=Choice(0))) == today
    full = still(ask_with_cases(open_record(patient(number), model), QUESTION, OPTIONS, cases=index, choice=Choice(4, most_tokens=1)))
    assert replace(full, limits=full.limits[:-1]) == today and full.limits[-1].startswith("0 of 4 similar cases of other patients")


def test_soft_tokens_of_cases_reach_the_model_in_order(model: SalusModel, index: CaseIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Least similar first, then the patient: each as its own record, fused alone, gives them."""
    opened = open_record(patient(100), model)
    seen = read_by_the_model(model, monkeypatch)
    ask_with_cases(opened, QUESTION, OPTIONS, cases=index, choice=Choice(3))
    soft = [piece.soft for piece in seen if piece.soft is not None]
    prepared = {name: one for name, one in opened.prepared.items() if name in MODALITIES}
    query = FusedEmbedder(model).embed([encoded_record(model, prepared)])[0]
    found = index.nearest(query, Wanted(QUESTION, OPTIONS, 3, person_keys(opened.record)))
    by_id = {one.id: number for number, one in enumerate(examples(0, 24))}
    assert len(by_id) == 24 and [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)
    wanted = []
    for one in reversed(found):
        with torch.inference_mode():
            fused = model.fuse([model.prepare(patient(one.place), frozenset(MODALITIES))])
        wanted.append(fused.tokens[0][fused.mask[0]])
    with torch.inference_mode():
        fused = model.fuse([prepared])
    wanted.append(fused.tokens[0][fused.mask[0]])
    assert len(soft) == 4 and all(torch.equal(one, other) for one, other in zip(soft, wanted, strict=True))
    told = [piece.text for piece in seen if not piece.is_frame and piece.soft is None]
    assert told[:6:2] == [f"Question: {QUESTION}\nOptions: yes, no"] * 3
    assert told[1:6:2] == [index.cases[one.place].answer for one in found[::-1]]


def test_nothing_of_another_patient_is_said_or_cited(model: SalusModel, index: CaseIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = read_by_the_model(model, monkeypatch)
    for number in (2, 101, 103):
        record = patient(number)
        answer = ask_with_cases(open_record(record, model), QUESTION, OPTIONS, cases=index, choice=Choice(8))
        assert set(answer.option_item_ids) <= set(record.by_id()) and answer.option_item_ids and not answer.statements
        others = {item.id for other in range(24) if other != number for item in patient(other).items}
        assert not others & set(answer.option_item_ids)
        written = str(answer.to_json())
        assert not any(f"patient-{other}'" in written or f"made-up/{other}" in written for other in range(24) if other != number)
        assert answer.limits[-1].startswith("8 of 8 similar cases of other patients, with their answers, stood before the question (index")
        assert answer.limits[-1].endswith(": 24 cases of 24 patients). Nothing of them is evidence here.")
    told = "".join(piece.text for piece in seen)
    assert told.count("Cough for") <= 3 * 4 and "[2] " in told, "the patient's own facts are there"
    shots = [piece.text for piece in seen if piece.text.startswith("Question")]
    assert len(shots) == 3 * 8 and set(shots) == {f"Question: {QUESTION}\nOptions: yes, no"}, "a case has no facts and no notes"


def test_the_patient_is_never_among_the_cases_under_any_id(model: SalusModel, index: CaseIndex) -> None:
    """Its own case is the nearest of all, and is left out, by its id or by its items."""
    record = patient(5)
    query = FusedEmbedder(model).embed([encoded_record(model, model.prepare(record, frozenset(MODALITIES)))])[0]
    assert index.nearest(query, Wanted(QUESTION, OPTIONS, 1, frozenset()))[0].place == 5
    for one in (record, PatientRecord("somebody-else", record.items), PatientRecord("somebody-else", record.items[:3])):
        assert 5 not in [found.place for found in index.nearest(query, Wanted(QUESTION, OPTIONS, 24, person_keys(one)))]
        shown = shown_beside(
            open_record(one, model), QUESTION, OPTIONS, cases=index, embedder=FusedEmbedder(model), choice=Choice(30)
        )
        assert len(shown.turns) == 23


def test_the_context_budget_is_kept_and_the_least_similar_go_first(model: SalusModel, index: CaseIndex) -> None:
    opened = open_record(patient(100), model)
    embedder = FusedEmbedder(model)
    whole = shown_beside(opened, QUESTION, OPTIONS, cases=index, embedder=embedder, choice=Choice(8)).turns
    sizes = set()
    for most in range(100, 900, 50):
        shown = shown_beside(opened, QUESTION, OPTIONS, cases=index, embedder=embedder, choice=Choice(8, most_tokens=most))
        sizes.add(len(shown.turns))
        assert shown.words.startswith(f"{len(shown.turns)} of 8 similar cases")
        kept = whole[len(whole) - len(shown.turns) :]
        assert all(torch.equal(one.soft, other.soft) for one, other in zip(shown.turns, kept, strict=True))
    assert {0, 8} < sizes
    many = ask_with_cases(opened, QUESTION, OPTIONS, cases=tiny_cases(model, 60), choice=Choice(59))
    assert int(many.limits[-1].split()[0]) < 59, "what the model holds is the budget where none is given"
    with pytest.raises(ContextLengthError):
        ask_with_cases(opened, QUESTION + " 1" * 4000, OPTIONS, cases=index)


def test_a_calibration_holds_for_its_number_of_cases_alone(tiny_backbone: Path) -> None:
    model = tiny_model(tiny_backbone)
    index = tiny_cases(model)
    opened = open_record(patient(100), model)
    answers = [ask_with_cases(opened, QUESTION, OPTIONS, cases=index, choice=Choice(number)) for number in (0, 2)]
    assert [one.options[0].is_calibrated for one in answers] == [True, False]
    told = "No evaluation of this question beside 2 solved cases has passed: the probabilities are uncalibrated and are not an answer."
    assert answers[1].abstained == told
    first = model.config.option_calibrations[0]
    for shots, cases, expected in ((2, index.fingerprint, True), (3, index.fingerprint, False), (2, "another index", False)):
        fitted = replace(first, slope=2.0, shots=shots, cases=cases)
        model.config = replace(model.config, option_calibrations=(first, fitted))
        answer = ask_with_cases(opened, QUESTION, OPTIONS, cases=index, choice=Choice(2))
        assert [one.is_calibrated for one in answer.options] == [expected] * 2 and (answer.abstained is None) == expected
        assert ask(opened, QUESTION, OPTIONS).options == answers[0].options
    assert OptionCalibration.__dataclass_fields__["shots"].default == 0


def test_cases_change_the_answer_and_a_session_and_a_batch_agree(model: SalusModel, index: CaseIndex) -> None:
    record = patient(101)
    encoded = encoded_record(model, model.prepare(record, frozenset(MODALITIES)))
    asked = option_prompt(record, QUESTION, OPTIONS)
    shots = [make_shot(model, case_encoded(index, place, frozenset(MODALITIES)), QUESTION, OPTIONS, index.cases[place].answer)
             for place in (4, 9, 2)]  # fmt: skip
    several = [OptionQuestion(encoded, asked, OPTIONS, tuple(shots[:count])) for count in range(4)]
    together = option_logprobs(model, several)
    for count, scores in enumerate(together):
        turns = turns_of(model, index, (4, 9, 2)[:count], frozenset(MODALITIES))
        with torch.inference_mode():
            fused = fused_batch(model, [LanguageExample(encoded, (), ())])
        prefix = model_prefix(model, fused.tokens[0][fused.mask[0]], turns)
        session = model.backbone.session(prefix, uses_adapter=False)
        alone = session.option_logprobs([Piece(text=asked), Piece(text=model.frame.after_question, is_frame=True)], OPTIONS)
        assert scores == pytest.approx(alone, abs=2e-4)
    assert abs(together[0][0] - together[3][0]) > 1e-3


def model_prefix(model: SalusModel, soft: torch.Tensor, turns: Sequence[Any]) -> list[Piece]:
    """Return the prompt's beginning, put together here by hand."""
    frame = model.frame
    pieces = [Piece(text=frame.before_record, is_frame=True)]
    for turn in turns:
        pieces += [Piece(soft=turn.soft), Piece(text=frame.after_record, is_frame=True), Piece(text=turn.asked)]
        pieces += [Piece(text=frame.after_question, is_frame=True), Piece(text=turn.answer), Piece(text=frame.after_answer, is_frame=True)]
    return [*pieces, Piece(soft=soft), Piece(text=frame.after_record, is_frame=True)]


class Constant:
    """Another space: two numbers of each patient."""

    identity = "two-numbers@1"

    def embed(self, encoded: Sequence[Mapping[str, Encoded]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        made = np.array([[1.0, float(one["notes"].mask.sum()) if "notes" in one else 0.0] for one in encoded], np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_any_embedding_can_take_the_place_of_the_models_own(model: SalusModel, index: CaseIndex, tmp_path: Path) -> None:
    other: Embedder = Constant()
    made = tiny_cases(model, 8, embedder=other)
    assert made.embeddings.shape == (8, 2) and made.origin.embedder == "two-numbers@1"
    opened = open_record(patient(100), model)
    answer = ask_with_cases(opened, QUESTION, OPTIONS, cases=made, embedder=other, choice=Choice(2))
    assert answer.limits[-1].startswith("2 of 2 similar cases")
    with pytest.raises(ModelError, match=r"Cannot show cases: they were made with embedding 'two-numbers@1', this model has 'parts@"):
        ask_with_cases(opened, QUESTION, OPTIONS, cases=made)
    joined = FusedEmbedder(model, joined=True)
    assert joined.identity.startswith("pooled@") and joined.embed([]).shape == (0, 0)
    index.save(tmp_path / "one.cases")
    with pytest.raises(ModelError, match="made with embedding 'parts@"):
        load_cases(tmp_path / "one.cases", embedder=joined.identity, encoders=encoders_hash(model))
    again = load_cases(tmp_path / "one.cases", embedder=FusedEmbedder(model).identity, encoders=encoders_hash(model))
    twice = [still(ask_with_cases(opened, QUESTION, OPTIONS, cases=each)) for each in (index, again)]
    assert twice[0] == twice[1]


def test_a_shared_space_is_the_mean_of_the_modalities_that_are_there(model: SalusModel) -> None:
    """By hand: (3, 4) / 5 and (1, 0) give (8, 4) / norm; a modality without a token that counts is NaN, and left out."""
    told = {"vitals_labs": [0.6, 0.8], "notes": [1.0, 0.0]}

    def embed(name: str, tokens: Tokens) -> Any:
        made = np.full((len(tokens.mask), 2), np.nan, np.float32)
        made[tokens.mask.any(1)] = told[name]
        return made

    space = SharedSpaceEmbedder(embed, identity="aligned@1", modalities=("vitals_labs", "notes", "ct_mr_slice"))
    both, one = (encoded_record(model, model.prepare(patient(1, without=left), frozenset(MODALITIES))) for left in ((), ("notes",)))
    blank = {"notes": replace(both["notes"], mask=torch.zeros_like(both["notes"].mask))}
    expected = np.array([[0.8944272, 0.4472136], [0.6, 0.8], [0, 0], [0, 0]])
    assert np.allclose(space.embed([both, one, {}, blank]), expected, atol=1e-6)
    assert not space.embed([{}]).any()
    assert tiny_cases(model, 8, embedder=space).embeddings.shape == (8, 2)


def test_cases_are_found_in_an_aligned_space(model: SalusModel, tmp_path: Path) -> None:
    """From fitting to the answer: an aligner of this model's encoders, saved and loaded, says who is alike; never the patient."""
    encoded = [encoded_record(model, model.prepare(one.record(), frozenset(MODALITIES))) for one in examples(0, 24)]
    sets = {}
    for name in MODALITIES:
        parts = [[getattr(one[name], part).numpy() for one in encoded] for part in ("values", "mask", "time_s")]
        sets[name] = Tokens(*(np.concatenate(each) for each in parts))
    patients = tuple(one.subject_id for one in examples(0, 24))
    rows = PairSets(TokenSets(sets, np.full(24, -1, np.int64), patients), dict.fromkeys(MODALITIES, patients), {})
    config = AlignerConfig({name: one.values.shape[2] for name, one in sets.items()}, sphere=4, components=4)
    made = fit_aligner(rows, [MODALITIES], config, loss=AlignLoss(), budget=AlignBudget(steps=5), seed=0)
    save_aligner(made.aligner, tmp_path)
    weights = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()[:12]
    space = SharedSpaceEmbedder(load_aligner(tmp_path).embed, identity=f"aligned@{weights}", modalities=MODALITIES)
    index = tiny_cases(model, 24, embedder=space)
    assert index.embeddings.shape == (24, 4) and index.origin.embedder == f"aligned@{weights}"
    query = space.embed(encoded[3:4])[0]
    found = index.nearest(query, Wanted(QUESTION, OPTIONS, 5, person_keys(patient(3))))
    products = index.embeddings.astype(np.float64) @ query.astype(np.float64)
    wanted = [place for place in np.argsort(-products) if place != 3][:5]
    assert [one.place for one in found] == wanted and int(np.argmax(products)) == 3
    answer = ask_with_cases(open_record(patient(3), model), QUESTION, OPTIONS, cases=index, embedder=space, choice=Choice(4))
    assert answer.limits[-1].startswith("4 of 4 similar cases")
    with pytest.raises(ModelError, match=rf"made with embedding 'aligned@{weights}', this model has 'parts@"):
        ask_with_cases(open_record(patient(3), model), QUESTION, OPTIONS, cases=index)


def test_an_index_of_another_models_weights_is_refused(model: SalusModel, index: CaseIndex, tiny_backbone: Path) -> None:
    other = tiny_model(tiny_backbone, seed=1)
    assert tensors_hash(other, "encoders.") != tensors_hash(model, "encoders.")
    with pytest.raises(ModelError, match=r"Cannot show cases: they were made with embedding 'parts@\w+', this model has 'parts@\w+'\."):
        ask_with_cases(open_record(patient(100), other), QUESTION, OPTIONS, cases=index)


def test_unit_norms_and_patients_with_nothing_to_compare(model: SalusModel, index: CaseIndex) -> None:
    embedder = FusedEmbedder(model)
    assert np.allclose(np.linalg.norm(index.embeddings, axis=1), 1)
    assert not embedder.embed([{}]).any()
    answer = ask_with_cases(open_record(patient(100, without=MODALITIES), model), QUESTION, OPTIONS, cases=index)
    assert "0 of 4 similar cases" in answer.limits[-1] and "; this record has nothing that could be compared with them" in answer.limits[-1]
    empty = [Example("made-up/x", "x", lambda: patient(0, without=MODALITIES), QUESTION, OPTIONS, "yes")]
    with pytest.raises(ConfigError, match="Cannot make cases of 'made-up': no example has options and a modality that this model reads"):
        build_cases(model, TASK, empty, embedder, progress=lambda words, share: None)


def test_cases_are_for_questions_with_options_that_they_have(model: SalusModel, index: CaseIndex) -> None:
    opened = open_record(patient(100), model)
    with pytest.raises(ConfigError, match="Cannot show cases: that is for a question with options"):
        ask_with_cases(opened, QUESTION, (), cases=index)
    with pytest.raises(ConfigError, match=r"Cannot show cases: none has the options 'left,right'\. This index has: yes,no\."):
        ask_with_cases(opened, "Which side?", ("left", "right"), cases=index)


def test_a_template_without_earlier_turns_is_refused(tiny_backbone: Path) -> None:
    model = tiny_model(tiny_backbone)
    index = tiny_cases(model)
    model.frame = replace(model.frame, after_answer="")
    with pytest.raises(ConfigError, match="the chat template of this language model takes no earlier turns"):
        ask_with_cases(open_record(patient(100), model), QUESTION, OPTIONS, cases=index)


def test_layers_that_read_the_patient_take_no_cases(tiny_backbone: Path) -> None:
    model = tiny_model(tiny_backbone, into="cross_attention")
    index = tiny_cases(model)
    with pytest.raises(ConfigError, match="Cannot show solved cases: this model's tokens go in by cross-attention layers"):
        ask_with_cases(open_record(patient(40), model), QUESTION, OPTIONS, cases=index, choice=Choice(2))
    example = make_example(model, {}, QUESTION, "no", OPTIONS)
    with pytest.raises(ConfigError, match="Cannot show solved cases"):
        answer_logits(model, [replace(example, shots=(make_shot(model, {}, QUESTION, OPTIONS, "no"),))])
