"""Zero-shot scoring: words against any aligned modality, without a classifier.

Takes a fitted aligner, tokens of one modality and prompts as tokens of the text modality; gives probabilities. Several templates of a class
become one prompt vector: the mean of their unit vectors, again of length 1. Source: Radford et al. 2021, arXiv 2103.00020, section 3.1.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from salus.errors import ConfigError
from salus.fuse.align.aligner import Aligner
from salus.fuse.token_sets import Tokens


def filled(templates: Sequence[str], words: str) -> tuple[str, ...]:
    """Return the prompts of one class.

    Raises:
        ConfigError: a template has no place for the words.

    Example:
        >>> filled(["an X-ray of {}", "{}"], "pneumonia")
        ('an X-ray of pneumonia', 'pneumonia')
    """
    without = [one for one in templates if "{}" not in one]
    if without:
        raise ConfigError(f"Cannot fill template {without[0]!r}: it has no {{}}. Put {{}} where the words of the class go.")
    return tuple(one.replace("{}", words) for one in templates)


def prompt_vectors(aligner: Aligner, text: str, prompts: Sequence[Tokens]) -> NDArray[np.float32]:
    """Return (O, S) one unit vector for each class.

    Args:
        aligner: fitted.
        text: name of its text modality.
        prompts: for each of O classes, its templates as tokens (t, N, D).
    """
    made = []
    for one in prompts:
        mean = aligner.embed(text, one).mean(0)
        made.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    return np.stack(made).astype(np.float32)


def zero_shot(
    aligner: Aligner, modality: str, tokens: Tokens, *, text: str, prompts: Sequence[Tokens], scale: float = 10.0
) -> NDArray[np.float64]:
    """Return (n, O) probabilities of the classes for n patients; NaN for who lacks the modality.

    They are a softmax over cosines and are not calibrated: what ranks well may still say 0.9 too often.

    Args:
        aligner: fitted on both modalities.
        modality: what is scored, such as `radiograph`.
        tokens: of n patients.
        text: name of the text modality.
        prompts: for each of O classes, its templates as tokens.
        scale: 1 / temperature; the one that the loss learned.

    Raises:
        ConfigError: the aligner lacks a modality.
    """
    vectors = aligner.embed(modality, tokens)
    return np.asarray(softmax(scale * (vectors @ prompt_vectors(aligner, text, prompts).T).astype(np.float64), axis=1))
