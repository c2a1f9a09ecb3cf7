"""Transcripts: where their items come from, what they say of themselves, and that no word said later is known earlier.

The engine of the first tests is written here; the last test runs the real one on speech that espeak-ng makes.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from salus import registry
from salus.errors import FormatError
from salus.modalities.speech import example
from salus.reason.lists import excerpts
from salus.record.patient import Instant, Item, Offset, PatientRecord, ReadReport, Sound
from salus.record.read.folder import read_path
from salus.record.timeline import cut
from salus.record.transcribe import Segment, at_rate, transcriber, with_transcripts


class Counting:
    """Hears one word a second: the number of samples that it was given."""

    name = "a counting engine"

    def transcribe(self, samples: np.ndarray) -> Sequence[Segment]:
        return [Segment(second, second + 1.0, f"Word {second} of {len(samples)}.") for second in range(len(samples) // 16_000)]


def speech(observed_at: Instant | Offset | None = None, seconds: float = 3.0) -> Item:
    (item,) = example()
    assert item.content is not None
    sound = Sound(np.zeros((2, round(8000 * seconds)), np.float32), 8000.0)
    return replace(item, observed_at=observed_at, content=replace(item.content, load=lambda: sound))


def heard(item: Item) -> tuple[Item, ...]:
    report = with_transcripts(ReadReport((PatientRecord("a", (item,)),), ()), Counting())
    return tuple(each for each in report.patients[0].items if each.category == "transcript")


def test_items_lead_to_the_recording_and_say_what_they_are() -> None:
    item = speech()
    parts = heard(item)
    assert [part.value for part in parts] == [f"Word {second} of 48000." for second in range(3)]  # 3 s at 16 kHz, from 8 kHz stereo
    assert parts[1].source == replace(item.source, locator="transcript 1.00 to 2.00 s") and len({part.id for part in parts}) == 3
    assert parts[0].remarks == (
        f"machine transcript of item {item.id} by a counting engine: words may be wrong, left out or made up; "
        "listen to the recording, 2 channels mixed to one",
    )
    assert parts[0].modality == "speech" and parts[0].code.display == "machine transcript"


@pytest.mark.parametrize("start", [Offset(3600.0, "admission"), Instant(datetime(2026, 3, 1, 10, tzinfo=UTC))])
def test_words_said_later_are_not_known_earlier(start: Instant | Offset) -> None:
    item = speech(start)
    record = PatientRecord("a", (item, *heard(item)))
    now = replace(start, seconds=3602.5) if isinstance(start, Offset) else Instant(datetime(2026, 3, 1, 10, 0, 2, tzinfo=UTC))
    words = [part.value for part in cut(record, now).record.items if part.category == "transcript"]
    assert 1 <= len(words) < 3 and words == [f"Word {second} of 48000." for second in range(len(words))]


def test_long_recordings_are_heard_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.record.transcribe.WINDOW_S", 2.0)
    parts = heard(speech(seconds=5.0))
    assert [part.value for part in parts] == ["Word 0 of 32000.", "Word 1 of 32000."] * 2 + ["Word 0 of 16000."]
    assert parts[-1].source.locator == "transcript 4.00 to 5.00 s"


def test_a_transcript_is_quoted_as_one() -> None:
    item = speech()
    record = PatientRecord("a", (item, *heard(item)))
    (fact,) = excerpts(record, "word 2?", top=1)
    assert fact.text == "Machine transcript: “Word 2 of 48000.”"


def test_a_sound_that_does_not_decode_is_listed() -> None:
    def fail() -> Sound:
        raise FormatError("Cannot read the sound 'a.wav': it is damaged.")

    item = speech()
    assert item.content is not None
    broken = replace(item, content=replace(item.content, load=fail))
    report = with_transcripts(ReadReport((PatientRecord("a", (broken,)),), ()), Counting())
    assert report.skipped[0].reason == "not transcribed: Cannot read the sound 'a.wav': it is damaged."


def test_resampling_keeps_a_tone() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(at_rate(tone, 44_100.0)[200:-200], expected[200:-200], atol=0.01)


def test_the_built_in_engine_is_registered() -> None:
    assert registry.names("salus.transcribers") == ("whisper",)


def test_whisper_hears_a_sentence(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None or importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("espeak-ng or the extra 'speech' is not installed")
    path = tmp_path / "dictation.wav"
    words = "The patient has had a cough and a fever for three days."
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(path), words], check=True, timeout=60)
    (tmp_path / "salus-cohort.yaml").write_text("files: {'*.wav': {modality: speech}}")
    engine = transcriber("whisper")
    report = with_transcripts(read_path(tmp_path), engine)
    said = [item for item in report.patients[0].items if item.category == "transcript"]
    assert {"patient", "cough", "fever", "days"} <= set(str(said[0].value).lower().replace(".", " ").split())
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.01, 48_000), 16_000)
    report = with_transcripts(read_path(tmp_path), engine)
    assert not [item for item in report.patients[0].items if item.category == "transcript"]  # noise says nothing
