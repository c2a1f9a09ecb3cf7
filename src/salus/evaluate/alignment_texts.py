"""Texts of the alignment tasks: captions out of questions and answers, notes, and sentences about a recording.

Rules of a caption, in order: a yes-or-no question loses its leading verb; `yes` leaves the rest as a statement, `no` puts `no` (after
`there`) or `not` before it; any other question keeps its words, and the answer follows a colon. Nothing is added that question or answer do
not hold.
"""

from __future__ import annotations

import re

_THERE = re.compile(r"^(?:is|are|was|were)\s+there\s+(?:any\s+|an?\s+)?", re.IGNORECASE)
_VERB = re.compile(r"^(?:is|are|was|were|does|do|did|has|have|had|can|could|would|will|should)\s+", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


def caption_of(question: str, answer: str) -> str:
    """Return one line of a caption.

    Example:
        >>> caption_of("Is there a pleural effusion?", "Yes"), caption_of("Are there rib fractures present?", "no")
        ('pleural effusion', 'no rib fractures present')
        >>> caption_of("Is the heart enlarged?", "No"), caption_of("What plane is this?", "axial")
        ('not: the heart enlarged', 'what plane is this: axial')
    """
    asked = _SPACE.sub(" ", question).strip().rstrip("?").strip()
    told = _SPACE.sub(" ", answer).strip().rstrip(".").lower()
    if told in ("yes", "no"):
        rest, is_there = _THERE.subn("", asked, count=1)
        if not is_there:
            rest = _VERB.sub("", asked, count=1)
        rest = rest[:1].lower() + rest[1:]
        return rest if told == "yes" else f"no {rest}" if is_there else f"not: {rest}"
    return f"{asked[:1].lower()}{asked[1:]}: {told}"


def cleaned_note(text: str) -> str:
    """Return a note with single spaces and without characters that could not be read.

    Example:
        >>> cleaned_note("Fever  of " + chr(0xFFFD) + "38 C. ")
        'Fever of 38 C.'
    """
    return _SPACE.sub(" ", text.replace("\ufffd", " ")).strip()


def heart_text(label: str, site: str) -> str:
    """Return a sentence of what the metadata holds; an empty site is not told.

    Example:
        >>> heart_text("abnormal", "e"), heart_text("normal", "")
        ('Heart sound recording, abnormal, from site e.', 'Heart sound recording, normal.')
    """
    return f"Heart sound recording, {label}{f', from site {site}' if site else ''}."
