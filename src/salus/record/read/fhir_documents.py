"""Text that FHIR R4 carries: conclusions, base64 attachments, Binary resources and files beside the bundle.

Takes an Attachment; gives the text, or the reason why it is not read. Fetches nothing from a network, and never leaves the
bundle's folder. Leaves out PDF, images and sound.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from salus.errors import FormatError
from salus.record.patient import Content
from salus.record.read.fhir_fields import Fields, reference_keys, text

TEXT_LIMIT_BYTES = 1 << 20
"""Longest text that is kept of one document."""


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
    """The text of one attachment."""

    content: Content
    remarks: tuple[str, ...] = ()
    companion: Path | None = None
    """The file that was read for it."""


def text_content(words: str) -> Content:
    """Return text as an item's content."""
    return Content("text", lambda: words, f"text, {len(words)} characters")


def document_of(attachment: Fields, around: Surroundings) -> Document:
    """Return the text of an Attachment.

    Raises:
        FormatError: it is not plain text, cannot be decoded, or lies elsewhere; the text says which.
    """
    stated = text(attachment, "contentType") or ""
    media, _, options = (part.strip().lower() for part in stated.partition(";"))
    if media != "text/plain":
        named = media if re.fullmatch(r"[\w.+-]+/[\w.+-]+", media, re.ASCII) else "that is not stated"
        raise FormatError(f"attachment of type {named}: only text/plain is read here")
    companion: Path | None = None
    data, address = text(attachment, "data"), text(attachment, "url")
    if data is not None:
        raw = _from_base64(data)
    elif address is None:
        raise FormatError("attachment holds neither data nor an address")
    elif (binary := around.resolve(address, [])) is not None:
        raw = _from_base64(text(binary, "data") or "")
    else:
        companion = _beside(address, around.folder)
        try:
            with companion.open("rb") as stream:
                raw = stream.read(TEXT_LIMIT_BYTES + 1)
        except OSError as error:
            raise FormatError(f"attachment's file cannot be read ({error.strerror})") from None
    declared = re.search(r"charset=\"?([\w-]+)", options, re.ASCII)
    words, remarks = decoded(raw, declared[1] if declared else "utf-8")
    return Document(text_content(words), remarks, companion)


def decoded(raw: bytes, charset: str = "utf-8") -> tuple[str, tuple[str, ...]]:
    """Return the text of at most `TEXT_LIMIT_BYTES` bytes, and a remark when there were more.

    Raises:
        FormatError: the bytes are not in the character set, or hold no text.
    """
    kept = raw[:TEXT_LIMIT_BYTES]
    is_cut = len(raw) > len(kept)
    try:
        words = kept.decode("utf-8-sig" if charset == "utf-8" else charset)
    except UnicodeDecodeError as error:
        if not (is_cut and charset == "utf-8" and error.start >= len(kept) - 3 and error.reason == "unexpected end of data"):
            raise FormatError(f"text is not {charset.upper()} at byte {error.start}") from None
        words = kept[: error.start].decode("utf-8-sig")
    except LookupError:
        raise FormatError("attachment's character set is unknown") from None
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
