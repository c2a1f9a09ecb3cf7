"""Speech recording: dictation, interview, voice sample.

Claims sounds that a manifest declares as such, and their machine transcripts (`salus.record.transcribe`). Measures quality by rule; it
says nothing about voice or speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from salus.encode.modality import Measurement, Modality
from salus.encode.sound_quality import quality, tone_burst
from salus.record.patient import Code, Content, Item, Sound, Source, item_id


def measure(item: Item) -> Sequence[Measurement]:
    """Return the quality of the recording; loads the samples."""
    loaded = item.content.load() if item.content and item.content.kind == "sound" else None
    return quality(loaded) if isinstance(loaded, Sound) else ()


def example() -> tuple[Item, ...]:
    """Return a synthetic recording of 3 s: noise in the rhythm of syllables, which says nothing.

    Example:
        >>> measure(example()[0])[0].value
        3.0
    """
    source = Source("example-speech", "5e" * 32)
    load = partial(tone_burst, 16_000.0, (0.3, 0.5, 0.75, 1.5, 1.7, 2.0), length_s=0.2, total_s=3.0)
    content = Content("sound", load, "mono, 16000 Hz, 3.0 s")
    code = Code("media", "audio/wav", "sound recording")
    return (Item(item_id(source.sha256, source.locator), "speech", code, source, content=content, category="sound"),)


MODALITY = Modality(name="speech", title="speech", claims=("modality:speech",), example=example, measure=measure)
