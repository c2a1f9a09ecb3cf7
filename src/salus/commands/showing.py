"""How answers and progress look in a terminal: a line a statement, its confidence, its evidence, and what the answer cannot say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from salus.generate.answer import Answer, Statement

MARKS = {
    "verified": "[green]✓[/]", "mended": "[yellow]✓ mended[/]", "added": "[blue]✓ by rule[/]", "withheld": "[red]✗ withheld[/]",
    "not_a_claim": " ",
}  # fmt: skip
ITEMS_SHOWN = 3
COUNT = re.compile(r" \d+ of \d+$")
FULL_SHOWN = 5
"""Bars that are full and still stand on a terminal."""
COLUMNS = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, float], None]]:
    """Give a function that shows how far something is: words, and a share of 1; each words have a bar of their own.

    Words that end in a count (`fit 3 of 20`) share one bar. On a terminal the bars that are full make room for those that are not.
    """
    with Progress(*COLUMNS, console=console) as bars:
        shown: dict[str, TaskID] = {}

        def progress(words: str, share: float) -> None:
            name = COUNT.sub("", words)
            if name not in shown:
                full = [bars.tasks[place].id for place in range(len(bars.tasks)) if bars.tasks[place].finished]
                for one in full[:-FULL_SHOWN] if console.is_terminal else ():
                    bars.update(one, visible=False)
                shown[name] = bars.add_task(words, total=1.0)
            bars.update(shown[name], completed=share, description=words)

        yield progress
        for name, one in shown.items():  # what is counted from its start is done when all is
            if COUNT.search(bars.tasks[bars.task_ids.index(one)].description.removeprefix(name)):
                bars.update(one, completed=1.0)


def show_head(console: Console, question: str) -> None:
    """Print the question."""
    console.print(f"\n[bold]Q: {escape(question)}[/]")


def show_statement(console: Console, statement: Statement) -> None:
    """Print one statement as soon as it is verified."""
    mark = MARKS[statement.verification]
    if statement.verification == "withheld":
        console.print(f"  {mark} a line of the draft did not pass its check against the record", soft_wrap=True)
        return
    sure = "" if statement.confidence is None else f" [dim]{statement.confidence:.0%}[/]"
    shown = ", ".join(statement.item_ids[:ITEMS_SHOWN]) + (
        f" +{len(statement.item_ids) - ITEMS_SHOWN}" if len(statement.item_ids) > ITEMS_SHOWN else ""
    )
    says_more = statement.support.casefold().rstrip(".") != statement.text.casefold().rstrip(".")
    support = f" [dim]{escape(statement.support)}[/]" if statement.support and says_more else ""
    console.print(f"  {mark} {escape(statement.text)}{support}{sure} [cyan]\\[{shown}][/]", soft_wrap=True)


def show_answer(console: Console, answer: Answer) -> None:
    """Print what follows the statements: option probabilities, abstention, limits, disclosure."""
    for score in answer.options:
        words = "" if score.is_calibrated else " [yellow](uncalibrated)[/]"
        console.print(f"  {escape(score.option):<12} {score.probability:6.1%} {'█' * round(score.probability * 30)}{words}")
    if answer.options and answer.abstained is None:
        console.print(f"  [dim]rests on {len(answer.option_item_ids)} items of this record[/]")
    if answer.abstained:
        console.print(f"  [yellow]No answer: {escape(answer.abstained)}[/]", soft_wrap=True)
    for limit in answer.limits:
        console.print(f"  [dim]· {escape(limit)}[/]", soft_wrap=True)
    console.print(f"  [dim]{escape(answer.disclosure.text)}[/]", soft_wrap=True)
    console.print(f"  [dim]{answer.seconds['answer']:.1f} s[/]")
