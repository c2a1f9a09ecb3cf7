"""De-identifies what is written in lines: notes, tables, WFDB headers and the text of the PhysioNet 2012 challenge.

Takes a file and a `Work`; writes the new file; each has a check that reads the result again. Numbers that were measured stay as they are.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from datetime import date
from pathlib import Path

import wfdb

from salus.errors import FormatError, InputError
from salus.record.deidentify.dates import later
from salus.record.deidentify.kinds import Kind
from salus.record.deidentify.text import clean, left_over
from salus.record.deidentify.work import Done, Person, Work, in_words

MOST_BYTES = 64 << 20
"""Of one note; more is no note."""
SUBJECT_COLUMNS = frozenset({"patient", "subject_id", "patient_id", "subject", "patientid", "person_id", "subjectid"})
IDENTIFYING_WORDS = frozenset({
    "name", "first", "last", "given", "surname", "family", "firstname", "lastname", "fullname", "maiden", "mrn", "ssn", "dob", "birth", "birthdate", "birthday", "address", "street", "city", "town",
    "zip", "zipcode", "postcode", "postal", "phone", "telephone", "mobile", "fax", "email", "mail", "licence", "license", "passport", "account", "insurance", "member", "policy", "plate", "vin", "serial",
    "url", "website", "ip", "photo", "county", "lat", "lon", "latitude", "longitude", "drivers", "physician", "doctor", "provider", "nurse", "hospital", "nhs", "medicare", "employer", "prefix", "suffix",
    "birthplace", "contact", "kin", "accession", "file", "filename", "path",
})  # fmt: skip
"""A column with one of these words in its header is emptied."""
NUMBER = re.compile(r"\s*[<>]?[-+]?(?:\d{1,6}(?:[.,]\d+)?|\d*\.\d+)(?:[eE][-+]?\d+)?\s*%?\s*")
ANNOTATION = re.compile(r"[\w()+\-\[\]/.~|\"'!?^@*=<>: ]{0,12}\x00*")
PLAIN_FORMATS = frozenset({"8", "16", "24", "32", "61", "80", "160", "212", "310", "311"})
"""Formats of WFDB signal files that hold samples and nothing else."""
OLDEST = 89


def nobody(path: Path) -> tuple[Person, ...]:
    """Return no person: the format names none."""
    return ()


def read_note(path: Path) -> str:
    """Return the text of a note.

    Raises:
        FormatError: it is no UTF-8.
        InputError: it is longer than a note is.
    """
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"Cannot de-identify '{path.name}': it is longer than {MOST_BYTES} bytes. Split it.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it is not UTF-8. Save it as UTF-8.") from error


def deidentify_note(path: Path, target: Path, work: Work) -> Done:
    """Write a note without what identifies."""
    cleaned = clean(read_note(path), work.person)
    target.write_bytes(cleaned.text.encode("utf-8"))
    return Done((target,), cleaned.counts)


def check_note(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a note may not be delivered; empty when nothing was left."""
    return in_words(left_over(read_note(path), read_note(target), work.person))


def _delimiter(head: str) -> str:
    return max(",;\t", key=head.count)


def _rows(path: Path) -> tuple[list[list[str]], str]:
    text = read_note(path)
    delimiter = _delimiter(text.split("\n", 1)[0])
    try:
        return list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter)), delimiter
    except csv.Error as error:
        raise FormatError(f"Cannot de-identify '{path.name}': it is no table ({error}). Export it again.") from error


def header_words(header: str) -> frozenset[str]:
    """Return the words of a column's header, in small letters, without its unit.

    Example:
        >>> sorted(header_words("PatientBirthDate")), sorted(header_words("mean_bp [mm[Hg]]"))
        (['birth', 'date', 'patient'], ['bp', 'mean'])
    """
    plain = re.sub(r"\s*[\[(].*", "", header.strip())
    return frozenset(re.sub(r"([a-z])([A-Z])", r"\1 \2", plain).replace("_", " ").replace("-", " ").lower().split())


def _roles(header: list[str]) -> list[str]:
    """Return what becomes of each column: `subject`, `gone`, `age` or `text`."""
    roles = []
    for each in header:
        plain, words = re.sub(r"\s*[\[(].*", "", each.strip()).lower(), header_words(each)
        if plain in SUBJECT_COLUMNS:
            roles.append("subject")
        elif words & IDENTIFYING_WORDS or plain in ("id", "visit_id", "encounter_id", "device_id"):
            roles.append("gone")
        else:
            roles.append("age" if "age" in words else "text")
    return roles


