"""Runs a recipe from start to end: encoders, projector, language model, calibration, model folder.

Every finished stage and every few steps of a running one are on disk, so that the same command goes on where a killed run stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from salus import registry
from salus.batch import LanguageExample, OptionQuestion
from salus.config import settings_hash
from salus.encode.encoder import Encoder, Prepared
from salus.encode.modality import Modality
from salus.errors import ConfigError, MissingExtra
from salus.fuse.build import build_fuser
from salus.fuse.fuser import Fuser
from salus.metrics import auroc
from salus.model import (
    ModalityEvaluation,
    ModelConfig,
    OptionCalibration,
    SalusModel,
    add_lora,
    build_backbone,
    build_encoder,
    check_lora,
    prepare_modality,
    save_model,
)
from salus.reason.cross_attention_layers import CrossAttentionLayers, into_of
from salus.task import Example, Split, Task
from salus.train.calibrate import TaskOnVal, calibrate_options, calibrate_statements, gate, val_questions
from salus.train.card import card
from salus.train.encoder_stage import OptionHeads, fit_normaliser, head_probabilities, load_heads, pretrain, supervise
from salus.train.examples import Draw, build_examples
from salus.train.extend import check_extension, extended_config, extended_model, hand_on_adapter, hand_on_tensors, handed_on
from salus.train.language_stage import Progress, load_checkpoint, mean_loss, train_language
from salus.train.recipe import LanguageRecipe, Recipe

OTHER_ROUTES = {"record-reading-alone": "record-reading", "overview": "record-reading"}
"""Names in a recipe's `tasks` that are other routes of one task."""
EXAMPLES = 1000
"""Training examples of a task that the recipe's `examples` does not name."""
VAL_LOSS_EXAMPLES = 60
STATEMENT_EXAMPLES = 840


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes."""

    data: Path
    """Folder of the cohorts."""
    work: Path
    """Checkpoints and log of this run."""
    out: Path
    """Model folder that is made."""


@dataclass(frozen=True)
class _Run:
    """What every stage of a run needs."""

    recipe: Recipe
    place: Place
    tasks: _Tasks
    log: Log
    progress: Progress
    asked: dict[str, list[OptionQuestion]] = field(default_factory=dict)
    """Encoded `val` questions by task, made once."""
    heads: dict[str, dict[str, OptionHeads]] = field(default_factory=dict)
    """Task → modality → heads of the encoder that was trained on it."""


def train(recipe: Recipe, place: Place, *, progress: Progress) -> Path:
    """Make a model from a recipe and return its folder.

    Raises:
        ConfigError: a task, modality or cohort that the recipe names is not there, or the work folder is another recipe's.
    """
    _check(recipe)
    base = extended_model(recipe) if recipe.extends else None
    if base is not None:
        check_extension(recipe, base.config)
    place.work.mkdir(parents=True, exist_ok=True)
    _claim(place.work, settings_hash(recipe))
    run = _Run(recipe, place, _Tasks(place.data), Log(place.work / "log.json"), progress)
    meter = _meter(place.work)
    encoders = {}
    for name in recipe.encoders:
        with run.log.stage(f"encoder {name}"):
            encoders[name] = _encoder(run, name)
    model = _assembled(run, encoders, base)
    if base is None:
        with run.log.stage("projector"):
            model.train_evidence(is_on=True)
            _language(run, model, recipe.projector, "projector")
        model.train_evidence(is_on=False)
    for name, one in recipe.own_projectors.items():
        with run.log.stage(f"projector-{name}"):
            for parameter in cast(Fuser, model.fuser).own_parameters(name):
                parameter.requires_grad_(True)
            _language(run, model, one, f"projector-{name}")
        model.fuser.requires_grad_(False)
    with run.log.stage("gates"):
        model.config = _gated(run, model)
    if recipe.language.tasks:
        with run.log.stage("language"):
            torch.manual_seed(recipe.seed + 7)
            add_lora(model.backbone, recipe.lora)
            _language(run, model, recipe.language, "language")
    if base is not None:
        hand_on_adapter(base, model)
    with run.log.stage("calibrate"):
        model.requires_grad_(False)
        model.config = _calibrated(run, model)
    trained = {
        "date": datetime.now(UTC).date().isoformat(),
        "seed": recipe.seed,
        "seconds": run.log.seconds(),
        "energy_kwh": meter.stop(),
        "log": run.log.rows,
        **({"extends": handed_on(base.config)} if base is not None else {}),
    }
    model.config = replace(model.config, recipe_hash=settings_hash(recipe), trained=trained)
    save_model(model, place.out, model.config, card(model.config, asdict(recipe)))
    return place.out


def _assembled(run: _Run, encoders: Mapping[str, Encoder], base: SalusModel | None) -> SalusModel:
    """Return a model with trained encoders, a fresh fuser (or that of `base`, with room for more) and the backbone as it is.

    Nothing in it requires a gradient.
    """
    config, backbone = _config(run.recipe), build_backbone(run.recipe.backbone, expected=base.config.backbone_identity if base else None)
    if base is not None:
        config = extended_config(base.config, config)
    else:
        config = replace(config, backbone_identity=backbone.identity, fuser={**run.recipe.fuser, "token_rms": backbone.token_rms()})
    torch.manual_seed(run.recipe.seed)
    model = SalusModel(config, backbone)
    if base is not None:
        hand_on_tensors(base, model)
    for name, encoder in encoders.items():
        cast(nn.Module, model.encoder(name)).load_state_dict(cast(nn.Module, encoder).state_dict())
    model.requires_grad_(False)
    return model.eval()  # examples are encoded once: never with an encoder's dropout


class Log:
    """What a run measured, on disk after every line; survives a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def add(self, **row: Any) -> None:
        """Add a row and write the file."""
        self.rows.append(row)
        self._write()

    def spent(self, stage: str, seconds: float) -> None:
        """Add the seconds of one session to a stage's row and write the file."""
        known = next((row for row in self.rows if row.get("stage") == stage and "seconds" in row), None)
        if known is None:
            self.rows.append({"stage": stage, "seconds": round(seconds, 1)})
        else:
            known["seconds"] = round(known["seconds"] + seconds, 1)
        self._write()

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        part.replace(self.path)

    def stage(self, name: str) -> _Stage:
        """Return a context that records how long a stage took, over all sessions that were not killed in it."""
        return _Stage(self, name)

    def seconds(self) -> float:
        """Return the seconds of all stages, over all sessions of the run."""
        return float(sum(row.get("seconds", 0.0) for row in self.rows))


