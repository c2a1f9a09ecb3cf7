"""The report: one HTML file in which every statement leads to its evidence.

Takes answers and the record they are about; gives a page that needs no network and no script: disclosure, answers, timeline,
trends, traces, images, notes, items, and what was skipped. Draws with `draw` and `draw_content`; the page's form is in
`report.html.j2`. Leaves out asking, measuring and reading files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from salus import registry
from salus.encode.modality import Measurement
from salus.errors import ConfigError, UserFixable
from salus.generate.answer import Answer, Disclosure, OptionScore, Statement
from salus.generate.draw import TimeAxis, TimelineMark, TrendPoint, timeline, trend
from salus.generate.draw_clip import clip_words, contact_sheet
from salus.generate.draw_content import MOST_PIXELS, ecg, image, shown_s, sound, waveforms, window_words
from salus.generate.molecules import profile_text, sequences_text
from salus.record.patient import (
    Clip,
    Code,
    Image,
    Instant,
    Item,
    Offset,
    PatientRecord,
    Profile,
    ReferenceRange,
    Sequences,
    Signal,
    Skipped,
    Slide,
    Sound,
    Source,
    Volume,
)
from salus.record.slide import overview
from salus.record.timeline import clock, format_time, parse_prediction_time
from salus.record.variables import display_of, series_key, variable_of
from salus.record.volume import cuts
from salus.units import number, printed, words

MOST_ROWS = 8
"""Rows of one series in the table of items; cited rows are always there."""
MOST_CHARTS = 12
"""Trend charts that stand open; further ones are folded."""
MOST_FIGURES = 12
"""Images, traces and sounds of one record; cited ones are always there."""
MOST_CHIPS = 6
"""Evidence links under a statement that stand open; further ones are folded."""
MOST_CHARACTERS = 20_000
"""Characters of one note."""

CUTS = ("across the slices", "across the rows", "across the columns")
LASTING = ("condition", "medication", "encounter", "allergy")
"""Categories that hold from a time to a time; an item that holds long has a row of its own in the timeline."""
MOST_LANES = 14
"""Rows of the timeline for what lasts; cited ones and the latest are kept."""
CATEGORIES = {
    "observation": "observations", "condition": "conditions", "medication": "medicines", "procedure": "procedures",
    "encounter": "encounters", "allergy": "allergies", "immunization": "immunizations", "report": "reports", "note": "notes",
    "demographic": "about the patient", "image": "images", "waveform": "waveforms", "sound": "sounds", "video": "clips",
    "transcript": "machine transcripts",
}  # fmt: skip
BADGES = {
    "verified": ("✓ verified", "Every number, unit, direction and code was found in the cited items."),
    "mended": ("✎ mended", "The model's wording failed the check against the record and was replaced by the looked-up fact."),
    "added": ("+ added by rule", "The model left this fact out, and the answer would lack a part that was asked for."),
    "withheld": ("✕ withheld", "Its wording failed the check and nothing could replace it, or it was more likely wrong than right."),
    "not_a_claim": ("– no claim", "Says nothing about the record that could be checked."),
}
WITHHELD = "A statement was withheld: it failed the check against the record, and nothing in the record could replace it."


@dataclass(frozen=True)
class ReportSection:
    """One patient's record in a report, with what was asked about it."""

    title: str
    record: PatientRecord
    answers: Sequence[Answer] = ()
    skipped: Sequence[Skipped] = ()
    measurements: Mapping[str, Sequence[Measurement]] = field(default_factory=dict)
    """Item id → numbers that were measured from its content by rule."""
    expected: Sequence[str] = ()
    """Modalities that the model takes; those that the record lacks are named."""


@dataclass(frozen=True)
class _Place:
    """What the parts of one section share."""

    prefix: str
    record: PatientRecord
    items: Mapping[str, Item]
    seconds: Mapping[str, float]
    cited: frozenset[str]
    axis: TimeAxis
    measurements: Mapping[str, Sequence[Measurement]]

    def anchor(self, kind: str, item_id: str) -> str:
        """Return the id in the page of an item's row, point, figure or mark."""
        return f"{self.prefix}-{kind}-{item_id}"


