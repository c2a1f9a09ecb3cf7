"""Times a first and a second question on one record in one process: `python scripts/time_questions.py OUT.json [MODEL]`.

The first question pays for reading, encoding, fusing and prefilling the record; the second for itself alone. The model is loaded before.
The two questions change places from round to round, so that neither flatters the ratio.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from salus.cohorts.sample_patient import write_sample_patient
from salus.commands.loading import load_named_model, open_quietly
from salus.pipeline import ask, open_record
from salus.record.read.folder import one_patient, read_path

QUESTIONS = ("How high did the creatinine get?", "What is the trend of the lactate?")
ROUNDS = 10


def main(out: Path, model_name: str | None) -> int:
    """Measure, print and write; return 1 when the second question takes more than half of the first."""
    model = load_named_model(model_name, None)
    folder = Path(tempfile.mkdtemp())
    write_sample_patient(folder)
    open_quietly(open_record, one_patient(read_path(folder)), model)  # libraries warm up once
    rounds = []
    for place in range(ROUNDS):
        asked = QUESTIONS if place % 2 == 0 else QUESTIONS[::-1]
        started = time.perf_counter()
        opened = open_record(one_patient(read_path(folder)), model)
        ask(opened, asked[0])
        first = time.perf_counter() - started
        started = time.perf_counter()
        ask(opened, asked[1])
        rounds.append({"first_s": round(first, 3), "second_s": round(time.perf_counter() - started, 3)})
    ratio = statistics.median(one["second_s"] / one["first_s"] for one in rounds)
    result = {"command": "python scripts/time_questions.py", "rounds": rounds, "median_ratio": round(ratio, 3), "n": ROUNDS}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0 if ratio <= 0.5 else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
