"""An index of solved cases: questions about patients whose answers are known, found by how alike the patients are, for few-shot prompts.

Takes vectors of unit norm (n, D) from any embedding, and what encoders gave for the same patients; gives the cases nearest to a patient,
never one of the same patient. Holds no name, number or text of a patient: who is who is kept as hashes. Needs no torch.

CAUTION: the vectors and answers are patient data all the same. The file is for its owner alone (mode 0600).

Source of the search: exact inner products, FAISS `IndexFlatIP` (Johnson et al. 2017, arXiv 1702.08734).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from salus.errors import ConfigError, FormatError, MissingExtra, ModelError
from salus.record.durable import move_into_place
from salus.record.patient import PatientRecord

FORMAT = 1
MARK = "salus_cases"
EVIDENCE_KEYS = 32
"""Items by which a patient is known again under another key: a fixed sample of those of the case."""
NORM_TOLERANCE = 1e-3
ROUNDING = 1e-5
"""Farther apart than this, two similarities of FAISS (float32) are in the order of the exact ones."""
Floats = NDArray[np.float32]
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Case:
    """A question about a patient, with its answer."""

    id: int
    """`hashed` id of the example; breaks ties."""
    question: str
    options: tuple[str, ...]
    answer: str
    keys: frozenset[int]
    """From `person_keys`: whoever shares one is the same patient."""


@dataclass(frozen=True)
class Vectors:
    """What the encoder of one modality gave for those of n cases that have it."""

    rows: NDArray[np.int64]
    """(P,) places of these cases."""
    values: Floats
    """(P, N, D)."""
    mask: NDArray[np.bool_]
    """(P, N)."""
    time_s: Floats
    """(P, N), NaN where unknown."""


@dataclass(frozen=True)
class Origin:
    """What an index was made with: only the same may read it."""

    name: str
    """Of the index, in words or as a task's name."""
    embedder: str
    """Name and hash of what gave the embeddings."""
    encoders: str
    """Hash of the encoders that gave the vectors."""
    modalities: tuple[str, ...]
    """Given to each case and, beside them, to the patient."""


@dataclass(frozen=True)
class Wanted:
    """Which cases are wanted."""

    question: str
    options: tuple[str, ...]
    """A case must have the same, in any order."""
    most: int
    keys: frozenset[int]
    """Of the patient who is asked about: none of hers is given."""
    balanced: bool = False
    """Whether the answers take turns, so that each is shown about equally often."""


@dataclass(frozen=True)
class Found:
    """A case and how like the patient it is."""

    place: int
    similarity: float
    """Inner product of unit vectors, -1 to 1."""


def person_keys(record: PatientRecord, groups: Iterable[str] = ()) -> frozenset[int]:
    """Return hashes by which a patient is known again: subject id, further ids that are the same person's, and items.

    Items are known by their file's content, so that one patient under two ids is still one where the same file tells of both.

    Args:
        record: as it is asked about; all of its items count.
        groups: other keys of the person, such as a group that joins two ids.
    """
    named = {hashed(f"subject:{key}") for key in (record.subject_id, *groups)}
    return frozenset(named | {hashed(f"item:{item.id}") for item in record.items})


def kept_keys(record: PatientRecord, groups: Iterable[str] = ()) -> frozenset[int]:
    """Return the keys that an index keeps of a case: those of the person, and of at most `EVIDENCE_KEYS` items."""
    named = {hashed(f"subject:{key}") for key in (record.subject_id, *groups)}
    return frozenset(named | set(sorted(hashed(f"item:{item.id}") for item in record.items)[:EVIDENCE_KEYS]))


