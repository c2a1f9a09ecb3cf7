"""The shape of the code: sizes, names, import weight, plug-in contracts, and the tree of errors. Reads source; runs no model."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from salus import errors, registry
from salus.encode.modality import Modality
from salus.record import claims, variables
from salus.record.patient import Item
from salus.record.read.reader import HEAD_BYTES, Reader, ReadOptions
from salus.task import Task
from salus.units import check

ROOT = Path(__file__).parents[1]
SOURCE = sorted((ROOT / "src" / "salus").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MOST_LINES = 600
MOST_BODY_LINES = 80
MOST_ARGUMENTS = 6
HOMELESS = {"common", "helper", "helpers", "misc", "util", "utils"}
HEAVY = ("accelerate", "peft", "sklearn", "torch", "transformers")
MOST_CPU_S = 1.5
"""Seconds of processor time; wall time on a shared machine says little."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """Return a file's path below the repository, as the name of its test."""
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


def functions(path: Path) -> Iterator[Function]:
    """Yield every function of a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: Function) -> int:
    """Return the lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_file_and_its_functions_stay_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    assert [(f.name, body_lines(f)) for f in functions(path) if body_lines(f) > MOST_BODY_LINES] == []


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_functions_take_few_arguments(path: Path) -> None:
    found = {f.name: [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs] for f in functions(path) if f.name != "__init__"}
    counts = {name: len([each for each in given if each.arg not in {"self", "cls"}]) for name, given in found.items()}
    assert {name: count for name, count in counts.items() if count > MOST_ARGUMENTS} == {}


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_module_and_public_functions_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "a module begins with what it holds"
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, named) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_no_file_is_named_for_nothing() -> None:
    assert [name_of(path) for path in SOURCE if HOMELESS & set(path.stem.split("_"))] == []


def test_no_file_names_a_place_on_one_machine() -> None:
    absolute = re.compile(r"(?<![\w.:/<-])/(?:home|mnt|root|Users|work)/")
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".html", ".j2", ""}
    folders = ("src", "tests", "docs", "design", "recipes", "results", "scripts", ".ci")
    below = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    here = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files = [path for path in [*below, *here] if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts]
    assert [name_of(path) for path in files if absolute.search(path.read_text("utf-8", errors="ignore"))] == []


def run_python(code: str) -> tuple[str, float]:
    """Return what a fresh interpreter prints, and its seconds of processor time."""
    code = f"import os\n{code}\ntimes = os.times(); print(times.user + times.system)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *printed, seconds = done.stdout.splitlines()
    return "\n".join(printed), float(seconds)


