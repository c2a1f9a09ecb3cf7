"""Death in intensive care: of each variable's course one token, one for who the patient is, and one for each body system in words.

The first two are summary statistics as normal scores, of what was measured and of what is reckoned from it (`icu_derived`); the words are
made by code (`icu_words`) and put into a space that saw words alone (`word_vectors`). Nothing was trained on the answers before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from salus import registry
from salus.encode import summary, variables
from salus.encode.modality import Modality
from salus.encode.summary import STATISTICS, summarise
from salus.encode.variables import QuantileNormaliser, VariableEncoder
from salus.evaluate.fusion import icu_bands, icu_derived, icu_words, word_vectors
from salus.evaluate.fusion.icu_derived import DERIVED, derived_courses
from salus.evaluate.fusion.icu_words import WINDOW_H, Courses, courses_of, sentences_of
from salus.evaluate.fusion.word_vectors import Told, fit_word_vectors
from salus.evaluate.fusion_tasks import FusionTask, Progress, answers_of, groups_and_words
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import prepare_modality
from salus.record.patient import PatientRecord
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

    What is reckoned from several variables (`icu_derived`) has tokens of the same form. Of a statistic that is missing the token holds 0
    and a flag; a variable that was never measured has no token.
    """
    found = {split: _read_stays(data, split, progress) for split in dict.fromkeys((TRAIN, *splits))}
    told = {split: stays.told for split, stays in found.items()}
    measured = np.isfinite(found["train"].features).any(-1).sum(0) >= LEAST_MEASURED
    features = {split: stays.features[:, measured] for split, stays in found.items()}
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
        made[split] = TokenSets(sets, answers_of(found[split].examples, OPTIONS), *groups_and_words(found[split].examples))
    return made


@dataclass(frozen=True)
class _Stays:
    """The patients of a split, before anything is fitted."""

    examples: Sequence[Example]
    features: Floats
    """(n, V, F) statistics of what was measured and what is reckoned from it."""
    told: list[Told]


def _read_stays(data: Path, split: Split, progress: Progress) -> _Stays:
    modality = cast(Modality, registry.load("salus.modalities", "vitals_labs"))
    assert modality.build_encoder is not None
    encoder = cast(VariableEncoder, modality.build_encoder({**modality.encoder_defaults, "categories": CATEGORIES, "members": 1}))
    examples = registry.load("salus.tasks", "icu-death").read(data, split)
    rows: list[Floats] = []
    told: list[Told] = []
    for place, example in enumerate(examples):
        record = example.record()
        courses = courses_of(record.items)
        told.append(sentences_of(courses))
        rows.append(np.concatenate([_measured_statistics(encoder, record), _derived_statistics(courses)]))
        progress(f"icu-death: reading {split}", (place + 1) / len(examples))
    return _Stays(examples, np.stack(rows), told)


def _measured_statistics(encoder: VariableEncoder, record: PatientRecord) -> Floats:
    """Return (V, F) of the variables as they were measured; NaN of a patient of whom nothing is known."""
    prepared = prepare_modality(encoder, "vitals_labs", record)
    if prepared is None:
        return np.full((len(encoder.names), len(STATISTICS)), np.nan, np.float32)
    return prepared.arrays["features"]


def _derived_statistics(courses: Courses) -> Floats:
    """Return (len(DERIVED), F) of what is reckoned from several of them."""
    made, nothing = derived_courses(courses), np.empty(0)
    hours, values = zip(*[(made[name].hours, made[name].values) if name in made else (nothing, nothing) for name in DERIVED], strict=True)
    return summarise(hours, values, window_h=WINDOW_H)


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
        for one in (
            __file__,
            icu_bands.__file__,
            icu_derived.__file__,
            icu_words.__file__,
            word_vectors.__file__,
            summary.__file__,
            variables.__file__,
        )
    ),
)
