"""PDF text: files are written by hand (`made_pdf`); encryption by pypdf itself, which is only asked to lock."""

from __future__ import annotations

import contextlib
import io
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.record.read.made_pdf import made_pdf

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.read import pdf_text as pdf_text_module
from salus.record.read.pdf import READER
from salus.record.read.reader import HEAD_BYTES, ReadOptions


def read(folder, raw):
    path = folder / "letter.pdf"
    path.write_bytes(raw)
    return READER.read(path, ReadOptions())


def test_pages_and_sections_are_notes_with_their_place(tmp_path):
    raw = made_pdf("Seen today.", "FINDINGS: lungs clear.\nIMPRESSION: normal.", "")
    path = tmp_path / "a.pdf"
    path.write_bytes(raw)
    assert READER.recognises(path, raw[:HEAD_BYTES])
    result = READER.read(path, ReadOptions())
    items = result.found[0].items
    assert [item.source.locator for item in items] == ["page 1", "page 2, section 1", "page 2, section 2"]
    assert [item.content.load().strip() for item in items] == ["Seen today.", "FINDINGS: lungs clear.", "IMPRESSION: normal."]
    assert [item.code.display for item in items] == ["note", "findings", "impression"]
    assert {(item.category, item.modality) for item in items} == {("note", "notes")}
    assert [each.reason for each in result.skipped] == ["1 page without a text layer (3): OCR is not applied"]


def test_a_section_goes_on_over_the_page(tmp_path):
    items = read(tmp_path, made_pdf("HISTORY: cough.\nFINDINGS: clear", "on both sides.")).found[0].items
    assert [item.code.display for item in items][-2:] == ["findings", "findings"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (made_pdf("", ""), "the PDF has no text layer on 2 pages (scanned?); OCR is not applied"),
        (b"%PDF-1.7\nnothing", "the PDF is damaged; export it again"),
        (made_pdf("x" * 500)[:200], "the PDF is damaged; export it again"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, raw, reason):
    with pytest.raises(FormatError) as caught:
        read(tmp_path, raw)
    assert str(caught.value) == f"Cannot read PDF 'letter.pdf': {reason}."


def test_a_locked_document_is_refused(tmp_path):
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter(io.BytesIO(made_pdf("Secret words.")))
    writer.encrypt("password", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(FormatError, match="encrypted with a password"):
        read(tmp_path, out.getvalue())


def test_a_bomb_is_ended(tmp_path):
    stream = zlib.compress(b"BT /F1 12 Tf " + b"(a) Tj " * 30_000_000 + b"ET", 9)
    raw = made_pdf("x").decode("latin-1")
    head, _, tail = raw.partition("<< /Length ")
    tail = tail.partition("endstream")[2]
    start_of_stream = f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n"
    bomb = (head + start_of_stream).encode("latin-1") + stream + b"\nendstream" + tail.encode()
    start = time.monotonic()
    with contextlib.suppress(FormatError):
        text = read(tmp_path, bomb).found[0].items[0].content.load()
        assert len(text) <= 1 << 20
    assert time.monotonic() - start < pdf_text_module.TIME_LIMIT_S + 10


def test_without_the_extra_the_message_says_how(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf_text_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        read(tmp_path, made_pdf("x"))
    assert str(caught.value).endswith("Run: pip install 'salus[documents]'")


@settings(max_examples=8)
@given(st.binary(max_size=200), st.integers(0, 700), st.integers(0, 60))
def test_whatever_the_bytes_only_typed_errors(tmp_path_factory, noise, at, cut):
    whole = made_pdf("Some words.")
    with contextlib.suppress(InputError):
        read(tmp_path_factory.mktemp("noise"), b"%PDF-" + (whole[5:at] + noise + whole[at + cut :]))


