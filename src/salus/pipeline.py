"""record -> encode -> fuse -> reason -> generate -> answer. READ THIS FIRST.

`open_record` does once per patient what every question shares: it cuts the record at the prediction time, encodes each modality,
fuses them into tokens and prefills the language model. `ask` then looks facts up by code, lets the model choose and word them,
verifies every line against the facts, and returns one `Answer`. Nothing here reads files, trains, or governs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from salus import registry
from salus.encode.encoder import Prepared
from salus.fuse.fuser import item_ids
from salus.generate.answer import Answer, Disclosure, OptionScore, Statement
from salus.generate.ground import uncited, verify
from salus.model import OptionCalibration, SalusModel, StatementCalibration
from salus.reason import prompt
from salus.reason.backbone import Session
from salus.reason.facts import Fact
from salus.reason.lists import demographics, excerpts
from salus.reason.retrieve import Retrieved, look_up
from salus.reason.shots import Shown
from salus.record.patient import ObservedTime, PatientRecord
from salus.record.read.declared_clock import mixed_zones
from salus.record.timeline import cut, format_time

SUBJECT_FACTS = 6
"""Facts in the prompt of a question whose words say what it is about and which kind of fact it wants."""
OPEN_FACTS = 10
"""Facts in the prompt of a question that names what it is about and leaves the kind of fact to the language model."""
OVERVIEW_FACTS = 20
"""Facts in the prompt of `what changed, what matters`."""
UNMATCHED_FACTS = 6
"""Facts in the prompt of a question that names nothing known."""
OPTION_EXCERPTS = 4
"""Sentences of notes in the prompt of a question with options."""
MOST_CERTAIN = 0.99
"""A certainty above this counts as this."""
SPARE_TOKENS = 20
"""Tokens that an answer may have beyond all of its facts."""
UNCALIBRATED = "the probabilities are uncalibrated and are not an answer."
NOTHING_FOUND = "Nothing in this record that could be looked up answers the question."
WITHHELD_ALL = (
    "What the model wrote did not pass its check against the record. Ask about one thing at a time, or name the measurement or list."
)
ItemIds = tuple[tuple[str, ...], ...]
UNDECLARED = "Content of no declared modality: shown, not interpreted. Say what its files are in salus-cohort.yaml (`files: modality`)."
MOST_TOKENS = 1200
"""Longest answer, language-model tokens."""


@dataclass(frozen=True)
class OpenRecord:
    """A record that was encoded and prefilled once, ready for questions."""

    record: PatientRecord
    model: SalusModel
    prepared: Mapping[str, Prepared]
    """Network inputs by modality, of those that are interpreted and present."""
    sessions: dict[str, Session]
    """`write` (with the adapter)."""
    judges: dict[frozenset[str], tuple[Session, ItemIds]]
    """Modalities → the session without the adapter that sees them, made for the first question with options that needs it."""
    prediction_time: ObservedTime | None
    soft_item_ids: ItemIds
    """Items behind each token that the language model sees when it writes, in the prompt or by inserted layers."""
    present: frozenset[str]
    """Modalities that can reach the language model as tokens."""
    limits: tuple[str, ...]
    seconds: dict[str, float]


@torch.inference_mode()
def open_record(
    record: PatientRecord,
    model: SalusModel,
    *,
    at: ObservedTime | None = None,
    interpret: frozenset[str] | None = None,
    unread: str | None = None,
) -> OpenRecord:
    """Return the record, encoded, fused and prefilled.

    Args:
        record: one patient, as read.
        model: from `salus.model.load_model`.
        at: prediction time; nothing observed later is used. None: everything in the record.
        interpret: modalities given to the model as soft tokens; None: those whose evaluation has passed.
        unread: what of the patient's files is not in the record (`ReadReport.unread`); every answer says it.
    """
    started = time.perf_counter()
    limits = [unread] if unread else []
    if at is not None:
        kept = cut(record, at)
        record = kept.record
        limits.append(f"Cut at {format_time(at)}: {kept.dropped_after} later and {kept.dropped_untimed} undated items were not used.")
    if (zones := mixed_zones(record)) is not None:
        limits.append(zones)
    allowed = model.config.interpreted if interpret is None else interpret
    prepared = model.prepare(record, allowed)
    encoded_at = time.perf_counter()
    later = set(model.config.fuser.get("untold", ()))
    session, behind = _session(model, {name: one for name, one in prepared.items() if name not in later}, uses_adapter=True)
    sessions: dict[str, Session] = {"write": session}
    limits += _imputed(model, prepared)
    limits += _not_interpreted(record, allowed)
    done = time.perf_counter()
    seconds = {"encode": encoded_at - started, "fuse_and_prefill": done - encoded_at}
    return OpenRecord(record, model, prepared, sessions, {}, at, behind, frozenset(prepared), tuple(limits), seconds)


def _title(name: str) -> str:
    return str(registry.load("salus.modalities", name).title)


@torch.inference_mode()
def _session(
    model: SalusModel, prepared: Mapping[str, Prepared], *, uses_adapter: bool, turns: Sequence[prompt.Turn] = ()
) -> tuple[Session, ItemIds]:
    """Return a session that is given these modalities, after cases of others, and the items behind each of the patient's tokens."""
    fused = model.fuse([prepared])
    session = model.session(fused, uses_adapter=uses_adapter, turns=turns)
    return session, item_ids(fused, 0, {name: one.item_ids for name, one in prepared.items()})