def render(answers: Sequence[Answer], record: PatientRecord, skipped: Sequence[Skipped] = ()) -> str:
    """Return the page of one record as HTML.

    Args:
        answers: in the order in which they were asked.
        record: what the answers are about, already cut to the prediction time.
        skipped: files that were not read.
    """
    return render_sections([ReportSection("Patient record", record, answers, skipped)])


def write_report(path: Path, sections: Sequence[ReportSection]) -> None:
    """Write the page of several records; a reader never meets half a file, and a failure leaves the old one.

    Raises:
        ConfigError: the folder does not exist or cannot be written to.
    """
    page = render_sections(sections)
    try:
        # CAUTION: the page holds a patient's record; mkstemp makes a file that only its owner can read.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".tmp")
    except OSError as error:
        raise ConfigError(f"Cannot write the report to {path}: {error.strerror}. Give a file in a folder that you may write to.") from None
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(page)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def render_sections(sections: Sequence[ReportSection], *, made_at: datetime | None = None) -> str:
    """Return the page of several records as HTML.

    Args:
        sections: at least one.
        made_at: time printed on the page; now if None.
    """
    template = files("salus.generate").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    disclosures: dict[Disclosure, None] = dict.fromkeys(answer.disclosure for section in sections for answer in section.answers)
    return environment.from_string(template).render(
        made_at=f"{made_at or datetime.now(UTC):%Y-%m-%d %H:%M %Z}",
        disclosures=list(disclosures),
        sections=[_section(section, f"s{index}") for index, section in enumerate(sections, 1)],
    )


def _section(section: ReportSection, prefix: str) -> dict[str, Any]:
    record = section.record
    cited = frozenset(
        item_id
        for answer in section.answers
        for item_id in (*answer.option_item_ids, *(cited for statement in answer.statements for cited in statement.item_ids))
    )
    seconds = clock(record)
    place = _Place(prefix, record, record.by_id(), seconds, cited, _axis(record, seconds), section.measurements)
    charts, charted = _charts(place)
    figures, figured = _figures(place)
    targets = {item_id: place.anchor("row", item_id) for item_id in place.items} | charted | figured
    modalities = sorted({item.modality for item in record.items})
    return {
        "prefix": prefix,
        "title": section.title,
        "subject_id": record.subject_id,
        "summary": _summary(place, modalities),
        "answers": [_answer(answer, place, targets=targets) for answer in section.answers],
        "missing": [_modality_title(name) for name in section.expected if name not in modalities],
        "timeline": Markup(_timeline(place, section.answers)) if len(set(seconds.values())) > 1 else "",
        "charts": charts[:MOST_CHARTS],
        "more_charts": charts[MOST_CHARTS:],
        "figures": figures,
        "tables": _tables(place),
        "skipped": section.skipped,
    }


def _summary(place: _Place, modalities: Sequence[str]) -> str:
    counts = [f"{_modality_title(name)} {sum(item.modality == name for item in place.record.items)}" for name in modalities]
    return f"{len(place.record.items)} items: {', '.join(counts)}" if counts else "no items"


def _modality_title(name: str) -> str:
    if name in registry.names("salus.modalities"):
        return str(registry.load("salus.modalities", name).title)
    return "no known modality"


def _axis(record: PatientRecord, seconds: Mapping[str, float]) -> TimeAxis:
    """Return the stretch of time that charts show.

    Where items have times relative to an anchor, it begins with the first of these, so that an intensive-care stay is not lost in
    a lifetime of diagnoses; otherwise it is everything that has a time.
    """
    relative = [item for item in record.items if isinstance(item.observed_at, Offset) and item.id in seconds]
    values = list(seconds.values()) or [0.0]
    first = min((min(0.0, seconds[item.id]) for item in relative), default=min(values))
    last = max(values)
    margin = (last - first) * 0.015 or 1800.0
    if relative:
        anchors = [item.observed_at.anchor for item in relative if isinstance(item.observed_at, Offset) and not seconds[item.id] < 0]
        return TimeAxis(first - margin, last + margin, anchors[0] if anchors else "admission")
    dated = [item for item in record.items if isinstance(item.observed_at, Instant) and item.id in seconds]
    origin = min((item.observed_at.at for item in dated if isinstance(item.observed_at, Instant)), default=None)
    return TimeAxis(first - margin, last + margin, origin=origin)


