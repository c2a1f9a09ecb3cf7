"""In-context learning: solved cases of other patients, found by how alike they are, shown before a question with options.

`build_cases` makes an index from a task's `train` examples; `ask_with_cases` answers one question about an open record beside the most
similar of them. Each case brings its own modalities as soft tokens, encoded and fused as the patient's, its question, options and answer:
no facts, notes or other words of its record, so that nothing of another patient can be cited or quoted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from salus.batch import LanguageExample, encoded_record, fused_batch
from salus.encode.encoder import Encoded
from salus.errors import ConfigError, ModelError
from salus.fuse.token_sets import Tokens
from salus.generate.answer import Answer
from salus.model import SalusModel, own_tensors
from salus.pipeline import OpenRecord, ask, option_facts
from salus.reason import prompt
from salus.reason.cases import Case, CaseIndex, Origin, Vectors, Wanted, hashed, kept_keys, person_keys
from salus.reason.prompt import Turn
from salus.reason.shots import Shown, fitting, tokens_of
from salus.task import Example, Task

Progress = Callable[[str, float], None]
ROWS = 64
"""Patients that are fused at once."""


class Embedder(Protocol):
    """What puts patients into the space in which cases are compared, such as `FusedEmbedder` or an aligned space."""

    identity: str
    """Name and hash: an index that was made with another one is refused."""

    def embed(self, encoded: Sequence[Mapping[str, Encoded]]) -> NDArray[np.float32]:
        """Return (n, D) rows of norm 1, or of zeros where a patient has nothing that can be compared.

        Args:
            encoded: of each patient, modality → vectors (B = 1).
        """
        ...


class FusedEmbedder:
    """The model's own space: the vector of each modality before they are joined (`Fused.parts`), each of norm 1, side by side.

    The inner product of two patients is then the mean cosine over the modalities of both, less where one has others. Strategies whose
    parts are not in one place for all patients can be compared by the joined vector (`Fused.pooled`).
    """

    def __init__(self, model: SalusModel, *, joined: bool = False) -> None:
        """Take the model's own fuser.

        Args:
            model: with trained encoders and fuser.
            joined: compare by `Fused.pooled`.
        """
        self.model, self.joined = model, joined
        self.identity = f"{'pooled' if joined else 'parts'}@{tensors_hash(model, 'encoders.', 'fuser.')}"

    @torch.inference_mode()
    def embed(self, encoded: Sequence[Mapping[str, Encoded]]) -> NDArray[np.float32]:
        """Return (n, D), D the sum of the parts' widths or the joined vector's; see `Embedder`."""
        made = []
        for start in range(0, len(encoded), ROWS):
            fused = fused_batch(self.model, [LanguageExample(one, (), ()) for one in encoded[start : start + ROWS]])
            vectors = fused.pooled if self.joined else torch.nn.functional.normalize(fused.parts.float(), dim=-1).flatten(1)
            made.append(torch.nn.functional.normalize(vectors.float(), dim=-1) * fused.weights.any(1, keepdim=True))
        return torch.cat(made).cpu().numpy() if made else np.zeros((0, 0), np.float32)


class SharedSpaceEmbedder:
    """A space that several modalities share, such as an aligned one: the mean of a patient's vectors in it, of norm 1.

    Example:
        `SharedSpaceEmbedder(aligner.embed, identity="aligned@1f2e", modalities=("radiograph", "notes"))`, with an aligner that was
        fitted on the tokens of this model's encoders.
    """

    def __init__(self, embed: Callable[[str, Tokens], NDArray[np.float32]], *, identity: str, modalities: Sequence[str]) -> None:
        """Take the function.

        Args:
            embed: modality and the tokens of n patients → (n, S) of norm 1, NaN for who has none.
            identity: name and hash of the space.
            modalities: that the space holds; others are passed over.
        """
        self.one, self.identity, self.modalities = embed, identity, tuple(modalities)

    def embed(self, encoded: Sequence[Mapping[str, Encoded]]) -> NDArray[np.float32]:
        """Return (n, S); see `Embedder`."""
        total: NDArray[np.float32] | None = None
        for name in self.modalities:
            rows = [row for row, one in enumerate(encoded) if name in one]
            if rows:
                own = _stacked(encoded, name)
                made = np.nan_to_num(self.one(name, Tokens(own.values, own.mask, own.time_s)))
                total = np.zeros((len(encoded), made.shape[1]), np.float32) if total is None else total
                total[rows] += made
        if total is None:
            return np.zeros((len(encoded), 1), np.float32)
        return cast(NDArray[np.float32], total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True)
class Choice:
    """How many cases are shown, and which."""

    shots: int = 4
    """At most; fewer where the index or the context has no more."""
    balanced: bool = False
    """Whether the answers take turns."""
    most_tokens: int | None = None
    """Of the whole prompt; None: what the language model holds."""


def tensors_hash(model: SalusModel, *beginnings: str) -> str:
    """Return 12 hex digits of the settings and of the tensors whose names begin so, as they are kept in a model folder (bfloat16)."""
    digest = hashlib.sha256(json.dumps([model.config.encoders, model.config.fuser], sort_keys=True, default=str).encode())
    for name, tensor in sorted(own_tensors(model).items()):
        if name.startswith(beginnings):
            kept = tensor.to(torch.bfloat16).view(torch.int16) if tensor.is_floating_point() else tensor
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + kept.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def encoders_hash(model: SalusModel) -> str:
    """Return 12 hex digits of what makes the vectors of a case."""
    return tensors_hash(model, "encoders.")


def build_cases(model: SalusModel, task: Task, examples: Sequence[Example], embedder: Embedder, *, progress: Progress) -> CaseIndex:
    """Return an index of a task's examples; those without options, or with nothing that can be compared, are left out.

    Args:
        model: encodes them.
        task: says which modalities are shown.
        examples: of `train`.
        embedder: gives the vectors by which cases are found.
        progress: called with words and a share of 1.

    Raises:
        ConfigError: no example is left.
        MissingExtra: FAISS is not installed.
    """
    kept: list[tuple[Case, Mapping[str, Encoded]]] = []
    asked = [example for example in examples if example.options]
    for place, example in enumerate(asked):
        record = example.record()
        encoded = encoded_record(model, model.prepare(record, frozenset(task.modalities)))
        keys = kept_keys(record, (example.subject_id,))
        kept.append((Case(hashed(example.id), example.question, example.options, example.answer, keys), encoded))
        progress(f"{task.name}: reading cases", (place + 1) / len(asked))
    embeddings = embedder.embed([encoded for _, encoded in kept])
    there = [place for place in range(len(kept)) if embeddings[place].any()]
    if not there:
        raise ConfigError(f"Cannot make cases of {task.name!r}: no example has options and a modality that this model reads.")
    chosen = [kept[place][1] for place in there]
    vectors = {name: _stacked(chosen, name) for name in task.modalities if any(name in one for one in chosen)}
    origin = Origin(task.name, embedder.identity, encoders_hash(model), tuple(vectors))
    return CaseIndex([kept[place][0] for place in there], embeddings[there], origin, vectors)


def _stacked(encoded: Sequence[Mapping[str, Encoded]], name: str) -> Vectors:
    rows = [row for row, one in enumerate(encoded) if name in one]
    parts = (torch.cat([getattr(encoded[row][name], part) for row in rows]).cpu().numpy() for part in ("values", "mask", "time_s"))
    return Vectors(np.array(rows, np.int64), *parts)


def case_encoded(index: CaseIndex, place: int, modalities: frozenset[str]) -> dict[str, Encoded]:
    """Return what the encoders gave for one case, of some modalities."""
    made = {}
    for name, one in index.vectors.items():
        at = int(np.searchsorted(one.rows, place))
        if name in modalities and at < len(one.rows) and one.rows[at] == place:
            made[name] = Encoded(*(torch.from_numpy(array[at : at + 1].copy()) for array in (one.values, one.mask, one.time_s)))
    return made


@torch.inference_mode()
def turns_of(model: SalusModel, index: CaseIndex, places: Sequence[int], modalities: frozenset[str]) -> list[Turn]:
    """Return cases as earlier turns of the prompt, in the order given; each fused alone, as the patient is."""
    turns = []
    for place in places:
        case = index.cases[place]
        fused = fused_batch(model, [LanguageExample(case_encoded(index, place, modalities), (), ())])
        turns.append(Turn(fused.tokens[0][fused.mask[0]], prompt.question_text(case.question, [], case.options), case.answer))
    return turns


def shown_beside(
    opened: OpenRecord, question: str, options: Sequence[str], *, cases: CaseIndex, embedder: Embedder, choice: Choice
) -> Shown:
    """Return the cases that are shown before a question: the most similar of other patients that fit the context.

    Raises:
        ConfigError, ModelError: as of `ask_with_cases`.
    """
    model, tokens = opened.model, opened.model.backbone.ids
    if not options or choice.shots < 0:
        raise ConfigError("Cannot show cases: that is for a question with options, and a number of cases of 0 or more. Give --options.")
    if not model.frame.after_answer:
        raise ConfigError("Cannot show cases: the chat template of this language model takes no earlier turns. Use another backbone.")
    model.refuse_cases()
    _refuse_other_model(model, cases, embedder)
    modalities = frozenset(cases.origin.modalities) & (opened.present | model.config.interpreted)
    prepared = {name: one for name, one in opened.prepared.items() if name in modalities}
    query = embedder.embed([encoded_record(model, prepared)])[0]
    most = choice.shots if query.any() else 0
    wanted = Wanted(question, tuple(options), most, person_keys(opened.record), choice.balanced)
    cases.refuse_other_options(options)
    found = cases.nearest(query, wanted) if most else []
    turns = turns_of(model, cases, [one.place for one in reversed(found)], modalities)
    fused = fused_batch(model, [LanguageExample(encoded_record(model, prepared), (), ())])
    patient = prompt.prefix(model.frame, fused.tokens[0][fused.mask[0]])
    own = tokens_of([*patient, *prompt.question(model.frame, question, option_facts(opened.record, question), options)], tokens)
    room = min(choice.most_tokens or model.backbone.context_length, model.backbone.context_length)
    costs = [tokens_of(prompt.turn_pieces(model.frame, turn), tokens) for turn in turns]
    kept = fitting(turns, costs, room - own - max(len(tokens(option)) for option in options))
    why = "" if query.any() else "; this record has nothing that could be compared with them"
    index = f"index {cases.origin.name!r}, {cases.fingerprint}: {len(cases)} cases of {cases.patients} patients"
    words = (
        f"{len(kept)} of {choice.shots} similar cases of other patients, with their answers, stood before the question ({index}){why}. "
        "Nothing of them is evidence here."
    )
    return Shown(kept, modalities, cases.fingerprint, words)


def ask_with_cases(
    opened: OpenRecord,
    question: str,
    options: Sequence[str],
    *,
    cases: CaseIndex,
    embedder: Embedder | None = None,
    choice: Choice | None = None,
) -> Answer:
    """Return the answer to a question with options, asked beside similar cases; with 0 cases, that of `salus.pipeline.ask`.

    Probabilities are calibrated only where a calibration was fitted with as many cases of this index. Statements, items and
    quotations of the answer are of this patient alone.

    Args:
        opened: from `open_record`.
        question: in English.
        options: declared options; a case must have the same.
        cases: from `build_cases` or `load_cases`; a case of the same patient is never shown.
        embedder: what the index was made with; None: `FusedEmbedder` of the model.
        choice: how many and which; None: 4, the most similar.

    Raises:
        ConfigError: there are no options, or no case has them.
        ModelError: the index was made with another embedding or other encoders.
        ContextLengthError: the question does not fit even without cases.
    """
    choice = choice or Choice()
    if options and choice.shots == 0:
        return ask(opened, question, options)
    embedder = FusedEmbedder(opened.model) if embedder is None else embedder
    shown = shown_beside(opened, question, options, cases=cases, embedder=embedder, choice=choice)
    return ask(opened, question, options, shown=shown)


def _refuse_other_model(model: SalusModel, cases: CaseIndex, embedder: Embedder) -> None:
    encoders = encoders_hash(model)
    for what, own, other in (("embedding", embedder.identity, cases.origin.embedder), ("encoders", encoders, cases.origin.encoders)):
        if own != other:
            raise ModelError(f"Cannot show cases: they were made with {what} {other!r}, this model has {own!r}. Make them again.")
