"""Classifiers of plain tables, as scikit-learn has them: teachers of encoders in training, rivals of the model in evaluation.

One place, so that the teacher and the rival of the same name are the same. All take NaN as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import MissingExtra
from salus.task import Classifier

FOLDS = 5
LEAST_MEASURED = 30
"""A feature that fewer training patients have is left out of the teacher."""
TEACHER_RUNS = 3


def build_classifier(name: Classifier, seed: int) -> Any:
    """Return an unfitted classifier.

    Raises:
        MissingExtra: scikit-learn is not installed.

    Example:
        >>> build_classifier("gradient_boosting", 0).get_params()["max_iter"]
        160
    """
    try:
        from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier  # (extra)
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingExtra("fit a teacher or a rival", "train") from None
    if name == "gradient_boosting":
        return HistGradientBoostingClassifier(
            learning_rate=0.04,
            max_iter=160,
            max_leaf_nodes=12,
            min_samples_leaf=20,
            l2_regularization=5.0,
            max_features=0.2,
            random_state=seed,
        )
    if name == "logistic_regression":
        filled = SimpleImputer(strategy="median", add_indicator=True)
        return make_pipeline(filled, StandardScaler(), LogisticRegression(C=0.001, max_iter=500))
    forest = {"random_forest": RandomForestClassifier, "extra_trees": ExtraTreesClassifier}[name]
    return make_pipeline(SimpleImputer(strategy="median"), forest(500, min_samples_leaf=2, random_state=seed))


def out_of_fold(
    features: NDArray[np.floating[Any]],
    answers: NDArray[np.int64],
    teacher: Classifier,
    *,
    seed: int,
    groups: Sequence[str] = (),
    runs: int = TEACHER_RUNS,
) -> NDArray[np.float64]:
    """Return (n, options) probabilities of a teacher that never saw the row it scores (5 folds).

    Args:
        features: (n, F), NaN where missing.
        answers: (n,).
        teacher: which.
        seed: of teachers and folds.
        groups: (n,) whose each row is: no fold has one of them on both sides; empty: each row is somebody else's.
        runs: teachers of different seeds and folds whose probabilities are averaged.

    Source: distillation (Hinton et al. 2015, arXiv 1503.02531) from out-of-fold predictions, as in stacking (Wolpert 1992).
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
    except ImportError:
        raise MissingExtra("fit a teacher", "train") from None
    measured = np.isfinite(features)
    varied = np.array(
        [np.ptp(column[seen]) > 0 if seen.sum() >= LEAST_MEASURED else False for column, seen in zip(features.T, measured.T, strict=True)]
    )
    known = np.where(measured, features, np.nan)[:, varied]
    said = []
    for run in range(runs):
        kind = StratifiedKFold if len(set(groups)) in (0, len(answers)) else StratifiedGroupKFold
        folds = kind(FOLDS, shuffle=True, random_state=seed + run)
        model = build_classifier(teacher, seed + run)
        said.append(cross_val_predict(model, known, answers, groups=groups or None, cv=folds, method="predict_proba"))
    mean: NDArray[np.float64] = np.mean(said, axis=0)
    return mean
