"""A whole model of a few thousand weights and made-up patients for it: every stage is the real code, nothing is trained."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from salus.encode.variables import VariableEncoder
from salus.model import ModalityEvaluation, ModelConfig, OptionCalibration, SalusModel, add_lora, prepare_modality
from salus.reason.huggingface import HuggingFaceBackbone
from salus.record.patient import Code, Content, Item, Offset, PatientRecord, Source, item_id

VARIABLES = ("heart_rate", "creatinine", "potassium", "age")
ENCODERS = {
    "vitals_labs": {
        "variables": list(VARIABLES), "categories": {"loinc:76689-9": ["female", "male"]}, "members": 1, "grid_members": 1, "steps": 4,
        "width": 16,
    },
    "ehr": {"width": 16, "tokens": 4, "buckets": 64},
    "notes": {"width": 16, "tokens": 3, "buckets": 64, "words": 12},
}  # fmt: skip
LORA = {"r": 2, "alpha": 4, "targets": "all-linear"}
FUSER = {"hidden": 16, "token_rms": 0.25}
LAYERS = {"every": 1, "attention_width": 64, "feedforward_width": 16}
QUESTION = "Will this patient die in hospital?"
OPTIONS = ("yes", "no")
IDENTITY = "tiny@0123456789ab"
SERIES = {"HR": ("heart rate", "/min", 60, 140), "Creatinine": ("creatinine", "mg/dL", 0.6, 4.0), "K": ("potassium", "mmol/L", 3.0, 6.0)}


def passed(name: str) -> ModalityEvaluation:
    """Return an evaluation that lets a modality be interpreted."""
    return ModalityEvaluation("made-up", "auroc", "val", 0.9, 0.8, 0.95, 100, 0.6, is_passed=True)


def tiny_model(backbone: Path, *, lora: bool = True, seed: int = 0, strategy: str = "concat", into: str = "prefix") -> SalusModel:
    """Return a model with random weights, its LoRA weights and open gates too, in float32, every modality interpreted."""
    torch.manual_seed(seed)
    calibration = OptionCalibration("made-up", QUESTION, OPTIONS, "yes", ("vitals_labs",), 1.5, -0.2, 100)
    fuser = {**FUSER, "strategy": strategy, **({"into": into, **LAYERS} if into == "cross_attention" else {})}
    config = ModelConfig(
        "tiny", "0", str(backbone), IDENTITY, ENCODERS, fuser, LORA if lora else None,
        evaluations={name: passed(name) for name in ENCODERS}, option_calibrations=(calibration,),
    )  # fmt: skip
    model = SalusModel(config, HuggingFaceBackbone.load(backbone, IDENTITY, torch.float32))
    if model.cross_attention is not None:
        set_gates(model, 0.7)
    encoder = model.encoder("vitals_labs")
    assert isinstance(encoder, VariableEncoder)
    prepared = [prepare_modality(encoder, "vitals_labs", patient(number)) for number in range(20)]
    names = ("features", "grid")
    encoder.fit({name: np.stack([one.arrays[name] for one in prepared if one is not None]) for name in names})
    if lora:
        add_lora(model.backbone, LORA)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=0.1)
    return model.eval()


def set_gates(model: SalusModel, value: float) -> None:
    """Give every gate of the inserted layers one value; 0 shuts them."""
    for name, parameter in model.named_parameters():
        if name.startswith("cross_attention.") and name.endswith("_gate"):
            torch.nn.init.constant_(parameter.data, value)


def item(subject: str, place: str, modality: str, code: Code, hours: float | None, **known: object) -> Item:
    """Return one made-up item."""
    sha = subject.encode().hex().ljust(64, "0")[:64]
    at = None if hours is None else Offset(hours * 3600, "admission")
    return Item(item_id(sha, place), modality, code, Source(f"{subject}.csv", sha, place), at, **known)  # type: ignore[arg-type]


def patient(number: int, *, without: tuple[str, ...] = ()) -> PatientRecord:
    """Return a made-up patient: age and sex, three series, two events, a note; some modalities left out."""
    source, name = random.Random(number), f"patient-{number}"
    items = [
        item(
            name,
            "age",
            "ehr",
            Code("http://loinc.org", "30525-0", "age"),
            0.0,
            value=float(source.randint(30, 90)),
            unit="a",
            category="demographic",
        ),
        item(
            name,
            "sex",
            "ehr",
            Code("http://loinc.org", "76689-9", "sex"),
            0.0,
            value=source.choice(["female", "male"]),
            category="demographic",
        ),
    ]
    for code, (display, unit, low, high) in SERIES.items():
        for place in range(source.randint(2, 5)):
            value, hour = round(source.uniform(low, high), 1), round(source.uniform(1, 47), 2)
            items.append(item(name, f"{code}-{place}", "vitals_labs", Code("physionet2012", code, display), hour, value=value, unit=unit))
    condition = Code("http://snomed.info/sct", str(number), source.choice(["Sepsis", "Asthma", "Heart failure"]))
    medicine = Code("http://snomed.info/sct", f"9{number}", source.choice(["Metoprolol", "Insulin"]))
    items.append(item(name, "condition", "ehr", condition, 5.0, status="active", category="condition"))
    items.append(item(name, "medicine", "ehr", medicine, 9.0, status="active", category="medication"))
    words = f"Cough for {source.randint(2, 9)} days. No fever. Plan: fluids."
    note = Content("text", lambda: words, "text")
    items.append(item(name, "note", "notes", Code("http://loinc.org", "34109-9", "note"), 12.0, content=note, category="note"))
    kept = tuple(one for one in items if one.modality not in without or one.category == "demographic")
    return PatientRecord(name, kept)
