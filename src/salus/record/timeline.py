"""Times of a record: one clock, the cut at a prediction time, and times as people write them.

Takes a `PatientRecord`; gives seconds per item, or the record as it was known at a prediction time. A time of precision `day`,
`month` or `year` is an interval; `minute` and `second` are points. A zone that a source leaves out was taken as UTC by the
reader. An item is known from when it was observed and written down (`recorded_at`); without the second, from the first. Leaves
out windows and resampling (`salus.record.series`).
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from salus.errors import ConfigError, FormatError
from salus.record.patient import Clip, Content, Instant, Item, Loaded, ObservedTime, Offset, PatientRecord, Precision, Signal, Sound

ADMISSION = "admission"
PRECISIONS: tuple[Precision, ...] = ("second", "minute", "day", "month", "year")
"""Finest first."""
BIRTH_DATE = "21112-8"
"""LOINC code of the demographic item whose time is the birth year; it is known before anything else is observed."""
ENDED_STATUSES = frozenset({"completed", "ended", "finished", "inactive", "remission", "resolved", "stopped"})
"""FHIR words that say something is over, and so could tell of a time after the cut."""

_WIDTH_S = {"day": 86_400.0, "month": 31 * 86_400.0, "year": 366 * 86_400.0}
_UNIT_S = {"d": 86_400, "day": 86_400, "h": 3600, "hour": 3600, "min": 60, "minute": 60, "s": 1, "second": 1}
_ISO = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)([T ](?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)"
    r"(\.(?P<fraction>\d+))?)?(?P<zone> ?(Z|UTC)?[+-]\d\d:\d\d| ?(Z|UTC))?)?)?)?",
    re.ASCII,
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(days?|d|hours?|h|minutes?|min|seconds?|s)(?=[\s\d]|$)", re.ASCII)
_RELATIVE = re.compile(r"(?P<amount>.*?)(?:\s*\b(?P<side>after|before)\s+(?P<anchor>[a-z][a-z0-9_ -]*))?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,5}):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


@dataclass(frozen=True)
class Cut:
    """A record as it was known at a prediction time."""

    record: PatientRecord
    dropped_after: int
    """Items that were, or may have been, observed or written down after the prediction time."""
    dropped_untimed: int
    """Items without a time, or whose time cannot be compared with the prediction time."""


def parse_instant(text: str) -> Instant:
    """Return a calendar time written as ISO 8601, complete or partial.

    Without a zone UTC is assumed and recorded as assumed.

    Raises:
        FormatError: not such a time. The message does not repeat it, for it may be a date of birth.

    Source: FHIR R4, 2.24.0.1 (date, dateTime, instant); RFC 3339.

    Example:
        >>> parse_instant("2019-03").precision
        'month'
        >>> parse_instant("March")
        Traceback (most recent call last):
        ...
        salus.errors.FormatError: not a date or time such as 2019, 2019-03, 2019-03-04 or 2019-03-04T10:15:00Z
    """
    match = _ISO.fullmatch(text.strip())
    refusal = "not a date or time such as 2019, 2019-03, 2019-03-04 or 2019-03-04T10:15:00Z"
    if match is None:
        raise FormatError(refusal)
    part = match.groupdict()
    number = {name: int(part[name]) for name in ("year", "month", "day", "hour", "minute", "second") if part[name]}
    zone = part["zone"] is not None
    offset = re.search(r"([+-])(\d\d):(\d\d)", part["zone"] or "")
    try:
        shift = timedelta(hours=int(offset[2]), minutes=int(offset[3])) if offset else timedelta(0)
        at = datetime(
            number["year"],
            number.get("month", 1),
            number.get("day", 1),
            number.get("hour", 0),
            number.get("minute", 0),
            number.get("second", 0),
            int((part["fraction"] or "").ljust(6, "0")[:6]),
            tzinfo=timezone(-shift if offset and offset[1] == "-" else shift),
        )
    except ValueError:
        raise FormatError(refusal) from None
    finest = next(name for name in PRECISIONS if name in number)
    return Instant(at, finest, zone_is_stated=zone)


def earliest(time: ObservedTime) -> ObservedTime:
    """Return the first moment that a time may mean, as a point.

    Example:
        >>> format_time(earliest(parse_instant("2019-03")))
        '2019-03-01 00:00'
    """
    return time if time.precision in ("minute", "second") else replace(time, precision="second")


def latest(time: ObservedTime) -> ObservedTime:
    """Return the last moment that a time may mean, as a point.

    Example:
        >>> format_time(latest(parse_instant("2019-02")))
        '2019-02-28 23:59'
    """
    if time.precision in ("minute", "second"):
        return time
    if isinstance(time, Offset):
        return replace(time, seconds=time.seconds + _WIDTH_S[time.precision] - 0.001, precision="second")
    at = time.at.replace(hour=23, minute=59, second=59, microsecond=999_999)
    if time.precision == "year":
        at = at.replace(month=12, day=31)
    if time.precision == "month":
        at = at.replace(day=monthrange(at.year, at.month)[1])
    return replace(time, at=at, precision="second")


def clock(record: PatientRecord) -> dict[str, float]:
    """Return seconds on the record's one clock by item id; items that cannot be placed are absent.

    Zero is the record's anchor when any item has a time relative to one (`admission` first), else the earliest calendar time.
    An interval counts from its start. Demographic items describe the person: they never set zero, and a calendar time of theirs
    (the birth year) is not placed.

    Example:
        >>> clock(PatientRecord("p", ()))
        {}
    """
    zero = _zero(record)
    if zero is None:
        return {}
    placed: dict[str, float] = {}
    for item in record.items:
        if item.observed_at is None or (item.category == "demographic" and isinstance(item.observed_at, Instant)):
            continue
        seconds = _seconds_between(zero, earliest(item.observed_at), record.anchors)
        if seconds is not None:
            placed[item.id] = seconds
    return placed


def _zero(record: PatientRecord) -> ObservedTime | None:
    times = [item.observed_at for item in record.items]
    anchors = Counter(time.anchor for time in times if isinstance(time, Offset) and math.isfinite(time.seconds))
    if anchors:
        return Offset(0.0, min(anchors, key=lambda name: (name != ADMISSION, -anchors[name], name)), "second")
    observed = [item.observed_at for item in record.items if item.category != "demographic"]
    dated = [time for time in observed if isinstance(time, Instant)]
    return replace(min(dated, key=lambda time: time.at), precision="second") if dated else None


def _calendar(time: ObservedTime, anchors: Mapping[str, datetime]) -> datetime | None:
    if isinstance(time, Instant):
        return time.at
    anchor = anchors.get(time.anchor)
    try:
        return None if anchor is None else anchor + timedelta(seconds=time.seconds)
    except (OverflowError, ValueError):  # NaN, or outside the calendar
        return None


def _seconds_between(start: ObservedTime, end: ObservedTime, anchors: Mapping[str, datetime]) -> float | None:
    """Return end minus start in seconds, or None when the two cannot be compared."""
    if isinstance(start, Offset) and isinstance(end, Offset) and start.anchor == end.anchor:
        seconds = end.seconds - start.seconds
        return seconds if math.isfinite(seconds) else None
    first, last = _calendar(start, anchors), _calendar(end, anchors)
    return None if first is None or last is None else (last - first).total_seconds()


def cut(record: PatientRecord, prediction_time: ObservedTime) -> Cut:
    """Return the record as it was known at the prediction time; nothing observed or written down later is left.

    An item stays only if the latest moments that its times may mean are not after the prediction time: when it was observed, and
    when it was recorded. Where a source does not say when it was recorded, it counts as known from when it was observed. A
    prediction time that names a day, month or year means the end of it. An end that lies later is hidden and the status set back; a
    status that tells of an end without saying when is hidden if the record goes on after the prediction time. A waveform or sound
    that runs across the prediction time is truncated there. Demographic items without a time stay; the anchors stay, for they only
    join the clocks.

    Raises:
        ConfigError: the prediction time cannot be compared with any time in the record.
    """
    now = latest(prediction_time)
    until = {item.id: _until(item, now, record.anchors) for item in record.items}
    timed = [item for item in record.items if item.observed_at is not None and item.category != "demographic"]
    if timed and all(until[item.id] is None for item in timed):
        raise ConfigError(
            f"Cannot cut the record at {format_time(prediction_time)}: its {len(timed)} timed items are on another clock, and "
            f"the calendar time of {_anchor_words(prediction_time, timed)} is not stated. Give the prediction time "
            f"{'as a date and time' if isinstance(prediction_time, Offset) else 'relative to that anchor, such as 24 h'}."
        )
    kept: list[Item] = []
    dropped_after = dropped_untimed = 0
    goes_on = any(_goes_on_after(item, now, record.anchors) for item in record.items)
    for item in record.items:
        margin = until[item.id]
        if margin is not None and margin < 0:
            dropped_after += 1
        elif margin is None and not (item.category == "demographic" and (item.observed_at is None or _is_birth(item))):
            dropped_untimed += 1
        else:
            kept.append(_as_known(item, now, record.anchors, goes_on=goes_on))
    return Cut(replace(record, items=tuple(kept)), dropped_after, dropped_untimed)


def _anchor_words(prediction_time: ObservedTime, timed: list[Item]) -> str:
    if isinstance(prediction_time, Offset):
        return prediction_time.anchor
    return ", ".join(sorted({item.observed_at.anchor for item in timed if isinstance(item.observed_at, Offset)}))


def _until(item: Item, now: ObservedTime, anchors: Mapping[str, datetime]) -> float | None:
    """Return how many seconds before `now` the item was certainly known; negative: perhaps later; None: cannot be told."""
    if item.observed_at is None:
        return None
    observed = _seconds_between(earliest(item.observed_at) if _is_birth(item) else latest(item.observed_at), now, anchors)
    if item.recorded_at is None or observed is None:
        return observed
    recorded = _seconds_between(latest(item.recorded_at), now, anchors)
    return None if recorded is None else min(observed, recorded)


def _is_birth(item: Item) -> bool:
    return item.category == "demographic" and item.code.code == BIRTH_DATE


def _goes_on_after(item: Item, now: ObservedTime, anchors: Mapping[str, datetime]) -> bool:
    margins = [_seconds_between(latest(time), now, anchors) for time in (item.observed_at, item.ended_at, item.recorded_at) if time]
    return any(margin is not None and margin < 0 for margin in margins)


def _as_known(item: Item, now: ObservedTime, anchors: Mapping[str, datetime], *, goes_on: bool) -> Item:
    """Return the item with what came after `now` hidden: its end, its final status, the rest of its waveform."""
    if item.ended_at is not None:
        margin = _seconds_between(latest(item.ended_at), now, anchors)
        if margin is None or margin < 0:
            ongoing = "in-progress" if item.category in ("encounter", "procedure") else "active"
            item = replace(item, ended_at=None, status=ongoing if item.status else None)
    elif goes_on and item.status in ENDED_STATUSES and item.category in ("condition", "medication", "allergy", "encounter"):
        # CAUTION: 'stopped' without a date may have been written after the prediction time; shown, it would tell the future.
        item = replace(item, status=None, remarks=(*item.remarks, "its status at the prediction time is not known"))
    if item.content is None or item.observed_at is None or item.content.kind not in ("signal", "sound", "clip"):
        return item
    if item.observed_at.precision not in ("minute", "second"):
        return item  # the interval that the precision leaves open holds the whole recording, and lies before `now`
    length = _seconds_between(item.observed_at, now, anchors)
    return item if length is None else replace(item, content=_shortened(item.content, length))


def _shortened(content: Content, length_s: float) -> Content:
    inner: Callable[[], Loaded] = content.load
    return replace(content, load=lambda: truncate(inner(), length_s))


def truncate(loaded: Loaded, length_s: float) -> Loaded:
    """Return a waveform, sound or clip without the samples, marks and frames that lie more than `length_s` seconds after its start.

    Of a clip whose file states no times, the first frame is kept: when the others were taken is not known.
    """
    if isinstance(loaded, Clip):
        kept = max(1, int((loaded.time_s <= length_s + 1e-9).sum()))
        return replace(loaded, frames=loaded.frames[:kept], time_s=loaded.time_s[:kept], is_present=loaded.is_present[:kept])
    if not isinstance(loaded, Signal | Sound):
        return loaded
    samples = loaded.samples[:, : math.floor(length_s * loaded.sampling_rate_hz + 1e-9) + 1]
    if isinstance(loaded, Sound):
        return replace(loaded, samples=samples)
    return replace(loaded, samples=samples, annotations=tuple(mark for mark in loaded.annotations if mark[0] <= length_s))


def parse_prediction_time(text: str) -> ObservedTime:
    """Return the prediction time that a person wrote: a calendar time, or a time after (or before) an anchor.

    Raises:
        ConfigError: it is neither.

    Example:
        >>> parse_prediction_time("24h after admission")
        Offset(seconds=86400.0, anchor='admission', precision='minute')
        >>> parse_prediction_time("36:30").seconds / 3600
        36.5
        >>> parse_prediction_time("tomorrow")
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot use 'tomorrow' as the prediction time. Write a date (2019-03-04), a date and time
        with its zone (2019-03-04T10:00Z), or a time after admission (24 h, 36:30).
    """
    written = text.strip()
    offset = _parse_offset(written.lower())
    if offset is not None:
        return offset
    try:
        return parse_instant(written)
    except FormatError:
        raise ConfigError(
            f"Cannot use {text!r} as the prediction time. Write a date (2019-03-04), a date and time with its zone "
            "(2019-03-04T10:00Z), or a time after admission (24 h, 36:30)."
        ) from None


def _parse_offset(text: str) -> Offset | None:
    relative = _RELATIVE.fullmatch(text)
    if relative is None:
        return None
    amount, anchor = relative["amount"].strip(), (relative["anchor"] or ADMISSION).strip()
    if text.startswith("at ") and text[3:].strip() == ADMISSION:
        return Offset(0.0, ADMISSION)
    clock_face = _CLOCK.fullmatch(amount)
    if clock_face:
        seconds = int(clock_face[1]) * 3600.0 + int(clock_face[2]) * 60 + int(clock_face[3] or 0)
        is_fine = clock_face[3] is not None
    elif amount and not _DURATION.sub("", amount).strip():
        parts = [(float(number), unit if unit in _UNIT_S else unit.rstrip("s")) for number, unit in _DURATION.findall(amount)]
        seconds = sum(number * _UNIT_S[unit] for number, unit in parts)
        is_fine = any(_UNIT_S[unit] == 1 for _, unit in parts)
    else:
        return None
    if not math.isfinite(seconds):
        return None
    return Offset(-seconds if relative["side"] == "before" else seconds, anchor, "second" if is_fine else "minute")


def format_time(time: ObservedTime) -> str:
    """Return a time in words for people, no finer than it is known, to the minute.

    A calendar time keeps the zone that its source states; without a stated zone none is printed.

    Example:
        >>> format_time(Offset(145_800, "admission"))
        '40 h 30 min after admission'
        >>> format_time(parse_instant("2019-03-04T10:15:20Z"))
        '2019-03-04 10:15 UTC'
        >>> format_time(parse_instant("2019-03-04T10:15-05:00"))
        '2019-03-04 10:15 UTC-05:00'
    """
    if isinstance(time, Offset):
        return _format_offset(time)
    day = time.at.date().isoformat()
    if time.precision in ("year", "month", "day"):
        return day[: {"year": 4, "month": 7, "day": 10}[time.precision]]
    zone = f" {time.at.tzname() or 'UTC'}" if time.zone_is_stated else ""
    return f"{day} {time.at:%H:%M}{zone}"


def _format_offset(time: Offset) -> str:
    if not math.isfinite(time.seconds):
        return f"at an unknown time after {time.anchor}"
    minutes = round(abs(time.seconds) / 60)
    if minutes == 0:
        return f"at {time.anchor}"
    hours, rest = divmod(minutes, 60)
    words = " ".join(word for word in (f"{hours} h" if hours else "", f"{rest} min" if rest else "") if word)
    return f"{words} {'after' if time.seconds > 0 else 'before'} {time.anchor}"
