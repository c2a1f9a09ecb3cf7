"""The tasks on which alignment is measured: pairs of modalities of real patients, as token sets of frozen encoders, made once and kept.

Takes the data folder; gives, for each task and split, `PairSets`. No label enters a feature. What stands in a text, and what it can
carry, is said beside each task's reader. Many chest X-rays are under licences that forbid weights that ship, and ROSMAP's terms are
unclear: what is fitted here is measured and thrown away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from salus import registry
from salus.cohorts.one_file import read_one_file
from salus.cohorts.split_file import read_rows, read_split
from salus.encode.encoder import encode
from salus.encode.sentence import SentenceEmbedder
from salus.encode.sound_summary import summarise_sound
from salus.encode.text import sentences
from salus.errors import ConfigError
from salus.evaluate.alignment_texts import caption_of, cleaned_note, heart_text
from salus.evaluate.alignment_thumbnails import thumbnail
from salus.fuse.align.knowledge import knowledge
from salus.fuse.align.pairs import PairSets
from salus.fuse.token_sets import Tokens, TokenSets
from salus.model import SalusModel, prepare_modality
from salus.record.patient import Code, Content, Item, Profile, Sound, Source, item_id
from salus.record.read.image import READER as IMAGE_READER
from salus.record.read.reader import ReadOptions
from salus.record.read.sound import READER as SOUND_READER
from salus.task import Split, Task

Progress = Callable[[str, float], None]
Floats = NDArray[np.float32]
MOST_SENTENCES = 24
"""Of one text; the rest is left out."""
IMAGE_ENCODERS = ("radiograph", "ct_mr_slice")
"""Every picture goes through both, so that the choice of the encoder tells nothing about it."""


class Frozen:
    """The frozen networks that turn items into tokens; each is loaded when it is first needed."""

    def __init__(self, load: Callable[[], SalusModel]) -> None:
        self._load = load
        self._model: SalusModel | None = None
        self._sentences: SentenceEmbedder | None = None

    @property
    def model(self) -> SalusModel:
        """The base model, for its encoders."""
        if self._model is None:
            self._model = self._load()
        return self._model

    @torch.no_grad()
    def hashed(self, texts: Sequence[str]) -> Tokens:
        """Return what the base model's notes encoder makes of texts: hashed words, one token for each sentence."""
        encoder = self.model.encoder("notes")
        rows: list[Floats | None] = []
        for text in texts:
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            content = Content("text", partial(str, text), "text")
            code = Code("http://loinc.org", "34109-9", "note")
            item = Item(item_id(sha256, "text"), "notes", code, Source("text", sha256, "text"), category="note", content=content)
            prepared = encoder.prepare([item], {}) if text else None
            encoded = None if prepared is None else encode(encoder, [prepared])
            rows.append(None if encoded is None else encoded.values[0].numpy()[encoded.mask[0].numpy()])
        return _stacked(rows, encoder.width)

    def texts(self, texts: Sequence[Sequence[str]]) -> Tokens:
        """Return one token for each sentence of each text."""
        if self._sentences is None:
            self._sentences = SentenceEmbedder()
        flat = sorted({one for each in texts for one in each[:MOST_SENTENCES]})
        vectors = dict(zip(flat, self._sentences(flat), strict=True))
        rows = [np.stack([vectors[one] for one in each[:MOST_SENTENCES]]) if each else None for each in texts]
        return _stacked(rows, SentenceEmbedder.width)

    @torch.no_grad()
    def pictures(self, paths: Sequence[Path], progress: Callable[[float], None]) -> dict[str, Tokens]:
        """Return what the picture networks see (16 cells), the thumbnail's summary (one token), and both in one token."""
        made: list[Floats | None] = []
        small: list[Floats | None] = []
        width = sum(self.model.encoder(name).width for name in IMAGE_ENCODERS)
        for place, path in enumerate(paths):
            seen, picture = [], None
            for name in IMAGE_ENCODERS:
                record = read_one_file(IMAGE_READER, path, subject_id="-", options=ReadOptions(modality=name))
                prepared = prepare_modality(self.model.encoder(name), name, record)
                if prepared is not None:
                    picture = prepared.arrays["picture"]
                    encoded = encode(self.model.encoder(name), [prepared])
                    seen.append((encoded.values[0].numpy(), encoded.mask[0].numpy()))
            mask = seen[0][1] if seen else None
            made.append(np.concatenate([values for values, _ in seen], -1)[mask] if seen else None)
            small.append(None if picture is None else thumbnail(picture)[None])
            progress((place + 1) / len(paths))
        summary = next((len(one[0]) for one in small if one is not None), 1)
        cells, summaries = _stacked(made, width), _stacked(small, summary)
        return {"picture": _joined(cells, summaries), "cells": cells, "thumbnail": summaries}