def survey_table(path: Path) -> tuple[Person, ...]:
    """Return the patients that a table's key column names, and what its other columns say about them."""
    rows, _ = _rows(path)
    if not rows:
        return ()
    roles = _roles(rows[0])
    kinds = {"mrn": Kind.RECORD, "ssn": Kind.SSN, "dob": Kind.DATE, "birthdate": Kind.DATE, "birth": Kind.DATE, "phone": Kind.PHONE, "email": Kind.EMAIL, "name": Kind.NAME, "first": Kind.NAME, "last": Kind.NAME,
             "surname": Kind.NAME, "address": Kind.PLACE}  # fmt: skip
    found: dict[str, dict[Kind, set[str]]] = {}
    for row in rows[1:]:
        key = next((cell.strip() for cell, role in zip(row, roles, strict=False) if role == "subject" and cell.strip()), "")
        values = found.setdefault(key, {})
        for cell, title, role in zip(row, rows[0], roles, strict=False):
            kind = next((kinds[word] for word in sorted(header_words(title)) if word in kinds), None)
            if role == "gone" and kind is not None and cell.strip():
                values.setdefault(kind, set()).add(cell.strip())
    return tuple(Person(key, {kind: frozenset(each) for kind, each in values.items()}) for key, values in found.items() if key or values)


def deidentify_table(path: Path, target: Path, work: Work) -> Done:
    """Write a table: keys get pseudonyms, identifying columns are emptied, other text is searched, dates move."""
    rows, delimiter = _rows(path)
    counts: Counter[tuple[str, str]] = Counter()
    roles = _roles(rows[0]) if rows else []
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        for number, row in enumerate(rows):
            writer.writerow(row if number == 0 else _new_row(row, roles, _owner(row, roles, work), counts))
    return Done((target,), counts)


def _owner(row: list[str], roles: list[str], work: Work) -> Work:
    key = next((cell.strip() for cell, role in zip(row, roles, strict=False) if role == "subject" and cell.strip()), "")
    return work.of(key) if key else work


def _new_row(row: list[str], roles: list[str], work: Work, counts: Counter[tuple[str, str]]) -> list[str]:
    new = []
    for place, cell in enumerate(row):
        role = roles[place] if place < len(roles) else "text"
        if not cell.strip():
            new.append(cell)
        elif role == "subject":
            counts["record-number", "replaced"] += 1
            new.append(work.pseudonym)
        elif role == "gone":
            counts["column", "emptied"] += 1
            new.append("")
        elif role == "age" and re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", cell) and float(cell) > OLDEST:
            counts["age", "pooled"] += 1
            new.append(str(OLDEST + 1))
        elif NUMBER.fullmatch(cell):
            new.append(cell)
        else:
            cleaned = clean(cell, work.person)
            counts.update(cleaned.counts)
            new.append(cleaned.text)
    return new


