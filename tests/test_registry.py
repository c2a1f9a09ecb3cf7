"""Plug-ins by name: what is registered, and what two packages must not both claim."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from salus import registry
from salus.errors import ConfigError

GROUP = "salus.tasks"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    registry.forget()


def installed(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, GROUP) for name, value in points]
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in found if point.group == group])
    registry.forget()


def test_built_ins_are_registered_as_any_package_registers() -> None:
    assert {"ask", "inspect", "train", "evaluate", "demo", "plugins"} <= set(registry.names("salus.commands"))
    assert registry.names(GROUP) == tuple(sorted(registry.names(GROUP)))


def test_two_packages_claim_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("spo2", "one.tasks:TASK"), ("spo2", "two.tasks:TASK"))
    with pytest.raises(ConfigError) as found:
        registry.names(GROUP)
    assert str(found.value) == (
        "Cannot load plug-ins of salus.tasks: both 'one.tasks:TASK' and 'two.tasks:TASK' claim the name 'spo2'. "
        "Uninstall one of the two packages."
    )


def test_one_package_seen_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("b", "salus.errors:REPORT_AT"), ("a", "salus.errors:Bug"), ("b", "salus.errors:REPORT_AT"))
    assert registry.names(GROUP) == ("a", "b")
    assert registry.load(GROUP, "b") == "the project's issue tracker"


def test_names_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, ("b", "salus.errors:Bug"), ("a", "salus.errors:Bug"))
    with pytest.raises(ConfigError) as found:
        registry.load(GROUP, "c")
    assert str(found.value) == "Cannot load 'c' from salus.tasks: no plug-in has that name. Installed: a, b."
    with pytest.raises(ConfigError) as found:
        registry.names("salus.dishes")
    assert str(found.value) == (
        "Cannot list plug-ins: there is no group 'salus.dishes'. Use one of: salus.readers, salus.modalities, salus.tasks, "
        "salus.fusers, salus.fusion_tasks, salus.commands, salus.transcribers."
    )
