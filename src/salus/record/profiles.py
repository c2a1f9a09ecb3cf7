"""Identifiers of molecules: which naming system a matrix uses, and which kind of profile that is.

Takes identifiers as files spell them; gives the system by its published pattern. Knows no file format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

SYSTEMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "ensembl": (re.compile(r"ENS[A-Z]{0,4}[GT]\d{11}(\.\d+)?"), "gene expression"),
    "hgnc": (re.compile(r"HGNC:\d+"), "gene expression"),
    "refseq": (re.compile(r"[NX][MR]_\d+(\.\d+)?"), "gene expression"),
    "illumina-methylation": (re.compile(r"cg\d{8}|ch\.[\dXY]+\.\d+[FR]?"), "DNA methylation"),
    "mirbase": (re.compile(r"[a-z]{3}-(mir|miR|let|lin)-[\w.*-]+|MIMAT\d{7}|MI\d{7}"), "miRNA expression"),
    "uniprot": (re.compile(r"([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2})(-\d+)?"), "proteomics"),
    "hmdb": (re.compile(r"HMDB\d{5,7}"), "metabolomics"),
    "kegg-compound": (re.compile(r"C\d{5}"), "metabolomics"),
    "chebi": (re.compile(r"CHEBI:\d+"), "metabolomics"),
    "hgnc-symbol": (re.compile(r"[A-Z][A-Z0-9]{0,9}(-[A-Z0-9]{1,5})?|C\d{1,2}orf\d+"), "gene expression"),
}
"""Naming system → the whole of an identifier, and the kind of profile that it names; asked in this order.

Source: identifiers.org registry, patterns of the same names; gene symbols after HGNC guideline 2 (Bruford et al., Nat Genet 2020).
"""
LEAST_FEATURES = {"hgnc-symbol": 100}
"""A symbol looks like any other word in capitals, so more of them have to stand side by side."""
FEWEST = 10
LEAST_SHARE = 0.8


def system_of(names: Sequence[str]) -> str | None:
    """Return the naming system that at least 10 names, and 80 % of all of them, are of; None when there is none.

    Example:
        >>> system_of([f"ENSG000001{place:05}.1" for place in range(20)])
        'ensembl'
        >>> system_of(["heart_rate [/min]", "time_s"]) is None
        True
    """
    for system, (pattern, _) in SYSTEMS.items():
        fits = sum(pattern.fullmatch(name) is not None for name in names)
        if fits >= max(LEAST_FEATURES.get(system, FEWEST), LEAST_SHARE * len(names)):
            return system
    return None


def is_of(name: str, system: str) -> bool:
    """Return whether a name is spelled as this system spells its identifiers."""
    return SYSTEMS[system][0].fullmatch(name) is not None


def kind_of(system: str) -> str:
    """Return the kind of profile in words.

    Example:
        >>> kind_of("hmdb"), kind_of("unknown")
        ('metabolomics', 'molecular profile')
    """
    return SYSTEMS[system][1] if system in SYSTEMS else "molecular profile"
