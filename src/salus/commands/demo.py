"""`salus demo`: makes a sample patient, asks about it and about a real CT slice and a real ECG, and writes one report."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from pydicom.data import get_testdata_file
from rich.console import Console

from salus.cohorts.sample_patient import write_sample_patient
from salus.commands.loading import load_named_model, open_quietly
from salus.commands.showing import show_answer, show_head, show_statement
from salus.generate.report import ReportSection, write_report
from salus.model import SalusModel
from salus.pipeline import ask, open_record
from salus.reason.lists import measured_by_item
from salus.record.read.folder import one_patient, read_path

QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What changed, what matters?", ()),
    ("How high did the creatinine get?", ()),
    ("Which medicines are active?", ()),
    ("Is this heart sound normal or abnormal?", ("normal", "abnormal")),
    ("Will this patient die in hospital?", ("yes", "no")),
)
CONTENT_QUESTION = "What does this recording or image show?"
REAL_FILES = (("A real CT slice", "CT_small.dcm"), ("A real 12-lead ECG", "waveform_ecg.dcm"))
"""Files of pydicom's own package (MIT)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Make a sample patient (synthetic), ask about it and about two real files, and write report.html."
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where the sample files are written (default: .demo)")
    parser.add_argument("--report", type=Path, default=Path("report.html"), help="report to write (default: report.html)")
    parser.add_argument("--model", metavar="PATH_OR_HUB_ID", help="model folder or Hugging Face id (default: the base model that ships)")
    parser.add_argument("--backbone", metavar="PATH_OR_HUB_ID", help="where the model's language model lies")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0."""
    console = Console(highlight=False)
    sample = args.folder / "sample_patient"
    sample.mkdir(parents=True, exist_ok=True)
    write_sample_patient(sample)
    console.print("[dim]Loading the model (the first run converts the language model once, about a minute) …[/]")
    model = load_named_model(args.model, args.backbone)
    sections = [_section(console, model, "Sample patient (synthetic)", sample, QUESTIONS)]
    for title, name in REAL_FILES:
        folder = args.folder / name.removesuffix(".dcm")
        folder.mkdir(exist_ok=True)
        shutil.copyfile(str(get_testdata_file(name, download=False)), folder / name)
        sections.append(_section(console, model, title, folder, ((CONTENT_QUESTION, ()),)))
    write_report(args.report, sections)
    console.print(f"\nReport: {args.report.resolve()}")
    return 0


def _section(
    console: Console, model: SalusModel, title: str, folder: Path, questions: tuple[tuple[str, tuple[str, ...]], ...]
) -> ReportSection:
    console.print(f"\n[bold underline]{title}[/]  [dim]{folder}[/]")
    report = read_path(folder)
    opened = open_quietly(open_record, one_patient(report), model, unread=report.unread)
    answers = []
    for question, options in questions:
        show_head(console, question)
        answers.append(ask(opened, question, options, on_statement=lambda statement: show_statement(console, statement)))
        show_answer(console, answers[-1])
    measured = measured_by_item(opened.record)
    return ReportSection(title, opened.record, answers, report.skipped, measured, model.config.told_as_absent)
