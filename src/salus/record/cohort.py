"""The cohort manifest: which file belongs to which patient, what it holds, and which tables are labels and not evidence.

Takes a YAML file, by habit `salus-cohort.yaml` beside the data (found there by itself); gives a `Cohort` and, for each file, its
`ReadOptions` and patient. Strict: an unknown key is an error. Reads no evidence.

    name: lung-study
    licence: CC-BY-4.0
    may_train: true                     # may a model be trained on it
    may_shape_shipped_weights: false    # may weights trained on it be given away
    files:                              # pattern of the path below the folder (`*` also crosses `/`); the first that fits counts
      "wav/*.wav":
        subject_pattern: "wav/(.+)_[0-9]+[.]wav"  # first group of the regular expression is the patient's key
        modality: heart_sound
      "images/*":
        subject_table: metadata.csv     # that table's `file` and `subject` columns say whose it is
        modality: radiograph
      "holter.edf":
        subject: "4471"                 # all files of the pattern are this patient's
      "vitals/*.csv":
        units: {hr: /min}               # UCUM, for columns that state none
        anchor: admission
        missing: [-99]                  # numbers that mean "not measured"
        zone: Europe/Berlin             # IANA zone of times that state none; else they are taken as UTC
        clock_offset_s: 37              # the device's clock was 37 s behind; every time of the file is moved, and says so
    tables:                             # not evidence, unless `is_evidence: true`; then only the other columns are read
      metadata.csv:
        file: image
        subject: patient_id
        label: [finding]
        split: [split]
        documentation: [doi, url]
        ignore: [notes]
"""

from __future__ import annotations

import csv
import difflib
import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import dacite
import yaml

from salus.errors import ConfigError, UnitError
from salus.record.read.reader import ReadOptions
from salus.units import check

FILE_NAME = "salus-cohort.yaml"
MOST_OFFSET_S = 100 * 366 * 86_400.0
"""A device whose battery failed may have started at 1970 again."""


@dataclass(frozen=True)
class FileRule:
    """What is declared about the files of one pattern."""

    subject: str | None = None
    """The patient's key."""
    subject_pattern: str | None = None
    """Regular expression on the path below the folder; its first group is the patient's key."""
    subject_table: str | None = None
    """Table under `tables` whose `file` and `subject` columns name the patient."""
    modality: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    """UCUM by column or lead."""
    anchor: str = "admission"
    missing: tuple[float | int, ...] = ()
    """Numbers that a table writes where nothing was measured."""
    encoding: str | None = None
    """Character set of texts that are not UTF-8: `iso-8859-1`, `windows-1252`, `gb18030`."""
    zone: str | None = None
    """IANA zone (`Europe/Berlin`) of times that state none; without it they are taken as UTC."""
    clock_offset_s: float = 0.0
    """Seconds by which the device's clock was behind (ahead: negative); added to every time of the file."""


@dataclass(frozen=True)
class TableRule:
    """Which columns of one table mean what."""

    file: str | None = None
    """Column of paths below the folder."""
    subject: str | None = None
    """Column of patients' keys."""
    label: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    documentation: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    is_evidence: bool = False
    """Whether the columns that have no role are read as evidence; off, the table is never read as such."""

    @property
    def never_evidence(self) -> frozenset[str]:
        """Columns with a role."""
        return frozenset((*self.label, *self.split, *self.documentation, *self.ignore))


@dataclass(frozen=True)
class Cohort:
    """What a manifest declares."""

    name: str = ""
    licence: str = ""
    may_train: bool = False
    """Off unless said: data without a stated licence must not train."""
    may_shape_shipped_weights: bool = False
    files: dict[str, FileRule] = field(default_factory=dict)
    tables: dict[str, TableRule] = field(default_factory=dict)


