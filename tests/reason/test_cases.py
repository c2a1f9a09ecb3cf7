"""The index of solved cases: never the same patient, the same cases in any order, strict files, the text of every refusal."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save_file
from tests.tiny_model import patient

from salus.errors import ConfigError, FormatError, MissingExtra, ModelError
from salus.reason import cases as module
from salus.reason.cases import EVIDENCE_KEYS, Case, CaseIndex, Origin, Vectors, Wanted, hashed, kept_keys, load_cases, person_keys

ORIGIN = Origin("made-up", "parts@0123", "e4c0", ("notes",))
YES_NO = ("yes", "no")
KEYS = st.frozensets(st.integers(1, 12), min_size=1, max_size=3)


def unit(rows: int, width: int = 6, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return rows of norm 1."""
    made = np.random.default_rng(seed).normal(size=(rows, width))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def case(number: int, keys: frozenset[int], *, question: str = "Dead?", answer: str = "no", options: tuple[str, ...] = YES_NO) -> Case:
    return Case(hashed(f"task/{number}"), question, options, answer, keys)


def index_of(keys: Sequence[frozenset[int]], embeddings: Any = None, **known: Any) -> CaseIndex:
    rows = [case(number, one, answer="no" if number % 3 else "yes", **known) for number, one in enumerate(keys)]
    return CaseIndex(rows, unit(len(keys)) if embeddings is None else embeddings, ORIGIN, {})


def same_patient(keys: Sequence[frozenset[int]], mine: frozenset[int]) -> set[int]:
    """Return the places that are reached from some keys over shared keys, by spreading until nothing is added."""
    known, reached = set(mine), set[int]()
    while True:
        more = {place for place, one in enumerate(keys) if one & known} - reached
        if not more:
            return reached
        reached |= more
        known |= {key for place in more for key in keys[place]}


@settings(max_examples=150)
@given(keys=st.lists(KEYS, min_size=1, max_size=24), mine=KEYS, most=st.integers(0, 9), seed=st.integers(0, 99), balanced=st.booleans())
def test_no_case_is_of_the_same_patient_and_as_many_are_given_as_there_are(
    keys: list[frozenset[int]], mine: frozenset[int], most: int, seed: int, balanced: bool
) -> None:
    index = index_of(keys, unit(len(keys), seed=seed))
    wanted = Wanted("Dead?", YES_NO, most, mine, balanced)
    others = [place for place in range(len(keys)) if place not in same_patient(keys, mine)]
    patients = {min(same_patient(keys, keys[place])) for place in others}
    for found in (index.nearest(unit(1, seed=seed + 1)[0], wanted), index.drawn(wanted, seed)):
        places = [one.place for one in found]
        assert set(places) <= set(others)
        assert len(places) == min(most, len(patients)), "what was left out is made up for"
        assert len({min(same_patient(keys, keys[place])) for place in places}) == len(places), "one case of a patient"


@settings(max_examples=100)
@given(rows=st.integers(1, 60), most=st.integers(1, 8), seed=st.integers(0, 999), twins=st.integers(0, 20), balanced=st.booleans())
def test_the_order_of_the_index_changes_nothing(rows: int, most: int, seed: int, twins: int, balanced: bool) -> None:
    embeddings = unit(rows, seed=seed)
    embeddings[: min(twins, rows)] = embeddings[0]  # ties
    cases = [case(number, frozenset((number + 1,)), answer="no" if number % 3 else "yes") for number in range(rows)]
    order = np.random.default_rng(seed).permutation(rows)
    one, other = CaseIndex(cases, embeddings, ORIGIN, {}), CaseIndex([cases[at] for at in order], embeddings[order], ORIGIN, {})
    wanted = Wanted("Dead?", YES_NO, most, frozenset(), balanced)
    for query in (unit(1, seed=seed + 1)[0], embeddings[0]):
        found = [(one.cases[each.place].id, each.similarity) for each in one.nearest(query, wanted)]
        assert found == [(other.cases[each.place].id, each.similarity) for each in other.nearest(query, wanted)]
    assert [one.cases[each.place].id for each in one.drawn(wanted, 5)] == [other.cases[each.place].id for each in other.drawn(wanted, 5)]