class _Stage:
    def __init__(self, log: Log, name: str) -> None:
        self.log, self.name = log, name

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.log.spent(self.name, time.perf_counter() - self.started)


class _Tasks:
    """Tasks and their examples, read once."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.kept: dict[tuple[str, Split], Sequence[Example]] = {}

    def task(self, name: str) -> Task:
        return cast(Task, registry.load("salus.tasks", OTHER_ROUTES.get(name, name)))

    def examples(self, name: str, split: Split) -> Sequence[Example]:
        task = self.task(name)
        key = (task.name, split)
        if key not in self.kept:
            for folder in task.folders:
                if not (self.data / folder).exists():
                    raise ConfigError(
                        f"Cannot read task {task.name!r}: there is no '{folder}' in '{self.data}'. Set SALUS_DATA, or leave the task out."
                    )
            self.kept[key] = task.read(self.data, split)
        return self.kept[key]


def _check(recipe: Recipe) -> None:
    """Refuse what would stop the run only hours later: names of plug-ins, settings of networks."""
    if recipe.language.tasks:
        check_lora(recipe.lora)
    if not recipe.extends and not recipe.projector.tasks:
        raise ConfigError(f"Cannot train {recipe.name!r}: the stage 'projector' has no tasks. Name some, or the model that it extends.")
    for name, settings in _config(recipe).encoders.items():
        build_encoder(name, settings)
    stages = [name for stage in (recipe.projector, *recipe.own_projectors.values(), recipe.language) for name in stage.tasks]
    for name in [*stages, *(name for one in recipe.encoders.values() for name in (*one.records_from, *([one.task] if one.task else [])))]:
        registry.load("salus.tasks", OTHER_ROUTES.get(name, name))
    unknown = sorted(set(recipe.own_projectors) - set(recipe.encoders))
    if unknown:
        raise ConfigError(f"Cannot train a projector for {unknown[0]!r}: the recipe has no encoder of it. Add one, or leave it out.")
    settings, layers = into_of(recipe.fuser)
    if layers is not None:  # a backbone or settings that give none
        backbone = build_backbone(recipe.backbone)
        CrossAttentionLayers(layers, backbone.open_layers(), backbone.width)
        if any(stage.shots for stage in (recipe.projector, *recipe.own_projectors.values(), recipe.language)):
            raise ConfigError("Cannot train beside solved cases: shots is set and fuser.into is 'cross_attention'. Leave one of them out.")
    fuser = build_fuser(settings, {name: (1, 1) for name in recipe.encoders}, 1)
    for name in recipe.own_projectors:
        fuser.own_parameters(name)


def _claim(work: Path, recipe_hash: str) -> None:
    path = work / "recipe.sha256"
    if path.exists() and path.read_text(encoding="utf-8").strip() != recipe_hash:
        raise ConfigError(f"Cannot resume in '{work}': it holds a run of another recipe. Give another --work folder, or delete this one.")
    path.write_text(recipe_hash + "\n", encoding="utf-8")


def _config(recipe: Recipe) -> ModelConfig:
    encoders = {}
    for name, one in recipe.encoders.items():
        modality = cast(Modality, registry.load("salus.modalities", name))
        encoders[name] = {**modality.encoder_defaults, **one.settings}
    lora = dict(recipe.lora) if recipe.language.tasks else None
    return ModelConfig(recipe.name, recipe.version, recipe.backbone, "", encoders, dict(recipe.fuser), lora)


def _encoder(run: _Run, name: str) -> Encoder:
    one = run.recipe.encoders[name]
    torch.manual_seed(run.recipe.seed)
    encoder = build_encoder(name, _config(run.recipe).encoders[name])
    network = cast(nn.Module, encoder)
    path, beside = run.place.work / f"encoder-{name}.pt", run.place.work / f"encoder-{name}.heads.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        network.eval()
        if one.task is not None:
            _teach(run, one.task, name, load_heads(encoder, torch.load(beside, weights_only=True)))
        return encoder
    halfway = run.place.work / f"encoder-{name}.pretrained.pt"
    if halfway.exists():
        network.load_state_dict(torch.load(halfway, weights_only=True))
    else:
        _pretrained(run, encoder, name)
        _keep(network, halfway)
    if one.task is not None:
        heads = _supervised(run, encoder, name, run.tasks.task(one.task))
        _keep(heads, beside)
        _teach(run, one.task, name, heads)
    _keep(network, path)
    return encoder


def _teach(run: _Run, task: str, modality: str, heads: OptionHeads) -> None:
    run.heads.setdefault(task, {})[modality] = heads


def _keep(network: nn.Module, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(network.state_dict(), part)
    part.replace(path)


def _pretrained(run: _Run, encoder: Encoder, name: str) -> None:
    one = run.recipe.encoders[name]
    cast(nn.Module, encoder).train()
    prepared: list[Prepared] = []
    for source in one.records_from:
        subjects = {_evidence(example): example for example in run.tasks.examples(source, "train")}  # one may be asked about many times
        prepared += [made for _, made in _prepared(encoder, name, list(subjects.values()), run.progress)]
    if not prepared and one.task is None:
        raise ConfigError(f"Cannot train the encoder of {name!r}: its recipe names no records. Set records_from or task.")
    if prepared:
        fit_normaliser(encoder, prepared)
    if one.pretext_epochs:
        pretrain(encoder, prepared, one, seed=run.recipe.seed, progress=_said(run, f"{name}: self-supervised"))


def _supervised(run: _Run, encoder: Encoder, name: str, task: Task) -> OptionHeads:
    one = run.recipe.encoders[name]
    cast(nn.Module, encoder).train()
    pairs = [pair for pair in _prepared(encoder, name, run.tasks.examples(task.name, "train"), run.progress) if pair[0].options]
    answers = np.array([example.options.index(example.answer) for example, _ in pairs])
    rows = [made for _, made in pairs]
    fit_normaliser(encoder, rows)
    _tell_never_measured(run, encoder, name, rows)
    heads = supervise(encoder, rows, answers, one, seed=run.recipe.seed, progress=_said(run, f"{name}: {task.name}"))
    val = [pair for pair in _prepared(encoder, name, run.tasks.examples(task.name, "val"), run.progress) if pair[0].options]
    if task.positive is not None and val:
        place = val[0][0].options.index(task.positive)
        truth = np.array([float(example.answer == task.positive) for example, _ in val])
        score = head_probabilities(encoder, heads, [made for _, made in val])[:, place]
        run.log.add(encoder=name, task=task.name, split="val", metric="auroc", value=round(auroc(truth, score), 4), n=len(truth))
    return heads


def _tell_never_measured(run: _Run, encoder: Encoder, name: str, rows: Sequence[Prepared]) -> None:
    """Log the variables of a recipe that no training record has: a misspelt one would be missing in silence."""
    variables = getattr(encoder, "names", ())
    if variables:
        seen = np.any([np.isfinite(row.arrays["features"]).any(-1) for row in rows], axis=0)
        never = [variable for variable, is_seen in zip(variables, seen, strict=True) if not is_seen]
        run.log.add(encoder=name, never_measured=never)


def _evidence(example: Example) -> Any:
    """Return what tells an example's record from others: how it is read, where that is known, else the patient."""
    read = example.record
    return (read.func, repr(read.args), repr(read.keywords)) if isinstance(read, partial) else example.subject_id