def read_manifest(path: Path) -> Cohort:
    """Return what a manifest declares.

    Raises:
        ConfigError: it is not YAML, or has an unknown key, a wrong type, a broken pattern, or an unknown unit or table.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / FILE_NAME).write_text("{licence: CC0-1.0, may_train: true, files: {'*.wav': {modality: heart_sound}}}")
        >>> cohort = read_manifest(folder / FILE_NAME)
        >>> cohort.may_train, options_of(cohort, "a/b.wav").modality
        (True, 'heart_sound')
        >>> _ = (folder / FILE_NAME).write_text("license: CC0-1.0")
        >>> read_manifest(folder / FILE_NAME)
        Traceback (most recent call last):
        ...
        salus.errors.ConfigError: Cannot read manifest 'salus-cohort.yaml': unknown key 'license'. Did you mean 'licence'?
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"Cannot read manifest '{path.name}'{where}: {type(error).__name__}. Write it as UTF-8 YAML.") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"Cannot read manifest '{path.name}': it is a {type(content).__name__}. Write keys such as 'files:' and 'tables:'."
        )
    try:
        cohort = dacite.from_dict(Cohort, content, dacite.Config(strict=True, cast=[tuple]))
    except dacite.UnexpectedDataError as error:
        raise ConfigError(f"Cannot read manifest '{path.name}': {_unknown_key(error.keys)}") from error
    except dacite.DaciteError as error:
        field_path = getattr(error, "field_path", None) or "a key"
        raise ConfigError(f"Cannot read manifest '{path.name}': {field_path!r} has the wrong type. See the documented example.") from error
    _refuse_broken_rules(cohort, path.name)
    return cohort


def _unknown_key(keys: set[str]) -> str:
    key = sorted(str(each) for each in keys)[0]
    known = sorted({each.name for kind in (Cohort, FileRule, TableRule) for each in fields(kind)})
    close = difflib.get_close_matches(key, known, n=1)
    return f"unknown key {key!r}. " + (f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(known)}.")


def _refuse_broken_rules(cohort: Cohort, manifest: str) -> None:
    """Raise when a rule cannot work, before any file is read."""
    for pattern, rule in cohort.files.items():
        failed = f"Cannot use manifest '{manifest}': files {pattern!r}"
        if rule.subject_pattern is not None:
            try:
                groups = re.compile(rule.subject_pattern).groups
            except re.error as error:
                raise ConfigError(f"{failed}: subject_pattern is not a regular expression ({error.msg}). Mend it.") from error
            if groups < 1:
                raise ConfigError(f"{failed}: subject_pattern has no group. Put the patient's key in parentheses.")
        if rule.subject_table is not None:
            table = cohort.tables.get(rule.subject_table)
            if table is None or table.file is None or table.subject is None:
                raise ConfigError(
                    f"{failed}: subject_table {rule.subject_table!r} has no 'file' and 'subject' columns under 'tables'. Declare both."
                )
        if rule.zone is not None and rule.zone not in available_timezones():
            close = difflib.get_close_matches(rule.zone, available_timezones(), n=1)
            advice = f"Did you mean {close[0]!r}?" if close else "Write an IANA name such as 'Europe/Berlin' (pip install tzdata has them)."
            raise ConfigError(f"{failed}: zone {rule.zone!r} is unknown. {advice}")
        if not abs(rule.clock_offset_s) <= MOST_OFFSET_S:
            raise ConfigError(f"{failed}: clock_offset_s is {rule.clock_offset_s:g}. Give seconds, at most {MOST_OFFSET_S:g} either way.")
        for column, unit in rule.units.items():
            try:
                check(unit, where=f"{column!r}")
            except UnitError as error:
                raise ConfigError(f"{failed}: {error}") from error


def rule_of(cohort: Cohort, relative: str) -> FileRule | None:
    """Return the first file rule whose pattern fits the path below the folder, or None."""
    return next((rule for pattern, rule in cohort.files.items() if fnmatchcase(relative, pattern)), None)


def table_of(cohort: Cohort, relative: str) -> TableRule | None:
    """Return what is declared about a table, or None when the path is not one."""
    return next((rule for pattern, rule in cohort.tables.items() if fnmatchcase(relative, pattern)), None)


def options_of(cohort: Cohort, relative: str) -> ReadOptions:
    """Return what is declared about a file, by its path below the folder."""
    rule = rule_of(cohort, relative) or FileRule()
    table = table_of(cohort, relative)
    return ReadOptions(
        units=rule.units,
        modality=rule.modality,
        documentation_columns=table.never_evidence if table else frozenset(),
        anchor=rule.anchor,
        missing=frozenset(float(code) for code in rule.missing),
        encoding=rule.encoding,
        zone=rule.zone,
        clock_offset_s=rule.clock_offset_s,
    )


def declared(cohort: Cohort, relative: str) -> dict[str, dict[str, Any]]:
    """Return what a manifest declares about one file, but whose it is: `files` and `tables`, as `manifest_text` takes them.

    Example:
        >>> declared(Cohort(files={"*.wav": FileRule(modality="heart_sound")}), "a/b.wav")
        {'files': {'modality': 'heart_sound'}}
    """
    whose = ("subject", "subject_pattern", "subject_table")
    found = {
        "files": (rule_of(cohort, relative), FileRule(), whose),
        "tables": (table_of(cohort, relative), TableRule(), ("file", "subject")),
    }
    trees: dict[str, dict[str, Any]] = {}
    for part, (rule, default, left_out) in found.items():
        if rule is not None:
            names = [each.name for each in fields(rule) if each.name not in left_out]
            tree = {name: getattr(rule, name) for name in names if getattr(rule, name) != getattr(default, name)}
            trees[part] = {name: list(value) if isinstance(value, tuple) else value for name, value in tree.items()}
    return trees


def manifest_text(name: str, of_file: Mapping[str, Mapping[str, Mapping[str, Any]]], cohort: Cohort | None = None) -> str:
    """Return a manifest of single files, as YAML.

    Args:
        name: of the cohort.
        of_file: path below the folder → what is declared about the file, as `declared` gives it.
        cohort: whose licence holds; None: none is known, and so nothing may be trained on it.

    Example:
        >>> print(manifest_text("copy", {"b[1].wav": {"files": {"modality": "cough"}}}), end="")
        name: copy
        files:
          b[[]1].wav:
            modality: cough
    """
    tree: dict[str, Any] = {"name": name}
    if cohort is not None:
        tree |= {each: getattr(cohort, each) for each in ("licence", "may_train", "may_shape_shipped_weights")}
    for part in ("files", "tables"):
        rules = {glob.escape(path): dict(found[part]) for path, found in sorted(of_file.items()) if found.get(part)}
        if rules:
            tree[part] = rules
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def subjects_by_file(cohort: Cohort, folder: Path) -> dict[str, dict[str, str]]:
    """Return, for each table with `file` and `subject` columns, the patient's key of each file.

    Raises:
        ConfigError: a table is missing, is not UTF-8, or lacks one of the two columns.
    """
    assigned: dict[str, dict[str, str]] = {}
    for name, rule in cohort.tables.items():
        if rule.file is None or rule.subject is None:
            continue
        try:
            with (folder / name).open(encoding="utf-8-sig", newline="") as stream:
                rows: list[dict[str, Any]] = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(
                f"Cannot read table '{name}' of the manifest: {type(error).__name__}. Check the path and that it is CSV."
            ) from error
        for column in (rule.file, rule.subject):
            if rows and column not in rows[0]:
                raise ConfigError(
                    f"Cannot read table '{name}' of the manifest: it has no column {column!r}. Columns: {', '.join(rows[0])}."
                )
        assigned[name] = {row[rule.file]: row[rule.subject] for row in rows if row[rule.file] and row[rule.subject]}
    return assigned


def subject_of(cohort: Cohort, relative: str, by_file: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return the patient's key that the manifest gives a file, or None.

    Args:
        cohort: the manifest.
        relative: path below the folder, with `/`.
        by_file: result of `subjects_by_file`.
    """
    rule = rule_of(cohort, relative)
    if rule is None:
        return None
    if rule.subject is not None:
        return rule.subject
    if rule.subject_pattern is not None and (match := re.search(rule.subject_pattern, relative)):
        return match[1]
    if rule.subject_table is not None:
        table = by_file.get(rule.subject_table, {})
        return table.get(relative) or table.get(relative.rsplit("/", 1)[-1])
    return None
