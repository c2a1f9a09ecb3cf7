"""Any Hugging Face causal language model as a backbone, through `inputs_embeds`.

Decoding is greedy and therefore repeatable. It is speculative with drafts made by code (Leviathan et al. 2023, arXiv 2211.17192,
with a draft that costs nothing): a draft line is checked in one forward pass and kept as far as it equals the greedy choice, so
the text is the model's own and arrives at prefill speed where the model repeats a looked-up fact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from salus.errors import ContextLengthError, ModelError
from salus.reason.backbone import Line, Piece
from salus.reason.cross_attention_layers import Reading, decoder_layers, open_layers, read_by

PLAIN_ATTENTION_TOKENS = 200
"""Longest prompt, text tokens, for which plain attention trains faster: its time and memory grow with the square."""
LOOKED_UP_BY = 2
"""Last tokens of a line by which its continuation is looked up in the drafts."""
FINGERPRINT_ELEMENTS = 65536
"""Of each tensor: any training moves these too, and a large model is still told apart in seconds."""


def best_dtype() -> torch.dtype:
    """Return bfloat16 where the processor computes it natively (AVX-512 BF16, AMX, CUDA), else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16
    capability = torch.backends.cpu.get_cpu_capability()
    native = capability.startswith("AVX512") and "avx512_bf16" in _cpu_flags()
    return torch.bfloat16 if native else torch.float32


def _cpu_flags() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""


