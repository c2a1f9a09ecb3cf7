"""In which language a text is written, by its most frequent words; Chinese by its characters.

Takes a text; gives one of eight languages, or nothing when the words do not tell. Telegram style without function words stays unknown
on purpose. Leaves out every other language: they are unknown, or the nearest relative when they share its words.
"""

from __future__ import annotations

import re

STOP_WORDS = {
    "English": "the of and to with for is was were are has have had his her she he no not on at by this that from which been will",
    "German": "der die das und ist mit von zu im den des ein eine nicht auf für bei keine kein wurde sich dem oder als nach wird auch sind",
    "French": "le la les des et est une du pas avec pour dans sur au aux sans par qui elle il sont été ce cette ne depuis",
    "Spanish": "el la los las y es una con del por para no en se que sin al su ha un lo como más desde fue hay",
    "Italian": "il lo la gli le di e è una del della con per non nel in da si che al alla sono dei delle stato ha",
    "Portuguese": "o a os as e é uma um do da dos das com por para não em no na se que sem ao foi há pelo pela",
    "Dutch": "de het een en is van met niet voor op bij geen zijn aan er werd naar te dat die heeft wordt ook als uit",
}
"""Function words of each language, as stop-word lists have them; chosen by hand, about 26 each."""
_SETS = {name: frozenset(words.split()) for name, words in STOP_WORDS.items()}
_WORD = re.compile(r"[a-zà-öø-ÿœß]+")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_KANA_OR_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")
_READ_CHARACTERS = 20_000
LEAST_WORDS = 3
"""Function words that must be found."""
LEAST_SHARE = 0.08
"""Of all words, how many must be function words of the language."""
LEAST_LEAD = 1.3
"""How much more often they must be found than those of the next language."""


def language_of(text: str) -> str | None:
    """Return the language of a text in English words, or None when it cannot be told.

    Example:
        >>> language_of("Der Patient wurde mit Fieber und Husten auf die Station aufgenommen.")
        'German'
        >>> language_of("患者因发热三天入院。")
        'Chinese'
        >>> language_of("BP 120/80, HR 88, SpO2 97%") is None
        True
    """
    start = text[:_READ_CHARACTERS]
    letters = sum(character.isalpha() for character in start)
    if letters and len(_HAN.findall(start)) > 0.3 * letters:
        return None if _KANA_OR_HANGUL.search(start) else "Chinese"
    words = _WORD.findall(start.lower())
    found = sorted(((sum(word in known for word in words), name) for name, known in _SETS.items()), reverse=True)
    (most, name), (next_most, _) = found[:2]
    return name if most >= LEAST_WORDS and most >= LEAST_SHARE * len(words) and most >= LEAST_LEAD * next_most else None
