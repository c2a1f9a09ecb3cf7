"""The cohort index: one row for each item of every patient, in Parquet, written and read without holding the cohort in memory.

Takes records one at a time; gives a file that other programs read too. Columns are named as in MEDS (`subject_id`, `time`, `code`,
`numeric_value`, `text_value`) where MEDS has them; the others say where the item came from. Holds no pixels, samples or note text.

CAUTION: it names patients and holds their values. It is for its owner alone (mode 0600); keep it as the files themselves are kept.

Source: MEDS 0.4 data schema; codes stand in three columns (system, code, display) and not one, subjects are strings, values float64.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salus.errors import FormatError, InputError, MissingExtra
from salus.record.durable import make_folders, move_into_place
from salus.record.patient import Instant, Item, Offset, PatientRecord
from salus.record.read.folder import DOCUMENTATION, UNASSIGNED, read_path

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
except ModuleNotFoundError:
    raise MissingExtra("write or read a cohort index", "store") from None

FORMAT = "1"
ROWS, BYTES = 65_536, 32 << 20
"""A row group is written when it has this many rows or bytes; a patient is never split, so the largest one bounds memory."""
BATCH_ROWS = 8_192
"""Rows that are read at once."""
SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("time_precision", pa.string()),
        pa.field("offset_s", pa.float64()),
        pa.field("anchor", pa.string()),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("code_system", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("code_display", pa.string(), nullable=False),
        pa.field("numeric_value", pa.float64()),
        pa.field("text_value", pa.string()),
        pa.field("unit", pa.string()),
        pa.field("status", pa.string()),
        pa.field("content_kind", pa.string()),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("locator", pa.string(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),
    ],
    metadata={"salus_index": FORMAT},
)
"""`time` of a calendar time; `offset_s` and `anchor` of one after admission or the like; `folder`: sub-folder that was read as one."""
_ORDER = [(name, "ascending") for name in ("time", "offset_s", "item_id")]


@dataclass(frozen=True)
class Indexed:
    """What an index holds."""

    patients: int
    items: int


@dataclass(frozen=True)
class FolderRecord:
    """A record and the sub-folder that it was read from; "" when the whole path was read at once."""

    folder: str
    record: PatientRecord


def read_by_folder(path: Path, *, manifest: Path | None = None, skipped: list[int] | None = None) -> Iterator[FolderRecord]:
    """Yield the records of a path, one sub-folder in memory at a time.

    With a manifest, or where files lie beside the sub-folders, the whole path is read at once: only so can it be told whose each file is.
    Otherwise each sub-folder is read alone, and a file in it that names no patient is the patient's of that sub-folder, or of its name.

    Args:
        path: file or folder.
        manifest: cohort manifest.
        skipped: gets the number of skipped files of each part.

    Raises:
        InputError: the path does not exist.
    """
    counts = [] if skipped is None else skipped
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")) if path.is_dir() else []
    loose = [each for each in path.iterdir() if each.is_file() and not DOCUMENTATION.fullmatch(each.name)] if folders else []
    if not folders or loose or manifest is not None:
        report = read_path(path, manifest=manifest)
        counts.append(len(report.skipped))
        yield from (FolderRecord("", record) for record in report.patients)
        return
    for folder in folders:
        report = read_path(folder)
        counts.append(len(report.skipped))
        for record in report.patients:
            subject_id = folder.name if record.subject_id == UNASSIGNED else record.subject_id
            yield FolderRecord(folder.name, PatientRecord(subject_id, record.items, record.anchors))


def write_index(records: Iterable[FolderRecord], out: Path, root: Path) -> Indexed:
    """Write the index of records that come one at a time, in any order; the same records give the same bytes.

    Each patient's rows wait on the disk until all are known, then go out sorted by patient, time and item. A crash leaves no half file.

    Args:
        records: a patient may come more than once, from several sub-folders; an item that comes twice is one row.
        out: Parquet file, replaced at once.
        root: folder that `path` is given below.
    """
    make_folders(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".index-") as spill:
        places: dict[str, list[int]] = defaultdict(list)
        waiting = Path(spill, "waiting.arrow")
        with pa.OSFile(str(waiting), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for number, one in enumerate(records):
                writer.write_batch(_rows(one, root))
                places[one.record.subject_id].append(number)
        written = Path(spill, "index.parquet")
        os.close(os.open(written, os.O_CREAT | os.O_WRONLY, 0o600))
        items = _write_sorted(waiting, places, written)
        with written.open("rb") as stream:
            os.fsync(stream.fileno())
        move_into_place(written, out)
    return Indexed(len(places), items)


def _write_sorted(waiting: Path, places: dict[str, list[int]], out: Path) -> int:
    """Write the waiting rows by patient, in row groups of whole patients; return how many."""
    items, held = 0, list[pa.Table]()
    with pa.OSFile(str(waiting), "rb") as source, pq.ParquetWriter(str(out), SCHEMA, compression="zstd") as writer:
        file = pa.ipc.open_file(source)
        for subject_id in sorted(places):
            table = pa.Table.from_batches([file.get_batch(number) for number in places[subject_id]], SCHEMA)
            if len(places[subject_id]) > 1:
                table = _without_copies(table)
            held.append(table.sort_by(_ORDER))
            items += len(table)
            if sum(map(len, held)) >= ROWS or sum(part.nbytes for part in held) >= BYTES:
                writer.write_table(pa.concat_tables(held), row_group_size=sum(map(len, held)))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held), row_group_size=max(1, sum(map(len, held))))
    return items


def _without_copies(table: pa.Table) -> pa.Table:
    """Return the rows without later ones of the same item, whatever order they came in."""
    table = table.sort_by([("item_id", "ascending"), ("folder", "ascending"), ("path", "ascending")])
    first, seen = list[int](), set[str]()
    for place, item_id in enumerate(table["item_id"].to_pylist()):
        if item_id not in seen:
            seen.add(item_id)
            first.append(place)
    return table.take(first)


def _rows(one: FolderRecord, root: Path) -> pa.RecordBatch:
    rows = [_row(one, item, root) for item in one.record.items]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def _row(one: FolderRecord, item: Item, root: Path) -> dict[str, Any]:
    at, path = item.observed_at, Path(item.source.path)
    return {
        "subject_id": one.record.subject_id,
        "time": at.at if isinstance(at, Instant) else None,
        "time_precision": None if at is None else at.precision,
        "offset_s": at.seconds if isinstance(at, Offset) else None,
        "anchor": at.anchor if isinstance(at, Offset) else None,
        "modality": item.modality,
        "category": item.category,
        "code_system": item.code.system,
        "code": item.code.code,
        "code_display": item.code.display,
        "numeric_value": item.number,
        "text_value": item.value if isinstance(item.value, str) else None,
        "unit": item.unit,
        "status": item.status,
        "content_kind": item.content.kind if item.content else None,
        "item_id": item.id,
        "path": path.relative_to(root).as_posix() if path.is_relative_to(root) else item.source.path,
        "sha256": item.source.sha256,
        "locator": item.source.locator,
        "folder": one.folder,
    }


def read_index(path: Path, *, where: pc.Expression | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows that a filter lets through, a few thousand at a time; row groups that cannot hold any are not read.

    Args:
        path: written by `write_index`.
        where: such as `pyarrow.compute.field("code") == "8867-4"`; None: all.
        columns: those wanted; None: all.

    Raises:
        InputError: there is no such file.
        FormatError: it is no index, or of another format.
    """
    index = _opened(path)
    scanner = index.scanner(
        columns=columns, filter=where, batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1, use_threads=False
    )
    yield from (batch for batch in scanner.to_batches() if len(batch))


def subjects_by_folder(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the patients of each sub-folder, sorted; raises as `read_index`."""
    found: dict[str, set[str]] = defaultdict(set)
    for batch in read_index(path, columns=["folder", "subject_id"]):
        pairs = pa.Table.from_batches([batch]).group_by(["folder", "subject_id"]).aggregate([])
        for folder, subject_id in zip(pairs["folder"].to_pylist(), pairs["subject_id"].to_pylist(), strict=True):
            found[folder].add(subject_id)
    return {folder: tuple(sorted(found[folder])) for folder in sorted(found)}


def _opened(path: Path) -> ds.Dataset:
    if not path.is_file():
        raise InputError(f"Cannot read index '{path.name}': no such file. Make it with 'salus index'.")
    try:
        index = ds.dataset(str(path), format="parquet")
    except (pa.ArrowInvalid, OSError):
        raise FormatError(f"Cannot read index '{path.name}': it is not whole Parquet. Make it again with 'salus index'.") from None
    found = (index.schema.metadata or {}).get(b"salus_index")
    if found != FORMAT.encode():
        raise FormatError(f"Cannot read index '{path.name}': it is no index of format {FORMAT}. Make it again with 'salus index'.")
    return index
