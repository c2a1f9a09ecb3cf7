"""De-identifies FHIR R4 JSON: who people are, what identifies them, every date, every free text.

Takes a bundle, a resource or NDJSON and a `Work`; writes the same form. Codes, quantities and results stay. Narratives, telecoms,
photographs, addresses below the state and attachments that are no text go; identifiers and references get pseudonyms that fit together.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from salus.errors import FormatError
from salus.record.deidentify.dates import later
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.text import TAG, clean
from salus.record.deidentify.work import Done, Person, Work, in_words

PEOPLE = ("Patient", "Practitioner", "RelatedPerson", "Person")
GONE = frozenset({
    "hash", "div", "telecom", "photo", "contact", "lotNumber", "serialNumber", "udiCarrier", "distinctIdentifier", "deviceName", "versionId", "qualification", "hoursOfOperation", "position",
    "manufactureDate", "expirationDate", "multipleBirthInteger", "signature", "endpoint",
})  # fmt: skip
"""Elements that are removed wherever they stand."""
KEPT_EXTENSIONS = ("us-core-race", "us-core-ethnicity", "us-core-birthsex", "ombCategory", "detailed", "text")
"""Extensions of people that stay, by the end of their URL."""
CODED = frozenset(
    {
        "system",
        "code",
        "unit",
        "url",
        "profile",
        "status",
        "resourceType",
        "use",
        "type",
        "intent",
        "gender",
        "contentType",
        "language",
        "mode",
        "version",
        "method",
    }
)
_DATE = re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})(?:-(?P<day>\d{2}))?(?P<rest>T[\d:.]+(?:Z|[+-]\d{2}:\d{2})?)?")
_REFERENCE = re.compile(r"^(?P<head>urn:uuid:|urn:oid:|(?:https?://.*/)?[A-Z]\w+/|#)(?P<id>[^/?]+)(?P<tail>/_history/.*)?$")
OLDEST = 89


@dataclass
class _Walk:
    """The work on one resource."""

    work: Work
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    is_person: bool = False

    def note(self, kind: str, action: str) -> None:
        """Count one change."""
        self.counts[kind, action] += 1


def resources_of(path: Path) -> tuple[list[Any], bool]:
    """Return the JSON trees of a file, and whether they stand a line each.

    Raises:
        FormatError: it is not JSON.
    """
    try:
        text = path.read_text("utf-8-sig")
        try:
            return [json.loads(text)], False
        except json.JSONDecodeError:
            return [json.loads(line) for line in text.splitlines() if line.strip()], True
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it is not JSON ({type(error).__name__}). Export it again.") from error


def resources_in(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield the resources of a tree, those of bundles one by one."""
    if isinstance(tree, dict) and tree.get("resourceType") == "Bundle":
        for entry in tree.get("entry") or ():
            if isinstance(entry, dict):
                yield from resources_in(entry.get("resource"))
    elif isinstance(tree, dict):
        yield tree


def survey_fhir(path: Path) -> tuple[Person, ...]:
    """Return the patients of a file, and under an empty key everybody else that it names."""
    people: list[Person] = []
    others: dict[Kind, set[str]] = {}
    for tree in resources_of(path)[0]:
        for resource in resources_in(tree):
            kind = resource.get("resourceType")
            if kind in PEOPLE:
                values = _values(resource)
                if kind == "Patient":
                    people.append(Person(str(resource.get("id") or ""), {each: frozenset(found) for each, found in values.items()}))
                else:
                    for each, found in values.items():
                        others.setdefault(each, set()).update(found)
            elif patient := _patient_of(resource):
                people.append(Person(patient))
    return (*people, Person("", {kind: frozenset(found) for kind, found in others.items()}))


def _values(resource: dict[str, Any]) -> dict[Kind, set[str]]:
    values: dict[Kind, set[str]] = {}

    def add(kind: Kind, value: object) -> None:
        if isinstance(value, str) and value.strip():
            values.setdefault(kind, set()).add(value.strip())

    for name in _dicts(resource.get("name")):
        given = [str(each) for each in name.get("given") or ()]
        add(Kind.NAME, " ".join([*given, str(name.get("family") or "")]))
        add(Kind.NAME, name.get("text"))
    for each in _dicts(resource.get("identifier")):
        add(Kind.RECORD, each.get("value"))
    for each in _dicts(resource.get("telecom")):
        add({"phone": Kind.PHONE, "fax": Kind.FAX, "email": Kind.EMAIL}.get(str(each.get("system")), Kind.PHONE), each.get("value"))
    for each in _dicts(resource.get("address")):
        for line in each.get("line") or ():
            add(Kind.PLACE, line)
        add(Kind.PLACE, each.get("postalCode"))
        if resource.get("resourceType") == "Patient":
            add(Kind.PLACE, each.get("city"))
    add(Kind.DATE, resource.get("birthDate"))
    for each in _dicts(resource.get("contact")):
        for name in _dicts(each.get("name")):
            add(Kind.NAME, " ".join([*map(str, name.get("given") or ()), str(name.get("family") or "")]))
    return values


