"""Speech to text: what a transcriber is, and how its text enters a record.

Takes a record with sounds of the modality `speech`; gives it with one text item for each stretch of speech, which says that a machine heard
it, and where in which recording. Backends are plug-ins (`salus.transcribers`); none runs unless it is asked for. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from salus import registry
from salus.errors import InputError
from salus.record.patient import Code, Instant, Item, ObservedTime, Offset, PatientRecord, ReadReport, Skipped, Sound, item_id

RATE_HZ = 16_000
"""What transcribers take."""
WINDOW_S = 600.0
"""Longer recordings are heard in windows of this length, so that memory stays bounded."""
SPEECH = "speech"
CATEGORY = "transcript"


@dataclass(frozen=True)
class Word:
    """A word that was heard."""

    start_s: float
    end_s: float
    text: str
    probability: float
    """How sure the engine is of it, 0 to 1."""


@dataclass(frozen=True)
class Segment:
    """A stretch of speech."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    """Its words in order of time, from an engine that places them; de-identification needs them."""


class Transcriber(Protocol):
    """An engine with its weights loaded."""

    name: str
    """Engine and weights, in words for the remark of an item: `Whisper tiny.en (CTranslate2)`."""

    def transcribe(self, samples: NDArray[np.float32]) -> Sequence[Segment]:
        """Return what is said, in order of time; nothing for a recording without speech.

        Args:
            samples: (S,) float32, -1 to 1, 16,000 Hz.
        """
        ...


def transcriber(name: str) -> Transcriber:
    """Return the engine that a plug-in builds.

    Raises:
        ConfigError: no plug-in has this name.
        MissingExtra: its package is not installed.
    """
    built: Transcriber = registry.load("salus.transcribers", name)()
    return built


def with_transcripts(report: ReadReport, engine: Transcriber) -> ReadReport:
    """Return the report with the transcripts of its speech; a sound that cannot be decoded is listed as skipped."""
    skipped: list[Skipped] = []
    records = tuple(_heard(record, engine, skipped) for record in report.patients)
    return replace(report, patients=records, skipped=(*report.skipped, *skipped))


def _heard(record: PatientRecord, engine: Transcriber, skipped: list[Skipped]) -> PatientRecord:
    items: list[Item] = []
    for item in record.items:
        items.append(item)
        if item.modality == SPEECH and item.content is not None and item.content.kind == "sound":
            try:
                items.extend(transcript_of(item, engine))
            except InputError as error:
                skipped.append(Skipped(item.source.path, f"not transcribed: {error}"))
    return replace(record, items=tuple(items))


def transcript_of(item: Item, engine: Transcriber) -> Iterator[Item]:
    """Yield one text item for each stretch of speech of a recording.

    An item is observed when its stretch ends, so that no word said after the prediction time reaches the model.

    Args:
        item: the recording.
        engine: the transcriber.

    Raises:
        InputError: the sound cannot be decoded.
    """
    loaded = item.content.load() if item.content is not None else None
    if not isinstance(loaded, Sound) or not loaded.samples.size:
        return
    mono = loaded.samples.mean(axis=0)
    size = max(1, round(WINDOW_S * loaded.sampling_rate_hz))
    mixed = f", {len(loaded.samples)} channels mixed to one" if len(loaded.samples) > 1 else ""
    remark = (
        f"machine transcript of item {item.id} by {engine.name}: words may be wrong, left out or made up; listen to the recording{mixed}"
    )
    for start in range(0, len(mono), size):
        began_s = start / loaded.sampling_rate_hz
        for part in engine.transcribe(at_rate(mono[start : start + size], loaded.sampling_rate_hz)):
            locator = f"{item.source.locator} transcript {began_s + part.start_s:.2f} to {began_s + part.end_s:.2f} s".strip()
            yield Item(
                id=item_id(item.source.sha256, f"{locator} {engine.name}"),
                modality=item.modality,
                code=Code("salus", CATEGORY, "machine transcript"),
                source=replace(item.source, locator=locator),
                observed_at=_later(item.observed_at, began_s + part.end_s),
                value=part.text.strip(),
                category=CATEGORY,
                remarks=(remark,),
            )


def at_rate(samples: NDArray[np.float32], sampling_rate_hz: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    """Return samples (S,) at another rate, low-pass filtered.

    Example:
        >>> at_rate(np.zeros(8000, np.float32), 8000.0).shape
        (16000,)
    """
    ratio = Fraction(rate_hz / sampling_rate_hz).limit_denominator(1000)
    return samples if ratio == 1 else np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator), dtype=np.float32)


def _later(time: ObservedTime | None, seconds: float) -> ObservedTime | None:
    """Return a time moved on; one that is known to the day or less stays, since it holds the whole recording."""
    if time is None or time.precision not in ("minute", "second"):
        return time
    if isinstance(time, Offset):
        return replace(time, seconds=time.seconds + seconds)
    return Instant(time.at + timedelta(seconds=seconds), time.precision, time.zone_is_stated)
