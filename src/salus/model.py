"""A Salus model: encoders, fuser and language model put together, saved and loaded strictly.

A model folder follows Hugging Face conventions: `config.json`, safetensors, a PEFT `adapter/` folder, a README card. It names its
backbone by id and hash and lists every tensor; a missing, extra or misshapen tensor is an error, never random weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from salus import registry
from salus.config import settings_from
from salus.encode.encoder import Encoder, Prepared, encode
from salus.encode.modality import Modality
from salus.errors import ConfigError, ModelError
from salus.fuse.build import build_fuser
from salus.fuse.fuser import Fused, Present
from salus.reason import embedded, prompt
from salus.reason.backbone import Session
from salus.reason.cross_attention_layers import CrossAttentionLayers, Reading, into_of
from salus.reason.huggingface import HuggingFaceBackbone
from salus.record.patient import PatientRecord
from salus.record.timeline import clock

FORMAT = 3
LORA_SETTINGS = {"r", "alpha", "targets", "dropout"}


@dataclass(frozen=True)
class ModalityEvaluation:
    """What the evaluation of a modality gave; it decides whether the modality is interpreted."""

    task: str
    metric: str
    split: str
    value: float
    low: float
    high: float
    n: int
    pass_above: float
    is_passed: bool


@dataclass(frozen=True)
class OptionCalibration:
    """Platt scaling of one question's option scores, fitted on `val`; for more than two options, a temperature and a bias for each."""

    task: str
    question: str
    options: tuple[str, ...]
    positive: str
    modalities: tuple[str, ...]
    slope: float
    intercept: float
    n: int
    biases: tuple[float, ...] = ()
    """One for each of more than two options, whose scores are multiplied by the slope; `positive` is then empty."""
    shots: int = 0
    """Solved cases that were shown beside each question; it holds for that many alone."""
    cases: str = ""
    """Fingerprint of the index that they came from."""