def _answer(answer: Answer, place: _Place, *, targets: Mapping[str, str]) -> dict[str, Any]:
    return {
        "question": answer.question,
        "prediction_time": answer.prediction_time,
        "abstained": answer.abstained,
        "statements": [_statement(statement, place, targets=targets) for statement in answer.statements],
        "options": [_option(score) for score in answer.options],
        "option_evidence": _evidence(answer.option_item_ids, place, targets=targets),
        "limits": answer.limits,
        "disclosure": answer.disclosure,
        "seconds": number(round(sum(answer.seconds.values()), 1)),
    }


def _statement(statement: Statement, place: _Place, *, targets: Mapping[str, str]) -> dict[str, Any]:
    badge, explanation = BADGES[statement.verification]
    is_withheld = statement.verification == "withheld"
    return {
        # CAUTION: a text that failed its check is never shown, whatever the answer holds: a reader would take it for true.
        "text": WITHHELD if is_withheld else statement.text,
        "kind": statement.verification,
        "badge": badge,
        "explanation": explanation,
        "confidence": _confidence(statement),
        "evidence": _evidence(statement.item_ids, place, targets=targets),
    }


def _confidence(statement: Statement) -> str:
    if statement.verification in ("withheld", "not_a_claim"):
        return ""
    if statement.verification == "added":
        return "chosen by rule, worded by code"
    return "not calibrated" if statement.confidence is None else f"confidence {percent(statement.confidence)}"


def percent(probability: float) -> str:
    """Return a probability in whole percent, which never says that something is certain.

    Example:
        >>> percent(0.974), percent(0.999), percent(0.001)
        ('97 %', '> 99 %', '< 1 %')
    """
    if probability >= 0.995:
        return "> 99 %"
    return "< 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def _option(score: OptionScore) -> dict[str, Any]:
    return {
        "option": score.option,
        "percent": percent(score.probability),
        "width": f"{100 * min(max(score.probability, 0.0), 1.0):.1f}",
        "calibration": "calibrated on val" if score.is_calibrated else "not calibrated",
    }


def _evidence(item_ids: Sequence[str], place: _Place, *, targets: Mapping[str, str]) -> dict[str, Any]:
    chips = []
    for item_id in item_ids:
        item = place.items.get(item_id)
        if item is None:
            chips.append({"href": "", "row": "", "words": f"item {item_id}, which is not in this record"})
            continue
        row = place.anchor("row", item_id)
        chips.append({"href": targets[item_id], "row": "" if targets[item_id] == row else row, "words": _in_words(item, place)})
    return {"chips": chips[:MOST_CHIPS], "more": chips[MOST_CHIPS:]}


def _name(item: Item) -> str:
    return display_of([item])


def _value(item: Item) -> str:
    if item.number is not None:
        return printed(item.number, item.unit)
    if isinstance(item.value, str):
        return item.value
    return item.content.summary if item.content else ""


def _when(item: Item, place: _Place) -> str:
    """Return when an item was observed; a calendar time inside the stretch that charts show is told on their clock as well."""
    if item.observed_at is None:
        return "no time"
    told = format_time(item.observed_at) + (f" to {format_time(item.ended_at)}" if item.ended_at else "")
    at_s = place.seconds.get(item.id)
    is_point = isinstance(item.observed_at, Instant) and item.observed_at.precision in ("minute", "second")
    if not is_point or at_s is None or place.axis.origin is not None or not place.axis.start_s <= at_s <= place.axis.end_s:
        return told
    return f"{format_time(Offset(at_s, place.axis.anchor))} ({told})"


def _in_words(item: Item, place: _Place) -> str:
    return ", ".join(
        part for part in (f"{_name(item)} {_shortened(_value(item), 60)}".strip(), _when(item, place) if item.observed_at else "") if part
    )


