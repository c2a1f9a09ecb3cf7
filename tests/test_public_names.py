"""The names that others build on: a change here is a change for every plug-in, and needs a line in the changelog."""

from __future__ import annotations

import importlib
import inspect

import pytest

NAMES = {
    "salus": {"__version__"},
    "salus.errors": {
        "Bug", "ConfigError", "ContextLengthError", "DamagedError", "FormatError", "InputError", "MissingExtra", "ModelError",
        "SalusError", "SeveralPatientsError", "StoreError", "UnitError", "UserFixable", "WrongKeyError",
    },
    "salus.registry": {"forget", "load", "names"},
    "salus.units": {"check", "convert", "number", "printed", "words"},
    "salus.task": {"Example", "Task"},
    "salus.record.patient": {
        "Clip", "Code", "Content", "Image", "Instant", "Item", "Normalisation", "Offset", "PatientRecord", "Plane", "Profile", "ReadReport",
        "ReferenceRange", "Sequences", "Signal", "Skipped", "Slide", "Sound", "Source", "Volume", "item_id",
    },
    "salus.record.claims": {"forget", "modality_of"},
    "salus.record.variables": {"Variable", "display_of", "forget", "key_of", "series_key", "variable_of", "variables"},
    "salus.record.read.reader": {"FileRead", "Found", "Joined", "ReadOptions", "Reader"},
    "salus.encode.encoder": {"Encoded", "Encoder", "Prepared", "encode", "stack"},
    "salus.encode.modality": {"Measurement", "Modality"},
    "salus.fuse.align.aligner": {"Aligner", "AlignerConfig", "Projector", "load_aligner", "save_aligner"},
    "salus.fuse.align.zero_shot": {"filled", "prompt_vectors", "zero_shot"},
    "salus.reason.facts": {"Fact", "Quantity"},
    "salus.reason.cases": {
        "Case", "CaseIndex", "Found", "Origin", "Vectors", "Wanted", "hashed", "kept_keys", "load_cases", "person_keys",
    },
    "salus.in_context": {
        "Choice", "Embedder", "FusedEmbedder", "SharedSpaceEmbedder", "ask_with_cases", "build_cases", "case_encoded", "encoders_hash",
        "shown_beside", "tensors_hash", "turns_of",
    },
    "salus.generate.answer": {"Answer", "Disclosure", "OptionScore", "Statement"},
}  # fmt: skip
"""Public classes and functions that each contract module defines itself."""

FIELDS = {
    "salus.encode.modality.Modality": (
        "name", "title", "claims", "example", "variables", "token_budget", "build_encoder", "encoder_defaults", "measure",
    ),
    "salus.record.read.reader.Reader": ("name", "title", "recognises", "read", "priority", "join"),
    "salus.task.Task": (
        "name", "title", "modalities", "metric", "read", "folders", "licence", "may_shape_shipped_weights", "positive", "pass_above",
        "rivals", "severity", "site",
    ),
}  # fmt: skip
"""What a plug-in declares, in order: it may be given by position."""


def public_names(module_name: str) -> set[str]:
    """Return the public classes and functions that a module defines itself, and its version."""
    module = importlib.import_module(module_name)
    kept = {"__version__"} & set(vars(module))
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == module_name
        if is_own and not name.startswith("_") and (inspect.isclass(value) or callable(value)):
            kept.add(name)
    return kept


@pytest.mark.parametrize("module_name", NAMES)
def test_public_names_are_these(module_name: str) -> None:
    assert public_names(module_name) == NAMES[module_name]


@pytest.mark.parametrize("path", FIELDS)
def test_plug_in_fields_are_these(path: str) -> None:
    module_name, _, name = path.rpartition(".")
    declared = getattr(importlib.import_module(module_name), name)
    assert tuple(inspect.signature(declared).parameters) == FIELDS[path]