@dataclass(frozen=True)
class ZeroShot:
    """Classes that words alone should tell apart; the last is ranked."""

    modality: str
    text: str
    templates: tuple[str, ...]
    classes: tuple[str, ...]
    words: tuple[str, ...]
    """How each class is put into the templates."""


@dataclass(frozen=True)
class AlignmentTask:
    """One task."""

    name: str
    source: str
    """The cohort's task in `salus.tasks`: its folders and its splits."""
    modalities: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """Pairs that are trained together and searched both ways."""
    read: Callable[[Path, Sequence[Split], Frozen, Progress], dict[Split, PairSets]]
    anchors: tuple[str, ...] = ()
    """Modalities through which the two others are bound; these two are then searched without having been trained together."""
    others: tuple[tuple[str, str], ...] = ()
    """Pairs of other features of the same patients, for choosing what the encoders are."""
    zero_shot: ZeroShot | None = None
    has_knowledge: bool = False


def _stacked(rows: Sequence[Floats | None], width: int) -> Tokens:
    """Return tokens of n patients padded to the longest; None has none."""
    longest = max([len(one) for one in rows if one is not None], default=1)
    values, mask = np.zeros((len(rows), longest, width), np.float32), np.zeros((len(rows), longest), bool)
    for place, one in enumerate(rows):
        if one is not None:
            values[place, : len(one)], mask[place, : len(one)] = one, True
    return Tokens(values, mask, np.full(mask.shape, np.nan, np.float32))


def _joined(cells: Tokens, summaries: Tokens) -> Tokens:
    """Return one token of each picture: the mean of its cells beside its summary."""
    share = cells.mask / np.maximum(cells.mask.sum(1, keepdims=True), 1)
    mean = (cells.values * share[..., None]).sum(1, keepdims=True)
    return Tokens(np.concatenate([mean, summaries.values], -1).astype(np.float32), summaries.mask, summaries.time_s)