class HuggingFaceBackbone(nn.Module):
    """A causal language model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, identity: str) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.identity = identity
        self.width = int(model.config.hidden_size)
        self.context_length = int(model.config.max_position_embeddings)
        self.is_open = False

    @staticmethod
    def load(path: Path | str, identity: str, dtype: torch.dtype | None = None) -> HuggingFaceBackbone:
        """Return the backbone of a local folder or a hub id, frozen and in evaluation mode.

        Raises:
            ModelError: the folder or hub id cannot be loaded, or a tensor is missing, extra or misshapen.
        """
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(path), dtype=dtype or best_dtype(), output_loading_info=True, attn_implementation="sdpa"
            )
            model, report = loaded
            tokenizer = AutoTokenizer.from_pretrained(str(path))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".") + "."
            raise ModelError(
                f"Cannot load backbone '{path}': {first} Give a folder with a Hugging Face causal model, or a hub id and a network."
            ) from None
        wrong = {
            kind: sorted(map(str, report[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(kind)
        }
        if wrong:
            kind, keys = next(iter(wrong.items()))
            raise ModelError(f"Cannot load backbone '{path}': {kind.replace('_', ' ')}: {keys[0]} ({len(keys)} in all). Fetch it again.")
        model.eval()
        model.requires_grad_(False)
        return HuggingFaceBackbone(model, tokenizer, identity)

    @property
    def core(self) -> Any:
        """The causal model under a PEFT wrapper, if there is one."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @contextmanager
    def trainable_attention(self, length: int) -> Iterator[None]:
        """Run what is inside with plain attention where short prompts are trained on a processor: the fused kernel is slow backwards."""
        kept = self.core.config._attn_implementation
        is_plain = length <= PLAIN_ATTENTION_TOKENS and next(self.core.parameters()).device.type == "cpu"
        if is_plain:
            self.core.set_attn_implementation("eager")
        try:
            yield
        finally:
            if is_plain:
                self.core.set_attn_implementation(kept)

    def token_rms(self) -> float:
        """Return the root mean square of the model's own token embeddings."""
        return float(self.core.get_input_embeddings().weight.float().pow(2).mean().sqrt())

    def fingerprint(self) -> str:
        """Return 12 hex digits that tell these weights from others: a hash of the start of every tensor, in bfloat16."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.core.state_dict().items()):
            start = tensor.flatten()[:FINGERPRINT_ELEMENTS].cpu()
            start = start.to(torch.bfloat16).view(torch.int16) if start.is_floating_point() else start
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + start.numpy().tobytes())
        return digest.hexdigest()[:12]

    def ids(self, text: str, *, is_frame: bool = False) -> list[int]:
        """Return token ids without special additions; control tokens in the text act as such only in the prompt's frame."""
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=not is_frame)["input_ids"])

    def embed(self, pieces: Sequence[Piece]) -> Tensor:
        """Return (T, D) input embeddings of a mixed prompt, in the model's dtype."""
        table = self.core.get_input_embeddings()
        parts = []
        for piece in pieces:
            if piece.soft is not None:
                parts.append(piece.soft.to(table.weight.dtype))
            elif piece.text:
                parts.append(table(torch.tensor(self.ids(piece.text, is_frame=piece.is_frame), device=table.weight.device)))
        return torch.cat(parts) if parts else table.weight.new_zeros(0, self.width)

    def open_layers(self) -> int:
        """Let the decoder layers read what a `Reading` gives them, and return how many there are; without one they stay as they are.

        Raises:
            ConfigError: they are not found.
        """
        layers = decoder_layers(self.core)
        if not self.is_open:
            open_layers(layers)
            self.is_open = True
        return len(layers)

    def hidden(self, embeds: Tensor, attention_mask: Tensor, reading: Reading | None = None) -> Tensor:
        """Return the last hidden states (B, T, D) of right-padded embeddings (B, T, D), each row with its own row of the reading."""
        with read_by(reading):
            states: Tensor = self.core.model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """Return vocabulary logits, float32, of hidden states (…, D)."""
        scores: Tensor = self.core.lm_head(hidden)
        return scores.float()

    @cached_property
    def end_ids(self) -> list[int]:
        """Token ids that end an answer."""
        special = self.tokenizer.convert_tokens_to_ids("<|im_end|>") if "<|im_end|>" in self.tokenizer.get_vocab() else None
        return sorted({token for token in (special, self.tokenizer.eos_token_id) if token is not None})

    def session(self, prefix: Sequence[Piece], *, uses_adapter: bool = True, reading: Reading | None = None) -> HuggingFaceSession:
        """Prefill a prefix once; see `salus.reason.backbone.Session`."""
        return HuggingFaceSession(self, prefix, uses_adapter=uses_adapter, reading=reading)

    @contextmanager
    def adapter(self, *, is_on: bool) -> Iterator[None]:
        """Run what is inside with the LoRA adapter, or as if there were none."""
        if is_on or not hasattr(self.model, "disable_adapter"):
            yield
        else:
            with self.model.disable_adapter():
                yield


