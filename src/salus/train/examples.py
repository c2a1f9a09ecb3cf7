"""Training examples of the language stages: encoded records, the words asked, the words to answer.

Takes tasks; gives `LanguageExample`s. What is asked in training is what `salus.pipeline` asks in serving: the same facts, the same
prompt, the same answer form.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from salus.batch import LanguageExample, encoded_record, make_example, option_prompt
from salus.encode.encoder import Encoded
from salus.model import SalusModel
from salus.pipeline import OPEN_FACTS, facts_for
from salus.reason import prompt
from salus.reason.facts import Fact
from salus.reason.raw import raw_lines
from salus.reason.retrieve import look_up
from salus.record.patient import PatientRecord
from salus.task import Example

OVERVIEW_QUESTIONS = (
    "What changed, what matters?", "What changed?", "What matters in this record?", "Give me an overview.",
    "What has changed since admission?", "Summarise what changed and what matters.", "What is important here?",
    "Anything that changed or stands out?",
)  # fmt: skip
"""Questions that teach the overview; the first is the product's own."""
OPEN_SHARE = 0.3
"""Share of record-reading examples that show every kind of fact, as serving does where the words of a question leave the kind open."""
SHUFFLED_SHARE = 0.5
"""Share of record-reading examples whose facts are shown in random order, so that place gives nothing away."""


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


def build_examples(
    model: SalusModel, name: str, examples: Sequence[Example], *, most: int, seed: int, progress: Progress
) -> list[LanguageExample]:
    """Return the language examples of one task.

    Args:
        model: gives encoders, tokenizer and frame.
        name: task name, or `record-reading-alone` or `overview` for the other routes of `record-reading`.
        examples: training examples of the task.
        most: most to prepare; drawn by seed.
        seed: of the draw, shuffles and overview questions.
        progress: called with words and a share of 1.
    """
    random_source = random.Random(f"{seed}:{name}")
    chosen = drawn_evenly(examples, most, random_source)
    made: list[LanguageExample] = []
    for place, example in enumerate(chosen):
        record = example.record()
        encoded = encoded_record(model, model.prepare(record))
        if example.options:
            made.append(option_example(model, example, record, encoded))
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
    return made


def drawn_evenly(examples: Sequence[Example], most: int, random_source: random.Random) -> list[Example]:
    """Return at most `most` examples in random order; answers of questions with two options equally often, as far as there are any."""
    shuffled = list(examples)
    random_source.shuffle(shuffled)
    answers = sorted({example.answer for example in shuffled if len(example.options) == 2})
    room = dict.fromkeys(answers, math.ceil(most / max(len(answers), 1)))
    kept: list[Example] = []
    for example in shuffled:
        if len(example.options) != 2:
            kept.append(example)
        elif room[example.answer] > 0:
            room[example.answer] -= 1
            kept.append(example)
    return kept[:most]
