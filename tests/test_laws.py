"""Laws of time and absence, over every registered modality with an encoder and over the model that ships; no data set is needed.

Nothing after the prediction time is given to an encoder or put into a prompt; the order of files changes nothing; leaving an item out
is masking its tokens; padding changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salus import registry
from salus.batch import OptionQuestion, encoded_record, option_logprobs, option_prompt
from salus.cohorts.sample_patient import write_sample_patient
from salus.commands.loading import load_named_model
from salus.encode.encoder import Encoder, Prepared, encode
from salus.fuse.concat import ConcatConfig, ConcatFuser
from salus.fuse.fuser import Present
from salus.model import SalusModel, build_encoder, prepare_modality
from salus.pipeline import ask, open_record
from salus.record.patient import Item, Offset, PatientRecord
from salus.record.read import folder as folder_walk
from salus.record.read.folder import one_patient, read_path
from salus.record.timeline import clock, cut

ENCODED = [name for name in registry.names("salus.modalities") if registry.load("salus.modalities", name).build_encoder is not None]
AT = Offset(24 * 3600.0, "admission")
TELLTALE = "zebrafish"
"""A word that no prompt holds unless an item of the future got in."""
SETTINGS = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def network(name: str) -> Encoder:
    """Return a modality's encoder as its plug-in builds it, with fixed weights, in evaluation mode."""
    torch.manual_seed(0)
    encoder = build_encoder(name, registry.load("salus.modalities", name).encoder_defaults)
    if hasattr(encoder, "fit"):
        one = encoder.prepare(examples(name), clock(PatientRecord("p", examples(name))))
        assert one is not None
        rng = np.random.default_rng(0)
        encoder.fit({key: value[None] + rng.normal(size=(20, *value.shape)).astype(value.dtype) for key, value in one.arrays.items()})
    return encoder.eval()  # type: ignore[attr-defined, no-any-return]


def examples(name: str) -> tuple[Item, ...]:
    """Return the modality's own example, an hour apart from admission on."""
    items = registry.load("salus.modalities", name).example()
    return tuple(replace(item, observed_at=Offset(3600.0 * (place + 1), "admission")) for place, item in enumerate(items))


def of_the_future(items: Sequence[Item], hours: float, *, is_recorded_late: bool) -> tuple[Item, ...]:
    """Return copies of items that were observed, or only written down, that many hours after admission, and give themselves away."""
    later = Offset(3600.0 * hours, "admission")
    return tuple(
        replace(
            item,
            id=f"later{place}",
            code=replace(item.code, display=TELLTALE),
            observed_at=item.observed_at if is_recorded_late else later,
            recorded_at=later if is_recorded_late else None,
            value=item.number + 1 if item.number is not None else item.value,
        )
        for place, item in enumerate(items)
        if item.category != "demographic"
    )


def same(first: Prepared | None, second: Prepared | None) -> bool:
    """Return whether two network inputs are equal, missing where the other is missing."""
    if first is None or second is None:
        return first is second
    equal = [np.array_equal(first.arrays[key], second.arrays[key], equal_nan=first.arrays[key].dtype.kind == "f") for key in first.arrays]
    return all(equal) and first.item_ids == second.item_ids and np.array_equal(first.time_s, second.time_s, equal_nan=True)


@pytest.mark.parametrize("name", ENCODED)
@SETTINGS
@given(hours=st.floats(24.02, 500.0), is_recorded_late=st.booleans())
def test_an_encoder_is_given_nothing_later_than_the_prediction_time(name: str, hours: float, is_recorded_late: bool) -> None:
    encoder, items = network(name), examples(name)
    given_items: list[Item] = []
    real = encoder.prepare

    def spy(seen: Sequence[Item], seconds: Any) -> Prepared | None:
        given_items.extend(seen)
        return real(seen, seconds)

    encoder.prepare = spy  # type: ignore[method-assign]
    later = of_the_future(items, hours, is_recorded_late=is_recorded_late)
    known = cut(PatientRecord("p", (*later, *items)), AT).record
    made = prepare_modality(encoder, name, known)
    assert given_items and not [item for item in given_items if item.id.startswith("later")]
    assert same(made, prepare_modality(encoder, name, cut(PatientRecord("p", items), AT).record))


