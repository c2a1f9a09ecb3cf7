"""Inserted layers: the equation by hand, masks and order, any causal language model of transformers, and no way for tokens to leak."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from salus import registry
from salus.errors import Bug, ConfigError
from salus.reason.backbone import Line, Piece
from salus.reason.cross_attention_layers import (
    CrossAttentionLayers,
    CrossAttentionSettings,
    GatedCrossAttention,
    Reading,
    decoder_layers,
    into_of,
    open_layers,
    read_by,
)
from salus.reason.huggingface import HuggingFaceBackbone

WIDTH = 32
SETTINGS = CrossAttentionSettings(every=1, attention_width=128, feedforward_width=24)
MOST = 30


def open_gates(layers: nn.Module, value: float = 0.8) -> None:
    for name, gate in layers.named_parameters():
        if name.endswith("_gate"):
            nn.init.constant_(gate.data, value)


def layers_of(depth: int = 2, *, gate: float = 0.8, seed: int = 0, width: int = WIDTH) -> CrossAttentionLayers:
    torch.manual_seed(seed)
    made = CrossAttentionLayers(SETTINGS, depth, width)
    open_gates(made, gate)
    return made.requires_grad_(False)


def patients(seed: int, *, size: int = 3, tokens: int = 5) -> tuple[Tensor, Tensor]:
    """Return tokens and a mask that drops some."""
    source = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, tokens, generator=source) > 0.4
    mask[:, 0] = True
    return torch.randn(size, tokens, WIDTH, generator=source), mask


def by_hand(layer: GatedCrossAttention, text: Tensor, tokens: Tensor) -> Tensor:
    """Return one patient's text (S, D) after reading (T, D), summed head by head and position by position."""

    def normed(vectors: Tensor, norm: nn.LayerNorm) -> Tensor:
        centred = vectors - vectors.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias

    reads = []
    for x in normed(text, layer.norm):
        heads = []
        for head in range(SETTINGS.attention_width // 64):
            own = slice(64 * head, 64 * head + 64)
            query = layer.query.weight[own] @ x
            known = normed(tokens, layer.token_norm)
            scores = [math.exp(float(query @ (layer.key.weight[own] @ t)) / 8) for t in known]
            heads.append(sum(s / sum(scores) * (layer.value.weight[own] @ t) for s, t in zip(scores, known, strict=True)))
        reads.append(layer.out.weight @ torch.cat(heads))  # type: ignore[arg-type]
    text = text + math.tanh(float(layer.attention_gate)) * torch.stack(reads)
    norm, first, _, last = layer.feedforward
    inner = normed(text, norm) @ first.weight.T  # type: ignore[operator, arg-type, union-attr]
    gelu = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return text + math.tanh(float(layer.feedforward_gate)) * gelu @ last.weight.T  # type: ignore[operator, union-attr]


def test_the_equation_by_hand() -> None:
    layers = layers_of(1)
    (tokens, mask), text = patients(1), torch.randn(3, 4, WIDTH)
    with torch.no_grad():
        found = layers.reading(tokens, mask).read(0, text)
        for row in range(3):
            assert torch.allclose(found[row], by_hand(layers.layers["0"], text[row], tokens[row][mask[row]]), atol=1e-5)  # type: ignore[arg-type]


def test_the_number_of_weights_is_as_told() -> None:
    inner, wide = SETTINGS.attention_width, SETTINGS.feedforward_width
    count = sum(weight.numel() for weight in GatedCrossAttention(WIDTH, SETTINGS).parameters())
    assert count == 4 * WIDTH * inner + 2 * WIDTH * wide + 6 * WIDTH + 2
    five = CrossAttentionLayers(CrossAttentionSettings(), 30, 576)  # beside the embedded language model
    assert sorted(map(int, five.layers)) == [5, 11, 17, 23, 29]
    assert sum(weight.numel() for weight in five.parameters()) == 5 * (4 * 576 * 256 + 2 * 576 * 512 + 6 * 576 + 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), junk=st.sampled_from([7e4, float("nan"), float("inf")]), padding=st.integers(0, 4), data=st.data())