def test_the_nearest_are_those_of_plain_products() -> None:
    """By numpy: the largest of all inner products, in float64; more rows than FAISS is first asked for."""
    embeddings = unit(500, 16, seed=3)
    index = CaseIndex([case(number, frozenset((number + 1,))) for number in range(500)], embeddings, ORIGIN, {})
    query = unit(1, 16, seed=4)[0]
    products = embeddings.astype(np.float64) @ query.astype(np.float64)
    for most in (1, 8, 500):
        found = index.nearest(query, Wanted("Dead?", YES_NO, most, frozenset()))
        assert [one.place for one in found] == np.argsort(-products)[:most].tolist()
        assert [one.similarity for one in found] == pytest.approx(np.sort(products)[::-1][:most].tolist(), abs=1e-12)


def test_ties_go_to_the_same_wording() -> None:
    embeddings = np.repeat(unit(1), 4, axis=0)
    cases = [case(number, frozenset((number + 1,)), question=f"Question {number}?") for number in range(4)]
    index = CaseIndex(cases, embeddings, ORIGIN, {})
    for number in range(4):
        found = index.nearest(embeddings[0], Wanted(f"QUESTION  {number}?", YES_NO, 2, frozenset()))
        assert found[0].place == number


def test_balanced_answers_take_turns_from_the_nearest_on() -> None:
    embeddings = unit(30, seed=7)
    index = index_of([frozenset((number + 1,)) for number in range(30)], embeddings)
    query = unit(1, seed=8)[0]
    found = index.nearest(query, Wanted("Dead?", YES_NO, 6, frozenset(), balanced=True))
    answers = [index.cases[one.place].answer for one in found]
    assert answers.count("yes") == 3 and answers[0] != answers[1] and answers[:2] * 3 == answers
    assert found[0].place == index.nearest(query, Wanted("Dead?", YES_NO, 1, frozenset()))[0].place


def test_random_cases_of_larger_draws_hold_the_smaller() -> None:
    index = index_of([frozenset((number + 1,)) for number in range(30)])
    draws = [[one.place for one in index.drawn(Wanted("Dead?", YES_NO, most, frozenset()), 1)] for most in (2, 8)]
    assert draws[1][:2] == draws[0] and draws[1] != [one.place for one in index.drawn(Wanted("Dead?", YES_NO, 8, frozenset()), 2)]


def test_a_patient_is_known_again_by_items_under_another_id() -> None:
    """`patient` has more items than an index keeps; a cut record, or the same files under another id, still share some."""
    record = patient(7)
    renamed = type(record)("somebody-else", record.items)
    assert kept_keys(record) & person_keys(renamed) and not kept_keys(record) & person_keys(patient(8))
    assert len(kept_keys(record)) <= EVIDENCE_KEYS + 1 and kept_keys(record) <= person_keys(record)
    assert kept_keys(record, ("group-1",)) & person_keys(patient(8), ("group-1",))
    bare = type(record)("patient-7", ())
    assert kept_keys(record) & person_keys(bare), "the id alone is enough"


def written(tmp_path: Path) -> tuple[CaseIndex, Path]:
    rows = np.array([0, 2], np.int64)
    vectors = Vectors(rows, np.ones((2, 3, 4), np.float32), np.ones((2, 3), np.bool_), np.full((2, 3), np.nan, np.float32))
    keys = [frozenset((1,)), frozenset((2, 2**63 + 5)), frozenset((3, 4, 5))]
    cases = [case(number, one, question=f"Q{number % 2}?", options=("a b", "no"), answer="a b") for number, one in enumerate(keys)]
    index = CaseIndex(cases, unit(3), ORIGIN, {"notes": vectors})
    index.save(tmp_path / "made.cases")
    return index, tmp_path / "made.cases"


