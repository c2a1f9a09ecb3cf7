"""Charts of numbers as inline SVG: trends with their reference range, the timeline, curves of an evaluation.

Takes plain numbers and words; gives SVG strings. Every drawing carries a title and a description, has dark ink on white,
and tells nothing by colour alone, so that it prints. What is missing is a gap, never a zero. Leaves out content (`draw_content`),
which items are drawn (`report`), and any plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import pairwise
from typing import Literal

from salus.units import number, words

INK, MUTED, RULE, TRACE, ALERT, CITED, BAND = "#17222e", "#55636f", "#ccd5dc", "#1d5c96", "#a3221a", "#8a4b00", "#e2f0e8"
STYLES = (
    (TRACE, ""),
    (CITED, 'stroke-dasharray="7 3"'),
    ("#3d6b2c", 'stroke-dasharray="2 3"'),
    (ALERT, 'stroke-dasharray="9 3 2 3"'),
)
"""Colour and dash of each curve of a plot."""

Placing = Callable[[float], float]


@dataclass(frozen=True)
class TimeAxis:
    """The stretch of the record's clock that a drawing shows."""

    start_s: float
    end_s: float
    anchor: str = "admission"
    """What zero seconds is, in words."""
    origin: datetime | None = None
    """Calendar time of zero seconds, where the record's clock is the calendar."""


@dataclass(frozen=True)
class TrendPoint:
    """One measurement in a trend."""

    time_s: float
    value: float
    label: str
    """Value and time in words."""
    anchor_id: str = ""
    """Id of the drawn point, so that a page can link to it."""
    is_cited: bool = False


@dataclass(frozen=True)
class TimelineMark:
    """Something that was at a time, or from a time to a time."""

    start_s: float
    end_s: float | None
    label: str
    anchor_id: str = ""
    is_cited: bool = False
    is_open: bool = False
    """It goes on past the end of the record."""


@dataclass(frozen=True)
class Curve:
    """One line or set of dots in `xy_plot`."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: Literal["line", "dots"] = "line"
    weights: Sequence[float] = ()
    """Area of each dot relative to the greatest."""
    intervals: Sequence[tuple[float, float]] = ()
    """Low and high of each point, drawn as a bar beside it."""


def svg(size: tuple[float, float], body: str, *, title: str, description: str, unit: str = "px") -> str:
    """Return a drawing that a screen reader announces by its title and description; `size` is in `unit`."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}{unit}" '
        f'height="{height:g}{unit}" font-family="system-ui, sans-serif"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{body}</svg>"
    )


