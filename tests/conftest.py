"""Fixtures that all tests share."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("salus", deadline=None)  # a busy machine is no failure
settings.load_profile("salus")


@pytest.fixture(scope="session")
def salus_data() -> Path:
    """Return the folder of real data sets, or skip with the reason (an error in CI)."""
    folder = os.environ.get("SALUS_DATA")
    if not folder:
        if os.environ.get("CI"):
            pytest.fail("SALUS_DATA is not set; in CI no data test may skip.")
        pytest.skip("SALUS_DATA is not set: this test reads real data sets.")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a language model with random weights, made here."""
    writer = importlib.import_module("salus.reason.tiny_backbone")  # loads torch, which most tests do without
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    writer.write_tiny_backbone(folder)
    return folder
