"""Codes of MEDS and what they mean here, in both directions: vocabulary, category, birth and death.

Takes a MEDS code or an item's code; gives the other. MEDS leaves the vocabulary of codes open, so a generic code keeps its own words.

Source: MEDS 0.4, `meds/schema.py` (birth_code, death_code) and the README on codes (`VOCABULARY//CODE//modifiers`).
"""

from __future__ import annotations

import re

from salus.record.patient import Code
from salus.record.read.fhir_fields import LOINC, SNOMED
from salus.record.timeline import BIRTH_DATE

BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
DEAD = Code(SNOMED, "419099009", "dead")
BORN = Code(LOINC, BIRTH_DATE, "birth date")
MEDS_SYSTEM = "meds"
"""System of a code whose vocabulary is not one of `VOCABULARIES`."""
VOCABULARIES = {
    "LOINC": LOINC,
    "SNOMED": SNOMED,
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "CVX": "http://hl7.org/fhir/sid/cvx",
    "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD9CM": "http://hl7.org/fhir/sid/icd-9-cm",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "CPT4": "http://www.ama-assn.org/go/cpt",
    "NDC": "http://hl7.org/fhir/sid/ndc",
}
_BY_SYSTEM = {system: name for name, system in VOCABULARIES.items()}
_CATEGORIES = (
    (r"(?:ICD\d+(?:CM)?|CONDITION|DIAGNOSIS|DIAGNOSES)", "condition"),
    (r"(?:RXNORM|NDC|MEDICATION|DRUG|INFUSION)\w*", "medication"),
    (r"(?:CPT4?|ICD\d+PCS|PROCEDURE|HCPCS)\w*", "procedure"),
    (r"(?:CVX|IMMUNIZATION)", "immunization"),
    (r"(?:HOSPITAL|ICU|ED|TRANSFER|VISIT|ENCOUNTER|ADMISSION|DISCHARGE)(?:_\w+)?", "encounter"),
    (r"(?:GENDER|SEX|RACE|ETHNICITY|MARITAL_STATUS|INSURANCE)\w*", "demographic"),
    (r"NOTE\w*", "note"),
)


def code_of(written: str, description: str | None = None) -> Code:
    """Return what a MEDS code means: its vocabulary's URI and code where both are known, else the code as it stands.

    Example:
        >>> code_of("LOINC//8867-4", "Heart rate")
        Code(system='http://loinc.org', code='8867-4', display='Heart rate')
        >>> code_of("LAB//50912//mg/dL").system
        'meds'
    """
    if written == BIRTH:
        return BORN
    if written == DEATH:
        return DEAD
    parts = re.split("//|/", written, maxsplit=1)
    system = VOCABULARIES.get(parts[0].upper())
    if system is not None and len(parts) == 2 and parts[1]:
        own = parts[1].split("//")[0]
        return Code(system, own, description or own)
    return Code(MEDS_SYSTEM, written, description or written)


def unit_in(written: str) -> str | None:
    """Return the last part of a code, where ETLs of MEDS put the unit: `LAB//50912//mg/dL`; None for codes of fewer parts."""
    parts = written.split("//")
    return parts[-1] if len(parts) > 2 else None


def category_of(written: str) -> str:
    """Return the category that a code's vocabulary tells; `observation` when it tells none.

    Example:
        >>> category_of("ICD10CM//I10"), category_of("HOSPITAL_ADMISSION//EW"), category_of("LAB//50912")
        ('condition', 'encounter', 'observation')
    """
    first = re.split("//|/", written, maxsplit=1)[0].upper()
    return next((category for pattern, category in _CATEGORIES if re.fullmatch(pattern, first)), "observation")


def meds_code(code: Code) -> str:
    """Return the MEDS code of an item's code: `LOINC//8867-4`; another system keeps its name.

    Example:
        >>> meds_code(Code("http://loinc.org", "8867-4", "Heart rate")), meds_code(BORN), meds_code(Code("column", "hr", "hr"))
        ('LOINC//8867-4', 'MEDS_BIRTH', 'column//hr')
    """
    if code == BORN or (code.system, code.code) == (BORN.system, BORN.code):
        return BIRTH
    if (code.system, code.code) == (DEAD.system, DEAD.code):
        return DEATH
    if code.system == MEDS_SYSTEM:
        return code.code
    return f"{_BY_SYSTEM.get(code.system, code.system or 'text')}//{code.code}"