def _said(run: _Run, words: str) -> Progress:
    return lambda detail, share: run.progress(f"{words}, {detail}", share)


def _prepared(encoder: Encoder, name: str, examples: Sequence[Example], progress: Progress) -> list[tuple[Example, Prepared]]:
    found = []
    for place, example in enumerate(examples):
        made = prepare_modality(encoder, name, example.record())
        if made is not None:
            found.append((example, made))
        if place % 20 == 0:
            progress(f"{name}: reading", (place + 1) / len(examples))
    return found


def _language(run: _Run, model: SalusModel, one: LanguageRecipe, stage: str) -> None:
    def pools(split: Split, most: float) -> dict[str, list[LanguageExample]]:
        made = {}
        for name in one.tasks:
            wanted = int(min(most, run.recipe.examples.get(name, EXAMPLES)))
            mixtures = one.mixtures if split == "train" else 0
            weight = one.teacher_weight if run.recipe.extends else run.recipe.projector.teacher_weight
            seen, shots = frozenset(run.tasks.task(name).modalities), one.shots if split == "train" else 0
            draw = Draw(wanted, run.recipe.seed, seen, run.heads.get(name, {}), weight, mixtures, shots)
            made[name] = _kept(run, model, name, split, draw=draw, said=_said(run, f"{stage}: {name} {split}"))
        return made

    checkpoint, done = run.place.work / f"{stage}.pt", run.place.work / f"{stage}.done"
    if done.exists():
        load_checkpoint(model, checkpoint)
        return
    train_language(model, pools("train", math.inf), one, seed=run.recipe.seed, checkpoint=checkpoint, progress=_said(run, stage))
    for name in one.tasks:
        if not is_open(name):
            found = _on_val(run, model, name)
            interval = found.interval if found is not None else None
            if interval is not None and math.isfinite(interval.value):
                row = {"value": round(interval.value, 4), "low": round(interval.low, 4), "high": round(interval.high, 4), "n": interval.n}
                run.log.add(stage=stage, task=name, split="val", **row)
    losses = mean_loss(model, pools("val", VAL_LOSS_EXAMPLES))
    run.log.add(stage=stage, val_loss={name: round(loss, 5) for name, loss in losses.items()})
    done.touch()