LOADED = f"import sys; print('loaded:', *sorted(set(sys.modules) & set({HEAVY!r})))"
HELP = """
import sys
sys.argv = ["salus", "--help"]
from salus.cli import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("code", ["import salus", HELP], ids=["import salus", "salus --help"])
def test_starting_is_light(code: str) -> None:
    runs = [run_python(f"{code}\n{LOADED}") for _ in range(2)]
    assert runs[0][0].splitlines()[-1] == "loaded:"
    assert min(seconds for _, seconds in runs) < MOST_CPU_S


def test_records_facts_and_plug_ins_load_no_neural_network() -> None:
    folders = ("record", "modalities", "tasks", "cohorts")
    light = [module_of(path) for path in SOURCE if path.relative_to(ROOT / "src" / "salus").parts[0] in folders]
    stages = ("cases", "facts", "lists", "lookup", "matters", "retrieve", "series")
    light += [*(f"salus.reason.{name}" for name in stages), "salus.generate.answer", "salus.generate.ground", "salus.encode.modality"]
    light += ["salus.task", "salus.units", "salus.config", "salus.registry"]
    printed, _ = run_python(f"import importlib\nfor name in {light!r}: importlib.import_module(name)\n{LOADED}")
    assert printed.splitlines()[-1] == "loaded:"


POINTS = [(group, *point) for group, points in PROJECT["entry-points"].items() for point in points.items()]
POINTS += [("scripts", *point) for point in PROJECT["scripts"].items()]


@pytest.mark.parametrize(("group", "name", "target"), POINTS, ids=[f"{group}:{name}" for group, name, _ in POINTS])
def test_entry_point_leads_somewhere(group: str, name: str, target: str) -> None:
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    assert not attribute or getattr(found, attribute) is not None
    assert group == "scripts" or name in registry.names(group), "install the project again: its entry points have changed"


def test_every_plug_in_file_is_registered() -> None:
    registered = {target.partition(":")[0] for _, _, target in POINTS}
    folders = {"modalities": "MODALITY", "tasks": "TASK", "record/read": "READER"}
    for folder, constant in folders.items():
        paths = (ROOT / "src" / "salus" / folder).glob("*.py")
        declaring = [module_of(path) for path in paths if re.search(rf"^{constant}\b.*=", path.read_text("utf-8"), re.MULTILINE)]
        assert set(declaring) <= registered


@pytest.mark.parametrize("name", registry.names("salus.modalities"))
def test_modality_keeps_its_contract(name: str) -> None:
    modality = registry.load("salus.modalities", name)
    assert isinstance(modality, Modality) and modality.name == name and modality.title
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    items = modality.example()
    assert items and all(isinstance(item, Item) and item.modality == name for item in items)
    assert len({item.id for item in items}) == len(items)
    assert modality.claims and all(re.fullmatch(r"\S[^:]*:\S.*", claim) for claim in modality.claims)
    assert all(claims.modality_of(claim) == name for claim in modality.claims)
    for variable in modality.variables:
        assert check(variable.unit) == variable.unit
        assert variable.keys and variable.least_change >= 0 and variable.spread > 0
        assert variable.accepted is None or variable.accepted[0] < variable.accepted[1]
    assert (modality.build_encoder is None) == (modality.token_budget == 0)
    if modality.measure is not None:
        assert all(check(m.unit) and m.rule for item in items for m in modality.measure(item))


ENCODED = [name for name in registry.names("salus.modalities") if registry.load("salus.modalities", name).build_encoder is not None]


@pytest.mark.parametrize("name", ENCODED)
def test_encoder_keeps_its_contract(name: str) -> None:
    modality = registry.load("salus.modalities", name)
    encoder_module = importlib.import_module("salus.encode.encoder")
    encoder = modality.build_encoder(modality.encoder_defaults)
    assert isinstance(encoder, encoder_module.Encoder)
    seconds = {item.id: float(number) for number, item in enumerate(modality.example())}
    prepared = encoder.prepare(modality.example(), seconds)
    assert prepared is not None, "the example gives the network something to read"
    assert len(prepared.item_ids) == encoder.tokens and prepared.time_s.shape == (encoder.tokens,)
    assert {item_id for token in prepared.item_ids for item_id in token} <= set(seconds)
    encoded = encoder_module.encode(encoder, [prepared, prepared])
    assert encoded.values.shape == (2, encoder.tokens, encoder.width) and encoded.mask.shape == (2, encoder.tokens)
    assert bool(encoded.mask.any()) and bool(encoded.values.isfinite().all())
    assert encoder.prepare((), {}) is None
    assert hasattr(encoder, "build_pretext") or name in modality_names_of_tasks(), "something must be able to train it"


def modality_names_of_tasks() -> set[str]:
    """Return the modalities that some task can supervise."""
    return {name for task in registry.names("salus.tasks") for name in registry.load("salus.tasks", task).modalities}


def test_no_key_belongs_to_two_modalities_or_variables() -> None:
    assert claims.modality_of("no-such:key") == claims.UNCLAIMED
    assert len({variable.name for variable in variables.variables()}) == len(variables.variables())


@pytest.mark.parametrize("name", registry.names("salus.readers"))
def test_reader_keeps_its_contract(name: str, tmp_path: Path) -> None:
    reader = registry.load("salus.readers", name)
    assert isinstance(reader, Reader) and reader.name == name and reader.title
    empty = tmp_path / "empty.bin"
    empty.write_bytes(b"")
    assert reader.recognises(empty, b"") is False
    noise = bytes(range(256)) * (HEAD_BYTES // 256)
    assert reader.recognises(tmp_path / "noise.bin", noise) is False
    with pytest.raises(errors.InputError):
        reader.read(tmp_path / "not-there", ReadOptions())


@pytest.mark.parametrize("name", registry.names("salus.tasks"))
def test_task_keeps_its_contract(name: str) -> None:
    task = registry.load("salus.tasks", name)
    assert isinstance(task, Task) and task.name == name and task.title and task.licence
    assert (task.metric == "auroc") == (task.positive is not None)
    assert set(task.modalities) <= set(registry.names("salus.modalities"))


def test_errors_tree_is_the_one_drawn_at_the_top() -> None:
    drawn: dict[str, str] = {}
    open_at: dict[int, str] = {}
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"(\s*[│├└─ ]*)([A-Z]\w*(?:Error|Fixable|Extra|Bug)|Bug)\b", line)
        if found and line.startswith((" ", "│", "├", "└", "SalusError")) and "message" not in line:
            depth = len(found[1])
            parents = [name for place, name in sorted(open_at.items()) if place < depth]
            drawn[found[2]] = parents[-1] if parents else "Exception"
            open_at = {place: name for place, name in open_at.items() if place < depth} | {depth: found[2]}
    real = {
        name: kind.__mro__[1].__name__
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind.__module__ == errors.__name__
    }
    assert drawn == real


def test_errors_are_defined_in_one_file() -> None:
    defined = [
        f"{name_of(path)}: {node.name}"
        for path in SOURCE
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith(("Error", "Exception", "Fixable")) for base in node.bases)
    ]
    assert defined == []
