"""The stated rule by which a free-text answer counts as right.

Takes what a model or a data set wrote; gives the form in which the two are compared. Leaves out judging by meaning.
"""

from __future__ import annotations

import re

ARTICLES = re.compile(r"\b(a|an|the)\b")
NOT_WORD = re.compile(r"[^\w%.+-]+")


def normalised(answer: str) -> str:
    """Return an answer in the form in which it is compared: lower case, no articles, no punctuation, single blanks.

    The rule of SQuAD's evaluation (Rajpurkar et al., EMNLP 2016, section 5), but that `%`, `+`, `-` and decimal points stay.

    Example:
        >>> normalised("The  right lower lobe.")
        'right lower lobe'
    """
    text = ARTICLES.sub(" ", NOT_WORD.sub(" ", answer.lower()))
    return " ".join(word.strip(".") for word in text.split() if word.strip("."))
