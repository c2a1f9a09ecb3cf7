"""A whole cohort through a model's encoders: on this process, or on workers of a Ray cluster, with the same bytes as the result.

Takes a cohort's folder, its index and a model folder; gives one safetensors file a patient. Goes on where a stopped run was. Nothing is
fused or asked here: what is written is what `salus.fuse` takes.

CAUTION: vectors are patient data. The files are for their owner alone, and their names say nothing of the patient.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from salus.batch import encoded_record
from salus.encode.encoder import Encoded
from salus.errors import ConfigError, InputError, MissingExtra
from salus.model import SalusModel, load_model
from salus.record.durable import create_once, make_folders, move_into_place
from salus.record.index import read_by_folder, subjects_by_folder
from salus.record.patient import PatientRecord
from salus.record.read.folder import UNASSIGNED, read_path
from salus.record.read.source import file_sha256

ABOUT = "encoding.json"
PATIENTS_A_TASK = 32
"""Most patients of one sub-folder that go to a worker at once."""


@dataclass(frozen=True)
class Work:
    """What is encoded, and where to."""

    cohort: Path
    """The folder that the index was made of."""
    index: Path
    model: Path
    """Model folder."""
    out: Path
    """Folder of the results."""
    backbone: str | None = None
    """As of `salus.model.load_model`."""
    manifest: Path | None = None


@dataclass(frozen=True)
class Task:
    """Patients of one sub-folder."""

    folder: str
    subject_ids: tuple[str, ...]


def name_of(subject_id: str) -> str:
    """Return the name of a patient's file: a hash, which hides the id from the eye, not from somebody who guesses it."""
    return hashlib.sha256(subject_id.encode()).hexdigest()[:32] + ".safetensors"


def encode_cohort(work: Work, *, workers: int = 0, address: str | None = None) -> int:
    """Encode every patient who is not encoded yet and return how many that were.

    Args:
        work: what and where; on several machines, all of it in folders that each of them sees.
        workers: 0: this process alone; else so many Ray workers, each with the model in memory and one thread.
        address: of a running Ray cluster; None: one on this machine, for this call.

    Raises:
        ConfigError: the results folder belongs to another model or index, or a patient stands in several sub-folders.
        InputError: a patient of the index is no longer in the cohort.
        MissingExtra: Ray is not installed.
    """
    make_folders(work.out)
    _refuse_other_run(work)
    tasks = list(open_tasks(work))
    if not workers:
        runner = _Runner(work)
        return sum(runner.encode(task) for task in tasks)
    ray = _ray()
    was_on = ray.is_initialized()
    if not was_on:
        local = {"num_cpus": workers, "include_dashboard": False, "configure_logging": False} if address is None else {}
        ray.init(address=address, log_to_driver=False, **local)
    actors = [ray.remote(num_cpus=1)(_Runner).remote(work) for _ in range(workers)]
    try:
        return sum(ray.util.ActorPool(actors).map_unordered(lambda actor, task: actor.encode.remote(task), tasks))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # the worker's own error, as without a cluster
    finally:
        for actor in actors:
            ray.kill(actor)
        if not was_on:
            ray.shutdown()


def open_tasks(work: Work) -> Iterator[Task]:
    """Yield the patients of the index who have no file yet, by sub-folder.

    Raises:
        ConfigError: a patient stands in several sub-folders, so no worker would see all of them.
    """
    by_folder = subjects_by_folder(work.index)
    everybody = [subject_id for subject_ids in by_folder.values() for subject_id in subject_ids]
    if len(set(everybody)) < len(everybody):
        count = len(everybody) - len(set(everybody))
        raise ConfigError(f"Cannot encode the cohort: {count} patients stand in several sub-folders. Bring each patient's files into one.")
    for folder, subject_ids in by_folder.items():
        left = [subject_id for subject_id in subject_ids if not (work.out / name_of(subject_id)).exists()]
        for start in range(0, len(left), PATIENTS_A_TASK):
            yield Task(folder, tuple(left[start : start + PATIENTS_A_TASK]))


def _ray() -> Any:
    """Return Ray, a heavy library that one process alone does without."""
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise MissingExtra("encode on a cluster", "cluster") from None


class _Runner:
    """A process that holds the model, and the records of the sub-folder that it read last."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.model: SalusModel | None = None
        self.read: tuple[str, dict[str, PatientRecord]] | None = None

    def encode(self, task: Task) -> int:
        """Write the files of a task's patients and return how many; one thread, so that sums come out the same everywhere."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if self.model is None:
                self.model = load_model(self.work.model, backbone=self.work.backbone)
            if self.read is None or self.read[0] != task.folder:
                self.read = (task.folder, records_of(self.work, task.folder))
            for subject_id in task.subject_ids:
                record = self.read[1].get(subject_id)
                if record is None:
                    raise InputError("Cannot encode the cohort: a patient of the index is not in the files. Make the index again.")
                _write(self.work.out / name_of(subject_id), encoded_record(self.model, self.model.prepare(record)))
        finally:
            torch.set_num_threads(threads)
        return len(task.subject_ids)


def records_of(work: Work, folder: str) -> dict[str, PatientRecord]:
    """Return the records of one sub-folder ("": of the whole path) by patient, as the index has them."""
    if not folder:
        return {one.record.subject_id: one.record for one in read_by_folder(work.cohort, manifest=work.manifest)}
    records = read_path(work.cohort / folder).patients
    return {folder if record.subject_id == UNASSIGNED else record.subject_id: record for record in records}


def _write(path: Path, encoded: Mapping[str, Encoded]) -> None:
    """Write a patient's vectors, mode 0600, all at once."""
    tensors: dict[str, Tensor] = {}
    for name, one in sorted(encoded.items()):
        for part in ("values", "mask", "time_s"):
            tensors[f"{name}.{part}"] = getattr(one, part)[0].contiguous()  # B = 1 is left out
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(number, "wb") as stream:
        stream.write(save(tensors))
        stream.flush()
        os.fsync(number)
    move_into_place(Path(name), path)


def _refuse_other_run(work: Work) -> None:
    """Write down what the results are of, or compare it with what is there."""
    about: dict[str, Any] = {
        "model": file_sha256(work.model / "model.safetensors"),
        "config": file_sha256(work.model / "config.json"),
        "index": file_sha256(work.index),
    }
    place = work.out / ABOUT
    if not create_once(place, (json.dumps(about, indent=1) + "\n").encode()):
        found = json.loads(place.read_text("utf-8"))
        other = [name for name, sha256 in about.items() if found.get(name) != sha256]
        if other:
            raise ConfigError(f"Cannot go on in '{work.out.name}': it was made with another {other[0]}. Name another folder.")
