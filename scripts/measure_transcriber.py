"""Word error rate of a transcriber on sentences that espeak-ng speaks: `python scripts/measure_transcriber.py OUT.json [ENGINE]`.

Clean synthetic speech in four voices, with and without noise: what is measured is whether the backend works, not how it hears a ward.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from salus.evaluate.rows import commit, write_result
from salus.record.read.sound import load_sound
from salus.record.transcribe import Transcriber, at_rate, transcriber

VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3")
NOISE_DB = 20.0
"""Signal above white noise in the noisy half."""
SENTENCES = (
    "The patient has had a cough and a fever for three days.", "She denies chest pain and shortness of breath.",
    "Blood pressure was one hundred and forty over ninety.", "He takes metformin twice a day with food.",
    "There is no known allergy to penicillin.", "The pain started last night and moved to the right side.",
    "We will repeat the blood test tomorrow morning.", "Her mother had breast cancer at the age of fifty.",
    "The wound is clean and dry.", "He stopped smoking ten years ago.", "Please bring the patient back in two weeks.",
    "The lungs are clear on both sides.", "She was given fluids and felt better.", "The heart rate is regular and slow.",
    "He fell down the stairs and hit his head.", "There is swelling of the left ankle.",
    "She has diabetes and high blood pressure.", "The x-ray shows no broken bones.",
    "He drinks two glasses of wine in the evening.", "The headache is worse in the morning.",
    "She has lost five kilos since January.", "The child has a rash on the arms and legs.",
    "He was admitted to hospital with pneumonia.", "The kidney function is stable.",
    "She sleeps badly and feels tired all day.", "The operation went well without bleeding.",
    "He can walk with a stick.", "The cough is dry and worse at night.",
    "She was treated with antibiotics for seven days.", "The next visit is on the third of March.",
)  # fmt: skip


def words(text: str) -> list[str]:
    """Return the words of a text without case and punctuation."""
    kept = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return kept.split()


def errors(said: list[str], heard: list[str]) -> int:
    """Return the least number of words to replace, add or leave out (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, 1):
        above, row[0] = row[0], place
        for column, other in enumerate(heard, 1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (word != other))
    return row[-1]


def spoken(sentence: str, voice: str, folder: Path) -> np.ndarray:
    """Return a sentence in a voice, (S,) at 16 kHz."""
    path = folder / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", str(path), sentence], check=True, timeout=60)
    sound = load_sound(path)
    return at_rate(sound.samples[0], sound.sampling_rate_hz)


def rate_of(engine: Transcriber, *, noisy: bool) -> np.ndarray:
    """Return (n, 2): wrong words and words of each sentence; sentence i is spoken by voice i modulo 4."""
    counts = []
    source = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        for place, sentence in enumerate(SENTENCES):
            samples = spoken(sentence, VOICES[place % len(VOICES)], Path(name))
            if noisy:
                level = float(np.sqrt(np.mean(samples**2))) * 10 ** (-NOISE_DB / 20)
                samples = samples + source.normal(0, level, len(samples)).astype(np.float32)
            heard = " ".join(part.text for part in engine.transcribe(samples))
            counts.append((errors(words(sentence), words(heard)), len(words(sentence))))
    return np.array(counts, dtype=float)


def main(out: Path, name: str) -> None:
    """Speak, transcribe, count and write."""
    engine = transcriber(name)
    rows = []
    for subgroup, noisy in (("clean", False), (f"white noise, {NOISE_DB:.0f} dB below", True)):
        counts = rate_of(engine, noisy=noisy)
        drawn = counts[np.random.default_rng(0).integers(0, len(counts), (2000, len(counts)))].sum(1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
        rate = float(counts[:, 0].sum() / counts[:, 1].sum())
        rows.append(
            {"task": "transcription", "split": "synthetic", "role": "candidate", "model": engine.name, "metric": "word_error_rate",
             "value": rate, "low": float(low), "high": float(high), "n": len(counts), "seeds": [0], "selected_on": "none",
             "subgroup": subgroup}
        )  # fmt: skip
        print(f"{subgroup}: {rate:.3f} [{low:.3f}, {high:.3f}], {len(counts)} sentences, {counts[:, 1].sum():.0f} words")
    made = {"command": f"python scripts/measure_transcriber.py {out.name} {name}", "commit": commit()}
    write_result(made | {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "whisper")
