"""The table of modalities is that of the code, has a row for every kind of data, and its real files give the items that it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from salus import registry
from salus.errors import ConfigError
from salus.record.patient import PatientRecord
from salus.record.read.folder import read_path

SCRIPT = Path(__file__).parents[1] / "scripts" / "modality_table.py"


def load_script() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("modality_table", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


table = load_script()


def test_the_page_is_up_to_date() -> None:
    assert table.PAGE.read_text("utf-8") == table.page(), "run: python scripts/modality_table.py"


def test_every_capability_and_every_installed_modality_has_a_row() -> None:
    kinds = table.read_kinds()
    assert {kind.capability for kind in kinds} == set(table.CAPABILITIES)
    text = table.PAGE.read_text("utf-8")
    own = [name for name in registry.names("salus.modalities") if table._is_own("salus.modalities", name)]
    assert [name for name in own if f"`{name}`" not in text] == []
    assert all(f"| {kind.kind} |" in text for kind in kinds)
    assert len({kind.kind for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(("field", "name"), [("modalities", "heart_sound"), ("readers", "wfdb")])
def test_a_plug_in_without_a_row_is_named(tmp_path: Path, field: str, name: str) -> None:
    tree = yaml.safe_load(table.LIST.read_text("utf-8"))
    for row in tree["rows"]:
        row[field] = [one for one in row[field] if one != name]
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"'{name}' of salus.{field} stands in no row of list.yaml. Add it to the `{field}`"):
        table.read_kinds(path)


def test_what_is_called_interpreted_is_what_the_shipped_model_interprets() -> None:
    config, _ = table.load_config(SCRIPT.parents[1] / "src" / "salus" / "models" / "base")
    lines = [line for line in table.PAGE.read_text("utf-8").splitlines() if line.endswith("| **interpreted** |")]
    assert {line.split(" | ")[2].strip("`") for line in lines} == config.interpreted


REAL = [
    pytest.param(real.modality or kind.installed[0], real, id=f"{real.modality or kind.installed[0]}-{real.set}")
    for kind in table.read_kinds()
    for real in kind.real
    if kind.installed
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "real"), REAL)
def test_the_real_files_give_the_items(salus_data: Path, tmp_path: Path, name: str, real: table.Real) -> None:  # type: ignore[name-defined]
    manifest = tmp_path / "salus-cohort.yaml"
    manifest.write_text(f"files: {{'*': {{modality: {name}}}}}" if real.declared else "name: as-it-is", encoding="utf-8")
    paths = sorted((salus_data / real.set).glob(real.files))[: real.most]
    assert paths, f"no file {real.files} in {real.set}"
    records: list[PatientRecord] = [record for path in paths for record in read_path(path, manifest=manifest).patients]
    items = [item for record in records for item in record.items if item.modality == name and item.category != "demographic"]
    assert len(items) >= real.items if real.at_least else len(items) == real.items
