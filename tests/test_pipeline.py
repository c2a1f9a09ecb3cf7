"""Laws of the pipeline on a model with random weights: what is not there, hidden, or later than the prediction time changes nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salus import pipeline, registry
from salus.batch import OptionQuestion, answer_logits, encoded_record, fused_batch, make_example, option_logprobs, option_prompt
from salus.errors import ContextLengthError
from salus.fuse.fuser import item_ids
from salus.generate.answer import Statement
from salus.model import OptionCalibration, SalusModel, StatementCalibration
from salus.pipeline import ask, calibration_for, facts_for, open_record, option_probabilities, with_confidence
from salus.reason.backbone import Line
from salus.record.patient import Code, Content, Offset, PatientRecord
from salus.record.read.folder import one_patient, read_path
from salus.record.timeline import cut
from salus.train.language_stage import batch_loss
from tests.tiny_model import ENCODERS, IDENTITY, OPTIONS, QUESTION, SERIES, item, patient, tiny_model

AT = Offset(24 * 3600, "admission")
ABOUT = "How high did the creatinine get?"


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights seldom end an answer."""
    monkeypatch.setattr(pipeline, "MOST_TOKENS", 60)


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> SalusModel:
    return tiny_model(tiny_backbone)


def soft(model: SalusModel, record: PatientRecord, modalities: frozenset[str] | None = None) -> torch.Tensor:
    """Return the soft tokens that the language model sees."""
    with torch.inference_mode():
        fused = model.fuse([model.prepare(record, modalities)])
    return fused.tokens[0][fused.mask[0]]


def comparable(answer: pipeline.Answer) -> pipeline.Answer:
    return replace(answer, seconds={})


@pytest.mark.parametrize("left_out", [("notes",), ("ehr",), ("notes", "ehr")])
def test_dropping_a_modality_is_masking_it(model: SalusModel, left_out: tuple[str, ...]) -> None:
    for number in range(4):
        whole = soft(model, patient(number), frozenset(ENCODERS) - set(left_out))
        assert torch.allclose(soft(model, patient(number, without=left_out)), whole, atol=1e-6)


def test_a_missing_modality_is_told(model: SalusModel) -> None:
    assert len(soft(model, patient(0))) > len(soft(model, patient(0, without=("notes",))))
    opened = open_record(patient(0, without=("notes",)), model)
    assert opened.present == {"vitals_labs", "ehr"}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 500), seed=st.integers(0, 500))
def test_the_order_of_items_changes_nothing(model: SalusModel, number: int, seed: int) -> None:
    record = patient(number)
    items = list(record.items)
    random.Random(seed).shuffle(items)
    shuffled = replace(record, items=tuple(items))
    assert torch.equal(soft(model, record), soft(model, shuffled))
    assert {name: one.item_ids for name, one in model.prepare(record).items()} == {
        name: one.item_ids for name, one in model.prepare(shuffled).items()
    }
    assert facts_for(record, ABOUT) == facts_for(shuffled, ABOUT)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.integers(0, 500),
    later=st.lists(
        st.tuples(st.sampled_from(["HR", "Creatinine", "K", "note", "condition"]), st.floats(24.1, 90), st.floats(1, 200)), max_size=6
    ),
)
def test_nothing_later_than_the_prediction_time_reaches_the_model(
    model: SalusModel, number: int, later: list[tuple[str, float, float]]
) -> None:
    record = patient(number)
    added = []
    for place, (kind, hour, value) in enumerate(later):
        if kind in SERIES:
            display, unit, *_ = SERIES[kind]
            code = Code("physionet2012", kind, display)
            added.append(item("later", f"{place}", "vitals_labs", code, hour, value=value, unit=unit))
        elif kind == "note":
            text = Content("text", lambda: "Creatinine 9.9. The patient died.", "text")
            added.append(
                item("later", f"{place}", "notes", Code("http://loinc.org", "34109-9", "note"), hour, content=text, category="note")
            )
        else:
            code = Code("http://snomed.info/sct", "419620001", "Death")
            added.append(item("later", f"{place}", "ehr", code, hour, status="active", category="condition"))
    more = cut(replace(record, items=(*record.items, *added)), AT).record
    before = cut(record, AT).record
    assert torch.equal(soft(model, before), soft(model, more))
    for question in ("What changed, what matters?", ABOUT, QUESTION):
        assert facts_for(before, question) == facts_for(more, question)
        assert pipeline.option_facts(before, question) == pipeline.option_facts(more, question)


