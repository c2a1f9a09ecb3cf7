"""Speaks sentences with planted identifiers through espeak-ng, to measure what de-identification silences.

Takes a half and a seed; gives recordings with the stretches in which an identifier is spoken. Each part of a sentence is spoken by itself
and laid end to end, so that the stretches are known to the sample, whatever a transcriber hears. The first half of the sentences is for
developing, the second for the measured figure. Synthetic voices, without the noise of a ward: what is measured is the method.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from planted import KINDS, Maker, plain

from salus.record.read.sound import load_sound
from salus.record.transcribe import RATE_HZ, at_rate

VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3")
LEAST_LEVEL = 0.01
"""Below this share of full scale a spoken part is silence, and cut off its ends."""
SENTENCES = (
    "The patient is {name}.", "This is a note on {name}, who has a cough and a fever.", "She lives at {street} and walks with a stick.",
    "He was seen in {city} with chest pain.", "Please call {phone} if the pain comes back.", "The record number is {record_number}.",
    "He was born on {date} and has diabetes.", "I spoke with his daughter {given} this morning.", "She was admitted on {date} with pneumonia.",
    "Dictated by doctor {family}, who will see her again.", "The operation was done at {hospital} without bleeding.",
    "His insurance number is {plan_number}, and the wound is dry.", "Her neighbor {name} checks on her in the evening.",
    "The patient moved here from {city} and takes metformin twice a day.", "Her number is {ssn}, and her kidney function is stable.",
    "Mister {family} denies chest pain and shortness of breath.", "The lungs are clear, and {given} feels better.",
    "Send the results to {name} at {hospital}.", "The next visit is on {date} in the morning.", "Missus {family} has lost weight since the last visit.",
    "This is {name}, with swelling of the left ankle.", "I saw {given} and {given} in the clinic with a rash on both arms.",
    "The patient lives in {city}, drinks wine in the evening, and smokes.", "The blood pressure was high when {family} came in.",
    "Call her husband {name} on {phone} after the operation.", "He stopped smoking when he left {city}.", "Account {account}, treated with antibiotics.",
    "She was born on {date}, and there is no known allergy.", "Doctor {family} will repeat the blood test.", "The headache of {name} is worse in the morning.",
    "The device with the number {device} was put in at {hospital}.", "He gave his address as {street} in {city}.", "Her mother {given} had breast cancer.",
    "The child {name} has a fever and a dry cough.", "Seen on {date} for low back pain.", "Sister {given} gave her fluids at night.",
)  # fmt: skip


@dataclass(frozen=True)
class Spoken:
    """A recording and where identifiers are spoken in it."""

    samples: NDArray[np.float32]
    """(S,) at 16 kHz."""
    spans: tuple[tuple[int, int, str], ...]
    """(first sample, end, kind)."""
    sentence: int


def said(text: str, voice: str, folder: Path) -> NDArray[np.float32]:
    """Return a text in a voice, (S,) at 16 kHz, without silence at its ends."""
    path = folder / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", str(path), text], check=True, timeout=60)
    sound = load_sound(path)
    samples = at_rate(sound.samples[0], sound.sampling_rate_hz)
    loud = np.flatnonzero(np.abs(samples) > LEAST_LEVEL)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def spoken_notes(half: str, *, seed: int, copies: int) -> Iterator[Spoken]:
    """Yield the sentences of one half, each spoken anew `copies` times with other identifiers, the voices in turn."""
    maker = Maker(seed + (0 if half == "dev" else 10_000))
    middle = len(SENTENCES) // 2
    chosen = range(middle) if half == "dev" else range(middle, len(SENTENCES))
    with tempfile.TemporaryDirectory() as name:
        for copy in range(copies):
            for number in chosen:
                voice = VOICES[(number + copy) % len(VOICES)]
                pieces, spans, length = [np.zeros(RATE_HZ // 2, np.float32)], [], RATE_HZ // 2
                for part in re.split(r"(\{\w+\})", SENTENCES[number]):
                    text = plain(maker.make(part[1:-1])) if part.startswith("{") else part
                    if not re.search(r"\w", text):
                        continue
                    samples = said(text, voice, Path(name))
                    if part.startswith("{"):
                        spans.append((length, length + len(samples), KINDS[part[1:-1]]))
                    pieces += [samples, np.zeros(RATE_HZ // 20, np.float32)]
                    length += len(samples) + RATE_HZ // 20
                yield Spoken(np.concatenate([*pieces, np.zeros(RATE_HZ // 2, np.float32)]), tuple(spans), number)