def _unit(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


FINDINGS = {
    "COVID-19": "disease:covid-19",
    "Streptococcus": "disease:bacterial pneumonia",
    "Klebsiella": "disease:bacterial pneumonia",
    "Legionella": "disease:bacterial pneumonia",
    "E.Coli": "disease:bacterial pneumonia",
    "Bacterial": "disease:bacterial pneumonia",
    "Mycoplasma": "disease:mycoplasma pneumonia",
    "Pneumocystis": "disease:pneumocystis pneumonia",
    "Influenza": "disease:influenza",
    "ARDS": "disease:acute respiratory distress syndrome",
}
"""Words of the cohort's `finding` → concept, for knowledge alone."""


def read_chest(data: Path, splits: Sequence[Split], frozen: Frozen, progress: Progress) -> dict[Split, PairSets]:
    """Return chest X-rays and their clinical notes.

    The note stands as published, words of the diagnosis included: it is what is searched, never a feature of the image. An image without a
    note has no text and is scored by words alone.
    """
    folder = data / "cxr_covid_chestxray"
    groups = read_split(folder / "split.csv", "patient_group")
    rows = read_rows(folder / "metadata.csv", ("patient_group", "finding", "image", "clinical_notes"))
    known = knowledge()
    made: dict[Split, PairSets] = {}
    for split in splits:
        own = [row for row in rows if groups.get(row["patient_group"]) == split]
        notes = [cleaned_note(row["clinical_notes"]) for row in own]
        pictures = frozen.pictures([folder / row["image"] for row in own], partial(progress, f"chest: {split}"))
        codes = tuple(frozenset(concept for word, concept in FINDINGS.items() if word in row["finding"]) for row in own)
        answers = np.array([int("COVID-19" in row["finding"]) for row in own], np.int64)
        told = {"note": frozen.texts([sentences(note) for note in notes]), "note_hashed": frozen.hashed(notes)}
        sets = TokenSets({**pictures, **told}, answers, tuple(row["patient_group"] for row in own))
        images, units = tuple(row["image"] for row in own), tuple(map(_unit, notes))
        named = tuple(known.concepts_of(note) for note in notes)
        made[split] = PairSets(
            sets,
            {**dict.fromkeys(pictures, images), **dict.fromkeys(told, units)},
            {**dict.fromkeys(pictures, codes), **dict.fromkeys(told, named)},
        )
    return made


def read_vqa(data: Path, splits: Sequence[Split], frozen: Frozen, progress: Progress) -> dict[Split, PairSets]:
    """Return radiology pictures and captions made of their questions and answers (rules: `alignment_texts`)."""
    folder = data / "vqa_rad"
    images = read_split(folder / "split.csv", "image_name")
    rows: list[Mapping[str, Any]] = json.loads((folder / "VQA_RAD_Dataset_Public.json").read_text(encoding="utf-8"))
    known = knowledge()
    made: dict[Split, PairSets] = {}
    for split in splits:
        names = [name for name, own in images.items() if own == split]
        asked = {name: [row for row in rows if row["image_name"] == name] for name in names}
        lines = [[caption_of(str(row["question"]), str(row["answer"])) for row in asked[name]] for name in names]
        pictures = frozen.pictures([folder / "images" / name for name in names], partial(progress, f"vqa: {split}"))
        organs = [str(asked[name][0]["image_organ"]) if asked[name] else "" for name in names]
        captions = [". ".join(each) for each in lines]
        told = {"caption": frozen.texts(lines), "caption_hashed": frozen.hashed(captions)}
        answers = np.array([ORGANS.index(one) if one in ORGANS else -1 for one in organs], np.int64)
        sets = TokenSets({**pictures, **told}, answers, tuple(names))
        anatomy = tuple(frozenset({ANATOMY[one]}) if one in ANATOMY else frozenset() for one in organs)
        named, units = tuple(known.concepts_of(caption) for caption in captions), tuple(map(_unit, captions))
        made[split] = PairSets(
            sets,
            {**dict.fromkeys(pictures, tuple(names)), **dict.fromkeys(told, units)},
            {**dict.fromkeys(pictures, anatomy), **dict.fromkeys(told, named)},
        )
    return made


ORGANS = ("HEAD", "ABD", "CHEST")
ANATOMY = {"HEAD": "anatomy:head", "ABD": "anatomy:abdomen", "CHEST": "anatomy:chest"}


def read_heart(
    data: Path, splits: Sequence[Split], frozen: Frozen, progress: Progress, *, tells_site: bool = True
) -> dict[Split, PairSets]:
    """Return heart sounds and a sentence of what the metadata holds: normal or abnormal, and (by choice) the recording site.

    No patient, no diagnosis, no murmur grade is published. With the site there are 12 different texts at most; a site is a device, so that
    part of a recall is the device's. Without it there are two texts. Sounds are band summaries: the shipped sound encoder learned
    these labels on `train`, so figures out of fold would be too good with it.
    """
    folder = data / "heart_sounds_cinc2016"
    recordings = read_split(folder / "split.csv", "recording_id")
    rows = read_rows(folder / "labels.csv", ("recording_id", "file", "subset", "label"))
    made: dict[Split, PairSets] = {}
    for split in splits:
        own = [row for row in rows if recordings.get(row["recording_id"]) == split]
        tables: list[Floats | None] = []
        for place, row in enumerate(own):
            options = ReadOptions(modality="heart_sound")
            record = read_one_file(SOUND_READER, folder / row["file"], subject_id=row["recording_id"], options=options)
            loaded = next(item.content.load() for item in record.items if item.content is not None and item.content.kind == "sound")
            table = summarise_sound(cast(Sound, loaded).samples[0], cast(Sound, loaded).sampling_rate_hz)
            tables.append(np.nan_to_num(table).reshape(1, -1) if np.isfinite(table).any() else None)
            progress(f"heart sounds: {split}", (place + 1) / len(own))
        texts = [heart_text(row["label"], row["subset"] if tells_site else "") for row in own]
        answers = np.array([int(row["label"] == "abnormal") for row in own], np.int64)
        names = tuple(row["recording_id"] for row in own)
        sets = TokenSets({"sound": _stacked(tables, 34 * 48), "text": frozen.texts([[text] for text in texts])}, answers, names)
        codes = tuple(frozenset({"code:" + row["label"]}) for row in own)
        made[split] = PairSets(sets, {"sound": names, "text": tuple(map(_unit, texts))}, {"sound": codes, "text": codes})
    return made


def read_heart_label(data: Path, splits: Sequence[Split], frozen: Frozen, progress: Progress) -> dict[Split, PairSets]:
    """Return heart sounds and one of two sentences."""
    return read_heart(data, splits, frozen, progress, tells_site=False)


OMICS = ("gene_expression", "dna_methylation", "mirna_expression")


def read_omics(data: Path, splits: Sequence[Split], frozen: Frozen, progress: Progress) -> dict[Split, PairSets]:
    """Return three omics of one person, the values of their features; the diagnosis takes no part."""
    task = cast(Task, registry.load("salus.tasks", "rosmap"))
    made: dict[Split, PairSets] = {}
    for split in splits:
        examples = task.read(data, split)
        rows: dict[str, list[Floats | None]] = {name: [] for name in OMICS}
        for example in examples:
            found = {item.modality: item.content.load() for item in example.record().items if item.content is not None}
            for name in OMICS:
                values = cast(Profile, found[name]).values if name in found else None
                rows[name].append(None if values is None else np.nan_to_num(np.asarray(values, np.float32))[None])
        progress(f"omics: {split}", 1.0)
        names = tuple(example.subject_id for example in examples)
        tokens = {name: _stacked(each, next(one.shape[1] for one in each if one is not None)) for name, each in rows.items()}
        sets = TokenSets(tokens, np.full(len(names), -1, np.int64), names)
        made[split] = PairSets(sets, dict.fromkeys(OMICS, names), {})
    return made


CHEST_TEMPLATES = ("Chest X-ray of a patient with {}.", "The radiograph shows {}.", "A patient was admitted with {}.", "Findings of {}.")
HEART_TEMPLATES = ("Heart sound recording, {}.", "The heart sound is {}.", "{} heart sound.")
VQA_TEMPLATES = ("An image of the {}.", "This is the {}.", "The part of the body is the {}.")
_PICTURE = ("picture", "cells", "thumbnail")
TASKS = {
    "chest": AlignmentTask(
        "chest",
        "cxr-finding",
        (*_PICTURE, "note", "note_hashed"),
        (("picture", "note"),),
        read_chest,
        others=(("cells", "note"), ("thumbnail", "note"), ("picture", "note_hashed")),
        zero_shot=ZeroShot("picture", "note", CHEST_TEMPLATES, ("other", "COVID-19"), ("bacterial pneumonia", "COVID-19 pneumonia")),
        has_knowledge=True,
    ),
    "vqa": AlignmentTask(
        "vqa",
        "vqa-rad",
        (*_PICTURE, "caption", "caption_hashed"),
        (("picture", "caption"),),
        read_vqa,
        others=(("cells", "caption"), ("thumbnail", "caption"), ("picture", "caption_hashed")),
        zero_shot=ZeroShot("picture", "caption", VQA_TEMPLATES, ("head", "abdomen", "chest"), ("brain", "abdomen", "chest")),
        has_knowledge=True,
    ),
    "heart": AlignmentTask(
        "heart",
        "heart-sound",
        ("sound", "text"),
        (("sound", "text"),),
        read_heart,
        zero_shot=ZeroShot("sound", "text", HEART_TEMPLATES, ("normal", "abnormal"), ("normal", "abnormal")),
        has_knowledge=True,
    ),
    "heart-label": AlignmentTask(
        "heart-label",
        "heart-sound",
        ("sound", "text"),
        (("sound", "text"),),
        read_heart_label,
        zero_shot=ZeroShot("sound", "text", HEART_TEMPLATES, ("normal", "abnormal"), ("normal", "abnormal")),
    ),
    "omics": AlignmentTask(
        "omics",
        "rosmap",
        OMICS,
        (("gene_expression", "dna_methylation"), ("gene_expression", "mirna_expression"), ("dna_methylation", "mirna_expression")),
        read_omics,
        anchors=OMICS,
    ),
}


def alignment_task(name: str) -> AlignmentTask:
    """Return a task.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in TASKS:
        raise ConfigError(f"Cannot measure alignment on {name!r}: there are {', '.join(TASKS)}.")
    return TASKS[name]
