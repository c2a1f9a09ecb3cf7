"""`salus inspect PATH`: what was read, per patient, and what was skipped and why.

Takes a path; prints a table that a clinician understands, or JSON. Needs no model. Reads content only when its reader must.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from salus import registry
from salus.commands.deidentified import Keeper, add_record_arguments
from salus.errors import InputError
from salus.record.normalise import is_usable
from salus.record.patient import Instant, Item, ObservedTime, Offset, PatientRecord, ReadReport, Skipped
from salus.record.read.folder import one_patient, read_path
from salus.record.transcribe import transcriber, with_transcripts
from salus.record.variables import display_of, series_key
from salus.units import printed

MOST_TABLES = 20
"""More patients than this get one line each instead of a table each."""
EXAMPLES = 3
"""Paths shown for each reason of skipping."""
_FORMATS = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", "minute": "%Y-%m-%d %H:%M", "second": "%Y-%m-%d %H:%M:%S"}
_ISO_DATES = {"year": 4, "month": 7, "day": 10}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Show what a file or folder holds, per patient, and what was skipped and why."
    parser.add_argument("path", type=Path, help="file or folder with one patient's or many patients' files")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--patient", metavar="ID", help="show this patient only")
    help_ = "add machine transcripts of speech; ENGINE: whisper (default) or a plug-in"
    parser.add_argument("--transcribe", nargs="?", const="whisper", metavar="ENGINE", help=help_)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest (default: salus-cohort.yaml in the folder)")
    add_record_arguments(parser, is_default=False, key="one that is thrown away")


def run(args: argparse.Namespace) -> int:
    """Print what the path holds; return 0.

    Raises:
        InputError: the path does not exist, or nobody there has the patient's key.
        ConfigError: the manifest is wrong.
    """
    if args.manifest is not None and not args.manifest.is_file():
        raise InputError(f"Cannot read manifest '{args.manifest}': no such file. Check the path.")
    report = read_path(args.path, manifest=args.manifest)
    if args.transcribe is not None:
        report = with_transcripts(report, transcriber(args.transcribe))
    among = report.patients
    if args.patient is not None:
        report = ReadReport((one_patient(report, args.patient),), report.skipped, report.companions)
    root = args.path if args.path.is_dir() else args.path.parent
    if args.deidentify:
        keeper = Keeper(args.key, root)
        report = keeper.report(report, among)
        sys.stderr.write(keeper.close() + "\n")
    if args.json:
        for piece in as_json(report, root):
            sys.stdout.write(piece)
        sys.stdout.write("\n")
    else:
        show(report, root, Console(highlight=False, soft_wrap=False))
    return 0


def _below(path: str, root: Path) -> str:
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


def time_in_words(time: ObservedTime | None) -> str:
    """Return a time to the precision that is known.

    Example:
        >>> time_in_words(Offset(19800.0, "admission")), time_in_words(None)
        ('5 h 30 min after admission', 'no time')
    """
    if time is None:
        return "no time"
    if isinstance(time, Instant):
        return time.at.strftime(_FORMATS[time.precision])
    minutes, seconds = divmod(abs(time.seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes or not (hours or seconds) else []
    parts += [f"{seconds:g} s"] if seconds else []
    return f"{' '.join(parts)} {'before' if time.seconds < 0 else 'after'} {time.anchor}"


def _span(items: Sequence[Item], anchors: Mapping[str, datetime]) -> str:
    """Return first → last time; of two clocks that no anchor joins, both."""
    relative: dict[str, list[Offset]] = defaultdict(list)
    calendar: list[Instant] = []
    for item in items:
        if isinstance(item.observed_at, Offset):
            relative[item.observed_at.anchor].append(item.observed_at)
        elif item.observed_at is not None:
            calendar.append(item.observed_at)
    ends: list[tuple[ObservedTime, ObservedTime]] = [
        (min(times, key=lambda t: t.seconds), max(times, key=lambda t: t.seconds)) for _, times in sorted(relative.items())
    ]
    if calendar:
        ends.append((min(calendar, key=lambda t: t.at), max(calendar, key=lambda t: t.at)))
    spans = []
    for first, last in ends:
        start, end = time_in_words(first), time_in_words(last)
        shared = f" after {last.anchor}" if isinstance(last, Offset) else ""
        spans.append(start if start == end else f"{start.removesuffix(shared)} → {end}")
    return "; ".join(spans) or "no time"


def _value(item: Item) -> str:
    if item.content is not None:
        return item.content.summary or item.content.kind
    if item.value is None:
        return item.status or ""
    text = printed(item.value, item.unit) if isinstance(item.value, float) else str(item.value)
    return text if is_usable(item) else f"{text} (not used)"


def _title(modality: str) -> str:
    if modality not in registry.names("salus.modalities"):
        return modality
    return str(registry.load("salus.modalities", modality).title)


def _series(record: PatientRecord) -> dict[tuple[str, str], list[Item]]:
    """Return the items by modality and series, in the order of their words; each in the record's order of time."""
    series: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in record.items:
        series[item.modality, series_key(item)].append(item)
    return dict(sorted(series.items(), key=lambda pair: (_title(pair[0][0]), display_of(pair[1]).lower(), pair[0])))


