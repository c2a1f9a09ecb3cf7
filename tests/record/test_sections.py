"""Sections and languages: headings as clinicians write them; the sentences are made up, each by the grammar of its language."""

from __future__ import annotations

import itertools
from importlib.resources import files

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from salus.record.language import language_of
from salus.record.sections import _plain, head_of, sections_of

REPORTS = {
    "English": "TECHNIQUE: CT without contrast.\nFINDINGS: No bleed.\nIMPRESSION: Normal.",
    "German": "Fragestellung: Blutung?\nBefund: Keine Blutung.\nBeurteilung: Unauffällig.",
    "French": "Indication : douleur.\nRésultat : pas de lésion.\nConclusion : examen normal.",
    "Spanish": "Técnica: TC.\nHallazgos: sin lesiones.\nImpresión: normal.",
    "Italian": "Quesito clinico: dolore.\nReferto: nella norma.\nConclusioni: negativo.",
    "Portuguese": "Técnica: TC.\nAchados: sem lesões.\nImpressão: normal.",
    "Dutch": "Klinische gegevens: pijn.\nVerslag: geen afwijkingen.\nConclusie: normaal.",
    "Chinese": "检查方法：平扫。\n影像所见：未见异常。\n诊断意见：正常。",
}


@pytest.mark.parametrize("language", REPORTS)
def test_radiology_reports_of_eight_languages(language):
    found = [section.code.display for section in sections_of(REPORTS[language])]
    assert found[1:] == ["findings", "impression"] and found[0] in ("technique", "indication")


@pytest.mark.parametrize(
    ("line", "free", "display"),
    [
        ("Past Medical History:", False, "past medical history"),
        ("2. Medications: aspirin", False, "medications"),
        ("## Plan", False, "plan"),
        ("**Allergies**", False, "allergies"),
        ("ALLERGIES", False, "allergies"),
        ("Allergies", True, "allergies"),
        ("Allergies", False, None),
        ("allergies", True, None),
        ("The plan: rest", True, None),
        ("Impression of a tall man walking in", True, None),
        ("ANTECEDENTS: aucun", False, "past medical history"),
        ("【诊断】", False, "diagnoses"),
        ("Time: 10:30", True, None),
    ],
)
def test_how_a_heading_stands(line, free, display):
    found = head_of(line, stands_free=free)
    assert (found.display if found else None) == display


def test_a_heading_belongs_to_one_section():
    rows = yaml.safe_load(files("salus.record").joinpath("section_heads.yaml").read_text("utf-8"))
    heads = [_plain(head) for row in rows for head in row["heads"]]
    owners = {head: {row["code"] for row in rows if head in map(_plain, row["heads"])} for head in heads}
    assert {head: owner for head, owner in owners.items() if len(owner) > 1} == {}
    assert len({row["code"] for row in rows}) == len(rows)


LINES = ["PLAN: rest\n", "Findings:\n", "text\r\n", "\n", "x" * 90, "Befund\n", "：：：\n", "\x0b", "\u2028"]


@given(st.lists(st.sampled_from(LINES), max_size=30))
def test_sections_cover_the_text_and_nothing_twice(lines):
    text = "".join(lines)
    sections = sections_of(text)
    assert sections[-1].end == len(text) and all(a.end == b.start for a, b in itertools.pairwise(sections))
    assert not text[: sections[0].start].strip()


SENTENCES = {
    "English": "The patient was seen in the clinic and has no fever at this time.",
    "German": "Der Patient wurde mit Fieber und Husten auf die Station aufgenommen.",
    "French": "Le patient est admis dans le service pour une pneumonie avec de la fièvre.",
    "Spanish": "El paciente acude a la consulta por dolor en el pecho y no tiene fiebre.",
    "Italian": "Il paziente è stato ricoverato per una polmonite con febbre nella notte.",
    "Portuguese": "O paciente foi internado com uma pneumonia e não tem febre no momento da alta.",
    "Dutch": "De patiënt is opgenomen met een longontsteking en heeft geen koorts bij het ontslag.",
    "Chinese": "患者因发热三天入院，无咳嗽。",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_language_of_a_plain_sentence(language):
    assert language_of(SENTENCES[language]) == language


@pytest.mark.parametrize("text", ["", "BP 120/80 HR 88", "肺炎のため入院した。", "xyz abc"])
def test_language_that_cannot_be_told(text):
    assert language_of(text) is None
