"""Windows, as-of joins and grids against slow loops written here and against pandas; offsets against shifts that were put in."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import ConfigError, InputError
from salus.record.clock_offset import propose_offset
from salus.record.patient import Code, Item, Offset, PatientRecord, Source
from salus.record.series import MOST_STEPS, Series, as_of, as_of_join, resample, series_of, window
from salus.record.timeline import clock, cut

seconds_lists = st.lists(st.one_of(st.none(), st.integers(-50, 50).map(float)), max_size=12)


def items_at(times):
    """Return items named by their place, and the seconds of those that have a time."""
    items = [Item(f"{n:03}", "vitals_labs", Code("column", "x", "x"), Source("a", ""), value=float(n)) for n in range(len(times))]
    return items, {item.id: at for item, at in zip(items, times, strict=True) if at is not None}


def series(times, values, key="heart_rate"):
    order = np.argsort(np.asarray(times, np.float64), kind="stable")
    return Series(key, np.asarray(times, np.float64)[order], np.asarray(values, np.float64)[order], tuple(map(str, order)))


@given(seconds_lists, st.lists(st.integers(-60, 60), min_size=2, max_size=6))
def test_windows_side_by_side_hold_each_item_once(times, edges):
    items, seconds = items_at(times)
    edges = sorted(edges)
    held = [item.id for start, end in itertools.pairwise(edges) for item in window(items, seconds, start, end)]
    assert sorted(held) == sorted(name for name, at in seconds.items() if edges[0] <= at < edges[-1])


@given(seconds_lists, st.integers(-60, 60), st.one_of(st.just(math.inf), st.integers(0, 40)))
def test_as_of_is_the_last_that_is_young_enough(times, at, within):
    items, seconds = items_at(times)
    expected = None
    for item in items:  # slow and plain: keep the best so far
        own = seconds.get(item.id)
        if own is not None and own <= at and at - own <= within and (expected is None or own >= seconds[expected.id]):
            expected = item
    assert as_of(items, seconds, at, within_s=within) == expected


@given(st.lists(st.integers(-50, 50), max_size=15), st.lists(st.integers(-50, 50), max_size=15), st.integers(0, 40))
def test_as_of_join_is_that_of_pandas(left, right, within):
    pandas = pytest.importorskip("pandas")
    joined = as_of_join(np.array(left, np.float64), series(right, range(len(right))), within_s=within)
    one = pandas.DataFrame({"at": np.array(sorted(left), np.float64)})
    other = pandas.DataFrame({"at": np.array(sorted(right), np.float64), "place": np.arange(len(right), dtype=np.float64)})
    wanted = pandas.merge_asof(one, other, on="at", tolerance=float(within))["place"].fillna(-1).astype(int)
    assert joined[np.argsort(left, kind="stable")].tolist() == wanted.tolist()


@given(
    st.lists(st.tuples(st.integers(-20, 120), st.floats(-5, 5)), max_size=20),
    st.integers(1, 50),
    st.integers(0, 100),
    st.sampled_from(["mean", "last", "min", "max"]),
)
def test_a_grid_is_what_a_loop_over_its_steps_gives(points, step, end, aggregate):
    given_series = series([at for at, _ in points], [value for _, value in points])
    grid = resample(given_series, start_s=0, end_s=end, step_s=step, aggregate=aggregate)
    take = {"mean": lambda found: sum(found) / len(found), "last": lambda found: found[-1], "min": min, "max": max}[aggregate]
    for start, value, count in zip(grid.times_s, grid.values, grid.counts, strict=True):
        pairs = zip(given_series.times_s, given_series.values, strict=True)
        found = [x for at, x in pairs if start <= at < min(start + step, end)]
        assert len(found) == count
        assert value == pytest.approx(take(found), abs=1e-12) if found else math.isnan(value)
    inside = [at for at, _ in points if 0 <= at < end]
    assert grid.counts.sum() == len(inside)


def test_a_step_that_cannot_be_is_refused():
    for step, end in ((0, 10), (-1, 10), (1, -5), (1e-9, 10), (math.nan, 10)):
        with pytest.raises(ConfigError, match="Cannot resample"):
            resample(series([0], [1]), start_s=0, end_s=end, step_s=step)
    assert MOST_STEPS < 1e9
    with pytest.raises(ConfigError, match="ends before it starts"):
        window((), {}, 5, 4)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(60, 140)), max_size=12), st.integers(0, 50))
def test_nothing_after_the_prediction_time_is_in_a_series_of_the_cut_record(points, hour):
    items = tuple(
        Item(f"{n}", "vitals_labs", Code("loinc", "8867-4", "hr"), Source("a", ""), Offset(at * 3600.0, "admission"), value=value)
        for n, (at, value) in enumerate(points)
    )
    left = cut(PatientRecord("p", items), Offset(hour * 3600.0, "admission")).record
    for one in series_of(left).values():
        assert one.times_s.max() <= hour * 3600 and (np.diff(one.times_s) >= 0).all()
    assert sum(len(one.item_ids) for one in series_of(left).values()) == sum(at <= hour for at, _ in points)
    assert set(clock(left)) == {item.id for item in left.items}


def wave(at):
    return 80 + 10 * np.sin(at / 300) + 5 * np.sin(at / 70)


@pytest.mark.parametrize("shift", [-600, -37, 0, 5, 211])
def test_the_offset_that_was_put_in_is_proposed_with_an_interval_that_holds_it(shift):
    rng = np.random.default_rng(abs(shift))
    there, here = np.arange(0, 7200, 15.0), np.sort(rng.uniform(900, 6300, 150))
    monitor = series(there, wave(there) + rng.normal(0, 1, len(there)))
    pump = series(here - shift, wave(here) + rng.normal(0, 1, len(here)))
    found = propose_offset(monitor, pump, most_s=900)
    assert abs(found.seconds - shift) <= 5 and found.low_s <= shift <= found.high_s
    assert found.correlation > 0.95 and found.high_s - found.low_s < 60


def test_noise_gives_a_wide_interval_and_little_data_none():
    rng = np.random.default_rng(0)
    at = np.arange(0, 3600, 30.0)
    found = propose_offset(series(at, rng.normal(size=120)), series(at, rng.normal(size=120)), most_s=600)
    assert found.high_s - found.low_s > 100 and found.correlation < 0.6
    with pytest.raises(InputError, match="at least 10"):
        propose_offset(series(at[:4], at[:4]), series(at, at))
    with pytest.raises(InputError, match="do not vary"):
        propose_offset(series(at, np.ones(120)), series(at, at), most_s=60)


def test_a_long_series_takes_bounded_time():
    at = np.arange(0, 200_000, 1.0)
    started = time.process_time()
    found = propose_offset(series(at, wave(at)), series(at, wave(at + 20)), most_s=60)
    assert found.seconds == 20 and time.process_time() - started < 20
