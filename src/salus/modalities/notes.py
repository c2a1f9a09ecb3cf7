"""Notes: clinical text, from files, from documents and from reports.

Claims plain text, notes, and reports that carry text. Leaves out reports that only point to results (`ehr`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from salus.encode.modality import Modality
from salus.record.patient import Code, Content, Item, Source, item_id

if TYPE_CHECKING:
    from salus.encode.encoder import Encoder

WORDS = "Cough for three days, no fever. Lungs clear on both sides. Plan: rest, fluids, review in one week."


def build_encoder(settings: Mapping[str, Any]) -> Encoder:
    """Return the text network for these settings."""
    from salus.encode.text import TextEncoder

    return TextEncoder(**settings)


def example() -> tuple[Item, ...]:
    """Return a made-up note.

    Example:
        >>> example()[0].content.load()[:5]
        'Cough'
    """
    sha256 = "0" * 64
    content = Content("text", lambda: WORDS, f"text, {len(WORDS)} characters")
    code = Code("http://loinc.org", "34109-9", "note")
    return (
        Item(item_id(sha256, "text"), "notes", code, Source("example.txt", sha256, "text"), category="note", content=content),
    )


MODALITY = Modality(
    name="notes",
    title="notes",
    claims=("category:note", "category:report", "media:text/plain"),
    example=example,
    token_budget=8,
    build_encoder=build_encoder,
)
