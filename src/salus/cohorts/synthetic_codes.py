"""Codes that synthetic patients are made of: LOINC, SNOMED CT, RxNorm, CVX, with UCUM units.

Codes and displays are those of public synthetic FHIR data (Synthea's sample bundles, Apache-2.0), or were found with the same
meaning in several public code lists. The numbers are typical adult values for making data, not any laboratory's reference ranges.
"""

from __future__ import annotations

from dataclasses import dataclass

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CVX = "http://hl7.org/fhir/sid/cvx"
UCUM = "http://unitsofmeasure.org"


@dataclass(frozen=True)
class Measured:
    """A quantity that synthetic encounters measure."""

    code: str
    """LOINC."""
    display: str
    unit: str
    """UCUM."""
    typical: float
    """Mean over patients, in `unit`."""
    between: float
    """Standard deviation between patients, in `unit`."""
    within: float
    """Standard deviation from one measurement to the next, in `unit`."""
    decimals: int
    least: float
    most: float
    """Limits that made values are kept within, in `unit`."""
    low: float | None = None
    high: float | None = None
    """Reference range that the made laboratory states, in `unit`."""
    category: str = "laboratory"
    """`laboratory` or `vital-signs`, as FHIR spells it."""


VITALS = (
    Measured("8867-4", "Heart rate", "/min", 78, 12, 9, 0, 38, 170, category="vital-signs"),
    Measured("9279-1", "Respiratory rate", "/min", 16, 2.5, 2.5, 0, 8, 40, category="vital-signs"),
    Measured("8310-5", "Body temperature", "Cel", 36.9, 0.3, 0.5, 1, 34.0, 41.0, category="vital-signs"),
    Measured(
        "59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", 97, 1.5, 1.5, 0, 78, 100, category="vital-signs"
    ),
    Measured("29463-7", "Body Weight", "kg", 76, 14, 1.8, 1, 35, 190, category="vital-signs"),
    Measured("39156-5", "Body Mass Index", "kg/m2", 27, 4.5, 0.6, 1, 15, 55, category="vital-signs"),
)
SYSTOLIC = Measured("8480-6", "Systolic Blood Pressure", "mm[Hg]", 128, 15, 10, 0, 75, 220, category="vital-signs")
DIASTOLIC = Measured("8462-4", "Diastolic Blood Pressure", "mm[Hg]", 78, 9, 7, 0, 40, 125, category="vital-signs")
BLOOD_PRESSURE = ("85354-9", "Blood Pressure")
LABS = (
    Measured("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 139, 2.5, 2.5, 0, 118, 160, 135, 145),
    Measured("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 4.2, 0.4, 0.4, 1, 2.4, 7.2, 3.5, 5.1),
    Measured("2075-0", "Chloride [Moles/volume] in Serum or Plasma", "mmol/L", 103, 2.5, 2.5, 0, 84, 122, 98, 107),
    Measured("17861-6", "Calcium [Mass/volume] in Serum or Plasma", "mg/dL", 9.4, 0.4, 0.3, 1, 6.5, 13.0, 8.6, 10.2),
    Measured("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 1.0, 0.35, 0.15, 2, 0.4, 9.0, 0.6, 1.3),
    Measured("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 16, 6, 4, 0, 4, 110, 7, 20),
    Measured("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 108, 26, 18, 0, 45, 480, 70, 99),
    Measured("1751-7", "Albumin [Mass/volume] in Serum or Plasma", "g/dL", 4.1, 0.4, 0.2, 1, 1.6, 5.4, 3.5, 5.0),
    Measured("1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma", "mg/dL", 0.7, 0.35, 0.2, 1, 0.1, 12.0, 0.1, 1.2),
    Measured(
        "1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L",
        28, 14, 8, 0, 6, 900, 7, 56,
    ),
    Measured(
        "1920-8", "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L",
        27, 12, 7, 0, 6, 900, 10, 40,
    ),
    Measured("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 13.4, 1.6, 0.7, 1, 5.5, 19.0, 12.0, 17.5),
    Measured("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 40, 4.5, 2, 1, 17, 58, 36, 50),
    Measured("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 245, 60, 30, 0, 18, 800, 150, 400),
    Measured("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 7.6, 2.2, 1.6, 1, 0.6, 40, 4.0, 11.0),
    Measured("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 6.0, 1.0, 0.35, 1, 4.2, 14.0, 4.0, 5.6),
    Measured("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 192, 32, 14, 0, 80, 400, 100, 199),
    Measured("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 135, 45, 22, 0, 35, 900, 30, 149),
    Measured("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 52, 12, 4, 0, 18, 110, 40, 80),
    Measured("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", "mg/L", 9, 8, 7, 1, 0.3, 320, 0.0, 5.0),
    Measured("2524-7", "Lactate [Moles/volume] in Serum or Plasma", "mmol/L", 1.5, 0.6, 0.5, 1, 0.4, 14.0, 0.5, 2.0),
)  # fmt: skip

Concept = tuple[str, str]
"""Code and display."""

LASTING: tuple[Concept, ...] = (
    ("38341003", "Hypertension"),
    ("44054006", "Diabetes mellitus type 2"),
    ("15777000", "Prediabetes"),
    ("55822004", "Hyperlipidemia"),
    ("302870006", "Hypertriglyceridemia (disorder)"),
    ("237602007", "Metabolic syndrome X (disorder)"),
    ("53741008", "Coronary Heart Disease"),
    ("49436004", "Atrial fibrillation"),
    ("84114007", "Heart failure"),
    ("195967001", "Asthma"),
    ("13645005", "Chronic obstructive pulmonary disease"),
    ("87433001", "Pulmonary emphysema (disorder)"),
    ("40930008", "Hypothyroidism"),
    ("235595009", "Gastroesophageal reflux disease"),
    ("64859006", "Osteoporosis (disorder)"),
    ("239872002", "Osteoarthritis of hip"),
    ("239873007", "Osteoarthritis of knee"),
    ("35489007", "Depressive disorder"),
    ("37796009", "Migraine"),
    ("84757009", "Epilepsy"),
    ("40055000", "Chronic sinusitis (disorder)"),
    ("700378005", "Chronic kidney disease stage 3A"),
    ("162864005", "Body mass index 30+ - obesity (finding)"),
    ("446096008", "Perennial allergic rhinitis"),
)
PASSING: tuple[Concept, ...] = (
    ("444814009", "Viral sinusitis (disorder)"),
    ("195662009", "Acute viral pharyngitis (disorder)"),
    ("10509002", "Acute bronchitis (disorder)"),
    ("43878008", "Streptococcal sore throat (disorder)"),
    ("233604007", "Pneumonia"),
    ("68566005", "Urinary tract infectious disease"),
    ("38822007", "Cystitis"),
    ("44465007", "Sprain of ankle"),
    ("70704007", "Sprain of wrist"),
    ("284549007", "Laceration of hand"),
    ("62106007", "Concussion with no loss of consciousness"),
    ("74400008", "Appendicitis"),
    ("271737000", "Anemia (disorder)"),
    ("840539006", "COVID-19"),
)
MEDICINES: tuple[Concept, ...] = (
    ("861007", "metformin hydrochloride 500 MG Oral Tablet"),
    ("310490", "glipizide 5 MG Oral Tablet"),
    ("1545658", "empagliflozin 10 MG Oral Tablet"),
    ("314076", "lisinopril 10 MG Oral Tablet"),
    ("197361", "Amlodipine 5 MG Oral Tablet"),
    ("310798", "hydrochlorothiazide 25 MG Oral Tablet"),
    ("979492", "losartan potassium 50 MG Oral Tablet"),
    ("200032", "carvedilol 12.5 MG Oral Tablet"),
    ("313988", "furosemide 40 MG Oral Tablet"),
    ("310325", "ferrous sulfate 325 MG Oral Tablet"),
    ("617310", "atorvastatin 20 MG Oral Tablet"),
    ("259255", "Atorvastatin 80 MG Oral Tablet"),
    ("312961", "Simvastatin 20 MG Oral Tablet"),
    ("243670", "aspirin 81 MG Oral Tablet"),
    ("309362", "Clopidogrel 75 MG Oral Tablet"),
    ("966221", "levothyroxine sodium 0.05 MG Oral Tablet"),
    ("198051", "omeprazole 20 MG Delayed Release Oral Capsule"),
    ("312941", "sertraline 50 MG Oral Tablet"),
    ("310431", "gabapentin 300 MG Oral Capsule"),
    ("833036", "Captopril 25 MG Oral Tablet"),
    ("849574", "Naproxen sodium 220 MG Oral Tablet"),
    ("310965", "Ibuprofen 200 MG Oral Tablet"),
    ("313782", "Acetaminophen 325 MG Oral Tablet"),
    ("562251", "Amoxicillin 250 MG / Clavulanate 125 MG Oral Tablet"),
    ("834102", "Penicillin V Potassium 500 MG Oral Tablet"),
    ("745679", "200 ACTUAT Albuterol 0.09 MG/ACTUAT Metered Dose Inhaler"),
    ("904419", "Alendronic acid 10 MG Oral Tablet"),
)
ALLERGIES: tuple[Concept, ...] = (
    ("91936005", "Allergy to penicillin"),
    ("300916003", "Latex allergy"),
    ("91934008", "Allergy to nut"),
    ("91935009", "Allergy to peanuts"),
    ("417532002", "Allergy to fish"),
    ("300913006", "Shellfish allergy"),
    ("424213003", "Allergy to bee venom"),
    ("419474003", "Allergy to mould"),
    ("232350006", "House dust mite allergy"),
    ("232347008", "Dander (animal) allergy"),
    ("418689008", "Allergy to grass pollen"),
    ("425525006", "Allergy to dairy product"),
)
VACCINES: tuple[Concept, ...] = (
    ("140", "Influenza, seasonal, injectable, preservative free"),
    ("133", "Pneumococcal conjugate PCV 13"),
    ("33", "pneumococcal polysaccharide PPV23"),
    ("113", "Td (adult) preservative free"),
    ("115", "Tdap"),
    ("121", "zoster"),
    ("52", "Hep A, adult"),
    ("43", "Hep B, adult"),
)
PROCEDURES: tuple[Concept, ...] = (
    ("73761001", "Colonoscopy"),
    ("127783003", "Spirometry (procedure)"),
    ("312681000", "Bone density scan (procedure)"),
    ("415070008", "Percutaneous coronary intervention"),
    ("232717009", "Coronary artery bypass grafting"),
    ("430193006", "Medication Reconciliation (procedure)"),
    ("269911007", "Sputum examination (procedure)"),
    ("117015009", "Throat culture (procedure)"),
    ("288086009", "Suture open wound"),
    ("76601001", "Intramuscular injection"),
    ("40701008", "Echocardiography"),
)