def _dicts(value: object) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, dict)]


def _patient_of(resource: dict[str, Any]) -> str:
    if resource.get("resourceType") == "Patient":
        return str(resource.get("id") or "")
    for key in ("subject", "patient", "beneficiary"):
        for reference in _dicts(resource.get(key)):
            found = _REFERENCE.match(str(reference.get("reference") or ""))
            if found and ("Patient/" in found["head"] or found["head"] == "urn:uuid:"):
                return found["id"]
    return ""


def deidentify_fhir(path: Path, target: Path, work: Work) -> Done:
    """Write de-identified FHIR JSON in the form of the original.

    Raises:
        FormatError: it is not JSON.
    """
    trees, by_line = resources_of(path)
    counts: Counter[tuple[str, str]] = Counter()
    new = [_tree(tree, work, counts) for tree in trees]
    dumped = [json.dumps(tree, ensure_ascii=False, indent=None if by_line else 1) for tree in new]
    target.write_text("\n".join(dumped) + "\n", encoding="utf-8")
    return Done((target,), counts)


def _tree(tree: Any, work: Work, counts: Counter[tuple[str, str]]) -> Any:
    if not isinstance(tree, dict):
        return tree
    own = _patient_of(tree)
    walk = _Walk(work.of(own) if own else work, counts, tree.get("resourceType") in PEOPLE)
    return {key: new for key, value in tree.items() if (new := _element(key, value, tree, walk)) is not None}