def _reference(items: Sequence[Item]) -> ReferenceRange | None:
    stated = next((item.reference_range for item in reversed(items) if item.reference_range), None)
    variable = variable_of(items[-1].code)
    if stated or variable is None or variable.unit != items[-1].unit:
        return stated
    return variable.reference


def _numeric_series(place: _Place) -> dict[tuple[str, str], list[Item]]:
    """Return (series, unit) → items with a number, in order of time."""
    series: dict[tuple[str, str], list[Item]] = {}
    for item in place.record.items:
        if item.number is not None:
            series.setdefault((series_key(item), item.unit or "1"), []).append(item)
    for items in series.values():
        items.sort(key=lambda item: place.seconds.get(item.id, float("-inf")))
    return series


def _charts(place: _Place) -> tuple[list[Markup], dict[str, str]]:
    """Return a chart for each number measured twice or more in the time shown, cited ones first; and item id → its point."""
    axis = _chart_axis(place)
    drawn: list[tuple[tuple[bool, int, str], Markup]] = []
    targets: dict[str, str] = {}
    for (_, unit), items in _numeric_series(place).items():
        shown = [item for item in items if axis.start_s <= place.seconds.get(item.id, float("-inf")) <= axis.end_s]
        if len({place.seconds[item.id] for item in shown}) < 2:
            continue
        points = [
            TrendPoint(
                place.seconds[item.id],
                item.number or 0.0,
                _in_words(item, place),
                place.anchor("point", item.id),
                item.id in place.cited,
            )
            for item in shown
        ]
        reference = _reference(shown)
        limits = None if reference is None else (reference.low, reference.high)
        targets |= {item.id: place.anchor("point", item.id) for item in shown}
        title = _name(shown[0])
        picture = trend(points, title=title, unit=unit, axis=axis, reference=limits)
        drawn.append(((not any(point.is_cited for point in points), -len(points), title), Markup(picture)))
    return [picture for _, picture in sorted(drawn, key=lambda pair: pair[0])], targets


def _chart_axis(place: _Place) -> TimeAxis:
    """Return the axis of the charts: the timeline's, but on a calendar clock only as far as numbers reach."""
    numbers = [place.seconds[item.id] for item in place.record.items if item.number is not None and item.id in place.seconds]
    if place.axis.origin is None or not numbers:
        return place.axis
    margin = (max(numbers) - min(numbers)) * 0.03 or 1800.0
    return replace(place.axis, start_s=min(numbers) - margin, end_s=max(numbers) + margin)


def _timeline(place: _Place, answers: Sequence[Answer]) -> str:
    """Return the timeline: a row for each thing that lasts, and a row for each kind of thing that happens at a time."""
    timed = [item for item in place.record.items if item.id in place.seconds and item.category != "demographic"]
    timed.sort(key=lambda item: place.seconds[item.id])
    lasting = [item for item in timed if item.category in LASTING and (_is_long(_mark(item, place), place) or item.id in place.cited)]
    lanes = {item.id for item in sorted(lasting, key=lambda item: (item.id in place.cited, place.seconds[item.id]))[-MOST_LANES:]}
    moments: dict[str, list[TimelineMark]] = {}
    rows: list[tuple[str, list[TimelineMark]]] = []
    for item in timed:
        mark = _mark(item, place)
        is_earlier = not mark.is_open and (mark.start_s if mark.end_s is None else mark.end_s) < place.axis.start_s
        if item.id in lanes and not is_earlier:
            rows.append((_shortened(_name(item), 28), [mark]))
            continue
        is_measured = item.number is not None or item.content is not None
        title = _modality_title(item.modality) if is_measured else CATEGORIES.get(item.category, item.category)
        moments.setdefault(title, []).append(mark)
    cut_s = next((_seconds_at(place.record, answer.prediction_time) for answer in answers if answer.prediction_time), None)
    ordered = sorted(moments.items(), key=lambda row: -len(row[1]))
    return timeline([*ordered, *rows], axis=place.axis, cut_s=cut_s)


def _mark(item: Item, place: _Place) -> TimelineMark:
    is_open = item.category in LASTING and item.ended_at is None and item.status in ("active", "in-progress", "recurrence", "relapse")
    return TimelineMark(
        place.seconds[item.id],
        _end_s(place, item),
        _in_words(item, place),
        place.anchor("mark", item.id),
        item.id in place.cited,
        is_open,
    )


