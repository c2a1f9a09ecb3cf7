"""Letters of biological sequences: what each may stand for, and which alphabet letters are of.

Takes upper-case IUPAC letters; gives the alphabet. Knows no file format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from salus.record.patient import Alphabet

BASES: Mapping[str, str] = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
"""Nucleotide letter → the bases that it may be; U counts as T. Source: NC-IUB 1985, Nucleic Acids Res 13:3021-3030, table 1."""
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
RESIDUES: Mapping[str, str] = {
    **{letter: letter for letter in AMINO_ACIDS}, "B": "DN", "Z": "EQ", "J": "IL", "X": AMINO_ACIDS, "U": "C", "O": "K",
}  # fmt: skip
"""Residue letter → the amino acids that it may be; selenocysteine and pyrrolysine count as the residue that they replace.

Source: IUPAC-IUB 1984, Eur J Biochem 138:9-37, table 1.
"""
OUTSIDE = "-*."
"""A gap, a stop, an unknown gap: letters of a file that are no residue."""
LEAST_PLAIN = 0.5
"""Nucleotide sequences have at least this share of A, C, G, T, U and N; a protein spelled with nucleotide letters has less."""


def alphabet_of(letters: Iterable[str] | Mapping[str, int]) -> Alphabet | None:
    """Return the alphabet that letters are of, or None when they are of none.

    A short peptide may be spelled with nucleotide letters alone: then a manifest has to say that it is a protein.

    Args:
        letters: upper case; each counts as often as it comes, or as often as the mapping says.

    Example:
        >>> alphabet_of("ACGTNACG"), alphabet_of("AUGC"), alphabet_of("MKVLAW"), alphabet_of("AC1")
        ('dna', 'rna', 'protein', None)
    """
    counts = Counter(letters)
    for letter in OUTSIDE:
        counts.pop(letter, None)
    total = counts.total()
    if not total:
        return None
    plain = sum(counts[letter] for letter in "ACGTUN")
    if counts.keys() <= BASES.keys() and plain >= LEAST_PLAIN * total and not (counts["T"] and counts["U"]):
        return "rna" if counts["U"] else "dna"
    return "protein" if counts.keys() <= RESIDUES.keys() else None
