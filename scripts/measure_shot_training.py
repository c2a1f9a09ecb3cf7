"""Whether training beside solved cases lets the model use them: the projector of one modality goes on, with and without cases.

    python scripts/measure_shot_training.py results/shot-training.json [TASK] [STEPS] [MOST_SHOTS ...]

Starts from the base model, trains what belongs to the modality of the task alone (encoders and language model stay as they are), once for
each number of cases (default: 4 and 0), saves the model under runs/, and asks `val` beside 0 and 4 cases.
Cases from `train`; never `test`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from salus import registry
from salus.commands.loading import base_model_folder, load_named_model
from salus.evaluate.rows import commit, write_result
from salus.evaluate.shots_bench import ShotsRecipe, ShotsTask, bench_shots
from salus.fuse.fuser import Fuser
from salus.metrics import Interval
from salus.model import SalusModel, save_model
from salus.task import Task
from salus.train.examples import Draw, build_examples
from salus.train.language_stage import train_language
from salus.train.recipe import LanguageRecipe

SEED = 0
LR = 1e-3
BATCH = 4


def quiet(words: str, share: float) -> None:
    """Print every fourth step."""
    if words.startswith("step ") and int(words.split("/")[0].split()[1]) % 4 == 0:
        print(words, flush=True)


def trained(task: Task, data: Path, steps: int, shots: int, work: Path) -> tuple[SalusModel, float]:
    """Return the base model with the task's projectors trained further beside 0 to `shots` cases, and the seconds it took."""
    model = load_named_model(None, None)
    model.backbone.model.disable_adapter_layers()  # options are judged without it
    own = cast(Fuser, model.fuser)
    model.requires_grad_(False)
    for name in task.modalities:
        for parameter in own.own_parameters(name):
            parameter.requires_grad_(True)
    recipe = LanguageRecipe(steps, LR, {task.name: 1.0}, batch_size=BATCH, batch_tokens=4000, shots=shots, checkpoint_every=10_000)
    draw = Draw(10_000, SEED, frozenset(task.modalities), shots=shots)
    pool = build_examples(model, task.name, task.read(data, "train"), draw, progress=quiet)
    began = time.perf_counter()
    train_language(model, {task.name: pool}, recipe, seed=SEED, checkpoint=work / "stage.pt", progress=quiet)
    seconds = time.perf_counter() - began
    model.requires_grad_(False)
    save_model(model, work / "model", replace(model.config, name=f"{model.config.name}-shots-{shots}"), "# card\n")
    return load_named_model(str(work / "model"), None), seconds


def main() -> None:
    """Train, ask, and write the rows."""
    out, name, steps = Path(sys.argv[1]), (sys.argv[2:3] or ["heart-sound"])[0], int((sys.argv[3:4] or ["16"])[0])
    data, task = Path(os.environ["SALUS_DATA"]), cast(Task, registry.load("salus.tasks", name))
    recipe = ShotsRecipe("shot-training", SEED, (0, 4), ("similar", "random"), 8, {name: ShotsTask(48)}, str(base_model_folder()))
    rows, seconds = [], {}
    for shots in map(int, sys.argv[4:] or ["4", "0"]):
        work = Path("runs/shot-training") / f"{name}-{steps}-{shots}"
        model, seconds[str(shots)] = trained(task, data, steps, shots, work)
        result = bench_shots(recipe, model, data, work, progress=quiet)
        rows += [asdict(replace(row, model=f"trained beside 0 to {shots} cases: {row.model}")) for row in result.rows]
        for row in result.rows:
            print(shots, row.model, Interval(row.value, row.low, row.high, row.n), flush=True)
        write_result({"commit": commit(), "steps": steps, "batch": BATCH, "lr": LR, "seconds": seconds, "rows": rows}, out)


if __name__ == "__main__":
    main()
