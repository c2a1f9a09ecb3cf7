"""The measuring of alignment: what is done is kept, `test` is read on demand, chance is beside every figure, patients are never split."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuse.align.rows import made_rows

from salus import cli, metrics
from salus.config import read_settings
from salus.errors import ConfigError
from salus.evaluate import alignment_bench, alignment_sets, alignment_tasks
from salus.evaluate.alignment_bench import AlignmentRecipe, AlignTaskRecipe, folds_by_group
from salus.evaluate.alignment_rows import bench_alignment
from salus.evaluate.alignment_sets import BaseModel, joined_rows, kept_pair_sets
from salus.evaluate.alignment_tasks import AlignmentTask, ZeroShot, alignment_task
from salus.evaluate.rows import Row
from salus.fuse.align.fit import AlignBudget
from salus.fuse.align.pairs import PairSets
from salus.fuse.token_sets import Tokens

SIZES = {"train": 60, "val": 30, "test": 30}
MODEL = BaseModel("made", lambda: pytest.fail("the base model must not be loaded"))
WORDS = ZeroShot("image", "text", ("{}",), ("low", "high"), ("low", "high"))


def made(split: str) -> PairSets:
    """Return rows of a split: image, text and sound of one hidden vector; patients differ between splits."""
    rows = made_rows(sum(SIZES.values()), 0)
    starts = {"train": 0, "val": 60, "test": 90}
    order = np.argsort(rows.sets.groups, kind="stable")
    return rows.take(order[starts[split] : starts[split] + SIZES[split]])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Put a made task in the place of the real ones; return which splits were read."""
    read: list[str] = []
    monkeypatch.setattr(metrics, "RESAMPLES", 30)

    def sets(_data: Path, splits: Sequence[str], _frozen: object, _progress: object) -> dict[str, PairSets]:
        read.extend(splits)
        return {split: made(split) for split in splits}

    three = ("image", "text", "sound")
    tasks = {
        "pair": AlignmentTask("pair", "rosmap", three, (("image", "text"),), sets, zero_shot=WORDS, has_knowledge=True),  # type: ignore[arg-type]
        "bound": AlignmentTask("bound", "rosmap", three, (("image", "text"), ("image", "sound")), sets, anchors=three),  # type: ignore[arg-type]
    }
    monkeypatch.setattr(alignment_tasks, "TASKS", tasks)
    text = made("train").sets.modalities["text"]
    prompts = [Tokens(text.values[rows], text.mask[rows], text.time_s[rows]) for rows in ([0, 1], [2, 3, 4])]
    monkeypatch.setattr(alignment_bench, "kept_prompts", lambda _words, _folder: prompts)
    monkeypatch.setattr(alignment_sets, "tree_hash", lambda _folder: "made")
    return read


def recipe(*tasks: str, seeds: tuple[int, ...] = (0,)) -> AlignmentRecipe:
    own = AlignTaskRecipe({"sphere": 4, "components": 4}, AlignBudget(steps=6, lr=1e-2))
    return AlignmentRecipe("made", seeds, dict.fromkeys(tasks, own), folds=3)


def measured(folder: Path, *tasks: str, reads_test: bool = False, seeds: tuple[int, ...] = (0,)) -> tuple[int, list[Row]]:
    """Return how many fits were run, and the rows."""
    progress: Callable[[str, float], None] = lambda _words, _share: None  # noqa: E731
    bench, results = bench_alignment(recipe(*tasks, seeds=seeds), folder, folder, model=MODEL, reads_test=reads_test, progress=progress)
    return bench.fitted, [row for result in results for row in result.rows]


def test_what_is_done_is_kept_and_gives_the_same_rows(asked: list[str], tmp_path: Path) -> None:
    first, rows = measured(tmp_path, "pair")
    again, same = measured(tmp_path, "pair")
    assert first > 8 and again == 0
    assert json.dumps([vars(row) for row in rows]) == json.dumps([vars(row) for row in same])


def test_a_stopped_run_goes_on_where_it_was(asked: list[str], tmp_path: Path) -> None:
    whole, rows = measured(tmp_path, "pair")
    kept = sorted((tmp_path / "fits").glob("*.npz"))
    for path in kept[:3]:
        path.unlink()
    again, same = measured(tmp_path, "pair")
    assert again == 3 and len(kept) == whole
    assert [vars(row) for row in rows] == [vars(row) for row in same]


def test_the_test_part_is_read_on_demand_alone(asked: list[str], tmp_path: Path) -> None:
    _, rows = measured(tmp_path, "pair")
    assert sorted(asked) == ["train", "val"]
    assert {row.split for row in rows} == {"train+val", "val"}
    _, rows = measured(tmp_path, "pair", reads_test=True)
    assert sorted(asked) == ["test", "train", "val"]
    shown = {row.model.partition(":")[0] for row in rows if row.split == "test" and row.metric == "recall_at_1"}
    assert {"chance", "canonical correlations"} < shown and len(shown) == 3  # what was chosen, and nothing else


def test_every_recall_has_its_chance_and_both_ways_are_there(asked: list[str], tmp_path: Path) -> None:
    _, rows = measured(tmp_path, "pair", seeds=(0, 1))
    found = {(row.model, row.metric) for row in rows if row.split == "train+val"}
    for way in ("image to text", "text to image"):
        for place in (1, 5, 10):
            assert (f"chance: {way}", f"recall_at_{place}") in found
            assert (f"chance: {way}", f"recall_at_{place}") in {(row.model, row.metric) for row in rows if row.split == "val"}
            assert (f"clip: {way}, minus chance", f"recall_at_{place}_difference") in found
        assert (f"siglip + hard negatives + knowledge: {way}", "median_rank") in found
        assert (f"clip + random start: {way}", "recall_at_10") in found
    by_name = {(row.model, row.metric): row for row in rows if row.split == "train+val"}
    one, luck = by_name["clip: image to text", "recall_at_5"], by_name["chance: image to text", "recall_at_5"]
    gain = by_name["clip: image to text, minus chance", "recall_at_5_difference"]
    assert gain.value == pytest.approx(one.value - luck.value)
    assert one.value > luck.value and gain.low > 0  # the views share a hidden vector
    assert one.low <= one.value <= one.high and one.n == SIZES["train"] + SIZES["val"] and one.seeds == (0, 1)
    words = [row for row in rows if row.metric == "zero_shot_auroc"]
    assert {row.split for row in words} == {"train+val", "val"} and all(0 <= row.value <= 1 for row in words)


