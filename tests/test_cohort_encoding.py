"""A cohort through the encoders: one process and two Ray workers write the same bytes; a stopped run goes on; nothing is mixed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file

from salus import cli
from salus.batch import encoded_record
from salus.cohort_encoding import ABOUT, Task, Work, encode_cohort, name_of, open_tasks
from salus.errors import ConfigError, InputError
from salus.model import build_backbone, load_model, save_model
from salus.record.index import read_by_folder, write_index
from salus.record.read.folder import read_path
from tests.tiny_model import tiny_model

PATIENTS = [f"p{number}" for number in range(6)]


@pytest.fixture(scope="module")
def model(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_model(tiny_backbone)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(made, folder, replace(made.config, backbone_identity=build_backbone(str(tiny_backbone)).identity), "# card\n")
    return folder


@pytest.fixture
def work(model: Path, tmp_path: Path) -> Work:
    cohort = tmp_path / "cohort"
    for number, name in enumerate(PATIENTS):
        (cohort / name).mkdir(parents=True)
        rows = "".join(f"{hour},{80 + number},{1 + number / 10},{4 + hour / 50}\n" for hour in range(1, 9))
        (cohort / name / "course.csv").write_text(f"time_h,heart_rate [/min],creatinine [mg/dL],potassium [mmol/L]\n{rows}")
        (cohort / name / "note.txt").write_text(f"Cough for {number + 2} days. No fever.")
    index = tmp_path / "cohort.parquet"
    write_index(read_by_folder(cohort), index, cohort)
    return Work(cohort, index, model, tmp_path / "out")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_one_process_writes_what_the_model_gives(work: Work) -> None:
    assert encode_cohort(work) == len(PATIENTS)
    assert set(files(work.out)) == {name_of(name) for name in PATIENTS}
    model, threads = load_model(work.model), torch.get_num_threads()
    record = read_path(work.cohort / "p3").patients[0]
    torch.set_num_threads(1)
    expected = encoded_record(model, model.prepare(record))
    torch.set_num_threads(threads)
    held = load_file(work.out / name_of("p3"))
    assert {name.split(".")[0] for name in held} == set(expected) and "vitals_labs" in expected
    for name, one in expected.items():
        assert torch.equal(held[f"{name}.values"], one.values[0]) and torch.equal(held[f"{name}.mask"], one.mask[0])
        assert torch.equal(held[f"{name}.time_s"].nan_to_num(-1), one.time_s[0].nan_to_num(-1))
    assert all(path.stat().st_mode & 0o077 == 0 for path in work.out.iterdir())


@pytest.fixture
def cluster() -> Iterator[None]:
    """Start a local Ray cluster with room for two workers."""
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_ray_workers_write_the_same_bytes_and_go_on(work: Work) -> None:
    encode_cohort(work)
    spread = replace(work, out=work.out.with_name("spread"))
    spread.out.mkdir()
    for name in PATIENTS[:2]:  # done before a stop
        shutil.copy2(work.out / name_of(name), spread.out)
    kept = {path: path.stat().st_mtime_ns for path in spread.out.iterdir()}
    assert encode_cohort(spread, workers=2) == len(PATIENTS) - 2
    assert files(spread.out) == files(work.out) and all(path.stat().st_mtime_ns == time for path, time in kept.items())
    for name in ("course.csv", "note.txt"):
        (work.cohort / "p1" / name).unlink()
    (spread.out / name_of("p1")).unlink()
    with pytest.raises(InputError, match=r"a patient of the index is not in the files\. Make the index again\."):
        encode_cohort(spread, workers=2)


def test_a_stopped_run_goes_on(work: Work) -> None:
    encode_cohort(work)
    whole = files(work.out)
    for name in PATIENTS[2:]:
        (work.out / name_of(name)).unlink()
    assert list(open_tasks(work)) == [Task(name, (name,)) for name in PATIENTS[2:]]
    assert encode_cohort(work) == 4 and files(work.out) == whole and encode_cohort(work) == 0


def test_results_of_another_index_are_not_mixed(work: Work) -> None:
    encode_cohort(work)
    (work.cohort / "p0" / "course.csv").write_text("time_h,heart_rate [/min]\n1,99\n")
    write_index(read_by_folder(work.cohort), work.index, work.cohort)
    with pytest.raises(ConfigError, match=r"^Cannot go on in 'out': it was made with another index\. Name another folder\.$"):
        encode_cohort(work)
    assert (work.out / ABOUT).exists()


def test_a_patient_in_two_sub_folders_is_refused(work: Work) -> None:
    (work.cohort / "p5" / "course.csv").write_text("patient,time_h,heart_rate [/min]\np0,1,99\n")
    (work.cohort / "p0" / "course.csv").write_text("patient,time_h,heart_rate [/min]\np0,2,98\n")
    write_index(read_by_folder(work.cohort), work.index, work.cohort)
    with pytest.raises(ConfigError, match=r"^Cannot encode the cohort: 1 patients stand in several sub-folders\."):
        encode_cohort(work)


def test_the_command(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["encode", str(work.cohort), "--index", str(work.index), "--out", str(work.out), "--model", str(work.model)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"6 patients encoded: {work.out}\n"
