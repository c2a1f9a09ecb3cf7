"""De-identifies sounds: samples are written anew without what else a file may carry; speech loses what may identify.

Takes a sound and a `Work`. A heart or lung sound (as the manifest declares) passes whole, with a notice. Of speech, everyday words stay and
all else is silenced; of coughs, whatever sounds like a word is (`salus.record.deidentify.spoken`). Both need a transcriber; without one, or
without a declared modality, the file is refused.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from salus.errors import FormatError, InputError
from salus.record.deidentify.spoken import Heard, beside_words, hear, identifying, silenced, to_keep
from salus.record.deidentify.work import Done, Work, in_words
from salus.record.patient import Sound
from salus.record.read.reader import HEAD_BYTES
from salus.record.read.sound import load_sound, media_of
from salus.record.read.sound_av import load_av_sound
from salus.record.transcribe import Transcriber

WITHOUT_SPEECH = frozenset({"heart_sound", "lung_sound"})
"""Modalities whose recordings hold no speech by their nature."""
SPEECH, COUGH = "speech", "cough"
BLOCK = 1 << 16
VOICE = "the voice itself can point to a person, and a word that was misheard as another may have stayed: listen before it leaves your site"
BACKGROUND = "recorded near a person: words spoken in the background are not searched for"
NO_WORDS = "whatever sounds like a word is silence"
KEPT = "only everyday words that a machine heard clearly are left; the rest is silence"


def deidentify_sound(path: Path, target: Path, work: Work) -> Done:
    """Write the samples of a sound and nothing else, without what may identify in speech.

    Raises:
        InputError: it may hold speech, and there is no transcriber.
        MissingExtra: the transcriber is not installed.
        FormatError: it cannot be decoded.
    """
    modality = work.options.modality
    if modality in WITHOUT_SPEECH:
        _copy_samples(path, target)
        return Done((target,), Counter({("metadata", "removed"): 1}), (BACKGROUND, "declared in the manifest to hold no speech"))
    if modality not in (SPEECH, COUGH) or work.transcriber is None:
        raise InputError(
            f"Cannot de-identify '{path.name}': it may hold speech, and what is spoken cannot be searched without a transcript. "
            "Declare heart_sound or lung_sound in the manifest if it is one; speech or cough needs --transcribe; or leave it out."
        )
    return _without_identifying_speech(path, target, work)


def check_sound(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a sound may not be delivered: it carries words beside its samples, or what is still heard in it identifies."""
    left: Counter[str] = Counter()
    with soundfile.SoundFile(target) as stream:
        left["metadata"] += len([value for key, value in stream.copy_metadata().items() if value and key != "software"])
    if work.options.modality in (SPEECH, COUGH) and work.transcriber is not None:
        sound = _loaded(target)
        for heard in _hearings(sound, work.transcriber()):
            left.update(identifying(heard, work.person))
    return in_words(left)


def _without_identifying_speech(path: Path, target: Path, work: Work) -> Done:
    assert work.transcriber is not None
    sound = _loaded(path)
    rate, seconds = sound.sampling_rate_hz, sound.samples.shape[1] / sound.sampling_rate_hz
    is_speech = work.options.modality == SPEECH
    samples = sound.samples
    hearings = [one for one in _hearings(sound, work.transcriber()) if one.words]
    for heard in hearings:  # what one channel does not permit goes from all
        samples = silenced(samples, rate, to_keep(heard, work.person) if is_speech else beside_words(heard, seconds))
    if is_speech and not hearings:
        samples = np.zeros_like(samples)
    _write(Sound(samples, rate), target)
    counts = Counter({("metadata", "removed"): 1})
    for kind, count in identifying(hearings[0], work.person).items() if hearings else ():
        counts[kind, "silenced"] += count
    what = (KEPT if is_speech else NO_WORDS) if samples.any() else "all of it is silence"
    return Done((target,), counts, (VOICE, what))


def _copy_samples(path: Path, target: Path) -> None:
    """Write a WAV or FLAC file bit for bit in its samples; any other container as 16-bit WAV."""
    with path.open("rb") as stream:
        is_plain = stream.read(4) in (b"RIFF", b"RIFX", b"fLaC")
    if not is_plain:
        _write(_loaded(path), target)
        return
    try:
        with soundfile.SoundFile(path) as source:
            kind = "FLAC" if source.format == "FLAC" else "WAV"
            dtype = "float64" if source.subtype in ("FLOAT", "DOUBLE") else "int32"
            with soundfile.SoundFile(target, "w", source.samplerate, source.channels, source.subtype, format=kind) as new:
                for block in source.blocks(BLOCK, dtype=dtype):
                    new.write(block)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it cannot be decoded ({type(error).__name__}). Export it again.") from error


def _loaded(path: Path) -> Sound:
    """Return all samples of a sound in any container that is read."""
    with path.open("rb") as stream:
        media = media_of(stream.read(HEAD_BYTES))
    return load_av_sound(path) if media in ("audio/mp4", "audio/aac") else load_sound(path)


def _hearings(sound: Sound, engine: Transcriber) -> list[Heard]:
    """Return what is heard in all channels mixed, and in each alone where there are several."""
    channels = np.nan_to_num(sound.samples)
    mixed = [channels.mean(axis=0), *channels] if len(channels) > 1 else [channels[0]]
    return [hear(one, sound.sampling_rate_hz, engine) for one in mixed]


def _write(sound: Sound, target: Path) -> None:
    whole = np.round(np.clip(np.nan_to_num(sound.samples.T), -1, 1) * 32767).astype(np.int16)
    soundfile.write(target, whole, round(sound.sampling_rate_hz), "PCM_16", format="FLAC" if ".flac" in target.suffixes else "WAV")
