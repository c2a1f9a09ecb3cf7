"""Text that a document holds as drafts of items: one for the whole, or one for each page and section.

Takes the frame of a draft and a text's parts; gives drafts, empty parts left out.
"""

from __future__ import annotations

from dataclasses import replace

from salus.record.patient import Code
from salus.record.read.fhir_documents import text_content
from salus.record.read.fhir_observation import Draft


def texts(frame: Draft, parts: tuple[tuple[str, str, Code | None], ...], remarks: tuple[str, ...]) -> list[Draft]:
    """Return a draft for each part of a text: a section has its own code, and says which document it stands in."""
    return [
        replace(
            frame,
            code=section or frame.code,
            within=frame.within + within,
            content=text_content(words),
            remarks=(*frame.remarks, *remarks, *((f"a section of: {frame.code.display}",) if section else ())),
        )
        for within, words, section in parts
        if words.strip()
    ]