def _element(key: str, value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    """Return what becomes of one element; None removes it."""
    if key == "resource" or key == "contained":
        return [_tree(each, walk.work, walk.counts) for each in value] if isinstance(value, list) else _tree(value, walk.work, walk.counts)
    special = _SPECIAL.get(key)
    if special is not None:
        return special(value, parent, walk)
    if key in GONE or key.startswith("_"):
        walk.note("element", "removed")
        return None
    if isinstance(value, dict):
        return {name: new for name, each in value.items() if (new := _element(name, each, value, walk)) is not None}
    if isinstance(value, list):
        return [new for each in value if (new := _element(key, each, parent, walk)) is not None]
    if isinstance(value, str):
        return _string(key, value, parent, walk)
    if key == "value" and isinstance(value, int | float) and parent.get("code") in ("a", "year") and value > OLDEST:
        walk.note("age", "pooled")
        return OLDEST + 1
    return value


def _string(key: str, value: str, parent: dict[str, Any], walk: _Walk) -> str | None:
    if found := _DATE.fullmatch(value):
        walk.note("date", "shifted")
        return _moved(found, walk.work.person.days)
    if key in CODED or key.startswith("valueCode") or key.startswith("valueUri"):
        return value
    person = walk.work.person
    is_coded = "coding" in parent or "code" in parent or "system" in parent
    if is_coded:
        person = type(person)(person.key, person.subject, (walk.work.known_recogniser,))
    cleaned = clean(value, person)
    walk.counts.update(cleaned.counts)
    return cleaned.text


def _moved(found: re.Match[str], days: int) -> str:
    try:
        at = later(date(int(found["year"]), int(found["month"]), int(found["day"] or 1)), days)
    except ValueError:
        return f"{found['year']}"
    return at.isoformat()[: 10 if found["day"] else 7] + (found["rest"] or "")


def _id(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    if parent.get("resourceType") is None:  # the id of an element, for references within the resource
        return value
    walk.note("id", "replaced")
    return _mapped(str(value), walk.work)


def _mapped(value: str, work: Work) -> str:
    if value in work.same:
        return work.of(value).pseudonym
    return work.key.uuid(value)


def _reference(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    if not isinstance(value, str):
        return None
    walk.note("id", "replaced")
    if found := _REFERENCE.match(value):
        head = found["head"].rsplit("/", 2)
        return (f"{head[-2]}/" if len(head) > 1 else found["head"]) + _mapped(found["id"], walk.work)
    kind, _, rest = value.partition("?")
    return f"{kind}?identifier={_mapped(rest.rpartition('|')[2], walk.work)}" if rest else None


def _name(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    if isinstance(value, str):
        if parent.get("resourceType") in ("Organization", "Location", "HealthcareService", "CareTeam", "Group", "InsurancePlan"):
            walk.note("place", "replaced")
            return walk.work.person.tag(Kind.PLACE, value)
        return _string("name", value, parent, walk)
    walk.note("name", "replaced")
    if parent.get("resourceType") == "Patient":
        return [{"text": walk.work.pseudonym}]
    return [{"text": walk.work.person.tag(Kind.NAME, json.dumps(value, sort_keys=True))}]


def _address(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    walk.note("place", "removed")
    kept = [{key: each[key] for key in ("state", "country") if key in each} for each in _dicts(value)]
    return (kept if isinstance(value, list) else kept[0] if kept else None) or None


def _identifier(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    new = []
    for each in _dicts(value):
        walk.note("record-number", "replaced")
        kept = {"type": {"coding": each["type"]["coding"]}} if isinstance(each.get("type"), dict) and "coding" in each["type"] else {}
        new.append({**kept, "value": walk.work.key.code("identifier", f"{each.get('system')}|{each.get('value')}", digits=16)})
    return new if isinstance(value, list) else new[0] if new else None


def _birth_date(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    year = int(str(value)[:4]) if re.match(r"\d{4}", str(value)) else None
    if year is None or year <= datetime.now(UTC).year - OLDEST - 1:
        walk.note("date", "removed")
        return None
    walk.note("date", "shortened")
    found = _DATE.fullmatch(str(value)[:10])
    return _moved(found, walk.work.person.days)[:4] if found else str(value)[:4]


def _narrative(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    if isinstance(value, dict):
        walk.note("narrative", "removed")
        return None
    return _string("text", value, parent, walk) if isinstance(value, str) else None


def _display(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    if "code" in parent or "system" in parent:
        return _string("display", value, {"code": ""}, walk) if isinstance(value, str) else None
    walk.note("display", "removed")
    return None


def _extension(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    kept = [each for each in _dicts(value) if not walk.is_person or str(each.get("url")).endswith(KEPT_EXTENSIONS)]
    if len(kept) < len(_dicts(value)):
        walk.note("extension", "removed")
    new = [{name: n for name, inner in each.items() if (n := _element(name, inner, each, walk)) is not None} for each in kept]
    return new or None


def _data(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    """Return an attachment's text without what identifies; anything but text is removed."""
    if "contentType" not in parent or not str(parent["contentType"]).lower().startswith("text/plain"):
        walk.note("attachment", "removed")
        return (
            None
            if "contentType" in parent
            else value
            if isinstance(value, int | float)
            else _string("sampled", str(value), {"code": ""}, walk)
        )
    try:
        text = base64.b64decode(str(value), validate=False).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        walk.note("attachment", "removed")
        return None
    cleaned = clean(text, walk.work.person)
    walk.counts.update(cleaned.counts)
    return base64.b64encode(cleaned.text.encode()).decode()


def _url(value: Any, parent: dict[str, Any], walk: _Walk) -> Any:
    is_definition = any(key.startswith(("value", "extension")) for key in parent) or set(parent) <= {"url"}
    if is_definition and "contentType" not in parent:
        return value
    walk.note("url", "removed")
    return None


_SPECIAL: dict[str, Callable[[Any, dict[str, Any], _Walk], Any]] = {
    "id": _id, "fullUrl": _reference, "reference": _reference, "name": _name, "address": _address, "identifier": _identifier,
    "birthDate": _birth_date, "text": _narrative, "display": _display, "extension": _extension, "modifierExtension": _extension, "data": _data,
    "url": _url,
}  # fmt: skip
"""Elements that need more than their kind of value says."""


def strings_of(tree: Any, key: str = "") -> Iterator[tuple[str, str, bool]]:
    """Yield (key, text, whether it stands beside a code) of every string; texts of attachments decoded."""
    if isinstance(tree, dict):
        coded = "coding" in tree or "code" in tree or "system" in tree
        for name, value in tree.items():
            if isinstance(value, str):
                if name == "data" and str(tree.get("contentType", "")).startswith("text/"):
                    value = base64.b64decode(value, validate=False).decode("utf-8", "replace")
                yield name, value, coded
            else:
                yield from strings_of(value, name)
    elif isinstance(tree, list):
        for each in tree:
            if isinstance(each, str):
                yield key, each, False
            else:
                yield from strings_of(each, key)


MADE = frozenset({"id", "fullUrl", "reference", "value"})


def check_fhir(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why de-identified FHIR may not be delivered; empty when nothing was left."""
    left: Counter[str] = Counter()
    old, new = resources_of(path)[0], resources_of(target)[0]
    was = {
        (found["year"], found["month"], found["day"]) for tree in old for _, text, _ in strings_of(tree) if (found := _DATE.fullmatch(text))
    }
    subjects = {work.of(own).subject for tree in old for resource in resources_in(tree) if (own := _patient_of(resource))} | {work.subject}
    moved = {
        _moved(found, work.of(subject).person.days)[:10]
        for subject in subjects for each in was if (found := _DATE.fullmatch("-".join(part for part in each if part)))
    }  # fmt: skip
    people = [work.of(subject) for subject in sorted(subjects)]
    for tree in new:
        for name, text, coded in strings_of(tree):
            blank = TAG.sub(" ~ ", text)
            if found := _DATE.fullmatch(text):
                left["date"] += text[: 10 if found["day"] else 7] not in moved
                continue
            for each in people:
                left.update(hit.kind.value for hit in each.known_recogniser.find(blank) if hit.kind is not Kind.DATE)
            if (
                name not in CODED
                and name not in MADE
                and not coded
                and not text.startswith(("http", "urn:"))
                and text not in {p.pseudonym for p in people}
            ):
                left.update(
                    hit.kind.value for one in people[0].person.recognisers[1:] for hit in one.find(blank) if hit.kind is not Kind.DATE
                )
    return in_words(left)
