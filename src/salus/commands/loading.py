"""Loads the model that a command names, quietly: a folder, a Hugging Face id, or the base model that ships."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import ParamSpec, TypeVar

import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from salus.errors import ConfigError, ModelError
from salus.model import SalusModel, load_model

Given = ParamSpec("Given")
Result = TypeVar("Result")


def base_model_folder() -> Path:
    """Return the folder of the model that ships inside the package."""
    return Path(str(files("salus") / "models" / "base"))


def load_named_model(name: str | None, backbone: str | None) -> SalusModel:
    """Return a model by folder, by Hugging Face id, or the base model.

    Raises:
        ModelError: it is neither a folder nor can it be fetched, or it does not load strictly.
    """
    folder = base_model_folder() if name is None else Path(name)
    if name is not None and not folder.exists():
        try:
            folder = Path(snapshot_download(name))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise ModelError(
                f"Cannot load model {name!r}: it is not a folder here, and the hub gave {type(error).__name__}. "
                "Check the path, or the id and the network."
            ) from None
    return open_quietly(load_model, folder, backbone=backbone)


def open_quietly(function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Call a function without the progress bars and notices of the libraries below it."""
    disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def data_folder(given: Path | None) -> Path:
    """Return the folder of the cohorts.

    Raises:
        ConfigError: neither `--data` nor SALUS_DATA names an existing folder.
    """
    named = given or (Path(os.environ["SALUS_DATA"]) if os.environ.get("SALUS_DATA") else None)
    if named is None or not named.is_dir():
        what = "no folder is named" if named is None else f"'{named}' is not there"
        raise ConfigError(f"Cannot find the data: {what}. Give --data FOLDER, or set SALUS_DATA.")
    return named


def refuse_missing_cohorts(folders: Mapping[str, Sequence[str]], data: Path) -> None:
    """Refuse tasks whose cohorts are not there, before anything is read.

    Args:
        folders: task → names of its folders.
        data: folder of the cohorts.

    Raises:
        ConfigError: names the first.
    """
    for task, own in folders.items():
        for folder in own:
            if not (data / folder).is_dir():
                raise ConfigError(f"Cannot read task {task!r}: there is no '{folder}' in '{data}'. Give --data FOLDER, or set SALUS_DATA.")
