"""The table of DICOM's Basic Application Level Confidentiality Profile, and the action for one element.

Takes a tag and its value representation; gives what to do: remove, empty, replace, new identifier, move the date, or keep. The table is
that of the package `dicom-anonymizer` (release 2026c of the standard). Beyond it, private and unknown elements, overlays and curves go.

Source: DICOM PS3.15 table E.1-1, with E.3.6 (Retain Longitudinal Temporal Information With Modified Dates Option).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.tag import BaseTag
from pydicom.uid import UID

from salus.errors import MissingExtra

Action = Literal["remove", "empty", "replace", "uid", "shift", "keep"]
RELEASE = "dicomfields_2026c"
_ACTIONS: dict[str, Action] = {
    "X_TAGS": "remove",
    "Z_TAGS": "empty",
    "D_TAGS": "replace",
    "U_TAGS": "uid",
    "Z_D_TAGS": "replace",
    "X_Z_TAGS": "empty",
    "X_D_TAGS": "replace",
    "X_Z_D_TAGS": "replace",
}
"""Where the table leaves a choice by the type of the element, the one that every type allows."""
DATES_OF_BIRTH = frozenset({
    "PatientBirthDate", "PatientBirthTime", "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
})  # fmt: skip
KEPT_UIDS = "1.2.840.10008."
"""Identifiers of the standard itself: classes, transfer syntaxes, well-known frames of reference."""


@cache
def _table() -> tuple[dict[int, Action], tuple[tuple[int, int, Action], ...]]:
    """Return tag → action, and (value, mask, action) of the repeating groups."""
    try:
        from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
    except ImportError as error:
        raise MissingExtra("de-identify DICOM", "deidentify") from error
    exact: dict[int, Action] = {}
    masked: list[tuple[int, int, Action]] = []
    action: Action | None
    for category, tags in dicom_anonymization_database_selector(RELEASE).items():
        action = _ACTIONS.get(category)
        if action is None:
            continue
        for tag in tags:
            value = tag[0] << 16 | tag[1]
            if len(tag) == 4:
                masked.append((value, tag[2] << 16 | tag[3], action))
            else:
                exact[value] = action
    return exact, tuple(masked)


def action_of(tag: BaseTag, vr: str, value: object) -> Action:
    """Return what to do with an element.

    Example:
        >>> from pydicom.tag import Tag
        >>> action_of(Tag("PatientName"), "PN", "Doe^Jane"), action_of(Tag("StudyDate"), "DA", "20200101"), action_of(Tag("Rows"), "US", 4)
        ('empty', 'shift', 'keep')
        >>> action_of(Tag("PatientBirthDate"), "DA", "19500101"), action_of(Tag("SOPInstanceUID"), "UI", "1.2")
        ('empty', 'uid')
    """
    if tag.is_private or tag.group & 0xFF00 in (0x5000, 0x6000) or not dictionary_has_tag(tag) or vr == "UN":
        return "remove"
    exact, masked = _table()
    by_mask: list[Action] = [each for value_, mask, each in masked if int(tag) & mask == value_ & mask]
    action: Action = exact.get(int(tag), by_mask[0] if by_mask else "keep")
    keyword = keyword_for_tag(tag)
    if vr in ("DA", "DT") and keyword not in DATES_OF_BIRTH:
        return "shift"
    if vr == "TM" and keyword not in DATES_OF_BIRTH:
        return "keep"
    if vr == "UI" and action == "keep":
        uids = (
            [value]
            if isinstance(value, str | UID)
            else list(value)
            if isinstance(value, list | tuple) or hasattr(value, "__iter__")
            else []
        )
        return "keep" if all(str(uid).startswith(KEPT_UIDS) for uid in uids) else "uid"
    return "empty" if vr == "PN" and action == "keep" else action