def test_binding_searches_the_pair_that_was_never_trained(asked: list[str], tmp_path: Path) -> None:
    _, rows = measured(tmp_path, "bound")
    found = {row.model: row for row in rows if row.metric == "recall_at_10_difference" and "bound" in row.model}
    assert found["canonical correlations, bound by image: text to sound, minus chance"].low > 0
    assert not any("bound by image: image" in name for name in found)
    assert {name.partition("bound by ")[2].partition(":")[0] for name in found} == {"image", "text", "sound"}


@given(groups=st.lists(st.sampled_from("abcdefgh"), min_size=4), folds=st.integers(2, 4))
def test_a_patient_is_in_one_fold_and_every_row_once(groups: list[str], folds: int) -> None:
    folds = min(folds, len(set(groups)))
    parts = folds_by_group(groups, folds)
    assert sorted(row for _, left in parts for row in left.tolist()) == list(range(len(groups)))
    for fitted, left in parts:
        assert not {groups[row] for row in fitted} & {groups[row] for row in left}
        assert len(fitted) + len(left) == len(groups)


def test_kept_rows_come_back_as_they_were(asked: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        found = kept_pair_sets("pair", tmp_path, tmp_path, ("val",), model=MODEL, progress=lambda _words, _share: None)["val"]
    assert asked == ["val"]
    wanted = made("val")
    assert found.units == wanted.units and found.sets.groups == wanted.sets.groups
    for name, one in wanted.sets.modalities.items():
        assert (found.sets.modalities[name].values == one.values).all() and (found.sets.modalities[name].mask == one.mask).all()


def test_joined_rows_pad_to_the_longer(asked: list[str]) -> None:
    first, second = made("train"), made("val")
    text = second.sets.modalities["text"]
    wide = ((0, 0), (0, 3))
    longer = Tokens(np.pad(text.values, (*wide, (0, 0))), np.pad(text.mask, wide), np.pad(text.time_s, wide))
    modalities: Mapping[str, Any] = {**second.sets.modalities, "text": longer}
    both = joined_rows(first, replace(second, sets=replace(second.sets, modalities=modalities)))
    assert both.sets.modalities["text"].values.shape[:2] == (90, 5)
    assert both.sets.modalities["text"].mask.sum() == first.sets.modalities["text"].mask.sum() + text.mask.sum()
    assert both.units["text"] == first.units["text"] + second.units["text"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": ()}, "Cannot use recipe 'made': seeds is empty. Give at least one."),
        ({"tasks": {}}, "Cannot use recipe 'made': tasks is empty. Give at least one."),
        ({"folds": 1}, "Cannot use recipe 'made': folds is 1. Give 2 or more."),
        ({"folds": 1000}, "Cannot make 1000 folds of 20 patients. Set folds to 20 at most."),
        ({"tasks": {"pair": AlignTaskRecipe({"sphre": 4})}}, "Cannot read settings 'tasks.pair.aligner': unknown key 'sphre'. Did"),
        ({"tasks": {"pair": AlignTaskRecipe({"start": "x"})}}, "Cannot use tasks.pair.aligner: 'start' is what is compared. Leave it out."),
        ({"tasks": {"pair": AlignTaskRecipe({"sphere": 0})}}, "Cannot use tasks.pair.aligner: sphere is 0. Give 1 or more."),
        ({"tasks": {"pair": AlignTaskRecipe({}, AlignBudget(chunk=0))}}, "Cannot use tasks.pair.budget: chunk is 0. Give 1 or more."),
    ],
)
def test_what_could_not_be_run_is_refused(asked: list[str], tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    wanted = replace(recipe("pair"), **changed)
    with pytest.raises(ConfigError) as found:
        bench_alignment(wanted, tmp_path, tmp_path, model=MODEL, reads_test=False, progress=lambda _words, _share: None)
    assert str(found.value).startswith(words)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="Cannot measure alignment on 'x'"):
        alignment_task("x")


def test_the_command_writes_results_and_a_page(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made.yaml"
    path.write_text("name: made\nseeds: [0]\nfolds: 3\ntasks: {pair: {aligner: {sphere: 4, components: 4}, budget: {steps: 3}}}\n", "utf-8")
    (tmp_path / "multiomics_rosmap").mkdir()
    out = tmp_path / "out" / "alignment.json"
    told = ["bench", "alignment", str(path), "--data", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(out)]
    assert cli.main(told) == 0
    tree = json.loads(out.read_text("utf-8"))
    assert tree["rows"] and tree["recipe_hash"] and "multiomics_rosmap" in tree["data_hashes"]
    assert "recall_at_10" in out.with_suffix(".html").read_text("utf-8")
    assert "fits were run" in capsys.readouterr().out


def test_the_recipe_that_ships_names_known_tasks() -> None:
    found = read_settings(AlignmentRecipe, Path(__file__).parents[2] / "recipes" / "alignment.yaml")
    assert len(found.seeds) >= 5
    assert [alignment_task(name).name for name in found.tasks] == list(found.tasks)
