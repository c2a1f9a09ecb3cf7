"""Takes out of a clinical note what names its label: diagnoses of the cohort's `finding`, tests, exposure, drugs for one cause.

Takes a note; gives what is left, with nothing in place of what went. Words go alone where the rest of the clause stays a finding; a clause
goes whole (up to a comma, semicolon, colon or full stop) where its remnant would tell as much ("was positive", "typical for").
What stays: history (HIV, smoking), symptoms, blood counts, findings and devices, and the style of the source: who wrote how much about
which cases. That style tells the label too, so a figure with notes is an upper bound. Patterns were chosen on `train` and `val` alone.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 1024
"""Bins of hashed words."""
_CLAUSE = re.compile(r"[^,;:.]*(?:[.](?=\d)[^,;:.]*)*(?:[,;:.]+|$)")
_EMPTY = re.compile(r"\(\s*[/,;-]*\s*\)")
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Pattern:
    """Something that names a label."""

    name: str
    why: str
    words: str
    """Regular expression, without case."""
    takes_clause: bool = False
    """Whether the clause around it goes too."""

    @property
    def found(self) -> re.Pattern[str]:
        """The expression between word boundaries."""
        return re.compile(rf"(?<!\w)(?:{self.words})(?!\w)", re.IGNORECASE)


PATTERNS = (
    Pattern("sars", "`SARS` and `MERS` of the finding column, where no coronavirus is named", r"(?:sars|mers)(?![\s-]*cov)"),
    Pattern("ards", "`ARDS` of the finding column", r"ards|(?:acute\s+)?respiratory\s+distress(?:\s+syndrome)?"),
    Pattern("pneumonia", "`Pneumonia` of the finding column; nearly every cause is named with it", r"\w*pneumoni(?:a|ae|as|c|tis)"),
    Pattern(
        "bacteria",
        "bacterial causes of the finding column and their families",
        r"strep\w*|pneumococc\w*|klebsiella\w*|legionell\w*|e\.?\s?coli|escherichia(?:\s+coli)?|mycoplasma\w*|staph\w*|pseudomon\w*"
        r"|chlamyd\w*|mycobacteri\w*|tubercul\w*|tb|nocardi\w*|\w*bacteri\w*",
    ),
    Pattern("fungi", "fungal causes", r"pneumocystis(?:\s+(?:jirov|carin)\w*)?|pcp|pjp|aspergill\w*|candid\w*|fung(?:i|al|us)"),
    Pattern(
        "viruses",
        "other viruses of the finding column; the symptom `flu-like` stays",
        r"influenza(?:\s+[ab](?:/b)?)?|flu(?![\s-]*like)|varicella|chickenpox|zoster|herpes|(?:respiratory\s+)?syncytial|rsv|virus\w*|viral",
    ),
    Pattern("lipoid", "`Lipoid` and aspiration of the finding column", r"lipoid|paraffin|mineral\s+oil|oily|aspirat\w*"),
    Pattern("no-finding", "`No Finding` of the finding column", r"no\s+(?:significant\s+)?findings?"),
    Pattern(
        "drugs",
        "drugs given for one cause",
        r"(?:hydroxy)?chloroquine|remdesivir|lopinavir|ritonavir|kaletra|favipiravir|tocilizumab|interferon\w*|oseltamivir|tamiflu"
        r"|a[cz]iclovir|acyclovir|co-?trimoxazole|trimethoprim|sulfamethoxazole|pentamidine",
    ),
    Pattern(
        "dates", "the year and month tell the pandemic", r"(?:\d{1,2}\s+)?(?:january|february|march|april)(?:\s+20\d\d)?|(?:in\s+)?20\d\d"
    ),
    Pattern(
        "covid",
        "names of the label and of its virus",
        r"(?:novel\s+)?corona\s*virus\w*|n?covid\w*(?:[\s-]*19)?|sars[\s-]*cov\w*|2019-?n?cov|ncov\w*",
        takes_clause=True,
    ),
    Pattern(
        "tests",
        "tests for a cause and their results",
        r"(?:rt[\s-]*)?pcr|polymerase|swabs?|antigen\w*|serolog\w*|cultures?|cultured|sputum|immunofluorescence|[rd]na|lavage"
        r"|tested(?:\s+(?:for|positive|negative))?|(?:positive|negative)\s+(?:tests?|results?)|tests?\s+(?:was|were)\s+\w+",
        takes_clause=True,
    ),
    Pattern(
        "exposure",
        "travel, contact and isolation: asked and written down of one disease",
        r"travel\w*|trip|overseas|wuhan|hubei|china|macau|italy|iran|caribbean|pandemic|epidemi\w*|endemic|outbreak|quarantine\w*"
        r"|sick\s+contact|contact\s+with|wet\s+market|pathogen\s+exposure|isolated|isolation|risk\s+factors?",
        takes_clause=True,
    ),
)
"""In the order in which they are taken out."""


def without_label(note: str) -> str:
    """Return a note without what names its label.

    Example:
        >>> without_label("Elderly male, covid-19 positive. Right lower lobe pneumonia with effusion.")
        'Elderly male, Right lower lobe with effusion.'
    """
    for pattern in PATTERNS:
        found = pattern.found
        if pattern.takes_clause:
            note = "".join(one.group() for one in _CLAUSE.finditer(note) if not found.search(one.group()))
        else:
            note = found.sub(" ", note)
    note = re.sub(r"\s+", " ", _EMPTY.sub(" ", note))
    note = re.sub(r"\s+(?=[.,;:])", "", note).strip(" ,;:")
    return note if _WORD.search(note.lower()) else ""


def hashed_words(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return (n, 1024) how many words of each text fall in each bin, as log(1 + count): what a plain reader of words sees."""
    table = np.zeros((len(texts), WIDTH))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            table[row, zlib.crc32(word.encode()) % WIDTH] += 1
    return np.log1p(table)
