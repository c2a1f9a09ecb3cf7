"""Speech and coughs: what a transcriber heard decides what stays; the last test hears espeak-ng with the real engine."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from salus.errors import InputError
from salus.record.deidentify import spoken
from salus.record.deidentify.gate import Means, deidentify_folder
from salus.record.deidentify.key import Key
from salus.record.deidentify.sounds import check_sound, deidentify_sound
from salus.record.deidentify.spoken import Heard, hear, to_keep
from salus.record.deidentify.text import Subject
from salus.record.deidentify.work import Work
from salus.record.read.reader import ReadOptions
from salus.record.transcribe import Segment, Word, transcriber

RATE = 16_000
SUBJECT = Subject(Key(bytes(32)), "p")


def segment(*words: tuple[str, float], start: float = 0.0) -> Segment:
    """Return words of half a second each, (text, probability)."""
    placed = tuple(Word(start + 0.5 * place, start + 0.5 * place + 0.5, text, sure) for place, (text, sure) in enumerate(words))
    return Segment(start, start + 0.5 * len(words), " ".join(text for text, _ in words), placed)


class Hearing:
    """Hears the same in every recording that is not silent, and nothing of a word that is silent."""

    name = "a made engine"

    def __init__(self, *segments: Segment) -> None:
        self.segments = segments

    def transcribe(self, samples: np.ndarray) -> Sequence[Segment]:
        found = []
        for one in self.segments:
            words = tuple(word for word in one.words if np.abs(samples[int(word.start_s * RATE) : int(word.end_s * RATE)]).max(initial=0) > 0.01)
            if words:
                found.append(Segment(words[0].start_s, words[-1].end_s, " ".join(word.text for word in words), words))
        return found


@pytest.mark.parametrize("modality", ["speech", "cough"])
def test_what_lies_across_the_border_of_two_windows_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str) -> None:
    monkeypatch.setattr(spoken, "WINDOW_S", 5.0)
    path = tone(tmp_path, 12.0)
    engine = Hearing(segment(*[("the", 0.99)] * (10 if modality == "speech" else 1)))
    done = deidentify_sound(path, tmp_path / "new.wav.part", work(modality, engine))
    samples, _ = soundfile.read(done.files[0])
    quiet = [not np.abs(samples[int((at - 0.9) * RATE) : int((at + 0.9) * RATE)]).any() for at in (5.0, 10.0)]
    assert quiet == [True, True] and np.abs(samples[int(2.0 * RATE) : int(3.0 * RATE)]).max() > 0.1
    assert tuple(check_sound(path, tmp_path / "new.wav.part", work(modality, engine))) == ()


def work(modality: str | None, engine: Hearing | None) -> Work:
    return Work(Key(bytes(32)), "p", options=ReadOptions(modality=modality), transcriber=None if engine is None else lambda: engine)


def tone(folder: Path, seconds: float, *, name: str = "said.wav") -> Path:
    path = folder / name
    soundfile.write(path, 0.3 * np.sin(np.arange(int(seconds * RATE)) / 7), RATE)
    return path


def kept(*segments: Segment) -> list[tuple[float, float]]:
    return [(round(start, 2), round(end, 2)) for start, end in to_keep(Heard(segments), SUBJECT)]


def test_everyday_words_stay_and_a_name_goes_with_its_margin() -> None:
    said = segment(("the", 0.9), ("patient", 0.9), ("is", 0.9), ("Okonkwo", 0.95), ("with", 0.9), ("a", 0.9), ("dry", 0.9), ("cough", 0.9))
    assert kept(said) == [(0.0, 1.0), (2.5, 4.0)]


@pytest.mark.parametrize("word", ["1952.", "Zelda", "seven", "March", "3rd", "twenty-five", "fives", "May", "Monday", "Grace"])
def test_numbers_and_rare_words_go(word: str) -> None:
    assert kept(segment(("pain", 0.9), ("and", 0.9), (word, 0.99))) == [(0.0, 0.5)]


def test_the_margin_reaches_over_several_short_words() -> None:
    said = Segment(0.0, 1.6, "she is in a bed Okonkwo", tuple(
        Word(0.2 * place, 0.2 * place + (0.2 if place < 5 else 0.6), text, 0.9) for place, text in enumerate(("she", "is", "in", "a", "bed", "Okonkwo"))
    ))  # fmt: skip
    assert kept(said) == [(0.0, 0.5)]


def test_a_name_in_one_channel_goes_from_both(tmp_path: Path) -> None:
    class Antiphase(Hearing):
        def transcribe(self, samples: np.ndarray) -> Sequence[Segment]:
            return super().transcribe(samples) if np.abs(samples).max() > 0.01 else ()

    wave = 0.3 * np.sin(np.arange(4 * RATE) / 7)
    soundfile.write(tmp_path / "a.flac", np.stack([wave, -wave], axis=1), RATE)
    engine = Antiphase(segment(("pain", 0.9), ("Okonkwo", 0.9)))
    deidentify_sound(tmp_path / "a.flac", tmp_path / "new.flac.part", work("speech", engine))
    assert soundfile.info(tmp_path / "new.flac.part").format == "FLAC"
    assert not soundfile.read(tmp_path / "new.flac.part")[0][RATE // 4 :].any()


def test_a_doubtful_word_goes_and_a_pause_is_not_bridged() -> None:
    assert kept(segment(("pain", 0.3))) == []
    assert kept(segment(("pain", 0.9)), segment(("cough", 0.9), start=2.0)) == [(0.0, 0.5), (2.0, 2.5)]


def test_a_segment_without_places_of_its_words_goes_whole() -> None:
    assert kept(Segment(0.0, 2.0, "the patient has a cough")) == []


@given(st.lists(st.tuples(st.sampled_from(["pain", "Okonkwo", "cough", "17"]), st.floats(0, 1)), max_size=12))
def test_no_part_of_a_word_that_goes_stays(words: list[tuple[str, float]]) -> None:
    said = segment(*words)
    for word in said.words:
        if word.text in ("Okonkwo", "17"):
            assert all(end <= word.start_s or start >= word.end_s for start, end in to_keep(Heard((said,)), SUBJECT))


def test_what_is_delivered_is_silent_where_the_name_was(tmp_path: Path) -> None:
    engine = Hearing(segment(("the", 0.9), ("patient", 0.9), ("is", 0.9), ("Okonkwo", 0.95), ("with", 0.9), ("a", 0.9), ("dry", 0.9), ("cough", 0.9)))
    path, target = tone(tmp_path, 6.0), tmp_path / "new.wav"
    done = deidentify_sound(path, target, work("speech", engine))
    samples, rate = soundfile.read(target)
    loud = np.abs(samples).reshape(-1, rate // 10).max(1) > 0.1
    assert rate == RATE and len(samples) == 6 * RATE
    assert loud[:10].all() and not loud[10:25].any() and loud[25:40].all() and not loud[40:].any()
    assert any("voice itself" in notice for notice in done.notices) and not check_sound(path, target, work("speech", engine))


def test_a_planted_miss_is_caught(tmp_path: Path) -> None:
    engine = Hearing(segment(("Mrs.", 0.9), ("Zelda", 0.9), ("Quimby", 0.9), ("has", 0.9), ("pain", 0.9)))
    path = tone(tmp_path, 3.0)
    assert "still finds: name" in check_sound(path, path, work("speech", engine))[0]


def test_of_a_cough_the_words_go(tmp_path: Path) -> None:
    engine = Hearing(segment(("my", 0.9), ("name", 0.9), start=2.0))
    path, target = tone(tmp_path, 6.0), tmp_path / "new.wav"
    deidentify_sound(path, target, work("cough", engine))
    loud = np.abs(soundfile.read(target)[0]).reshape(-1, RATE // 10).max(1) > 0.1
    assert loud[:14].all() and not loud[16:34].any() and loud[36:].all()


@pytest.mark.parametrize(("modality", "engine"), [("speech", None), (None, Hearing()), ("cough", None)])
def test_without_a_transcriber_or_a_modality_it_is_refused(tmp_path: Path, modality: str | None, engine: Hearing | None) -> None:
    with pytest.raises(InputError, match="it may hold speech"):
        deidentify_sound(tone(tmp_path, 1.0), tmp_path / "new.wav", work(modality, engine))


def test_the_gate_gives_the_transcriber_to_each_sound(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    tone(tmp_path / "in", 2.0)
    soundfile.write(tmp_path / "in" / "heart.ogg", 0.3 * np.sin(np.arange(8000) / 7), 4000)
    (tmp_path / "in" / "salus-cohort.yaml").write_text("files: {said.wav: {modality: speech}, heart.ogg: {modality: heart_sound}}")
    engine = Hearing(segment(("pain", 0.9), ("17", 0.9)))
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", tmp_path / "key", means=Means(transcriber=lambda: engine))
    assert report.is_complete and len(list((tmp_path / "out").rglob("*.wav"))) == 2


def test_whisper_places_its_words(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None or importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("espeak-ng or the extra 'speech' is not installed")
    path, target = tmp_path / "said.wav", tmp_path / "new.wav"
    words = "She was treated with antibiotics for the infection. Her name is Esmeralda Kowalczyk."
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(path), words], check=True, timeout=60)
    engine = transcriber("whisper")
    own = Work(Key(bytes(32)), "p", options=ReadOptions(modality="speech"), transcriber=lambda: engine)
    deidentify_sound(path, target, own)
    samples, rate = soundfile.read(target, dtype="float32")
    left = " ".join(one.text for one in hear(samples, rate, engine).segments).lower()
    assert not check_sound(path, target, own) and "kowal" not in left and "esmer" not in left
    assert np.abs(samples[: len(samples) // 2]).max() > 0.05 and not np.abs(samples[-rate:]).any()
