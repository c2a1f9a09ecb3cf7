"""Times prefilling and decoding with a patient's tokens in the prompt and through inserted layers.

    python scripts/time_ways_in.py OUT.json

The embedded language model, one thread, tokens with random values, no drafts: how fast, not what. Seconds of processor time, which a busy
machine moves less than the clock. The ways change places from round to round, so that neither flatters the other.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from salus.model import build_backbone
from salus.reason import prompt
from salus.reason.cross_attention_layers import CrossAttentionLayers, CrossAttentionSettings
from salus.reason.huggingface import HuggingFaceBackbone

ROUNDS = 5
WRITTEN = 32
"""Language-model tokens of an answer."""
TOKENS = (9, 64)
"""Tokens of the patient: of one modality with its marker, and of many."""
WAYS = {"text only": 0, "prefix": 0, "cross_attention every=6": 6, "cross_attention every=3": 3}


def timed(backbone: HuggingFaceBackbone, layers: CrossAttentionLayers | None, soft: Tensor) -> tuple[float, float]:
    """Return the seconds of prefilling and the tokens a second of writing."""
    frame = prompt.frame_of(backbone.tokenizer)
    reading = None if layers is None else layers.reading(soft[None], torch.ones(1, len(soft), dtype=torch.bool))
    started = time.process_time()
    session = backbone.session(prompt.prefix(frame, soft if layers is None else soft[:0]), reading=reading)
    prefilled = time.process_time()
    asked = prompt.words(frame, prompt.question_text("Tell a long story of a river, from its spring to the sea.", []))
    count = sum(line.tokens for line in session.write(asked, [], max_new_tokens=WRITTEN))
    return prefilled - started, count / (time.process_time() - prefilled)


@torch.inference_mode()
def main(out: Path) -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = build_backbone("embedded")
    depth = backbone.open_layers()
    made = {every: CrossAttentionLayers(CrossAttentionSettings(every=every), depth, backbone.width) for every in {*WAYS.values()} - {0}}
    for layers in made.values():
        for name, weight in layers.named_parameters():
            if name.endswith("_gate"):
                nn.init.constant_(weight, 0.05)  # open, and too little for other words
    rows = []
    for tokens in TOKENS:
        soft = torch.randn(tokens, backbone.width) * backbone.token_rms()
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for place in range(ROUNDS + 1):  # the first warms up
            for way in list(WAYS) if place % 2 else list(WAYS)[::-1]:
                found[way].append(timed(backbone, made.get(WAYS[way]), soft[:0] if way == "text only" else soft))
        for way, pairs in found.items():
            (prefill, speed) = ([pair[at] for pair in pairs[1:]] for at in (0, 1))
            quartiles = [round(one, 1) for one in statistics.quantiles(speed, n=4)]
            rows.append({
                "way": way, "tokens": tokens, "n": ROUNDS, "prefill_cpu_s": round(statistics.median(prefill), 3),
                "tokens_per_cpu_s": quartiles[1], "quartiles": quartiles,
            })  # fmt: skip
            print(rows[-1], flush=True)
    out.write_text(json.dumps({"command": "python scripts/time_ways_in.py", "threads": 1, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