def test_what_is_masked_the_order_of_tokens_and_padding_change_nothing(seed: int, junk: float, padding: int, data: st.DataObject) -> None:
    layers = layers_of(1)
    (tokens, mask), text = patients(seed), torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(seed))
    order = data.draw(st.permutations(range(tokens.shape[1] + padding)))
    filled = torch.cat([tokens.masked_fill(~mask[..., None], junk), torch.full((3, padding, WIDTH), junk)], 1)[:, order]
    there = torch.cat([mask, torch.zeros(3, padding, dtype=torch.bool)], 1)[:, order]
    with torch.no_grad():
        plain = layers.reading(tokens, mask).read(0, text)
        assert torch.allclose(layers.reading(filled, there).read(0, text), plain, atol=1e-5)
        alone = layers.reading(tokens[:1, mask[0]], mask[:1, mask[0]]).read(0, text[:1])
        assert torch.equal(layers.reading(tokens[:1], mask[:1]).read(0, text[:1]), alone), "to the last bit"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(3)), bare=st.sets(st.integers(0, 2)))
def test_each_patient_in_a_batch_is_as_alone_and_one_without_tokens_passes_unchanged(seed: int, order: list[int], bare: set[int]) -> None:
    layers = layers_of(1)
    (tokens, mask), text = patients(seed), torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(seed))
    mask[sorted(bare)] = False
    with torch.no_grad():
        whole = layers.reading(tokens, mask).read(0, text)
        turned = layers.reading(tokens[order], mask[order]).read(0, text[order])
        assert torch.allclose(turned, whole[order], atol=1e-5)
        for row in range(3):
            alone = layers.reading(tokens[row][mask[row]][None], torch.ones(1, int(mask[row].sum()), dtype=torch.bool)).read(0, text[[row]])
            assert torch.allclose(whole[row], alone[0], atol=1e-5)
            assert torch.equal(whole[row], text[row]) == (row in bare)


def test_the_gradient_of_a_patient_without_tokens_is_a_number() -> None:
    layers = layers_of(1).requires_grad_(True)
    tokens, mask = patients(0)
    mask[1] = False
    layers.reading(tokens, mask).read(0, torch.randn(3, 4, WIDTH)).sum().backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in layers.parameters())


SMALL = {"vocab_size": 50, "hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**SMALL, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SMALL, num_key_value_heads=2),
    "qwen3": Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8),
    "mistral": MistralConfig(**SMALL, num_key_value_heads=2),
    "phi3": Phi3Config(**SMALL, num_key_value_heads=2, pad_token_id=0),
    "gpt_neox": GPTNeoXConfig(**SMALL),
    "gpt2": GPT2Config(vocab_size=50, n_embd=WIDTH, n_layer=3, n_head=4),
    "opt": OPTConfig(vocab_size=50, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=WIDTH),
    "mamba": MambaConfig(vocab_size=50, hidden_size=WIDTH, num_hidden_layers=3, state_size=4),
}


@pytest.mark.parametrize(("family", "dtype"), [*((one, torch.float32) for one in FAMILIES), ("llama", torch.bfloat16)])
def test_any_causal_language_model_of_transformers_can_be_opened(family: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]).eval().to(dtype)
    ids = torch.randint(1, 50, (3, 6))
    names = list(model.state_dict())
    (tokens, mask), layers = patients(3), layers_of(3, gate=0.0)
    with torch.no_grad():
        plain = model(ids).logits
        open_layers(decoder_layers(model))
        assert list(model.state_dict()) == names, "an adapter, a hash and a folder know them by these"
        assert torch.equal(model(ids).logits, plain)
        with read_by(layers.reading(tokens, mask)):
            assert torch.equal(model(ids).logits, plain), "gates at 0: the text-only model"
        open_gates(layers)
        with read_by(layers.reading(tokens, mask)):
            differ = (model(ids).logits - plain).abs().amax((1, 2))
        assert (differ > 1e-4).all() and torch.equal(model(ids).logits, plain)