def test_opening_cuts_at_the_prediction_time_and_says_so(model: SalusModel) -> None:
    late = item("late", "1", "vitals_labs", Code("physionet2012", "Creatinine", "creatinine"), 30.0, value=9.9, unit="mg/dL")
    record = patient(1)
    opened = [open_record(replace(record, items=(*record.items, *more)), model, at=AT) for more in ((), (late,))]
    answers = [ask(one, ABOUT) for one in opened]
    assert answers[0].statements == answers[1].statements and "9.9" not in str(answers[1])
    dropped = cut(record, AT).dropped_after
    assert opened[1].limits[0] == f"Cut at 24 h after admission: {dropped + 1} later and 0 undated items were not used."
    assert answers[1].prediction_time == "24 h after admission"


def test_one_session_answers_any_number_of_questions(model: SalusModel) -> None:
    opened = open_record(patient(5), model)
    first = ask(opened, ABOUT)
    options = ask(opened, QUESTION, OPTIONS)
    ask(opened, "What changed, what matters?")
    assert comparable(ask(opened, ABOUT)) == comparable(first)
    again = ask(opened, QUESTION, OPTIONS)
    assert [one.probability for one in again.options] == pytest.approx([one.probability for one in options.options], abs=1e-6)
    fresh = ask(open_record(patient(5), model), ABOUT)
    assert comparable(fresh) == comparable(first)


def test_statements_stream_as_they_are_verified(model: SalusModel) -> None:
    streamed: list[Statement] = []
    answer = ask(open_record(patient(2), model), ABOUT, on_statement=streamed.append)
    assert tuple(streamed) == answer.statements


def test_every_statement_rests_on_items_of_the_record(model: SalusModel) -> None:
    record = patient(2)
    for question in (ABOUT, "What changed, what matters?"):
        for statement in ask(open_record(record, model), question).statements:
            assert set(statement.item_ids) <= set(record.by_id())


def test_an_overview_states_every_fact_though_the_model_left_it_out(model: SalusModel) -> None:
    """The facts of an overview are chosen by rule: what the model does not write is added in code's words, and marked."""
    question = "What changed, what matters?"
    record = patient(3)
    answer = ask(open_record(record, model), question)
    facts = facts_for(record, question).facts
    assert len(facts) > 3
    assert all(any(fact.text in one.support for one in answer.statements if one.is_standing) for fact in facts)
    added = [one for one in answer.statements if one.verification == "added"]
    assert added and all(one.text == one.support and one.confidence is None for one in added)


