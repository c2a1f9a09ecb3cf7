"""Recognises what is written in digits and codes: numbers of people, accounts, cars, devices; addresses of mail and network; old ages.

Takes text; gives hits by form (`123-45-6789`) or by the words before (`MRN: 4471`). A long number that nothing explains is a hit too:
missing one costs more than hiding one. Every repetition that may begin anywhere has an end, so that time grows with the length of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from salus.record.deidentify.dates import find_dates
from salus.record.deidentify.kinds import Hit, Kind

_I = re.IGNORECASE
_TO = r"(?:\s{0,3}(?:[:#=]|is|was|of|as|no\.?|nos\.?|number|num\.?|nr\.?|id\.?|identifier|code|full|seen|given|listed|lists)){0,3}[\s:#.(]{0,3}"
_VALUE = r"(?P<value>(?=[A-Z0-9./ -]{0,80}\d)[A-Z0-9]{1,80}(?:[-/.][A-Z0-9]{1,80}){0,20}(?: (?=[A-Z0-9-]{0,80}\d)[A-Z0-9-]{2,80}){0,20})(?![A-Za-z])"
_LABELS: tuple[tuple[Kind, str], ...] = (
    (Kind.RECORD, r"mrn|m\.r\.n\.|(?:medical|med|health|hospital|hosp|patient|clinic|unit|chart|nhs|chi|urn|nhi|ur|pid)[. ]{0,2}(?:rec(?:ord)?s?\.?)?\s?(?:id(?:entifier)?|no\.?|number|nr\.?|num|#)|medical record|med rec|patient id(?:entification)?|chart"),
    (Kind.PLAN, r"(?:member|policy|beneficiary|subscriber|plan|insurance|insured|health card|medicare|medicaid|hicn|mbi|group|coverage)(?:['’]s)?(?:\s(?:id|no\.?|number|policy|card|plan|insurance))*|authori[sz]ation"),
    (Kind.ACCOUNT, r"(?:bank |checking |savings |hospital |guarantor |patient )?(?:account|acct|a/c|iban|invoice|claim|credit card|card ending|billing)(?:\s(?:no\.?|number|id))*"),
    (Kind.LICENCE, r"(?:driver['’]?s?['’]? |driving |medical |state |nursing )?licen[cs]e(?!\s?plate)|dea|npi|certificate|passport|registration|gmc|nmc|credential|permit"),
    (Kind.VEHICLE, r"vin|(?:licen[cs]e|number|registration|reg\.?) ?plates?|plates?|car|vehicle|truck|motorcycle"),
    (Kind.DEVICE, r"serial|s/n|sn|(?:device|equipment|imei|udi|mac|implant|pacemaker|pump|model)(?:\s(?:id(?:entifier)?|serial|no\.?|number|address|lot))*|imei|udi|lot"),
    (Kind.BIOMETRIC, r"(?:finger|thumb|voice|face|palm|foot)[ -]?prints?|(?:retina|retinal|iris|facial|face|biometric)(?:[ -](?:scan|template|pattern|image|id|identifier))+|voice ?id|biometric"),
    (Kind.OTHER, r"accession|case|specimen|study|trial|participant|screening|subject|reference|ref\.?|order|report|requisition|visit|encounter|card|incident|confirmation|pathology|sample|barcode|tracking|ticket|batch|episode|id"),
)  # fmt: skip
_PLATE = r"(?P<value>(?-i:(?=[A-Z0-9 -]*\d)[A-Z0-9]{1,7}(?:[ -][A-Z0-9]{1,4}){0,2})|[A-HJ-NPR-Z0-9]{17})(?![A-Za-z0-9])"
_LABELLED = tuple(
    (kind, re.compile(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])(?P<label>(?:\s(?:template|record|identifier|card|scan|number|no\.?|id|plate|address)){{0,2}}){_TO}{_PLATE if kind is Kind.VEHICLE else _VALUE}", _I))
    for kind, words in _LABELS
)  # fmt: skip
_LEAST_DIGITS = {Kind.OTHER: 4, Kind.DEVICE: 3, Kind.VEHICLE: 2, Kind.LICENCE: 3}
_DIGITS_BY_DEFAULT = 4
_PHONE_WORDS = (
    r"(?:tele)?phone|tel|mobile|cell(?:ular)?|pager|pgr|beeper|home|work|call(?:ed)?|phoned|reached at|contact|text|number on file|ext"
)
_NUMBER = r"\+?\(?\d[\d() .\-/]{5,18}\d(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?"
_FORMS: tuple[tuple[Kind, str, re.Pattern[str]], ...] = (
    (Kind.EMAIL, "form", re.compile(r"(?<![\w.+%-])[\w.+%-]++@[\w-]+(?:\.[\w-]+)+", _I)),
    (Kind.URL, "form", re.compile(r"\b(?:https?|ftp|sftp|file)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+", _I)),
    (Kind.URL, "host", re.compile(r"\b(?:[a-z0-9-]{1,63}\.){1,8}(?:com|org|net|edu|gov|io|info|health|hospital|co\.uk|nhs\.uk|de|fr|ca|eu|app|dev)\b(?:/[^\s<>\"')\]]*)?", _I)),
    (Kind.IP, "v4", re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?::\d+)?(?![\d.]\d)")),
    (Kind.IP, "v6", re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,7}(?![\w:])|(?<![\w:])(?:[0-9a-f]{1,4}:){1,7}:(?:[0-9a-f]{1,4})?", _I)),
    (Kind.DEVICE, "mac", re.compile(r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", _I)),
    (Kind.SSN, "form", re.compile(r"(?<![\d-])\d{3}[- ]\d{2}[- ]\d{4}(?![\d-])")),
    (Kind.SSN, "label", re.compile(r"(?<=ssn)\W{0,4}(?:is|no\.?|number)?\W{0,3}(\d[\d -]{7,11}\d)|(?<=social security)\W{0,3}(?:no\.?|number)?\W{0,4}(\d[\d -]{7,11}\d)", _I)),
    (Kind.PHONE, "form", re.compile(r"(?<![\w.])(?:\+?1[ .-]?)?\(?\d{3}\)?[ .-]?\d{3}[.-]\d{4}(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?![\w-]*\d)", _I)),
    (Kind.PHONE, "international", re.compile(r"(?<!\w)\+\d{1,3}[ .(-]{0,2}\d[\d ().-]{5,16}\d")),
    (Kind.PHONE, "trunk", re.compile(r"(?<![\w.])\(?0\d{2,5}\)?[ -/]\d{3,4}[ -]?\d{3,5}(?!\d)")),
    (Kind.PHONE, "label", re.compile(rf"\b(?:{_PHONE_WORDS})\b(?:\s(?:on|at|no\.?|number|from|is))?[\s:.#(]{{0,3}}({_NUMBER})", _I)),
    (Kind.FAX, "label", re.compile(rf"\b(?:fax|facsimile|telefax)\b(?:\s(?:on|at|to|no\.?|number|is))?[\s:.#(]{{0,3}}({_NUMBER})", _I)),
    (Kind.VEHICLE, "vin", re.compile(r"\b(?=[A-HJ-NPR-Z0-9]{0,16}\d)(?=[A-HJ-NPR-Z0-9]{0,16}[A-Z])[A-HJ-NPR-Z0-9]{17}\b")),
    (Kind.PHOTOGRAPH, "file", re.compile(r"(?<![\w-])[\w-]++\.(?:jpe?g|png|tiff?|heic|bmp|gif|raw|mp4|mov)\b|\b(?:IMG|DSC|DSCN|PXL|DCIM)[_-]?\d{3,}\b", _I)),
    (Kind.PLAN, "mbi", re.compile(r"\b[1-9][A-Z][A-Z0-9]\d-?[A-Z][A-Z0-9]\d-?[A-Z]{2}\d{2}\b")),
    (Kind.ACCOUNT, "iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    (Kind.OTHER, "long number", re.compile(r"(?<![\w.,/-])\d{7,}(?![\w/]|\.\d)")),
    (Kind.OTHER, "mixed", re.compile(r"(?<![\w/.-])(?=[A-Z0-9-]*[A-Z])(?:[A-Z]{1,5}-?\d{2,4}-\d{3,}|[A-Z]{1,5}[-_]?\d{5,}[A-Z0-9]*(?:-\d+)*|\d{2,}[A-Z]{1,3}-?\d{4,}|[A-Z]{2,5}(?:-[A-Z0-9]{2,})+-\d{3,}[A-Z0-9]*)(?![\w/])")),
    (Kind.OTHER, "uuid", re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", _I)),
    (Kind.OTHER, "uid", re.compile(r"(?<![\d.])[0-2](?:\.\d+){6,}(?![\d.])")),
)  # fmt: skip
_AGES = re.compile(
    r"(?<![\d.])(?P<value>9\d|1[0-2]\d)(?=[ -]?(?:years?|yrs?|y)?[ -/.]?(?:old|o\b|of age)|[ -](?:years?|yrs?)\b|\s?(?:yo|y/o|y\.o\.)\b)"
    r"|\b(?:aged?|age of|is now|turned)(?: is| was|:)? ?(?P<aged>9\d|1[0-2]\d)\b(?!\s?(?:%|mg|/|\.\d))"
    r"|\b(?P<word>ninety(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?|(?:one )?hundred(?: and \w+)?)(?=[ -]years?[ -]old)|\b(?P<coloured>nonagenarian|centenarian)\b",
    _I,
)
_BIRTH_YEAR = re.compile(r"\b(?:born(?: in)?|year of birth|yob)[: ]+(?P<year>(?:18|19)\d\d)\b", _I)


class CodeRecogniser:
    """Finds numbers, codes and network addresses that identify."""

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits, which may overlap.

        Example:
            >>> [(each.kind.value, "call 617-555-0199, MRN 00482917, BP 120/80"[each.start : each.end])
            ...  for each in CodeRecogniser().find("call 617-555-0199, MRN 00482917, BP 120/80") if each.rule == "codes:label"]
            [('phone', '617-555-0199'), ('record-number', '00482917')]
        """
        for kind, rule, pattern in _FORMS:
            for match in pattern.finditer(text):
                place = next((number for number in range(1, (match.lastindex or 0) + 1) if match[number]), 0)
                yield Hit(*match.span(place), _fax_or(kind, text, match.start(place)), f"codes:{rule}")
        yield from _labelled(text)
        for match in _AGES.finditer(text):
            group = next(name for name in ("value", "aged", "word", "coloured") if match[name])
            yield Hit(*match.span(group), Kind.AGE, "codes:age")


class DateRecogniser:
    """Finds dates of which more than the year is known."""

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits."""
        for found in find_dates(text):
            yield Hit(found.start, found.end, Kind.DATE, f"dates:{found.form}")


def _fax_or(kind: Kind, text: str, start: int) -> Kind:
    before = text[max(0, start - 14) : start].lower()
    return Kind.FAX if kind is Kind.PHONE and "fax" in before else kind


def _labelled(text: str) -> Iterator[Hit]:
    for kind, pattern in _LABELLED:
        for match in pattern.finditer(text):
            value = match["value"]
            digits = sum(each.isdigit() for each in value)
            if digits >= _LEAST_DIGITS.get(kind, _DIGITS_BY_DEFAULT):
                start, end = match.span("value")
                yield Hit(start, end, kind, "codes:label")
