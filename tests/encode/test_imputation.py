"""Imputation happens only where it is asked for. Expected values: the median has normal score 0; pandas fills forward."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch

from salus.encode.variables import VariableEncoder, carried_forward, with_median
from salus.errors import ConfigError

NAN = float("nan")


def encoder(imputation: str) -> VariableEncoder:
    torch.manual_seed(0)
    made = VariableEncoder(variables=["heart_rate", "creatinine"], members=1, grid_members=1, steps=4, width=8, imputation=imputation)
    rng = np.random.default_rng(0)
    made.fit({"features": rng.normal(5, 1, (50, 2, 16)).astype("f4"), "grid": rng.normal(5, 1, (50, 4, 2)).astype("f4")})
    return made.eval()


def arrays() -> dict[str, torch.Tensor]:
    features, grid = torch.full((1, 2, 16), 5.5), torch.full((1, 4, 2), NAN)
    features[:, 1], grid[0, 1, 0] = NAN, 5.0
    return {"features": features, "grid": grid}


def test_each_choice_gives_other_vectors_and_none_is_the_default() -> None:
    with torch.inference_mode():
        values = {name: encoder(name)(arrays())[0] for name in ("none", "forward_fill", "train_median")}
        assert torch.equal(values["none"], VariableEncoder.forward(encoder("none"), arrays())[0])
    assert not torch.allclose(values["none"], values["train_median"]) and not torch.allclose(values["none"], values["forward_fill"])
    assert VariableEncoder(variables=["heart_rate"], members=1).imputation == "none"


def test_a_patient_of_whom_nothing_is_known_stays_absent_under_every_imputation() -> None:
    nothing = {name: torch.full_like(value, NAN) for name, value in arrays().items()}
    assert not any(bool(encoder(name)(nothing)[1].any()) for name in ("none", "forward_fill", "train_median"))


def test_forward_fill_is_that_of_pandas() -> None:
    rng = np.random.default_rng(1)
    grid = np.where(rng.random((3, 9, 4)) < 0.6, np.nan, rng.normal(size=(3, 9, 4))).astype("f4")
    wanted = np.stack([pandas.DataFrame(one).ffill().to_numpy() for one in grid])
    assert np.array_equal(carried_forward(torch.from_numpy(grid)).numpy(), wanted, equal_nan=True)


def test_the_training_median_is_zero_and_what_training_never_saw_stays_missing() -> None:
    made = encoder("train_median")
    middle = made.normaliser.grid[:, made.normaliser.grid.shape[1] // 2][None]
    assert float(made.normaliser(middle).abs().max()) < 1e-6
    filled = with_median(torch.tensor([[NAN, NAN, 1.0]]), torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]))
    assert filled[0, 0] == 0 and bool(filled[0, 1].isnan()) and filled[0, 2] == 1


def test_an_unknown_imputation_is_refused() -> None:
    with pytest.raises(ConfigError, match="Cannot use imputation 'mean': choose one of none, forward_fill, train_median"):
        encoder("mean")
