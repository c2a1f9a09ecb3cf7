"""How clinicians word questions about a record: forms by family and split.

Takes nothing; gives forms with `{v}` where the name of a variable goes. Forms of val and test never occur in train, so that a test
measures whether a question is understood, not whether its wording was memorised. The forms of `test` were written by somebody who
has seen neither the retriever nor the other forms, and whoever works on the retriever does not read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from salus.task import Split


@dataclass(frozen=True)
class Forms:
    """The wordings of one family, by split."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, split: Split) -> tuple[str, ...]:
        """Return the forms of a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


@cache
def forms() -> Mapping[str, Forms]:
    """Return wordings by family; the families `when_…` are reported as `when`, `age` and `sex` as `demographics`."""
    folder = files(__package__).joinpath("question_forms_by_split")
    parts = [json.loads(folder.joinpath(f"{split}.json").read_text("utf-8")) for split in ("train", "val", "test")]
    return {family: Forms(*(tuple(part[family]) for part in parts)) for family in parts[0]}


def forms_of_no_kind(split: Split) -> tuple[str, ...]:
    """Return questions of `train` or `val` that ask for none of the families, so that a classifier of wordings knows such."""
    return tuple(json.loads(files(__package__).joinpath("question_forms_by_split", "none.json").read_text("utf-8"))[split])


def wordings_sha256() -> str:
    """Return the SHA-256 of all wordings of `train`: tells whether a fitted model knows the present ones."""
    known = {family: one.train for family, one in forms().items()}
    text = json.dumps([known, forms_of_no_kind("train")], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


REPORTED_AS: Mapping[str, str] = {
    "when_highest": "when",
    "when_latest": "when",
    "age": "demographics",
    "sex": "demographics",
}
"""Family under which results are reported, where it differs from the key of `forms()`."""


def question(form: str, variable: str = "") -> str:
    """Return a question from its form and the name of a variable.

    Example:
        >>> question("last {v}?", "potassium")
        'last potassium?'
    """
    return form.replace("{v}", variable)
