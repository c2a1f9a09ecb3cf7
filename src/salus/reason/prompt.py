"""The prompt: one form for training, evaluation and serving.

    system words · user: record as soft tokens │ numbered facts · question · options · assistant:
    └────────── prefix, prefilled once ───────┘└──────────── question, new every time ───────────┘

Facts are numbered from 1; the model cites them as `[n]`. Any chat template works; a model without one gets plain words. Solved cases of
other patients stand as earlier turns between the system words and the record (Flamingo, arXiv 2204.14198, interleaves them so).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from salus.reason.backbone import Piece
from salus.reason.facts import Fact

SYSTEM = "You are Salus. Answer from the patient's record and the numbered facts, and cite facts as [n]."
_RECORD, _ASKED, _ANSWERED = "\u241eRECORD\u241e", "\u241eASKED\u241e", "\u241eANSWERED\u241e"


@dataclass(frozen=True)
class Frame:
    """The fixed words of a prompt for one tokenizer."""

    before_record: str
    after_record: str
    after_question: str
    after_answer: str = ""
    """From the end of an earlier turn's answer to the next record; empty: the template takes no earlier turns."""


@dataclass(frozen=True)
class Turn:
    """A solved case of another patient, as an earlier turn: no facts and no words of that patient's record."""

    soft: Tensor
    """(T, D)."""
    asked: str
    """Question and options."""
    answer: str


def frame_of(tokenizer: Any) -> Frame:
    """Return the fixed words that the tokenizer's chat template puts around record and question."""
    content = f"Record: {_RECORD}\n{_ASKED}"
    user = {"role": "user", "content": content}
    earlier = [user, {"role": "assistant", "content": _ANSWERED}]
    if getattr(tokenizer, "chat_template", None):
        whole, both = (
            str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
            for messages in ([{"role": "system", "content": SYSTEM}, *turns, user] for turns in ([], earlier))
        )
    else:
        whole = f"{SYSTEM}\n\n{content}\n\nAnswer: "
        both = f"{SYSTEM}\n\n{content}\n\nAnswer: {_ANSWERED}\n\n{content}\n\nAnswer: "
    before, rest = whole.split(_RECORD)
    middle, after = rest.split(_ASKED)
    first, last = f"{before}{_RECORD}{middle}{_ASKED}{after}{_ANSWERED}", f"{_RECORD}{middle}{_ASKED}{after}"
    takes_turns = both.startswith(first) and both.endswith(last)
    return Frame(before, middle, after, both[len(first) : -len(last)] if takes_turns else "")


def prefix(frame: Frame, soft: Tensor, turns: Sequence[Turn] = ()) -> list[Piece]:
    """Return the part of the prompt that every question about a record shares.

    Args:
        frame: from `frame_of`.
        soft: (T, D) soft tokens of the record, missing ones already dropped.
        turns: solved cases that stand before it, in this order.
    """
    shown = [piece for turn in turns for piece in turn_pieces(frame, turn)]
    return [Piece(text=frame.before_record, is_frame=True), *shown, Piece(soft=soft), Piece(text=frame.after_record, is_frame=True)]


def turn_pieces(frame: Frame, turn: Turn) -> list[Piece]:
    """Return an earlier turn, from its record to where the next record begins."""
    asked = [Piece(soft=turn.soft), Piece(text=frame.after_record, is_frame=True), *words(frame, turn.asked)]
    return [*asked, Piece(text=turn.answer), Piece(text=frame.after_answer, is_frame=True)]


def question(frame: Frame, asked: str, facts: Sequence[Fact], options: Sequence[str] = ()) -> list[Piece]:
    """Return the part of the prompt that is new for each question."""
    return words(frame, question_text(asked, [fact.text for fact in facts], options))


def words(frame: Frame, text: str) -> list[Piece]:
    """Return any question text with the frame's words after it."""
    return [Piece(text=text), Piece(text=frame.after_question, is_frame=True)]


def question_text(asked: str, lines: Sequence[str], options: Sequence[str] = ()) -> str:
    r"""Return facts, question and options as the model reads them.

    Example:
        >>> print(question_text("How old is the patient?", ["Age 68 years."]))
        Facts:
        [1] Age 68 years.
        Question: How old is the patient?
    """
    numbered = [f"[{number}] {line}" for number, line in enumerate(lines, start=1)]
    stated = ["Facts:", *numbered] if numbered else []
    choice = [f"Options: {', '.join(options)}"] if options else []
    return "\n".join([*stated, f"Question: {asked}", *choice])


def draft_of(fact: Fact, number: int, *, is_short: bool) -> str:
    """Return the line that the model is taught to write for a fact: short answer or full sentence, then its number."""
    return f"{fact.short if is_short else fact.text} [{number}]"


def guesses_of(fact: Fact, number: int, *, is_short: bool) -> tuple[str, ...]:
    """Return the lines that the model may write for a fact, likeliest first: as it is taught, with its time in full, as a sentence.

    Example:
        >>> fact = Fact("highest", "K", "potassium", "Highest K: 5 mmol/L at 3 h after admission.", "5 mmol/L at 3 h", (), times=("3 h",))
        >>> guesses_of(fact, 1, is_short=True)[:2]
        ('5 mmol/L at 3 h [1]', '5 mmol/L at 3 h after admission [1]')
    """
    taught = draft_of(fact, number, is_short=is_short)
    if not is_short:
        return (taught,)
    last = next((time for time in fact.times if fact.short.endswith(time)), None)
    anchor = re.search(rf"{re.escape(last)}( after \w+)", fact.text) if last else None
    in_full = (f"{fact.short}{anchor[1]} [{number}]",) if anchor else ()
    return taught, *in_full, draft_of(fact, number, is_short=False)
