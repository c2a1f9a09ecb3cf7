"""Fit the model of question wordings that ships (`src/salus/reason/wording.npz`) and print how it does on the wordings of `val`.

    python scripts/fit_wording.py [--write]

Fitted on `train` of `salus.cohorts.question_forms` and on the questions that ask for no known kind. Deterministic; a few seconds.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from salus.cohorts.question_forms import forms, forms_of_no_kind, wordings_sha256
from salus.reason import wording
from salus.reason.asked import SURE

TARGET = Path(wording.__file__).with_name("wording.npz")
STRENGTH = 30.0
"""Inverse of the L2 penalty; chosen on `val`."""


def rows(split: str) -> list[tuple[str, str]]:
    """Return (wording, label) pairs of a split."""
    known = [(form, family) for family, one in forms().items() for form in one.of(split)]  # type: ignore[arg-type]
    return [*known, *((form, wording.NONE) for form in forms_of_no_kind(split))]  # type: ignore[arg-type]


def main() -> None:
    """Fit, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the weights that ship")
    is_write = parser.parse_args().write
    train, val = rows("train"), rows("val")
    known = np.stack([wording.features(text) for text, _ in train])
    fitted = LogisticRegression(C=STRENGTH, max_iter=5000).fit(known, [label for _, label in train])
    scale = np.abs(fitted.coef_).max() / 127
    weights = np.round(fitted.coef_.T / scale).astype(np.int8)
    scores = np.stack([wording.features(text) for text, _ in val]) @ (weights * scale) + fitted.intercept_
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    guessed, top = fitted.classes_[shares.argmax(1)], shares.max(1)
    right = guessed == np.array([label for _, label in val])
    is_sure = top >= SURE
    print(f"train {len(train)} wordings, val {len(val)}: right {right.mean():.3f}; sure of {is_sure.mean():.3f}", end=", ")
    print(f"of these right {right[is_sure].mean():.3f}")
    for (text, label), is_right, guess, share in zip(val, right, guessed, top, strict=True):
        if not is_right:
            print(f"  {label} -> {guess} ({share:.2f}): {text}")
    if is_write:
        kept = io.BytesIO()
        np.savez_compressed(
            kept,
            weights=weights,
            scale=np.float32(scale),
            intercept=fitted.intercept_.astype(np.float32),
            labels=fitted.classes_.astype(str),
            wordings_sha256=np.str_(wordings_sha256()),
        )
        TARGET.write_bytes(kept.getvalue())
        print(f"wrote {TARGET.name}, {len(kept.getvalue()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