def _imputed(model: SalusModel, prepared: Collection[str]) -> Iterator[str]:
    for name in prepared:
        how = model.config.encoders[name].get("imputation", "none")
        if how != "none":
            title = _title(name)
            yield f"{title[:1].upper()}{title[1:]}: missing values were filled in ({how}) before the network read them."


def _not_interpreted(record: PatientRecord, allowed: frozenset[str]) -> Iterator[str]:
    for name in sorted({item.modality for item in record.items if item.content is not None or item.number is not None} - allowed):
        if name not in registry.names("salus.modalities"):
            yield UNDECLARED
            continue
        title = _title(name)
        yield f"{title[:1].upper()}{title[1:]}: shown and measured by rule, not interpreted (no passing evaluation of this modality)."


def ask(
    opened: OpenRecord,
    question: str,
    options: Sequence[str] = (),
    *,
    on_statement: Callable[[Statement], None] | None = None,
    shown: Shown | None = None,
) -> Answer:
    """Return the answer to one question about an open record.

    Args:
        opened: from `open_record`; may be asked any number of questions.
        question: in English.
        options: declared options; each gets a probability.
        on_statement: called with every statement as soon as it is verified (streaming).
        shown: solved cases before a question with options (`salus.in_context.ask_with_cases` finds them); never evidence.

    Raises:
        ContextLengthError: question and facts do not fit the language model.
    """
    started = time.perf_counter()
    seconds = dict(opened.seconds)
    statements: list[Statement] = []
    scores: tuple[OptionScore, ...] = ()
    behind: tuple[str, ...] = ()
    abstained: str | None = None
    if options:
        scores, behind, abstained = _choose(opened, question, options, shown)
    else:
        retrieved = facts_for(opened.record, question)
        for statement in _write(opened, question, retrieved):
            statements.append(statement)
            if on_statement is not None:
                on_statement(statement)
        if not any(statement.is_standing for statement in statements):
            is_withheld = any(statement.verification == "withheld" for statement in statements)
            abstained = WITHHELD_ALL if is_withheld else NOTHING_FOUND
    seconds["answer"] = time.perf_counter() - started
    at = None if opened.prediction_time is None else format_time(opened.prediction_time)
    return Answer(
        question,
        opened.record.subject_id,
        at,
        tuple(statements),
        scores,
        behind,
        abstained,
        (*opened.limits, *([shown.words] if shown and options else ())),
        disclosure(opened.model),
        seconds,
    )


