"""Measures self-supervision where labels are few: `python scripts/measure_pretraining.py OUT.json [FAMILY …]`; data from $SALUS_DATA.

One encoder of each family, the same start with and without its self-supervised stage: a linear probe on the frozen tokens, fitted on 30 and
on 100 labels (20 draws), asked on patients that neither stage saw. Only `train` and `val` are read. Where a cohort is small, five folds of
both by patient; no fold's stage sees the patients that it is asked about. Volumes have no labels here (tests/encode/test_volume.py).
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from measure_omics import answers_of, mean_accuracy, mean_auroc, quiet
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedShuffleSplit

from salus import registry
from salus.cohorts.split_file import read_split
from salus.encode.encoder import Prepared, encode
from salus.evaluate.rows import Result, commit, tree_hash, write_result
from salus.metrics import Floats, bootstrap, paired
from salus.model import build_encoder, prepare_modality
from salus.record.patient import Content, Item
from salus.record.read.folder import one_patient, read_path
from salus.record.timeline import clock
from salus.train.encoder_stage import fit_normaliser, pretrain
from salus.train.recipe import EncoderRecipe

LABELLED = (30, 100)
DRAWS = 20
FOLDS = 5
CHILDREN = "fhir_synthea_covid"
"""Read beside the adults of `fhir_synthea_r4`."""
MOST_SECTIONS = {"RESULTS": "results", "METHODS": "methods", "BACKGROUND": "background"}
Settings = dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """Prepared inputs of one cohort."""

    prepared: Sequence[Prepared]
    answers: NDArray[np.int64]
    groups: Sequence[str]
    fitted: NDArray[np.int64] | None
    """Rows of `train`, where the given split is used; None: five folds by group."""

    def folds(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Give rows that may be learned from and rows that are asked."""
        rows = np.arange(len(self.answers))
        if self.fitted is not None:
            yield self.fitted, np.setdiff1d(rows, self.fitted)
        else:
            yield from GroupKFold(FOLDS, shuffle=True, random_state=0).split(rows, groups=self.groups)


@dataclass(frozen=True)
class Family:
    """One encoder family and what it is asked."""

    title: str
    cohort: str
    modality: str
    read: Callable[[Path, Any], Samples]
    recipe: EncoderRecipe
    settings: Settings


def of_task(data: Path, encoder: Any, *, task: str, modality: str, folded: bool = False) -> Samples:
    """Return the examples of a task."""
    prepared, answers, groups, fitted = [], [], [], []
    for split in ("train", "val"):
        examples = registry.load("salus.tasks", task).read(data, split)
        for example, answer in zip(examples, answers_of(examples), strict=True):
            made = prepare_modality(encoder, modality, example.record())
            if made is not None:
                fitted += [len(prepared)] if split == "train" else []
                prepared.append(made)
                answers.append(int(answer))
                groups.append(example.subject_id)
    return Samples(prepared, np.array(answers), groups, None if folded else np.array(fitted))


def organs(data: Path, encoder: Any) -> Samples:
    """Return the pictures of VQA-RAD with the organ that they show."""
    folder = data / "vqa_rad"
    named = {row["image_name"]: row["image_organ"] for row in json.loads((folder / "VQA_RAD_Dataset_Public.json").read_text("utf-8"))}
    options = sorted(set(named.values()))
    prepared, answers, groups, fitted = [], [], [], []
    for name, split in read_split(folder / "split.csv", "image_name").items():
        if split == "test":
            continue
        record = one_patient(read_path(folder / "images" / name))
        made = encoder.prepare([item for item in record.items if item.content is not None], {})
        fitted += [len(prepared)] if split == "train" else []
        prepared.append(made)
        answers.append(options.index(named[name]))
        groups.append(name)
    return Samples(prepared, np.array(answers), groups, np.array(fitted))


def sections(data: Path, encoder: Any) -> Samples:
    """Return the stretches of abstracts that their authors call results, methods or background; the head itself is not read."""
    folder, options = data / "pubmedqa", sorted(MOST_SECTIONS.values())
    papers = json.loads((folder / "ori_pqal.json").read_text("utf-8"))
    prepared, answers, groups, fitted = [], [], [], []
    for pmid, split in read_split(folder / "split.csv", "pmid").items():
        for text, head in zip(papers[pmid]["CONTEXTS"], papers[pmid]["LABELS"], strict=True):
            if split == "test" or head not in MOST_SECTIONS:
                continue
            content = Content("text", partial(str, text), f"{len(text)} characters")
            made = encoder.prepare([Item("a", "notes", None, None, content=content, category="note")], {})  # type: ignore[arg-type]
            fitted += [len(prepared)] if split == "train" else []
            prepared.append(made)
            answers.append(options.index(MOST_SECTIONS[head]))
            groups.append(pmid)
    return Samples(prepared, np.array(answers), groups, np.array(fitted))


