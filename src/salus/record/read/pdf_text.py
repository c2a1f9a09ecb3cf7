"""The text layer of a PDF, page by page, taken out in a process of its own so that a hostile file can neither hang nor swell this one.

Takes bytes; gives the pages' text. Leaves out pictures: a page without a text layer is named, and no OCR is applied. Needs the extra
`documents` (pypdf).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from salus.errors import FormatError, MissingExtra
from salus.record.read.pdf_worker import FILE_LIMIT_BYTES, PAGES_LIMIT, TEXT_LIMIT

TIME_LIMIT_S = 60.0
_REASONS = {
    "encrypted": "the PDF is encrypted with a password; save it without",
    "cryptography": "the PDF is encrypted in a way that needs the package 'cryptography'; save it without",
    "memory": "the PDF needs more than 1 GB of memory to read",
    "damaged": "the PDF is damaged; export it again",
}


@dataclass(frozen=True)
class PdfText:
    """What a PDF says."""

    pages: tuple[tuple[int, str], ...]
    """(page from 1, its text), of the pages that have a text layer."""
    silent: tuple[int, ...]
    """Pages without a text layer: scanned, or blank."""
    remarks: tuple[str, ...] = ()


def pdf_text(raw: bytes) -> PdfText:
    """Return the text layer of a PDF.

    Raises:
        FormatError: it is encrypted, damaged, too large, takes too long, or no page has a text layer.
        MissingExtra: pypdf is not installed.
    """
    if importlib.util.find_spec("pypdf") is None:
        raise MissingExtra("read the text of a PDF", "documents")
    if len(raw) > FILE_LIMIT_BYTES:
        raise FormatError(f"the PDF is over {FILE_LIMIT_BYTES >> 20} MB")
    worker = Path(__file__).with_name("pdf_worker.py")
    try:
        # -I: no environment and no working folder may slip in a module of their own
        done = subprocess.run([sys.executable, "-I", str(worker)], input=raw, capture_output=True, timeout=TIME_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise FormatError(f"the PDF takes more than {TIME_LIMIT_S:g} s to read") from None
    rows = [json.loads(line) for line in done.stdout.decode("utf-8", "replace").split("\n") if line.endswith("}")]
    error = next((row["error"] for row in rows if "error" in row), None)
    if error is not None:
        raise FormatError(_REASONS[error])
    if done.returncode != 0 or not rows:
        raise FormatError("the PDF takes more time or memory than is allowed, or is damaged")
    return _read(rows)


def _read(rows: list[dict[str, object]]) -> PdfText:
    count = int(str(rows[0]["pages"]))
    read = [(int(str(row["page"])), str(row["text"])) for row in rows[1:]]
    pages = tuple((number, text) for number, text in read if text.strip())
    if not pages:
        raise FormatError(f"the PDF has no text layer on {count} page{'s'[: count != 1]} (scanned?); OCR is not applied")
    remarks = []
    if len(read) < count:
        remarks.append(f"only the first {len(read)} of {count} pages are read (limits: {PAGES_LIMIT} pages, {TEXT_LIMIT} characters)")
    return PdfText(pages, tuple(number for number, text in read if not text.strip()), tuple(remarks))