def _kept(run: _Run, model: SalusModel, name: str, split: Split, *, draw: Draw, said: Progress) -> list[LanguageExample]:
    """Return language examples from the run's cache, made when they are not there: encoders are frozen, so they stay true."""
    marks = "".join(f"-{mark}-{count}" for mark, count in (("mixed", draw.mixtures), ("shots", draw.shots)) if count)
    path = run.place.work / f"examples-{name}-{split}-{draw.most}{marks}.pt"
    if not path.exists():
        made = build_examples(model, name, run.tasks.examples(name, split), draw, progress=said)
        part = path.with_suffix(".part")
        torch.save(made, part)
        part.replace(path)
    kept: list[LanguageExample] = torch.load(path, weights_only=False)  # this run's own file
    return kept


def is_open(name: str) -> bool:
    """Return whether a task's examples are drawn once each: those without options, whose answers need no balancing."""
    return name == "record-reading" or name in OTHER_ROUTES


def _on_val(run: _Run, model: SalusModel, name: str) -> TaskOnVal | None:
    examples = [example for example in run.tasks.examples(name, "val") if example.options][: run.recipe.calibration_examples]
    if not examples:
        return None
    task = run.tasks.task(name)
    if name not in run.asked:
        run.asked[name] = val_questions(model, task, examples, progress=run.progress)
    return calibrate_options(model, task, examples, run.asked[name])


