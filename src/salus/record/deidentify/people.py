"""Recognises names of people and of places smaller than a state, by the words around them and by lists.

Takes text; gives hits. Names: titles, labels, kin and signatures, then pairs of a listed first and family name, then listed first names
that are no common words. Places: streets, postal codes, hospitals, words of dwelling, then listed towns. Lists cover the United States
best; a foreign name without a title, label or a known patient's record is missed more often. Every repetition has an end (40 letters of a
word), so that time grows with the length of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

from salus.record.deidentify.kinds import Hit, Kind
from salus.record.deidentify.words import COMMON, EPONYM_NOUNS, NOT_A_NAME

_UPPER = "".join(chr(code) for code in (*range(0x41, 0x5B), *range(0xC0, 0x250)) if chr(code).isupper())
_LOWER = "".join(chr(code) for code in (*range(0x61, 0x7B), *range(0xC0, 0x250)) if chr(code).islower())
_WORD = (
    rf"(?:(?:[dDlL]['’]|[OM](?:['’]|a?c)|St\. )?[{_UPPER}][{_LOWER}]{{1,40}}(?:[-'’][{_UPPER}][{_LOWER}]{{1,40}}){{0,4}}"
    rf"|[{_UPPER}][{_UPPER}'’-]{{1,40}}|[{_UPPER}]\.?(?= [{_UPPER}]))"
)
_PARTICLE = (
    r"(?:[Vv]an|[Vv]on|[Dd]e|[Dd]er|[Dd]en|[Dd]el|[Dd]ella|[Dd]i|[Dd]a|[Dd]os|[Ll]a|[Ll]e|[Bb]in|[Aa]l|[Ee]l|[Tt]er|[Tt]en|[Zz]u|y|'t)"
)
_FULL = rf"(?:{_PARTICLE} ){{0,2}}{_WORD}(?:(?: {_PARTICLE}){{0,2}} {_WORD}){{0,3}}"
_TITLE = r"(?:Dr|Mr|Mrs|Ms|Miss|Mx|Prof|Professor|Doctor|Nurse|Sister|Sr|Rev|Fr|Herr|Frau|Sra?|Dra|Mme|M)\b\.?"
_LABEL = (
    r"(?:patient(?:['’]s)?(?: name| identification)?|pt(?: name)?|name(?: of patient)?|attending(?: physician)?|physician|surgeon|assistant|anesthesi(?:a|ologist)"
    r"|prescriber|provider|practitioner|pcp|radiologist|pathologist|consultant|interpreter|nurse|midwife|therapist|referr(?:ed|ing)(?: by| physician)?|signed(?: by)?"
    r"|electronically signed by|dictated by|reported by|reported to|read by|verified by|reviewed (?:by|with)|transcribed by|seen by|given by|author|contact|employer contact"
    r"|next of kin|nok|emergency contact|guarantor|spouse|cc|re|subject|attn|from|to|regarding|witness|operator|technologist|performed by|accepting physician|general|supervised by)"
)
_KIN = (
    r"(?:wife|husband|son|daughter|mother|father|brother|sister|niece|nephew|aunt|uncle|cousin|partner|spouse|fianc[eé]e?|friend|neighbou?r|grand(?:mother|father|son|daughter)"
    r"|step(?:mother|father|son|daughter)|caregiver|carer|roommate|guardian|boy|girl|baby|twin|interpreter|passenger|nurse|surgeon|physician|doctor|pharmacist|practitioner)"
)
_TOLD = (
    r"(?:spoke(?:n)?|discussed(?: on rounds)?|talked|met|speaking|meeting|call|visit|follow[- ]up(?: on [^.\n]{3,20})?|appointment|history|report(?:ed)? given|message|phoned|written|handed over|signed out"
    r"|referred|referring|admitted|evaluated|examined|reviewed|treated|seen|operated|cared for|accompanied|brought(?: in)?|visited|interpreted|assisted|supervised|letter|email|results? phoned|information|obtained|and)"
    r" (?:with|by|to|from|for|of)"
)
_PAIR = re.compile(rf"(?<![\w.]){_FULL}")
_LAST_FIRST = re.compile(
    rf"(?<!\w)(?P<last>(?:{_PARTICLE} ){{0,2}}[{_UPPER}][\w'’-]{{1,40}})(?P<mark>, ?|\^)(?P<first>[{_UPPER}][\w'’-]{{1,40}})(?:[ ^][A-Z]\.?(?![\w]))?(?!\w)"
)
_NUMBERED = re.compile(r"\s{0,3}[(,]?\s?(?:MRN|DOB|MED REC|Med Rec|Medical record|born|Born|HN|ID|PID)\b")
_PLAIN_LAST_FIRST = _LAST_FIRST.pattern.replace("?P<last>", "?:").replace("?P<mark>", "?:").replace("?P<first>", "?:")
_CONTEXTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("title", re.compile(rf"(?<!\w){_TITLE} (?P<name>{_FULL})")),
    ("label", re.compile(rf"(?<!\w)(?i:{_LABEL})(?:\s?[:#]\s?| - |\t)\s{{0,4}}(?:{_TITLE} )?(?P<name>{_PLAIN_LAST_FIRST}|{_FULL})")),
    ("label phrase", re.compile(rf"(?<!\w)(?i:(?:electronically )?signed by|dictated by|reported by|reported to|read by|verified by|given by|performed by|supervised by|prescriber|surgeon|accepting physician|dear|neighbor,|next of kin|nurse practitioner|contact|regarding)[ ,]+(?:{_TITLE} )?(?P<name>{_FULL})")),
    ("kin", re.compile(rf"(?<!\w)(?i:{_KIN})(?:,| is| was| named| called|['’]s name is)? (?:{_TITLE} )?(?P<name>{_FULL})")),
    ("name, kin", re.compile(rf"(?P<name>{_FULL}), (?:his|her|the|their|our) (?i:(?:patient['’]s )?{_KIN})\b")),
    ("told", re.compile(rf"(?<!\w)(?i:{_TOLD}) (?:{_TITLE} )?(?P<name>{_FULL})")),
    ("degree", re.compile(rf"(?P<name>{_FULL}), ?(?:MD|M\.D\.|DO|RN|R\.N\.|PA|PA-C|NP|ARNP|CRNP|PhD|Ph\.D\.|PharmD|LPN|MBBS|FRCP|FRCS|DPM|DDS|LCSW|CNM|CRNA|BSN|MSW|PT|OT|RRT|consultant|attending|resident|fellow)(?![\w])")),
    ("self", re.compile(rf"(?i:my name is|i am|this is|known as|named|called|addressed as|goes by) (?P<name>{_FULL})")),
    ("verb", re.compile(rf"(?<!\w)(?P<name>{_FULL})(?:,? (?i:who|is an?|was (?:last |also |then )?(?:seen|born|admitted|discharged|brought|referred|treated|examined|present)|has a|had a|reports?|states?|denies|complains|presented|presents|lives|works|called|phoned|tolerated|underwent|wishes|agreed|understands))\b")),
    ("born", re.compile(rf"(?P<name>{_FULL}),? (?:\(?(?i:dob|born|mrn|aged?|date of birth|y/o)\b|<)")),
)  # fmt: skip
_STREET = (
    r"(?:alley|an+ex|arcade|avenue|bayou|beach|bend|bluff|bottom|boulevard|branch|bridge|brook|burg|bypass|camp|canyon|cape|causeway|center|centre|circle|cliff|close|club|common"
    r"|corner|course|court|cove|creek|crescent|crest|crossing|crossroad|curve|dale|dam|divide|drive|estate|expressway|extension|fall|ferry|field|flat|ford|forest|forge|fork|fort|freeway"
    r"|garden|gateway|glen|green|grove|harbor|haven|height|highway|hill|hollow|inlet|island|isle|junction|key|knoll|lake|land|landing|lane|light|loaf|lock|lodge|loop|mall|manor|meadow|mews"
    r"|mill|mission|motorway|mountain|mount|neck|orchard|oval|overpass|park|parkway|pass|passage|path|pike|pine|place|plain|plaza|point|port|prairie|radial|ramp|ranch|rapid|rest|ridge"
    r"|rise|river|road|route|row|rue|run|shoal|shore|skyway|spring|spur|square|station|stravenue|stream|street|summit|terrace|throughway|trace|track|trafficway|trail|tunnel|turnpike"
    r"|underpass|union|valley|viaduct|view|village|ville|vista|walk|wall|way|well)s?|st|ave|rd|dr|ln|blvd|ct|pl|ter|cir|sq|hwy|pkwy|trl"
)
"""Street suffixes of the United States Postal Service (Publication 28, appendix C1), and British ones."""
_UNIT = r"(?:,? (?i:apt|apartment|suite|ste|unit|flat|no|room|#)\.? ?#?\w+)?"
_STATES = "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
_STATE_NAMES = "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming"
_TOWN = r"[A-ZÀ-Þ][a-zà-ÿß]{1,40}(?:[ -](?:(?:of|the|on|upon|by|am|an|der|de|la|le|sur|in)[ -]){0,4}[A-ZÀ-Þ][a-zà-ÿß]{1,40}){0,3}"
_PLACES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("street", re.compile(rf"(?<![\w./])\d{{1,6}}[A-Za-z]?(?:-\d+)? (?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.? )?(?:(?:\d+(?:st|nd|rd|th)|[A-Z][\w'’.-]{{0,40}}) ){{1,4}}(?i:{_STREET})\b\.?{_UNIT}")),
    ("street, number last", re.compile(r"\b[A-ZÀ-Þ][\wà-ÿß-]{0,40}(?i:straße|strasse|str\.|weg|gasse|allee|platz|ring|damm|ufer|straat|laan|gracht|plein)\s\d{1,4}(?:[/-]\d{1,4})?[a-z]?\b|\b(?:Rue|Avenue|Boulevard|Via|Viale|Piazza|Calle|Plaza|Avenida|Rua|Chemin|Place|Corso|Paseo|rue|calle|via)(?: (?:de|du|des|la|le|del|della|di|da|dos|los|las)){0,4}(?: [A-ZÀ-Þ][\wà-ÿ'’-]{0,40}){1,8},? \d{1,4}\b")),
    ("street, house first", re.compile(r"(?<![\w./])\d{1,4}[a-z]?,? (?:rue|avenue|boulevard|chemin|place|calle|via)(?: (?:de|du|des|la|le|del|della|di|d['’])){0,4} ?[A-ZÀ-Þ][\wà-ÿ'’-]{0,40}(?: [A-ZÀ-Þ][\wà-ÿ'’-]{0,40}){0,8}", re.IGNORECASE)),
    ("house", re.compile(rf"\b(?:Flat|Studio|Apt\.?|Unit) \d+\w?,? (?:\d+ )?{_TOWN}|\bP\.? ?O\.? ?Box \d+|\b(?:Unit|PSC|USNV|USS|USCGC|USNS) [\w ]{{2,20}}, (?:Box \d+|APO|FPO|DPO)(?: A[AEP])?(?: \d{{5}})?")),
    ("postal code", re.compile(rf"(?<=\b(?i:zip) )\d{{5}}(?:-\d{{4}})?|(?<=\b(?i:zip): )\d{{5}}(?:-\d{{4}})?|(?<=\b(?i:zip) code )\d{{5}}|\b(?:{_STATES}),? \d{{5}}(?:-\d{{4}})?\b|(?<![\d.-])\d{{5}}-\d{{4}}(?![\d-])|\b(?:{_STATE_NAMES}),? \d{{5}}(?:-\d{{4}})?\b")),
    ("postal code", re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b|\b[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d\b")),
    ("code and town", re.compile(rf"(?<![\d.,-])(?<!\d )\d{{5}} {_TOWN}(?! ?(?:units?|IU))|{_TOWN},? (?<!\d)\d{{5}}(?:-\d{{4}})?(?![\d-])")),
    ("town and state", re.compile(rf"\b{_TOWN}, (?:(?:{_STATES})\b(?! \d)|(?:{_STATE_NAMES})\b)")),
    ("hospital", re.compile(r"(?<!\w)(?:(?:St\.?|Saint|Mount|Mt\.?|Our Lady of|The) )?(?:[A-Z][\w'’.-]{1,40} (?:and |of |the )?){1,5}(?:(?:Memorial|General|Community|Regional|University|County|Children['’]s|Veterans|District|Teaching|Medical|Health) ){0,4}(?:Hospital|Hospitals|Medical Center|Medical Centre|Health Center|Health System|Infirmary|Clinic|Clinics|Hospice|Nursing Home|Sanatorium|Healthcare|Rehabilitation Center|Care Home|Surgery Center|Cancer Center|Institute|Manor)(?: of [A-Z]\w+(?: [A-Z]\w+)?)?\b|\bUniversity (?:Hospital|Medical Center)(?: of)? [A-Z]\w+")),
    ("dwelling", re.compile(rf"(?<!\w)(?i:(?:lives?|living|resid(?:es|ing)|residents?|home|born|raised|grew up|moved(?: here)?|relocated|travell?(?:ed|ing)|transferred|transported|came|comes|admitted|flew|woman|man|native|city|town|village|county|suburb|hospital|clinic|works?|working|practice|seen|evaluated|visit(?:ing)?|father|mother|returned) (?:in|at|from|of|to|near|outside))(?: (?:downtown|suburban|rural|the city of|the town of))? (?P<name>{_TOWN})")),
    ("county", re.compile(rf"\b{_TOWN} (?:County|Parish|Township|Borough)\b")),
)  # fmt: skip


@cache
def _listed(name: str) -> frozenset[str]:
    text = (files("salus.record.deidentify") / "lists" / f"{name}.txt").read_text("utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def _is_first(word: str) -> bool:
    return word.lower() in _listed("first_names")


def _is_family(word: str) -> bool:
    lower = word.lower()
    return lower in _listed("family_names") or any(part in _listed("family_names") for part in re.split(r"[-'’]", lower) if len(part) > 3)


def _kept_words(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a possible name without the words that are no part of one."""
    begun: int | None = None
    last = start
    for match in re.finditer(r"\S+", text[start:end]):
        word = match.group().strip(".,;:()")
        if word.lower() in NOT_A_NAME or (word.isupper() and word.lower() in COMMON):
            if begun is not None:
                yield begun, last
            begun = None
        else:
            begun = start + match.start() if begun is None else begun
            last = start + match.end()
    if begun is not None:
        yield begun, last


