"""De-identifies sounds: samples are written anew without what else a file may carry; speech is refused.

Takes a WAV or FLAC file and a `Work`; a heart or lung sound (as the manifest declares) passes with a notice. What is said in a
recording cannot be searched without a transcript, so anything else fails closed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import soundfile

from salus.errors import FormatError, InputError
from salus.record.deidentify.work import Done, Work, in_words

WITHOUT_SPEECH = frozenset({"heart_sound", "lung_sound"})
"""Modalities whose recordings hold no speech by their nature."""
BLOCK = 1 << 16


def deidentify_sound(path: Path, target: Path, work: Work) -> Done:
    """Write the samples of a sound and nothing else.

    Raises:
        InputError: it may hold speech.
        FormatError: it cannot be decoded.
    """
    if work.options.modality not in WITHOUT_SPEECH:
        raise InputError(
            f"Cannot de-identify '{path.name}': it may hold speech, and what is spoken cannot be searched without a transcript. "
            "Declare heart_sound or lung_sound in the manifest if it is one, or leave it out."
        )
    try:
        with soundfile.SoundFile(path) as source:
            kind = "FLAC" if source.format == "FLAC" else "WAV"
            dtype = "float64" if source.subtype in ("FLOAT", "DOUBLE") else "int32"
            with soundfile.SoundFile(target, "w", source.samplerate, source.channels, source.subtype, format=kind) as new:
                for block in source.blocks(BLOCK, dtype=dtype):
                    new.write(block)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it cannot be decoded ({type(error).__name__}). Export it again.") from error
    notices = ("recorded near a person: words spoken in the background are not searched for", "declared in the manifest to hold no speech")
    return Done((target,), Counter({("metadata", "removed"): 1}), notices)


def check_sound(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a sound may not be delivered: it carries words beside its samples."""
    left: Counter[str] = Counter()
    with soundfile.SoundFile(target) as stream:
        left["metadata"] += len([value for key, value in stream.copy_metadata().items() if value and key != "software"])
    return in_words(left)