def text(x: float, y: float, *, label: str, size: float = 11, anchor: str = "start", fill: str = INK) -> str:
    """Return one line of text at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" fill="{fill}">{escape(label)}</text>'


def line(x1: float, y1: float, *, x2: float, y2: float, stroke: str = RULE, extra: str = "") -> str:
    """Return a straight line."""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{stroke}" fill="none" {extra}/>'


def id_attribute(anchor_id: str) -> str:
    """Return the attribute that makes a drawn thing a link target, or nothing."""
    return f' id="{escape(anchor_id)}"' if anchor_id else ""


def scale(low: float, high: float, *, start: float, end: float) -> Placing:
    """Return the placing that maps low to start and high to end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def nice_ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Return at most `most` + 1 round numbers between two limits, at steps of 1, 2 or 5 times a power of ten.

    Example:
        >>> nice_ticks(0, 10)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        >>> nice_ticks(3, 3)
        [3.0]
    """
    if not high > low:
        return [float(low)]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, math.floor(high / step + 1e-9) + 1)]


def time_ticks(axis: TimeAxis, most: int = 6) -> tuple[list[tuple[float, str]], str]:
    """Return (seconds, label) of the ticks of a time axis, and the axis label.

    Example:
        >>> time_ticks(TimeAxis(0, 48 * 3600))
        ([(0.0, '0'), (43200.0, '12'), (86400.0, '24'), (129600.0, '36'), (172800.0, '48')], 'hours after admission')
    """
    span = max(axis.end_s - axis.start_s, 1.0)
    units = ((60.0, "minutes", (1, 2, 5, 10, 15, 30)), (3600.0, "hours", (1, 2, 4, 6, 12, 24, 48)),
             (86_400.0, "days", (1, 2, 7, 14, 30, 60, 90)), (31_557_600.0, "years", (1, 2, 5, 10, 20, 50)))  # fmt: skip
    choices = [(unit_s * step, unit_s, name) for unit_s, name, steps in units for step in steps]
    step_s, unit_s, name = next((choice for choice in choices if span / choice[0] <= most), choices[-1])
    indices = range(math.ceil(axis.start_s / step_s - 1e-9), math.floor(axis.end_s / step_s + 1e-9) + 1)
    seconds = [index * step_s for index in indices]
    if axis.origin is None:
        return [(at, f"{at / unit_s:g}") for at in seconds], f"{name} after {axis.anchor}"
    pattern = {"years": "%Y", "days": "%Y-%m-%d"}.get(name, "%d %b %H:%M")
    return [(at, f"{axis.origin + timedelta(seconds=at):{pattern}}") for at in seconds], "date"


def trend(
    points: Sequence[TrendPoint],
    *,
    title: str,
    unit: str | None,
    axis: TimeAxis,
    reference: tuple[float | None, float | None] | None,
) -> str:
    """Return a small chart of one variable over time, with its reference range as a band.

    Points inside the range are round, outside it diamonds, without a range rings. The line breaks where the time between two
    measurements is more than two and a half times the usual one, so that a missing stretch is seen.

    Args:
        points: measurements in order of time, at least one.
        title: the variable, in words.
        unit: UCUM unit of the values.
        axis: stretch of time, the same for all charts of a page.
        reference: low and high limit in `unit`; None on one side where there is none.
    """
    width, height, left, right, top, bottom = 320.0, 150.0, 40.0, 310.0, 34.0, 124.0
    low_limit, high_limit = reference or (None, None)
    values = [point.value for point in points]
    limits = [limit for limit in (low_limit, high_limit) if limit is not None]
    low, high = min(values + limits), max(values + limits)
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = low - margin, high + margin
    place_x, place_y = scale(axis.start_s, axis.end_s, start=left, end=right), scale(low, high, start=bottom, end=top)
    parts = []
    if limits:
        upper = place_y(high_limit) if high_limit is not None else top
        lower = place_y(low_limit) if low_limit is not None else bottom
        parts.append(f'<path d="M{left:g} {upper:.1f}H{right:g}V{lower:.1f}H{left:g}Z" fill="{BAND}"/>')
    for tick in nice_ticks(low, high, most=4):
        parts.append(
            line(left, place_y(tick), x2=right, y2=place_y(tick))
            + text(left - 5, place_y(tick) + 4, label=number(tick), anchor="end", fill=MUTED)
        )
    ticks, label = time_ticks(axis, 4)
    parts += [text(place_x(at), bottom + 13, label=label_at, size=10, anchor="middle", fill=MUTED) for at, label_at in ticks]
    parts.append(text((left + right) / 2, bottom + 25, label=label, size=10, anchor="middle", fill=MUTED))
    path = "".join("M" + "L".join(f"{place_x(point.time_s):.1f} {place_y(point.value):.1f}" for point in run) for run in _unbroken(points))
    parts.append(f'<path d="{path}" stroke="{TRACE}" stroke-width="1.2" fill="none"/>')
    parts += [_trend_mark(point, place_x(point.time_s), y=place_y(point.value), reference=reference) for point in points]
    parts.append(f'<text x="2" y="14" font-size="13" font-weight="600" fill="{INK}">{escape(title)}</text>')
    parts.append(
        text(
            right + 6,
            14 if len(title) <= 24 else 29,
            label=f"last {number(float(f'{points[-1].value:.4g}'))} {words(unit or '')}".rstrip(),
            size=12,
            anchor="end",
            fill=INK,
        )
    )
    outside = sum(_is_outside(point.value, reference) for point in points)
    description = f"{len(points)} measurements, {outside} outside the reference range. Last: {points[-1].label}."
    return svg((width, height), "".join(parts), title=f"{title} over time", description=description)


def _is_outside(value: float, reference: tuple[float | None, float | None] | None) -> bool:
    low, high = reference or (None, None)
    return (low is not None and value < low) or (high is not None and value > high)


def _trend_mark(point: TrendPoint, x: float, *, y: float, reference: tuple[float | None, float | None] | None) -> str:
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{CITED}" stroke-width="2"/>' if point.is_cited else ""
    if _is_outside(point.value, reference):
        mark = f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4-4Z" fill="{ALERT}"/>'
    else:
        fill = TRACE if reference else "#fff"
        mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{fill}" stroke="{TRACE}"/>'
    return f'<g{id_attribute(point.anchor_id)} class="point"><title>{escape(point.label)}</title>{ring}{mark}</g>'


def _unbroken(points: Sequence[TrendPoint]) -> list[list[TrendPoint]]:
    gaps = sorted(after.time_s - before.time_s for before, after in pairwise(points))
    longest_s = 2.5 * gaps[len(gaps) // 2] if gaps else 0.0
    runs = [[points[0]]]
    for point in points[1:]:
        if point.time_s - runs[-1][-1].time_s > longest_s:
            runs.append([])
        runs[-1].append(point)
    return runs


def timeline(rows: Sequence[tuple[str, Sequence[TimelineMark]]], *, axis: TimeAxis, cut_s: float | None = None) -> str:
    """Return when things were observed: a row a kind, ticks for moments, bars for what lasted, counts for what came before.

    Args:
        rows: (label, marks) from top to bottom.
        axis: stretch of time shown; marks that ended before it are counted at the left edge.
        cut_s: prediction time, drawn as a broken line.
    """
    left, right, row = 190.0, 1060.0, 26.0
    place_x = scale(axis.start_s, axis.end_s, start=left, end=right)
    ticks, label = time_ticks(axis, 8)
    bottom = 10 + row * len(rows)
    parts = [line(place_x(at), 4, x2=place_x(at), y2=bottom) for at, _ in ticks]
    for index, (name, marks) in enumerate(rows):
        middle = 6 + row * (index + 0.5)
        parts.append(text(0, middle + 4, label=name, size=12.5) + line(0, middle + row / 2, x2=right, y2=middle + row / 2))
        earlier = [mark for mark in marks if (mark.end_s if mark.end_s is not None else mark.start_s) < axis.start_s and not mark.is_open]
        parts += [
            _timeline_mark(mark, place_x, middle=middle, axis=axis) for mark in marks if mark not in earlier and mark.start_s <= axis.end_s
        ]
        if earlier:
            listed = "; ".join(mark.label for mark in earlier[:20])
            count = text(left - 6, middle + 4, label=f"◂ {len(earlier)} earlier", anchor="end", fill=MUTED)
            parts.append(f"<g><title>{escape(listed)}</title>{count}</g>")
    parts += [text(place_x(at), bottom + 14, label=label_at, anchor="middle", fill=MUTED) for at, label_at in ticks]
    parts.append(text((left + right) / 2, bottom + 29, label=label, anchor="middle", fill=MUTED))
    if cut_s is not None and axis.start_s <= cut_s <= axis.end_s:
        parts.append(line(place_x(cut_s), 0, x2=place_x(cut_s), y2=bottom, stroke=CITED, extra='stroke-width="2" stroke-dasharray="5 3"'))
        parts.append(text(min(place_x(cut_s) + 6, right), bottom + 29, label="nothing later was used", anchor="end", fill=CITED))
    description = "; ".join(f"{name}: {len(marks)}" for name, marks in rows)
    return svg((1080, bottom + 36), "".join(parts), title="Timeline of the record", description=description)


def _timeline_mark(mark: TimelineMark, place_x: Placing, *, middle: float, axis: TimeAxis) -> str:
    stroke, fill = (CITED, CITED) if mark.is_cited else (TRACE, TRACE)
    start = place_x(max(mark.start_s, axis.start_s))
    name = f"<title>{escape(mark.label)}</title>"
    if mark.end_s is None and not mark.is_open:
        width = 2.5 if mark.is_cited else 1.2
        half = 9 if mark.is_cited else 6
        return (
            f'<path{id_attribute(mark.anchor_id)} class="point" d="M{start:.1f} {middle - half:g}v{2 * half}" stroke="{stroke}" '
            f'stroke-width="{width}">{name}</path>'
        )
    end = place_x(axis.end_s if mark.is_open or mark.end_s is None else min(mark.end_s, axis.end_s))
    arrow = f'<path d="M{end:.1f} {middle - 5:g}l6 5l-6 5Z" fill="{fill}"/>' if mark.is_open else ""
    return (
        f'<g{id_attribute(mark.anchor_id)} class="point">{name}'
        f'<path d="M{start:.1f} {middle - 3:g}H{max(end, start + 2):.1f}v6H{start:.1f}Z" fill="{fill}" '
        f'fill-opacity=".55" stroke="{stroke}"/>{arrow}</g>'
    )


UNIT_TICKS = tuple((tick / 5, f"{tick / 5:g}") for tick in range(6))


def xy_plot(
    curves: Sequence[Curve],
    *,
    title: str,
    labels: tuple[str, str],
    diagonal: Literal["none", "chance", "perfect"] = "none",
    x_ticks: Sequence[tuple[float, str]] = UNIT_TICKS,
) -> str:
    """Return a square chart of curves or dots over 0 to 1 (both axes), such as ROC, reliability or risk over coverage.

    Args:
        curves: at most four; told apart by colour and dash.
        title: what the chart shows.
        labels: x and y axis.
        diagonal: what the line y = x means, if it is drawn.
        x_ticks: places on the x axis, 0 to 1, with their words.
    """
    width, left, right, top, bottom = 340.0, 48.0, 328.0, 26.0, 306.0
    place_x, place_y = scale(0, 1, start=left, end=right), scale(0, 1, start=bottom, end=top)
    parts = [text(left, 15, label=title, size=13)]
    for tick, words_at in UNIT_TICKS:
        parts.append(
            line(left, place_y(tick), x2=right, y2=place_y(tick))
            + text(left - 6, place_y(tick) + 4, label=words_at, anchor="end", fill=MUTED)
        )
    for tick, words_at in x_ticks:
        parts.append(
            line(place_x(tick), top, x2=place_x(tick), y2=bottom)
            + text(place_x(tick), bottom + 15, label=words_at, anchor="middle", fill=MUTED)
        )
    parts.append(text((left + right) / 2, bottom + 32, label=labels[0], anchor="middle"))
    middle = (top + bottom) / 2
    parts.append(f'<g transform="rotate(-90 12 {middle:g})">{text(12, middle, label=labels[1], anchor="middle")}</g>')
    if diagonal != "none":
        parts.append(line(left, bottom, x2=right, y2=top, stroke=MUTED, extra='stroke-dasharray="4 4"'))
    for index, curve in enumerate(curves[: len(STYLES)]):
        parts.append(_curve(curve, place_x, place_y=place_y, index=index))
        legend_y = bottom + 50 + 16 * index
        parts.append(
            line(
                left,
                legend_y - 4,
                x2=left + 24,
                y2=legend_y - 4,
                stroke=STYLES[index][0],
                extra=f'stroke-width="2.5" {STYLES[index][1]}',
            )
        )
        parts.append(text(left + 30, legend_y, label=curve.name))
    shown = min(len(curves), len(STYLES))
    meaning = {"none": "", "chance": " The broken diagonal is chance.", "perfect": " The broken diagonal is perfect calibration."}
    description = f"{labels[1]} against {labels[0]}: {', '.join(curve.name for curve in curves[:shown])}.{meaning[diagonal]}"
    return svg((width, bottom + 44 + 16 * shown), "".join(parts), title=title, description=description)


def _curve(curve: Curve, place_x: Placing, *, place_y: Placing, index: int) -> str:
    stroke, dash = STYLES[index]
    places = [(place_x(min(max(x, 0.0), 1.0)), place_y(min(max(y, 0.0), 1.0))) for x, y in curve.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""
    drawn = f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="1.8" {dash}/>'
    for (x, _), (low, high) in zip(places, curve.intervals, strict=False):
        ends = [place_y(min(max(end, 0.0), 1.0)) for end in (low, high)]
        at = x + 2.5 * (index - 1)  # beside each other where curves have a point in common
        drawn += line(at, ends[0], x2=at, y2=ends[1], stroke=stroke, extra='stroke-opacity=".55"')
    if curve.kind == "line":
        return drawn
    greatest = max(curve.weights, default=1.0) or 1.0
    weights = curve.weights or [greatest] * len(places)
    return drawn + "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.5 + 4.5 * math.sqrt(weight / greatest):.1f}" fill="{stroke}" fill-opacity=".75"/>'
        for (x, y), weight in zip(places, weights, strict=True)
    )
