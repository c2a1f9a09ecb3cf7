"""Compares the ways into the language model, prefix and cross-attention layers, on icu-death `val`: frozen encoder, frozen language model.

    python scripts/measure_ways_in.py OUT.json "into=prefix" "into=cross_attention every=6"

Each way is trained with the same examples, batches and steps from the shipped model's frozen encoder, without a teacher, and scored on
`val`. Takes about half an hour a way and seed on one core. Reads `train` and `val`, never `test`. What is done is kept in OUT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from torch import nn

from salus import registry
from salus.batch import OptionQuestion, option_logprobs
from salus.metrics import auroc, bootstrap
from salus.model import SalusModel, build_backbone, load_model
from salus.task import Task
from salus.train.calibrate import option_margin, val_questions
from salus.train.examples import Draw, build_examples
from salus.train.language_stage import train_language
from salus.train.recipe import LanguageRecipe

TASK = "icu-death"
MODALITY = "vitals_labs"


def prepared(kept: Path, most_val: int) -> dict[str, Any]:
    """Return training examples, `val` questions and the encoder's tensors, from a file when they were made before."""
    if not kept.exists():
        model = load_model(Path(str(files("salus") / "models" / "base")))
        task = cast(Task, registry.load("salus.tasks", TASK))
        data = Path(os.environ["SALUS_DATA"])
        draw = Draw(2799, 0, frozenset({MODALITY}))
        pool = build_examples(model, TASK, task.read(data, "train"), draw, progress=lambda words, share: None)
        chosen = list(task.read(data, "val"))[:most_val]
        asked = val_questions(model, task, chosen, progress=lambda words, share: None)
        told = [(example.subject_id, example.answer, example.options) for example in chosen]
        torch.save({"pool": pool, "asked": asked, "told": told}, kept)
    return cast(dict[str, Any], torch.load(kept, weights_only=False))  # this script's own file


def fresh(way: dict[str, Any], seed: int) -> SalusModel:
    """Return the shipped model's encoder of one modality with a fresh fuser, and the language model as it is."""
    base = load_model(Path(str(files("salus") / "models" / "base")))
    backbone = build_backbone("embedded")
    config = replace(base.config, encoders={MODALITY: base.config.encoders[MODALITY]}, lora=None)
    config = replace(config, fuser={"hidden": 256, "token_rms": backbone.token_rms(), **way})
    torch.manual_seed(seed)
    model = SalusModel(config, backbone)
    cast(nn.Module, model.encoder(MODALITY)).load_state_dict(cast(nn.Module, base.encoder(MODALITY)).state_dict())
    model.requires_grad_(False)
    model.train_evidence(is_on=True)
    return model.eval()


def measured(way: dict[str, Any], seed: int, known: dict[str, Any], recipe: LanguageRecipe) -> dict[str, Any]:
    """Return what one way and seed gave."""
    model = fresh(way, seed)
    losses: list[float] = []

    def said(words: str, share: float) -> None:
        losses.append(float(words.rsplit(" ", 1)[1]))
        if len(losses) % 10 == 0:
            print(words, flush=True)

    began, cpu = time.time(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train_language(model, {TASK: known["pool"]}, recipe, seed=seed, checkpoint=Path(folder) / "stage.pt", progress=said)
    trained_s, wall_s = time.process_time() - cpu, time.time() - began
    cpu = time.process_time()
    asked = cast(list[OptionQuestion], known["asked"])
    scores = option_logprobs(model, asked)
    scored_s = time.process_time() - cpu
    margins = np.array([option_margin(row, told[2], "yes") for row, told in zip(scores, known["told"], strict=True)])
    truth = np.array([float(told[1] == "yes") for told in known["told"]])
    found = bootstrap(auroc, truth, margins, [told[0] for told in known["told"]])
    gates = {name: round(float(one.detach().tanh()), 4) for name, one in model.named_parameters() if name.endswith("_gate")}
    return {
        "way": way, "seed": seed, "steps": len(losses), "batch": recipe.batch_size, "lr": recipe.lr, "split": "val", "metric": "auroc",
        "value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4), "n": found.n,
        "positive": int(truth.sum()),
        "parameters": sum(one.numel() for one in model.parameters() if one.requires_grad),
        "train_cpu_s": round(trained_s, 1), "train_wall_s": round(wall_s, 1), "val_cpu_s": round(scored_s, 1),
        "loss": [round(one, 3) for one in losses[:: max(1, len(losses) // 15)]], "last_loss": losses[-1], "gates": gates,
    }  # fmt: skip


def main() -> None:
    """Measure every way that is not yet in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("ways", nargs="+", help='settings of the fuser, such as "into=cross_attention every=3"')
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--val", type=int, default=300, help="first so many examples of val")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = prepared(given.out.with_suffix(".examples.pt"), given.val)
    rows: list[dict[str, Any]] = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    for seed in given.seeds:
        for words in given.ways:
            way = {name: yaml.safe_load(value) for name, _, value in (word.partition("=") for word in words.split())}
            recipe = LanguageRecipe(
                steps=given.steps, lr=given.lr, tasks={TASK: 1.0}, batch_size=given.batch, batch_tokens=163 * given.batch
            )
            wanted = {"way": way, "seed": seed, "lr": given.lr, "wanted_steps": given.steps, "batch": given.batch}
            if any(all(row.get(key) == value for key, value in wanted.items()) for row in rows):
                continue
            rows.append({**measured(way, seed, known, recipe), "wanted_steps": given.steps})
            given.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            print({key: value for key, value in rows[-1].items() if key not in ("loss", "gates")}, flush=True)


if __name__ == "__main__":
    main()