class NameRecogniser:
    """Finds names of people."""

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits, which may overlap.

        Example:
            >>> text = "Seen with Dr. Okonkwo. Parkinson disease is stable. Maria Lopez will return."
            >>> sorted({text[hit.start : hit.end] for hit in NameRecogniser().find(text)})
            ['Maria Lopez', 'Okonkwo']
        """
        for rule, pattern in _CONTEXTS:
            for match in pattern.finditer(text):
                for start, end in _kept_words(text, *match.span("name")):
                    if rule in ("title", "label") or self._is_plausible(text, start, end):
                        yield Hit(start, end, Kind.NAME, f"names:{rule}")
        for match in _LAST_FIRST.finditer(text):
            last, first = match["last"], match["first"]
            plain = not {last.lower(), first.lower()} & NOT_A_NAME
            numbered = _NUMBERED.match(text, match.end()) is not None
            if plain and (
                match["mark"] == "^"
                or numbered
                or (_is_first(first) and first.lower() not in COMMON)
                or (last.isupper() and first.isupper() and _is_family(last) and _is_first(first))
            ):
                yield Hit(*match.span(), Kind.NAME, "names:last, first")
        yield from self._listed(text)

    def _is_plausible(self, text: str, start: int, end: int) -> bool:
        """Return whether words in a name's place are not plain words: a word of the language with a capital by chance."""
        words = re.findall(r"[\wÀ-ÿ]+", text[start:end])
        if all(word.lower() in COMMON or (word.isupper() and len(word) <= 3) for word in words):
            return False
        return not re.match(rf"(?:['’]s)?[ -](?i:{EPONYM_NOUNS})\b", text[end : end + 30])

    def _listed(self, text: str) -> Iterator[Hit]:
        for match in _PAIR.finditer(text):
            for start, end in _kept_words(text, *match.span()):
                words = text[start:end].split()
                if not self._is_plausible(text, start, end):
                    continue
                known = [(_is_first(word.strip(".,")), _is_family(word.strip(".,"))) for word in words]
                if len(words) > 1 and any(first for first, _ in known[:-1]) and (known[-1][1] or words[0].lower() not in COMMON):
                    yield Hit(start, end, Kind.NAME, "names:first and family")
                elif len(words) == 1 and known[0][0] and words[0].lower() not in COMMON and len(words[0]) > 2 and not words[0].isupper():
                    yield Hit(start, end, Kind.NAME, "names:first")


