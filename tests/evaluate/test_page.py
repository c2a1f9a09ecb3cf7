"""The evaluation page: every row with its interval and n, curves, subgroups, escaping."""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser
from typing import Any

import pytest

from salus.errors import ConfigError
from salus.evaluate.overview import BEST_ALONE, GAIN, overviews, searches
from salus.evaluate.page import render_page

NASTY = "<script>alert(1)</script>"


def row(**fields: Any) -> dict[str, Any]:
    return {
        "task": "icu-death", "split": "test", "role": "final", "model": "salus-base", "metric": "auroc", "value": 0.84449,
        "low": 0.8071, "high": 0.8802, "n": 601, "seeds": [0, 1], "selected_on": "val", "subgroup": None,
    } | fields  # fmt: skip


def result(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "command": "salus evaluate", "commit": "abc", "date": "2026-11-22",
        "data_hashes": {"icu": "d1"}, "split_hashes": {"icu": "s1"},
        "prompts": {"icu-death": "Will they?"}, "load_report": {"missing": []}, "rows": list(rows), "curves": {},
    } | fields  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"


def test_value_interval_n_and_choice_stand_in_the_row() -> None:
    words = Tags(render_page(result(row()))).words
    for expected in ("0.844", "0.807 to 0.880", "601", "0, 1", "val", "salus-base"):
        assert expected in words


def test_missing_interval_and_value_are_said() -> None:
    words = Tags(render_page(result(row(low=None, high=None), row(value=None, low=None, high=None, role="baseline")))).words
    assert "no interval" in words and "not measured" in words


def test_final_rows_come_first() -> None:
    page = render_page(result(row(role="ablation", model="shuffled"), row(role="baseline", model="forest"), row()))
    section = page[page.index('id="task-icu-death"') :]
    assert section.index("salus-base") < section.index("forest") < section.index("shuffled")


def test_subgroups_stand_apart_and_their_absence_is_said() -> None:
    words = Tags(render_page(result(row(), row(subgroup={"sex": "female"}, n=260), row(subgroup={"age_band": "65-79"})))).words
    assert "sex: female" in words and "age band: 65-79" in words and "260" in words
    assert "No subgroup is known" not in words
    assert (
        "No subgroup is known for this task: whether it works equally well for all patients was not measured."
        in Tags(render_page(result(row()))).words
    )


def test_curves_are_drawn() -> None:
    curves = {
        "roc": [[0.0, 0.0], [0.2, 0.7], [1.0, 1.0]],
        "reliability": [{"mean_predicted": 0.1, "observed": 0.12, "n": 40}, {"mean_predicted": 0.6, "observed": 0.5, "n": 0}],
        "risk_coverage": [[0.5, 0.05], [1.0, 0.1]],
    }
    page = render_page(result(row(), curves={"icu-death": curves}))
    for title in ("ROC, icu-death", "Reliability, icu-death", "Risk and coverage, icu-death"):
        assert f"<title>{title}</title>" in page
    assert page.count("<circle") == 1 + 2  # the filled bin, and the interval of the one row, which stands in two tables
    assert "<title>ROC" not in render_page(result(row()))


def test_interval_is_drawn_on_its_scale() -> None:
    # 0.5 lies in the middle of the line from 2 to 118.
    assert 'cx="60.0"' in render_page(result(row(value=0.5, low=0.4, high=0.6)))
    assert 'cx="60.0"' in render_page(result(row(metric="auroc difference from forest", value=0.0, low=-0.1, high=0.1)))
    assert "cx=" not in render_page(result(row(metric="exact_match_count", value=3.0, low=2.0, high=4.0)))


def test_provenance_is_on_the_page() -> None:
    words = Tags(render_page(result(row()))).words
    for expected in ("salus evaluate", "abc", "2026-11-22", "d1", "s1", "Will they?", "missing"):
        assert expected in words


def test_everything_is_escaped() -> None:
    nasty = row(task=NASTY, model=NASTY, metric=NASTY, split=NASTY, seeds=NASTY, selected_on=NASTY)
    curves = {NASTY: {"roc": [[0, 0], [1, 1]]}}
    page = render_page(result(nasty, row(task=NASTY, subgroup={NASTY: NASTY}), command=NASTY, prompts={NASTY: NASTY}, curves=curves))
    assert "script" not in Tags(page).tags
    assert escape(NASTY) in page


def test_no_rows() -> None:
    with pytest.raises(ConfigError) as error:
        render_page(result())
    assert str(error.value) == "Cannot make the evaluation page: the results hold no rows. Run salus evaluate again."


def test_a_row_without_its_interval_is_refused() -> None:
    broken = row()
    del broken["low"], broken["n"]
    with pytest.raises(ConfigError) as error:
        render_page(result(row(), broken))
    assert str(error.value) == "Cannot make the evaluation page: row 1 lacks low, n. Run salus evaluate again."


