"""Death in intensive care: of each variable's course one token, one for who the patient is, and one for each body system in words.

The first two are summary statistics as normal scores; the words are made by code (`icu_words`) and put into a space that saw words alone
(`word_vectors`). Nothing was trained on the answers before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from salus import registry
from salus.encode import summary, variables
from salus.encode.modality import Modality
from salus.encode.summary import STATISTICS
from salus.encode.variables import QuantileNormaliser, VariableEncoder
from salus.evaluate.fusion import icu_bands, icu_words, word_vectors
from salus.evaluate.fusion.icu_words import courses_of, sentences_of
from salus.evaluate.fusion.word_vectors import Told, fit_word_vectors
from salus.evaluate.fusion_tasks import FusionTask, Progress, answers_of, groups_and_words
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import prepare_modality
from salus.task import Example, Split

CATEGORIES = {
    "loinc:76689-9": ("female", "male"),
    "icu2012:icutype": ("coronary care unit", "cardiac surgery recovery unit", "medical ICU", "surgical ICU"),
}
"""What is told in words of a patient in intensive care."""
TRAIN: Split = "train"
LEAST_MEASURED = 30
"""A variable that fewer training patients have is left out."""
WORD_WIDTH = 12
"""Chosen on val: wider spaces hold more words and are learned by heart."""
LEAST_SAID = 30
"""A clause that is said of fewer training patients is left out."""
OPTIONS = ("no", "yes")
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def read(data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the course, who the patient is, and the words: of each variable one token, its summary statistics as normal scores.

    Of a statistic that is missing the token holds 0 and a flag; a variable that was never measured has no token.
    """
    task = registry.load("salus.tasks", "icu-death")
    modality = cast(Modality, registry.load("salus.modalities", "vitals_labs"))
    assert modality.build_encoder is not None
    encoder = cast(VariableEncoder, modality.build_encoder({**modality.encoder_defaults, "categories": CATEGORIES, "members": 1}))
    features: dict[Split, Floats] = {}
    told: dict[Split, list[Told]] = {}
    examples: dict[Split, Sequence[Example]] = {}
    for split in dict.fromkeys((TRAIN, *splits)):
        examples[split] = task.read(data, split)
        empty = np.full((len(encoder.names), len(STATISTICS)), np.nan, np.float32)
        rows, told[split] = [], []
        for place, example in enumerate(examples[split]):
            record = example.record()
            prepared = prepare_modality(encoder, "vitals_labs", record)
            told[split].append(sentences_of(courses_of(record.items)))
            rows.append(empty if prepared is None else prepared.arrays["features"])
            progress(f"icu-death: reading {split}", (place + 1) / len(examples[split]))
        features[split] = np.stack(rows)
    measured = np.isfinite(features["train"]).any(-1).sum(0) >= LEAST_MEASURED
    features = {split: each[:, measured] for split, each in features.items()}
    normaliser = QuantileNormaliser(features["train"][0].size)
    normaliser.fit(features["train"].reshape(len(features["train"]), -1))
    is_static = np.array([_is_constant(features["train"][:, place]) for place in range(features["train"].shape[1])])
    vectors = fit_word_vectors(told["train"], width=WORD_WIDTH, least=LEAST_SAID)
    made: dict[Split, TokenSets] = {}
    for split in splits:
        raw = features[split]
        normal = normaliser(torch.from_numpy(raw.reshape(len(raw), -1))).view(*raw.shape).numpy()
        sets = {"series": _tokens_of_variables(normal[:, ~is_static]), "static": _static_token(normal[:, is_static])}
        sets["text"] = vectors.tokens(told[split])
        made[split] = TokenSets(sets, answers_of(examples[split], OPTIONS), *groups_and_words(examples[split]))
    return made


def _is_constant(statistics: Floats) -> bool:
    """Return whether a variable has one value at hour 0 in every patient who has it."""
    first, count = statistics[:, STATISTICS.index("first_time_h")], statistics[:, STATISTICS.index("log_count")]
    seen = np.isfinite(count)
    return bool(seen.any() and (first[seen] == 0).all() and np.allclose(count[seen], np.log1p(1)))


def _tokens_of_variables(normal: Floats) -> Tokens:
    count, variables, _ = normal.shape
    known = cast(Mask, np.isfinite(normal))
    which = np.broadcast_to(np.eye(variables, dtype=np.float32), (count, variables, variables))
    values = np.concatenate([np.where(known, normal, 0.0), known, which], -1).astype(np.float32)
    return Tokens(values, cast(Mask, known.any(-1)), np.full((count, variables), np.nan, np.float32))


def _static_token(normal: Floats) -> Tokens:
    level = normal[:, :, STATISTICS.index("mean")]
    known = cast(Mask, np.isfinite(level))
    values = np.concatenate([np.where(known, level, 0.0), known], -1).astype(np.float32)
    return Tokens(values[:, None], cast(Mask, known.any(1))[:, None], np.full((len(values), 1), np.nan, np.float32))


TASK = FusionTask(
    "icu-death",
    "Death in hospital from 48 hours of intensive care",
    ("series", "static", "text"),
    OPTIONS,
    ("icu_physionet2012",),
    read,
    tuple(
        Path(str(one))
        for one in (__file__, icu_bands.__file__, icu_words.__file__, word_vectors.__file__, summary.__file__, variables.__file__)
    ),
)