def check_table(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a table may not be delivered; empty when nothing was left."""
    left: Counter[str] = Counter()
    old, new = _rows(path)[0], _rows(target)[0]
    roles = _roles(old[0]) if old else []
    for was, now in zip(old[1:], new[1:], strict=True):
        owner = _owner(was, roles, work)
        for place, (before, after) in enumerate(zip(was, now, strict=True)):
            role = roles[place] if place < len(roles) else "text"
            if (role == "gone" and after.strip()) or (role == "subject" and before.strip() and after != owner.pseudonym):
                left["column"] += 1
            elif role in ("text", "age") and not NUMBER.fullmatch(after):
                left.update(left_over(before, after, owner.person))
    left.update(left_over("", " ; ".join(old[0]), work.person) if old else Counter())
    return in_words(left)


def survey_icu2012(path: Path) -> tuple[Person, ...]:
    """Return the stay's key."""
    found = re.search(r"^\d\d:\d\d,RecordID,(\d+)", read_note(path), re.MULTILINE)
    return (Person(found[1]),) if found else ()


def deidentify_icu2012(path: Path, target: Path, work: Work) -> Done:
    """Write a stay with another record number; ages over 89 are pooled. Times are relative already."""
    lines, counts = [], Counter[tuple[str, str]]()
    for line in read_note(path).splitlines():
        time, _, rest = line.partition(",")
        name, _, value = rest.partition(",")
        if name == "RecordID":
            line, counts["record-number", "replaced"] = f"{time},{name},{_number(work)}", 1
        elif name == "Age" and NUMBER.fullmatch(value) and float(value) > OLDEST:
            line, counts["age", "pooled"] = f"{time},{name},{OLDEST + 1}", 1
        lines.append(line)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Done((target,), counts)


def _number(work: Work) -> str:
    return str(10**11 + int(work.key.code("subject", work.subject, digits=9), 16))


def check_icu2012(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a stay may not be delivered: its lines hold something else than numbers, or the old record number."""
    left: Counter[str] = Counter()
    for line in read_note(target).splitlines()[1:]:
        found = re.fullmatch(r"\d\d:\d\d,(\w+),(-?[\d.]+)", line)
        left["line"] += found is None
        left["record-number"] += bool(found and found[1] == "RecordID" and found[2] != _number(work))
        left["age"] += bool(found and found[1] == "Age" and float(found[2]) > OLDEST + 1)
    return in_words(left)


DESCRIPTION = 8
"""Place of the free description in a signal's line (WFDB header(5))."""


def deidentify_wfdb(path: Path, target: Path, work: Work) -> Done:
    """Write a WFDB header with its signal and annotation files, under new names; comments are searched, the date moves.

    Raises:
        InputError: several segments, signals in a format that may hold text, or annotations with free text.
    """
    lines = read_note(path).splitlines()
    at = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if at is None or "/" in lines[at].split()[0]:
        raise InputError(f"Cannot de-identify '{path.name}': a record of several segments is not de-identified. Join its segments first.")
    counts: Counter[tuple[str, str]] = Counter()
    stem = target.name.split(".")[0]
    new = [_record_line(lines[at], stem, work, counts)]
    files: dict[str, str] = {}
    signals = [line for line in lines[at + 1 :] if line.strip() and not line.startswith("#")]
    for line in signals:
        fields = line.split()
        if re.split(r"[x:+]", fields[1])[0] not in PLAIN_FORMATS:
            raise InputError(f"Cannot de-identify '{path.name}': signals in format {fields[1]} may hold text. Convert them to format 16.")
        ending = re.sub(r"[^A-Za-z0-9]", "", fields[0].rpartition(".")[2])[:8] if "." in fields[0] else "dat"
        fields[0] = files.setdefault(fields[0], f"{stem}.{ending}" if fields[0] not in files else "")
        said = clean(" ".join(fields[DESCRIPTION:]), work.person)
        counts.update(said.counts)
        new.append(" ".join([*fields[:DESCRIPTION], said.text]).rstrip())
    for line in lines:
        if line.startswith("#"):
            cleaned = clean(line[1:], work.person)
            counts.update(cleaned.counts)
            new.append("#" + cleaned.text)
    target.write_text("\n".join(new) + "\n", encoding="utf-8")
    written, companions = _copies(path, target, files)
    notes, notices = _annotations(path, target, counts)
    return Done((target, *written, *notes[0]), counts, notices, (*companions, *notes[1]))


def _record_line(line: str, stem: str, work: Work, counts: Counter[tuple[str, str]]) -> str:
    fields = line.split()
    fields[0] = stem
    if len(fields) > 5 and (found := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", fields[5])):
        try:
            at = later(date(int(found[3]), int(found[2]), int(found[1])), work.person.days)
            fields[5] = f"{at.day:02d}/{at.month:02d}/{at.year:04d}"
        except ValueError:
            fields = fields[:5]
        counts["date", "shifted"] += 1
    elif len(fields) > 5:
        fields = fields[:5]
    return " ".join(fields[:6])


def _copies(path: Path, target: Path, files: dict[str, str]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    written, companions = [], []
    for old, new in files.items():
        source = path.parent / old
        if source.parent.resolve() != path.parent.resolve() or not source.is_file():
            raise FormatError(f"Cannot de-identify '{path.name}': a signal file is missing or lies elsewhere. Copy the record whole.")
        shutil.copyfile(source, target.parent / f"{new}.part")
        written.append(target.parent / f"{new}.part")
        companions.append(source)
    return tuple(written), tuple(companions)


def _annotations(
    path: Path, target: Path, counts: Counter[tuple[str, str]]
) -> tuple[tuple[tuple[Path, ...], tuple[Path, ...]], tuple[str, ...]]:
    """Copy annotation files whose notes are symbols only; others are left out, with a notice."""
    written, companions, notices = [], [], []
    for source in sorted(path.parent.glob(f"{path.stem}.*")):
        ending = source.suffix[1:]
        if (
            source == path
            or not ending.isalpha()
            or ending in ("hea", "dat", "mat", "xyz", "edf", "txt", "csv", "wav", "json", "pdf", "flac")
        ):
            continue
        try:
            read = wfdb.rdann(str(path.parent / path.stem), ending)
        except Exception:
            continue
        companions.append(source)
        if all(ANNOTATION.fullmatch(note or "") for note in read.aux_note or ()):
            new = target.parent / f"{target.name.split('.')[0]}.{ending}.part"
            shutil.copyfile(source, new)
            written.append(new)
        else:
            counts["annotation", "left out"] += 1
            notices.append("annotations that hold free text were left out")
    return (tuple(written), tuple(companions)), tuple(notices)


def _free_texts(header: str) -> list[str]:
    """Return the comments of a header, and what it says of each signal."""
    lines = [line for line in header.splitlines() if line.strip()]
    signals = [line for line in lines if not line.startswith("#")][1:]
    return [*(line[1:] for line in lines if line.startswith("#")), *(" ".join(line.split()[DESCRIPTION:]) for line in signals)]


def check_wfdb(path: Path, target: Path, work: Work) -> tuple[str, ...]:
    """Return why a record may not be delivered; empty when nothing was left."""
    old, new = (_free_texts(read_note(each)) for each in (path, target))
    left = left_over("\n".join(old), "\n".join(new), work.person)
    rest = " ".join(line for line in read_note(target).splitlines() if not line.startswith("#"))
    left.update(hit.kind.value for hit in work.known_recogniser.find(rest) if hit.kind is not Kind.DATE)
    left["name"] += path.stem in rest.split()
    return in_words(left)
