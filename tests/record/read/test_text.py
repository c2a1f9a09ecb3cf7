"""Plain text: what is a note, what is not, and what a user is told."""

from __future__ import annotations

import hashlib

import pytest

from salus.errors import FormatError
from salus.record.read.reader import HEAD_BYTES, ReadOptions
from salus.record.read.text import READER

NOTE = "Pt seen on ward round. BP 120/80, HR 88.\nCough for three days; chest clear.\nPlan: review.\n"

ADVICE = "Declare its encoding in the manifest, save it as UTF-8 text, or remove it."


def recognised(path, raw, name="note.txt"):
    file = path / name
    file.write_bytes(raw)
    return READER.recognises(file, raw[:HEAD_BYTES])


@pytest.mark.parametrize("name", ["note.txt", "visit 3.TEXT"])
def test_notes_are_recognised(tmp_path, name):
    assert recognised(tmp_path, NOTE.encode(), name)
    assert recognised(tmp_path, b"Chest clear, no fever.", name)
    assert recognised(tmp_path, "\ufeffToux depuis trois jours, pas de fièvre.".encode(), name)


@pytest.mark.parametrize(
    "name", ["README.txt", "readme.upstream.txt", "LICENSE.txt", "requirements.txt", "note.md", "note.csv", "note"]
)
def test_other_names_are_not_notes(tmp_path, name):
    assert not recognised(tmp_path, NOTE.encode(), name)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resourceType": "Patient"}',
        b"[1, 2]",
        b"Time,Parameter,Value\n00:00,RecordID,132539\n00:00,Age,54\n",
        b"a\tb\n1\t2\n",
        b"\x00\x01\x02\x03",
        b"#!/bin/sh\necho hello\n",
        b"import os\nprint(os)\n",
        b"<?xml version='1.0'?><a/>",
        b"MSH|^~\\&|A|B\nPID|1|\n",
        b"  1.0e+00  -1.1e-01\n  1.0e+00  2.8e+00\n",
        b"Image_00007\nImage_00011\nImage_00015\n",
        b"EI,   NAME-DONOR-521,   CCAGCT\nEI,   NAME-DONOR-905,   AGACCC\n",
    ],
)
def test_other_contents_are_not_notes(tmp_path, raw):
    assert not recognised(tmp_path, raw)


def test_a_note_is_one_item_that_loads_when_needed(tmp_path):
    file = tmp_path / "note.txt"
    file.write_bytes(b"\xef\xbb\xbf" + NOTE.encode())
    (found,) = READER.read(file, ReadOptions()).found
    (item,) = found.items
    assert found.subject_id is None
    assert (item.category, item.modality, item.observed_at) == ("note", "notes", None)
    assert item.source.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert item.content.summary == f"text, {len(NOTE)} characters"
    assert item.content.load() == NOTE


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "Cannot read 'note.txt': the file is empty (0 bytes). Export or copy it again."),
        (b"  \n ", f"Cannot read text 'note.txt': holds no text. {ADVICE}"),
        (
            "Fièvre".encode("latin-1"),
            f"Cannot read text 'note.txt': text is not UTF-8 at byte 2. {ADVICE}",
        ),
        (
            b"\xff\xfeF\x00e",
            f"Cannot read text 'note.txt': text is not UTF-16 at byte 4. {ADVICE}",
        ),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, raw, message):
    assert recognised(tmp_path, raw)
    with pytest.raises(FormatError) as caught:
        READER.read(tmp_path / "note.txt", ReadOptions())
    assert str(caught.value) == message


def test_a_huge_file_is_read_to_its_limit_and_says_so(tmp_path):
    file = tmp_path / "note.txt"
    with file.open("wb") as stream:
        stream.write("é".encode() * (1 << 19) + b"x")  # the limit falls between characters
        stream.truncate(64 << 20)  # sparse; the rest is NULs that are never decoded
    (item,) = READER.read(file, ReadOptions()).found[0].items
    assert item.remarks == ("only the first 1 MB of the text is read",)
    assert len(item.content.load()) == 1 << 19
    file.write_bytes(b"x" + "é".encode() * (1 << 19) + b"yz")  # the limit falls inside a character
    (item,) = READER.read(file, ReadOptions()).found[0].items
    assert item.content.load() == "x" + "é" * ((1 << 19) - 1)


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_character_set(tmp_path, charset):
    file = tmp_path / "note.txt"
    file.write_bytes("Fièvre depuis trois jours.".encode(charset))
    (item,) = READER.read(file, ReadOptions()).found[0].items
    assert item.content.load() == "Fièvre depuis trois jours."


def test_a_declared_character_set_is_taken_and_others_are_refused(tmp_path):
    file = tmp_path / "note.txt"
    file.write_bytes("Größe unverändert.".encode("cp1252"))
    (item,) = READER.read(file, ReadOptions(encoding="windows-1252")).found[0].items
    assert item.content.load() == "Größe unverändert."
    for wrong in ("zlib", "rot13", "no-such"):
        with pytest.raises(FormatError, match="its character set is unknown"):
            READER.read(file, ReadOptions(encoding=wrong))


def test_sections_are_items_that_together_are_the_text(tmp_path):
    words = "Seen in clinic.\n\nFINDINGS: lungs clear.\n\nImpression\nNo change.\n"
    file = tmp_path / "note.txt"
    file.write_text(words)
    items = READER.read(file, ReadOptions()).found[0].items
    assert [item.code.display for item in items] == ["note", "findings", "impression"]
    assert [item.source.locator for item in items] == ["section 1", "section 2", "section 3"]
    assert "".join(item.content.load() for item in items) == words


def test_another_language_is_remarked(tmp_path):
    file = tmp_path / "note.txt"
    file.write_text("Der Patient wurde mit Fieber und Husten auf die Station aufgenommen.")
    (item,) = READER.read(file, ReadOptions()).found[0].items
    assert item.remarks == ("in German, by its most frequent words",)
