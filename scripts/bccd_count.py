"""Counts white cells and platelets in blood smears by a rule of colour: `python scripts/bccd_count.py OUT.json [val|test]`.

The three numbers of each rule are chosen on `val` from a fixed grid; `test` is read with the chosen ones only. Data come from $SALUS_DATA.
Beside the rule stands the answer that is most common in `train`. No network is asked: the modality is not interpreted.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np

from salus import registry
from salus.encode.stained import CLOSE, LEAST_EXCESS, LEAST_SHARE, stained_regions
from salus.evaluate.rows import Result, commit, file_hash, tree_hash, write_result
from salus.metrics import accuracy, bootstrap, paired
from salus.record.patient import Image
from salus.task import Example

FOLDER = "blood_cells_bccd"
EXCESS, SHARES, CLOSINGS = (30.0, 45.0, 60.0), (0.005, 0.01, 0.02), (0, 3)
SMALL = (0.0001, 0.0003, 0.0006)
"""Least area of a platelet, as a share of the picture."""
LARGEST = 0.005
"""And the largest."""
Settings = tuple[float, float, int]


def picture(example: Example) -> np.ndarray:
    """Return the pixels of an example's image."""
    (item,) = example.record().items
    assert item.content is not None
    image = item.content.load()
    assert isinstance(image, Image)
    return image.pixels.astype(np.uint8)


def white(pixels: np.ndarray, settings: Settings) -> str:
    """Return how many white cells the rule sees."""
    excess, share, close = settings
    count = len(stained_regions(pixels.astype(np.float32), least_excess=excess, least_share=share, close=close))
    return "2 or more" if count > 1 else str(count)


def platelets(pixels: np.ndarray, settings: Settings) -> str:
    """Return whether the rule sees a purple region smaller than a white cell."""
    excess, share, close = settings
    areas = stained_regions(pixels.astype(np.float32), least_excess=excess, least_share=share, close=close)
    return "yes" if (areas < LARGEST * pixels.shape[0] * pixels.shape[1]).any() else "no"


RULES = {"white-cells": (white, tuple(product(EXCESS, SHARES, CLOSINGS))), "platelets": (platelets, tuple(product(EXCESS, SMALL, (0,))))}


def main(out: Path, split: str) -> None:
    """Choose on `val`, score on the split, write."""
    data = Path(os.environ["SALUS_DATA"])
    task = registry.load("salus.tasks", "bccd-count")
    by_split = {name: task.read(data, name) for name in ("train", "val", split)}
    result, chosen = Result(split), {}
    pixels = {name: [picture(one) for one in by_split[name] if one.family == "white-cells"] for name in {"val", split}}
    for family, (rule, grid) in RULES.items():
        answers = {name: [one.answer for one in examples if one.family == family] for name, examples in by_split.items()}
        known = list(zip(pixels["val"], answers["val"], strict=True))
        scores = {settings: float(np.mean([rule(one, settings) == answer for one, answer in known])) for settings in grid}
        best = max(grid, key=lambda settings: (scores[settings], -grid.index(settings)))
        chosen[family] = {"settings": best, "val": {str(settings): score for settings, score in scores.items()}}
        common = Counter(answers["train"]).most_common(1)[0][0]
        right = np.array([float(rule(one, best) == answer) for one, answer in zip(pixels[split], answers[split], strict=True)])
        base = np.array([float(common == answer) for answer in answers[split]])
        ones, images = np.ones(len(right)), [one.subject_id for one in by_split[split] if one.family == family]
        for name, hits in (("colour threshold and connected regions", right), (f"most common answer ({common})", base)):
            result.add(f"bccd-count/{family}", "baseline", name, metric="accuracy", found=bootstrap(accuracy, ones, hits, images))
        difference = paired(accuracy, ones, right, base, images)
        result.add(f"bccd-count/{family}", "baseline", "rule less most common", metric="accuracy difference", found=difference)
    tree = {
        "command": " ".join(["python", *sys.argv]), "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_hashes": {FOLDER: tree_hash(data / FOLDER)}, "split_hashes": {FOLDER: file_hash(data / FOLDER / "split.csv")},
        "rows": [asdict(row) for row in result.rows],
        "notes": {"chosen on val": chosen, "used by the modality": [LEAST_EXCESS, LEAST_SHARE, CLOSE]},
    }  # fmt: skip
    write_result(tree, out)
    for row in result.rows:
        print(f"{row.task} {row.model}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}] n {row.n}")
    for family, one in chosen.items():
        print(family, one["settings"], max(one["val"].values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "val")
