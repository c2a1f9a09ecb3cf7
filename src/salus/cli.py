"""The `salus` command. Commands are plug-ins (`salus.commands`); the chosen one alone is imported, so `salus --help` stays light."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from salus import __version__, registry
from salus.errors import REPORT_AT, UserFixable

HELP = {
    "inspect": "show what a file or folder holds, per patient, and what was skipped",
    "export": "write what a file or folder holds as a dataset in the format of others",
    "deidentify": "write a de-identified copy of a folder, checked",
    "ask": "answer a question about one patient's record, with evidence",
    "demo": "make a sample patient and ask about it",
    "train": "make a model from a recipe",
    "evaluate": "measure a model on its tasks, with intervals",
    "bench": "compare fusion strategies, alignment or solved cases on the same patients, with equal budgets",
    "cases": "make an index of solved cases, to be shown beside a question",
    "store": "keep patients' files sealed by a key for each patient: put, get, verify, forget",
    "index": "write one row for each item of every patient, in Parquet",
    "encode": "put a whole cohort through a model's encoders, on one process or on a Ray cluster",
    "plugins": "list installed modalities, readers and tasks",
}
"""One line for each built-in command, so that help needs no import; a plug-in command shows its name."""
SETTING = re.compile(r"\w[\w.-]*=")
"""How a setting over a recipe's begins."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 the user can mend it, 2 usage, 70 a bug of ours.

    Asked to end (SIGTERM, or SIGHUP where it is not ignored), it clears away what it had not finished, and exits with 128 and the signal.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parsed = _parse(arguments)
        with warnings.catch_warnings(), _asked_to_end():
            if not sys.warnoptions:  # python -W and PYTHONWARNINGS still show them
                warnings.simplefilter("ignore")  # a library's warning may quote a value of a patient's file
            return int(registry.load("salus.commands", parsed.command).run(parsed))
    except UserFixable as error:
        print(f"salus: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"salus: Cannot open or write a file: {error.strerror}. Check who may use the paths that you gave.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("salus: stopped", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        print(f"salus: this is our bug. Check that the lines above hold no patient data and report them at {REPORT_AT}.", file=sys.stderr)
        return 70


@contextmanager
def _asked_to_end() -> Iterator[None]:
    """Let a signal that ends the process run what clears away half-made files."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="salus", description="One patient record in any modality, one evidenced answer.")
    parser.add_argument("--version", action="version", version=f"salus {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name in registry.names("salus.commands"):
        command = commands.add_parser(
            name, help=HELP.get(name, "command of another package"), formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            registry.load("salus.commands", name).add_arguments(command)
    parsed, left = parser.parse_known_args(arguments)
    if left and not (hasattr(parsed, "overrides") and all(SETTING.match(word) for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:  # settings after an option: argparse gives them to nobody (github.com/python/cpython/issues/58399)
        parsed.overrides = [*parsed.overrides, *left]
    return parsed
