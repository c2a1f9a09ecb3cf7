"""What names the label goes out of a note, and findings stay."""

from __future__ import annotations

import pytest

from salus.evaluate.fusion.leakage import PATTERNS, hashed_words, without_label

CASES = {
    "sars": ("Known SARS case.", "Sarcoidosis is known."),
    "ards": ("Change typical of ARDS.", "Hard breathing and distress."),
    "pneumonia": ("Lobar bronchopneumonia.", "Small pneumomediastinum, pneumothorax."),
    "bacteria": ("Grew Klebsiella.", "Colitis for years."),
    "fungi": ("Pneumocystis jirovecii.", "Fundal gas."),
    "viruses": ("Influenza A was there.", "Flu-like illness with rash."),
    "lipoid": ("Aspiration event.", "Soiled with blood."),
    "no-finding": ("No finding.", "Findings of consolidation."),
    "drugs": ("Given remdesivir.", "Given oxygen."),
    "dates": ("Seen 27 January 2020.", "Age 20 years."),
    "covid": ("Infected with SARS-CoV-2.", "Corona radiata."),
    "tests": ("RT-PCR was positive.", "Air-bronchogram is positive."),
    "exposure": ("Trip to Italy.", "Contactless, strip of atelectasis."),
}


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: one.name)
def test_a_pattern_finds_its_words_and_leaves_others(pattern) -> None:  # type: ignore[no-untyped-def]
    positive, negative = CASES[pattern.name]
    assert pattern.found.search(positive) and not pattern.found.search(negative)
    assert without_label(negative) == negative.rstrip(" ")
    assert not any(one.found.search(without_label(positive)) for one in PATTERNS)


def test_the_remnant_of_a_clause_goes_with_it_and_other_clauses_stay() -> None:
    assert without_label("Fever of 38.5 C, COVID-19 positive. No effusion.") == "Fever of 38.5 C, No effusion."
    assert without_label("COVID-19 pneumonia.") == ""


def test_words_are_counted_in_bins() -> None:
    table = hashed_words(["cough cough fever", ""])
    assert sorted(table[0][table[0] > 0].round(4)) == [0.6931, 1.0986] and not table[1].any()