def _gated(run: _Run, model: SalusModel) -> ModelConfig:
    """Return the settings with what `val` gave for each task with options: gates and calibrations."""
    evaluations: dict[str, ModalityEvaluation] = dict(model.config.evaluations)
    calibrations: list[OptionCalibration] = list(model.config.option_calibrations)
    own = [name for one in run.recipe.own_projectors.values() for name in one.tasks]
    for name in dict.fromkeys([*run.recipe.projector.tasks, *own]):
        found = None if is_open(name) else _on_val(run, model, name)
        if found is not None:
            gates = gate(run.tasks.task(name), found)
            evaluations |= {one: made for one, made in gates.items() if one in run.recipe.encoders or not run.recipe.extends}
            calibrations = [one for one in calibrations if one.task != name]
            calibrations += [found.calibration] if found.calibration is not None else []
    return replace(model.config, evaluations=evaluations, option_calibrations=tuple(calibrations))


def _calibrated(run: _Run, model: SalusModel) -> ModelConfig:
    config = model.config
    if "record-reading" in run.recipe.language.tasks:
        examples = list(run.tasks.examples("record-reading", "val"))
        step = max(1, len(examples) // STATEMENT_EXAMPLES)
        chosen = examples[::step][:STATEMENT_EXAMPLES]
        config = replace(config, statement_calibration=calibrate_statements(model, chosen, progress=run.progress))
    return config


class _Meter:
    """Energy of this session and of those before it that were not killed."""

    def __init__(self, path: Path, tracker: Any) -> None:
        self.path, self.tracker = path, tracker

    def stop(self) -> float:
        """Return the kilowatt-hours of the run so far."""
        self.tracker.stop()
        before = float(json.loads(self.path.read_text(encoding="utf-8"))) if self.path.exists() else 0.0
        total = before + float(self.tracker.final_emissions_data.energy_consumed)
        self.path.write_text(json.dumps(total), encoding="utf-8")
        return total


def _meter(work: Path) -> _Meter:
    try:
        from codecarbon import OfflineEmissionsTracker  # (extra)
    except ImportError:
        raise MissingExtra("record the energy of a training run", "train") from None
    tracker = OfflineEmissionsTracker(country_iso_code="USA", save_to_file=False, log_level="error", measure_power_secs=30)
    tracker.start()
    return _Meter(work / "energy_kwh.json", tracker)
