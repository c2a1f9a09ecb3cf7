"""The report: every link leads somewhere, everything is escaped, the disclosure stands, nothing half-written is left."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from salus.encode.modality import Measurement
from salus.errors import ConfigError, FormatError
from salus.generate import report
from salus.generate.answer import Answer, Disclosure, OptionScore, Statement
from salus.generate.report import MOST_FIGURES, MOST_ROWS, ReportSection, render, render_sections, write_report
from salus.record.patient import (
    Code,
    Content,
    Image,
    Instant,
    Item,
    Loaded,
    Offset,
    PatientRecord,
    ReferenceRange,
    Signal,
    Skipped,
    Slide,
    Sound,
    Source,
    Volume,
    item_id,
)  # fmt: skip

DISCLOSURE = Disclosure("Made by a language model from public data.", "salus-base", "0.1.0", "tiny")
NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)>'
HOUR = 3600.0
LOINC = "http://loinc.org"


def item(locator: str, **fields: object) -> Item:
    sha256 = "ab" * 32
    defaults: dict[str, object] = {
        "id": item_id(sha256, locator), "modality": "vitals_labs", "code": Code(LOINC, "2160-0", "Creatinine"),
        "source": Source("folder/labs.csv", sha256, locator),
    }  # fmt: skip
    return Item(**{**defaults, **fields})  # type: ignore[arg-type]


def creatinine(hour: float, value: float, **fields: object) -> Item:
    defaults: dict[str, object] = {"observed_at": Offset(hour * HOUR, "admission"), "value": value, "unit": "mg/dL"}
    return item(f"line {hour:g}", **{**defaults, **fields})


def content(kind: str, loaded: Loaded | Exception, summary: str = "") -> Content:
    def load() -> Loaded:
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    return Content(kind, load, summary)  # type: ignore[arg-type]


SERIES = tuple(creatinine(hour, 1.0 + hour / 20) for hour in range(0, 48, 2))
NOTE = item("note", modality="notes", category="note", code=Code("salus", "note", "note"), content=content("text", "Feverish."))
CT = item(
    "pixels", modality="ct_mr_slice", category="image", code=Code("salus", "ct", "CT slice"),
    content=content("image", Image(np.eye(16, dtype=np.float32), "[hnsf'U]", (1.0, 1.0), "L\\P", (0.5, 1.0)), "16 × 16, CT, HU"),
)  # fmt: skip
RECORD = PatientRecord("p1", (*SERIES, NOTE, CT))


def statement(text: str = "Creatinine rose.", *item_ids: str, **fields: object) -> Statement:
    defaults = Statement(text, item_ids, 0.974, "verified")
    return replace(defaults, **fields)  # type: ignore[arg-type]


def answer(*statements: Statement, **fields: object) -> Answer:
    defaults = Answer("What changed?", "p1", "47 h after admission", statements, (), (), None, (), DISCLOSURE, {"reason": 1.25})
    return replace(defaults, **fields)  # type: ignore[arg-type]


class Page(HTMLParser):
    """Ids, link targets, classes and words of a page, and whether its tags nest."""

    VOID = ("meta", "br", "img", "path", "circle", "image", "rect")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(found["id"] or "")
        if tag == "a" and (found.get("href") or "").startswith("#"):
            self.targets.append((found["href"] or "")[1:])
        assert not any(name.startswith("on") for name in found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


def whole() -> str:
    answers = [answer(statement("Creatinine rose.", SERIES[0].id, SERIES[-1].id), statement("See the slice.", CT.id, NOTE.id))]
    return render(answers, RECORD, skipped=[Skipped("x.bin", "no reader recognises it")])


def test_every_link_leads_to_one_place() -> None:
    page = Page(whole())
    assert len(page.ids) == len(set(page.ids))
    assert set(page.targets) <= set(page.ids)
    for cited, kind in ((SERIES[0], "point"), (SERIES[0], "row"), (CT, "figure"), (NOTE, "figure"), (CT, "row")):
        assert f"s1-{kind}-{cited.id}" in page.targets


def test_cited_rows_are_always_in_the_table_and_its_group_is_open() -> None:
    html = whole()
    page = Page(html)
    assert f"s1-row-{SERIES[0].id}" in page.ids  # the earliest of 24, beyond the latest rows
    assert f"s1-row-{SERIES[1].id}" not in page.ids
    assert f"{MOST_ROWS + 1} of {len(SERIES)} shown" in page.words
    assert re.search(r'<details class="group" open>\s*<summary>creatinine', html)


def test_page_needs_no_network_and_no_script() -> None:
    html = whole()
    assert "script" not in Page(html).tags
    assert not re.findall(r'(?:src|href)="(?!#|data:image/png)[^"]*"', html)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"<]+", html)
    assert "url(" not in html and "@import" not in html


def test_disclosure_names_model_version_backbone_and_forbids_clinical_use() -> None:
    page = Page(whole())
    assert page.words.index("Written by a machine. Not for clinical use before your site has approved it.") < page.words.index(
        "What changed?"
    )
    for words in ("salus-base, version 0.1.0", "tiny", DISCLOSURE.text):
        assert words in page.words


def test_one_disclosure_for_many_answers_and_every_different_one() -> None:
    other = answer(disclosure=replace(DISCLOSURE, version="0.2.0"))
    words = Page(render([answer(), answer(), other], RECORD)).words
    assert words.count(DISCLOSURE.text) == 2
    assert "version 0.1.0" in words and "version 0.2.0" in words


def test_without_an_answer_the_page_says_so() -> None:
    words = Page(render([], RECORD)).words
    assert "No question was asked: this page shows the record, without any model." in words
    assert "Not for clinical use before your site has approved it." in words


@pytest.mark.parametrize(
    ("confidence", "words"),
    [(0.974, "confidence 97 %"), (1.0, "confidence > 99 %"), (0.0, "confidence < 1 %"), (None, "not calibrated")],
)
def test_confidence(confidence: float | None, words: str) -> None:
    assert words in Page(render([answer(statement(confidence=confidence))], RECORD)).words


@pytest.mark.parametrize(
    ("verification", "badge"),
    [("verified", "✓ verified"), ("mended", "✎ mended"), ("added", "+ added by rule"), ("not_a_claim", "– no claim")],
)
def test_badges(verification: str, badge: str) -> None:
    words = Page(render([answer(statement("It rose.", verification=verification))], RECORD)).words
    assert badge in words and "It rose." in words


def test_a_withheld_statement_is_never_shown() -> None:
    withheld = statement("Creatinine is 99 mg/dL.", verification="withheld", draft="Creatinine is 99 mg/dL.", support="x")
    words = Page(render([answer(withheld)], RECORD)).words
    assert "99 mg/dL" not in words
    assert "✕ withheld" in words
    assert "it failed the check against the record, and nothing in the record could replace it" in words


def test_a_draft_that_was_mended_is_not_shown() -> None:
    mended = statement("Creatinine is 2 mg/dL.", verification="mended", draft="Creatinine is 99 mg/dL.")
    assert "99 mg/dL" not in render([answer(mended)], RECORD)


def test_options_abstention_and_limits() -> None:
    scores = (OptionScore("yes", 0.312, True), OptionScore("no", 0.688, False))
    asked = answer(options=scores, option_item_ids=(SERIES[3].id,), abstained="Too unsure.", limits=("CT is not interpreted.",))
    page = Page(render([asked], RECORD))
    for words in (
        "31 %",
        "calibrated on val",
        "69 %",
        "not calibrated",
        "No answer is given.",
        "Too unsure.",
        "CT is not interpreted.",
    ):
        assert words in page.words
    assert f"s1-point-{SERIES[3].id}" in page.targets


def test_many_cited_items_are_folded_not_dropped() -> None:
    page = Page(render([answer(statement("All.", *(one.id for one in SERIES)))], RECORD))
    assert f"{len(SERIES) - report.MOST_CHIPS} more" in page.words
    assert {f"s1-point-{one.id}" for one in SERIES} <= set(page.targets)


def test_an_item_that_is_not_in_the_record_is_told() -> None:
    assert "item 0123, which is not in this record" in Page(render([answer(statement("x", "0123"))], RECORD)).words


def test_missing_modalities_and_skipped_files_are_told() -> None:
    section = ReportSection("x", RECORD, skipped=[Skipped("x.bin", "no reader recognises it")], expected=("heart_sound", "vitals_labs"))
    words = Page(render_sections([section])).words
    missing = words[words.index("Not in this record:") :]
    assert missing.startswith("Not in this record: heart sound. Nothing is known from these")
    assert "x.bin" in words and "no reader recognises it" in words


def test_everything_is_escaped() -> None:
    bad_code = Code(LOINC, NASTY, NASTY)
    items = (
        item("1", code=bad_code, value=NASTY, observed_at=Offset(0, "admission"), category="condition", status=NASTY,
             remarks=(NASTY,)),
        item("2", code=bad_code, modality="notes", category="note", content=content("text", NASTY, NASTY)),
        item("3", code=bad_code, value=1.0, unit="mg/dL", observed_at=Offset(0, "admission"),
             reference_range=ReferenceRange(0, 2, NASTY)),
        item("4", code=bad_code, value=2.0, unit="mg/dL", observed_at=Offset(HOUR, "admission")),
        item("5", code=bad_code, modality="ecg", category="waveform",
             content=content("signal", Signal(np.zeros((1, 50), np.float32), (NASTY,), ("mV",), 50.0))),
        item("6", code=bad_code, modality="radiograph", category="image", content=content("image", FormatError(NASTY))),
    )  # fmt: skip
    disclosure = Disclosure(NASTY, NASTY, NASTY, NASTY)
    asked = answer(
        statement(NASTY, *(one.id for one in items)), question=NASTY, limits=(NASTY,), abstained=NASTY, disclosure=disclosure,
        options=(OptionScore(NASTY, 0.5, False),), prediction_time=NASTY,
    )  # fmt: skip
    measured = {items[4].id: [Measurement(NASTY, 1.0, "mV", NASTY)]}
    section = ReportSection(NASTY, PatientRecord(NASTY, items), [asked], [Skipped(NASTY, NASTY)], measured)
    page = Page(render_sections([section]))
    assert "script" not in page.tags and "img" not in page.tags
    assert NASTY in page.words


def test_content_that_cannot_be_read_is_told_in_its_place() -> None:
    broken = replace(CT, content=content("image", FormatError("Cannot decode x.dcm: its pixels are cut short. Export it again.")))
    words = Page(render([], PatientRecord("p1", (broken,)))).words
    assert "Cannot be shown. Cannot decode x.dcm: its pixels are cut short. Export it again." in words


def test_measurements_stand_below_their_figure_with_the_rule() -> None:
    section = ReportSection("CT", RECORD, measurements={CT.id: [Measurement("mean density", 41.23456, "[hnsf'U]", "mean of pixels")]})
    words = Page(render_sections([section])).words
    assert "mean density: 41.23 HU" in words and "Measured by rule: mean of pixels" in words


def test_cited_pictures_are_shown_whatever_their_number() -> None:
    pictures = tuple(replace(CT, id=f"{index:012x}") for index in range(MOST_FIGURES + 5))
    page = Page(render([answer(statement("Last.", pictures[-1].id))], PatientRecord("p1", pictures)))
    assert f"s1-figure-{pictures[-1].id}" in page.ids
    assert "5 further pictures or texts are listed among the items only." in page.words


def test_sound_and_waveforms_are_drawn() -> None:
    time_s = np.arange(2000) / 1000
    signal = Signal(np.sin(time_s)[None].astype(np.float32), ("ABP",), ("mm[Hg]",), 1000.0)
    items = (
        item("w", modality="ecg", category="waveform", code=Code("salus", "w", "pressure"), content=content("signal", signal)),
        item("s", modality="heart_sound", category="sound", code=Code("salus", "s", "heart sound"),
             content=content("sound", Sound(np.sin(600 * time_s)[None].astype(np.float32), 1000.0))),
    )  # fmt: skip
    words = Page(render([], PatientRecord("p1", items))).words
    assert "mmHg" in words and "each channel on its own scale; 2 s" in words and "Waveform above; spectrogram below" in words


def test_volumes_in_time_and_slides_are_drawn() -> None:
    """Of five points in time the third is drawn: the others hold nothing but their number, which would give no contrast."""
    voxels = np.ones((5, 3, 4, 4), np.float32) * np.arange(5, dtype=np.float32)[:, None, None, None]
    voxels[2, :, 1:3, 1:3] = 50.0
    glass = np.full((64, 96, 3), 240, np.uint8)
    slide = Slide(((64, 96),), lambda _level, row, column, size: glass[row : row + size[0], column : column + size[1]], (0.01, 0.01))
    items = (
        item("v", modality="volume", category="image", code=Code("salus", "v", "volume"),
             content=content("volume", Volume(voxels, "1", np.eye(4)))),
        item("l", modality="pathology_slide", category="image", code=Code("salus", "l", "slide"), content=content("slide", slide)),
        item("b", modality="pathology_slide", category="image", code=Code("salus", "b", "slide"),
             content=content("slide", Slide(((10**6, 10**6),), slide.region))),
    )  # fmt: skip
    words = Page(render([], PatientRecord("p1", items))).words
    assert "point 3 of 5 in time, three cuts through the middle" in words and "overview of 64 × 96 pixels" in words
    assert "Cannot show the slide: its smallest usable level has 1000000 × 1000000 pixels" in words


def test_calendar_times_are_told_on_the_stays_clock_too() -> None:
    admitted = datetime(2026, 3, 2, 21, 40, tzinfo=UTC)
    shock = item("shock", modality="ehr", category="condition", code=Code("http://snomed.info/sct", "76571007", "Septic shock"),
                 observed_at=Instant(datetime(2026, 3, 3, 3, 40, tzinfo=UTC)), status="active")  # fmt: skip
    record = PatientRecord("p1", (*SERIES, shock), {"admission": admitted})
    assert "6 h after admission (2026-03-03 03:40 UTC)" in Page(render([], record)).words


def test_a_value_from_before_the_stay_is_in_the_table_and_not_in_the_chart() -> None:
    before = creatinine(-1, 1.0, observed_at=Instant(datetime(2025, 11, 18, tzinfo=UTC), "day"))
    record = PatientRecord("p1", (before, *SERIES), {"admission": datetime(2026, 3, 2, tzinfo=UTC)})
    page = Page(render([answer(statement("x", before.id))], record))
    assert f"s1-row-{before.id}" in page.targets
    assert f"s1-point-{before.id}" not in page.ids


def test_range_of_the_record_precedes_the_variables() -> None:
    own = tuple(replace(one, reference_range=ReferenceRange(0.0, 9.0, "this laboratory")) for one in SERIES)
    html = render([], PatientRecord("p1", own))
    assert "above range" not in html
    assert "reference 0 to 9 mg/dL (this laboratory)" in Page(html).words
    assert "above range" in whole()


def test_several_records_have_their_own_places_and_contents() -> None:
    sections = [ReportSection("First", RECORD, [answer(statement("x", CT.id))]), ReportSection("Second", RECORD)]
    page = Page(render_sections(sections))
    assert len(page.ids) == len(set(page.ids))
    assert {"s1", "s2", f"s1-figure-{CT.id}"} <= set(page.targets)


def test_empty_record() -> None:
    assert "no items" in Page(render([], PatientRecord("p1", ()))).words


def test_equal_input_gives_equal_pages() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    sections = [ReportSection("x", RECORD, [answer(statement("x", CT.id))])]
    assert render_sections(sections, made_at=at) == render_sections(sections, made_at=at)


def test_write_report_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_report(path, [ReportSection("x", RECORD)])
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!DOCTYPE html>")

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk is full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_report(path, [ReportSection("y", RECORD)])
    assert path.read_text(encoding="utf-8") == before
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_report_into_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "no" / "report.html"
    with pytest.raises(ConfigError) as error:
        write_report(path, [ReportSection("x", RECORD)])
    assert str(error.value) == (
        f"Cannot write the report to {path}: No such file or directory. Give a file in a folder that you may write to."
    )


def test_timeline_gives_a_row_to_what_lasts_and_none_to_short_visits() -> None:
    def lasting(locator: str, display: str, ended_h: float | None) -> Item:
        ended = None if ended_h is None else Offset(ended_h * HOUR, "admission")
        return item(locator, modality="ehr", category="condition", code=Code("x", locator, display), ended_at=ended,
                    observed_at=Offset(HOUR, "admission"), status="resolved" if ended else "active")  # fmt: skip

    items = (*SERIES, lasting("a", "Septic shock", None), lasting("b", "Fit", 1.1), lasting("c", "Delirium", 30.0))
    html = render([], PatientRecord("p1", items))
    drawn = html[html.index("<title>Timeline of the record</title>") :]
    rows = re.findall(r"<desc>([^<]+)</desc>", drawn)[0]
    assert rows == "vitals and labs: 24; conditions: 1; Septic shock: 1; Delirium: 1"
