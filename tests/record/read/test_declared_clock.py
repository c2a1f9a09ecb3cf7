"""Declared zones and clock offsets. Summer time of Berlin by EU Directive 2000/84/EC (01:00 UTC, last Sundays of March and October)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import ConfigError
from salus.record.cohort import options_of, read_manifest
from salus.record.patient import Code, Instant, Item, Offset, PatientRecord, Source
from salus.record.read.declared_clock import in_zone, mixed_zones, with_declared_clock
from salus.record.read.folder import one_patient, read_path
from salus.record.read.reader import FileRead, Found, ReadOptions
from salus.record.timeline import clock, cut, parse_instant

BERLIN = ReadOptions(zone="Europe/Berlin")


def item(observed, **known):
    return Item("a", "vitals_labs", Code("column", "x", "x"), Source("a", ""), observed, **known)


def moved(observed, options, **known):
    read = FileRead(found=(Found("p", (item(observed, **known),)),))
    return with_declared_clock(read, options).found[0].items[0]


@pytest.mark.parametrize(
    ("wall", "utc", "remark"),
    [
        ("2019-01-15T12:00", "2019-01-15T11:00", None),
        ("2019-07-15T12:00", "2019-07-15T10:00", None),
        ("2019-10-27T02:30", "2019-10-27T00:30", "showed twice"),
        ("2019-03-31T02:30", "2019-03-31T01:30", "skipped"),
        ("2019-03-31T03:00", "2019-03-31T01:00", None),
    ],
)
def test_summer_time(wall, utc, remark):
    found = moved(parse_instant(wall), BERLIN)
    assert found.observed_at.at == datetime.fromisoformat(utc).replace(tzinfo=UTC) and found.observed_at.zone_is_stated
    assert found.remarks[0] == "zone of this file taken as Europe/Berlin, as declared"
    assert (remark is None and len(found.remarks) == 1) or remark in found.remarks[1]


zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])


@given(st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1)), zones)  # noqa: DTZ001 (Hypothesis wants naive bounds)
def test_a_wall_time_leads_back_to_its_moment(moment, zone):
    utc = moment.replace(tzinfo=UTC, microsecond=0)
    local = utc.astimezone(ZoneInfo(zone))
    found = in_zone(local.replace(tzinfo=UTC, fold=0), zone)
    assert found == (utc if local.fold == 0 else found) and found.replace(tzinfo=None) == local.replace(tzinfo=None)
    if local.fold:  # shown twice: the first, so never later than it was
        assert timedelta(0) < utc - found <= timedelta(hours=1)


def test_a_stated_zone_is_kept_and_nothing_declared_changes_nothing():
    stated = parse_instant("2019-07-15T12:00-05:00")
    assert moved(stated, BERLIN) == item(stated)
    read = FileRead(found=(Found("p", (item(parse_instant("2019-07-15T12:00")),)),))
    assert with_declared_clock(read, ReadOptions()) is read


@given(st.integers(-200_000, 200_000).map(float), st.sampled_from(["second", "minute", "day", "month"]))
def test_an_offset_moves_points_by_seconds_and_dates_by_whole_days(shift, precision):
    start = Instant(datetime(2019, 3, 1, tzinfo=UTC), precision)
    options = ReadOptions(clock_offset_s=shift)
    seconds = (moved(start, options).observed_at.at - start.at).total_seconds()
    assert seconds == (shift if precision in ("second", "minute") else int(shift / 86_400) * 86_400)
    assert moved(Offset(60.0, "admission"), options).observed_at.seconds == 60 + shift
    back = moved(moved(start, options).observed_at, ReadOptions(clock_offset_s=-shift)).observed_at
    assert back == start


def test_the_correction_is_said_and_demographics_belong_to_no_device():
    options = ReadOptions(clock_offset_s=37)
    assert moved(parse_instant("2019-03-01T10:00Z"), options).remarks == ("clock of this file moved by +37 s, as declared",)
    birth = parse_instant("1960")
    assert moved(birth, options, category="demographic").observed_at == birth
    both = moved(parse_instant("2019-03-01T10:00"), ReadOptions(zone="Asia/Kathmandu", clock_offset_s=-30))
    assert both.observed_at.at == datetime(2019, 3, 1, 4, 14, 30, tzinfo=UTC) and len(both.remarks) == 2


def test_recorded_and_ended_times_and_the_anchor_move_too():
    admitted = parse_instant("2019-03-01T10:00")
    one = item(admitted, ended_at=parse_instant("2019-03-02T10:00"), recorded_at=parse_instant("2019-03-01T12:00Z"))
    part = with_declared_clock(FileRead(found=(Found("p", (one,), {"admission": admitted.at}),)), BERLIN).found[0]
    assert part.anchors["admission"] == part.items[0].observed_at.at == datetime(2019, 3, 1, 9, tzinfo=UTC)
    assert part.items[0].ended_at.at.hour == 10 and part.items[0].recorded_at == parse_instant("2019-03-01T12:00Z")


def folder_of(path: Path, manifest: str) -> PatientRecord:
    """Two monitors saw one event at one moment; the second one's clock shows local time and is 37 s behind."""
    (path / "a.csv").write_text("patient,timestamp,heart rate [/min]\np,2019-07-01T10:00:00Z,88\np,2019-07-01T11:00:00Z,90\n")
    (path / "b.csv").write_text("patient,timestamp,respiratory rate [/min]\np,2019-07-01T11:59:23,14\np,2019-07-01T12:59:23,16\n")
    (path / "salus-cohort.yaml").write_text(manifest)
    return one_patient(read_path(path))


def test_two_devices_agree_after_the_declared_correction(tmp_path):
    before = folder_of(tmp_path, "name: ward")
    assert mixed_zones(before).startswith("2 of 4 times state no zone")
    after = folder_of(tmp_path, "files: {'b.csv': {zone: Europe/Berlin, clock_offset_s: 37}}")
    assert sorted(clock(after).values()) == [0, 0, 3600, 3600] and mixed_zones(after) is None
    assert len(cut(after, parse_instant("2019-07-01T10:30Z")).record.items) == 2
    said = {remark for each in after.items if each.source.path.endswith("b.csv") for remark in each.remarks}
    assert {"zone of this file taken as Europe/Berlin, as declared", "clock of this file moved by +37 s, as declared"} <= said
    assert not any("clock of" in remark for each in after.items if each.source.path.endswith("a.csv") for remark in each.remarks)


def test_what_cannot_be_a_zone_or_an_offset_is_refused(tmp_path):
    path = tmp_path / "salus-cohort.yaml"
    for rule, words in (
        ("zone: Europe/Berln", "zone 'Europe/Berln' is unknown. Did you mean 'Europe/Berlin'"),
        ("clock_offset_s: .nan", "clock_offset_s is nan"),
        ("clock_offset_s: 1.0e+12", "at most"),
        ("clock_offset_s: soon", "wrong type"),
        ("clock_offset: 3", "Did you mean 'clock_offset_s'"),
    ):
        path.write_text(f"files: {{'*': {{{rule}}}}}")
        with pytest.raises(ConfigError, match=words.replace(".", "[.]")):
            read_manifest(path)
    path.write_text("files: {'*': {clock_offset_s: 37}}")
    assert options_of(read_manifest(path), "a.csv").clock_offset_s == 37
