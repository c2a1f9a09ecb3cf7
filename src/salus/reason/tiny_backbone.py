"""A language model of a few thousand weights, for tests and for trying a recipe: real code paths in seconds, no real answers.

Takes a folder and a seed; writes a Hugging Face causal model and its tokenizer as `salus.reason.huggingface` reads them. Its weights
are random: what it says means nothing. Leaves out training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WIDTH = 32
LAYERS = 2
HEADS = 4
VOCABULARY = 400
SPREAD = 0.25
"""Standard deviation of the weights: large enough that the likeliest token is no near tie, which rounding would decide."""
START, END = "<|im_start|>", "<|im_end|>"
SPECIAL = (START, END)
"""The first tokens of the vocabulary."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, as SmolLM2 writes it, without its default system words."""
WORDS = (
    "You are Salus. Answer from the patient's record and the numbered facts, and cite facts as [1]. Record: Facts: Question: Options:",
    "Creatinine rose from 1.1 mg/dL at 2 h to 2.4 mg/dL at 40 h 30 min. Heart rate was highest at 129 /min. yes, no, normal, abnormal",
    "What changed, what matters? Will this patient die in hospital? How high did the potassium get, and which medicines are active?",
)
"""Text whose commonest letter pairs become tokens, so that words are shorter than their bytes."""


def write_tiny_backbone(folder: Path, *, seed: int = 0, context: int = 2048) -> None:
    """Write a Llama model with random weights and a byte-level tokenizer into a folder.

    Args:
        folder: made when missing; files are replaced.
        seed: of the weights; the same seed gives the same weights.
        context: most tokens that the model says it can hold.
    """
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=context,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        bos_token_id=SPECIAL.index(START),
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(END),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer that can write any text; digits are single tokens, as in SmolLM2."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