def _is_long(mark: TimelineMark, place: _Place) -> bool:
    """Return whether a bar of its own would show more than a tick does: a fiftieth of the time shown."""
    least_s = (place.axis.end_s - place.axis.start_s) / 50
    return mark.is_open or (mark.end_s is not None and mark.end_s - mark.start_s > least_s)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _end_s(place: _Place, item: Item) -> float | None:
    if item.ended_at is None:
        return None
    ended = replace(item, id="end", observed_at=item.ended_at, ended_at=None)
    return clock(replace(place.record, items=(*place.record.items, ended))).get("end")


def _seconds_at(record: PatientRecord, prediction_time: str) -> float | None:
    """Return the prediction time on the record's clock; None when it is on another one."""
    try:
        at = parse_prediction_time(prediction_time)
    except ConfigError:
        return None
    probe = Item("cut", "", Code("", "", ""), Source("", ""), observed_at=at)
    return clock(replace(record, items=(*record.items, probe))).get("cut")


def _figures(place: _Place) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return pictures and texts of lazily read content, cited ones first; and item id → its figure."""
    with_content = [item for item in place.record.items if item.content is not None]
    chosen = sorted(with_content, key=lambda item: item.id not in place.cited)
    chosen = [item for index, item in enumerate(chosen) if index < MOST_FIGURES or item.id in place.cited]
    figures = [_figure(place, item) for item in chosen]
    if len(chosen) < len(with_content):
        figures.append(_plain_figure("", f"{len(with_content) - len(chosen)} further pictures or texts are listed among the items only."))
    return figures, {item.id: place.anchor("figure", item.id) for item in chosen}


def _plain_figure(anchor: str, caption: str) -> dict[str, Any]:
    return {
        "id": anchor, "caption": caption, "when": "", "picture": "", "text": "", "note": "", "problem": "", "cited": False,
        "source": "", "measurements": (), "kind": "none",
    }  # fmt: skip


def _figure(place: _Place, item: Item) -> dict[str, Any]:
    assert item.content is not None
    figure = _plain_figure(place.anchor("figure", item.id), f"{_name(item)} ({_modality_title(item.modality)})")
    figure |= {
        "when": _when(item, place),
        "cited": item.id in place.cited,
        "source": _source(item),
        "kind": item.content.kind,
        "measurements": [
            {"name": one.name, "value": printed(float(f"{one.value:.4g}"), one.unit), "rule": one.rule}
            for one in place.measurements.get(item.id, ())
        ],
    }
    try:
        loaded = item.content.load()
    except UserFixable as error:
        return figure | {"problem": str(error)}
    if isinstance(loaded, str):
        note = f"The first {MOST_CHARACTERS} of {len(loaded)} characters." if len(loaded) > MOST_CHARACTERS else ""
        return figure | {"text": loaded[:MOST_CHARACTERS], "note": note}
    if isinstance(loaded, Sequences | Profile):
        text, note = sequences_text(loaded) if isinstance(loaded, Sequences) else profile_text(loaded)
        return figure | {"text": text, "note": note}
    try:
        picture, note = _picture(item, loaded)
    except UserFixable as error:  # a slide is read while it is drawn
        return figure | {"problem": str(error)}
    return figure | {"picture": Markup(picture), "note": note}


def _picture(item: Item, loaded: Image | Volume | Slide | Signal | Sound | Clip) -> tuple[str, str]:
    """Return the drawing of content, and how it is drawn, in words."""
    name = _name(item)
    if isinstance(loaded, Image):
        bar = "" if loaded.spacing_mm else "; pixel spacing not stated, so no scale bar"
        return image(loaded, name=name), window_words(loaded) + bar + ("" if loaded.orientation else "; orientation not stated")
    if isinstance(loaded, Slide):
        small = overview(loaded, MOST_PIXELS)
        bar = "" if small.spacing_mm else "; scale not stated, so no scale bar"
        return image(small, name=name), f"overview of {' × '.join(map(str, loaded.levels[0]))} pixels{bar}"
    if isinstance(loaded, Volume):
        times = len(loaded.voxels)
        pictures = cuts(loaded, time=times // 2)
        three = "".join(image(cut, name=f"{name}, {words}") for cut, words in zip(pictures, CUTS, strict=True))
        moment = f"point {times // 2 + 1} of {times} in time, " if times > 1 else ""
        note = f"{moment}three cuts through the middle, the patient's left on the right; {window_words(pictures[0])}"
        return f'<div class="cuts">{three}</div>', note
    if isinstance(loaded, Clip):
        return contact_sheet(loaded, name=name), clip_words(loaded)
    if isinstance(loaded, Sound):
        return sound(loaded, name=name), "Waveform above; spectrogram below, dark is loud."
    seconds = loaded.samples.shape[1] / loaded.sampling_rate_hz
    drawn = ecg(loaded, name=name) if item.modality == "ecg" else None
    is_part = seconds > shown_s(loaded) + 0.05
    shown = f"the first 10 of {number(round(seconds, 1))} s" if is_part else f"{number(round(seconds, 1))} s"
    missing = ", gaps are missing samples"
    if drawn is None:
        return waveforms(loaded, name=name), f"each channel on its own scale; {shown}{missing}"
    scale = "25 mm/s, 10 mm/mV; a small square is 0.04 s and 0.1 mV; each lead is centred on its median"
    return drawn, f"{scale}; {shown}{missing}"


def _source(item: Item) -> str:
    return f"{PurePath(item.source.path).name} {item.source.locator}".strip()


def _tables(place: _Place) -> list[dict[str, Any]]:
    """Return the items by modality, and within it by series (numbers) or by kind (everything else)."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in place.record.items:
        is_series = item.number is not None and item.category != "demographic"
        key = series_key(item) + (item.unit or "") if is_series else item.category
        groups.setdefault((item.modality, key), []).append(item)
    tables: dict[str, list[dict[str, Any]]] = {}
    for (modality, _), items in groups.items():
        items.sort(key=lambda item: place.seconds.get(item.id, float("-inf")))
        tables.setdefault(modality, []).append(_table(place, items))
    for group in tables.values():
        group.sort(key=lambda table: (not table["open"], table["title"]))
    return [{"title": _modality_title(modality), "groups": tables[modality]} for modality in sorted(tables)]