def test_one_table_shows_models_by_tasks() -> None:
    """The best of a column is bold, the best modality alone is named, and where all modalities give no gain the table says so."""
    gain = {"metric": "auroc_difference", "model": "gated minus lab alone", "value": 0.02, "low": -0.01, "high": 0.05}
    rows = [
        row(task=task, model=model, value=value, role="candidate", low=value - 0.1, high=value + 0.1, split="val")
        for task, model, value in [
            ("a", "gated", 0.8), ("b", "gated", 0.7), ("a", "late", 0.81), ("b", "late", 0.6), ("a", "lab alone", 0.78),
            ("b", "note alone", 0.5), ("a", "image alone", 0.6), ("b", "concat, note + lab", 0.9),
            ("a", "late, fitted on train alone", 0.99),
        ]
    ]  # fmt: skip
    found = result(*rows, row(task="a", split="val", **gain), row(task="b", split="val", **gain | {"low": 0.01}), overview="auroc")
    (table,) = overviews(found["rows"], "auroc")
    assert table.tasks == ("a", "b") and [name for name, _ in table.lines] == ["gated", "late", BEST_ALONE, GAIN]
    assert table.lines[0][1] == (("0.800 (0.700 to 0.900)", "", False), ("0.700 (0.600 to 0.800)", "", True))
    assert table.lines[2][1][0] == ("0.780 (0.680 to 0.880)", "lab", False)
    assert [cell[1] for cell in table.lines[3][1]] == ["no gain shown", "shown"]
    page = render_page(found)
    assert "<strong>0.810 (0.710 to 0.910)</strong>" in page and "no gain shown" in page and "AUROC, val" in page


def test_what_chooses_is_one_table_whether_val_or_folds() -> None:
    """A task whose `val` is too small is chosen on folds; what was measured on other patients has a column of its own."""
    shared = {"role": "candidate", "model": "gated"}
    rows = [
        row(task="a", split="val", **shared), row(task="b", split="train+val", **shared), row(task="a", split="test", **shared),
        row(task="b", split="val", role="candidate", model="gated through the language model", value=0.9),
    ]  # fmt: skip
    chosen, test = overviews(rows, "auroc")
    assert chosen.title == "AUROC, val and train+val" and chosen.tasks == ("a, val", "b, train+val", "b, val")
    assert [[cell[0][:5] for cell in cells] for _, cells in chosen.lines] == [["0.844", "0.844", ""], ["", "", "0.900"]]
    assert (test.title, test.tasks) == ("AUROC, test", ("a",))


def test_searches_stand_beside_chance_and_the_linear_baseline() -> None:
    def found(role: str, model: str, value: float, **fields: Any) -> dict[str, Any]:
        return row(task="alignment-omics", split="train+val", metric="recall_at_10", role=role, model=model, value=value, **fields)

    ways = (": rna to dna_x", ", bound by protein_y: rna to dna_x")
    rows = [
        found(role, f"{how}{way}", value)
        for way in ways
        for role, how, value in [
            ("baseline", "chance", 0.2), ("baseline", "canonical correlations", 0.3), ("final", "clip + knowledge", 0.4),
            ("candidate", "siglip", 0.9), ("ablation", "clip", 0.9),
        ]
    ]  # fmt: skip
    gain = {"metric": "recall_at_10_difference", "split": "train+val"}
    for way, low in zip(ways, (0.1, -0.1), strict=True):
        model = f"clip + knowledge{way}, minus chance"
        rows.append(row(task="alignment-omics", model=model, role="final", value=0.2, **gain | {"low": low}))
    ((split, (one, bound)),) = searches(rows).items()
    assert (split, one.task, one.way, one.bound, one.n) == ("train+val", "omics", "rna to dna x", "", 601)
    assert one.places[0] == ("", "", "", "", False) and one.places[2] == ("0.200", "0.300", "0.400", "0.807 to 0.880", True)
    assert bound.bound == "protein y" and not bound.places[2][-1]
    page = render_page(result(*rows, command="salus bench alignment recipes/alignment.yaml"))
    assert "<h1>Alignment measured</h1>" in page and "<strong>0.400</strong>" in page and "bound by protein y" in page
    assert "Final configurations" not in page and "Final configurations" in render_page(result(row()))


def test_the_title_says_what_the_page_is_about() -> None:
    for words, title in [("salus bench fusion r.yaml", "Fusion strategies compared"), ("salus evaluate", "Salus evaluation")]:
        page = render_page(result(row(), command=words, peak_mb=512))
        assert f"<title>{title}</title>" in page and f"<h1>{title}</h1>" in page and "512" in Tags(page).words


def test_numbers_of_cases_stand_on_the_axis_with_intervals() -> None:
    lines = {"similar": [[0, 0.8, 0.7, 0.9], [1, 0.7, 0.6, 0.8], [8, 0.6, 0.5, 0.7]]}
    page = render_page(result(row(), curves={"icu-death": {"shots": {"metric": "auroc", "lines": lines}}}))
    drawn = page[page.index("<title>Solved cases, icu-death") :]
    assert [drawn.count(f'text-anchor="middle" fill="#55636f">{words}</text>') for words in ("0", "1", "8", "0.2")] == [1, 1, 1, 0]
    assert drawn.count("stroke-opacity") == 3


def test_notes_of_a_task_stand_beside_its_rows() -> None:
    page = render_page(result(row(), notes={"icu-death: Shapley values": {"labs": 0.1}, "icu-death, test: ideal": 0.02, "other: x": "y"}))
    section = page[page.index('id="task-icu-death"') : page.index("How this was made")]
    assert "Shapley values</dt><dd>labs 0.1" in section and "test: ideal</dt><dd>0.02" in section and ">x</dt>" not in section