def hashed(text: str) -> int:
    """Return 64 bits of a text's SHA-256, never 0: it hides an id from the eye, not from somebody who guesses it."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") or 1  # 0 fills rows of keys up


class CaseIndex:
    """Cases with their embeddings; who is the same patient is worked out once."""

    def __init__(self, cases: Sequence[Case], embeddings: Floats, origin: Origin, vectors: Mapping[str, Vectors]) -> None:
        """Check and hold.

        Args:
            cases: n of them, in any order: what is found does not depend on it.
            embeddings: (n, D) float32, rows of norm 1.
            origin: what made them.
            vectors: by modality; those that become soft tokens.

        Raises:
            ConfigError: there is no case, counts differ, or a row is not of norm 1.
            MissingExtra: FAISS is not installed.
        """
        if not cases or embeddings.shape[:1] != (len(cases),) or embeddings.ndim != 2:
            raise ConfigError(f"Cannot index {len(cases)} cases with embeddings of shape {embeddings.shape}. Give one row for each.")
        norms = np.linalg.norm(embeddings, axis=1)
        if not np.allclose(norms, 1.0, atol=NORM_TOLERANCE):
            worst = float(norms[np.argmax(np.abs(norms - 1.0))])
            raise ConfigError(f"Cannot index cases: an embedding has norm {worst:.3g}, not 1. Scale each row to norm 1.")
        self.cases, self.origin, self.vectors = tuple(cases), origin, dict(vectors)
        self.embeddings = np.ascontiguousarray(embeddings, np.float32)
        self._faiss = _faiss()
        self._flat = self._faiss.IndexFlatIP(embeddings.shape[1])
        self._flat.add(self.embeddings)
        self._persons = _persons([case.keys for case in cases])
        self._by_key: dict[int, int] = {key: person for case, person in zip(cases, self._persons, strict=True) for key in case.keys}

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def patients(self) -> int:
        """Different patients."""
        return len(set(self._persons))

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits of all that it holds."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:12]

    def person(self, place: int) -> int:
        """Return the number of a case's patient."""
        return self._persons[place]

    def admitted(self, wanted: Wanted) -> NDArray[np.int64]:
        """Return the places of the cases with these options that are of other patients."""
        same = {self._by_key[key] for key in wanted.keys if key in self._by_key}
        options = frozenset(wanted.options)
        places = [
            place
            for place, (case, person) in enumerate(zip(self.cases, self._persons, strict=True))
            if person not in same and frozenset(case.options) == options
        ]
        return np.array(places, np.int64)

    def nearest(self, query: Floats, wanted: Wanted) -> list[Found]:
        """Return the cases most like a patient, the most like first, one of each other patient at most.

        Ties go to the same wording, then by a hash of the case's id, so that the order of the index changes nothing.

        Args:
            query: (D,) of norm 1.
            wanted: how many, of what question, of whom not.

        Raises:
            ConfigError: the query has another width or norm, or no case of any patient has these options.
        """
        query = np.asarray(query, np.float32)
        if query.shape != self.embeddings.shape[1:] or abs(float(np.linalg.norm(query)) - 1.0) > NORM_TOLERANCE:
            width = self.embeddings.shape[1]
            raise ConfigError(f"Cannot search cases by a vector of shape {query.shape}: give {width} numbers of norm 1, as the index has.")
        self.refuse_other_options(wanted.options)
        return self._turns(wanted, lambda places: self._ranked(query, places, wanted))

    def drawn(self, wanted: Wanted, seed: int) -> list[Found]:
        """Return cases at random under the same rules, for comparison; the same for the same seed, whatever the order of the index."""
        self.refuse_other_options(wanted.options)

        def ranked(places: NDArray[np.int64]) -> list[Found]:
            mixed = sorted((hashed(f"{seed}:{self.cases[place].id}"), int(place)) for place in places)
            return self._one_each([Found(place, float("nan")) for _, place in mixed], wanted.most)

        return self._turns(wanted, ranked)

    def refuse_other_options(self, options: Collection[str]) -> None:
        """Refuse a question whose options no case has.

        Raises:
            ConfigError: says which options the index has.
        """
        known = {frozenset(case.options): case.options for case in self.cases}
        if frozenset(options) not in known:
            listed = "; ".join(sorted(",".join(one) for one in known.values())[:3])
            raise ConfigError(f"Cannot show cases: none has the options {','.join(options)!r}. This index has: {listed}.")

    def _turns(self, wanted: Wanted, ranked: Any) -> list[Found]:
        """Return what a ranking gives; where the answers take turns, the answer of the first one begins."""
        places = self.admitted(wanted)
        if wanted.most <= 0 or not len(places):
            return []
        if not wanted.balanced:
            return cast(list[Found], ranked(places))
        answers = sorted({self.cases[place].answer for place in places})
        by_answer = [ranked(np.array([place for place in places if self.cases[place].answer == answer], np.int64)) for answer in answers]
        first = ranked(places)[0].place
        by_answer.sort(key=lambda found: found[0].place != first)
        mixed = [one for turn in zip_longest(*by_answer) for one in turn if one is not None]
        return self._one_each(mixed, wanted.most)

    def _ranked(self, query: Floats, places: NDArray[np.int64], wanted: Wanted) -> list[Found]:
        """Return the nearest of some places; FAISS finds candidates, which are then put in the order of exact products."""
        width = min(len(places), 4 * wanted.most + 16)
        selector = self._faiss.SearchParameters(sel=self._faiss.IDSelectorBatch(places))
        while True:
            _, found = self._flat.search(query[None], width, params=selector)
            at = found[0][found[0] >= 0]
            exact = (self.embeddings[at].astype(np.float64) * query.astype(np.float64)).sum(1)  # the same for a row wherever it stands
            order = sorted(zip(-exact, at, strict=True), key=lambda one: (one[0], *self._tie(int(one[1]), wanted)))
            kept = self._one_each([Found(int(place), -float(less)) for less, place in order], wanted.most)
            is_settled = len(kept) == wanted.most and kept[-1].similarity > float(exact.min()) + ROUNDING
            if is_settled or width == len(places):
                return kept
            width = min(2 * width, len(places))

    def _tie(self, place: int, wanted: Wanted) -> tuple[bool, int]:
        return _words(self.cases[place].question) != _words(wanted.question), self.cases[place].id

    def _one_each(self, ranked: Iterable[Found], most: int) -> list[Found]:
        seen: set[int] = set()
        kept: list[Found] = []
        for one in ranked:
            if len(kept) < most and self._persons[one.place] not in seen:
                seen.add(self._persons[one.place])
                kept.append(one)
        return kept

    def to_bytes(self) -> bytes:
        """Return the file: safetensors, with what is no array in its header; the same cases in the same order give the same bytes."""
        asked = list(dict.fromkeys((case.question, case.options) for case in self.cases))
        about = {"format": FORMAT, "origin": asdict(self.origin), "asked": asked}
        width = max(len(case.keys) for case in self.cases)
        keys = np.zeros((len(self), width), np.uint64)
        for row, case in enumerate(self.cases):
            keys[row, : len(case.keys)] = sorted(case.keys)
        tensors: dict[str, NDArray[Any]] = {
            "embeddings": self.embeddings,
            "keys": keys.view(np.int64),
            "asked": np.array([asked.index((case.question, case.options)) for case in self.cases], np.int64),
            "answer": np.array([case.options.index(case.answer) for case in self.cases], np.int64),
            "id": np.array([case.id for case in self.cases], np.uint64).view(np.int64),
        }
        for name, one in sorted(self.vectors.items()):
            tensors |= {f"{name}.{part}": np.ascontiguousarray(array) for part, array in vars(one).items()}
        return save(tensors, metadata={MARK: json.dumps(about, sort_keys=True)})

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, for its owner alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(number, "wb") as stream:
            stream.write(self.to_bytes())
            stream.flush()
            os.fsync(number)
        move_into_place(Path(name), path)


