"""Takes the text out of a PDF in a process of its own, under limits of time and memory; imports nothing of Salus.

Takes a PDF on standard input; writes one JSON object a line: `{"pages": n}`, then `{"page": 1, "text": "…"}`, or `{"error": "…"}`. A
hostile file may loop or swell: the limits end this process, and the caller says so.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

MEMORY_LIMIT_BYTES = 1 << 30
CPU_LIMIT_S = 30
PAGES_LIMIT = 500
TEXT_LIMIT = 1 << 20
"""Characters, of all pages together."""
FILE_LIMIT_BYTES = 64 << 20


def _limit() -> None:
    try:
        import resource
    except ImportError:  # not on Windows: the caller's limit of time alone holds there
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))


def _write(**row: Any) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read standard input and write the pages' text."""
    _limit()
    from pypdf import PdfReader

    logging.disable(logging.CRITICAL)  # a library's complaint may quote the document
    try:
        reader = PdfReader(io.BytesIO(sys.stdin.buffer.read(FILE_LIMIT_BYTES)))
        if reader.is_encrypted and not reader.decrypt(""):
            _write(error="encrypted")
            return
        count = len(reader.pages)
        _write(pages=count)
        left = TEXT_LIMIT
        for number in range(min(count, PAGES_LIMIT)):
            text = reader.pages[number].extract_text()[:left]
            left -= len(text)
            _write(page=number + 1, text=text)
            if left <= 0:
                return
    except MemoryError:
        _write(error="memory")
    except RecursionError:
        _write(error="damaged")
    except Exception as error:
        _write(error="cryptography" if type(error).__name__ == "DependencyError" else "damaged")


if __name__ == "__main__":
    main()
