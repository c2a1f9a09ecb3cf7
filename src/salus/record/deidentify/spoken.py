"""What may stay of a recording of speech: stretches in which a transcriber heard everyday words, and nothing that identifies.

Takes samples, a transcriber and whose recording it is; gives the stretches to keep. Names are misheard more often than other words, so what
is not sure to be harmless goes: a word that is rare, written with digits, doubtful, or part of what a recogniser finds, and every sound
beside the words. In a recording of coughs it is the other way round: whatever sounds like a word goes, the rest stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salus.record.deidentify.kinds import found_by
from salus.record.deidentify.text import Subject
from salus.record.deidentify.words import EVERYDAY
from salus.record.transcribe import RATE_HZ, Segment, Transcriber, Word, at_rate

LEAST_PROBABILITY = 0.7
"""A word that the engine is less sure of may be a misheard name. This and the margin were chosen on the `dev` sentences
(`scripts/measure_deidentification.py`, design/LOG.md)."""
LONGEST_PAUSE_S = 0.25
"""A longer pause between two words that stay may hide a word that was not heard."""
MARGIN_S = 0.5
"""By so much the sound of a word that goes may reach beyond its marks, which are a third of a second off in places."""
WINDOW_S = 300.0
"""Longer recordings are heard in windows of this length, so that memory stays bounded."""
CUT_S = 1.0
"""So far around the border of two windows a word may have been cut in two; what is there counts as a word that is not known."""
_COUNTING = """
zero oh nought one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million double triple first second third fourth fifth sixth seventh
eighth ninth tenth january february march april may june july august september october november december monday tuesday wednesday thursday
friday saturday sunday christmas easter thanksgiving dash slash dot point
"""
COUNTING = frozenset(_COUNTING.split())
"""Words of numbers and dates."""
LETTERS = re.compile(r"[a-z]+(?:['’-][a-z]+)*", re.IGNORECASE)
Span = tuple[float, float]
"""Start and end in seconds."""


@dataclass(frozen=True)
class Heard:
    """One hearing of a recording."""

    segments: tuple[Segment, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        """All words; a segment whose words are not placed is one word that is not known."""
        return tuple(
            word for one in self.segments for word in (one.words or (Word(one.start_s, one.end_s, f"0 {one.text}", 0.0),)) if one.text
        )


def hear(samples: NDArray[np.float32], sampling_rate_hz: float, engine: Transcriber) -> Heard:
    """Return what is said in mono samples (S,), in windows so that memory stays bounded."""
    size = max(1, round(WINDOW_S * sampling_rate_hz))
    segments: list[Segment] = []
    for start in range(0, len(samples), size):
        late = start / sampling_rate_hz
        for one in engine.transcribe(at_rate(samples[start : start + size], sampling_rate_hz, RATE_HZ)):
            words = tuple(Word(word.start_s + late, word.end_s + late, word.text, word.probability) for word in one.words)
            segments.append(Segment(one.start_s + late, one.end_s + late, one.text, words))
    cuts = [at / sampling_rate_hz for at in range(size, len(samples), size)] if segments else []
    segments += [Segment(at - CUT_S, at + CUT_S, "…") for at in cuts]
    return Heard(tuple(sorted(segments, key=lambda one: one.start_s)))


def identifying(heard: Heard, subject: Subject) -> Counter[str]:
    """Return what the recognisers find in what was heard, by kind."""
    return Counter(hit.kind.value for one in heard.segments for hit in found_by(subject.recognisers, one.text))


def to_keep(heard: Heard, subject: Subject) -> tuple[Span, ...]:
    """Return the stretches of speech that may stay, in order: runs of harmless words, away from those that are not."""
    judged = list(_judged(heard, subject))
    bad = np.array([(word.start_s - MARGIN_S, word.end_s + MARGIN_S) for word, is_harmless in judged if not is_harmless]).reshape(-1, 2)
    found: list[Span] = []
    is_run = False
    for word, is_harmless in judged:
        near = bad[(bad[:, 0] < word.end_s) & (bad[:, 1] > word.start_s)]
        start = max([word.start_s, *near[near[:, 0] <= word.start_s, 1]])
        end = min([word.end_s, *near[near[:, 0] > word.start_s, 0]])
        if not is_harmless or end <= start:
            is_run = False
        elif is_run and start - found[-1][1] <= LONGEST_PAUSE_S and not ((bad[:, 0] < start) & (bad[:, 1] > found[-1][1])).any():
            found[-1] = (found[-1][0], float(end))
        else:
            found.append((float(start), float(end)))
            is_run = True
    return tuple(found)


def beside_words(heard: Heard, seconds: float) -> tuple[Span, ...]:
    """Return the stretches without any word, in order.

    Example:
        >>> beside_words(Heard((Segment(1.0, 2.0, "ah", (Word(1.0, 1.5, "ah", 0.9),)),)), 3.0)
        ((0.0, 0.5), (2.0, 3.0))
    """
    found, at = [], 0.0
    for word in sorted(heard.words, key=lambda one: one.start_s):
        if word.start_s - MARGIN_S > at:
            found.append((at, word.start_s - MARGIN_S))
        at = max(at, word.end_s + MARGIN_S)
    return (*found, (at, seconds)) if at < seconds else tuple(found)


def silenced(samples: NDArray[np.float32], sampling_rate_hz: float, kept: Iterable[Span]) -> NDArray[np.float32]:
    """Return samples (…, S) with silence wherever nothing is kept.

    Example:
        >>> silenced(np.ones(6, np.float32), 2.0, [(0.5, 1.0), (2.0, 9.0)])
        array([0., 1., 0., 0., 1., 1.], dtype=float32)
    """
    stays = np.zeros(samples.shape[-1], bool)
    for start, end in kept:
        stays[max(0, round(start * sampling_rate_hz)) : max(0, round(end * sampling_rate_hz))] = True
    return np.where(stays, samples, np.float32(0))


def _judged(heard: Heard, subject: Subject) -> Iterator[tuple[Word, bool]]:
    """Yield each word, and whether it is harmless."""
    for segment in heard.segments:
        words = Heard((segment,)).words
        places = _places(segment.text, words)
        hits = [(hit.start, hit.end) for hit in found_by(subject.recognisers, segment.text)]
        for word, (start, end) in zip(words, places, strict=True):
            is_found = any(low < end and start < high for low, high in hits)
            yield word, not is_found and word.probability >= LEAST_PROBABILITY and is_everyday(word.text)


def is_everyday(text: str) -> bool:
    """Return whether a word is in the list of everyday and clinical words; digits never are.

    Example:
        >>> is_everyday("cough,"), is_everyday("Okonkwo"), is_everyday("1952.")
        (True, False, False)
    """
    plain = text.strip(" .,;:!?\"'()-…").lower().replace("’", "'")
    parts = [form for part in _parts(plain) for form in (part, part.removesuffix("s"))]
    is_plain = LETTERS.fullmatch(plain) is not None and not COUNTING.intersection((plain, *parts))
    return is_plain and all(part in EVERYDAY or part.removesuffix("s") in EVERYDAY for part in _parts(plain))


def _parts(word: str) -> list[str]:
    return [part for part in re.split(r"[-]", re.sub(r"'(?:s|t|re|ve|ll|d|m)$", "", word)) if part]


def _places(text: str, words: Sequence[Word]) -> list[tuple[int, int]]:
    """Return where each word stands in its segment's text; a word that is not found there stands everywhere."""
    found, at = [], 0
    for word in words:
        start = text.find(word.text, at)
        found.append((start, start + len(word.text)) if start >= 0 else (0, len(text)))
        at = start + len(word.text) if start >= 0 else at
    return found
