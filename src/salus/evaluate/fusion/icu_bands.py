"""Limits by which a measured value is put into words in intensive care, from published scores and guidelines.

Holds a table, takes a value, gives a word; measures nothing and asks no outcome. Where scores differ, their limits stand side by side; a
limit that no score has is told as such beside its row.

Source: NEWS2 (Royal College of Physicians, 2017, chart 1); SOFA (Vincent et al., Intensive Care Med 1996, 22:707, table 3); KDIGO acute
kidney injury (Kidney Int Suppl 2012, 2:1, table 2); SAPS II (Le Gall et al., JAMA 1993, 270:2957); APACHE II (Knaus et al., Crit Care
Med 1985, 13:818) and III (Chest 1991, 100:1619); SIRS (Bone et al., Chest 1992, 101:1644); Sepsis-3 (Singer et al., JAMA 2016, 315:801).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

DEGREES = ("mildly", "moderately", "severely", "extremely", "critically")
NORMAL = "normal"


@dataclass(frozen=True)
class Band:
    """How one variable is put into words."""

    words: str
    names: tuple[str, ...]
    """The challenge's parameters, the preferred one first: of two at the same minute the first counts."""
    limits: tuple[float, ...]
    """Rising: a value at a limit is above it."""
    normal: int
    """Which of the parts between the limits is normal; 0 is below the first."""
    usable: tuple[float, float]
    """A value outside is an error of measurement or of typing and is left out."""
    step: float
    """A change of the mean from the first day to the second that is smaller is steady. KDIGO's 0.3 mg/dL for creatinine; the others are
    about a quarter to a half of a band, chosen before any answer was looked at."""

    def word(self, value: float) -> str:
        """Return a value in words.

        Example:
            >>> BANDS["MAP"].word(64.0), BANDS["MAP"].word(80.0), BANDS["Creatinine"].word(3.5)
            ('moderately low', 'normal', 'severely high')
        """
        away = bisect_right(self.limits, value) - self.normal
        return NORMAL if away == 0 else f"{DEGREES[abs(away) - 1]} {'high' if away > 0 else 'low'}"

    def beyond(self, value: float) -> int:
        """Return -1 below the normal part, 1 above it, 0 inside."""
        away = bisect_right(self.limits, value) - self.normal
        return (away > 0) - (away < 0)


BANDS = {
    # SOFA: 15, 13-14, 10-12, 6-9, below 6
    "GCS": Band("coma score", ("GCS",), (6, 10, 13, 15), 4, (3, 15), 1.0),
    # NEWS2
    "HR": Band("heart rate", ("HR",), (41, 51, 91, 111, 131), 2, (10, 300), 8.0),
    # NEWS2
    "SBP": Band("systolic pressure", ("SysABP", "NISysABP"), (91, 101, 111, 220), 3, (20, 300), 8.0),
    # APACHE II below 50, Sepsis-3 65, SOFA 70; APACHE II 110, 130
    "MAP": Band("mean pressure", ("MAP", "NIMAP"), (50, 65, 70, 110, 130), 3, (15, 250), 6.0),
    # NEWS2
    "Temp": Band("temperature", ("Temp",), (35.1, 36.1, 38.1, 39.1), 2, (25, 45), 0.5),
    # NEWS2
    "RespRate": Band("breathing rate", ("RespRate",), (9, 12, 21, 25), 2, (2, 80), 3.0),
    # NEWS2
    "SaO2": Band("oxygen saturation", ("SaO2",), (92, 94, 96), 3, (30, 100), 1.5),
    # SOFA
    "PF": Band("oxygen pressure over inspired fraction", (), (100, 200, 300, 400), 4, (20, 700), 40.0),
    # APACHE II 0.5; 0.6 is the usual limit of toxic oxygen
    "FiO2": Band("inspired oxygen", ("FiO2",), (0.41, 0.5, 0.61), 0, (0.2, 1.0), 0.1),
    # 35 to 45 is the reference range; 25 and 60 are the outer limits of APACHE III's acid-base table
    "PaCO2": Band("carbon dioxide", ("PaCO2",), (25, 35, 45.1, 60), 2, (8, 200), 5.0),
    # APACHE II
    "pH": Band("blood pH", ("pH",), (7.15, 7.25, 7.33, 7.5, 7.6), 3, (6.5, 7.9), 0.04),
    # SAPS II 15, 20; APACHE II 32
    "HCO3": Band("bicarbonate", ("HCO3",), (15, 20, 32), 2, (3, 60), 2.0),
    # Sepsis-3 2; septic shock bundles 4; 8 is twice that, of no score
    "Lactate": Band("lactate", ("Lactate",), (2.0, 4.0, 8.0), 0, (0.1, 40), 0.5),
    # SOFA
    "Creatinine": Band("creatinine", ("Creatinine",), (1.2, 2.0, 3.5, 5.0), 0, (0.1, 30), 0.3),
    # APACHE III 20, 40; SAPS II 28, 84
    "BUN": Band("urea nitrogen", ("BUN",), (20, 28, 40, 84), 0, (1, 250), 4.0),
    # SOFA
    "Bilirubin": Band("bilirubin", ("Bilirubin",), (1.2, 2.0, 6.0, 12.0), 0, (0.05, 60), 0.5),
    # SOFA
    "Platelets": Band("platelets", ("Platelets",), (20, 50, 100, 150), 4, (1, 2000), 25.0),
    # SAPS II 1, 20; SIRS 4, 12
    "WBC": Band("white cells", ("WBC",), (1, 4, 12.01, 20), 2, (0.05, 300), 2.0),
    # APACHE II; 24 is about the restrictive limit for transfusion, of no score
    "HCT": Band("haematocrit", ("HCT",), (20, 24, 30, 46, 50), 3, (8, 75), 2.0),
    # APACHE II and the reference range
    "Na": Band("sodium", ("Na",), (120, 130, 135, 146, 150, 155), 3, (90, 190), 2.0),
    # APACHE II
    "K": Band("potassium", ("K",), (2.5, 3.0, 3.5, 5.5, 6.0, 7.0), 3, (1, 12), 0.4),
    # ADA 54, 70; NICE-SUGAR 180; APACHE III 350
    "Glucose": Band("glucose", ("Glucose",), (54, 70, 181, 350), 2, (10, 1500), 20.0),
    # APACHE III; 3.5 is the reference limit
    "Albumin": Band("albumin", ("Albumin",), (2.0, 2.5, 3.5), 3, (0.5, 7), 0.3),
    # ischaemic hepatitis from 1,000; five times the reference limit from 200
    "AST": Band("aspartate transaminase", ("AST",), (40, 200, 1000), 0, (1, 50000), 40.0),
    "ALT": Band("alanine transaminase", ("ALT",), (40, 200, 1000), 0, (1, 50000), 40.0),
    # the reference limit and its double
    "ALP": Band("alkaline phosphatase", ("ALP",), (120, 240), 0, (1, 5000), 30.0),
    # fourth universal definition of myocardial infarction: the 99th percentile; ten and a hundred times that, of no score
    "TroponinT": Band("troponin T", ("TroponinT",), (0.01, 0.1, 1.0), 0, (0, 100), 0.1),
    "TroponinI": Band("troponin I", ("TroponinI",), (0.04, 0.4, 4.0), 0, (0, 500), 0.4),
    # heart rate over systolic pressure: Allgower and Burri 1967: 0.7 at most, shock from 1.0; 1.3 is of no score
    "SI": Band("shock index", (), (0.7, 1.0, 1.3), 0, (0.1, 5), 0.1),
}
"""Parameter of the challenge, or what is made of two (PF, SI) → its words."""
