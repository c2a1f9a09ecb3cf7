"""Tests of the rivals of fusion: what they are given, in which order they answer, and what a missing system says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salus.errors import ConfigError
from salus.evaluate.fusion_rivals import MOGONET, pooled, rival
from salus.fuse.token_sets import Tokens, TokenSets
from salus.metrics import auroc

CHECKOUT = {
    "models.py": """
import torch
def init_model_dict(views, options, widths, hidden, joint):
    assert joint == options ** views and hidden == [200, 200, 100]
    return {"E": torch.nn.Linear(widths[0], options)}
def init_optim(views, made, rate, last_rate):
    return {"E": torch.optim.Adam(made["E"].parameters(), lr=rate)}
""",
    "utils.py": """
import numpy as np
def cal_sample_weight(answers, options):
    return np.ones(len(answers)) / len(answers)
""",
    "train_test.py": """
import numpy as np, torch
def gen_trte_adj_mat(own, everyone, rows, neighbours):
    assert neighbours == 2 and np.asscalar(np.float64(1)) == 1.0
    assert rows["te"][0] == len(own[0]) and len(everyone[0]) == len(rows["tr"]) + len(rows["te"])
    return None, None
def train_epoch(own, edges, right, _, weights, made, optimisers, train_VCDN):
    optimisers["E"].zero_grad()
    torch.nn.functional.cross_entropy(made["E"](own[0]), right).backward()
    optimisers["E"].step()
def test_epoch(everyone, edges, rows, made):
    return made["E"](everyone[0])[rows].softmax(1).detach().numpy()
""",
}
"""A system of the same shape as MOGONET, with a logistic regression of the first omic inside."""


def made_sets(count: int, seed: int) -> TokenSets:
    source = np.random.default_rng(seed)
    answers = source.integers(0, 2, count)
    sets = {}
    for name, signal in (("a", 2.0), ("b", 0.0)):
        values = source.normal(size=(count, 1, 4)).astype(np.float32)
        values[:, 0, 0] += signal * answers
        sets[name] = Tokens(values, np.ones((count, 1), bool), np.full((count, 1), np.nan, np.float32))
    return TokenSets(sets, answers, tuple(map(str, range(count))))


def test_pooled_is_the_mean_of_the_tokens_that_count() -> None:
    values = np.array([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [9.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]], np.float32)
    mask = np.array([[True, True], [True, False], [False, False]])
    sets = TokenSets({"a": Tokens(values, mask, np.zeros((3, 2), np.float32))}, np.array([0, 1, 0]), ("x", "y", "z"))
    assert np.array_equal(pooled(sets), [[2.0, 4.0], [5.0, 7.0], [np.nan, np.nan]], equal_nan=True)


@pytest.mark.parametrize("name", ["haim_boosting", "gradient_boosting", "logistic_regression"])
def test_a_rival_finds_what_there_is(name: str) -> None:
    fitted, scored = made_sets(200, 0), made_sets(100, 1)
    found = rival(name, fitted, scored, 0)
    assert found.shape == (100, 2)
    assert auroc(scored.answers.astype(float), found[:, 1]) > 0.85


def test_mogonet_is_run_from_its_checkout_in_the_order_of_the_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in CHECKOUT.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv(MOGONET, str(tmp_path))
    fitted, scored = made_sets(100, 0), made_sets(50, 1)
    found = rival("mogonet", fitted, scored, 3)
    assert found.shape == (50, 2)
    assert auroc(scored.answers.astype(float), found[:, 1]) > 0.85
    assert np.array_equal(found, rival("mogonet", fitted, scored, 3))


def test_without_a_checkout_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MOGONET, raising=False)
    with pytest.raises(ConfigError, match=r"git clone https://github.com/txWang/MOGONET"):
        rival("mogonet", made_sets(8, 0), made_sets(4, 1), 0)


def test_a_checkout_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {**CHECKOUT, "utils.py": "raise RuntimeError('old code')"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv(MOGONET, str(tmp_path))
    with pytest.raises(ConfigError, match="old code"):
        rival("mogonet", made_sets(8, 0), made_sets(4, 1), 0)

