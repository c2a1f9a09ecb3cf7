"""Biological sequences on a line: tokens for each window of letters, from weight arrays of letters and neighbouring pairs.

Takes `Sequences` content; gives K tokens for each window. A letter that may be several is spread over them, a place without a letter
is marked. Self-supervised by finding hidden letters again. Leaves out the other strand: a site is read as it is written.
Shapes: B batch, W windows, L places of a window, A letters of the alphabet, K members, N = W × K tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salus.encode.encoder import Prepared
from salus.encode.member import MemberLinear
from salus.record.patient import Item, Sequences
from salus.record.sequences import AMINO_ACIDS, BASES, RESIDUES

LETTERS = {"dna": ("ACGT", BASES), "rna": ("ACGT", BASES), "protein": (AMINO_ACIDS, RESIDUES)}
MOST_PAIRED = 4
"""Alphabets of more letters get no pairs: they would be hundreds at each place."""
LEAST_LETTERS = 8
"""A window with fewer letters is masked."""


def prepare_letters(letters: str, alphabet: str, length: int) -> NDArray[np.float32]:
    """Return (L, A) how far each place of a window is each letter: rows sum to 1, or are NaN where there is no letter.

    Args:
        letters: at most L; fewer are put into the middle.
        alphabet: `dna`, `rna` or `protein`.
        length: L.

    Example:
        >>> prepare_letters("AR", "dna", 3).tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [nan, nan, nan, nan]]
    """
    order, meanings = LETTERS[alphabet]
    window = np.full((length, len(order)), np.nan, np.float32)
    start = (length - len(letters)) // 2
    for place, letter in enumerate(letters):
        if possible := meanings.get(letter, ""):
            window[start + place] = [one in possible for one in order]
            window[start + place] /= len(possible)
    return window


def windows_of(found: Sequences, length: int, most: int) -> list[str]:
    """Return windows of letters: all of them side by side when they fit, else as many, evenly spread; a single one from the middle.

    Example:
        >>> windows_of(Sequences(("AAACCCGGGT",), "dna"), 3, 9)
        ['AAA', 'CCC', 'GGG', 'T']
        >>> windows_of(Sequences(("AAACCCGGGT",), "dna"), 4, 1)
        ['CCCG']
    """
    if most == 1:
        longest = max(found.letters, key=len)
        start = max(0, (len(longest) - length) // 2)
        return [longest[start : start + length]]
    tiles = [one[start : start + length] for one in found.letters for start in range(0, len(one), length)]
    places = np.linspace(0, len(tiles) - 1, min(most, len(tiles))).round().astype(int)
    return [tiles[place] for place in places]


class SequenceEncoder(nn.Module):
    """K position weight arrays for each window, one token each.

    A token is a sum over places of what each letter, and each pair of neighbours, weighs there, bent by a residual GELU. Strong weight
    decay and hidden inputs keep it honest on a few thousand sequences, where deeper networks only learn them by heart (design/LOG.md).

    Source: weight array model of Zhang and Marr 1993, Comput Appl Biosci 9:499-509.
    """

    table_arrays = ("letters",)

    def __init__(
        self,
        *,
        alphabet: str = "dna",
        length: int = 64,
        windows: int = 1,
        members: int = 4,
        width: int = 32,
        hidden_share: float = 0.5,
        dropout: float = 0.1,
        needs_whole: bool = False,
    ) -> None:
        """Build from settings.

        Args:
            alphabet: `dna`, `rna` or `protein`.
            length: L, letters in a window.
            windows: W; 1 takes the middle of the longest sequence.
            members: K for each window.
            width: D.
            hidden_share: share of inputs hidden in training.
            dropout: on the token.
            needs_whole: a window of fewer letters is not read: what each place means would be another.
        """
        super().__init__()
        self.needs_whole = needs_whole
        self.alphabet, self.length, self.windows = alphabet, length, windows
        self.width, self.members, self.tokens = width, members, windows * members
        self.pooled_tokens = members if windows == 1 else 0
        self.hidden_share, self.dropout = hidden_share, dropout
        letters = len(LETTERS[alphabet][0])
        self.has_pairs = letters <= MOST_PAIRED
        inputs = length * (letters + 1) + (length - 1) * letters**2 * self.has_pairs
        self.weigh = MemberLinear(members, inputs, width)
        nn.init.normal_(self.weigh.weight, std=0.02)

    def prepare(self, items: Sequence[Item], seconds: Mapping[str, float]) -> Prepared | None:
        """Return the windows of the latest item of the encoder's alphabet, or None."""
        for item in sorted(items, key=lambda item: (-seconds.get(item.id, -np.inf), item.id)):
            loaded = item.content.load() if item.content is not None and item.content.kind == "sequence" else None
            if not isinstance(loaded, Sequences) or not any(loaded.letters) or loaded.alphabet != self.alphabet:
                continue
            found = windows_of(loaded, self.length, self.windows)
            letters = np.full((self.windows, self.length, len(LETTERS[self.alphabet][0])), np.nan, np.float32)
            for place, window in enumerate(found):
                letters[place] = prepare_letters(window, self.alphabet, self.length)
            least = self.length if self.needs_whole else LEAST_LETTERS
            used = (np.isfinite(letters[..., 0]).sum(1) >= least).repeat(self.members)
            if used.any():
                ids: tuple[tuple[str, ...], ...] = tuple((item.id,) if one else () for one in used)
                time_s = np.full(self.tokens, seconds.get(item.id, np.nan), dtype=np.float32)
                return Prepared({"letters": letters}, ids, time_s)
        return None

    def build_pretext(self) -> nn.Module:
        """Return the self-supervised objective."""
        return HiddenLetters(self.width, self.length, len(LETTERS[self.alphabet][0]))

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return values (B, N, D) and mask (B, N), False for a window with fewer than 8 letters."""
        absent = torch.isnan(arrays["letters"][..., 0])  # (B, W, L)
        letters = arrays["letters"].nan_to_num(0.0)  # (B, W, L, A)
        batch = len(letters)
        parts = [letters.flatten(2), absent.to(letters.dtype)]
        if self.has_pairs:
            parts.append((letters[:, :, :-1, :, None] * letters[:, :, 1:, None, :]).flatten(2))
        inputs = torch.cat(parts, -1).flatten(0, 1).expand(self.members, -1, -1)  # (K, B × W, F)
        weighed = self.weigh(functional.dropout(inputs, self.hidden_share, self.training))
        tokens = functional.dropout(weighed + functional.gelu(weighed), self.dropout, self.training)
        mask = (~absent).sum(2) >= LEAST_LETTERS
        values = tokens.view(self.members, batch, self.windows, self.width).permute(1, 2, 0, 3).flatten(1, 2)
        return values, mask.repeat_interleave(self.members, 1)


class HiddenLetters(nn.Module):
    """Self-supervised stage: hide letters of a window, and tell them from the tokens of what is left.

    Source: masked prediction as in BERT (Devlin et al. 2019, section 3.1), on letters as in DNABERT (Ji et al. 2021).
    """

    def __init__(self, width: int, length: int, letters: int, *, hidden_share: float = 0.3) -> None:
        super().__init__()
        self.tell = nn.Linear(width, length * letters)
        self.hidden_share = hidden_share

    def forward(self, encoder: SequenceEncoder, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch: cross-entropy of the hidden letters."""
        letters = arrays["letters"]
        batch, windows, length, kinds = letters.shape
        hide = ~torch.isnan(letters[..., 0])
        hide = hide & (torch.rand(hide.shape, device=letters.device) < self.hidden_share)
        values, _ = encoder({"letters": torch.where(hide[..., None], torch.nan, letters)})
        told = self.tell(values.view(batch, windows, encoder.members, -1)).view(batch, windows, encoder.members, length, kinds)
        each: Tensor = -(letters.nan_to_num(0.0)[:, :, None] * told.log_softmax(-1)).sum(-1).mean(2)  # (B, W, L)
        loss: Tensor = (each * hide).sum() / hide.sum().clamp_min(1)
        return loss
