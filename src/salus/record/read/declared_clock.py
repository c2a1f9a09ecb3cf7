"""The zone and the clock correction that a manifest declares for the files of a pattern (`zone`, `clock_offset_s`).

Takes what a reader gave; gives the same with its times moved, and a remark on each item that moved. Nothing is guessed: a file without
a declaration stays as read. A correction counts for a whole file; leaves out devices that share one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from salus.record.patient import Instant, Item, ObservedTime, Offset, PatientRecord
from salus.record.read.reader import FileRead, Found, ReadOptions

POINTS = ("minute", "second")
DAY_S = 86_400


def with_declared_clock(read: FileRead, options: ReadOptions) -> FileRead:
    """Return what was read with the declared zone and clock offset applied; the same object when nothing is declared."""
    if options.zone is None and not options.clock_offset_s:
        return read
    return replace(read, found=tuple(_moved_part(part, options) for part in read.found))


def _moved_part(part: Found, options: ReadOptions) -> Found:
    times = [item.observed_at for item in part.items]
    unstated = {time.at for time in times if isinstance(time, Instant) and not time.zone_is_stated}
    anchors = {name: _moved_anchor(at, options, is_stated=at not in unstated) for name, at in part.anchors.items()}
    return replace(part, items=tuple(_moved_item(item, options) for item in part.items), anchors=anchors)


def _moved_anchor(at: datetime, options: ReadOptions, *, is_stated: bool) -> datetime:
    moved = _moved(Instant(at, "second", is_stated), options)
    return moved.at if isinstance(moved, Instant) else at


def _moved_item(item: Item, options: ReadOptions) -> Item:
    if item.category == "demographic":
        return item  # a year of birth belongs to no device
    before = (item.observed_at, item.ended_at, item.recorded_at)
    observed, ended, recorded = (None if time is None else _moved(time, options) for time in before)
    if before == (observed, ended, recorded):
        return item
    remarks = (*item.remarks, *_remarks(before, options))
    return replace(item, observed_at=observed, ended_at=ended, recorded_at=recorded, remarks=remarks)


def _moved(time: ObservedTime, options: ReadOptions) -> ObservedTime:
    if isinstance(time, Instant) and not time.zone_is_stated and options.zone is not None:
        time = replace(time, at=in_zone(time.at, options.zone), zone_is_stated=True)
    # a date does not change with a few seconds; with whole days it does
    shift_s = options.clock_offset_s if time.precision in POINTS else int(options.clock_offset_s / DAY_S) * DAY_S
    if not shift_s:
        return time
    if isinstance(time, Offset):
        return replace(time, seconds=time.seconds + shift_s)
    return replace(time, at=time.at + timedelta(seconds=shift_s))


def in_zone(at: datetime, zone: str) -> datetime:
    """Return the moment at which clocks of a zone show this date and time, with that moment's own offset from UTC.

    The offset is fixed in the result: two times of one `ZoneInfo` would be subtracted without regard to summer time. A time that clocks
    show twice (the end of summer time) is the first of the two; one that they skip is read as if they had not been set forward.

    Example:
        >>> in_zone(datetime(2019, 7, 1, 12), "Europe/Berlin").isoformat(), in_zone(datetime(2019, 1, 1, 12), "Europe/Berlin").isoformat()
        ('2019-07-01T12:00:00+02:00', '2019-01-01T12:00:00+01:00')
    """
    local = at.replace(tzinfo=ZoneInfo(zone), fold=0)
    moment = local.astimezone(UTC).astimezone(ZoneInfo(zone))  # a skipped time becomes one that exists
    return moment.replace(tzinfo=timezone(moment.utcoffset() or timedelta(0)), fold=0)


def _remarks(times: Iterable[ObservedTime | None], options: ReadOptions) -> Iterable[str]:
    known = [time for time in times if time is not None]
    local = [time.at for time in known if isinstance(time, Instant) and not time.zone_is_stated and time.precision in POINTS]
    if options.zone is not None and any(isinstance(time, Instant) and not time.zone_is_stated for time in known):
        yield f"zone of this file taken as {options.zone}, as declared"
        zone = ZoneInfo(options.zone)
        if any(_is_shown_twice(at, zone) for at in local):
            yield "a time that clocks showed twice (end of summer time): taken as the first"
        if any(_is_skipped(at, zone) for at in local):
            yield "a time that clocks skipped (start of summer time): moved by what they skipped"
    if options.clock_offset_s:
        yield f"clock of this file moved by {options.clock_offset_s:+g} s, as declared"


def _is_shown_twice(at: datetime, zone: ZoneInfo) -> bool:
    first, second = (at.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def _is_skipped(at: datetime, zone: ZoneInfo) -> bool:
    first, second = (at.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first < second


def mixed_zones(record: PatientRecord) -> str | None:
    """Return a sentence when some times of a record state their zone and others do not, else None; dates are not counted.

    Example:
        >>> mixed_zones(PatientRecord("p", ())) is None
        True
    """
    times = [item.observed_at for item in record.items if item.category != "demographic"]
    points = [time for time in times if isinstance(time, Instant) and time.precision in POINTS]
    unstated = sum(not time.zone_is_stated for time in points)
    if not unstated or unstated == len(points):
        return None
    return (
        f"{unstated} of {len(points)} times state no zone and were taken as UTC, beside others that state one: their order may be wrong. "
        "Declare the zone of those files in salus-cohort.yaml (`zone: Europe/Berlin`)."
    )
