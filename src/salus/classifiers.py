"""Classifiers of plain tables, as scikit-learn has them: teachers of encoders in training, rivals of the model in evaluation.

One place, so that the teacher and the rival of the same name are the same. All take NaN as missing.
"""

from __future__ import annotations

from typing import Any

from salus.errors import MissingExtra
from salus.task import Classifier


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
