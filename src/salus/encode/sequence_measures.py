"""Numbers that code measures from biological sequences, and a synthetic item of one: what the DNA, RNA and protein plug-ins share.

Takes an item with `Sequences` content; gives measurements with their rule. Needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from salus.encode.modality import Measurement
from salus.record.patient import Alphabet, Code, Content, Item, Sequences, Source, item_id
from salus.record.sequences import AMINO_ACIDS


def measure(item: Item) -> Sequence[Measurement]:
    """Return what code measures from an item's letters; loads them."""
    loaded = item.content.load() if item.content else None
    return measured(loaded) if isinstance(loaded, Sequences) else ()


def made_item(alphabet: Alphabet, letters: str, sha256: str) -> Item:
    """Return a synthetic item of one sequence."""
    content = Content("sequence", partial(Sequences, (letters,), alphabet), f"1 sequence, {len(letters)} letters")
    code = Code("media", "text/fasta", f"{alphabet} sequence")
    return Item(item_id(sha256, ""), alphabet, code, Source(f"example-{alphabet}", sha256), content=content, category="sequence")


def measured(found: Sequences) -> tuple[Measurement, ...]:
    """Return count, length, composition and, where the file gives them, qualities.

    Example:
        >>> [(each.name, round(each.value)) for each in measured(Sequences(("GGCA", "NN"), "dna"))][1:]
        [('total length', 6), ('GC content', 75), ('share of unknown letters', 33)]
    """
    counts = Counter("".join(found.letters))
    lengths = [len(one) for one in found.letters]
    if not sum(lengths):
        return ()
    what = "{residue}" if found.alphabet == "protein" else "{base}"
    numbers = [
        Measurement("number of sequences", float(len(lengths)), "{sequence}", "records of the file"),
        Measurement("total length", float(sum(lengths)), what, "letters of all sequences"),
    ]
    if found.alphabet == "protein":
        sure, unknown = sum(counts[letter] for letter in AMINO_ACIDS), counts["X"]
    else:
        sure, unknown = sum(counts[letter] for letter in "ACGTU"), counts["N"]
        if sure:
            rule = "G and C among the letters that are surely A, C, G, T or U"
            numbers.append(Measurement("GC content", 100.0 * (counts["G"] + counts["C"]) / sure, "%", rule))
    share = 100.0 * unknown / sum(lengths)
    numbers.append(Measurement("share of unknown letters", share, "%", f"letter {'X' if found.alphabet == 'protein' else 'N'} of all"))
    if found.qualities:
        phred = np.concatenate(found.qualities).astype(np.float64)
        expected = -10.0 * np.log10(np.mean(10.0 ** (-phred / 10.0)))
        source = "Ewing and Green, Genome Res 1998;8:186-194"
        numbers += [
            Measurement("mean quality (Phred)", float(expected), "1", f"Phred of the mean error probability, {source}"),
            Measurement("share of letters at Q30 or better", 100.0 * float((phred >= 30).mean()), "%", "Phred quality at least 30"),
        ]
    return tuple(numbers)
