"""Reader of clinical notes as plain text: `.txt` and `.text` files in UTF-8, or in the character set that a mark or the manifest declares.

Takes a file that no other reader wants; gives one note, or one for each section, whose text loads when needed. Tables, lists of names,
source code and the files that describe a folder (README, licence) are not notes. A character set is never guessed.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.language import language_of
from salus.record.patient import Code, Content, Item, Source, item_id
from salus.record.read.fhir_documents import TEXT_LIMIT_BYTES, charset_of, decoded
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.sections import sections_of

ENDINGS = (".txt", ".text")
ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|notice|authors?|change(s|log)|contributing|requirements|source|sha\d+sums?|manifest)\b", re.I
)
"""Names of files that describe a folder, not a patient."""
_CODE = re.compile(rb"\s*(#!|<\?xml|<!doctype|<html|#include\b|import \w+\s*$|from \w+ import |MSH\||[{\[])", re.I | re.M)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FEWEST_LETTERS = 0.3
"""A note may be full of numbers; a matrix has hardly a letter."""


def recognises(path: Path, head: bytes) -> bool:
    """Return whether the file is named as text and its first bytes read as prose."""
    if path.suffix.lower() not in ENDINGS or ABOUT.match(path.stem):
        return False
    if head.startswith(_UTF16):
        return True
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in head) or _CODE.match(head.removeprefix(b"\xef\xbb\xbf")):
        return False
    return not head.strip() or _is_prose(head.decode("utf-8", errors="replace"))


def _is_prose(head: str) -> bool:
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    solid = "".join(head.split())
    if sum(character.isalpha() for character in solid) < _FEWEST_LETTERS * len(solid):
        return False
    if len(lines) >= 3 and all(len(line.split()) == 1 for line in lines):
        return False  # a list of names
    whole = lines[:-1] if len(lines) > 3 else lines
    for delimiter in ",;\t|":
        counts = {line.count(delimiter) for line in whole[:20]}
        if len(whole) >= 2 and len(counts) == 1 and counts.pop() >= (1 if delimiter in "\t|" else 2):
            return False  # a table
    return True


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return one note, or one for each of its sections; at most `TEXT_LIMIT_BYTES` of it are ever in memory.

    Raises:
        FormatError: the file is empty, holds only blanks, or is not in its character set.
        InputError: it cannot be opened.
    """
    refuse_empty(path)
    words, remarks = _load(path, options.encoding)
    language = language_of(words)
    if language not in (None, "English"):
        remarks = (*remarks, f"in {language}, by its most frequent words")
    sha256 = file_sha256(path)
    sections = sections_of(words)
    items = []
    for number, section in enumerate(sections, start=1):
        locator = "text" if len(sections) == 1 else f"section {number}"
        is_cut = len(sections) == 1 and any("only the first" in remark for remark in remarks)
        summary = f"text, {path.stat().st_size} bytes" if is_cut else f"text, {section.end - section.start} characters"
        items.append(
            Item(
                id=item_id(sha256, locator),
                modality=options.modality or modality_of("media:text/plain", "category:note"),
                code=section.code or Code("http://loinc.org", "34109-9", "note"),
                source=Source(str(path), sha256, locator),
                category="note",
                content=Content("text", partial(_words, path, options.encoding, (section.start, section.end)), summary),
                remarks=remarks,
            )
        )
    return FileRead(found=(Found(None, tuple(items)),))


def _words(path: Path, encoding: str | None, span: tuple[int, int]) -> str:
    return _load(path, encoding)[0][slice(*span)]


def _load(path: Path, encoding: str | None) -> tuple[str, tuple[str, ...]]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(TEXT_LIMIT_BYTES + 1)
    except OSError as error:
        raise InputError(f"Cannot read text '{path.name}': {error.strerror}. Check that the file is still there.") from error
    try:
        return decoded(raw, charset_of(raw, encoding))
    except FormatError as error:
        raise FormatError(
            f"Cannot read text '{path.name}': {error}. Declare its encoding in the manifest, save it as UTF-8 text, or remove it."
        ) from None


READER = Reader(name="text", title="plain text", recognises=recognises, read=read, priority=90)
