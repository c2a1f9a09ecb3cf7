"""Reads every folder of a data folder and accounts for every file: `python scripts/inspect_all.py DATA OUT.json`.

A file is accounted for when an item came from it, when it was read as part of another (a WFDB signal file with its header), or
when it or its folder is skipped with a reason.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from salus.errors import UserFixable
from salus.record.read.folder import read_path


def main(data: Path, out: Path) -> int:
    """Print one line a folder and write the table; return 1 when a folder cannot be read or a file is unaccounted for."""
    rows, is_failed = [], False
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        started = time.perf_counter()
        try:
            report = read_path(folder)
        except UserFixable as error:
            print(f"{folder.name}: {error}")
            is_failed = True
            continue
        files = [path for path in folder.rglob("*") if path.is_file()]
        sources = {item.source.path for patient in report.patients for item in patient.items}
        skipped = {one.path for one in report.skipped}
        rest = [path for path in files if not {str(path), *map(str, path.parents)} & (sources | skipped)]
        companions = [path for path in rest if str(path) in report.companions]
        is_failed |= len(companions) < len(rest)
        rows.append(
            {
                "folder": folder.name,
                "files": len(files),
                "files_with_items": len(sources),
                "paths_skipped": len(skipped - sources),
                "companions": len(companions),
                "unaccounted": len(rest) - len(companions),
                "patients": len(report.patients),
                "items": sum(len(patient.items) for patient in report.patients),
                "reasons": len({one.reason for one in report.skipped}),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        print(json.dumps(rows[-1]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"command": "python scripts/inspect_all.py", "folders": rows}, indent=1) + "\n", encoding="utf-8")
    return int(is_failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