def _patient_table(record: PatientRecord) -> Table:
    table = Table(title=f"Patient {record.subject_id}", title_justify="left", expand=False)
    table.add_column("Kind")
    table.add_column("What")
    table.add_column("Values", justify="right")
    table.add_column("First → last")
    table.add_column("Latest")
    table.add_column("Files", justify="right")
    shown = ""
    for (modality, _), items in _series(record).items():
        title = _title(modality)
        files = len({file for item in items for file in item.files})
        what = display_of(items)
        table.add_row("" if title == shown else title, what, str(len(items)), _span(items, record.anchors), _value(items[-1]), str(files))
        shown = title
    return table


def _patient_line(record: PatientRecord) -> str:
    kinds = Counter(item.modality for item in record.items)
    counts = ", ".join(f"{_title(modality)} {count}" for modality, count in sorted(kinds.items()))
    files = len({file for item in record.items for file in item.files})
    plural = "" if files == 1 else "s"
    return f"{record.subject_id}: {counts}; {_span(record.items, record.anchors)}; {files} file{plural}"


def show(report: ReadReport, root: Path, console: Console) -> None:
    """Print the report for people; patients' own words are printed as they are, never as markup."""
    count = len(report.patients)
    files = len({file for record in report.patients for item in record.items for file in item.files})
    items = sum(len(record.items) for record in report.patients)
    console.print(f"{count} patient{'' if count == 1 else 's'}, {items} items from {files} files", markup=False)
    if count > MOST_TABLES:
        for record in report.patients:
            console.out(_patient_line(record), highlight=False)
    else:
        for record in report.patients:
            console.print(_patient_table(record), markup=False)
    _show_skipped(report.skipped, root, console)


def _show_skipped(skipped: Sequence[Skipped], root: Path, console: Console) -> None:
    if not skipped:
        console.out("Nothing was skipped.", highlight=False)
        return
    by_reason: dict[str, list[str]] = defaultdict(list)
    for each in skipped:
        reason = re.sub(r"^\d+ (?=[A-Z])", "", each.reason)  # `3 Claim: …` and `7 Claim: …` are one reason
        by_reason[reason.replace(f"'{Path(each.path).name}'", "the file")].append(_below(each.path, root))
    console.out(f"Skipped ({len(skipped)}):", highlight=False)
    for reason, paths in sorted(by_reason.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        unique = list(dict.fromkeys(paths))
        more = f", and {len(unique) - EXAMPLES} more" if len(unique) > EXAMPLES else ""
        console.out(f"  {len(paths)} × {reason}\n      {', '.join(unique[:EXAMPLES])}{more}", highlight=False)


def _json_time(time: ObservedTime | None) -> str | dict[str, Any] | None:
    if isinstance(time, Instant):
        return time.at.isoformat()[: _ISO_DATES[time.precision]] if time.precision in _ISO_DATES else time.at.isoformat()
    return None if time is None else {"seconds": time.seconds, "anchor": time.anchor}


def _json_item(item: Item, root: Path) -> dict[str, Any]:
    return {
        "id": item.id,
        "modality": item.modality,
        "category": item.category,
        "code": {"system": item.code.system, "code": item.code.code, "display": item.code.display},
        "observed_at": _json_time(item.observed_at),
        "ended_at": _json_time(item.ended_at),
        "value": item.value,
        "unit": item.unit,
        "status": item.status,
        "content": {"kind": item.content.kind, "summary": item.content.summary} if item.content else None,
        "source": {"path": _below(item.source.path, root), "sha256": item.source.sha256, "locator": item.source.locator},
        "parts": [_below(part.path, root) for part in item.parts],
        "remarks": list(item.remarks),
    }


def as_json(report: ReadReport, root: Path) -> Iterator[str]:
    """Yield the report as one JSON object, an item at a time, so that large cohorts need no second copy in memory."""
    yield '{"patients": ['
    for number, record in enumerate(report.patients):
        yield ("," if number else "") + f'\n{{"patient": {json.dumps(record.subject_id)}, "items": ['
        for position, item in enumerate(record.items):
            yield ("," if position else "") + "\n" + json.dumps(_json_item(item, root), ensure_ascii=False, allow_nan=False)
        yield "]}"
    skipped = [{"path": _below(each.path, root), "reason": each.reason} for each in report.skipped]
    yield f'],\n"skipped": {json.dumps(skipped, ensure_ascii=False)}}}'
