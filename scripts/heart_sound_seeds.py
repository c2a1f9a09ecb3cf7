"""Trains heart sounds from three seeds and measures the mean: `python scripts/heart_sound_seeds.py WORK OUT.json [SPLIT]`.

The recipe is `recipes/heart_sound.yaml`; data come from $SALUS_DATA. A seed that was trained into WORK before is not trained again.
Every row is of the language model's option probabilities; the rivals, fitted on the encoder's own spectral summaries, are the task's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from salus import registry
from salus.batch import option_logprobs
from salus.commands.loading import open_quietly
from salus.config import read_settings
from salus.evaluate.baselines import rivals
from salus.evaluate.options import calibration_of, question_of, read_records, scored_as
from salus.evaluate.rows import Result, write_result
from salus.evaluate.suite import site_number, within_site_auroc
from salus.metrics import Floats, auroc, bootstrap, paired
from salus.model import SalusModel, load_model
from salus.train.recipe import Recipe
from salus.train.run import Place, train

SEEDS = (0, 1, 2)
LEAST_IN_SUBSET = 8
"""Recordings; of fewer no figure is given."""
RECIPE = Path(__file__).parents[1] / "recipes" / "heart_sound.yaml"


def mean_auroc(truth: Floats, scores: Floats) -> float:
    """Return the mean AUROC of the columns of (n, k) scores."""
    return float(np.mean([auroc(truth, one) for one in scores.T]))


def trained(seed: int, work: Path, data: Path) -> SalusModel:
    """Return the model of one seed; stages that stand in `work` are not run again."""
    recipe = read_settings(Recipe, RECIPE, [f"seed={seed}"])
    place = Place(data, work / f"seed-{seed}", work / f"seed-{seed}" / "model")
    return open_quietly(load_model, open_quietly(train, recipe, place, progress=lambda _words, _share: None))


def main(work: Path, out: Path, split: str) -> None:
    """Train, score and write."""
    data = Path(os.environ["SALUS_DATA"])
    task = registry.load("salus.tasks", "heart-sound")
    examples = task.read(data, split)
    records = read_records(examples, lambda _words, _share: None, task.name)
    models = [trained(seed, work, data) for seed in SEEDS]
    scored = []
    for model in models:
        questions = [question_of(model, task, example, record) for example, record in zip(examples, records, strict=True)]
        scored.append(scored_as(task, examples, option_logprobs(model, questions), calibration_of(model, task)))
    truth, groups = scored[0].truth, scored[0].groups
    scores = np.column_stack([one.probability for one in scored])
    sites = np.array([site_number(example.subgroup["subset"]) for example in examples])
    result = Result(split)
    for seed, one in zip(SEEDS, scored, strict=True):
        found = bootstrap(auroc, truth, one.probability, groups)
        result.add(task.name, "candidate", f"salus-heart-sound, seed {seed}", metric="auroc", found=found, seeds=(seed,))
    name = "salus-heart-sound, mean of 3 seeds"
    result.add(task.name, "final", name, metric="auroc", found=bootstrap(mean_auroc, truth, scores, groups), seeds=SEEDS)
    within = bootstrap(within_site_auroc, truth, np.column_stack([sites, scores]), groups)
    result.add(task.name, "final", name, metric="auroc_within_site", found=within, seeds=SEEDS)
    for subset in sorted({example.subgroup["subset"] for example in examples}):
        rows = np.flatnonzero(sites == site_number(subset))
        if len(np.unique(truth[rows])) == 2 and len(rows) >= LEAST_IN_SUBSET:
            found = bootstrap(mean_auroc, truth[rows], scores[rows], [groups[row] for row in rows])
            result.add(task.name, "final", name, metric="auroc", found=found, subgroup=f"subset={subset}", seeds=SEEDS)
    made = rivals(models[0], task, train=task.read(data, "train"), val=(), test=examples, progress=lambda _words, _share: None)
    for rival, score in made.items():
        result.add(task.name, "baseline", rival, metric="auroc", found=bootstrap(auroc, truth, score, groups), seeds=SEEDS)
        both = bootstrap(within_site_auroc, truth, np.column_stack([sites, score]), groups)
        result.add(task.name, "baseline", rival, metric="auroc_within_site", found=both, seeds=SEEDS)
        gap = paired(mean_auroc, truth, scores, score[:, None], groups)
        result.add(task.name, "final", f"{name} minus {rival}", metric="auroc_difference", found=gap, seeds=SEEDS)
    tree = result.to_json(models[0], data, task.folders)
    write_result({**tree, "command": "python " + " ".join(sys.argv)}, out)
    for row in result.rows:
        print(f"{row.model}, {row.metric} {row.subgroup}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}], n = {row.n}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "test")
