"""Parts of training: the plan of batches, the learning rate, teachers that never see their row, encoders that learn the same twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.reason.patient_of_items import course
from tests.tiny_model import ENCODERS, patient

from salus.batch import LanguageExample
from salus.encode.encoder import Encoded, Prepared
from salus.model import build_encoder, prepare_modality
from salus.task import Example
from salus.train.encoder_stage import OptionHeads, fit_normaliser, head_probabilities, pretrain, supervise
from salus.train.examples import MIXED_SHARE, Draw, beside_cases, drawn_evenly, mixture, softened
from salus.train.language_stage import plan, rate
from salus.train.recipe import EncoderRecipe, LanguageRecipe

POOLS = {
    "rare": [LanguageExample({}, (0,) * (5 + place % 7), (1, 2), (3, 4), int(place < 5)) for place in range(100)],
    "open": [LanguageExample({}, (0,) * (30 + place), (1, 2)) for place in range(20)],
}
POOL_VECTORS = Encoded(torch.zeros(1, 3, 4), torch.tensor([[True, True, False]]), torch.zeros(1, 3))
RECIPE = LanguageRecipe(steps=100, lr=1.0, tasks={"rare": 0.75, "open": 0.25}, batch_size=8, batch_tokens=700)


def test_the_plan_is_fixed_by_the_seed() -> None:
    assert plan(POOLS, RECIPE, 3) == plan(POOLS, RECIPE, 3) != plan(POOLS, RECIPE, 4)


def test_the_plan_keeps_shares_answers_and_limits() -> None:
    batches = plan(POOLS, RECIPE, 0)
    drawn = [one for batch in batches for one in batch]
    assert len(drawn) == RECIPE.steps * RECIPE.batch_size
    assert Counter(name for name, _ in drawn)["rare"] / len(drawn) == pytest.approx(0.75, abs=0.06)
    answers = Counter(POOLS["rare"][place].right for name, place in drawn if name == "rare")
    assert answers[1] / answers.total() == pytest.approx(0.5, abs=0.06), "5 of 100 examples are the rare answer"
    uses = Counter(place for name, place in drawn if name == "rare" and place >= 5)
    assert max(uses.values()) - min(uses.get(place, 0) for place in range(5, 100)) <= 1, "a deck is dealt out before it is shuffled again"
    for batch in batches:
        longest = max(POOLS[name][place].tokens for name, place in batch) + 60
        assert len(batch) <= RECIPE.batch_size and (len(batch) == 1 or longest * len(batch) <= RECIPE.batch_tokens)


def test_with_a_teacher_the_answers_keep_their_natural_shares() -> None:
    taught = {**POOLS, "rare": [replace(one, target=(0.9, 0.1)) for one in POOLS["rare"]]}
    answers = Counter(taught["rare"][place].right for batch in plan(taught, RECIPE, 0) for name, place in batch if name == "rare")
    assert answers[1] / answers.total() == pytest.approx(0.05, abs=0.02)


def test_a_teacher_softens_the_right_option() -> None:
    """By hand: heads of zero weight give softmax(0, log 3) = (0.25, 0.75); half of that and half of the answer is (0.625, 0.375)."""
    heads = OptionHeads(4, 0, 2)
    with torch.no_grad():
        heads.heads[0].weight.zero_()
        heads.heads[0].bias.copy_(torch.tensor([0.0, np.log(3.0)]))
    encoded = {"notes": Encoded(torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2))}
    example = LanguageExample(encoded, (5,), (3, 0), (3, 4), 0)
    draw = Draw(1, 0, frozenset(), {"notes": heads}, 0.5)
    assert softened(example, draw).target == pytest.approx((0.625, 0.375))
    assert softened(replace(example, encoded={}), draw).target == (), "a record without the modality has no teacher"
    assert softened(example, replace(draw, teacher_weight=0.0)).target == ()


def test_a_mixture_lies_between_two_patients_and_is_answered_by_the_teacher() -> None:
    torch.manual_seed(0)
    heads = OptionHeads(4, 0, 2)
    ones, zeros = torch.ones(1, 2, 4), torch.zeros(1, 2, 4)
    half = torch.tensor([[True, False]])
    encoded = {"notes": Encoded(zeros, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2))}
    one = LanguageExample(encoded, (5,), (3, 0), (3, 4), 0, (1.0, 0.0))
    other = replace(one, encoded={"notes": Encoded(ones, half, torch.ones(1, 2))})
    draw = Draw(1, 0, frozenset(), {"notes": heads}, 0.9)
    moved = [mixture((one, other), draw, random.Random(seed)) for seed in range(200)]
    shares = [float(mixed.encoded["notes"].values[0, 0, 0]) for mixed in moved]
    assert -MIXED_SHARE <= min(shares) < -0.4 and 0.4 < max(shares) <= MIXED_SHARE
    for mixed in moved[:5]:
        found = mixed.encoded["notes"]
        assert torch.equal(found.mask, half) and torch.equal(found.time_s, one.encoded["notes"].time_s)
        assert mixed.target == pytest.approx(heads(found.values, half).mean(0)[0].softmax(-1).tolist()), "the teacher's word alone"


@pytest.mark.parametrize(("keeps_shares", "expected"), [(False, {"yes": 4, "no": 4, "maybe": 2}), (True, None)])
def test_answers_are_drawn_evenly_within_one_pair_of_options(keeps_shares: bool, expected: dict[str, int] | None) -> None:
    """Of 100 questions 80 ask yes or no (8 yes) and 20 ask of three; ten are drawn."""
    asked = [Example(str(n), str(n), course, "?", ("yes", "no"), "yes" if n < 8 else "no") for n in range(80)]
    asked += [Example(str(n), str(n), course, "?", ("yes", "no", "maybe"), "maybe") for n in range(80, 100)]
    drawn = drawn_evenly(asked, 10, random.Random(0), keeps_shares=keeps_shares)
    counts = Counter(example.answer for example in drawn)
    assert len(drawn) == 10 and (counts == expected if expected else counts["yes"] <= 3)


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    recipe = LanguageRecipe(steps=100, lr=2.0, tasks={}, warmup_share=0.1)
    rates = [rate(step, 100, recipe) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert max(rates) == 2.0 and rates[-1] == pytest.approx(0.2)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
    assert rate(0, 1, recipe) == 2.0


def prepared_patients(count: int) -> tuple[Any, list[Prepared], np.ndarray]:
    torch.manual_seed(0)
    encoder = build_encoder("vitals_labs", ENCODERS["vitals_labs"])
    made = [prepare_modality(encoder, "vitals_labs", patient(number)) for number in range(count)]
    highest = [max(one.number or 0 for one in patient(number).items if one.code.code == "Creatinine") for number in range(count)]
    prepared = [one for one in made if one is not None]
    fit_normaliser(encoder, prepared)
    return encoder, prepared, (np.array(highest) > 3).astype(np.int64)


def test_the_same_seed_trains_the_same_encoder() -> None:
    recipe = EncoderRecipe(pretext_epochs=2, epochs=3, batch_size=16)
    states = []
    for seed in (0, 0, 1):
        encoder, prepared, answers = prepared_patients(48)
        pretrain(encoder, prepared, recipe, seed=seed, progress=lambda words, share: None)
        supervise(encoder, prepared, answers, recipe, seed=seed, progress=lambda words, share: None)
        states.append(encoder.state_dict())
        assert not encoder.training
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_an_encoder_learns_what_decides_the_answer() -> None:
    from salus.metrics import auroc

    encoder, prepared, answers = prepared_patients(160)
    recipe = EncoderRecipe(epochs=25, batch_size=16, lr=3e-3)
    heads = supervise(encoder, prepared[:120], answers[:120], recipe, seed=0, progress=lambda words, share: None)
    found = head_probabilities(encoder, heads, prepared[120:])
    assert found.shape == (40, 2) and np.allclose(found.sum(1), 1)
    assert auroc(answers[120:].astype(float), found[:, 1]) > 0.8


def test_heads_read_each_pooled_token_or_the_mean_of_those_that_are_there() -> None:
    values, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [False, False, False]])
    pooled, mean = OptionHeads(4, 3, 2), OptionHeads(4, 0, 2)
    assert torch.allclose(pooled(values, mask)[1], pooled.heads[1](values[:, 1]))
    assert mean(values, mask).shape == (1, 2, 2)
    assert torch.allclose(mean(values, mask)[0, 0], mean.heads[0](values[0, :2].mean(0)), atol=1e-6)
    assert torch.allclose(mean(values, mask)[0, 1], mean.heads[0].bias)


def test_solved_cases_before_a_question_are_of_other_patients_with_the_same_options() -> None:
    """0 to 3 of them, at random by the seed; each as `make_shot` writes it."""
    frame = SimpleNamespace(after_record="\n", after_question="|", after_answer="#")
    model: Any = SimpleNamespace(frame=frame, backbone=SimpleNamespace(ids=lambda text, is_frame=False: [ord(letter) for letter in text]))
    solved = []
    for place in range(40):
        options = ("yes", "no") if place % 4 else ("left", "right")
        example = Example(f"e{place}", f"patient-{place // 2}", lambda: patient(0), "Q?", options, options[place % 2])
        solved.append((example, LanguageExample({f"mark-{place}": POOL_VECTORS}, (9,), (1, 2))))
    made = beside_cases(model, solved, 3, random_source=random.Random(0))
    assert {len(one.shots) for one in made} == {0, 1, 2, 3} and [replace(one, shots=()) for one in made] == [one for _, one in solved]
    for (example, _), one in zip(solved, made, strict=True):
        for shot in one.shots:
            other, _ = solved[int(next(iter(shot.encoded)).removeprefix("mark-"))]
            assert other.subject_id != example.subject_id and other.options == example.options
            text = f"\nQuestion: Q?\nOptions: {', '.join(other.options)}|{other.answer}#"
            assert "".join(map(chr, shot.asked)) == text and shot.tokens == len(text) + 1 + 2
    again, other = (beside_cases(model, solved, 3, random_source=random.Random(seed)) for seed in (0, 1))
    assert made == again != other
