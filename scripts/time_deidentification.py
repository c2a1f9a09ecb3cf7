"""Times de-identification by kind of file: `python scripts/time_deidentification.py SALUS_DATA results/deidentification-cost.json`.

Real files are copied with bytes of their own (`bench_ingestion.replicate`), with FHIR bundles and abstracts in the place of notes beside
them. Each round reads a kind (records and their content, no cache) and then de-identifies it, in one process; what starts once, such as the
models that find text in pictures, has started before. Milliseconds a file, median of the rounds with its bootstrap interval.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench_ingestion import SOURCES, interval, replicate

from salus.evaluate.rows import commit, tree_hash
from salus.record.cohort import FILE_NAME
from salus.record.deidentify.gate import deidentify_folder
from salus.record.read.folder import read_path

ITEMS = 100
"""In all, of the kinds of `bench_ingestion`; as many bundles and notes as of its largest kind."""
ROUNDS = 3
BUNDLES = ("fhir_synthea_covid", "*.json")
ABSTRACTS = ("pubmedqa", "*.json*")
MANIFEST = "files: {'*.wav': {modality: heart_sound}, '*.jpg': {modality: radiograph}}\n"


def documents(data: Path, folder: Path, count: int) -> dict[str, int]:
    """Copy FHIR bundles, and write abstracts as notes; return how many of each."""
    (folder / "fhir").mkdir()
    bundles = sorted((data / BUNDLES[0]).rglob(BUNDLES[1]), key=lambda path: path.stat().st_size)
    chosen = bundles[len(bundles) // 2 :][:count]  # from the middle of their sizes
    for path in chosen:
        shutil.copy(path, folder / "fhir" / path.name)
    (folder / "note").mkdir()
    texts = [each for path in sorted((data / ABSTRACTS[0]).rglob(ABSTRACTS[1])) for each in abstracts(json.loads(path.read_text("utf-8")))]
    for number, text in enumerate(texts[:count]):
        (folder / "note" / f"{number:06}.txt").write_text(text, encoding="utf-8")
    return {"fhir": len(chosen), "note": min(count, len(texts))}


def abstracts(tree: Any) -> list[str]:
    """Return the abstracts of a PubMedQA file."""
    entries = tree.values() if isinstance(tree, dict) else tree
    return ["\n".join(entry["CONTEXTS"]) for entry in entries if isinstance(entry, dict) and "CONTEXTS" in entry]


def read_all(folder: Path) -> None:
    """Read records and load what they hold."""
    for record in read_path(folder).patients:
        for item in record.items:
            if item.content is not None:
                item.content.load()


def main(data: Path, out: Path) -> int:
    """Measure, print and write."""
    folder = Path(tempfile.mkdtemp(prefix="deidentification-"))
    result: dict[str, Any] = {"command": "python scripts/time_deidentification.py SALUS_DATA results/deidentification-cost.json"}
    result |= {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    result |= {"machine": f"{os.cpu_count()} x {platform.machine()}", "load_before": os.getloadavg()}
    sources = [source for source, _, _ in SOURCES.values() if source != SOURCES["video"][0]]
    result |= {"data_hashes": {source: tree_hash(data / source) for source in (*sources, BUNDLES[0], ABSTRACTS[0])}, "rounds": ROUNDS}
    try:
        counts = replicate(data, folder / "in", ITEMS)
        shutil.rmtree(folder / "in" / "video")  # refused
        del counts["video"]
        counts |= documents(data, folder / "in", max(counts.values()))
        kinds = {}
        for kind, count in counts.items():
            source, spent = folder / "in" / kind, dict[str, list[float]](read=[], deidentify=[])
            (source / FILE_NAME).write_text(MANIFEST, encoding="utf-8")
            for number in range(-1, ROUNDS):
                began = time.perf_counter()
                read_all(source)
                read = time.perf_counter()
                report = deidentify_folder(source, folder / f"{kind}-{number}", folder / "key", patient="p")
                done = time.perf_counter()
                if number >= 0:
                    spent["read"].append((read - began) / count)
                    spent["deidentify"].append((done - read) / count)
            delivered = sum(each.status == "delivered" for each in report.files)
            ratio = statistics.median(spent["deidentify"]) / statistics.median(spent["read"])
            kinds[kind] = {"files": count, "delivered": delivered, "times_reading": round(ratio, 2)}
            kinds[kind] |= {f"{way}_ms_a_file": interval([1000 * each for each in seconds]) for way, seconds in spent.items()}
            print(kind, kinds[kind], flush=True)
        result["kinds"] = kinds
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