def test_an_answer_of_which_nothing_stands_says_why(model: SalusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_record(patient(0), model)
    monkeypatch.setattr(pipeline, "verify", lambda line, facts, **rules: Statement("withheld", (), None, "withheld"))
    assert ask(opened, ABOUT).abstained == pipeline.WITHHELD_ALL
    assert ask(open_record(PatientRecord("nobody", ()), model), "Why?").abstained == pipeline.NOTHING_FOUND


def test_a_sentence_said_again_under_another_number_ends_an_overview(model: SalusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, question = open_record(patient(3), model), "What changed, what matters?"
    first, second = facts_for(opened.record, question).facts[:2]
    drafted = [Line(f"{first.text} [1]", -0.1, 9), Line(f"{first.text} [2]", -0.1, 9), Line(f"{second.text} [2]", -0.1, 9)]
    monkeypatch.setattr(opened.sessions["write"], "write", lambda *_, **__: iter(drafted))
    statements = ask(opened, question).statements
    assert [one.verification for one in statements[:2]] == ["verified", "added"]
    assert not any(one.verification == "withheld" for one in statements)


def test_each_thing_that_was_asked_for_is_answered(model: SalusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, question = open_record(patient(3), model), "What is the highest and lowest creatinine?"
    highest, lowest = facts_for(opened.record, question).owed
    drafted = [Line(f"{lowest.short} [2]", -0.1, 9)]
    monkeypatch.setattr(opened.sessions["write"], "write", lambda *_, **__: iter(drafted))
    statements = ask(opened, question).statements
    assert [(one.verification, one.support) for one in statements] == [("verified", lowest.text), ("added", highest.text)]
    assert statements[1].confidence is None


def test_options_rest_on_the_items_that_the_model_saw(model: SalusModel) -> None:
    record = patient(6)
    opened = open_record(record, model)
    answer = ask(opened, QUESTION, OPTIONS)
    used = {one.id for one in record.items if one.modality == "vitals_labs"}
    assert used <= set(answer.option_item_ids) <= set(record.by_id())
    assert sum(one.probability for one in answer.options) == pytest.approx(1.0) and answer.abstained is None
    assert len(opened.soft_item_ids) == len(soft(model, record))


def test_a_session_and_a_batch_score_options_alike(model: SalusModel) -> None:
    """Also: the order of patients, and how many are in a batch, change no score."""
    records = [patient(number, without=("notes",) if number % 2 else ()) for number in range(6)]
    options = ("yes", "no", "not before the morning")
    for chosen in (options, ("yes", "no")):
        questions = [
            OptionQuestion(encoded_record(model, model.prepare(record)), option_prompt(record, QUESTION, chosen), chosen)
            for record in records
        ]
        together = option_logprobs(model, questions, batch_size=8)
        alone = [option_logprobs(model, [one])[0] for one in questions]
        backwards = option_logprobs(model, questions[::-1], batch_size=3)[::-1]
        for row, record in enumerate(records):
            opened = open_record(record, model)
            facts = pipeline.option_facts(record, QUESTION)
            judge, _ = pipeline._judge(opened, opened.present)
            session = judge.option_logprobs(pipeline.prompt.question(model.frame, QUESTION, facts, chosen), chosen)
            assert together[row] == pytest.approx(session, abs=2e-4)
            assert together[row] == pytest.approx(alone[row], abs=2e-4)
            assert together[row] == pytest.approx(backwards[row], abs=2e-4)


def test_a_question_that_was_not_evaluated_gets_no_answer(model: SalusModel) -> None:
    answer = ask(open_record(patient(0), model), "Is the moon full?", OPTIONS)
    assert answer.abstained == "No evaluation of this question has passed: the probabilities are uncalibrated and are not an answer."
    assert not any(one.is_calibrated for one in answer.options)


def test_a_record_without_the_evidence_gets_no_answer(model: SalusModel) -> None:
    answer = ask(open_record(patient(0, without=("vitals_labs",)), model), QUESTION, OPTIONS)
    assert answer.options == () and answer.abstained == "This record has no vitals and labs that could be interpreted."


def test_a_modality_that_did_not_pass_is_not_interpreted(tiny_backbone: Path) -> None:
    model = tiny_model(tiny_backbone)
    model.config = replace(model.config, evaluations={})
    opened = open_record(patient(0), model)
    assert opened.present == frozenset() and opened.soft_item_ids == ((), (), ())
    assert "Vitals and labs: shown and measured by rule, not interpreted (no passing evaluation of this modality)." in opened.limits
    answer = ask(opened, QUESTION, OPTIONS)
    assert answer.abstained == "No evaluation of this question has passed: the probabilities are uncalibrated and are not an answer."
    assert not any(one.is_calibrated for one in answer.options)
    assert ask(opened, ABOUT).disclosure.text.startswith(f"Written by a machine: Salus model tiny 0 with {IDENTITY}.")


def test_a_file_of_no_declared_modality_says_how_to_declare_it(model: SalusModel, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "rec.wav", np.sin(np.arange(8000) / 20), 2000)
    limits = open_record(one_patient(read_path(tmp_path)), model).limits
    assert limits == (pipeline.UNDECLARED,)
    assert "salus-cohort.yaml" in pipeline.UNDECLARED


def test_an_empty_record_is_no_evidence(model: SalusModel) -> None:
    answer = ask(open_record(PatientRecord("nobody", ()), model), ABOUT)
    assert not any(statement.verification in {"verified", "mended"} and statement.item_ids for statement in answer.statements)


def test_too_long_a_question_leaves_the_record_open(model: SalusModel) -> None:
    opened = open_record(patient(0), model)
    with pytest.raises(ContextLengthError, match="Cannot ask: record, question and answer take"):
        ask(opened, ABOUT + " 1" * 4000)
    assert comparable(ask(opened, ABOUT)) == comparable(ask(open_record(patient(0), model), ABOUT))


def test_calibration_is_for_these_words_and_options(model: SalusModel) -> None:
    assert calibration_for(model, " will this  patient DIE in hospital? ", ("no", "yes")) == model.config.option_calibrations[0]
    assert calibration_for(model, QUESTION, ("yes", "no", "perhaps")) is None


def test_probabilities_by_hand() -> None:
    """Platt: 1 / (1 + exp(-(1.5 x 2 - 0.2))) = 0.942676; softmax of (0, ln 3) = (0.25, 0.75)."""
    calibration = OptionCalibration("t", QUESTION, OPTIONS, "yes", ("vitals_labs",), 1.5, -0.2, 9)
    assert option_probabilities([-1.0, -3.0], OPTIONS, calibration) == pytest.approx([0.942676, 0.057324], abs=1e-6)
    assert option_probabilities([-3.0, -1.0], ("no", "yes"), calibration) == pytest.approx([0.057324, 0.942676], abs=1e-6)
    assert option_probabilities([0.0, 1.0986123], OPTIONS, None) == pytest.approx([0.25, 0.75])


def test_confidence_below_the_threshold_withholds() -> None:
    """By hand: 1 / (1 + exp(-(1 + 2 x -0.5))) = 0.5; mended, 1 / (1 + exp(3)) = 0.047426; a certainty of 0.2 adds log(0.25)."""
    calibration = StatementCalibration(1.0, 2.0, -3.0, 1.0, 0.4, 100)
    sure = with_confidence(Statement("x", ("a",), None, "verified", mean_logprob=-0.5, certainty=0.5), calibration)
    assert (sure.confidence, sure.verification) == (pytest.approx(0.5), "verified")
    unsure = with_confidence(Statement("x", ("a",), None, "mended", mean_logprob=-0.5, certainty=0.5), calibration)
    assert (unsure.confidence, unsure.verification) == (pytest.approx(0.047426, abs=1e-6), "withheld")
    vague = with_confidence(Statement("x", ("a",), None, "verified", mean_logprob=-0.5, certainty=0.2), calibration)
    assert (vague.confidence, vague.verification) == (pytest.approx(0.2), "withheld")
    assert with_confidence(Statement("x", (), None, "not_a_claim"), calibration).confidence is None


def test_soft_tokens_know_their_items(model: SalusModel) -> None:
    prepared = model.prepare(patient(3))
    fused = model.fuse([prepared])
    behind = item_ids(fused, 0, {name: one.item_ids for name, one in prepared.items()})
    kept = [place for place, keep in zip(fused.position, fused.mask[0].tolist(), strict=True) if keep]
    assert [bool(ids) for ids in behind] == [place >= 0 for place in kept]


@pytest.mark.parametrize("strategy", registry.names("salus.fusers"))
def test_every_strategy_of_fusion_feeds_the_language_model(tiny_backbone: Path, strategy: str) -> None:
    model = tiny_model(tiny_backbone, strategy=strategy)
    whole, part = patient(3), patient(3, without=("notes",))
    answers = [ask(open_record(record, model), QUESTION, OPTIONS) for record in (whole, part)]
    assert sum(score.probability for score in answers[0].options) == pytest.approx(1) and len(answers[0].option_item_ids) > 3
    assert not set(answers[1].option_item_ids) & {one.id for one in whole.items if one.modality == "notes"}
    example = make_example(model, encoded_record(model, model.prepare(whole)), option_prompt(whole, QUESTION, OPTIONS), "yes", OPTIONS)
    model.fuser.train()
    model.fuser.requires_grad_(True)
    answer_logits(model, [example])[0].sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.fuser.parameters()), "it can be trained"


def test_what_a_strategy_adds_to_the_loss_counts_while_it_is_trained(tiny_backbone: Path) -> None:
    model = tiny_model(tiny_backbone, strategy="experts")
    model.fuser.config = replace(model.fuser.config, dropout=0.0, modality_dropout=0.0)  # type: ignore[arg-type, type-var]
    for part in model.fuser.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    record = patient(3)
    batch = [make_example(model, encoded_record(model, model.prepare(record)), option_prompt(record, QUESTION, OPTIONS), "yes", OPTIONS)]
    with torch.no_grad():
        added = fused_batch(model, batch).loss
        still = batch_loss(model, batch)
        model.fuser.train()
        assert added is not None and float(added) > 0
        assert float(batch_loss(model, batch) - still) == pytest.approx(float(added), rel=1e-3)


def test_biases_of_many_options_go_by_name() -> None:
    fitted = OptionCalibration("sites", "Which?", ("donor", "acceptor", "neither"), "", ("dna",), 2.0, 0.0, 30, (0.0, 1.0, -1.0))
    one = option_probabilities([-1.0, -2.0, -3.0], ("donor", "acceptor", "neither"), fitted)
    other = option_probabilities([-3.0, -2.0, -1.0], ("neither", "acceptor", "donor"), fitted)
    assert one == pytest.approx(other[::-1]) and sum(one) == pytest.approx(1.0)
    assert one[1] / one[0] == pytest.approx(np.exp(2.0 * -1.0 + 1.0))