def facts_for(record: PatientRecord, question: str) -> Retrieved:
    """Return the facts that go into the prompt of a question."""
    found = look_up(record, question, budget=OVERVIEW_FACTS)
    about = SUBJECT_FACTS if found.asked else OPEN_FACTS
    most = about if found.subjects else OVERVIEW_FACTS if found.is_overview else UNMATCHED_FACTS
    return replace(found, facts=found.sought[: max(most, len(found.owed))])


def option_facts(record: PatientRecord, question: str) -> tuple[Fact, ...]:
    """Return the facts that go into the prompt of a question with options: who the patient is, and what the notes say of it."""
    return (*demographics(record), *excerpts(record, question, top=OPTION_EXCERPTS))


def _write(opened: OpenRecord, question: str, retrieved: Retrieved) -> Iterator[Statement]:
    facts = retrieved.facts
    if not facts:
        return
    model = opened.model
    is_short = bool(retrieved.subjects)
    lines = [prompt.guesses_of(fact, number, is_short=is_short) for number, fact in enumerate(facts, start=1)]
    drafts = [guess for guesses in lines for guess in guesses]
    pieces = prompt.question(model.frame, question, facts)
    seen: set[tuple[str, ...]] = set()
    supported: list[str] = []
    most = sum(len(model.backbone.ids(guesses[0])) + 1 for guesses in lines) + SPARE_TOKENS
    for line in opened.sessions["write"].write(pieces, drafts, max_new_tokens=min(most, MOST_TOKENS)):
        checked = verify(line.text, facts, asked=retrieved.asked, names_subject=not is_short)
        checked = replace(checked, mean_logprob=line.mean_logprob, certainty=retrieved.certainty)
        statement = with_confidence(checked, model.config.statement_calibration)
        said = {(statement.text, *statement.item_ids)} | ({(uncited(line.text),)} if not is_short else set())
        if said & seen:  # the model goes in circles
            break
        seen |= said
        if line.text:
            supported.append(statement.support)
            yield statement
        if retrieved.is_overview and not statement.is_standing:  # one wrong line of a long answer is followed by more
            break
    for fact in retrieved.owed:
        if not any(fact.text in support for support in supported):
            yield _added(fact)


def _added(fact: Fact) -> Statement:
    """Return the statement of a fact that the answer must not leave out, where the model left it out: code's words, and marked `added`.

    It has no confidence: the calibration is of what the model chooses, and here it chose nothing.
    """
    return Statement(fact.text, fact.item_ids, None, "added", fact.short, fact.text)


def calibration_features(statement: Statement) -> tuple[float, float, float]:
    """Return what the confidence of a statement is made of: mean log-probability, whether it was mended, log-odds of the certainty."""
    certainty = min(max(statement.certainty, 1.0 - MOST_CERTAIN), MOST_CERTAIN)
    return statement.mean_logprob, float(statement.verification == "mended"), math.log(certainty / (1.0 - certainty))


def with_confidence(statement: Statement, calibration: StatementCalibration | None) -> Statement:
    """Return the statement with its calibrated confidence; below the threshold it is withheld."""
    if calibration is None or statement.verification not in {"verified", "mended"}:
        return statement
    weights = (calibration.logprob, calibration.mended, calibration.certainty)
    logit = calibration.intercept + sum(
        weight * value for weight, value in zip(weights, calibration_features(statement), strict=True)
    )
    confidence = 1.0 / (1.0 + math.exp(-logit))
    if confidence < calibration.threshold:
        return replace(statement, confidence=confidence, verification="withheld")
    return replace(statement, confidence=confidence)