@dataclass(frozen=True)
class StatementCalibration:
    """Logistic model of a statement's being right, fitted on `val` of record-reading, and the abstention threshold."""

    intercept: float
    logprob: float
    """Weight of the mean log-probability of the written line."""
    mended: float
    """Weight of the draft's having failed its check."""
    certainty: float
    """Weight of the log-odds that the question asks for this kind of fact, by its wording."""
    threshold: float
    """Below this confidence a statement is withheld."""
    n: int


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its tensors."""

    name: str
    version: str
    backbone: str
    """`embedded`, a folder, or a hub id."""
    backbone_identity: str
    encoders: Mapping[str, Mapping[str, Any]]
    """Modality → settings of its encoder."""
    fuser: Mapping[str, Any] = field(default_factory=dict)
    """`strategy` (a name in `salus.fusers`; absent: `concat`), `into` (`prefix` or `cross_attention`; absent: `prefix`), their settings."""
    lora: Mapping[str, Any] | None = None
    """`r`, `alpha`, `targets`; None: the backbone is used as it is."""
    evaluations: Mapping[str, ModalityEvaluation] = field(default_factory=dict)
    option_calibrations: tuple[OptionCalibration, ...] = ()
    statement_calibration: StatementCalibration | None = None
    recipe_hash: str = ""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """Date, seed, seconds and energy of the sessions that were not killed, log."""
    format: int = FORMAT

    @property
    def interpreted(self) -> frozenset[str]:
        """Modalities whose evaluation has passed."""
        return frozenset(name for name, evaluation in self.evaluations.items() if evaluation.is_passed)

    @property
    def told_as_absent(self) -> tuple[str, ...]:
        """Modalities whose absence reaches the language model as a token."""
        return tuple(name for name in self.encoders if name not in self.fuser.get("untold", ()))

    @property
    def interpreted_in_writing(self) -> frozenset[str]:
        """Of these, those that the language stage was trained beside; one that joined later is judged by its own question alone."""
        return self.interpreted - set(self.fuser.get("untold", ()))


class SalusModel(nn.Module):
    """Encoders by modality, a fuser, and a language model."""

    def __init__(self, config: ModelConfig, backbone: HuggingFaceBackbone) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.encoders = nn.ModuleDict(
            {name: cast(nn.Module, build_encoder(name, settings)) for name, settings in config.encoders.items()}
        )
        widths = {name: (self.encoder(name).width, self.encoder(name).tokens) for name in config.encoders}
        fuser, layers = into_of(config.fuser)
        self.fuser = cast(nn.Module, build_fuser(fuser, widths, backbone.width))
        self.cross_attention = CrossAttentionLayers(layers, backbone.open_layers(), backbone.width) if layers is not None else None
        self.frame = prompt.frame_of(backbone.tokenizer)

    def encoder(self, name: str) -> Encoder:
        """Return the encoder of a modality."""
        return cast(Encoder, self.encoders[name])

    def prepare(self, record: PatientRecord, modalities: frozenset[str] | None = None) -> dict[str, Prepared]:
        """Return the network inputs of one record.

        Args:
            record: already cut at the prediction time.
            modalities: those to encode; None: all that the model has an encoder for.
        """
        wanted = set(self.config.encoders) if modalities is None else set(self.config.encoders) & modalities
        made = {name: prepare_modality(self.encoder(name), name, record) for name in self.config.encoders if name in wanted}
        return {name: one for name, one in made.items() if one is not None}

    def fuse(self, batch: Sequence[Mapping[str, Prepared]]) -> Fused:
        """Return the soft tokens of several prepared records."""
        device = next(self.fuser.parameters()).device
        present: dict[str, Present] = {}
        for name in self.config.encoders:
            rows = [row for row, prepared in enumerate(batch) if name in prepared]
            if rows:
                encoded = encode(self.encoder(name), [batch[row][name] for row in rows], device)
                present[name] = Present(torch.tensor(rows, device=device), encoded)
        return self.fuser(present, len(batch))  # type: ignore[no-any-return]

    def soft(self, fused: Fused, row: int) -> Tensor:
        """Return (T, D) the soft tokens in the prompt of one patient of a batch: none where the tokens go in by inserted layers."""
        tokens = fused.tokens[row][fused.mask[row]]
        return tokens if self.cross_attention is None else tokens[:0]

    def refuse_cases(self) -> None:
        """Refuse solved cases where tokens go in by inserted layers: every word would read the patient's tokens, a case's words too.

        Raises:
            ConfigError: they do.
        """
        if self.cross_attention is not None:
            raise ConfigError("Cannot show solved cases: this model's tokens go in by cross-attention layers. Use one with into: prefix.")

    def reading(self, fused: Fused) -> Reading | None:
        """Return what inserted layers read of a batch; None where the tokens go in by the prompt."""
        return None if self.cross_attention is None else self.cross_attention.reading(fused.tokens, fused.mask)

    @torch.inference_mode()
    def session(self, fused: Fused, *, uses_adapter: bool = True, turns: Sequence[prompt.Turn] = ()) -> Session:
        """Return a prefilled session about the one patient of a batch of one, its tokens in by the way that the settings say.

        `turns` are solved cases of others, which stand before it.
        """
        prefix = prompt.prefix(self.frame, self.soft(fused, 0), turns)
        return self.backbone.session(prefix, uses_adapter=uses_adapter, reading=self.reading(fused))

    def train_evidence(self, *, is_on: bool) -> None:
        """Let what brings evidence to the language model, fuser and inserted layers, be trained, or not."""
        for part in (self.fuser, self.cross_attention):
            if part is not None:
                part.requires_grad_(is_on)


def prepare_modality(encoder: Encoder, name: str, record: PatientRecord) -> Prepared | None:
    """Return the network input of one modality: its own items, and who the patient is; None when there are none to use."""
    own = [item for item in record.items if item.modality == name and item.category != "demographic"]
    if not own:
        return None
    return encoder.prepare([*own, *(item for item in record.items if item.category == "demographic")], clock(record))


def build_encoder(name: str, settings: Mapping[str, Any]) -> Encoder:
    """Return a fresh encoder of a modality from its settings.

    Raises:
        ModelError: the modality's plug-in declares no encoder.
    """
    modality = cast(Modality, registry.load("salus.modalities", name))
    if modality.build_encoder is None:
        raise ModelError(f"Cannot build an encoder for {name!r}: its plug-in declares none. Leave it out of the recipe.")
    try:
        return modality.build_encoder(settings)
    except TypeError as error:  # an unknown or wrongly typed setting
        raise ConfigError(f"Cannot build the encoder of {name!r}: {error}. Mend its settings.") from error


def build_backbone(name: str, *, expected: str | None = None) -> HuggingFaceBackbone:
    """Return the backbone that a name means: `embedded`, a folder or a hub id.

    Raises:
        ModelError: it cannot be loaded, or is not the one that the model was trained with.
    """
    if name == embedded.NAME:
        folder, identity = embedded.embedded_backbone()
        backbone = HuggingFaceBackbone.load(folder, identity)
    else:
        backbone = HuggingFaceBackbone.load(name, name)
        mark = backbone.fingerprint()
        backbone.identity = embedded.IDENTITY if mark == embedded.FINGERPRINT else f"{Path(name).name}@{mark}"
    if expected is not None and _hash_of(backbone.identity) != _hash_of(expected):
        raise ModelError(
            f"Cannot use backbone {backbone.identity!r}: this model was trained with {expected!r}. "
            "Leave --backbone out, or train an adapter for it."
        )
    return backbone


def _hash_of(identity: str) -> str:
    return identity.rpartition("@")[2]


def check_lora(settings: Mapping[str, Any]) -> None:
    """Refuse LoRA settings that are unknown or incomplete.

    Raises:
        ConfigError: names the first such setting.
    """
    for kind, names in (("unknown", set(settings) - LORA_SETTINGS), ("missing", {"r", "alpha"} - set(settings))):
        if names:
            raise ConfigError(f"Cannot use lora settings: {min(names)!r} is {kind}. Settings: {', '.join(sorted(LORA_SETTINGS))}.")


def add_lora(backbone: HuggingFaceBackbone, settings: Mapping[str, Any]) -> None:
    """Put fresh LoRA weights (float32) into a backbone.

    Args:
        backbone: changed in place.
        settings: `r` rank, `alpha` scale, `targets` names of linear layers or `all-linear`, `dropout`.

    Source: Hu et al. 2021, arXiv 2106.09685, through PEFT.
    """
    check_lora(settings)
    from peft import LoraConfig, get_peft_model

    targets = settings.get("targets", "all-linear")
    config = LoraConfig(
        r=int(settings["r"]),
        lora_alpha=settings["alpha"],
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=float(settings.get("dropout", 0.0)),
        task_type="CAUSAL_LM",
    )
    backbone.model = get_peft_model(backbone.model, config)


def own_tensors(model: SalusModel) -> dict[str, Tensor]:
    """Return the tensors that belong to the model folder: encoders, fuser, inserted layers and adapter, never the backbone's own."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("backbone.")}
    state |= {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.") and ".lora_" in name}
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def save_model(model: SalusModel, folder: Path, config: ModelConfig, card: str) -> None:
    """Write a model folder.

    Args:
        model: its own tensors are written, the backbone's are not.
        folder: made when missing; files are replaced.
        config: written as `config.json` with the list of tensors.
        card: text of the README card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: _stored(tensor) for name, tensor in own_tensors(model).items()}
    adapter = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    rest = {name: tensor for name, tensor in tensors.items() if name not in adapter}
    save_file(rest, str(folder / "model.safetensors"), metadata={"format": "pt"})
    if adapter:
        (folder / "adapter").mkdir(exist_ok=True)
        renamed = {_peft_name(name): tensor for name, tensor in adapter.items()}
        save_file(renamed, str(folder / "adapter" / "adapter_model.safetensors"), metadata={"format": "pt"})
        peft_config = copy.copy(model.backbone.model.peft_config["default"])
        peft_config.base_model_name_or_path = config.backbone_identity  # never a folder of this machine
        peft_config.save_pretrained(str(folder / "adapter"))
    listed = {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in sorted(tensors.items())
    }
    text = json.dumps({**asdict(config), "tensors": listed}, indent=1, default=str)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _stored(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 and tensor.numel() > 4096 else tensor


def _peft_name(name: str) -> str:
    return name.removeprefix("backbone.model.").replace(".default.weight", ".weight")


def load_config(folder: Path) -> tuple[ModelConfig, dict[str, dict[str, Any]]]:
    """Return a model folder's configuration and its list of tensors.

    Raises:
        ModelError: there is no `config.json`, or it is of another format.
        ConfigError: a key is unknown or has the wrong type.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(f"Cannot load model '{folder}': it has no config.json. Give a folder that `salus train` made.")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = f", line {error.lineno}," if isinstance(error, json.JSONDecodeError) else ""
        raise ModelError(f"Cannot load model '{folder}': config.json{line} is not JSON. Restore the file.") from None
    if not isinstance(tree, dict):
        raise ModelError(f"Cannot load model '{folder}': the top level of config.json is not a mapping. Restore the file.")
    listed = tree.pop("tensors", {})
    if tree.get("format") != FORMAT:
        raise ModelError(
            f"Cannot load model '{folder}': format {tree.get('format')!r}, this program reads {FORMAT}. Use the matching version."
        )
    return settings_from(ModelConfig, tree, str(path)), listed


def load_model(folder: Path, *, backbone: str | None = None) -> SalusModel:
    """Return a model from its folder, in evaluation mode.

    Args:
        folder: written by `save_model`.
        backbone: another place of the same backbone; None: the one that the folder names.

    Raises:
        ModelError: a tensor is missing, extra or misshapen; the backbone is not the one that the adapter was trained for.
    """
    config, listed = load_config(folder)
    model = SalusModel(config, build_backbone(backbone or config.backbone, expected=config.backbone_identity))
    if config.lora is not None:
        add_lora(model.backbone, config.lora)
    found = _read_tensors(folder / "model.safetensors")
    if config.lora is not None:
        for name, tensor in _read_tensors(folder / "adapter" / "adapter_model.safetensors").items():
            found["backbone.model." + name.replace(".weight", ".default.weight")] = tensor
    load_tensors(model, found, str(folder), listed)
    return model.eval()


def load_tensors(model: SalusModel, found: Mapping[str, Tensor], where: str, listed: Mapping[str, Any] | None = None) -> None:
    """Put tensors into a model; every one must be there, none may be extra, each must have its shape.

    Raises:
        ModelError: names the first tensor that does not fit and how many more.
    """
    wanted = own_tensors(model)
    expected = set(wanted) | set(listed or {})
    missing, extra = sorted(expected - set(found)), sorted(set(found) - set(wanted))
    shapes = [name for name in sorted(set(wanted) & set(found)) if wanted[name].shape != found[name].shape]
    for kind, names in (("is missing", missing), ("is not part of this model", extra), ("has another shape", shapes)):
        if names:
            detail = (
                f" ({tuple(found[names[0]].shape)} in the file, {tuple(wanted[names[0]].shape)} in the model)"
                if kind == "has another shape"
                else ""
            )
            raise ModelError(
                f"Cannot load model '{where}': tensor {names[0]!r} {kind}{detail}; {len(names)} such in all. "
                "Restore the folder from where you got it; nothing was loaded."
            )
    state = model.state_dict()
    for name, tensor in found.items():
        state[name].copy_(tensor)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ModelError(f"Cannot load model '{path.parent}': {path.name} is missing. Restore the folder; nothing was loaded.")
    try:
        with safe_open(str(path), framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  (not a mapping)
    except SafetensorError as error:
        raise ModelError(
            f"Cannot load model '{path.parent}': {path.name} is damaged ({error}). Restore the folder; nothing was loaded."
        ) from None
