"""Reader of PDF documents that carry text: reports, letters, discharge summaries.

Takes a file; gives one note for each page, or for each section where a page has headings, placed by page and section. A page without a text
layer is listed as skipped: OCR is not applied. Leaves out pictures, forms and layout; the document's own metadata is never read.
"""

from __future__ import annotations

from pathlib import Path

from salus.errors import FormatError, InputError
from salus.record.claims import modality_of
from salus.record.language import language_of
from salus.record.patient import Code, Item, Skipped, Source, item_id
from salus.record.read.fhir_documents import text_content
from salus.record.read.pdf_text import PdfText, pdf_text
from salus.record.read.pdf_worker import FILE_LIMIT_BYTES
from salus.record.read.reader import FileRead, Found, Reader, ReadOptions
from salus.record.read.source import file_sha256, refuse_empty
from salus.record.sections import sections_of

MOST_NAMED = 10


def read(path: Path, options: ReadOptions) -> FileRead:
    """Return the notes of a PDF.

    Raises:
        FormatError: it is empty, encrypted, damaged, over the limits, or has no text layer at all.
        InputError: it cannot be opened.
        MissingExtra: pypdf is not installed.
    """
    refuse_empty(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise InputError(f"Cannot read PDF '{path.name}': {error.strerror}. Check that it may be read.") from error
    try:
        document = pdf_text(raw)
    except FormatError as error:
        raise FormatError(f"Cannot read PDF '{path.name}': {error}.") from None
    items = _items(path, document, options)
    skipped = []
    if document.silent:
        named = ", ".join(str(number) for number in document.silent[:MOST_NAMED]) + (", …" if len(document.silent) > MOST_NAMED else "")
        count = len(document.silent)
        skipped.append(Skipped(str(path), f"{count} page{'s'[: count != 1]} without a text layer ({named}): OCR is not applied"))
    return FileRead((Found(None, items),), tuple(skipped))


def _items(path: Path, document: PdfText, options: ReadOptions) -> tuple[Item, ...]:
    sha256 = file_sha256(path)
    language = language_of("\n".join(text for _, text in document.pages))
    remarks = document.remarks + ((f"in {language}, by its most frequent words",) if language not in (None, "English") else ())
    items = []
    open_section: Code | None = None
    for page, text in document.pages:
        sections = sections_of(text)
        for number, section in enumerate(sections, start=1):
            # what stands before a page's first heading goes on with the section of the page before
            open_section = section.code or (open_section if number == 1 else None)
            locator = f"page {page}" if len(sections) == 1 else f"page {page}, section {number}"
            items.append(
                Item(
                    id=item_id(sha256, locator),
                    modality=options.modality or modality_of("media:text/plain", "category:note"),
                    code=open_section or Code("http://loinc.org", "34109-9", "note"),
                    source=Source(str(path), sha256, locator),
                    category="note",
                    content=text_content(text[section.start : section.end]),
                    remarks=remarks,
                )
            )
    return tuple(items)


READER = Reader(
    name="pdf",
    title="PDF document",
    recognises=lambda _path, head: b"%PDF-" in head[:1024] and head.lstrip()[:5] == b"%PDF-",
    read=read,
    priority=20,
)
