"""Which cases fit the context: whole ones, the most similar first to stay; and how many tokens a prompt has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from salus.reason.backbone import Piece
from salus.reason.huggingface import HuggingFaceBackbone
from salus.reason.prompt import Turn, frame_of, prefix
from salus.reason.shots import Shown, fitting, tokens_of


@given(costs=st.lists(st.integers(1, 50), max_size=8), room=st.integers(-5, 300))
def test_the_budget_is_kept_and_nothing_that_fits_is_dropped(costs: list[int], room: int) -> None:
    turns: list[Any] = list(range(len(costs)))
    kept = fitting(turns, costs, room)
    assert list(kept) == turns[len(turns) - len(kept) :], "the most similar stand last and stay"
    assert not kept or sum(costs[-len(kept) :]) <= room
    if len(kept) < len(turns):
        assert sum(costs[-len(kept) - 1 :]) > room


def test_tokens_are_counted_as_the_model_reads_them(tiny_backbone: Path) -> None:
    backbone = HuggingFaceBackbone.load(tiny_backbone, "tiny", torch.float32)
    turn = Turn(torch.randn(5, backbone.width), "Question: Dead?\nOptions: yes, no", "yes")
    pieces = prefix(frame_of(backbone.tokenizer), torch.randn(3, backbone.width), [turn, turn])
    assert tokens_of(pieces, backbone.ids) == len(backbone.embed(pieces))
    end = [Piece(text="<|im_end|>"), Piece(text="<|im_end|>", is_frame=True)]
    assert tokens_of(end, backbone.ids) > 2, "in plain text it is characters"


def test_turns_are_those_of_the_chat_template(tiny_backbone: Path) -> None:
    """The tokenizer itself writes the conversation, with words in the place of soft tokens."""
    tokenizer = HuggingFaceBackbone.load(tiny_backbone, "tiny", torch.float32).tokenizer
    frame = frame_of(tokenizer)
    said = [("X", "A?", "yes"), ("Y", "B?", "no")]
    shown = "".join(f"{soft}{frame.after_record}{asked}{frame.after_question}{answer}{frame.after_answer}" for soft, asked, answer in said)
    messages = [{"role": "system", "content": frame.before_record.split("system\n")[1].split("<|im_end|>")[0]}]
    for soft, asked, answer in [*said, ("Z", "C?", "")]:
        messages += [{"role": "user", "content": f"Record: {soft}\n{asked}"}, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    assert frame.before_record + shown + f"Z{frame.after_record}C?{frame.after_question}" == whole


def test_a_tokenizer_without_a_template_takes_turns_and_a_stubborn_one_says_so() -> None:
    assert frame_of(object()).after_answer == "\n\nRecord: "

    class Stubborn:
        chat_template = "last turn only"

        def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
            return f"{messages[0]['content']}|{messages[-1]['content']}|"

    assert frame_of(Stubborn()).after_answer == ""


def test_a_calibration_is_found_by_number_and_index() -> None:
    turn = Turn(torch.zeros(1, 2), "?", "yes")
    assert Shown((turn, turn), frozenset(), "abc", "").fitted_as == (2, "abc") and Shown((), frozenset(), "abc", "").fitted_as == (0, "")
