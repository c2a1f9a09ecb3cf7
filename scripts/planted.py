"""Plants identifiers in made-up notes, tags and pictures, to measure how many a de-identification finds.

Takes `planted_notes.json` and a seed; gives texts with the places of what was planted. The identifiers come from Faker in ten locales and
from a list of towns, not from the lists of the recognisers. Half of the notes is for developing, the other half for the measured figure.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from faker import Faker

NOTES = Path(__file__).with_name("planted_notes.json")
LOCALES = ("en_US", "en_US", "en_US", "en_US", "en_GB", "en_IN", "es_MX", "de_DE", "fr_FR", "it_IT", "nl_NL", "pl_PL")
"""Half of the names are of the United States' style."""
TOWNS = (
    "Boston", "Worcester", "Springfield", "Lowell", "Chicago", "Naperville", "Peoria", "Houston", "El Paso", "Fort Worth", "Seattle", "Tacoma",
    "Spokane", "Portland", "Eugene", "Denver", "Boulder", "Phoenix", "Tucson", "Albany", "Syracuse", "Ithaca", "Yonkers", "Baltimore", "Annapolis",
    "Richmond", "Roanoke", "Savannah", "Macon", "Nashville", "Chattanooga", "Knoxville", "Cleveland", "Toledo", "Akron", "Cincinnati", "St. Louis",
    "Kansas City", "Omaha", "Des Moines", "Cedar Rapids", "Minneapolis", "Duluth", "Milwaukee", "Green Bay", "Leeds", "Sheffield", "Norwich",
    "Bristol", "Edinburgh", "Aberdeen", "Cardiff", "Swansea", "Dublin", "Galway", "Toronto", "Hamilton", "Winnipeg", "Perth", "Geelong", "Winslow",
    "Bar Harbor", "Truth or Consequences", "Marfa", "Little Compton", "Munich", "Freiburg", "Lyon", "Grenoble", "Bologna", "Utrecht",
)  # fmt: skip
HOSPITALS = (
    "St. Mary's Hospital", "Mercy General Hospital", "Lakeside Medical Center", "Brigham and Women's Hospital", "Northfield Community Clinic",
    "Royal Infirmary of Edinburgh", "Children's Hospital of Omaha", "Mount Carmel Nursing Home", "Good Samaritan Hospital", "Hillcrest Surgery Center",
)  # fmt: skip
STATES = ("MA", "IL", "Texas", "NY", "Ohio", "CA", "Georgia", "WA")
KINDS = {
    "name": "name", "name_last_first": "name", "given": "name", "family": "name", "street": "place", "city": "place", "zip": "place", "hospital": "place",
    "date": "date", "month_year": "date", "age_over_89": "age", "phone": "phone", "fax": "fax", "email": "email", "ssn": "ssn",
    "record_number": "record-number", "plan_number": "plan-number", "account": "account", "licence": "licence", "vehicle": "vehicle",
    "device": "device", "url": "url", "ip": "ip", "biometric": "biometric", "photograph": "photograph", "other_id": "other-id",
}  # fmt: skip
"""Placeholder → kind of 45 CFR 164.514(b)(2)(i); others (`age`, `state`) are no identifiers."""
DATE_FORMS = ("%m/%d/%Y", "%m/%d/%y", "%d %B %Y", "%B %d, %Y", "%Y-%m-%d", "%b %d, %Y", "%d-%b-%Y", "%B %d", "%m-%d-%Y")


