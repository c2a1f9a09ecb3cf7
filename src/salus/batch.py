"""Many records at once: the prompts of `salus.pipeline`, encoded and scored in batches. Training and evaluation both use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from salus.encode.encoder import Encoded, Prepared, encode
from salus.fuse.fuser import Fused, Present
from salus.model import SalusModel
from salus.pipeline import option_facts
from salus.reason import prompt
from salus.reason.backbone import Piece
from salus.record.patient import PatientRecord


@dataclass(frozen=True)
class Shot:
    """A solved case of another patient, as an earlier turn of a prompt; its soft tokens are made with those of the patient."""

    encoded: Mapping[str, Encoded]
    """Modality → vectors of that one patient (B = 1)."""
    asked: tuple[int, ...]
    """Token ids from the end of its soft tokens to the end of its answer and what follows, up to the next record."""

    @property
    def tokens(self) -> int:
        """Tokens of it, for batching."""
        return len(self.asked) + sum(1 + int(one.mask.sum()) for one in self.encoded.values())


@dataclass(frozen=True)
class LanguageExample:
    """One prompt with the answer that is wanted."""

    encoded: Mapping[str, Encoded]
    """Modality → vectors of this one patient (B = 1); encoders are frozen, so they are computed once."""
    asked: tuple[int, ...]
    """Token ids after the soft tokens, up to where the answer starts."""
    answer: tuple[int, ...]
    """Token ids of the answer and its end mark."""
    options: tuple[int, ...] = ()
    """First token of each option, where they differ."""
    right: int = -1
    """Place of the right option."""
    target: tuple[float, ...] = ()
    """Probability wanted of each option, where a teacher softens the right one; empty: all for the right one."""
    shots: tuple[Shot, ...] = ()
    """Stand before it, in this order."""

    @property
    def tokens(self) -> int:
        """Tokens of text and of the cases before it, for batching."""
        return len(self.asked) + len(self.answer) + sum(shot.tokens for shot in self.shots)


@torch.inference_mode()
def encoded_record(model: SalusModel, prepared: Mapping[str, Prepared]) -> dict[str, Encoded]:
    """Return the vectors of one prepared record, by modality."""
    return {name: encode(model.encoder(name), [one]) for name, one in prepared.items()}


def make_example(
    model: SalusModel, encoded: Mapping[str, Encoded], asked: str, answer: str, options: Sequence[str] = ()
) -> LanguageExample:
    """Return the example of one prompt text and answer."""
    backbone = model.backbone
    ids = backbone.ids(asked) + backbone.ids(model.frame.after_question, is_frame=True)
    first = tuple(backbone.ids(option)[0] for option in options)
    first = first if len(set(first)) == len(first) else ()
    right = list(options).index(answer) if first and answer in options else -1
    return LanguageExample(encoded, tuple(ids), (*backbone.ids(answer), *backbone.end_ids[:1]), first, right)


def make_shot(model: SalusModel, encoded: Mapping[str, Encoded], question: str, options: Sequence[str], answer: str) -> Shot:
    """Return a solved case with the tokens of `prompt.turn_pieces`: no facts and no words of its record."""
    frame, ids = model.frame, model.backbone.ids
    before, after = ids(frame.after_record, is_frame=True), ids(frame.after_question, is_frame=True)
    asked = ids(prompt.question_text(question, [], options))
    return Shot(encoded, (*before, *asked, *after, *ids(answer), *ids(frame.after_answer, is_frame=True)))


def option_prompt(record: PatientRecord, question: str, options: Sequence[str]) -> str:
    """Return the words of a question with options, as the pipeline asks it."""
    return prompt.question_text(question, [fact.text for fact in option_facts(record, question)], options)


def fused_batch(model: SalusModel, batch: Sequence[LanguageExample]) -> Fused:
    """Return the soft tokens of a batch of encoded records; after them, those of the cases before each, in order."""
    device = next(model.fuser.parameters()).device
    given: list[LanguageExample | Shot] = [*batch, *(shot for example in batch for shot in example.shots)]
    present: dict[str, Present] = {}
    for name in model.config.encoders:
        rows = [row for row, one in enumerate(given) if name in one.encoded]
        if rows:
            parts = [given[row].encoded[name] for row in rows]
            joined = Encoded(
                torch.cat([part.values for part in parts]).to(device),
                torch.cat([part.mask for part in parts]).to(device),
                torch.cat([part.time_s for part in parts]).to(device),
            )
            present[name] = Present(torch.tensor(rows, device=device), joined)
    fused: Fused = model.fuser(present, len(given))
    return fused


def answer_logits(
    model: SalusModel, batch: Sequence[LanguageExample], *, uses_adapter: bool = True, fused: Fused | None = None
) -> list[Tensor]:
    """Return for each example the (answer tokens, vocabulary) logits that predict its answer, float32."""
    backbone = model.backbone
    fused = fused_batch(model, batch) if fused is None else fused
    before = backbone.embed([Piece(text=model.frame.before_record, is_frame=True)])
    after = backbone.embed([Piece(text=model.frame.after_record, is_frame=True)])
    table = backbone.core.get_input_embeddings()
    soft = [model.soft(fused, row).to(table.weight.dtype) for row in range(len(fused.tokens))]
    device, earlier = table.weight.device, len(batch)
    if len(soft) > earlier:
        model.refuse_cases()
    rows, starts = [], []
    for row, example in enumerate(batch):
        shown = []
        for shot in example.shots:
            shown += [soft[earlier], table(torch.tensor(shot.asked, device=device))]
            earlier += 1
        text = table(torch.tensor([*example.asked, *example.answer[:-1]], device=device))
        rows.append(torch.cat([before, *shown, soft[row], after, text]))
        starts.append(len(rows[-1]) - len(text) + len(example.asked) - 1)
    embeds = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    attention = torch.zeros(embeds.shape[:2], dtype=torch.long, device=embeds.device)
    for row, one in enumerate(rows):
        attention[row, : len(one)] = 1
    with backbone.adapter(is_on=uses_adapter):
        hidden = backbone.hidden(embeds, attention, model.reading(fused))
    lengths = [len(example.answer) for example in batch]
    picked = torch.cat([hidden[row, start : start + length] for row, (start, length) in enumerate(zip(starts, lengths, strict=True))])
    return list(backbone.logits(picked).split(lengths))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class OptionQuestion:
    """One encoded record with a question and its options."""

    encoded: Mapping[str, Encoded]
    asked: str
    """From `option_prompt`."""
    options: tuple[str, ...]
    shots: tuple[Shot, ...] = ()
    """Solved cases before it, in this order."""


@torch.inference_mode()
def option_logprobs(model: SalusModel, questions: Sequence[OptionQuestion], *, batch_size: int = 16) -> list[list[float]]:
    """Return the log-probability of each option as the whole answer, end mark left out; as `Session.option_logprobs`, in batches.

    Without the adapter: options are judged by the language model that the projector was trained for.
    """
    model.eval()
    rows = [
        (place, option, replace(make_example(model, question.encoded, question.asked, text), shots=question.shots))
        for place, question in enumerate(questions)
        for option, text in enumerate(question.options)
    ]
    single = all(len(example.answer) == 2 for _, _, example in rows)
    if single:  # one forward pass serves all options of a question
        rows = [row for row in rows if row[1] == 0]
    rows.sort(key=lambda row: row[2].tokens)
    scores = [[0.0] * len(question.options) for question in questions]
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        for (place, option, example), logits in zip(
            chunk, answer_logits(model, [row[2] for row in chunk], uses_adapter=False), strict=True
        ):
            logprobs = logits[:-1].log_softmax(-1)
            if single:
                scores[place] = [float(logprobs[0, model.backbone.ids(text)[0]]) for text in questions[place].options]
            else:
                scores[place][option] = float(logprobs[torch.arange(len(logprobs)), torch.tensor(example.answer[:-1])].sum())
    return scores
