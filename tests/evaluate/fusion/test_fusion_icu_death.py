"""Intensive care as three token sets, made from a small cohort: the words' space is fitted on `train`, whoever is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from salus.encode.summary import STATISTICS
from salus.evaluate.fusion.icu_death import TASK, WORD_WIDTH
from salus.evaluate.fusion.icu_words import SYSTEMS

STAYS = 80


def _cohort(data: Path, died: str) -> None:
    folder = data / "icu_physionet2012"
    (folder / "set-a").mkdir(parents=True)
    source = np.random.default_rng(0)
    splits, outcomes = ["RecordID,split"], ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for stay in range(STAYS):
        rows = ["Time,Parameter,Value", f"00:00,RecordID,{stay}", "00:00,Age,71", "00:00,Gender,0", "00:00,Height,-1", "00:00,ICUType,3"]
        rows += [f"{hour:02}:10,{name},{source.uniform(low, high):.1f}" for name, low, high in (("HR", 40, 140), ("MAP", 45, 120))
                 for hour in (1, 20, 40)]  # fmt: skip
        (folder / "set-a" / f"{stay}.txt").write_text("\n".join(rows) + "\n")
        splits.append(f"{stay},{'train' if stay < 60 else 'val'}")
        outcomes.append(f"{stay},1,1,5,-1,{died[stay % len(died)]}")
    (folder / "split.csv").write_text("\n".join(splits) + "\n")
    (folder / "Outcomes-a.txt").write_text("\n".join(outcomes) + "\n")


def test_text_has_a_token_for_each_body_system_and_no_answer_in_it(tmp_path: Path) -> None:
    _cohort(tmp_path / "a", "01")
    _cohort(tmp_path / "b", "0011")
    first = TASK.read(tmp_path / "a", ("train", "val"), lambda _words, _share: None)
    other = TASK.read(tmp_path / "b", ("val",), lambda _words, _share: None)
    assert tuple(first["val"].modalities) == TASK.modalities == ("series", "static", "text")
    assert first["val"].widths["text"] == (WORD_WIDTH + len(SYSTEMS), len(SYSTEMS))
    # heart rate and mean pressure as measured; reckoned: mean pressure of any cuff, its SOFA point, the sum, and how much was measured
    assert first["val"].widths["series"] == (2 * len(STATISTICS) + 6, 6)
    assert (first["val"].answers != other["val"].answers).any()
    for name in TASK.modalities:
        np.testing.assert_array_equal(first["val"].modalities[name].values, other["val"].modalities[name].values)
