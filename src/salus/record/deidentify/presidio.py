"""Presidio as a second recogniser of free text, beside the own ones.

Takes an installed `presidio-analyzer`; gives a `Recogniser`. It runs Presidio's pattern recognisers on a blank language model, since
the models for names are not in the package: names stay with the own recognisers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from salus.errors import MissingExtra
from salus.record.deidentify.kinds import Hit, Kind

KINDS = {
    "PERSON": Kind.NAME, "EMAIL_ADDRESS": Kind.EMAIL, "PHONE_NUMBER": Kind.PHONE, "US_SSN": Kind.SSN, "IP_ADDRESS": Kind.IP, "URL": Kind.URL,
    "CREDIT_CARD": Kind.ACCOUNT, "IBAN_CODE": Kind.ACCOUNT, "US_BANK_NUMBER": Kind.ACCOUNT, "US_DRIVER_LICENSE": Kind.LICENCE, "US_PASSPORT": Kind.LICENCE,
    "MEDICAL_LICENSE": Kind.LICENCE, "UK_NHS": Kind.RECORD, "LOCATION": Kind.PLACE,
}  # fmt: skip
"""Presidio's entity → kind; others (numbers of taxes, crypto wallets) count as other ids. Dates stay with the own recogniser."""
LEAST_SCORE = 0.4


class PresidioRecogniser:
    """Finds what Presidio's analyser finds."""

    def __init__(self, recognisers: list[Any]) -> None:
        """Take Presidio's recognisers."""
        self.recognisers = recognisers

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits, which may overlap."""
        for recogniser in self.recognisers:
            for found in recogniser.analyze(text, recogniser.supported_entities, None):
                if found.score >= LEAST_SCORE and found.entity_type != "DATE_TIME":
                    yield Hit(found.start, found.end, KINDS.get(found.entity_type, Kind.OTHER), "presidio")


def build_presidio() -> PresidioRecogniser:
    """Return Presidio's pattern recognisers for English, and the one of phone numbers.

    Raises:
        MissingExtra: Presidio is not installed.
    """
    try:
        import tldextract
        from presidio_analyzer import PatternRecognizer, predefined_recognizers
    except ImportError as error:
        raise MissingExtra("search with Presidio", "presidio") from error
    # The list of domain endings comes from the package: by default it would be fetched from the network at the first address.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    wanted = (PatternRecognizer, predefined_recognizers.PhoneRecognizer)
    kinds: list[type[Any]] = [kind for kind in vars(predefined_recognizers).values() if isinstance(kind, type) and issubclass(kind, wanted)]
    return PresidioRecogniser([made for kind in kinds if (made := kind()).supported_language == "en"])
