"""How progress looks: one bar for what is counted, and no more bars than a terminal holds."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from salus.commands.showing import FULL_SHOWN, progress_bars


def lines_of(console: Console, said: list[tuple[str, float]]) -> list[str]:
    with progress_bars(console) as progress:
        for words, share in said:
            progress(words, share)
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return [line.rstrip() for line in shown.getvalue().splitlines() if "%" in line]


def test_what_is_counted_shares_one_bar_and_ends_full() -> None:
    said = [(f"rosmap, folds: fit {place + 1} of 20", place / 20) for place in range(20)]
    lines = lines_of(Console(file=io.StringIO(), width=100), [*said, ("rosmap: reading val", 0.5)])
    assert [line.split("━")[0].strip() for line in lines] == ["rosmap, folds: fit 20 of 20", "rosmap: reading val"]
    assert "100 %" in lines[0] and " 50 %" in lines[1]


def test_what_was_stopped_is_not_full() -> None:
    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(KeyboardInterrupt), progress_bars(console) as progress:
        progress("fit 1 of 4", 0.25)
        raise KeyboardInterrupt
    assert "100 %" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_full_bars_make_room_on_a_terminal_alone() -> None:
    said = [(f"stage {letter}", 1.0) for letter in "abcdefghijklmnopqrst"]
    for is_terminal in (False, True):
        console = Console(file=io.StringIO(), width=100, height=50, force_terminal=is_terminal, legacy_windows=False)
        with progress_bars(console) as progress:
            for words, share in said:
                progress(words, share)
        whole = console.file.getvalue()  # type: ignore[attr-defined]
        last = whole.split("\x1b[2K")[-1]  # what stands after the last line was cleared
        assert last.count("stage") == (FULL_SHOWN + 1 if is_terminal else len(said))
