"""COVID-19 by PCR or not, from lung ultrasound, blood tests and symptoms: 24 patients, so a check of the method and no result.

Research data (CC BY-NC-ND): nothing fitted on them ships. The base model has no network for ultrasound. Frames go through its networks
for radiographs and for CT and MR slices, which never saw an ultrasound and learned without answers; whether they tell anything is open.
Left out: the test, outcomes, diagnoses, severity, therapy, and why a patient was included or tested. A blood test that was not taken is
missing, which a 0 still shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salus.cohorts.split_file import read_rows, read_split
from salus.encode import image
from salus.errors import InputError
from salus.evaluate import alignment_tasks
from salus.evaluate.alignment_tasks import Frozen
from salus.evaluate.fusion.cxr import BASE
from salus.evaluate.fusion_tasks import FusionTask, Progress, one_token
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import load_model
from salus.record.patient import Clip
from salus.record.read import video
from salus.task import Split

FOLDER = "lus_video_covid_blues"
OPTIONS = ("no", "yes")
ASKED = "Does this patient have COVID-19 by PCR?"
"""For every patient the same."""
MOST_CLIPS = 4
"""Tokens of a patient; more clips are an error."""
FRAMES = 3
"""Of a clip, evenly spaced from a sixth of it to five sixths."""
LABS = (
    "trombocytes_find",
    "pO2_find",
    "pH_find",
    "pCO2_find",
    "leucocytes_find",
    "hg_find",
    "excess_find",
    "LDH_find",
    "HCO3_find",
    "CRP",
    "lymphocytes",
    "absolute_lymphocytes",
)
"""Blood tests, as the table names them; blood group and rhesus factor are no state and are left out."""
SYMPTOM = "patient_symp#"
"""How the columns of symptoms begin."""
MISSING = -99.0


def number(text: str) -> float:
    """Return a cell of the table; NaN where it is blank or holds the code for missing.

    Example:
        >>> number("7.4"), number("-99"), number("-99.0"), number(" ")
        (7.4, nan, nan, nan)
    """
    value = float(text) if text.strip() else MISSING
    return float("nan") if value == MISSING else value


def frames_of(clip: Clip) -> list[NDArray[np.uint8]]:
    """Return the 3 frames of a clip, of those that are present: (H, W) or (H, W, 3), 0 to 255."""
    there = np.flatnonzero(clip.is_present)
    places = [there[len(there) * (2 * step + 1) // (2 * FRAMES)] for step in range(FRAMES)]
    return [np.asarray(clip.frames[place], np.uint8) for place in places]


def clip_tokens(cells: Tokens, owners: Sequence[int], count: int) -> Tokens:
    """Return one token for each clip, the mean of all cells of its frames; up to 4 clips of each patient.

    Args:
        cells: of the frames, 3 of each clip after another.
        owners: of each clip, its patient's place.
        count: of patients.
    """
    width = cells.values.shape[-1]
    shown = cells.mask.reshape(len(owners), -1)
    total = (cells.values.reshape(len(owners), -1, width) * shown[..., None]).sum(1)
    values, mask = np.zeros((count, MOST_CLIPS, width), np.float32), np.zeros((count, MOST_CLIPS), bool)
    for clip, owner in enumerate(owners):
        if shown[clip].any():
            place = int(mask[owner].sum())
            values[owner, place], mask[owner, place] = total[clip] / shown[clip].sum(), True
    return Tokens(values, mask, np.full(mask.shape, np.nan, np.float32))


def read(data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return of each patient one token for each clip, one of the blood tests, one of the symptoms."""
    return read_with(Frozen(partial(load_model, BASE)), data, splits, progress)


def read_with(frozen: Frozen, data: Path, splits: Sequence[Split], progress: Progress) -> dict[Split, TokenSets]:
    """Return the same by given networks.

    Raises:
        InputError: a split is asked for that is not scored here, a column is missing, or a patient has more than 4 clips.
    """
    if "test" in splits:
        raise InputError("Cannot read test of lung-ultrasound: 4 patients score nothing. Ask for train and val.")
    folder = data / FOLDER
    patients = read_split(folder / "split.csv", "patient_id")
    rows = [row for row in read_rows(folder / "clinical_variables.csv", ("patient_id", "cov_test", *LABS)) if _is_in(row, patients, splits)]
    symptoms = [name for name in (rows[0] if rows else ()) if name.startswith(SYMPTOM)]
    if not symptoms:
        raise InputError(f"Cannot read {folder}/clinical_variables.csv: no column begins with {SYMPTOM!r}. Restore the original file.")
    made: dict[Split, TokenSets] = {}
    for split in splits:
        own = [row for row in rows if patients[row["patient_id"]] == split]
        paths, owners = _clips(folder / "lus_videos", [row["patient_id"] for row in own])
        sets = {
            "clips": clip_tokens(_cells(frozen, paths, partial(progress, f"lung-ultrasound: {split}")), owners, len(own)),
            "labs": _table(own, LABS),
            "symptoms": _table(own, symptoms),
        }
        answers = np.array([int(float(row["cov_test"])) for row in own], np.int64)
        made[split] = TokenSets(sets, answers, tuple(row["patient_id"] for row in own), (ASKED,) * len(own))
    return made


def _is_in(row: Mapping[str, str], patients: Mapping[str, Split], splits: Sequence[Split]) -> bool:
    return patients.get(row["patient_id"]) in splits


def _table(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> Tokens:
    return one_token(np.array([[number(row[name]) for name in names] for row in rows], np.float32))


def _clips(folder: Path, patients: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Return the files of the patients' clips and whose each is."""
    found = [sorted(folder.glob(f"patient_{name}_*.mp4")) for name in patients]
    most = max(map(len, found), default=0)
    if most > MOST_CLIPS:
        raise InputError(f"Cannot read {folder}: a patient has {most} clips, more than {MOST_CLIPS}. Restore the original files.")
    return [path for each in found for path in each], [place for place, each in enumerate(found) for _ in each]


def _cells(frozen: Frozen, clips: Sequence[Path], progress: Callable[[float], None]) -> Tokens:
    """Return what the picture networks see of 3 frames of each clip, one after another."""
    with tempfile.TemporaryDirectory() as made:
        return frozen.pictures(list(_pictures(clips, Path(made))), progress)["cells"]


def _pictures(clips: Sequence[Path], folder: Path) -> Iterator[Path]:
    """Write the frames as pictures and yield where they lie."""
    for place, path in enumerate(clips):
        for step, frame in enumerate(frames_of(video.load_video(path))):
            made = folder / f"{place:03d}-{step}.png"
            Image.fromarray(frame).save(made)
            yield made


TASK = FusionTask(
    "lung-ultrasound",
    "COVID-19 by PCR from lung ultrasound, blood tests and symptoms (a check of the method: 20 patients)",
    ("clips", "labs", "symptoms"),
    OPTIONS,
    (FOLDER,),
    read,
    (*(Path(str(one)) for one in (__file__, alignment_tasks.__file__, image.__file__, video.__file__)), BASE / "model.safetensors"),
    folds=5,
    has_test=False,
)