class PlaceRecogniser:
    """Finds addresses, postal codes, towns and hospitals."""

    def find(self, text: str) -> Iterable[Hit]:
        """Yield hits, which may overlap.

        Example:
            >>> text = "Lives at 12 Elm Street, Boston, MA 02118; stenosis at L4-L5."
            >>> sorted({text[hit.start : hit.end] for hit in PlaceRecogniser().find(text)})
            ['12 Elm Street', 'Boston', 'MA 02118']
        """
        for rule, pattern in _PLACES:
            for match in pattern.finditer(text):
                group = "name" if "name" in pattern.groupindex else 0
                words = re.findall(r"[^\W\d]+", match[group])
                states = rf"(?:{_STATE_NAMES})"
                if rule in ("dwelling", "code and town") and (
                    re.fullmatch(states, match[group]) or words[0].lower() in NOT_A_NAME or all(word.lower() in COMMON for word in words)
                ):
                    continue
                yield Hit(*match.span(group), Kind.PLACE, f"places:{rule}")
        towns = _listed("places")
        for match in re.finditer(_TOWN, text):
            yield from _towns(text, match, towns)


def _towns(text: str, match: re.Match[str], towns: frozenset[str]) -> Iterator[Hit]:
    """Yield the longest listed towns within a run of capitalised words."""
    words = list(re.finditer(r"[^\s]+", match.group()))
    number = 0
    while number < len(words):
        for last in range(len(words), number, -1):
            start, end = match.start() + words[number].start(), match.start() + words[last - 1].end()
            town = text[start:end]
            single = last - number == 1
            if town not in towns or re.fullmatch(_STATE_NAMES, town):
                continue
            if single and (town.lower() in COMMON or town.lower() in NOT_A_NAME or (_is_first(town) and not _precedes_place(text, start))):
                continue
            if re.match(rf"(?:['’]s)?[ -](?i:{EPONYM_NOUNS})\b", text[end : end + 30]):
                continue
            yield Hit(start, end, Kind.PLACE, "places:town")
            number = last - 1
            break
        number += 1


def _precedes_place(text: str, start: int) -> bool:
    return bool(re.search(r"\b(?:in|at|from|near|of|to)\s$", text[max(0, start - 6) : start]))
