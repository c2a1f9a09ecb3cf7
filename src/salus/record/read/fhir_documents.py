"""Text that FHIR R4 carries: conclusions, base64 attachments, Binary resources and files beside the bundle.

Takes an Attachment; gives the text, or the reason why it is not read. Fetches nothing from a network, and never leaves the
bundle's folder. Leaves out images and sound.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from salus.errors import FormatError
from salus.record.language import language_of
from salus.record.patient import Code, Content
from salus.record.read.fhir_fields import Fields, reference_keys, text
from salus.record.read.pdf_text import pdf_text
from salus.record.read.pdf_worker import FILE_LIMIT_BYTES
from salus.record.sections import sections_of

TEXT_LIMIT_BYTES = 1 << 20
"""Longest text that is kept of one document."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHARSET = re.compile(
    r"us-ascii|ascii|latin-?1|utf-?(?:8|16|32)(?:-?[lb]e)?|iso-?8859-\d{1,2}|(?:windows|cp)-?(?:125\d|437|850|932|936|949|950)"
    r"|gb18030|gbk|gb2312|big5|euc[-_](?:kr|jp)|shift_?jis|koi8-[ru]|mac-?roman"
)
"""Character sets that may be declared."""


@dataclass(frozen=True)
class Surroundings:
    """What a resource may refer to."""

    folder: Path
    """Folder of the file that is read; attachments by relative address lie in it."""
    resources: Mapping[str, Fields]
    """Medication and Binary resources by fullUrl and `Type/id`."""

    def resolve(self, reference: str, contained: list[Fields]) -> Fields | None:
        """Return the resource that a reference means, in the resource itself or in the file."""
        if reference.startswith("#"):
            return next((part for part in contained if part.get("id") == reference[1:]), None)
        return next((self.resources[key] for key in reference_keys(reference) if key in self.resources), None)


@dataclass(frozen=True)
class Document:
    """The text of one attachment, in one part or several."""

    parts: tuple[tuple[str, str, Code | None], ...]
    """(place within the attachment, text, section): pages of a PDF, sections of a text."""
    remarks: tuple[str, ...] = ()
    companion: Path | None = None
    """The file that was read for it."""


def text_content(words: str) -> Content:
    """Return text as an item's content."""
    return Content("text", lambda: words, f"text, {len(words)} characters")


def parts_of(words: str) -> tuple[tuple[str, str, Code | None], ...]:
    """Return a text's sections with their place; a text without headings is one part without a place."""
    sections = sections_of(words)
    if len(sections) == 1:
        return (("", words, None),)
    return tuple((f".section[{number}]", words[each.start : each.end], each.code) for number, each in enumerate(sections))


def remarks_of(words: str) -> tuple[str, ...]:
    """Return what is to be said of a text as a whole: its language, unless it is English or cannot be told."""
    language = language_of(words)
    return () if language in (None, "English") else (f"in {language}, by its most frequent words",)


def document_of(attachment: Fields, around: Surroundings) -> Document:
    """Return the text of an Attachment that is plain text or PDF.

    Raises:
        FormatError: it is neither, cannot be decoded, or lies elsewhere; the text says which.
        MissingExtra: it is a PDF, and nothing is installed that reads one.
    """
    stated = text(attachment, "contentType") or ""
    media, _, options = (part.strip().lower() for part in stated.partition(";"))
    if media not in ("text/plain", "application/pdf"):
        named = media if re.fullmatch(r"[\w.+-]+/[\w.+-]+", media, re.ASCII) else "that is not stated"
        raise FormatError(f"attachment of type {named}: only text/plain and application/pdf are read here")
    limit = TEXT_LIMIT_BYTES if media == "text/plain" else FILE_LIMIT_BYTES
    raw, companion = _bytes_of(attachment, around, limit)
    if media == "application/pdf":
        found = pdf_text(raw)
        parts = tuple((f".page[{page}]{within}", words, code) for page, each in found.pages for within, words, code in parts_of(each))
        silent = (f"{len(found.silent)} pages have no text layer; OCR is not applied",) if found.silent else ()
        return Document(parts, found.remarks + silent + remarks_of("\n".join(words for _, words, _ in parts)), companion)
    declared = re.search(r"charset=\"?([\w-]+)", options, re.ASCII)
    words, remarks = decoded(raw, charset_of(raw, declared[1] if declared else None))
    return Document(parts_of(words), remarks + remarks_of(words), companion)


def _bytes_of(attachment: Fields, around: Surroundings, limit: int) -> tuple[bytes, Path | None]:
    """Return an attachment's bytes, at most one more than the limit, and the file that they came from."""
    data, address = text(attachment, "data"), text(attachment, "url")
    if data is not None:
        return _from_base64(data), None
    if address is None:
        raise FormatError("attachment holds neither data nor an address")
    if (binary := around.resolve(address, [])) is not None:
        return _from_base64(text(binary, "data") or ""), None
    companion = _beside(address, around.folder)
    try:
        with companion.open("rb") as stream:
            return stream.read(limit + 1), companion
    except OSError as error:
        raise FormatError(f"attachment's file cannot be read ({error.strerror})") from None


def charset_of(raw: bytes, declared: str | None = None) -> str:
    """Return the character set of a text: by its byte-order mark, else as declared, else UTF-8.

    Raises:
        FormatError: what is declared is not a character set that is read.
    """
    for mark, charset in _MARKS:
        if raw.startswith(mark):
            return charset
    named = (declared or "utf-8").lower()
    if not _CHARSET.fullmatch(named):
        raise FormatError("its character set is unknown")
    return named


def decoded(raw: bytes, charset: str = "utf-8") -> tuple[str, tuple[str, ...]]:
    """Return the text of at most `TEXT_LIMIT_BYTES` bytes, and a remark when there were more.

    Raises:
        FormatError: the bytes are not in the character set, or hold no text.
    """
    kept = raw[:TEXT_LIMIT_BYTES]
    is_cut = len(raw) > len(kept)
    try:
        decoder = codecs.getincrementaldecoder("utf-8-sig" if charset == "utf-8" else charset)()
        words = decoder.decode(kept, not is_cut)  # a character that the limit cuts in two is no mistake
    except UnicodeDecodeError as error:
        raise FormatError(f"text is not {charset.upper()} at byte {error.start}") from None
    except UnicodeError:  # UTF-16 without its mark
        raise FormatError(f"text is not {charset.upper()}") from None
    except LookupError:
        raise FormatError("its character set is unknown") from None
    if not words.strip():
        raise FormatError("holds no text")
    return words, ("only the first 1 MB of the text is read",) if is_cut else ()


def _from_base64(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("attachment's data is not base64") from None


def _beside(address: str, folder: Path) -> Path:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", address):
        raise FormatError("attachment at a network address is not fetched")
    try:
        path = (folder / address).resolve()
        is_inside, is_there = path.is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError):
        raise FormatError("attachment's address is not a file name") from None
    if not is_inside:
        raise FormatError("attachment's address leads out of the file's folder")
    if not is_there:
        raise FormatError("attachment's file is not there")
    return path
