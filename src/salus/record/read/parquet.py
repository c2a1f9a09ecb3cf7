"""Parquet files, read in small batches: which columns one has, and its rows as plain values.

Takes a path; gives names or batches of rows, so that a file larger than memory streams. Knows no schema. Needs the extra `events`
(pyarrow).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from salus.errors import FormatError, InputError, MissingExtra

MAGIC = b"PAR1"
BATCH_ROWS = 8192
_FOOTER_LIMIT_BYTES = 16 << 20


def names_in_footer(path: Path) -> bytes:
    """Return the bytes of a Parquet file's footer, in which column names stand in plain text; empty when it has none.

    Serves to recognise a file before any library is loaded. Source: Apache Parquet format, "File Metadata".
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if size < 12:
                return b""
            stream.seek(size - 8)
            tail = stream.read(8)
            length = int.from_bytes(tail[:4], "little")
            if tail[4:] != MAGIC or not 0 < length <= min(size - 8, _FOOTER_LIMIT_BYTES):
                return b""
            stream.seek(size - 8 - length)
            return stream.read(length)
    except OSError:
        return b""


def build_parquet() -> Any:
    """Return pyarrow's Parquet module.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("read Parquet", "events")
    import pyarrow.parquet

    return pyarrow.parquet


def columns_of(path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns.

    Raises:
        FormatError: it is not Parquet, or damaged.
        InputError: it cannot be opened.
        MissingExtra: pyarrow is not installed.
    """
    parquet = build_parquet()
    try:
        return tuple(str(name) for name in parquet.read_schema(path).names)
    except Exception as error:
        raise _refusal(path, error) from None


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a file's rows with these columns; `BATCH_ROWS` of them are in memory at a time, beside one row group's pages.

    Raises:
        FormatError: it is not Parquet, or damaged.
        InputError: it cannot be opened.
        MissingExtra: pyarrow is not installed.
    """
    parquet = build_parquet()
    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                yield from batch.to_pylist()
    except GeneratorExit:
        raise
    except Exception as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> InputError:
    """Return what a failure of pyarrow means: it raises OSError, ValueError and kinds of its own for damaged bytes."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError | PermissionError):
        return InputError(f"Cannot read Parquet '{path.name}': {error.strerror}. Check that it is there and may be read.")
    if isinstance(error, MemoryError):
        what = "its header promises more than memory holds"
        return FormatError(f"Cannot read Parquet '{path.name}': {what}. Write it again, in smaller row groups.")
    return FormatError(f"Cannot read Parquet '{path.name}': it is damaged or not Parquet ({type(error).__name__}). Write it again.")