def _choose(
    opened: OpenRecord, question: str, options: Sequence[str], shown: Shown | None
) -> tuple[tuple[OptionScore, ...], tuple[str, ...], str | None]:
    model, turns = opened.model, shown.turns if shown else ()
    calibration = calibration_for(model, question, options, shown)
    facts = option_facts(opened.record, question)
    given = frozenset(calibration.modalities) if calibration else shown.modalities if shown and turns else opened.present
    session, soft = _judge(opened, given, turns)
    logprobs = session.option_logprobs(prompt.question(model.frame, question, facts, options), options)
    probabilities = option_probabilities(logprobs, options, calibration)
    scores = tuple(
        OptionScore(option, probability, calibration is not None) for option, probability in zip(options, probabilities, strict=True)
    )
    behind = tuple(dict.fromkeys(item for token in soft for item in token))
    behind = tuple(dict.fromkeys((*behind, *(item for fact in facts for item in fact.item_ids))))
    if calibration is None:
        beside = f" beside {len(turns)} solved cases" if turns else ""
        return scores, behind, f"No evaluation of this question{beside} has passed: {UNCALIBRATED}"
    if not opened.present & set(calibration.modalities):
        return (), behind, f"This record has no {' or '.join(_title(name) for name in calibration.modalities)} that could be interpreted."
    return scores, behind, None


def _judge(opened: OpenRecord, modalities: frozenset[str], turns: Sequence[prompt.Turn] = ()) -> tuple[Session, ItemIds]:
    """Return the session without the adapter, and the items behind its soft tokens.

    LoRA is trained to write facts, the projector to be judged by the model as it is; a question that was evaluated is given the
    modalities that it was evaluated with, whatever else the record holds.
    """
    seen = modalities & opened.present
    given = {name: one for name, one in opened.prepared.items() if name in seen}
    if turns:  # other cases for other questions: not kept
        return _session(opened.model, given, uses_adapter=False, turns=turns)
    if seen not in opened.judges:
        opened.judges[seen] = _session(opened.model, given, uses_adapter=False)
    return opened.judges[seen]


def calibration_for(model: SalusModel, question: str, options: Sequence[str], shown: Shown | None = None) -> OptionCalibration | None:
    """Return the calibration of a question that was evaluated in these words with these options and this many cases, and passed."""
    asked, fitted_as = " ".join(question.casefold().split()), shown.fitted_as if shown else (0, "")
    for calibration in model.config.option_calibrations:
        is_same = " ".join(calibration.question.casefold().split()) == asked and set(calibration.options) == set(options)
        if is_same and (calibration.shots, calibration.cases) == fitted_as and model.config.interpreted & set(calibration.modalities):
            return calibration
    return None


def option_probabilities(logprobs: Sequence[float], options: Sequence[str], calibration: OptionCalibration | None) -> list[float]:
    """Return a probability for each option: softmax of the scores, with what was fitted to them where it was.

    Example:
        >>> [round(p, 2) for p in option_probabilities([-1.0, -1.0], ["yes", "no"], None)]
        [0.5, 0.5]
    """
    if calibration is None or calibration.biases:
        biases = dict(zip(calibration.options, calibration.biases, strict=True)) if calibration else {}
        slope = calibration.slope if calibration else 1.0
        scores = [slope * score + biases.get(option, 0.0) for option, score in zip(options, logprobs, strict=True)]
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        return [weight / sum(weights) for weight in weights]
    positive = list(options).index(calibration.positive)
    margin = logprobs[positive] - logprobs[1 - positive]
    probability = 1.0 / (1.0 + math.exp(-(calibration.slope * margin + calibration.intercept)))
    return [probability if place == positive else 1.0 - probability for place in range(2)]


def disclosure(model: SalusModel) -> Disclosure:
    """Return what every rendered answer says about itself."""
    config = model.config
    text = (
        f"Written by a machine: Salus model {config.name} {config.version} with {config.backbone_identity}. It can be wrong and it "
        "sees only what is in this record. Not for clinical use before your site has approved it; a clinician decides."
    )
    return Disclosure(text, config.name, config.version, config.backbone_identity)
