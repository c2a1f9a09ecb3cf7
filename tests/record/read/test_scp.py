"""SCP-ECG: files written here by the clauses of EN 1064, read back exactly, and as another library (ecgdatakit) reads them."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.record.read.made_scp import differences, packed, written

from salus.errors import FormatError, InputError
from salus.record.patient import Instant, Item, Signal
from salus.record.read.reader import ReadOptions
from salus.record.read.scp import READER
from salus.record.read.scp_huffman import decode, default_table, from_differences, read_tables

TWO = (1, 2)


def numbers(leads: int = 2, samples: int = 600) -> np.ndarray:
    source = np.random.default_rng(1)
    return (300 * np.sin(np.arange(samples) / 9) * np.arange(1, leads + 1)[:, None] + source.normal(0, 20, (leads, samples))).round()


def read(folder: Path, content: bytes) -> tuple[Item, ...]:
    path = folder / "a.scp"
    path.write_bytes(content)
    assert READER.recognises(path, content[:4096])
    (found,) = READER.read(path, ReadOptions()).found
    assert found.subject_id == "key-7"
    return found.items


def signal_of(item: Item) -> Signal:
    assert item.content is not None
    loaded = item.content.load()
    assert isinstance(loaded, Signal)
    return loaded


def by_other_library(path: Path) -> np.ndarray:
    """Return millivolts as ecgdatakit reads them."""
    from ecgdatakit.parsing.parsers.scp_ecg import SCPECGParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = SCPECGParser().parse(path)
    return np.stack([lead.samples * lead.resolution / 1000 for lead in record.leads])


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("huffman", [True, False])
def test_every_encoding_gives_the_written_numbers(tmp_path: Path, order: int, huffman: bool) -> None:
    rows = numbers()
    items = read(tmp_path, written(rows, TWO, order=order, huffman=huffman))
    signal = signal_of(items[0])
    np.testing.assert_allclose(signal.samples, rows * 2500e-6, atol=1e-6)
    np.testing.assert_allclose(signal.samples, by_other_library(tmp_path / "a.scp"), atol=1e-6)
    assert (signal.leads, signal.units, signal.sampling_rate_hz) == (("I", "II"), ("mV", "mV"), 500.0)
    assert items[0].modality == "ecg" and items[0].remarks == ()


def test_a_subtracted_reference_beat_is_added_back(tmp_path: Path) -> None:
    rows = numbers()
    reference = (500 * np.exp(-(((np.arange(100) - 50) / 9) ** 2)) * np.ones((2, 1))).round()
    zones = [(81, 130, 175), (281, 330, 379), (571, 590, 600)]
    items = read(tmp_path, written(rows, TWO, beat=(reference, 51, zones)))
    np.testing.assert_allclose(signal_of(items[0]).samples, rows * 2500e-6, atol=1e-6)
    np.testing.assert_allclose(signal_of(items[0]).samples, by_other_library(tmp_path / "a.scp"), atol=1e-6)


def test_the_recorders_intervals_age_and_sex(tmp_path: Path) -> None:
    items = read(tmp_path, written(numbers(), TWO))
    stated = {item.code.display: (item.value, item.unit) for item in items[1:]}
    assert stated == {
        "heart rate": (60.0, "/min"),
        "PR interval": (160.0, "ms"),
        "QRS duration": (90.0, "ms"),
        "QT interval": (400.0, "ms"),
        "age": (81.0, "a"),
        "sex": ("female", None),
    }
    at = items[0].observed_at
    assert isinstance(at, Instant) and at.at.isoformat() == "1990-10-01T11:30:05+00:00" and not at.zone_is_stated
    assert all("Surname" not in repr(item) for item in items)


@given(st.lists(st.integers(-32768, 32767), min_size=3, max_size=60), st.sampled_from([0, 1, 2]))
@settings(max_examples=60)
def test_any_numbers_survive_the_default_table(values: list[int], order: int) -> None:
    samples = np.array(values)
    wrapped = differences(samples, order).astype(np.int16)
    bits = packed(wrapped, huffman=True)
    found = from_differences(decode(bits, len(values), [default_table()], file="a.scp"), order)
    if order == 0 or np.abs(differences(samples, order)).max() < 32768:
        assert found.tolist() == values


def test_an_own_table_that_switches_to_another() -> None:
    """Table 1: 0 → 5, 10 → 2 more bits, 11 → table 2; table 2: 0 → 7, 1 → table 1. Codes stand with their first bit lowest."""
    first = [(1, 1, 1, 5, 0b0), (2, 4, 1, 0, 0b01), (2, 2, 0, 2, 0b11)]
    second = [(1, 1, 1, 7, 0b0), (1, 1, 0, 1, 0b1)]
    body = struct.pack("<H", 2)
    for table in (first, second):
        body += struct.pack("<H", len(table)) + b"".join(struct.pack("<BBBhI", *entry) for entry in table)
    tables = read_tables(body, file="a.scp")
    bits = "0" + "1011" + "11" + "0" + "1" + "0"
    content = int(bits.ljust(16, "0"), 2).to_bytes(2, "big")
    assert decode(content, 4, tables, file="a.scp").tolist() == [5, -1, 7, 5]


def test_an_altered_byte_is_remarked(tmp_path: Path) -> None:
    content = bytearray(written(numbers(), TWO, huffman=False, order=0))
    content[-100] ^= 1
    remarks = read(tmp_path, bytes(content))[0].remarks
    assert remarks[0] == "the checksum of the file does not fit: it may have been altered"
    assert remarks[1].startswith("the checksum of section ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-50], "it is truncated ("),
        (lambda content: content[:30], "it is truncated ("),
        (lambda content: content.replace(struct.pack("<HHBB", 2500, 2000, 2, 0), struct.pack("<HHBB", 2500, 2000, 2, 1)), "two rates"),
        (lambda content: content.replace(struct.pack("<HHBB", 2500, 2000, 2, 0), struct.pack("<HHBB", 2500, 0, 2, 0)), "no rate"),
        (lambda content: content.replace(struct.pack("<IIB", 1, 600, 2), struct.pack("<IIB", 1, 600, 1)), "it holds ECG lead I twice"),
        (lambda content: content.replace(struct.pack("<IIB", 1, 600, 2), struct.pack("<IIB", 1, 10**9, 2)), "cannot stand in"),
        (lambda content: content.replace(struct.pack("<IIB", 1, 600, 2), struct.pack("<IIB", 9, 3, 2)), "a lead has no sample"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "a.scp"
    path.write_bytes(change(written(numbers(), TWO)))  # type: ignore[operator]
    with pytest.raises(FormatError, match=r"Cannot read 'a\.scp'") as caught:
        READER.read(path, ReadOptions())
    assert message in str(caught.value)


def test_any_damage_is_an_input_error(tmp_path: Path) -> None:
    content = written(numbers(samples=60), TWO, beat=(numbers(samples=20), 10, [(20, 25, 30)]))
    source = np.random.default_rng(0)
    path = tmp_path / "a.scp"
    for _ in range(300):
        broken = bytearray(content)
        for at in source.integers(6, len(content), 4):
            broken[at] = source.integers(0, 256)
        path.write_bytes(bytes(broken[: source.integers(20, len(content) + 1)]) if source.random() < 0.3 else bytes(broken))
        try:
            READER.read(path, ReadOptions())
        except InputError as error:
            assert "Surname" not in str(error)
