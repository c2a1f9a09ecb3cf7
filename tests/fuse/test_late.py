"""Late fusion's stacking: slopes calibrate, weights go to who tells most, held out or out of fold."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from salus.fuse import fit as fit_module
from salus.fuse.fit import Budget, fit, fit_members
from salus.fuse.fuser import Fused
from salus.fuse.late import LateHead
from salus.fuse.parts import shares
from salus.fuse.token_sets import Tokens, TokenSets
from salus.metrics import calibration_error

N = 3000


def head() -> LateHead:
    """Return a head of three modalities whose logits are (0, x), too sure by a factor of 3."""
    made = LateHead(3, 1, 2)
    made.norms = nn.ModuleList(nn.Identity() for _ in range(3))
    with torch.no_grad():
        for one in made.heads:
            cast(nn.Linear, one).weight.copy_(torch.tensor([[0.0], [3.0]]))
            cast(nn.Linear, one).bias.zero_()
    return made


def patients(seed: int) -> tuple[Fused, Tensor]:
    """Return patients whose answer follows the logit of the first modality; the second says it with noise, the third says nothing."""
    source = torch.Generator().manual_seed(seed)
    logit = 1.5 * torch.randn(N, generator=source)
    target = (torch.rand(N, generator=source) < logit.sigmoid()).long()
    noise = torch.randn(N, 2, generator=source)
    parts = torch.stack([logit, 0.5 * logit + noise[:, 0], 1.5 * noise[:, 1]], 1)[..., None]
    here = torch.rand(N, 3, generator=source) > 0.1
    nothing = torch.zeros(N, 0, 1)
    return Fused(nothing, torch.zeros(N, 0, dtype=torch.bool), (), (), parts.flatten(1), parts * here[..., None], shares(here)), target


def test_the_joined_answer_is_the_formula_written_out() -> None:
    made, (fused, _) = head(), patients(0)
    made.log_slopes.copy_(torch.tensor([0.1, -0.5, 0.3]))
    made.scores.copy_(torch.tensor([1.0, 0.0, -1.0]))
    found = made(fused).exp()
    slopes, scores = made.log_slopes.exp(), made.scores.exp()
    for row in range(20):
        there = [at for at in range(3) if fused.weights[row, at] > 0]
        expected = 0.5
        if there:
            each = [torch.sigmoid(slopes[at] * 3 * fused.parts[row, at, 0]) for at in there]
            expected = float(sum(scores[at] * one for at, one in zip(there, each, strict=True)) / sum(scores[at] for at in there))
        assert abs(float(found[row, 1]) - expected) < 1e-5


def test_stacking_weighs_who_tells_and_mends_who_is_too_sure() -> None:
    made, (held, target), (fresh, answers) = head(), patients(1), patients(2)
    truth = answers.numpy().astype(float)

    def measured() -> tuple[float, float]:
        logprobs = made(fresh).detach()
        return float(functional.nll_loss(logprobs, answers)), calibration_error(truth, logprobs.exp()[:, 1].double().numpy())

    before = measured()
    weights = [one.detach().clone() for one in made.heads.parameters()]
    made.stack(made.each(held).detach(), held.weights > 0, target)
    after = measured()
    slopes, share = made.log_slopes.exp(), made.scores.softmax(0)
    assert share[0] > share[1] > share[2] and share[0] > 0.6
    assert 0.2 < float(slopes[0]) < 0.6, "a third of what it was, and somewhat more because others are averaged in"
    assert torch.allclose(made.weights(fresh).sum(1), (fresh.weights > 0).any(1).float())
    everybody = (fresh.weights > 0).all(1)
    assert torch.allclose(made.weights(fresh)[everybody], share.expand(int(everybody.sum()), -1)), "what an explanation may read"
    assert after[0] < before[0] - 0.05 and after[1] < before[1] and after[1] < 0.04
    assert all(torch.equal(one, other) for one, other in zip(weights, made.heads.parameters(), strict=True)), "heads stay as they were"
    assert not any(one.requires_grad for one in (made.log_slopes, made.scores))


def sets(seed: int) -> TokenSets:
    source = np.random.default_rng(seed)
    answers = source.integers(0, 2, 200)
    told = {"tells": answers[:, None] + 0.7 * source.normal(size=(200, 1)), "noise": source.normal(size=(200, 1))}
    mask = np.ones((200, 1), bool)
    made = {name: Tokens(one[:, None].astype(np.float32), mask, np.full((200, 1), np.nan, np.float32)) for name, one in told.items()}
    return TokenSets(made, answers.astype(np.int64), tuple(str(row) for row in range(200)))


def test_a_fit_stacks_on_the_patients_who_were_held_out() -> None:
    settings = {"strategy": "late", "hidden": 8, "norm_input": False}
    stacked = fit(sets(0), settings, Budget(epochs=15, lr=1e-2, held_out=0.3), options=2, seed=0).head
    averaged = fit(sets(0), settings, Budget(epochs=15, lr=1e-2, held_out=0.0), options=2, seed=0).head
    assert isinstance(stacked, LateHead) and isinstance(averaged, LateHead)
    share = stacked.scores.softmax(0)
    assert share[0] > share[1]
    assert not averaged.scores.any() and not averaged.log_slopes.any(), "one fit alone knows nobody it was not fitted on"


def test_several_networks_are_stacked_out_of_fold_where_nobody_is_held_out() -> None:
    budget = Budget(epochs=15, lr=1e-2, held_out=0.0, members=2)
    made = fit_members(sets(0), {"strategy": "late", "hidden": 8, "norm_input": False}, budget, options=2, seed=0)
    heads = [cast(LateHead, one.head) for one in made.members]
    shares_of = [one.scores.softmax(0) for one in heads]
    assert all(one[0] > 0.6 for one in shares_of) and torch.equal(*shares_of)
    said = made.probabilities(sets(1))[:, 1]
    assert calibration_error(sets(1).answers.astype(float), said) < 0.12
    assert float(((said > 0.5) == (sets(1).answers > 0)).mean()) > 0.72, "the best there is: 0.76"


def test_networks_that_do_not_stack_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "_cross_stacked", lambda *_, **__: pytest.fail("features has nothing to stack"))
    budget = Budget(epochs=1, held_out=0.0)
    fit_members(sets(0), {"strategy": "features", "hidden": 8, "norm_input": False}, budget, options=2, seed=0)