@pytest.mark.parametrize("name", ENCODED)
@SETTINGS
@given(seed=st.integers(0, 1000))
def test_the_order_of_items_changes_no_network_input(name: str, seed: int) -> None:
    encoder, items = network(name), examples(name)
    order = np.random.default_rng(seed).permutation(len(items))
    seconds = clock(PatientRecord("p", items))
    assert same(encoder.prepare(items, seconds), encoder.prepare([items[place] for place in order], seconds))


@pytest.mark.parametrize("name", ENCODED)
def test_leaving_an_item_out_is_masking_the_tokens_that_are_its_own(name: str) -> None:
    encoder, items = network(name), examples(name)
    end = replace(items[0], id="end", modality="unclaimed", category="observation", observed_at=Offset(86_400.0, "admission"))
    whole = prepare_modality(encoder, name, PatientRecord("p", (*items, end)))  # `end` keeps the clock's last moment where it is
    assert whole is not None
    for item in (one for one in items if one.category != "demographic"):
        left = prepare_modality(encoder, name, PatientRecord("p", (*(one for one in items if one.id != item.id), end)))
        owners = {ids for ids in whole.item_ids if item.id in ids}
        if left is None:  # it was all there was: the whole modality is missing, and told so
            others = {one for ids in whole.item_ids for one in ids} - {item.id}
            assert not others
            continue
        assert not any(item.id in ids for ids in left.item_ids)
        if owners <= {(item.id,)} and all(len(value) == encoder.tokens for value in whole.arrays.values()):
            hidden = {key: value.copy() for key, value in whole.arrays.items()}
            for key, value in hidden.items():
                value[[item.id in ids for ids in whole.item_ids]] = left.arrays[key][-1]  # the last row is padding: an item left
            with torch.inference_mode():
                before, after = encode(encoder, [replace(whole, arrays=hidden)]), encode(encoder, [left])
            assert torch.allclose(before.values[0][before.mask[0]], after.values[0][after.mask[0]], atol=1e-5)
            assert int(before.mask.sum()) == int(after.mask.sum()) < int(encode(encoder, [whole]).mask.sum())


@pytest.mark.parametrize("name", ENCODED)
def test_a_patient_alone_and_in_a_batch_has_the_same_vectors(name: str) -> None:
    encoder, items = network(name), examples(name)
    whole = prepare_modality(encoder, name, PatientRecord("p", items))
    part = prepare_modality(encoder, name, PatientRecord("p", items[:1])) or whole
    assert whole is not None and part is not None
    with torch.inference_mode():
        alone, batch = encode(encoder, [whole]), encode(encoder, [part, whole, part])
    assert torch.allclose(alone.values[0][alone.mask[0]], batch.values[1][batch.mask[1]], atol=1e-5)
    assert torch.equal(alone.mask[0], batch.mask[1])


@pytest.mark.parametrize("name", ENCODED)
def test_an_absent_modality_is_told_by_a_marker_of_its_own(name: str) -> None:
    encoder = network(name)
    torch.manual_seed(0)
    fuser = ConcatFuser(ConcatConfig({name: (encoder.width, encoder.tokens)}, width=16)).eval()
    prepared = prepare_modality(encoder, name, PatientRecord("p", examples(name)))
    assert prepared is not None
    with torch.inference_mode():
        present = fuser({name: Present(torch.tensor([0]), encode(encoder, [prepared]))}, 2)
    missing_row, marker = present.mask[1], present.position.index(-1)
    assert missing_row.sum() == 1 and bool(missing_row[marker])  # one token, that says missing; no zeros
    assert not torch.allclose(present.tokens[0, marker], present.tokens[1, marker])
    assert float(present.tokens[1, marker].detach().abs().sum()) > 0