def visits(data: Path, encoder: Any) -> Samples:
    """Return the days of made patients (Synthea, adults and children) with a visit: was it for wellness; the visit itself is hidden."""
    prepared, answers, groups = [], [], []
    for cohort in ("fhir_synthea_r4", CHILDREN):
        for subject, split in read_split(data / cohort / "split.csv", "patient_id").items():
            path = next((data / cohort / "fhir").glob(f"*{subject}*"), None)
            if split == "test" or path is None:
                continue
            record = one_patient(read_path(path))
            at = clock(record)
            days: dict[int, list[Item]] = {}
            for item in record.items:
                if item.modality == "ehr" and item.id in at:
                    days.setdefault(int(at[item.id] // 86400), []).append(item)
            for items in days.values():
                kinds = [item.code.display.lower() for item in items if item.category == "encounter"]
                made = encoder.prepare([item for item in items if item.category != "encounter"], {})
                if kinds and made is not None:
                    prepared.append(made)
                    answers.append(int(any("wellness" in kind or "well child" in kind or "check" in kind for kind in kinds)))
                    groups.append(record.subject_id)
    return Samples(prepared, np.array(answers), groups, None)


def b_lines(data: Path, encoder: Any) -> Samples:
    """Return the lung ultrasound clips, and whether their experts saw B-lines."""
    folder = data / "lus_video_covid_blues"
    with (folder / "severity.csv").open(encoding="utf-8") as stream:
        seen = {row["video_file"]: row["B-lines"] for row in csv.DictReader(stream)}
    splits = read_split(folder / "split.csv", "patient_id")
    prepared, answers, groups = [], [], []
    for path in sorted((folder / "lus_videos").glob("*.mp4")):
        subject = path.stem.split("_")[1]
        if splits[subject] != "test" and seen.get(path.stem) in ("yes", "no"):
            record = one_patient(read_path(path))
            made = encoder.prepare([item for item in record.items if item.content is not None], {})
            prepared.append(made)
            answers.append(int(seen[path.stem] == "yes"))
            groups.append(subject)
    return Samples(prepared, np.array(answers), groups, None)


def vitals_settings() -> Settings:
    """Return the settings of the shipped series encoder."""
    recipe = yaml.safe_load((Path(__file__).parents[1] / "recipes" / "base.yaml").read_text("utf-8"))
    settings: Settings = recipe["encoders"]["vitals_labs"]["settings"]
    return settings


def families() -> dict[str, Family]:
    """Return every family that has labels here."""
    slow = EncoderRecipe(pretext_epochs=40, batch_size=64, lr=2e-3)
    splice = EncoderRecipe(pretext_epochs=20, batch_size=64, lr=2e-3, weight_decay=0.01)
    profile = EncoderRecipe(pretext_epochs=40, batch_size=32, lr=2e-3)
    made = {
        "variables": Family(
            "death in intensive care",
            "icu_physionet2012",
            "vitals_labs",
            partial(of_task, task="icu-death", modality="vitals_labs"),
            EncoderRecipe(pretext_epochs=8, batch_size=128, lr=2e-3),
            vitals_settings(),
        ),
        "audio": Family(
            "abnormal heart sound",
            "heart_sounds_cinc2016",
            "heart_sound",
            partial(of_task, task="heart-sound", modality="heart_sound", folded=True),
            EncoderRecipe(pretext_epochs=60, batch_size=72, lr=2e-3),
            {},
        ),
        "image": Family("organ of a picture", "vqa_rad", "radiograph", organs, slow, {}),
        "text": Family(
            "section of an abstract", "pubmedqa", "notes", sections, EncoderRecipe(pretext_epochs=10, batch_size=64, lr=2e-3), {}
        ),
        "events": Family("wellness visit", "fhir_synthea_r4", "ehr", visits, EncoderRecipe(pretext_epochs=10, batch_size=64, lr=2e-3), {}),
        "video": Family(
            "B-lines", "lus_video_covid_blues", "lung_ultrasound", b_lines, EncoderRecipe(pretext_epochs=40, batch_size=32, lr=2e-3), {}
        ),
        "sequence": Family(
            "splice site", "dna_splice_uci", "dna", partial(of_task, task="dna-splice", modality="dna"), splice, {"length": 60}
        ),
    }
    for omic in registry.load("salus.tasks", "rosmap").modalities:
        read = partial(of_task, task="rosmap", modality=omic, folded=True)
        made[f"profile, {omic}"] = Family("Alzheimer's disease", "multiomics_rosmap", omic, read, profile, {})
    return made


def features(encoder: Any, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
    """Return (n, F): tokens side by side where each has its place or member, else their mean."""
    encoder.eval()
    rows = []
    with torch.no_grad():
        for start in range(0, len(prepared), 256):
            one = encode(encoder, prepared[start : start + 256])
            if getattr(encoder, "pooled_tokens", 0) or encoder.tokens <= 4:
                rows.append(one.values.flatten(1))
            else:
                weight = one.mask.to(one.values.dtype)[..., None]
                rows.append((one.values * weight).sum(1) / weight.sum(1).clamp_min(1))
    found: NDArray[np.float32] = torch.cat(rows).numpy()
    return found


def probed(table: NDArray[np.float32], samples: Samples, fold: tuple[NDArray[np.int64], NDArray[np.int64]], labelled: int) -> Floats:
    """Return (asked, draws, options) probabilities of a linear probe."""
    fitted, asked = fold
    table = (table - table[fitted].mean(0)) / (table[fitted].std(0) + 1e-6)
    options = int(samples.answers.max()) + 1
    scores = np.zeros((len(asked), DRAWS, options))
    draws = StratifiedShuffleSplit(DRAWS, train_size=labelled, random_state=0).split(fitted, samples.answers[fitted])
    for draw, (rows, _) in enumerate(draws):
        chosen = fitted[rows]
        probe = LogisticRegression(C=0.01, max_iter=2000).fit(table[chosen], samples.answers[chosen])
        scores[:, draw, probe.classes_] = probe.predict_proba(table[asked])
    return scores


def measure(name: str, family: Family, data: Path) -> Result:
    """Return the rows of one family."""
    torch.manual_seed(0)
    samples = family.read(data, build_encoder(family.modality, family.settings).eval())
    options = int(samples.answers.max()) + 1
    scores = {(way, count): np.full((len(samples.answers), DRAWS, options), np.nan) for way in ("without", "with") for count in LABELLED}
    for fold in samples.folds():
        fitted = [samples.prepared[row] for row in fold[0]]
        for way in ("without", "with"):
            torch.manual_seed(0)
            encoder: Any = build_encoder(family.modality, family.settings)
            fit_normaliser(encoder, fitted)
            if way == "with":
                pretrain(encoder, fitted, family.recipe, seed=0, progress=quiet)
            table = features(encoder, samples.prepared)
            for count in LABELLED:
                if count < len(fitted):
                    scores[way, count][fold[1]] = probed(table, samples, fold, count)
    asked = np.flatnonzero(np.isfinite(scores["with", LABELLED[0]]).all((1, 2)))
    truth, groups = samples.answers[asked], [samples.groups[row] for row in asked]
    result = Result("val" if samples.fitted is not None else f"train and val, {FOLDS} folds")
    metric = "auroc" if options == 2 else "accuracy"
    for count in LABELLED:
        if not np.isfinite(scores["with", count][asked]).all():
            continue
        seen = {way: scores[way, count][asked] for way in ("without", "with")}
        if options == 2:
            given, truths, function = {way: one[..., 1] for way, one in seen.items()}, truth.astype(float), mean_auroc
        else:
            given = {way: (one.argmax(-1) == truth[:, None]).astype(float) for way, one in seen.items()}
            truths, function = np.ones(len(truth)), mean_accuracy
        words = f"{name}: {family.title}, {count} labels"
        for way, one in given.items():
            found = bootstrap(function, truths, one, groups)
            result.add(family.cohort, "ablation", f"{words}, {way} self-supervision", metric=metric, found=found)
        gap = paired(function, truths, given["with"], given["without"], groups)
        result.add(family.cohort, "ablation", f"{words}, with minus without", metric=f"{metric}_difference", found=gap)
    return result


def main(out: Path, wanted: Sequence[str]) -> None:
    """Measure and write."""
    data = Path(os.environ["SALUS_DATA"])
    rows = []
    chosen = {name: family for name, family in families().items() if not wanted or any(name.startswith(one) for one in wanted)}
    for name, family in chosen.items():
        began = datetime.now(UTC)
        for row in measure(name, family, data).rows:
            print(f"{row.split:24} {row.model:80} {row.metric:20} {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n {row.n}", flush=True)
            rows.append(row)
        print(name, (datetime.now(UTC) - began).total_seconds(), "s", flush=True)
    tree = {
        "command": " ".join(["python scripts/measure_pretraining.py", out.name, *wanted]),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {name: tree_hash(data / name) for name in sorted({family.cohort for family in chosen.values()} | {CHILDREN})},
        "rows": [asdict(row) for row in rows],
    }
    write_result(tree, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