def _table(place: _Place, items: Sequence[Item]) -> dict[str, Any]:
    latest = {item.id for item in items[-MOST_ROWS:]}
    shown = [item for item in items if item.id in latest or item.id in place.cited]
    is_numeric = items[0].number is not None and items[0].category != "demographic"
    reference = _reference(items) if is_numeric else None
    return {
        "title": _name(items[0]) if is_numeric else CATEGORIES.get(items[0].category, items[0].category),
        "count": len(items),
        "hidden": len(items) - len(shown),
        "open": any(item.id in place.cited for item in items),
        "reference": "" if reference is None else _range_in_words(reference, items[-1].unit),
        "rows": [_row(place, item, reference=reference) for item in shown],
    }


def _range_in_words(reference: ReferenceRange, unit: str | None) -> str:
    low, high = reference.low, reference.high
    if low is not None and high is not None:
        limits = f"{number(low)} to {number(high)}"
    else:
        limits = f"{number(low)} or more" if low is not None else f"up to {number(high)}" if high is not None else "none"
    return f"{limits} {words(unit or '')}".rstrip() + f" ({reference.source})"


def _row(place: _Place, item: Item, *, reference: ReferenceRange | None) -> dict[str, Any]:
    own = item.reference_range or reference
    flag = ""
    if own is not None and item.number is not None:
        flag = "below" if own.low is not None and item.number < own.low else flag
        flag = "above" if own.high is not None and item.number > own.high else flag
    return {
        "id": place.anchor("row", item.id),
        "item_id": item.id,
        "cited": item.id in place.cited,
        "when": _when(item, place),
        "name": _name(item),
        "value": _value(item) or (item.status or ""),
        "flag": flag,
        "status": item.status or "",
        "source": _source(item),
        "remarks": "; ".join(item.remarks),
    }