class HuggingFaceSession:
    """One prefilled prefix; questions extend its cache and are rolled back."""

    def __init__(
        self, backbone: HuggingFaceBackbone, prefix: Sequence[Piece], *, uses_adapter: bool = True, reading: Reading | None = None
    ) -> None:
        self.backbone = backbone
        self.uses_adapter = uses_adapter
        self.reading = reading
        self.cache = DynamicCache(config=backbone.core.config)
        with torch.inference_mode():
            self._extend(backbone.embed(prefix))
        self.prefix_length = self.length

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return int(self.cache.get_seq_length())

    def _extend(self, embeds: Tensor) -> Tensor:
        if self.length + embeds.shape[0] > self.backbone.context_length:
            raise ContextLengthError(
                f"Cannot ask: record, question and answer take {self.length + embeds.shape[0]} tokens and the language model holds "
                f"{self.backbone.context_length}. Shorten the question, or cut the record with --at."
            )
        with self.backbone.adapter(is_on=self.uses_adapter), read_by(self.reading):
            out = self.backbone.core.model(inputs_embeds=embeds[None], past_key_values=self.cache, use_cache=True)
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def option_logprobs(self, question: Sequence[Piece], options: Sequence[str]) -> list[float]:
        """Return the log-probability of each option as the whole answer, end mark left out."""
        backbone = self.backbone
        scores: list[float] = []
        try:
            first = backbone.logits(self._extend(backbone.embed(question))[-1]).log_softmax(-1)
            asked = self.length
            for option in options:
                ids = backbone.ids(option)
                score = float(first[ids[0]])
                if len(ids) > 1:
                    hidden = self._extend(backbone.embed([Piece(text=option)])[:-1])
                    rest = backbone.logits(hidden).log_softmax(-1)
                    score += float(rest[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum())
                    self._rewind(asked)
                scores.append(score)
        finally:
            self._rewind(self.prefix_length)
        return scores

    @torch.inference_mode()
    def write(self, question: Sequence[Piece], drafts: Sequence[str], *, max_new_tokens: int) -> Iterator[Line]:
        """Yield lines of the greedy answer, with draft lines checked a whole line at a time."""
        backbone, table = self.backbone, self.backbone.core.get_input_embeddings()
        pool = [backbone.ids(draft + "\n") for draft in drafts] + [backbone.ids(draft) + backbone.end_ids[:1] for draft in drafts]
        pending = backbone.embed(question)  # not yet in the cache
        known = pool
        line: list[int] = []
        score, written = 0.0, 0
        try:
            while written < max_new_tokens:
                before = self.length + len(pending)
                room = min(max_new_tokens - written - 1, backbone.context_length - before)
                proposal = _continuation(line, pool, known)[: max(room, 0)]
                hidden = self._extend(torch.cat([pending, table(torch.tensor(proposal, dtype=torch.long, device=pending.device))]))
                ahead = backbone.logits(hidden[len(pending) - 1 :]).log_softmax(-1)
                accepted = self._accepted(ahead, proposal)
                token = int(ahead[accepted].argmax())
                line += proposal[:accepted]
                score += sum(float(ahead[place, guess]) for place, guess in enumerate([*proposal[:accepted], token]))
                written += accepted + 1
                self._rewind(before + accepted)
                if token in backbone.end_ids:
                    break
                line.append(token)
                if "\n" in backbone.tokenizer.decode([token]):
                    pool = [draft for draft in pool if draft[:-1] != line[:-1]]  # a line is written once
                    yield self._line(line, score)
                    line, score = [], 0.0
                pending = table(torch.tensor([token], device=pending.device))
            if line:
                yield self._line(line, score)
        finally:
            self._rewind(self.prefix_length)

    def _accepted(self, ahead: Tensor, proposal: Sequence[int]) -> int:
        """Return how many proposed tokens the model would have written itself, up to the end of the line."""
        for place, guess in enumerate(proposal):
            is_end = guess in self.backbone.end_ids or "\n" in self.backbone.tokenizer.decode([guess])
            if is_end or int(ahead[place].argmax()) != guess:
                return place
        return len(proposal)

    def _line(self, ids: list[int], score: float) -> Line:
        return Line(self.backbone.tokenizer.decode(ids, skip_special_tokens=True).strip(), score / max(len(ids), 1), len(ids))

    def _rewind(self, length: int) -> None:
        if self.length > length:
            self.cache.crop(length - self.length)  # negative: tokens to remove


def _continuation(line: Sequence[int], pool: Sequence[Sequence[int]], drafts: Sequence[Sequence[int]]) -> list[int]:
    """Return what may follow: the rest of a draft in the pool that starts like the line, else of any that holds its last tokens.

    Source of the second: prompt lookup decoding (Saxena 2023).
    """
    for draft in pool:
        if len(draft) > len(line) and list(draft[: len(line)]) == list(line):
            return list(draft[len(line) :])
    last = list(line[-LOOKED_UP_BY:])
    for draft in drafts if len(last) == LOOKED_UP_BY else ():
        for end in range(LOOKED_UP_BY, len(draft)):
            if list(draft[end - LOOKED_UP_BY : end]) == last:
                return list(draft[end:])
    return []
