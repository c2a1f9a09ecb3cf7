"""Who is a negative of whom: never two items of one patient; knowledge adds positives; searches know every right answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuse.align.rows import made_rows

from salus.fuse.align.knowledge import KINDS, RELATED, knowledge
from salus.fuse.align.pairs import pairs_of, search_of

SEEDS = st.integers(0, 2**20)


@given(seed=SEEDS, share=st.floats(0, 1))
def test_two_items_of_one_patient_are_never_negatives(seed: int, share: float) -> None:
    rows = made_rows(14, seed)
    pairs = pairs_of(rows, "image", "text", knowledge=knowledge(), share=share)
    groups = np.array(rows.sets.groups)
    is_same = groups[:, None] == groups[None]
    is_negative = (pairs.positive.numpy() <= 0) & ~pairs.ignored.numpy()
    assert not (is_same & is_negative).any()
    assert not (pairs.ignored.numpy() & (pairs.positive.numpy() > 0)).any()


@given(seed=SEEDS)
def test_one_content_is_positive_wherever_it_stands(seed: int) -> None:
    rows = made_rows(14, seed)
    positive = pairs_of(rows, "image", "text").positive.numpy()
    for i in range(14):
        for j in range(14):
            if i == j or rows.units["text"][i] == rows.units["text"][j] or rows.units["image"][i] == rows.units["image"][j]:
                assert positive[i, j] == 1
            else:
                assert positive[i, j] == 0


def test_knowledge_adds_positives_between_patients_and_no_more_than_its_share() -> None:
    rows = made_rows(6, 0)
    names = tuple(f"p{row}" for row in range(6))
    rows = replace(rows, sets=replace(rows.sets, groups=names), units=dict.fromkeys(("image", "text"), names))
    covid, fever, head = frozenset({"disease:covid-19"}), frozenset({"symptom:fever"}), frozenset({"anatomy:head"})
    rows = replace(rows, concepts={"image": (covid,) * 3 + (head,) * 3, "text": (covid, fever, head) * 2})
    positive = pairs_of(rows, "image", "text", knowledge=knowledge(), share=0.4).positive.numpy()
    assert positive[0, 3] == pytest.approx(0.4)  # one concept
    assert positive[0, 1] == pytest.approx(0.4 * RELATED)  # fever is a symptom of it
    assert positive[0, 2] == 0
    assert positive[3, 5] == pytest.approx(0.4)
    assert (pairs_of(rows, "image", "text").positive.numpy() == np.eye(6)).all()


@given(seed=SEEDS)
def test_a_search_knows_every_right_answer(seed: int) -> None:
    rows = made_rows(14, seed, missing=0.3)
    for query, gallery in (("image", "text"), ("text", "image")):
        search = search_of(rows, query, gallery)
        both = [int(row) for row in rows.with_both(query, gallery)]
        units = [rows.units[gallery][row] for row in search.gallery]
        assert sorted(units) == sorted({rows.units[gallery][row] for row in both})
        for place, row in enumerate(search.queries):
            owners = {rows.sets.groups[each] for each in both if rows.units[query][each] == rows.units[query][row]}
            right = {rows.units[gallery][each] for each in both if rows.sets.groups[each] in owners}
            assert {unit for unit, is_right in zip(units, search.is_right[place], strict=True) if is_right} == right
            assert search.groups[place] == rows.sets.groups[row]


def test_rows_that_lack_a_modality_are_left_out() -> None:
    rows = made_rows(14, 1, missing=0.5)
    both = rows.with_both("image", "text")
    there = [rows.sets.modalities[name].mask.any(1) for name in ("image", "text")]
    assert 0 < len(both) < 14
    assert both.tolist() == np.flatnonzero(there[0] & there[1]).tolist()


def test_every_relation_has_a_source_and_every_concept_a_kind() -> None:
    table = knowledge()
    assert len(table.relations) >= 20
    assert all(row.source.startswith("https://") and row.note for row in table.relations)
    assert {name.partition(":")[0] for name in table.terms} <= set(KINDS)
    assert len({(row.finding, row.disease) for row in table.relations}) == len(table.relations)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("No fever. Cough.", {"symptom:cough"}),
        ("Fever but no cough", {"symptom:fever"}),
        ("Denied chest pain, cough or dyspnoea", set()),
        ("no effusion; consolidation in the right lower lobe", {"sign:consolidation", "anatomy:right lung"}),
        ("confluent shadows", set()),
    ],
)
def test_concepts_are_those_that_are_told_and_not_denied(text: str, found: set[str]) -> None:
    assert knowledge().concepts_of(text) == found


@given(seed=SEEDS)
def test_relatedness_is_the_written_out_rule(seed: int) -> None:
    table, source = knowledge(), np.random.default_rng(seed)
    names = sorted(table.terms)
    draw = [frozenset(names[place] for place in source.integers(0, len(names), source.integers(0, 4))) for _ in range(8)]
    links = {(row.finding, row.disease) for row in table.relations}
    links |= {(disease, finding) for finding, disease in links}
    found = table.matrix(draw[:4], draw[4:])
    for i, first in enumerate(draw[:4]):
        for j, second in enumerate(draw[4:]):
            shared = len(first & second) / len(first | second) if first | second else 0.0
            linked = RELATED if any((a, b) in links for a in first for b in second) else 0.0
            assert found[i, j] == pytest.approx(max(shared, linked))
