"""Words as dense tokens: clauses that go together lie together, rare and new ones are left out, the answer has no part."""

from __future__ import annotations

import numpy as np

from salus.evaluate.fusion.word_vectors import fit_word_vectors

ILL = {"heart": ["rate: fast", "pump: weak"], "lungs": ["air: short"]}
WELL = {"heart": ["rate: calm", "pump: firm"], "lungs": ["air: free"]}


def test_what_is_said_together_lies_together() -> None:
    made = fit_word_vectors([ILL, WELL] * 20, width=2, least=5)
    first = {words[2]: made.vectors[place, 0] for words, place in made.places.items()}
    assert len({round(first[word], 6) for word in ("fast", "weak", "short")}) == 1
    np.testing.assert_allclose([first["calm"], first["firm"], first["free"]], -first["fast"])
    tokens = made.tokens([ILL, WELL])
    assert tokens.values.shape == (2, 2, 2 + 2) and tokens.mask.all()
    np.testing.assert_allclose(tokens.values[0, :, 0], -tokens.values[1, :, 0], atol=1e-6)
    assert tokens.values[:, :, 2:].tolist() == [[[1, 0], [0, 1]]] * 2


def test_the_space_is_that_of_the_singular_value_decomposition() -> None:
    source = np.random.default_rng(0)
    told = [{"a": [f"x: {', '.join(['base', *(f'w{n}' for n in range(6) if source.random() < 0.5)])}"]} for _ in range(60)]
    made = fit_word_vectors(told, width=3, least=1)
    table = np.array([[words[2] in one["a"][0][3:].split(", ") for words in made.places] for one in told], float)
    _, _, right = np.linalg.svd(table - table.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs((right[:3] * made.vectors.T).sum(1)), 1.0, atol=1e-9)


def test_rare_and_new_words_change_nothing() -> None:
    made = fit_word_vectors([*([ILL, WELL] * 20), {"heart": ["rate: odd"], "lungs": []}], width=2, least=5)
    assert ("heart", "rate", "odd") not in made.places
    said = {"heart": [*ILL["heart"], "murmur: new"], "lungs": ILL["lungs"]}
    np.testing.assert_array_equal(made.tokens([said]).values, made.tokens([ILL]).values)