@dataclass(frozen=True)
class Planted:
    """A text and what was planted in it."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    """(start, end, kind)."""
    note: int
    """Number of the note among all."""


def plain(text: str) -> str:
    """Return a text in letters that a DICOM file without a character set may hold."""
    return unicodedata.normalize("NFKD", text.replace("ł", "l").replace("Ł", "L")).encode("ascii", "ignore").decode()


class Maker:
    """Makes identifiers of every kind from one seed."""

    def __init__(self, seed: int) -> None:
        """Seed all sources."""
        self.random = random.Random(seed)
        self.fakers = [Faker(locale) for locale in LOCALES]
        for number, faker in enumerate(self.fakers):
            faker.seed_instance(seed * 100 + number)

    def shaped(self, *shapes: str) -> str:
        """Return one of the shapes with `#` a digit and `?` a capital letter."""
        letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
        return re.sub(r"[#?]", lambda match: self.random.choice("0123456789" if match[0] == "#" else letters), self.random.choice(shapes))

    def make(self, placeholder: str) -> str:
        """Return an identifier for a placeholder of a note."""
        faker, pick = self.random.choice(self.fakers), self.random.choice
        american = self.fakers[0]
        day = date(2005, 1, 1) + timedelta(days=self.random.randrange(7600))
        makers: dict[str, Callable[[], str]] = {
            "name": lambda: f"{faker.first_name()} {faker.last_name()}",
            "name_last_first": lambda: pick((f"{faker.last_name().upper()}, {faker.first_name().upper()}", f"{faker.last_name()}, {faker.first_name()}")),
            "given": faker.first_name,
            "family": faker.last_name,
            "street": lambda: pick((american, american, self.fakers[4], self.fakers[7])).street_address().replace("\n", ", "),
            "city": lambda: pick(TOWNS),
            "zip": american.zipcode,
            "state": lambda: pick(STATES),
            "hospital": lambda: pick(HOSPITALS),
            "date": lambda: day.strftime(pick(DATE_FORMS)),
            "month_year": lambda: day.strftime(pick(("%B %Y", "%b %Y", "%m/%Y"))),
            "age": lambda: str(self.random.randrange(18, 90)),
            "age_over_89": lambda: str(self.random.randrange(90, 106)),
            "phone": lambda: pick((american.phone_number, lambda: self.shaped("(617) 555-01##", "617-555-01##", "617.555.01##", "+44 20 7946 0###", "020 7946 0###", "+49 89 636 480##")))(),
            "fax": lambda: self.shaped("(312) 555-01##", "312-555-01##", "+1 312 555 01##", "312.555.01##"),
            "email": lambda: american.email(),
            "ssn": american.ssn,
            "record_number": lambda: self.shaped("0#######", "######", "#######", "MR-######", "??######", "### ### ####", "##-##-##"),
            "plan_number": lambda: self.shaped("1EG4-TE5-MK##", "XWB#########", "???########", "#########A", "H####-###-##"),
            "account": lambda: self.shaped("############", "####-######", "AC-#######", "##########", "??-######"),
            "licence": lambda: self.shaped("B?#######", "?#######", "RN-######", "??-####-####", "S###-####-####"),
            "vehicle": lambda: pick((lambda: self.shaped("?## ???", "???-####", "#??? ###", "?? ## ???"), american.vin))(),
            "device": lambda: self.shaped("PJN######?", "SN#########", "##-#####-??", "?##?######", "DEV-####-###"),
            "url": lambda: pick((american.url, lambda: self.shaped("https://portal.example.org/visit/######", "www.example-clinic.com/p/#####", "video.health.example.net/r/???-###")))(),
            "ip": lambda: pick((american.ipv4, american.ipv4, american.ipv6))(),
            "biometric": lambda: self.shaped("FP-#######", "VP######", "BIO-??-####", "0x########"),
            "photograph": lambda: self.shaped("IMG_####.jpg", "DSC#####.JPG", "face_####.png", "wound-####-#.jpeg"),
            "other_id": lambda: self.shaped("S##-#####", "ACC#######", "INC-####-###", "##-??-####", "#########", "TR-##-####"),
        }  # fmt: skip
        return makers[placeholder]()

    def fill(self, note: str, number: int) -> Planted:
        """Return a note with its placeholders filled."""
        pieces, spans, position, length = [], [], 0, 0
        for match in re.finditer(r"\{(\w+)\}", note):
            before, value = note[position : match.start()], self.make(match[1])
            pieces += [before, value]
            length += len(before)
            if match[1] in KINDS:
                spans.append((length, length + len(value), KINDS[match[1]]))
            length += len(value)
            position = match.end()
        return Planted("".join(pieces) + note[position:], tuple(spans), number)


def planted_notes(half: str, *, seed: int, copies: int) -> list[Planted]:
    """Return the notes of one half, each filled anew `copies` times.

    Args:
        half: `dev` or `test`; which note is in which half is drawn with seed 0.
        seed: of the identifiers.
        copies: fillings of each note.
    """
    notes = json.loads(NOTES.read_text("utf-8"))["notes"]
    order = list(range(len(notes)))
    random.Random(0).shuffle(order)
    chosen = sorted(order[: len(order) // 2] if half == "dev" else order[len(order) // 2 :])
    maker = Maker(seed + (0 if half == "dev" else 10_000))
    return [maker.fill(notes[number], number) for number in chosen for _ in range(copies)]