def load_cases(path: Path, *, embedder: str, encoders: str) -> CaseIndex:
    """Return an index from its file.

    Args:
        path: written by `CaseIndex.save`.
        embedder: identity of what will embed the patients who are asked about.
        encoders: hash of the encoders of the model that will read the cases.

    Raises:
        FormatError: the file is not there, damaged, or of another format.
        ModelError: it was made with another embedding or other encoders.
        MissingExtra: FAISS is not installed.
    """
    about, tensors = _read(path)
    origin = Origin(**{**about["origin"], "modalities": tuple(about["origin"]["modalities"])})
    for what, mine, other in (("embedding", origin.embedder, embedder), ("encoders", origin.encoders, encoders)):
        if mine != other:
            raise ModelError(
                f"Cannot use cases '{path.name}': they were made with {what} {mine!r}, this model has {other!r}. Make them again."
            )
    asked = [(question, tuple(options)) for question, options in about["asked"]]
    keys = tensors["keys"].view(np.uint64)
    ids = tensors["id"].view(np.uint64)
    try:
        cases = [
            Case(int(ids[row]), question, options, options[answer], frozenset(int(key) for key in keys[row] if key))
            for row, ((question, options), answer) in enumerate(zip([asked[at] for at in tensors["asked"]], tensors["answer"], strict=True))
        ]
    except (IndexError, ValueError):
        raise FormatError(f"Cannot read cases '{path.name}': its tables do not fit each other. Make them again.") from None
    parts = ("rows", "values", "mask", "time_s")
    vectors = {name: Vectors(**{part: tensors[f"{name}.{part}"] for part in parts}) for name in _modalities(tensors)}
    return CaseIndex(cases, tensors["embeddings"], origin, vectors)


def _modalities(tensors: Mapping[str, Any]) -> Iterator[str]:
    return (name.removesuffix(".rows") for name in sorted(tensors) if name.endswith(".rows"))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with safe_open(str(path), framework="np") as stream:
            about = json.loads((stream.metadata() or {}).get(MARK, "{}"))
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError:
        raise FormatError(f"Cannot read cases '{path.name}': no such file. Make it with 'salus cases'.") from None
    except (SafetensorError, OSError, ValueError):
        raise FormatError(f"Cannot read cases '{path.name}': it is damaged, or no index of cases. Make it again.") from None
    if about.get("format") != FORMAT:
        raise FormatError(f"Cannot read cases '{path.name}': format {about.get('format')!r}, this program reads {FORMAT}. Make it again.")
    own = {"embeddings", "keys", "asked", "answer", "id"}
    wanted = own | {f"{name}.{part}" for name in _modalities(tensors) for part in ("rows", "values", "mask", "time_s")}
    if wanted != set(tensors):
        raise FormatError(f"Cannot read cases '{path.name}': its tables are {sorted(tensors)}, not {sorted(wanted)}. Make it again.")
    return about, tensors


def _persons(keys: Sequence[Collection[int]]) -> list[int]:
    """Return a number of the patient of each case: cases that share a key, or share one with a third, are of one patient."""
    parent = list(range(len(keys)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[int, int] = {}
    for place, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(place), root(first.setdefault(key, place))))
            parent[other] = one
    return [root(place) for place in range(len(keys))]


def _words(question: str) -> str:
    return " ".join(question.casefold().split())


def _faiss() -> Any:
    """Return FAISS, a heavy library that only this needs."""
    try:
        return importlib.import_module("faiss")
    except ModuleNotFoundError:
        raise MissingExtra("search similar cases", "cases") from None
