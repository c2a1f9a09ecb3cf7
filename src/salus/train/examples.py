"""Training examples of the language stages: encoded records, the words asked, the words to answer.

Takes tasks; gives `LanguageExample`s. What is asked in training is what `salus.pipeline` asks in serving: the same facts, the same
prompt, the same answer form.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from salus.batch import LanguageExample, encoded_record, make_example, make_shot, option_prompt
from salus.encode.encoder import Encoded
from salus.model import SalusModel
from salus.pipeline import OPEN_FACTS, facts_for
from salus.reason import prompt
from salus.reason.facts import Fact
from salus.reason.raw import raw_lines
from salus.reason.retrieve import look_up
from salus.record.patient import PatientRecord
from salus.task import Example
from salus.train.encoder_stage import OptionHeads

OVERVIEW_QUESTIONS = (
    "What changed, what matters?", "What changed?", "What matters in this record?", "Give me an overview.",
    "What has changed since admission?", "Summarise what changed and what matters.", "What is important here?",
    "Anything that changed or stands out?",
)  # fmt: skip
"""Questions that teach the overview; the first is the product's own."""
OPEN_SHARE = 0.4
"""Share of record-reading examples that show every kind of fact, as serving does where the words of a question leave the kind open."""
SHUFFLED_SHARE = 0.5
"""Share of record-reading examples whose facts are shown in random order, so that place gives nothing away."""
MIXED_SHARE = 0.5
"""Farthest that a mixture moves from one patient towards another, or away; uniform between, so that the spread stays about the same."""


def option_example(model: SalusModel, example: Example, record: PatientRecord, encoded: Mapping[str, Encoded]) -> LanguageExample:
    """Return a question with options, answered by the right one."""
    return make_example(model, encoded, option_prompt(record, example.question, example.options), example.answer, example.options)


def reading_example(
    model: SalusModel, example: Example, record: PatientRecord, encoded: Mapping[str, Encoded], *, random_source: random.Random
) -> LanguageExample | None:
    """Return a record-reading question through the full route, or None when the facts do not hold the answer."""
    is_open = random_source.random() < OPEN_SHARE
    facts = list(look_up(record, example.question, budget=OPEN_FACTS).facts if is_open else facts_for(record, example.question).facts)
    if random_source.random() < SHUFFLED_SHARE:
        random_source.shuffle(facts)
    right = right_fact(facts, example)
    if right is None:
        return None
    answer = prompt.draft_of(facts[right], right + 1, is_short=True)
    return make_example(model, encoded, prompt.question_text(example.question, [fact.text for fact in facts]), answer)


def right_fact(facts: Sequence[Fact], example: Example) -> int | None:
    """Return the place of the fact that gives an example's answer, preferring the one with the example's items."""
    places = [place for place, fact in enumerate(facts) if fact.short == example.answer]
    exact = [place for place in places if set(facts[place].item_ids) == set(example.item_ids)]
    return (exact or places or [None])[0]  # type: ignore[list-item]


def alone_example(model: SalusModel, example: Example, record: PatientRecord, encoded: Mapping[str, Encoded]) -> LanguageExample:
    """Return a record-reading question with raw item lines only (ablation route)."""
    lines, _ = raw_lines(record, example.question)
    return make_example(model, encoded, prompt.question_text(example.question, lines), example.answer)


def overview_example(
    model: SalusModel, record: PatientRecord, encoded: Mapping[str, Encoded], *, random_source: random.Random
) -> LanguageExample:
    """Return `what changed, what matters`, answered with every fact in order; most examples show fewer facts than serving does."""
    question = random_source.choice(OVERVIEW_QUESTIONS)
    facts = list(facts_for(record, question).facts)
    if random_source.random() < 0.8:
        facts = facts[: random_source.randint(3, 9)]
    answer = "\n".join(prompt.draft_of(fact, number, is_short=False) for number, fact in enumerate(facts, start=1))
    return make_example(model, encoded, prompt.question_text(question, [fact.text for fact in facts]), answer)


Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Draw:
    """Which examples of a task are prepared, and with what."""

    most: int
    """Drawn by seed, where there are more."""
    seed: int
    """Of the draw, shuffles and overview questions."""
    modalities: frozenset[str]
    """Given with questions with options; open ones get those that have passed."""
    teachers: Mapping[str, OptionHeads] = field(default_factory=dict)
    """Modality → heads of its encoder, trained on this task's options; their mean softens the right answer."""
    teacher_weight: float = 0.0
    """Share of the teachers in the target."""
    mixtures: int = 0
    """Made beside the real examples of a task that is taught; see `mixture`."""
    shots: int = 0
    """Most solved cases before a question with options; see `beside_cases`."""

    @property
    def is_taught(self) -> bool:
        """Whether a teacher softens the answers."""
        return bool(self.teachers) and self.teacher_weight > 0