def test_a_model_without_one_list_of_decoder_layers_is_refused() -> None:
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"])
    model.config.num_hidden_layers = 4
    with pytest.raises(ConfigError, match=r"into a LlamaForCausalLM: it has 0 lists of 4 modules, and one is wanted. Set fuser.into"):
        decoder_layers(model)
    model.config.num_hidden_layers = 3
    model.twins = nn.ModuleList(nn.Identity() for _ in range(3))
    with pytest.raises(ConfigError, match=r"it has 2 lists of 3 modules \(model.layers, twins\)"):
        decoder_layers(model)


@pytest.mark.parametrize("is_on", [False, True])
def test_gradient_checkpointing_changes_nothing(is_on: bool) -> None:
    """Reference: the same pass without it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES["llama"]).requires_grad_(False)
    open_layers(decoder_layers(model))
    layers = layers_of(3).requires_grad_(True)
    tokens, mask = patients(0)
    tokens.requires_grad_(True)
    embeds = torch.randn(3, 6, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    grads = []
    for checkpoints in (False, is_on):
        if checkpoints:
            model.activation_checkpointing_enable()
        model.train()
        with read_by(layers.reading(tokens, mask)):
            loss = model(inputs_embeds=embeds).logits.pow(2).sum()
        grads.append(torch.autograd.grad(loss, [tokens, *layers.parameters()]))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"into": "suffix"}, r"Cannot use fuser.into 'suffix': it is unknown. Ways into the language model: prefix, cross_attention."),
        ({"into": "cross_attention", "every": 0}, r"Cannot use fuser.every 0: it must be above 0"),
        ({"into": "cross_attention", "lr_scale": -1}, r"Cannot use fuser.lr_scale -1.0: it must be above 0"),
        ({"into": "cross_attention", "attention_width": 100}, r"attention_width 100: it must be a multiple of 64"),
        ({"into": "cross_attention", "every": "six"}, r"Cannot read settings 'fuser'"),
    ],
)
def test_wrong_settings_are_refused(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        into_of(given_)


def test_settings_that_give_no_layer_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the language model has 4 layers, every is 6 and from_layer 1. Lower them"):
        CrossAttentionLayers(CrossAttentionSettings(), 4, WIDTH)
    assert list(CrossAttentionLayers(CrossAttentionSettings(every=2, from_layer=5), 8, WIDTH).layers) == ["5", "7"]


def test_no_strategy_has_a_setting_of_the_layers_name() -> None:
    own = set(CrossAttentionSettings.__dataclass_fields__) | {"into"}
    for name in registry.names("salus.fusers"):
        assert not own & set(registry.load("salus.fusers", name).config.__dataclass_fields__)


# Sessions


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Path) -> HuggingFaceBackbone:
    made = HuggingFaceBackbone.load(tiny_backbone, "tiny", torch.float32)
    assert made.open_layers() == made.open_layers() == 2
    return made


def words(seed: int) -> list[Piece]:
    return [Piece(text=f"Question: {seed * 37}?<|im_end|>\n<|im_start|>assistant\n", is_frame=True)]


PREFIX = [Piece(text="<|im_start|>user\nRecord: \n", is_frame=True)]


def evidence(seed: int) -> Reading:
    tokens, mask = patients(seed, size=1)
    with torch.inference_mode():
        return layers_of().reading(tokens, mask)


def full_pass(backbone: HuggingFaceBackbone, embeds: Tensor, reading: Reading | None) -> Tensor:
    """Return the logits (T, V) of one forward pass without a cache."""
    with torch.inference_mode():
        return backbone.logits(backbone.hidden(embeds[None], torch.ones(1, len(embeds), dtype=torch.long), reading))[0]


def greedy(backbone: HuggingFaceBackbone, seed: int, reading: Reading | None) -> str:
    """Return the text that full passes alone, a token at a time, give."""
    table = backbone.core.get_input_embeddings()
    embeds, ids = backbone.embed([*PREFIX, *words(seed)]), list[int]()
    for _ in range(MOST):
        token = int(full_pass(backbone, embeds, reading)[-1].argmax())
        if token in backbone.end_ids:
            break
        ids.append(token)
        embeds = torch.cat([embeds, table(torch.tensor([token]))])
    return str(backbone.tokenizer.decode(ids, skip_special_tokens=True))


def told(lines: list[Line]) -> list[str]:
    return [line.text for line in lines if line.text]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000))
def test_what_a_session_writes_is_what_full_passes_write_with_drafts_or_without(backbone: HuggingFaceBackbone, seed: int) -> None:
    reading = evidence(seed)
    true = greedy(backbone, seed, reading)
    session = backbone.session(PREFIX, reading=reading)
    assert told(list(session.write(words(seed), [], max_new_tokens=MOST))) == lines(true)
    drafts = [*lines(true), true[: len(true) // 2], "Creatinine 2.4 mg/dL [1]"]
    assert told(list(session.write(words(seed), drafts, max_new_tokens=MOST))) == lines(true)
    assert true != greedy(backbone, seed, None), "the tokens count"


def test_option_scores_are_those_of_one_full_pass(backbone: HuggingFaceBackbone) -> None:
    options, reading = ["yes", "no", "normal range", "creatinine 2.4 mg/dL"], evidence(4)
    found = backbone.session(PREFIX, reading=reading).option_logprobs(words(4), options)
    asked = backbone.embed([*PREFIX, *words(4)])
    for option, score in zip(options, found, strict=True):
        ids = backbone.ids(option)
        logprobs = full_pass(backbone, torch.cat([asked, backbone.embed([Piece(text=option)])]), reading).log_softmax(-1)
        wanted = sum(float(logprobs[len(asked) - 1 + place, token]) for place, token in enumerate(ids))
        assert score == pytest.approx(wanted, abs=1e-4)


def test_sessions_of_two_patients_do_not_meet(backbone: HuggingFaceBackbone) -> None:
    wanted = {seed: greedy(backbone, 1, None if seed == 0 else evidence(seed)) for seed in (0, 1, 2)}
    assert len(set(wanted.values())) == 3
    sessions = {seed: backbone.session(PREFIX, reading=None if seed == 0 else evidence(seed)) for seed in wanted}
    writers: dict[int, Iterator[Line]] = {
        seed: session.write(words(1), [], max_new_tokens=MOST) for seed, session in sessions.items()
    }
    found: dict[int, list[Line]] = {seed: [] for seed in wanted}
    for _ in range(MOST):  # a line of one, a line of the next
        for seed, writer in writers.items():
            found[seed] += [line for line in [next(writer, None)] if line is not None]
    assert {seed: told(one) for seed, one in found.items()} == {seed: lines(text) for seed, text in wanted.items()}


def test_sessions_in_threads_do_not_meet(backbone: HuggingFaceBackbone) -> None:
    readings = {seed: evidence(seed) if seed % 3 else None for seed in range(6)}
    wanted = {seed: lines(greedy(backbone, 1, reading)) for seed, reading in readings.items()}

    def run(seed: int) -> list[str]:
        session = backbone.session(PREFIX, reading=readings[seed])
        return told(list(session.write(words(1), [], max_new_tokens=MOST)))

    with ThreadPoolExecutor(3) as pool:
        assert dict(zip(wanted, pool.map(run, wanted), strict=True)) == wanted


def test_a_crash_in_the_middle_leaves_nothing_behind(backbone: HuggingFaceBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    embeds = backbone.embed(PREFIX)[None]
    with torch.inference_mode():
        plain = backbone.core(inputs_embeds=embeds).logits  # transformers' own call, which says nothing of evidence
    session = backbone.session(PREFIX, reading=evidence(1))
    before = list(session.write(words(2), [], max_new_tokens=MOST))
    with monkeypatch.context() as patch:
        patch.setattr(backbone.core.model.norm, "forward", lambda hidden: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(session.write(words(1), [], max_new_tokens=MOST))
    with torch.inference_mode():
        assert torch.equal(backbone.core(inputs_embeds=embeds).logits, plain)
    assert list(session.write(words(2), [], max_new_tokens=MOST)) == before


def test_tokens_of_another_number_of_patients_are_a_bug(backbone: HuggingFaceBackbone) -> None:
    with pytest.raises(Bug, match=r"Cannot read evidence: 2 rows of text and tokens of 1 patients"):
        backbone.hidden(torch.zeros(2, 3, WIDTH), torch.ones(2, 3, dtype=torch.long), evidence(0))
