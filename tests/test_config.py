"""Settings from YAML, and the text of every error that a wrong recipe gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from salus.config import read_settings, settings_from, settings_hash
from salus.errors import ConfigError
from salus.train.recipe import Recipe

ROOT = Path(__file__).parents[1]
RECIPE = """\
name: tiny
version: "1"
seed: 0
backbone: embedded
encoders: {vitals_labs: {records_from: [icu-death], epochs: 3, lr: 1e-3}}
projector: {steps: 3, lr: 1, tasks: {icu-death: 1}}
language: {steps: 3, lr: 0.1, tasks: {icu-death: 1}}
lora: {r: 2, alpha: 4}
"""


def recipe(tmp_path: Path, text: str = RECIPE) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_typed(tmp_path: Path) -> None:
    found = read_settings(Recipe, recipe(tmp_path))
    encoder = found.encoders["vitals_labs"]
    assert (encoder.records_from, encoder.lr, encoder.batch_size) == (("icu-death",), 0.001, 64)
    assert isinstance(found.projector.lr, float) and found.language.batch_tokens == 1600


def test_the_shipped_recipe_is_read() -> None:
    assert read_settings(Recipe, ROOT / "recipes" / "base.yaml").name == "salus-base"


def test_overrides_are_dotted_and_typed(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    found = read_settings(Recipe, path, ["language.steps=7", "name=other", "encoders.vitals_labs.task=icu-death", "fuser.hidden=8"])
    assert (found.language.steps, found.name, found.encoders["vitals_labs"].task) == (7, "other", "icu-death")
    assert found.fuser == {"hidden": 8}
    assert settings_hash(found) != settings_hash(read_settings(Recipe, path)) == settings_hash(read_settings(Recipe, path))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("seed: 0", "sed: 0", "unknown key 'sed'. Did you mean 'seed'?"),
        ("steps: 3, lr: 1,", "step: 3, lr: 1,", "unknown key 'step'. Did you mean 'steps'?"),
        ("epochs: 3", "epoch: 3", "unknown key 'epoch'. Did you mean 'epochs'?"),
        ("seed: 0\n", "", 'missing value for field "seed". Mend that key.'),
        (
            "seed: 0",
            "seed: none",
            'wrong value type for field "seed" - should be "int" instead of value "none" of type "str". Mend that key.',
        ),
        (
            "lr: 0.1",
            "lr: fast",
            'wrong value type for field "language.lr" - should be "float" instead of value "fast" of type "str". Mend that key.',
        ),
        (
            "[icu-death]",
            "icu-death",
            'wrong value type for field "encoders.records_from" - should be "list" instead of value "icu-death" of type "str". '
            "Mend that key.",
        ),
    ],
)
def test_a_wrong_recipe_says_what_to_mend(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = recipe(tmp_path, RECIPE.replace(old, new, 1))
    with pytest.raises(ConfigError) as found:
        read_settings(Recipe, path)
    assert str(found.value) == f"Cannot read settings '{path}': {text}"


def test_one_value_where_a_list_is_wanted_is_refused() -> None:
    @dataclass(frozen=True)
    class Listed:
        seeds: tuple[int, ...]

    assert settings_from(Listed, {"seeds": [1, 2]}, "x").seeds == (1, 2)
    with pytest.raises(ConfigError) as found:
        settings_from(Listed, {"seeds": 5}, "x")
    words = "a value has the wrong type, 'int' object is not iterable. Write a list as [1, 2]."
    assert str(found.value) == f"Cannot read settings 'x': {words}"


def test_a_key_like_no_other_lists_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'\. Known keys: backbone, batch_size, batch_tokens, calibration_examples,"):
        read_settings(Recipe, recipe(tmp_path, RECIPE + "zzz: 1\n"))


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    cases = {
        "name: [": ", line 1: not YAML. Mend the line, or start from recipes/base.yaml.",
        "- a": ": the top level is not a mapping. Start from recipes/base.yaml.",
        "": ": the top level is not a mapping. Start from recipes/base.yaml.",
    }
    for text, words in cases.items():
        path = recipe(tmp_path, text)
        with pytest.raises(ConfigError) as found:
            read_settings(Recipe, path)
        assert str(found.value).removeprefix(f"Cannot read settings '{path}'") == words
    path.write_bytes(b"\xff\xfe\x00")
    for other, kind in ((path, "UnicodeDecodeError"), (tmp_path, "IsADirectoryError")):
        with pytest.raises(ConfigError) as found:
            read_settings(Recipe, other)
        assert str(found.value) == f"Cannot read settings '{other}': {kind}. Give the path of a YAML file."
    with pytest.raises(ConfigError) as found:
        read_settings(Recipe, tmp_path / "none.yaml")
    assert str(found.value) == f"Cannot read settings '{tmp_path / 'none.yaml'}': no such file. Give the path of a YAML file."


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("seed", "it has no '='. Write it as key.subkey=value."),
        ("seed.x=1", "'seed' is not a mapping. Check the dotted key."),
        ("seed=[1", "what follows '=' is not YAML. Quote it, or mend it."),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, text: str) -> None:
    with pytest.raises(ConfigError) as found:
        read_settings(Recipe, recipe(tmp_path), [override])
    assert str(found.value) == f"Cannot apply override {override!r}: {text}"


def test_a_mapping_does_as_well_as_a_file() -> None:
    with pytest.raises(ConfigError, match="Cannot read settings 'here': missing value"):
        settings_from(Recipe, {}, "here")