def build_examples(
    model: SalusModel, name: str, examples: Sequence[Example], draw: Draw, *, progress: Progress
) -> list[LanguageExample]:
    """Return the language examples of one task, with the soft tokens that serving gives.

    Args:
        model: gives encoders, tokenizer and frame.
        name: task name, or `record-reading-alone` or `overview` for the other routes of `record-reading`.
        examples: training examples of the task.
        draw: how many, which, with what.
        progress: called with words and a share of 1.
    """
    random_source = random.Random(f"{draw.seed}:{name}")
    chosen = drawn_evenly(examples, draw.most, random_source, keeps_shares=draw.is_taught)
    made: list[LanguageExample] = []
    solved: list[tuple[Example, LanguageExample]] = []
    for place, example in enumerate(chosen):
        record = example.record()
        encoded = encoded_record(model, model.prepare(record, draw.modalities if example.options else model.config.interpreted_in_writing))
        if example.options:
            made.append(softened(option_example(model, example, record, encoded), draw))
            solved.append((example, made[-1]))
        elif name == "overview":
            made.append(overview_example(model, record, encoded, random_source=random_source))
        elif name == "record-reading-alone":
            made.append(alone_example(model, example, record, encoded))
        elif name == "record-reading":
            one = reading_example(model, example, record, encoded, random_source=random_source)
            made += [] if one is None else [one]
        else:
            made.append(make_example(model, encoded, prompt.question_text(example.question, []), example.answer))
        progress(f"{len(made)} examples", (place + 1) / len(chosen))
    if draw.shots:
        made = beside_cases(model, solved, draw.shots, random_source=random_source) + made[len(solved) :]
    alike = [one for one in made if one.target]
    wanted = draw.mixtures if len(alike) > 1 else 0
    return [*made, *(mixture(random_source.sample(alike, 2), draw, random_source) for _ in range(wanted))]


def beside_cases(
    model: SalusModel, solved: Sequence[tuple[Example, LanguageExample]], most: int, *, random_source: random.Random
) -> list[LanguageExample]:
    """Return each example with 0 to `most` solved cases of other patients before it: drawn at random, with the same options.

    Source: in-context tuning, MetaICL (Min et al. 2022, arXiv 2110.15943); with examples that carry their own modalities, Otter
    (arXiv 2305.03726).
    """
    shots = [make_shot(model, one.encoded, example.question, example.options, example.answer) for example, one in solved]
    by_options: dict[frozenset[str], list[int]] = {}
    for place, (example, _) in enumerate(solved):
        by_options.setdefault(frozenset(example.options), []).append(place)
    made = []
    for example, one in solved:
        others = [place for place in by_options[frozenset(example.options)] if solved[place][0].subject_id != example.subject_id]
        drawn = random_source.sample(others, min(random_source.randint(0, most), len(others)))
        made.append(replace(one, shots=tuple(shots[place] for place in drawn)))
    return made


@torch.inference_mode()
def softened(example: LanguageExample, draw: Draw) -> LanguageExample:
    """Return the example with its right option softened by the teachers of the modalities that it has; without one, as it is.

    Source: distillation (Hinton et al. 2015, arXiv 1503.02531).
    """
    taught = _taught(example, draw) if draw.is_taught and example.right >= 0 else ()
    weight = draw.teacher_weight
    return replace(
        example, target=tuple(weight * share + (1 - weight) * (place == example.right) for place, share in enumerate(taught))
    )


def _taught(example: LanguageExample, draw: Draw) -> tuple[float, ...]:
    """Return the probability of each option after the teachers of the modalities that an example has; empty: it has none of theirs."""
    shares = [
        heads(example.encoded[name].values, example.encoded[name].mask).mean(0)[0].softmax(-1)
        for name, heads in draw.teachers.items()
        if name in example.encoded
    ]
    return tuple(torch.stack(shares).mean(0).tolist()) if shares else ()


@torch.inference_mode()
def mixture(pair: Sequence[LanguageExample], draw: Draw, random_source: random.Random) -> LanguageExample:
    """Return the first example of two with its taught vectors moved towards or away from the other's; the teachers alone say what is right.

    The teacher is a function of the vectors and answers for any point between patients, so that a projector can copy it from many
    more points than there are patients. Source: after mixup (Zhang et al. 2018, arXiv 1710.09412), with the teacher's answer at the
    mixed point in place of mixed labels.
    """
    one, other = pair
    share = random_source.uniform(-MIXED_SHARE, MIXED_SHARE)
    encoded = dict(one.encoded)
    for name in draw.teachers:
        if name in one.encoded and name in other.encoded:
            mine, theirs = one.encoded[name], other.encoded[name]
            encoded[name] = replace(mine, values=mine.values + share * (theirs.values - mine.values), mask=mine.mask & theirs.mask)
    mixed = replace(one, encoded=encoded)
    return replace(mixed, target=_taught(mixed, draw))


def drawn_evenly(
    examples: Sequence[Example], most: int, random_source: random.Random, *, keeps_shares: bool = False
) -> list[Example]:
    """Return at most `most` examples in random order.

    Questions with the same two options keep their share of all questions, and take both answers equally often as far as there are
    any, unless the answers keep their natural shares.
    """
    shuffled = list(examples)
    random_source.shuffle(shuffled)
    if keeps_shares:
        return shuffled[:most]
    asked = Counter(frozenset(example.options) for example in shuffled)
    room: dict[tuple[frozenset[str], str], int] = {}
    kept: list[Example] = []
    for example in shuffled:
        options = frozenset(example.options)
        share = math.ceil(min(most, len(shuffled)) * asked[options] / len(shuffled))
        key = (options, example.answer if len(options) == 2 else "")
        left = room.setdefault(key, math.ceil(share / 2) if len(options) == 2 else share)
        if left > 0:
            room[key] = left - 1
            kept.append(example)
    return kept[:most]