def test_a_file_gives_the_same_index_and_names_nobody(tmp_path: Path) -> None:
    index, path = written(tmp_path)
    again = load_cases(path, embedder=ORIGIN.embedder, encoders=ORIGIN.encoders)
    assert again.cases == index.cases and again.origin == ORIGIN and again.fingerprint == index.fingerprint
    assert np.array_equal(again.embeddings, index.embeddings)
    for part in ("rows", "values", "mask", "time_s"):
        assert np.array_equal(getattr(again.vectors["notes"], part), getattr(index.vectors["notes"], part), equal_nan=part == "time_s")
    assert path.stat().st_mode & 0o777 == 0o600 and b"task/" not in path.read_bytes() and path.read_bytes() == index.to_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["made.cases"]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"embedder": "aligned@77"}, "they were made with embedding 'parts@0123', this model has 'aligned@77'. Make them again."),
        ({"encoders": "beef"}, "they were made with encoders 'e4c0', this model has 'beef'. Make them again."),
    ],
)
def test_an_index_of_another_model_is_refused(known: dict[str, str], words: str, tmp_path: Path) -> None:
    _, path = written(tmp_path)
    with pytest.raises(ModelError) as error:
        load_cases(path, **{"embedder": ORIGIN.embedder, "encoders": ORIGIN.encoders, **known})
    assert str(error.value) == f"Cannot use cases 'made.cases': {words}"


def refusal(path: Path) -> str:
    with pytest.raises(FormatError) as error:
        load_cases(path, embedder=ORIGIN.embedder, encoders=ORIGIN.encoders)
    return str(error.value)


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    index, path = written(tmp_path)
    whole = path.read_bytes()
    damaged = "Cannot read cases 'made.cases': it is damaged, or no index of cases. Make it again."
    for part in (whole[:-8], b"", b"no such thing"):
        path.write_bytes(part)
        assert refusal(path) == damaged
    path.unlink()
    assert refusal(path) == "Cannot read cases 'made.cases': no such file. Make it with 'salus cases'."
    tensors = load(whole)
    save_file(tensors, path)
    assert refusal(path).startswith("Cannot read cases 'made.cases': format None, this program reads 1.")
    save_file({name: one for name, one in tensors.items() if name != "answer"}, path, metadata={module.MARK: '{"format": 1}'})
    assert "its tables are ['asked'," in refusal(path)
    assert len(index) == 3


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtra) as error:
        index_of([frozenset((1,))])
    assert str(error.value) == "Cannot search similar cases: an optional package is not installed. Run: pip install 'salus[cases]'"


def test_what_cannot_be_indexed_or_searched_is_refused() -> None:
    index = index_of([frozenset((1,)), frozenset((2,))])
    with pytest.raises(ConfigError, match=r"Cannot index cases: an embedding has norm 2, not 1\. Scale each row to norm 1\."):
        index_of([frozenset((1,))], 2 * unit(1))
    with pytest.raises(ConfigError, match=r"Cannot index 0 cases with embeddings of shape \(0, 6\)\. Give one row for each\."):
        CaseIndex([], unit(0), ORIGIN, {})
    with pytest.raises(ConfigError, match=r"Cannot search cases by a vector of shape \(4,\): give 6 numbers of norm 1, as the index has\."):
        index.nearest(unit(1, 4)[0], Wanted("Dead?", YES_NO, 1, frozenset()))
    with pytest.raises(ConfigError, match=r"Cannot show cases: none has the options 'left,right'\. This index has: yes,no\."):
        index.nearest(unit(1)[0], Wanted("Side?", ("left", "right"), 1, frozenset()))
    found = index.nearest(unit(1)[0], Wanted("Dead?", ("no", "yes"), 2, frozenset()))
    assert len(found) == 2, "the order of options does not matter"
    assert random.Random(0).sample([one.place for one in found], 2)
