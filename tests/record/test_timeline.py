"""Clock, cut and words of times. Expected seconds are written out by hand; calendar facts by the standard library."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import ConfigError, FormatError
from salus.record.patient import Clip, Code, Content, Instant, Item, Offset, PatientRecord, Signal, Sound, Source
from salus.record.timeline import (
    clock,
    cut,
    earliest,
    format_time,
    latest,
    parse_instant,
    parse_prediction_time,
    truncate,
)

ADMITTED = datetime(2019, 3, 4, 10, tzinfo=UTC)


def item(name, observed_at=None, **known):
    return Item(
        name, "ehr", Code("http://loinc.org", known.pop("code", "8867-4"), name), Source("a", "0" * 64), observed_at, **known
    )


def at(text):
    return parse_instant(text)


def hours(number, anchor="admission"):
    return Offset(number * 3600.0, anchor)


points = st.integers(631_152_000, 1_893_456_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))  # 1990 to 2030


@st.composite
def instants(draw):
    moment, precision = draw(points), draw(st.sampled_from(["second", "minute", "day", "month", "year"]))
    keep = {"year": {"month": 1, "day": 1}, "month": {"day": 1}}.get(precision, {})
    if precision in ("year", "month", "day"):
        moment = moment.replace(hour=0, minute=0, second=0, microsecond=0, **keep)
    return Instant(moment, precision)


offsets = st.builds(
    Offset, st.floats(-1e7, 1e8), st.sampled_from(["admission", "surgery"]), st.sampled_from(["second", "minute", "day"])
)
times = st.one_of(instants(), offsets)
records = st.builds(
    lambda parts, with_anchor: PatientRecord(
        "p",
        tuple(
            item(f"i{n}", time, ended_at=end, category=category, status=status)
            for n, (time, end, category, status) in enumerate(parts)
        ),
        {"admission": ADMITTED} if with_anchor else {},
    ),
    st.lists(
        st.tuples(
            st.none() | times,
            st.none() | times,
            st.sampled_from(["observation", "condition", "demographic", "encounter"]),
            st.sampled_from([None, "active", "resolved", "finished"]),
        ),
        max_size=8,
    ),
    st.booleans(),
)


def moment_of(time, record):
    """Calendar time, or seconds after an anchor without one: an independent way to compare."""
    if isinstance(time, Instant):
        return time.at
    anchor = record.anchors.get(time.anchor)
    return (time.anchor, time.seconds) if anchor is None else anchor + timedelta(seconds=time.seconds)


@given(records, times)
def test_nothing_observed_later_survives(record, now):
    try:
        kept = cut(record, now)
    except ConfigError:
        return
    limit = moment_of(latest(now), record)
    for each in kept.record.items:
        for time in (each.observed_at, each.ended_at):
            if time is None:
                continue
            moment = moment_of(latest(time), record)
            if isinstance(moment, tuple) or isinstance(limit, tuple):
                moment, limit_here = (latest(time).anchor, latest(time).seconds), (latest(now).anchor, latest(now).seconds)
                assert moment[0] == limit_here[0] and moment[1] <= limit_here[1] + 1e-6
            elif isinstance(time, Offset) and isinstance(now, Offset) and time.anchor == now.anchor:
                assert latest(time).seconds <= latest(now).seconds
            else:
                assert moment <= limit
    assert len(record.items) == len(kept.record.items) + kept.dropped_after + kept.dropped_untimed


@given(records, times)
def test_cut_is_idempotent(record, now):
    try:
        once = cut(record, now).record
    except ConfigError:
        return
    assert cut(once, now).record == once


@given(records, instants(), instants())
def test_cut_is_monotone(record, one, other):
    early, late = sorted((one, other), key=lambda time: latest(time).at)
    try:
        first, second = cut(record, early).record, cut(record, late).record
    except ConfigError:
        return
    assert {each.id for each in first.items} <= {each.id for each in second.items}
    assert {each.id for each in cut(second, early).record.items} == {each.id for each in first.items}


@given(records, times, st.randoms())
def test_permuting_items_changes_nothing(record, now, random):
    items = list(record.items)
    random.shuffle(items)
    shuffled = dataclasses.replace(record, items=tuple(items))
    assert clock(shuffled) == clock(record)
    try:
        kept = cut(record, now)
    except ConfigError:
        with pytest.raises(ConfigError):
            cut(shuffled, now)
        return
    other = cut(shuffled, now)
    assert other.record.by_id() == kept.record.by_id()
    assert (other.dropped_after, other.dropped_untimed) == (kept.dropped_after, kept.dropped_untimed)


@given(times)
def test_interval_holds_its_time(time):
    if isinstance(time, Instant):
        assert earliest(time).at <= time.at <= latest(time).at
    else:
        assert earliest(time).seconds <= time.seconds <= latest(time).seconds


def test_latest_of_february_in_a_leap_year():
    assert latest(at("2020-02")).at == datetime(2020, 3, 1, tzinfo=UTC) - timedelta(microseconds=1)
    assert latest(at("2020")).at == datetime(2021, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)


def test_clock_counts_from_admission_and_joins_the_calendar():
    record = PatientRecord("p", (item("a", hours(2)), item("b", at("2019-03-04T11:00Z")), item("c")), {"admission": ADMITTED})
    assert clock(record) == {"a": 7200.0, "b": 3600.0}
    assert clock(dataclasses.replace(record, anchors={})) == {"a": 7200.0}


def test_clock_without_anchor_counts_from_the_earliest_and_not_from_birth():
    items = (
        item("born", at("1950"), category="demographic"),
        item("a", at("2019-03-04T10:00+01:00")),
        item("b", at("2019-03-04T10:00Z")),
    )
    assert clock(PatientRecord("p", items)) == {"a": 0.0, "b": 3600.0}


def test_cut_at_a_day_keeps_that_day_and_drops_what_may_be_later():
    items = (
        item("morning", at("2019-03-04T09:00Z")),
        item("month", at("2019-03")),
        item("next", at("2019-03-05T00:00Z")),
        item("none"),
    )
    kept = cut(PatientRecord("p", items), parse_prediction_time("2019-03-04"))
    assert [each.id for each in kept.record.items] == ["morning"]
    assert (kept.dropped_after, kept.dropped_untimed) == (2, 1)


def test_demographics_without_time_and_the_birth_year_stay():
    items = (
        item("sex", category="demographic"),
        item("born", at("2019"), category="demographic", code="21112-8"),
        item("later", at("2019-12-01T00:00Z")),
    )
    kept = cut(PatientRecord("p", items), at("2019-06-01T00:00Z"))
    assert [each.id for each in kept.record.items] == ["sex", "born"]


@pytest.mark.parametrize(
    ("category", "ongoing"), [("condition", "active"), ("medication", "active"), ("encounter", "in-progress")]
)
def test_an_end_after_the_cut_is_hidden(category, ongoing):
    whole = item("x", at("2019-01-01T00:00Z"), ended_at=at("2019-02-01T00:00Z"), category=category, status="resolved")
    record = PatientRecord("p", (whole,))
    (before,) = cut(record, at("2019-01-15T00:00Z")).record.items
    assert (before.ended_at, before.status) == (None, ongoing)
    assert cut(record, at("2019-02-01T00:00Z")).record.items == (whole,)


def test_an_undated_end_is_hidden_only_when_the_record_goes_on():
    stopped = item("x", at("2019-01-01T00:00Z"), category="medication", status="stopped")
    later = item("y", at("2019-03-01T00:00Z"))
    (known,) = cut(PatientRecord("p", (stopped, later)), at("2019-02-01T00:00Z")).record.items
    assert known.status is None and known.remarks == ("its status at the prediction time is not known",)
    assert cut(PatientRecord("p", (stopped, later)), at("2019-04-01T00:00Z")).record.items[0] == stopped


def test_waveform_and_sound_are_truncated_at_the_prediction_time():
    signal = Signal(np.arange(20, dtype=np.float32)[None], ("II",), ("mV",), 2.0, ((1.0, "N"), (6.0, "V")))
    wave = item("w", at("2019-03-04T10:00:00Z"), content=Content("signal", lambda: signal), category="waveform")
    (kept,) = cut(PatientRecord("p", (wave,)), at("2019-03-04T10:00:04Z")).record.items
    loaded = kept.content.load()
    assert loaded.samples.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8]]  # samples at 0, 0.5, …, 4 s
    assert loaded.annotations == ((1.0, "N"),)
    assert truncate(Sound(np.zeros((1, 10), np.float32), 2.0), 100).samples.shape == (1, 10)
    assert signal.samples.shape == (1, 20)


def test_clocks_that_cannot_be_compared_are_refused():
    with pytest.raises(ConfigError) as caught:
        cut(PatientRecord("p", (item("a", at("2019-03-04")),)), parse_prediction_time("24 h"))
    assert str(caught.value) == (
        "Cannot cut the record at 24 h after admission: its 1 timed items are on another clock, and the calendar time of "
        "admission is not stated. Give the prediction time as a date and time."
    )
    with pytest.raises(ConfigError, match=r"calendar time of admission is not stated.*relative to that anchor, such as 24 h"):
        cut(PatientRecord("p", (item("a", hours(1)),)), at("2019-03-04"))


@pytest.mark.parametrize(
    ("written", "seconds", "anchor"),
    [
        ("24 h", 86_400, "admission"),
        ("24h after admission", 86_400, "admission"),
        ("36:30", 131_400, "admission"),
        ("40 h 30 min after surgery", 145_800, "surgery"),
        ("2 days", 172_800, "admission"),
        ("90 min before admission", -5400, "admission"),
        ("1.5 h", 5400, "admission"),
        ("at admission", 0, "admission"),
    ],
)
def test_prediction_times_after_an_anchor(written, seconds, anchor):
    parsed = parse_prediction_time(written)
    assert isinstance(parsed, Offset) and (parsed.seconds, parsed.anchor) == (seconds, anchor)


@pytest.mark.parametrize(
    ("written", "precision", "iso"),
    [
        ("2019", "year", "2019-01-01T00:00:00+00:00"),
        ("2019-03", "month", "2019-03-01T00:00:00+00:00"),
        ("2019-03-04", "day", "2019-03-04T00:00:00+00:00"),
        ("2019-03-04T10:00Z", "minute", "2019-03-04T10:00:00+00:00"),
        ("2019-03-04 10:00:07.25-05:30", "second", "2019-03-04T10:00:07.250000-05:30"),
    ],
)
def test_calendar_times(written, precision, iso):
    parsed = parse_prediction_time(written)
    assert isinstance(parsed, Instant) and parsed.precision == precision and parsed.at == datetime.fromisoformat(iso)
    assert parsed.zone_is_stated == (precision in ("minute", "second"))


@pytest.mark.parametrize(
    "written", ["", "24", "tomorrow", "2019-13", "2019-02-30", "24:75", "5 parsecs", "2019-03-04T25:00Z", "h", "after admission"]
)
def test_other_words_are_refused(written):
    with pytest.raises(ConfigError) as caught:
        parse_prediction_time(written)
    assert str(caught.value) == (
        f"Cannot use {written!r} as the prediction time. Write a date (2019-03-04), a date and time with its zone "
        "(2019-03-04T10:00Z), or a time after admission (24 h, 36:30)."
    )


@given(st.text())
def test_any_text_is_a_time_or_a_clear_refusal(written):
    try:
        parse_prediction_time(written)
    except ConfigError as error:
        assert "as the prediction time" in str(error)
    try:
        parse_instant(written)
    except FormatError as error:
        assert str(error) == "not a date or time such as 2019, 2019-03, 2019-03-04 or 2019-03-04T10:15:00Z"


@given(st.integers(-100_000, 100_000), instants())
def test_printed_times_read_back(minutes, instant):
    offset = Offset(minutes * 60.0, "admission")
    assert parse_prediction_time(format_time(offset)) == offset
    if instant.precision != "second":
        again = parse_prediction_time(format_time(instant))
        assert again.at == instant.at.replace(second=0, microsecond=0) and again.precision == instant.precision


def test_times_in_words():
    assert format_time(hours(40.5)) == "40 h 30 min after admission"
    assert format_time(hours(0)) == "at admission"
    assert format_time(hours(-2)) == "2 h before admission"
    assert format_time(at("2019-03")) == "2019-03"
    assert format_time(at("2019-03-04T10:15")) == "2019-03-04 10:15"
    assert format_time(at("2019-03-04T10:15Z")) == "2019-03-04 10:15 UTC"


def test_frames_after_the_prediction_time_are_cut_off() -> None:
    clip = Clip(np.zeros((5, 2, 2), np.uint8), np.arange(5) / 2, np.ones(5, np.bool_))
    kept = truncate(clip, 1.0)
    assert isinstance(kept, Clip) and kept.time_s.tolist() == [0.0, 0.5, 1.0] and len(kept.frames) == len(kept.is_present) == 3
    untimed = truncate(dataclasses.replace(clip, time_s=np.full(5, np.nan)), 1.0)
    assert isinstance(untimed, Clip) and len(untimed.frames) == 1
@pytest.mark.parametrize(
    ("observed", "recorded", "known"),
    [
        ("2019-03-04T10:00Z", None, True),  # nothing said: known from when it was observed
        ("2019-03-04T10:00Z", "2019-03-04T11:00Z", True),
        ("2019-03-04T10:00Z", "2019-03-04T12:00Z", True),
        ("2019-03-04T10:00Z", "2019-03-04T12:01Z", False),
        ("2019-03-04T10:00Z", "2019-03-04", False),  # perhaps in the evening
        ("2019-03-04T10:00Z", "2019-03-03", True),
        ("2019-03-04T13:00Z", "2019-03-04T11:00Z", False),  # planned: written down, not yet observed
        ("2019-03-04T10:00Z", "2019-03-04T13:30+02:00", True),
    ],
)
def test_what_was_issued_later_was_not_known(observed, recorded, known):
    one = item("lab", at(observed), recorded_at=at(recorded) if recorded else None)
    left = cut(PatientRecord("p", (one,)), at("2019-03-04T12:00Z"))
    assert (len(left.record.items), left.dropped_after) == (int(known), int(not known))


def test_a_time_of_recording_on_another_clock_cannot_be_told():
    lab = item("lab", hours(1), recorded_at=at("2019-03-04T11:00Z"))
    other = item("other", hours(1))
    assert cut(PatientRecord("p", (lab, other)), hours(2)).dropped_untimed == 1
    assert cut(PatientRecord("p", (lab, other), {"admission": ADMITTED}), hours(2)).record.items == (lab, other)


@given(records, st.none() | times, times)
def test_a_time_of_recording_never_adds_what_the_cut_left_out(record, recorded, now):
    try:
        plain = {each.id for each in cut(record, now).record.items}
    except ConfigError:
        return
    late = dataclasses.replace(record, items=tuple(dataclasses.replace(each, recorded_at=recorded) for each in record.items))
    try:
        left = {each.id for each in cut(late, now).record.items}
    except ConfigError:  # now nothing can be compared
        left = set()
    assert left <= plain
