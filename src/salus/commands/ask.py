"""`salus ask PATH "question"`: one patient's record in, one evidenced answer out; streams to the terminal and writes a report."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from salus.commands.loading import load_named_model, open_quietly
from salus.commands.showing import show_answer, show_head, show_statement
from salus.errors import ConfigError
from salus.generate.answer import Answer
from salus.generate.report import ReportSection, write_report
from salus.in_context import Choice, FusedEmbedder, ask_with_cases, encoders_hash
from salus.model import SalusModel
from salus.pipeline import ask, open_record
from salus.reason.cases import load_cases
from salus.reason.lists import measured_by_item
from salus.record.deidentify.shown import shown_of
from salus.record.read.folder import one_patient, read_path
from salus.record.timeline import parse_prediction_time
from salus.record.transcribe import transcriber, with_transcripts

DEFAULT_QUESTION = "What changed, what matters?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Answer questions about one patient's record; each statement cites its items and says how sure it is."
    parser.add_argument("path", type=Path, help="file or folder with one patient's files")
    parser.add_argument("question", nargs="*", default=[DEFAULT_QUESTION], help=f'question(s); default: "{DEFAULT_QUESTION}"')
    parser.add_argument("--options", metavar="A,B", help="declared options of the question: the probability of each is given")
    help_ = "show similar solved cases beside a question with --options; index made by 'salus cases'"
    parser.add_argument("--cases", type=Path, metavar="INDEX", help=help_)
    parser.add_argument("--shots", type=int, default=4, metavar="K", help="cases to show, with --cases (default: 4)")
    parser.add_argument("--at", metavar="TIME", help="prediction time: nothing observed later is used (2026-03-04T10:00Z, '24 h')")
    parser.add_argument("--patient", metavar="ID", help="which patient, where the folder holds several")
    help_ = "add machine transcripts of speech; ENGINE: whisper (default) or a plug-in"
    parser.add_argument("--transcribe", nargs="?", const="whisper", metavar="ENGINE", help=help_)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="cohort manifest (default: salus-cohort.yaml in the folder)")
    parser.add_argument("--model", metavar="PATH_OR_HUB_ID", help="model folder or Hugging Face id (default: the base model that ships)")
    parser.add_argument("--backbone", metavar="PATH_OR_HUB_ID", help="where the model's language model lies (default: as the model says)")
    parser.add_argument("--json", action="store_true", help="print JSON, write no report")
    parser.add_argument("--report", type=Path, default=Path("report.html"), metavar="FILE", help="report to write (default: report.html)")
    parser.add_argument(
        "--deidentify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the report without the patient's key, file names and identifiers in notes (default: yes)",
    )


def run(args: argparse.Namespace) -> int:
    """Answer; return 0, also when the answer is that nothing can be said.

    Raises:
        SeveralPatientsError: the path holds several patients and `--patient` names none.
        UserFixable: a file, model, time or question cannot be used.
    """
    options = parse_options(args.options)
    if args.cases is not None and not options:
        raise ConfigError("Cannot use --cases: solved cases are for a question with options. Give --options too, such as yes,no.")
    at = None if args.at is None else parse_prediction_time(args.at)
    started = time.perf_counter()
    report = read_path(args.path, manifest=args.manifest)
    if args.transcribe is not None:
        report = with_transcripts(report, transcriber(args.transcribe))
    record = one_patient(report, args.patient)
    read_s = time.perf_counter() - started
    model = load_named_model(args.model, args.backbone)
    opened = open_quietly(open_record, record, model, at=at, unread=report.unread)
    opened.seconds["read"] = read_s
    answer: Callable[..., Answer] = ask if args.cases is None else _beside_cases(args.cases, args.shots, model)
    console = Console(highlight=False)
    answers: list[Answer] = []
    for question in args.question:
        if args.json:
            answers.append(answer(opened, question, options))
            continue
        show_head(console, question)
        streamed = {} if args.cases else {"on_statement": lambda statement: show_statement(console, statement)}
        answers.append(answer(opened, question, options, **streamed))
        show_answer(console, answers[-1])
    if args.json:
        tree = [answer.to_json() for answer in answers]
        print(json.dumps(tree[0] if len(tree) == 1 else tree, indent=1, ensure_ascii=False))
        return 0
    section = ReportSection("", opened.record, answers, report.skipped, measured_by_item(opened.record), model.config.told_as_absent)
    write_report(args.report, [without_identity(section) if args.deidentify else replace(section, title=f"Patient {record.subject_id}")])
    console.print(f"Report: {args.report.resolve()}")
    return 0


def _beside_cases(path: Path, shots: int, model: SalusModel) -> Callable[..., Answer]:
    """Return what asks a question with options beside the most similar cases of an index."""
    embedder = FusedEmbedder(model)
    index = load_cases(path, embedder=embedder.identity, encoders=encoders_hash(model))
    return partial(ask_with_cases, cases=index, embedder=embedder, choice=Choice(shots))


def without_identity(section: ReportSection) -> ReportSection:
    """Return the section without what says who the patient is."""
    shown = shown_of(section.record)
    answers = [replace(shown.tree(answer), question=shown.note(answer.question)) for answer in section.answers]
    record = shown.record(section.record)
    skipped = shown.skipped(section.skipped)
    return replace(section, title=f"Patient {record.subject_id}", record=record, answers=answers, skipped=skipped)


def parse_options(text: str | None) -> tuple[str, ...]:
    """Return the options of `--options a,b`.

    Raises:
        ConfigError: fewer than two, or two alike.

    Example:
        >>> parse_options("yes, no")
        ('yes', 'no')
    """
    if text is None:
        return ()
    options = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(options) < 2 or len(set(options)) < len(options):
        raise ConfigError(f"Cannot use --options {text!r}: give at least two different ones, such as yes,no.")
    return options