def test_dropping_every_value_of_a_variable_is_telling_it_as_never_measured() -> None:
    encoder, items = network("vitals_labs"), examples("vitals_labs")
    seconds = clock(PatientRecord("p", items))
    whole = encoder.prepare(items, seconds)
    assert whole is not None
    keys = sorted({one.code.code for one in items if one.category != "demographic" and one.number is not None})
    assert len(keys) > 1
    changed = 0
    for key in keys:
        left = encoder.prepare([one for one in items if one.code.code != key], seconds)
        assert left is not None
        row = np.flatnonzero((np.isfinite(whole.arrays["features"]) & ~np.isfinite(left.arrays["features"])).any(-1))
        masked = whole.arrays["features"].copy()
        masked[row] = np.nan
        if whole.time_s[0] == left.time_s[0]:  # the last measurement of all sets the window; then every row may move
            assert np.array_equal(masked, left.arrays["features"], equal_nan=True)
            changed += len(row)
    assert changed > 0


@pytest.fixture(scope="module")
def shipped() -> SalusModel:
    """Return the model inside the package."""
    return load_named_model(None, None)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the made-up patient of the demo."""
    path = tmp_path_factory.mktemp("sample")
    write_sample_patient(path)
    return path


def soft(model: SalusModel, record: PatientRecord) -> torch.Tensor:
    """Return the soft tokens that the language model sees."""
    with torch.inference_mode():
        fused = model.fuse([model.prepare(record)])
    return fused.tokens[0][fused.mask[0]]


@pytest.mark.slow
def test_nothing_later_reaches_the_shipped_model_or_its_prompt(shipped: SalusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    items = tuple(item for name in shipped.config.encoders for item in examples(name))
    later = tuple(
        replace(one, id=f"{one.id}{name}{late}")
        for name in shipped.config.encoders
        for late in (False, True)
        for one in of_the_future(examples(name), 30.0, is_recorded_late=late)
    )
    read: list[str] = []
    real = shipped.backbone.ids
    monkeypatch.setattr(shipped.backbone, "ids", lambda text, **more: read.append(text) or real(text, **more))  # type: ignore[func-returns-value]
    plain, more = (open_record(PatientRecord("p", each), shipped, at=AT) for each in (items, (*items, *later)))
    assert not {item.id for item in more.record.items if item.id.startswith("later")}
    assert torch.equal(soft(shipped, plain.record), soft(shipped, more.record))
    assert more.soft_item_ids == plain.soft_item_ids
    for question in ("What changed, what matters?", f"Is there any {TELLTALE}?"):
        read.clear()
        answer = ask(more, question)
        written = [text.replace(question, "") for text in read]
        assert read and not any(TELLTALE in text for text in written)
        assert [one.text for one in answer.statements] == [one.text for one in ask(plain, question).statements]


@pytest.mark.slow
def test_the_order_of_files_changes_nothing(shipped: SalusModel, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = one_patient(read_path(sample))
    in_order = folder_walk._without_copies
    monkeypatch.setattr(folder_walk, "_without_copies", lambda walk: in_order(walk)[::-1])
    second = one_patient(read_path(sample))
    assert [item.id for item in first.items] == [item.id for item in second.items]
    assert torch.equal(soft(shipped, first), soft(shipped, second))
    question = "How high did the creatinine get?"
    texts = [[one.text for one in ask(open_record(record, shipped), question).statements] for record in (first, second)]
    assert texts[0] and texts[0] == texts[1]


@pytest.mark.slow
def test_padding_changes_no_option_score(shipped: SalusModel, sample: Path) -> None:
    """In float32. In bfloat16, as shipped, the logits have steps of 0.125, and another shape of batch moved a margin by two of them."""
    shipped.float()
    record = one_patient(read_path(sample))
    question, options = "Will this patient die in hospital?", ("yes", "no")
    bare = PatientRecord("p", tuple(item for item in record.items if item.category == "demographic"))
    asked = [
        OptionQuestion(encoded_record(shipped, shipped.prepare(one)), option_prompt(one, question, options), options)
        for one in (record, bare)
    ]
    alone = [option_logprobs(shipped, [one])[0] for one in asked]
    together = option_logprobs(shipped, asked)
    assert np.allclose(alone, together, atol=1e-3)
