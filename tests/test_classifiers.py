"""Teachers that never see the row they score."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from salus import classifiers
from salus.classifiers import out_of_fold


def test_a_teacher_never_saw_the_row_that_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that only remembers its rows says 0.5 of any other: had it seen one, it would be sure."""

    class Parrot(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        def fit(self, features: np.ndarray, answers: np.ndarray) -> Parrot:
            self.seen, self.classes_ = dict(zip(features[:, 0].tolist(), answers.tolist(), strict=True)), np.array([0, 1])
            return self

        def predict(self, features: np.ndarray) -> np.ndarray:
            return self.predict_proba(features).argmax(1)

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            sure = [self.seen.get(value) for value in features[:, 0].tolist()]
            return np.array([[0.5, 0.5] if one is None else [1.0 - one, float(one)] for one in sure])

    monkeypatch.setattr(classifiers, "build_classifier", lambda name, seed: Parrot())
    features, answers = np.arange(40, dtype=np.float32)[:, None], np.arange(40) % 2
    assert (out_of_fold(features, answers, "any", seed=0) == 0.5).all()
    twice, groups = np.repeat(features, 2, 0), [str(one // 2) for one in range(80)]
    assert (out_of_fold(twice, np.repeat(answers, 2), "any", seed=0, groups=groups) == 0.5).all(), "a group is on one side alone"
    assert (out_of_fold(twice, np.repeat(answers, 2), "any", seed=0) != 0.5).any(), "else a copy is remembered"


def test_a_teacher_takes_missing_values_and_is_the_same_twice() -> None:
    source = np.random.default_rng(0)
    answers = source.integers(0, 2, 60)
    features = (answers[:, None] + source.normal(0, 0.5, (60, 3))).astype(np.float32)
    features[source.random((60, 3)) < 0.2] = np.nan
    first = out_of_fold(features, answers, "gradient_boosting", seed=1)
    assert (
        first.shape == (60, 2)
        and np.allclose(first.sum(1), 1)
        and np.array_equal(first, out_of_fold(features, answers, "gradient_boosting", seed=1))
    )
